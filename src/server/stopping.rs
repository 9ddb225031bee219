//! How a node stops: what the threads that call the broker are told, and what they say of their end.
//!
//! Acceptor and reactors are told through their inboxes; these threads wait for the broker, and look here.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// Nothing of it is set until the node stops.
#[derive(Debug, Default)]
pub(crate) struct Stopping {
    drains: AtomicBool,
    feed_ends: AtomicBool,
    deadlines: Mutex<Option<Deadlines>>,
    all_reported: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Deadlines {
    retries: Instant,
    calls: Instant,
}

impl Stopping {
    /// The node gives its slots away.
    pub(crate) fn drain(&self) {
        self.drains.store(true, Ordering::Release);
    }

    /// Whether it is to give its slots away.
    pub(crate) fn drains(&self) -> bool {
        self.drains.load(Ordering::Acquire)
    }

    /// No client is left who could be sent anything.
    pub(crate) fn end_feed(&self) {
        self.feed_ends.store(true, Ordering::Release);
    }

    /// Whether the feed is to end.
    pub(crate) fn feed_ends(&self) -> bool {
        self.feed_ends.load(Ordering::Acquire)
    }

    /// The node has no clients any more: failed calls are tried again until `retries`, further ones are made
    /// until `calls`.
    pub(crate) fn end_calls(&self, retries: Instant, calls: Instant) {
        let deadlines = Deadlines { retries, calls };
        *self.deadlines.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadlines);
    }

    /// Whether a call that has failed is not to be tried again.
    pub(crate) fn retries_end(&self) -> bool {
        self.deadlines().is_some_and(|deadlines| Instant::now() >= deadlines.retries)
    }

    /// Whether no call at all is to be made any more.
    pub(crate) fn calls_end(&self) -> bool {
        self.deadlines().is_some_and(|deadlines| Instant::now() >= deadlines.calls)
    }

    fn deadlines(&self) -> Option<Deadlines> {
        *self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Presence has ended, and the broker knows that all clients are offline.
    pub(crate) fn reported(&self) {
        self.all_reported.store(true, Ordering::Release);
    }

    /// Whether the broker knows that all clients are offline.
    pub(crate) fn is_reported(&self) -> bool {
        self.all_reported.load(Ordering::Acquire)
    }
}
