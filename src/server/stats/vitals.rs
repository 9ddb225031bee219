//! What can be asked about a running node from any thread, also while it stops.
//!
//! Reading takes no lock that a loop takes. The node's threads write their part with relaxed atomics:
//! [`Pulse`] once per call to the broker, `Counters` (in `stats`) in the loops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    calls::{Call, CallTimes},
    counters::Counters,
    snapshot::ServerStats,
};
use crate::{
    broker::Echo,
    error::Result,
    server::{
        failure::FailureWatch,
        heartbeat::{self, Heartbeats},
        inbox::Depth,
        readiness::{NotReady, Readiness},
        transport::tls::Tls,
    },
    wire::NodeStatus,
};

/// A view of one node, cheap to clone; it outlives the node.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use imcore::{ImClient, broker::MemoryBroker, server::{Server, ServerConfig}};
/// # let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
/// # let node = Server::start(config, Arc::new(MemoryBroker::new()))?;
/// let vitals = node.vitals();
/// std::thread::spawn(move || loop {
///     match vitals.not_ready() {
///         None => println!("ready"),
///         Some(why) => println!("{why}"),
///     }
///     std::thread::sleep(Duration::from_secs(5));
/// });
/// # Ok::<(), imcore::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Vitals {
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) failure: FailureWatch,
    pub(crate) counters: Arc<[Arc<Counters>]>,
    pub(crate) inboxes: Arc<[Arc<Depth>]>,
    pub(crate) tls: Option<Tls>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) heartbeats: Heartbeats,
    /// Connections that the node takes at most.
    pub(crate) connections_limit: u64,
}

impl Vitals {
    /// Why clients cannot connect, the gravest reason first; `None` if they can.
    pub fn not_ready(&self) -> Option<NotReady> {
        self.readiness.reason()
    }

    /// Why the node has failed, if it has: it must be restarted then.
    pub fn failure(&self) -> Option<String> {
        self.failure.get()
    }

    /// Which threads of the node have not turned for about 8 s and are stuck, in one sentence; `None` while
    /// all turn. A stopped node has no threads that could be.
    pub fn stalled(&self) -> Option<String> {
        self.heartbeats.stalled()
    }

    /// What the node has counted so far, and how it is now.
    pub fn stats(&self) -> ServerStats {
        let pulse = &self.pulse;
        // Before what is queued, so that the difference is not negative.
        let presence_taken = pulse.presence_taken.load(Ordering::Relaxed);
        let presence_backlog = pulse.presence_backlog.load(Ordering::Relaxed);
        let receipts_done = pulse.receipts_done.load(Ordering::Relaxed);
        let sum = ServerStats::sum(self.counters.iter().map(|part| &**part));
        let heard_ago = pulse.heard.age();
        ServerStats {
            presence_waiting: sum.presence_waiting.saturating_sub(presence_taken)
                + presence_backlog,
            receipts_waiting: sum.receipts_waiting.saturating_sub(receipts_done),
            inboxes: self.inboxes.iter().map(|inbox| inbox.get()).collect(),
            calls: Call::ALL.iter().map(|call| pulse.calls[*call as usize].read(*call)).collect(),
            listening: self.readiness.listening.load(Ordering::Acquire),
            feed_lag: heard_ago.map(|_| Duration::from_nanos(pulse.lag.load(Ordering::Relaxed))),
            heard_ago,
            lease_held: self.readiness.session.load(Ordering::Acquire),
            lease_age: pulse.renewed.age(),
            not_ready: self.not_ready(),
            tls_expiry: self.tls.as_ref().and_then(Tls::expiry),
            uptime: pulse.renewed.since.elapsed(),
            ..sum
        }
    }
}

impl Vitals {
    /// Handshakes that came to nothing since the start, by status, and those that failed in TLS.
    pub(crate) fn refusals(&self) -> Vec<(String, u64)> {
        let sum = ServerStats::sum(self.counters.iter().map(|part| &**part));
        let refused = sum.refusals.iter().map(|(status, count)| (status.to_string(), *count));
        let tls =
            sum.tls_failures.iter().map(|(why, count)| (format!("TLS: {}", why.text()), *count));
        refused.chain(tls).collect()
    }

    /// What the node tells others of itself with each renewal of its lease, as of now. Asks nobody.
    pub fn status(&self) -> NodeStatus {
        let stats = self.stats();
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: stats.uptime.as_secs_f64(),
            // Whoever hears it sees by that that the lease is held.
            not_ready: stats
                .not_ready
                .filter(|why| *why != NotReady::NoLease)
                .map(|why| why.as_str().to_owned()),
            connections: stats.connections,
            connections_limit: self.connections_limit,
            handshakes: stats.handshakes,
            opened: stats.opened,
            refused: stats.refused,
            offered: stats.offered,
            delivered: stats.delivered,
            dropped: stats.dropped,
            receipts_dropped: stats.receipts_dropped,
            lost: stats.lost,
            inboxes: stats.inboxes.iter().sum(),
            presence_waiting: stats.presence_waiting,
            feed_lag_seconds: stats.feed_lag.map(|lag| lag.as_secs_f64()),
        }
    }
}

/// What the threads that call the broker say about it. Each field has one writer.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    calls: [CallTimes; Call::ALL.len()],
    /// When the presence lease was last begun or renewed.
    pub(crate) renewed: Moment,
    heard: Moment,
    /// Nanoseconds that the last echo took.
    lag: AtomicU64,
    /// Reports that the presence thread has taken from its queue, and what it has still to tell.
    presence_taken: AtomicU64,
    presence_backlog: AtomicU64,
    /// Receipts that were sent or given up.
    pub(crate) receipts_done: AtomicU64,
}

impl Pulse {
    /// Makes a call to the broker and records how it went.
    pub(crate) fn time<T>(&self, call: Call, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let result = heartbeat::call(work);
        self.calls[call as usize].record(began.elapsed(), result.is_err());
        result
    }

    /// How far the presence thread is with its queue.
    pub(crate) fn presence(&self, taken: u64, backlog: usize) {
        self.presence_taken.store(taken, Ordering::Relaxed);
        self.presence_backlog.store(backlog as u64, Ordering::Relaxed);
    }

    /// The feed works, as its last echo proves; a feed without echoes cannot be deaf.
    pub(crate) fn heard(&self, echo: Option<Echo>) {
        let (at, took) = echo.map_or((Instant::now(), Duration::ZERO), |echo| (echo.at, echo.took));
        self.heard.set(at);
        self.lag.store(took.as_nanos() as u64, Ordering::Relaxed);
    }
}

/// A point in time that one thread sets and others read.
#[derive(Debug)]
pub(crate) struct Moment {
    since: Instant,
    /// Milliseconds from `since`, and one more; 0 is never.
    at: AtomicU64,
}

impl Default for Moment {
    fn default() -> Self {
        Moment { since: Instant::now(), at: AtomicU64::new(0) }
    }
}

impl Moment {
    pub(crate) fn touch(&self) {
        self.set(Instant::now());
    }

    fn set(&self, at: Instant) {
        let millis = at.saturating_duration_since(self.since).as_millis() as u64;
        self.at.store(millis + 1, Ordering::Relaxed);
    }

    fn age(&self) -> Option<Duration> {
        let millis = self.at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.since.elapsed().saturating_sub(Duration::from_millis(millis)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn failed_calls_count_and_pass_their_error_on() {
        let pulse = Pulse::default();
        assert_eq!(pulse.time(Call::Tickets, || Ok(7)).unwrap(), 7);
        assert!(pulse.time::<()>(Call::Tickets, || Err(Error::argument("x"))).is_err());
        let stats = pulse.calls[Call::Tickets as usize].read(Call::Tickets);
        assert_eq!((stats.count, stats.errors), (2, 1));
    }

    #[test]
    fn an_age_runs_from_the_last_touch() {
        let moment = Moment::default();
        assert_eq!(moment.age(), None);
        moment.touch();
        assert!(moment.age().unwrap() < Duration::from_secs(5));
    }
}
