//! Which of several servers that were in charge one after the other is so now.
//!
//! Kept by those who find it out, Sentinels and the master of a cluster's slot; a connection that has the number of a former one
//! is given up.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use redis::ConnectionAddr;

#[derive(Default)]
pub(super) struct Term {
    /// Where it was found last.
    found: Mutex<Option<ConnectionAddr>>,
    /// How often that has changed.
    number: AtomicU64,
}

impl Term {
    /// The number of the server of now.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The number of a server that was found at `place`.
    pub(super) fn found(&self, place: ConnectionAddr) -> u64 {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.as_ref() == Some(&place) {
            return self.number();
        }
        *found = Some(place);
        self.number.fetch_add(1, Ordering::AcqRel) + 1
    }
}
