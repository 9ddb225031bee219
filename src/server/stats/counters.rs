//! What the loops count. Each has counters of its own, so that counting never makes two cores share a cache
//! line; `snapshot` adds them up. Which there are stands in `table`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{histogram::Histogram, table::counter_table};
use crate::{
    server::reasons::{CloseReason, NotResumed, TlsFailure},
    wire::ReceiptStatus,
};

/// Every status that a handshake is refused with.
pub(crate) const REFUSALS: &[u16] = &[400, 401, 403, 404, 405, 408, 421, 426, 429, 431, 503];

macro_rules! counters {
    (
        totals { $($total:ident = $name:literal, $help:literal;)* }
        each { $($each:ident: $of:ty, $all:path = $each_name:literal, $label:literal, $each_help:literal;)* }
    ) => {
        /// Counters of one loop.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct Counters {
            $(pub(crate) $total: AtomicU64,)*
            $(pub(crate) $each: [AtomicU64; $all.len()],)*
            /// Handed to the presence thread and to the publisher; these count what they have done with it.
            pub(crate) presence_queued: AtomicU64,
            pub(crate) receipts_queued: AtomicU64,
            /// Not a count but the number now, which the acceptor writes once a turn.
            pub(crate) handshakes: AtomicU64,
            /// The same of clients that are away and are waited for, which a reactor writes.
            pub(crate) parked: AtomicU64,
            /// How long messages took until they were written: from where they were published, if a log says when, else from
            /// their arrival at the node.
            pub(crate) since_published: Histogram,
            pub(crate) since_arrival: Histogram,
        }
    };
}

counter_table!(counters);

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn closed(&self, reason: CloseReason) {
        add(&self.closed[reason as usize], 1);
    }

    pub(crate) fn dropped(&self, reason: CloseReason, messages: u64) {
        add(&self.drops[reason as usize], messages);
    }

    pub(crate) fn not_resumed(&self, why: NotResumed) {
        add(&self.not_resumed[why as usize], 1);
    }

    /// A receipt is due.
    pub(crate) fn receipt(&self, status: ReceiptStatus) {
        add(&self.receipts[status as usize], 1);
    }

    pub(crate) fn tls_failed(&self, failure: TlsFailure) {
        add(&self.tls_failures[failure as usize], 1);
    }

    pub(crate) fn refused(&self, status: u16) {
        let place = REFUSALS.iter().position(|known| *known == status);
        debug_assert!(place.is_some(), "{status} is not listed");
        add(&self.refusals[place.unwrap_or(0)], 1);
    }
}
