//! How a reactor hands messages on: who gets them, what became of them, who is told.
//!
//! Part of `Reactor`, called from its turn alone. A message to many is handed on over as many turns as it
//! takes; nothing else is taken from the inbox meanwhile, so that all clients see one order.

use std::{rc::Rc, sync::Arc, vec};

use super::{
    Reactor,
    hub::{Key, Plan, Recipient},
};
use crate::{
    id::ClientId,
    server::{
        connection::{
            Enqueued,
            outbox::Tally,
            prepared::Prepared,
            receipt::{Inquiry, Notice, Receipt},
        },
        reasons::CloseReason,
        stats::counters::add,
        transport::Socket,
    },
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
            Delivery::Direct { sender, receivers, message, receipt } => loop {
                if work >= most || receipt.is_some() && self.parts.publisher.is_full() {
                    break false;
                }
                match receivers.next() {
                    Some(receiver) => work += self.direct(*sender, receiver, message, receipt),
                    None => break true,
                }
            },
            Delivery::Channel { plan, message } => loop {
                match plan.next() {
                    Some(key) => work += self.bulk(key, message),
                    None => break true,
                }
                if work >= most {
                    break false;
                }
            },
            Delivery::All { next, own, message } => loop {
                if *next as usize >= self.connections.capacity() {
                    break true;
                }
                if Some(*next) != *own {
                    work += self.bulk(*next, message);
                }
                *next += 1;
                if work >= most {
                    break false;
                }
            },
        };
        if !over {
            self.delivery = Some(delivery);
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
        sender: ClientId,
        receiver: ClientId,
        message: &Prepared,
        inquiry: &Option<Arc<Inquiry>>,
    ) -> usize {
        let inquiry = inquiry.as_ref().filter(|_| sender != receiver);
        let keys = match self.hub.direct(sender, receiver) {
            Recipient::OwnEcho => return 1,
            Recipient::Offline => {
                if let Some(inquiry) = inquiry {
                    self.publish(Notice::offline(inquiry, receiver));
                }
                return 1;
            }
            Recipient::Connections(keys) => {
                self.keys.extend_from_slice(keys);
                std::mem::take(&mut self.keys)
            }
        };
        let receipt = inquiry.map(|inquiry| Rc::new(Receipt::new(inquiry, receiver)));
        let mut work = 0;
        for key in &keys {
            work += self.enqueue(*key, message, receipt.clone());
            self.mark_urgent(*key);
        }
        if let Some(receipt) = receipt {
            self.lose(receipt);
        }
        self.keys = keys;
        self.keys.clear();
        work
    }

    /// Offers a message to a connection that is open; one that does not read is closed. How much work it was.
    fn enqueue(&mut self, key: Key, message: &Prepared, receipt: Option<Rc<Receipt>>) -> usize {
        let Some(connection) = self.connections.get_mut(key as usize) else { return 1 };
        if !connection.is_open() {
            return 1;
        }
        self.offered += 1;
        let (now, limits, written) = (self.now, &self.limits, &mut self.written);
        match connection.enqueue(message, receipt, now, limits, written) {
            Enqueued::Queued => 1,
            Enqueued::Offered => {
                self.note_phase(key);
                OFFER
            }
            Enqueued::TooSlow => {
                self.parts.counters.dropped(CloseReason::SlowConsumer, 1);
                self.close(key, CloseReason::SlowConsumer);
                OFFER
            }
        }
    }

    /// Counts what was offered and written since the last time.
    pub(super) fn settle_written(&mut self) {
        add(&self.parts.counters.offered, std::mem::take(&mut self.offered));
        add(&self.parts.counters.delivered, std::mem::take(&mut self.written.messages));
        let mut receipts = std::mem::take(&mut self.written.receipts);
        for receipt in receipts.drain(..) {
            if let Some(notice) = receipt.written() {
                self.publish(notice);
            }
        }
        self.written.receipts = receipts;
    }

    pub(super) fn settle_dropped(&mut self, reason: CloseReason, dropped: Tally) {
        self.parts.counters.dropped(reason, dropped.messages);
        dropped.receipts.into_iter().for_each(|receipt| self.lose(receipt));
    }

    fn lose(&mut self, receipt: Rc<Receipt>) {
        if let Some(notice) = Receipt::lost(receipt) {
            self.publish(notice);
        }
    }

    /// Tells the sender of a message what became of it.
    fn publish(&self, notice: Notice) {
        let counters = &self.parts.counters;
        match self.parts.publisher.push(notice) {
            true => add(&counters.receipts_queued, 1),
            false => add(&counters.receipts_dropped, 1),
        }
    }
}
