//! How long the threads that call the broker go on while their node stops.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Without an end until the node stops. Then a failed call is tried again for a short while, and calls that
/// succeed are followed by others for a longer one.
#[derive(Debug, Default)]
pub(crate) struct Patience(Mutex<Option<Deadlines>>);

#[derive(Debug, Clone, Copy)]
struct Deadlines {
    retries: Instant,
    calls: Instant,
}

impl Patience {
    /// The node has no clients any more: failed calls are tried again until `retries`, further ones are made
    /// until `calls`.
    pub(crate) fn begin(&self, retries: Instant, calls: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Deadlines { retries, calls });
    }

    /// Whether a call that has failed is not to be tried again.
    pub(crate) fn is_short(&self) -> bool {
        self.deadlines().is_some_and(|deadlines| Instant::now() >= deadlines.retries)
    }

    /// Whether no call at all is to be made any more.
    pub(crate) fn is_over(&self) -> bool {
        self.deadlines().is_some_and(|deadlines| Instant::now() >= deadlines.calls)
    }

    fn deadlines(&self) -> Option<Deadlines> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
