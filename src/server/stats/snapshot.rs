//! What a node tells of itself at one moment: the counters of all its threads, added up.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use super::{
    calls::CallStats,
    counters::{Counters, REFUSALS},
};
use crate::server::{
    readiness::NotReady,
    reasons::{CloseReason, TlsFailure},
};

/// What the node has counted since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that are open now.
    pub connections: u64,
    /// Connections that were ever opened.
    pub opened: u64,
    /// Messages offered to connections: one message to three connections counts three. Always the sum of
    /// `delivered`, `dropped` and what is still queued.
    pub offered: u64,
    /// Of those, messages whose last byte the operating system took.
    pub delivered: u64,
    /// Of those, messages that were queued when their connection ended.
    pub dropped: u64,
    /// Those by the reason for which it ended, in the order of [`CloseReason::ALL`].
    pub drops: Vec<(CloseReason, u64)>,
    /// Receipts that could not be sent because the broker was away or too slow.
    pub receipts_dropped: u64,
    /// Handshakes under way.
    pub handshakes: u64,
    /// Handshakes that were turned away.
    pub refused: u64,
    /// Those by HTTP status, in ascending order.
    pub refusals: Vec<(u16, u64)>,
    /// TLS handshakes that came to nothing, in the order of [`TlsFailure::ALL`].
    pub tls_failures: Vec<(TlsFailure, u64)>,
    /// When the certificate ends; `None` without TLS, or where it does not say so as others do.
    pub tls_expiry: Option<SystemTime>,
    /// Payloads from the broker that were skipped.
    pub malformed: u64,
    /// Messages that were sent to this node while it could not hear, by the count of their senders.
    pub lost: u64,
    /// Ended connections by reason, in the order of [`CloseReason::ALL`].
    pub closed: Vec<(CloseReason, u64)>,
    /// Commands that wait for each reactor: a number that stays high means that it cannot keep up.
    pub inboxes: Vec<u64>,
    /// Openings and ends of connections that the broker does not know of yet.
    pub presence_waiting: u64,
    /// Receipts that wait to be sent.
    pub receipts_waiting: u64,
    /// How long the node's calls to the broker took.
    pub calls: Vec<CallStats>,
    /// Whether the node hears the broker.
    pub listening: bool,
    /// Time since that was last proven; `None` if it never was.
    pub heard_ago: Option<Duration>,
    /// Time that a message took through the broker when it was last proven.
    pub feed_lag: Option<Duration>,
    /// Whether the presence lease is held.
    pub lease_held: bool,
    /// Time since the lease was last renewed; `None` if there never was one.
    pub lease_age: Option<Duration>,
    /// Why clients cannot connect; `None` if they can.
    pub not_ready: Option<NotReady>,
    /// Time since the node started.
    pub uptime: Duration,
}

impl ServerStats {
    /// What the threads counted. The waiting are those ever queued: whoever has done with them subtracts.
    pub(crate) fn sum<'a>(parts: impl Iterator<Item = &'a Counters>) -> Self {
        let mut sum = ServerStats {
            closed: CloseReason::ALL.iter().map(|reason| (*reason, 0)).collect(),
            drops: CloseReason::ALL.iter().map(|reason| (*reason, 0)).collect(),
            refusals: REFUSALS.iter().map(|status| (*status, 0)).collect(),
            tls_failures: TlsFailure::ALL.iter().map(|failure| (*failure, 0)).collect(),
            ..ServerStats::default()
        };
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for part in parts {
            sum.opened += get(&part.opened);
            sum.offered += get(&part.offered);
            sum.delivered += get(&part.delivered);
            sum.receipts_dropped += get(&part.receipts_dropped);
            sum.malformed += get(&part.malformed);
            sum.handshakes += get(&part.handshakes);
            sum.presence_waiting += get(&part.presence_queued);
            sum.receipts_waiting += get(&part.receipts_queued);
            for ((_, count), counter) in sum.refusals.iter_mut().zip(&part.refused) {
                *count += get(counter);
            }
            for ((_, count), counter) in sum.tls_failures.iter_mut().zip(&part.tls_failures) {
                *count += get(counter);
            }
            sum.lost += get(&part.lost);
            for ((_, count), counter) in sum.closed.iter_mut().zip(&part.closed) {
                *count += get(counter);
            }
            for ((_, count), counter) in sum.drops.iter_mut().zip(&part.dropped) {
                *count += get(counter);
            }
        }
        sum.dropped = sum.drops.iter().map(|(_, count)| count).sum();
        sum.refused = sum.refusals.iter().map(|(_, count)| count).sum();
        let ended: u64 = sum.closed.iter().map(|(_, count)| count).sum();
        sum.connections = sum.opened.saturating_sub(ended);
        sum
    }
}
