//! How a reactor hands messages on: who gets them, what became of them, who is told.
//!
//! Part of `Reactor`, called from its turn alone. A message to many is handed on over as many turns as it
//! takes; nothing else is taken from the inbox meanwhile, so that all clients see one order.

use std::{rc::Rc, sync::Arc, vec};

use super::{
    Reactor,
    hub::{Key, Plan, Recipient},
    parked::{Parking, is_parked},
};
use crate::{
    id::ClientId,
    server::{
        connection::{
            Enqueued,
            outbox::Tally,
            prepared::Prepared,
            receipt::{Inquiry, Notice, Receipt},
            roster::Rostered,
        },
        message::Original,
        reasons::CloseReason,
        stats::counters::add,
        transport::Socket,
    },
    throttle::Throttle,
    wire::ReceiptStatus,
};

/// What offering a backlog to its socket counts for in the work of a turn.
const OFFER: usize = 32;

/// A message on its way, and how far it is.
pub(crate) enum Delivery {
    Direct {
        sender: ClientId,
        receivers: vec::IntoIter<ClientId>,
        message: Prepared,
        receipt: Option<Arc<Inquiry>>,
        /// As it came, where another node may have to get it.
        origin: Option<Arc<Original>>,
    },
    Channel {
        plan: Plan,
        message: Prepared,
    },
    /// To everybody, in the order of the slab.
    All {
        next: Key,
        own: Option<Key>,
        message: Prepared,
    },
    /// To all who are in a channel, each what is new to it.
    Roster {
        plan: Plan,
        rostered: Arc<Rostered>,
    },
}

impl Delivery {
    pub(super) fn is_to_many(&self) -> bool {
        !matches!(self, Delivery::Direct { .. })
    }
}

impl<S: Socket> Reactor<S> {
    /// Hands a message on to about `most` connections and keeps what is left of it; how much work it was.
    pub(super) fn deliver(&mut self, mut delivery: Delivery, most: usize) -> usize {
        let mut work = 0;
        let over = match &mut delivery {
            Delivery::Direct { sender, receivers, message, receipt, origin } => loop {
                if work >= most || receipt.is_some() && self.parts.publisher.is_full() {
                    break false;
                }
                match receivers.next() {
                    Some(receiver) => {
                        let inquiry = receipt.as_ref().filter(|_| *sender != receiver);
                        work += self.direct(sender, &receiver, message, inquiry, origin.as_ref());
                    }
                    None => break true,
                }
            },
            Delivery::Channel { plan, message } => loop {
                match plan.next() {
                    Some(key) if self.parking.is_taken_anew(key) => work += 1,
                    Some(key) => work += self.bulk(key, message),
                    None => {
                        self.follow_moved(plan, message);
                        break true;
                    }
                }
                if work >= most {
                    break false;
                }
            },
            Delivery::Roster { plan, rostered } => loop {
                let Some(key) = plan.next() else { break true };
                self.tell_roster(key, rostered);
                work += 1;
                if work >= most {
                    break false;
                }
            },
            Delivery::All { next, own, message } => loop {
                if *next == self.connections.capacity() as Key {
                    // After the connections, those who are away.
                    *next = Parking::first();
                }
                if *next == self.parking.end() {
                    break true;
                }
                let is_own =
                    own.is_some_and(|own| own == *next || self.moved.contains(&(own, *next)));
                if !is_own {
                    work += self.bulk(*next, message);
                }
                *next += 1;
                if work >= most {
                    break false;
                }
            },
        };
        match over {
            true => self.place.settle(),
            false => self.delivery = Some(delivery),
        }
        work
    }

    fn bulk(&mut self, key: Key, message: &Prepared) -> usize {
        let work = self.enqueue(key, message, None);
        self.mark_bulk(key);
        work
    }

    fn direct(
        &mut self,
        sender: &ClientId,
        receiver: &ClientId,
        message: &Prepared,
        inquiry: Option<&Arc<Inquiry>>,
        origin: Option<&Arc<Original>>,
    ) -> usize {
        if let Some(work) = self.gather_direct((sender, receiver), message, inquiry, origin) {
            return work;
        }
        let is_here = !self.hub.connections(receiver).is_empty();
        if origin.is_some() && !(is_here && self.departing.is_still_here(receiver)) {
            // Nobody here: the other node says what becomes of it.
            if self.hand_on(receiver, origin, !is_here) && !is_here {
                return 1;
            }
        }
        let keys = match self.hub.direct(sender, receiver) {
            Recipient::OwnEcho => return 1,
            Recipient::Offline => {
                self.see_offline(receiver, message);
                if let Some(inquiry) = inquiry {
                    self.publish(Notice::offline(inquiry, receiver.clone()));
                }
                return 1;
            }
            Recipient::Connections(keys) => {
                self.keys.extend_from_slice(keys);
                std::mem::take(&mut self.keys)
            }
        };
        let receipt = inquiry.map(|inquiry| Rc::new(Receipt::new(inquiry, receiver.clone())));
        let mut work = 0;
        for key in &keys {
            work += self.enqueue(*key, message, receipt.clone());
            self.mark_urgent(*key);
        }
        if let Some(receipt) = receipt {
            self.lose(receipt, ReceiptStatus::Offline);
        }
        self.keys = keys;
        self.keys.clear();
        work
    }

    /// Offers a message to a connection that is open; one that does not read is closed. How much work it was.
    pub(super) fn enqueue(
        &mut self,
        key: Key,
        message: &Prepared,
        receipt: Option<Rc<Receipt>>,
    ) -> usize {
        if is_parked(key) {
            self.put_by(key, message, receipt);
            return 1;
        }
        let (connections, mut cx) = self.split();
        let Some(connection) = connections.get_mut(key as usize) else { return 1 };
        if !connection.takes_messages() {
            return 1;
        }
        let enqueued = connection.enqueue(message, receipt, &mut cx);
        self.offered += 1;
        match enqueued {
            Enqueued::Queued => 1,
            Enqueued::Offered => {
                self.note_phase(key);
                OFFER
            }
            Enqueued::TooSlow => {
                self.parts.counters.dropped(CloseReason::SlowConsumer, 1);
                self.see_too_slow(key, message);
                self.close(key, CloseReason::SlowConsumer);
                OFFER
            }
        }
    }

    /// Counts what was offered and written since the last time.
    pub(crate) fn settle_written(&mut self) {
        self.tell_written();
        add(&self.parts.counters.offered, std::mem::take(&mut self.offered));
        add(&self.parts.counters.delivered, std::mem::take(&mut self.written.messages));
        if !self.written.waits.is_empty() {
            let now = self.parts.pulse.clock.now();
            let counters = &self.parts.counters;
            for wait in self.written.waits.take(now) {
                let times = match wait.is_published {
                    true => &counters.since_published,
                    false => &counters.since_arrival,
                };
                times.record(wait.time, wait.messages);
            }
        }
        let mut receipts = std::mem::take(&mut self.written.receipts);
        for receipt in receipts.drain(..) {
            if let Some(notice) = receipt.written() {
                self.publish(notice);
            }
        }
        self.written.receipts = receipts;
        for receipt in std::mem::take(&mut self.written.acknowledged) {
            if let Some(notice) = receipt.acknowledged() {
                self.publish(notice);
            }
        }
    }

    /// Messages that nobody gets any more.
    pub(super) fn settle_dropped(&mut self, reason: CloseReason, dropped: Tally) {
        self.settle_lost(reason, dropped, Receipt::lost);
    }

    /// Messages of clients that are left to the process that comes after this one.
    pub(super) fn settle_left(&mut self, reason: CloseReason, left: Tally) {
        self.settle_lost(reason, left, Receipt::left);
    }

    fn settle_lost(
        &mut self,
        reason: CloseReason,
        lost: Tally,
        settle: impl Fn(Rc<Receipt>, ReceiptStatus) -> Option<Notice>,
    ) {
        self.parts.counters.dropped(reason, lost.messages);
        let status = match reason {
            CloseReason::Expired => ReceiptStatus::Expired,
            _ => ReceiptStatus::Offline,
        };
        for receipt in lost.receipts {
            if let Some(notice) = settle(receipt, status) {
                self.publish(notice);
            }
        }
    }

    pub(super) fn lose(&mut self, receipt: Rc<Receipt>, status: ReceiptStatus) {
        if let Some(notice) = Receipt::lost(receipt, status) {
            self.publish(notice);
        }
    }

    /// Tells the sender of a message what became of it.
    fn publish(&self, notice: Notice) {
        let counters = &self.parts.counters;
        if notice.is_receipt() {
            counters.receipt(notice.status());
        } else if notice.undelivered().is_none() && notice.settles().is_none() {
            // It got there: nobody is told.
            return;
        }
        match self.parts.publisher.push(notice) {
            true => add(&counters.receipts_queued, 1),
            false => {
                add(&counters.receipts_dropped, 1);
                static DROPPED: Throttle = Throttle::new();
                if let Some(more) = DROPPED.admit("full") {
                    log::warn!(
                        "receipts are dropped: too many wait until the broker is back{more}"
                    );
                }
            }
        }
    }
}
