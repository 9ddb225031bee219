//! A receipt that is due for one message and one receiver.
//!
//! Shared by the chunks of all the receiver's connections, which live in one reactor.

use std::{cell::Cell, rc::Rc, sync::Arc};

use crate::{
    id::ClientId,
    wire::{Envelope, ReceiptStatus, receipt_content},
};

/// Settled by the first connection that has the message on its socket, or by the last that loses it.
#[derive(Debug)]
pub(super) struct Receipt {
    sender: ClientId,
    receiver: ClientId,
    content: Arc<str>,
    settled: Cell<bool>,
}

impl Receipt {
    pub(super) fn new(sender: ClientId, receiver: ClientId, content: Arc<str>) -> Self {
        Receipt { sender, receiver, content, settled: Cell::new(false) }
    }

    /// Who is to be told.
    pub(super) fn sender(&self) -> ClientId {
        self.sender
    }

    /// The message was written; the envelope that says so, the first time.
    pub(super) fn written(&self) -> Option<Envelope> {
        (!self.settled.replace(true)).then(|| self.envelope(ReceiptStatus::Sent))
    }

    /// One connection lost the message; the envelope that says so once no other can still write it.
    pub(super) fn lost(this: Rc<Self>) -> Option<Envelope> {
        let last = Rc::strong_count(&this) == 1;
        (last && !this.settled.replace(true)).then(|| this.envelope(ReceiptStatus::Offline))
    }

    /// The message to the sender.
    pub(super) fn envelope(&self, status: ReceiptStatus) -> Envelope {
        Envelope::Direct {
            sender: self.receiver,
            receivers: vec![self.sender],
            content: receipt_content(&self.content, self.receiver, status),
            receipt: false,
        }
    }
}
