//! What the threads of a node say of themselves: the end that writes. `vitals` is the end that reads.
//!
//! Written with relaxed atomics: counters in the loops, each thread its own, the rest once per call to the broker. Its
//! locks are taken while a node starts and by readers alone, but for that of `away`.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    away::Away,
    calls::{Call, CallStats, CallTimes},
    counters::Counters,
    snapshot::{ServerStats, SlotStats},
};
use crate::{
    broker::Echo,
    error::Result,
    server::{
        failure::Failure,
        heartbeat::{self, Heartbeats},
        inbox::Depth,
        readiness::Readiness,
        waits::Clock,
    },
};

/// What the threads of a node say of themselves. Threads write it, `Vitals` reads it.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Whether clients may connect.
    pub(crate) readiness: Readiness,
    /// Whether a thread has failed for good.
    pub(crate) failure: Failure,
    /// Whether all threads turn.
    pub(crate) heartbeats: Heartbeats,
    /// Whose clients are waited for.
    pub(crate) away: Away,
    /// By which messages are told when they came.
    pub(crate) clock: Clock,
    counters: Mutex<Vec<Arc<Counters>>>,
    inboxes: Mutex<Vec<Arc<Depth>>>,
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
    /// The version of the table of slots, 0 without one, and what this node has in it: owned, moving, and owned by nobody.
    slots: [AtomicU64; 4],
}

impl Pulse {
    /// Counters for one thread more, which are its own.
    pub(crate) fn new_counters(&self) -> Arc<Counters> {
        let counters = Arc::<Counters>::default();
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counters));
        counters
    }

    /// One inbox more whose length is to be told.
    pub(crate) fn add_inbox(&self, depth: Arc<Depth>) {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner).push(depth);
    }

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

    /// The node goes by a table of slots of that version, in which it has so many.
    pub(crate) fn slots(&self, stats: SlotStats) {
        let SlotStats { version, owned, moving, unowned } = stats;
        for (place, value) in self.slots.iter().zip([version, owned, moving, unowned]) {
            place.store(value, Ordering::Relaxed);
        }
    }

    fn slot_stats(&self) -> Option<SlotStats> {
        let [version, owned, moving, unowned] =
            self.slots.each_ref().map(|place| place.load(Ordering::Relaxed));
        (version > 0).then_some(SlotStats { version, owned, moving, unowned })
    }

    /// All of it at this moment; what a thread does not say is left out.
    pub(crate) fn read(&self) -> ServerStats {
        // Before what is queued, so that the difference is not negative.
        let presence_taken = self.presence_taken.load(Ordering::Relaxed);
        let presence_backlog = self.presence_backlog.load(Ordering::Relaxed);
        let receipts_done = self.receipts_done.load(Ordering::Relaxed);
        let sum = self.counted();
        let heard_ago = self.heard.age();
        ServerStats {
            presence_waiting: sum.presence_waiting.saturating_sub(presence_taken)
                + presence_backlog,
            receipts_waiting: sum.receipts_waiting.saturating_sub(receipts_done),
            inboxes: self.inboxes(),
            calls: self.calls(),
            listening: self.readiness.is_listening(),
            feed_lag: heard_ago.map(|_| Duration::from_nanos(self.lag.load(Ordering::Relaxed))),
            heard_ago,
            lease_held: self.readiness.is_lease_held(),
            lease_age: self.renewed.age(),
            not_ready: self.readiness.reason(),
            slots: self.slot_stats(),
            uptime: self.renewed.since.elapsed(),
            ..sum
        }
    }

    /// The counters of all threads, added up.
    fn counted(&self) -> ServerStats {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        ServerStats::sum(counters.iter().map(|part| &**part))
    }

    /// Handshakes that came to nothing since the start, by status, and those that failed in TLS.
    pub(crate) fn refused(&self) -> Vec<(String, u64)> {
        let sum = self.counted();
        let refused = sum.refusals.iter().map(|(status, count)| (status.to_string(), *count));
        let tls =
            sum.tls_failures.iter().map(|(why, count)| (format!("TLS: {}", why.text()), *count));
        refused.chain(tls).collect()
    }

    fn inboxes(&self) -> Vec<u64> {
        let inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        inboxes.iter().map(|inbox| inbox.get()).collect()
    }

    fn calls(&self) -> Vec<CallStats> {
        Call::ALL.iter().map(|call| self.calls[*call as usize].read(*call)).collect()
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

    pub(crate) fn age(&self) -> Option<Duration> {
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
