//! Receipts: what is owed to a sender for one message and one receiver, and the queue of those that are due.
//!
//! A `Receipt` is shared by the chunks of all the receiver's connections, which live in one reactor. Reactors
//! put a `Notice` into the queue, which the publisher empties; what the notices of one message have in common
//! is held once.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    broker::Undelivered,
    id::ClientId,
    wire::{Envelope, ReceiptStatus, ReceiptText},
};

/// Bytes that may wait for the publisher before the reactors take no more messages that ask for receipts, and while the
/// broker fails no more receipts: a million of one message.
const QUEUE_BYTES: usize = 64 << 20;

/// Who wants to be told of a message, and what all its receipts say alike.
#[derive(Debug)]
pub(crate) struct Inquiry {
    sender: ClientId,
    /// Whether the sender is told; else only the business, if it is undelivered.
    has_receipts: bool,
    /// Its id, if the business is told who has not got it.
    named: Option<Box<str>>,
    text: ReceiptText,
    /// Whether it wants to be told when a receiver says that it has it, rather than when it is written.
    acknowledge: bool,
    /// Its number in the log, if it is in one.
    number: Option<u64>,
    /// Its notices that wait for the publisher.
    waiting: AtomicUsize,
}

impl Inquiry {
    pub(crate) fn new(
        sender: ClientId,
        text: ReceiptText,
        acknowledge: bool,
        number: Option<u64>,
    ) -> Self {
        let (has_receipts, named, waiting) = (true, None, AtomicUsize::new(0));
        Inquiry { sender, has_receipts, named, text, acknowledge, number, waiting }
    }

    /// The business is told who has not got this message, by its id; the sender only if it `has_receipts`.
    pub(crate) fn named(self, id: &str, has_receipts: bool) -> Self {
        Inquiry { named: Some(id.into()), has_receipts, ..self }
    }

    /// What another node needs to tell it.
    pub(crate) fn pack(&self) -> PackedInquiry {
        PackedInquiry {
            sender: self.sender.clone(),
            has_receipts: self.has_receipts,
            named: self.named.clone(),
            text: self.text.clone(),
            acknowledge: self.acknowledge,
            number: self.number,
        }
    }

    /// What another node has to tell.
    pub(crate) fn unpack(packed: PackedInquiry) -> Self {
        let PackedInquiry { sender, has_receipts, named, text, acknowledge, number } = packed;
        let waiting = AtomicUsize::new(0);
        Inquiry { sender, has_receipts, named, text, acknowledge, number, waiting }
    }
}

/// An [`Inquiry`] on its way between nodes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PackedInquiry {
    sender: ClientId,
    has_receipts: bool,
    named: Option<Box<str>>,
    text: ReceiptText,
    acknowledge: bool,
    number: Option<u64>,
}

/// Settled by the first connection that has the message on its socket, or by the last that loses it.
#[derive(Debug)]
pub(crate) struct Receipt {
    inquiry: Arc<Inquiry>,
    receiver: ClientId,
    settled: Cell<bool>,
}

impl Receipt {
    pub(crate) fn new(inquiry: &Arc<Inquiry>, receiver: ClientId) -> Self {
        Receipt { inquiry: Arc::clone(inquiry), receiver, settled: Cell::new(false) }
    }

    /// Whether it waits until the receiver says that it has the message.
    pub(crate) fn awaits_acknowledgement(&self) -> bool {
        self.inquiry.acknowledge
    }

    /// The message was written; the notice that says so, the first time.
    pub(crate) fn written(&self) -> Option<Notice> {
        self.settle(ReceiptStatus::Sent)
    }

    /// The receiver has the message; the notice that says so, the first time, if it was asked for.
    pub(crate) fn acknowledged(&self) -> Option<Notice> {
        match self.inquiry.acknowledge {
            true => self.settle(ReceiptStatus::Acknowledged),
            false => self.settle(ReceiptStatus::Sent),
        }
    }

    /// One connection lost the message, for which `status` stands; the notice that says so once no other can still write
    /// it.
    pub(crate) fn lost(this: Rc<Self>, status: ReceiptStatus) -> Option<Notice> {
        (Rc::strong_count(&this) == 1).then(|| this.settle(status)).flatten()
    }

    /// This process ends, and the one that comes after it gives the receiver the message and tells what becomes of it, if it
    /// reads it in the log; else `lost`.
    pub(crate) fn left(this: Rc<Self>, status: ReceiptStatus) -> Option<Notice> {
        if this.inquiry.number.is_none() {
            return Receipt::lost(this, status);
        }
        this.settled.set(true);
        None
    }

    /// Another node tells what becomes of the message; what it needs for that, unless it was told here.
    pub(crate) fn hand_over(&self) -> Option<Arc<Inquiry>> {
        (!self.settled.get()).then(|| Arc::clone(&self.inquiry))
    }

    /// It is told elsewhere.
    pub(crate) fn is_handed_over(&self) {
        self.settled.set(true);
    }

    fn settle(&self, status: ReceiptStatus) -> Option<Notice> {
        (!self.settled.replace(true)).then(|| self.notice(status))
    }

    fn notice(&self, status: ReceiptStatus) -> Notice {
        let (inquiry, receiver) = (Arc::clone(&self.inquiry), self.receiver.clone());
        Notice { inquiry, receiver, status }
    }
}

/// A receipt that is due.
#[derive(Debug)]
pub(crate) struct Notice {
    inquiry: Arc<Inquiry>,
    receiver: ClientId,
    status: ReceiptStatus,
}

impl Notice {
    /// The receiver has no connection here.
    pub(crate) fn offline(inquiry: &Arc<Inquiry>, receiver: ClientId) -> Self {
        Notice { inquiry: Arc::clone(inquiry), receiver, status: ReceiptStatus::Offline }
    }

    /// Whether the sender is to be told.
    pub(crate) fn is_receipt(&self) -> bool {
        self.inquiry.has_receipts
    }

    /// That the message did not reach its receiver, if the business is to be told.
    pub(crate) fn undelivered(&self) -> Option<Undelivered<'_>> {
        let is_lost = matches!(self.status, ReceiptStatus::Offline | ReceiptStatus::Expired);
        let id = self.inquiry.named.as_deref().filter(|_| is_lost)?;
        Some(Undelivered { client: &self.receiver, id, reason: self.status.label() })
    }

    /// Who is to be told.
    pub(crate) fn sender(&self) -> &ClientId {
        &self.inquiry.sender
    }

    /// What became of the message.
    pub(crate) fn status(&self) -> ReceiptStatus {
        self.status
    }

    /// Number of the message in the log, if it is in one, and its receiver.
    pub(crate) fn settles(&self) -> Option<(u64, ClientId)> {
        self.inquiry.number.map(|number| (number, self.receiver.clone()))
    }

    /// Bytes of its content, give or take some.
    pub(crate) fn len(&self) -> usize {
        self.inquiry.text.len()
    }

    /// The message to the sender.
    pub(crate) fn envelope(&self) -> Envelope {
        Envelope::Direct {
            sender: self.receiver.clone(),
            receivers: vec![self.inquiry.sender.clone()],
            content: self.inquiry.text.content(&self.receiver, self.status),
            receipt: false,
            id: None,
            acknowledge: false,
            about: true,
            trace: None,
        }
    }
}

/// How much waits, and whether the publisher gets rid of it.
#[derive(Debug, Default)]
struct Level {
    bytes: AtomicUsize,
    failing: AtomicBool,
}

/// The reactors' end of the queue.
#[derive(Debug, Clone)]
pub(crate) struct Notices {
    queue: Sender<Notice>,
    level: Arc<Level>,
}

/// The publisher's end.
#[derive(Debug)]
pub(crate) struct DueNotices {
    pub(crate) queue: Receiver<Notice>,
    level: Arc<Level>,
}

/// The queue between reactors and publisher.
pub(crate) fn notices() -> (Notices, DueNotices) {
    let (sender, receiver) = mpsc::channel();
    let level = Arc::<Level>::default();
    (Notices { queue: sender, level: Arc::clone(&level) }, DueNotices { queue: receiver, level })
}

impl Notices {
    /// Queues a notice. False if it is dropped: there is no publisher any more, or it does not get rid of all that waits.
    pub(crate) fn push(&self, notice: Notice) -> bool {
        if self.holds_enough() && self.level.failing.load(Ordering::Relaxed) {
            return false;
        }
        let first = notice.inquiry.waiting.fetch_add(1, Ordering::Relaxed) == 0;
        let shared = if first { notice.len() } else { 0 };
        self.level.bytes.fetch_add(size_of::<Notice>() + shared, Ordering::Relaxed);
        self.queue.send(notice).is_ok()
    }

    /// Whether messages that ask for receipts should wait. Never while receipts are dropped anyway.
    pub(crate) fn is_full(&self) -> bool {
        self.holds_enough() && !self.level.failing.load(Ordering::Relaxed)
    }

    fn holds_enough(&self) -> bool {
        self.level.bytes.load(Ordering::Relaxed) >= QUEUE_BYTES
    }
}

impl DueNotices {
    /// These were sent, or given up; whether the broker is `failing`.
    pub(crate) fn done(&self, notices: &[Notice], failing: bool) {
        for notice in notices {
            let last = notice.inquiry.waiting.fetch_sub(1, Ordering::Relaxed) == 1;
            let shared = if last { notice.len() } else { 0 };
            self.level.bytes.fetch_sub(size_of::<Notice>() + shared, Ordering::Relaxed);
        }
        self.level.failing.store(failing, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_counts_the_text_of_a_message_once() {
        let (sender, due) = notices();
        let text = ReceiptText::new(&"x".repeat(1000), None, 1000);
        let inquiry = Arc::new(Inquiry::new(1.into(), text, false, None));
        (0..10).for_each(|id| assert!(sender.push(Notice::offline(&inquiry, id.into()))));
        let bytes = || due.level.bytes.load(Ordering::Relaxed);
        assert_eq!(bytes(), 10 * size_of::<Notice>() + inquiry.text.len());
        let notices: Vec<_> = due.queue.try_iter().collect();
        due.done(&notices[..9], false);
        assert!(bytes() > 1000);
        due.done(&notices[9..], false);
        assert_eq!(bytes(), 0);
    }

    #[test]
    fn a_full_queue_holds_up_nobody_while_the_broker_is_away() {
        let (sender, due) = notices();
        let text = ReceiptText::new(&"x".repeat(QUEUE_BYTES), None, QUEUE_BYTES);
        let inquiry = Arc::new(Inquiry::new(1.into(), text, false, None));
        sender.push(Notice::offline(&inquiry, 2.into()));
        assert!(sender.is_full());
        due.done(&[], true);
        assert!(!sender.is_full());
        assert!(!sender.push(Notice::offline(&inquiry, 3.into())), "that is bounded");
        due.done(&[], false);
        assert!(sender.is_full() && sender.push(Notice::offline(&inquiry, 3.into())));
    }
}
