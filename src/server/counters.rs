//! What the loops count. Each has counters of its own, so that counting never makes two cores share a cache
//! line; `stats` adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

use super::reasons::{CloseReason, TlsFailure};

/// Every status that a handshake is refused with.
pub(super) const REFUSALS: [u16; 11] = [400, 401, 403, 404, 405, 408, 421, 426, 429, 431, 503];

/// Counters of one loop.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counters {
    pub(super) opened: AtomicU64,
    pub(super) offered: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) receipts_dropped: AtomicU64,
    pub(super) malformed: AtomicU64,
    /// Handed to the presence thread and to the publisher; these count what they have done with it.
    pub(super) presence_queued: AtomicU64,
    pub(super) receipts_queued: AtomicU64,
    /// Not a count but the number now, which the acceptor writes once a turn.
    pub(super) handshakes: AtomicU64,
    pub(super) refused: [AtomicU64; REFUSALS.len()],
    pub(super) tls_failures: [AtomicU64; TlsFailure::ALL.len()],
    pub(super) lost: AtomicU64,
    pub(super) closed: [AtomicU64; CloseReason::ALL.len()],
    /// Messages, by the reason for which their connection ended.
    pub(super) dropped: [AtomicU64; CloseReason::ALL.len()],
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn closed(&self, reason: CloseReason) {
        add(&self.closed[reason as usize], 1);
    }

    pub(super) fn dropped(&self, reason: CloseReason, messages: u64) {
        add(&self.dropped[reason as usize], messages);
    }

    pub(super) fn tls_failed(&self, failure: TlsFailure) {
        add(&self.tls_failures[failure as usize], 1);
    }

    pub(super) fn refused(&self, status: u16) {
        let place = REFUSALS.iter().position(|known| *known == status);
        debug_assert!(place.is_some(), "{status} is not listed");
        add(&self.refused[place.unwrap_or(0)], 1);
    }
}
