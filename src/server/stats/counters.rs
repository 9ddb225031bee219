//! What the loops count. Each has counters of its own, so that counting never makes two cores share a cache
//! line; `stats` adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::server::reasons::{CloseReason, TlsFailure};

/// Every status that a handshake is refused with.
pub(crate) const REFUSALS: [u16; 11] = [400, 401, 403, 404, 405, 408, 421, 426, 429, 431, 503];

/// Counters of one loop.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) opened: AtomicU64,
    pub(crate) offered: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) receipts_dropped: AtomicU64,
    pub(crate) malformed: AtomicU64,
    /// Handed to the presence thread and to the publisher; these count what they have done with it.
    pub(crate) presence_queued: AtomicU64,
    pub(crate) receipts_queued: AtomicU64,
    /// Not a count but the number now, which the acceptor writes once a turn.
    pub(crate) handshakes: AtomicU64,
    pub(crate) refused: [AtomicU64; REFUSALS.len()],
    pub(crate) tls_failures: [AtomicU64; TlsFailure::ALL.len()],
    pub(crate) lost: AtomicU64,
    pub(crate) closed: [AtomicU64; CloseReason::ALL.len()],
    /// Messages, by the reason for which their connection ended.
    pub(crate) dropped: [AtomicU64; CloseReason::ALL.len()],
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn closed(&self, reason: CloseReason) {
        add(&self.closed[reason as usize], 1);
    }

    pub(crate) fn dropped(&self, reason: CloseReason, messages: u64) {
        add(&self.dropped[reason as usize], messages);
    }

    pub(crate) fn tls_failed(&self, failure: TlsFailure) {
        add(&self.tls_failures[failure as usize], 1);
    }

    pub(crate) fn refused(&self, status: u16) {
        let place = REFUSALS.iter().position(|known| *known == status);
        debug_assert!(place.is_some(), "{status} is not listed");
        add(&self.refused[place.unwrap_or(0)], 1);
    }
}
