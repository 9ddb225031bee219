//! Which connections are away: their clients are waited for. Written by reactors, read by whoever asks.
//!
//! For people, who ask seldom: a set and a lock that is held for a moment, so that it costs next to nothing when thousands go
//! at once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::AHashSet;

/// The numbers of these connections.
#[derive(Debug, Default)]
pub(crate) struct Away(Mutex<AHashSet<u64>>);

impl Away {
    /// The client of a connection has gone.
    pub(crate) fn add(&self, connection: u64) {
        self.lock().insert(connection);
    }

    /// It has come back, or is waited for no longer.
    pub(crate) fn remove(&self, connection: u64) {
        let mut numbers = self.lock();
        numbers.remove(&connection);
        if numbers.is_empty() && numbers.capacity() > 1 << 12 {
            // An outage must not be paid for ever after.
            *numbers = AHashSet::new();
        }
    }

    /// Whether it is one of them.
    pub(crate) fn has(&self, connection: u64) -> bool {
        self.lock().contains(&connection)
    }

    fn lock(&self) -> MutexGuard<'_, AHashSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
