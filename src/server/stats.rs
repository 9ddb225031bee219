//! What the node counts, and why connections end.
//!
//! Each loop has counters of its own, so that counting never makes two cores share a cache line;
//! readers add them up.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use super::{calls::CallStats, message::NotReady};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:expr, $text:literal;)*) => {
        /// Why a connection ended. Not an error: every connection ends for one of these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CloseReason { $($(#[$doc])* $name,)* }

        impl CloseReason {
            /// All reasons, in the order of [`ServerStats::closed`].
            pub const ALL: &[CloseReason] = &[$(CloseReason::$name,)*];

            /// The WebSocket close code that the client is sent; `None` where nothing can be sent.
            pub fn code(self) -> Option<u16> {
                match self { $(CloseReason::$name => $code,)* }
            }

            /// The reason in the close frame, in logs and in metrics.
            pub fn text(self) -> &'static str {
                match self { $(CloseReason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// The client sent a close frame.
    Peer = None, "closed by the client";
    /// The connection broke, or the client left without a close frame.
    Lost = None, "connection lost";
    /// Nothing was heard, not even an answer to a ping.
    Silent = None, "no answer to a ping";
    /// `force_offline`: the client must not reconnect by itself.
    Kicked = Some(4001), "kicked";
    /// The node stops; the client may reconnect.
    Stopping = Some(1001), "server is stopping";
    /// The node stops little by little; the client may reconnect at once.
    Restarting = Some(1012), "server is restarting";
    /// A frame broke the protocol, or a TLS record did.
    Protocol = Some(1002), "protocol error";
    /// A text message was not UTF-8.
    BadText = Some(1007), "text is not UTF-8";
    /// The client sent more than it may.
    Flood = Some(1008), "too much data";
    /// A message was larger than allowed.
    TooBig = Some(1009), "message too big";
    /// A fault of this server in checking what the client sent.
    Internal = Some(1011), "internal error";
    /// The client reads too slowly.
    SlowConsumer = Some(1013), "slow consumer";
}

/// Why a TLS handshake came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFailure {
    /// No version, cipher or protocol that both know.
    Incompatible,
    /// The client does not take the certificate, or gave another reason of its own.
    Rejected,
    /// What came was not TLS as it has to be.
    Protocol,
    /// The client left meanwhile.
    Left,
    /// It took longer than [`Limits::handshake`](super::Limits::handshake).
    TimedOut,
}

impl TlsFailure {
    /// All of them, in the order of [`ServerStats::tls_failures`].
    pub const ALL: &[TlsFailure] = &[
        TlsFailure::Incompatible,
        TlsFailure::Rejected,
        TlsFailure::Protocol,
        TlsFailure::Left,
        TlsFailure::TimedOut,
    ];

    /// In logs and in metrics.
    pub fn text(self) -> &'static str {
        match self {
            TlsFailure::Incompatible => "nothing in common",
            TlsFailure::Rejected => "rejected by the client",
            TlsFailure::Protocol => "protocol error",
            TlsFailure::Left => "client left",
            TlsFailure::TimedOut => "timed out",
        }
    }
}

/// Every status that a handshake is refused with.
const REFUSALS: [u16; 11] = [400, 401, 403, 404, 405, 408, 421, 426, 429, 431, 503];

/// Counters of one loop.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counters {
    pub(super) opened: AtomicU64,
    pub(super) offered: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) receipts_dropped: AtomicU64,
    pub(super) malformed: AtomicU64,
    /// Handed to the presence thread and to the publisher; these count what they have done with it.
    pub(super) presence_queued: AtomicU64,
    pub(super) receipts_queued: AtomicU64,
    /// Not a count but the number now, which the acceptor writes once a turn.
    pub(super) handshakes: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
    tls_failures: [AtomicU64; TlsFailure::ALL.len()],
    pub(super) lost: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn closed(&self, reason: CloseReason) {
        add(&self.closed[reason as usize], 1);
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
    pub(super) fn sum<'a>(parts: impl Iterator<Item = &'a Counters>) -> Self {
        let mut sum = ServerStats {
            closed: CloseReason::ALL.iter().map(|reason| (*reason, 0)).collect(),
            refusals: REFUSALS.iter().map(|status| (*status, 0)).collect(),
            tls_failures: TlsFailure::ALL.iter().map(|failure| (*failure, 0)).collect(),
            ..ServerStats::default()
        };
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for part in parts {
            sum.opened += get(&part.opened);
            sum.offered += get(&part.offered);
            sum.delivered += get(&part.delivered);
            sum.dropped += get(&part.dropped);
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
        }
        sum.refused = sum.refusals.iter().map(|(_, count)| count).sum();
        let ended: u64 = sum.closed.iter().map(|(_, count)| count).sum();
        sum.connections = sum.opened.saturating_sub(ended);
        sum
    }
}
