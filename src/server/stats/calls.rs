//! How long a node's calls to its broker take: a histogram for each kind of call.
//!
//! Buckets are fixed, so that recording is three additions without a lock, and the histograms of several
//! nodes can be added up.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// What calls of one kind to the broker took.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallStats {
    /// Which: `tickets`, `begin`, `renew`, `report`, `join`, `reap`, `leave`, `discard`, `end` or `publish`.
    pub call: &'static str,
    /// Calls that have ended, well or not.
    pub count: u64,
    /// Of those, calls that failed.
    pub errors: u64,
    /// Time that all of them took together.
    pub total: Duration,
    /// How many took at most that long: each bound with the calls up to it, without those that took longer
    /// than the last.
    pub buckets: Vec<(Duration, u64)>,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Every kind of call that a node makes to its broker; its feed is no call but has an age and a lag.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Call { $($(#[$doc])* $name,)* }

        impl Call {
            pub(crate) const ALL: &[Call] = &[$(Call::$name,)*];

            fn as_str(self) -> &'static str {
                match self { $(Call::$name => $text,)* }
            }
        }
    };
}

calls! {
    Tickets = "tickets";
    Begin = "begin";
    Renew = "renew";
    Report = "report";
    /// Memberships that the broker has lost, or that were left because this node was taken for dead.
    Join = "join";
    /// Connections of ended sessions, a step at a time; and the looks for such sessions.
    Reap = "reap";
    /// Memberships whose time has come, a step at a time.
    Leave = "leave";
    /// A session of this node from before the broker lost its data.
    Discard = "discard";
    End = "end";
    Publish = "publish";
}

/// Bounds of the histogram in microseconds: from a local Redis to the broker's own deadlines.
const BOUNDS: [u64; 13] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000,
];

/// How long calls of one kind took; written by the thread that makes them.
#[derive(Debug, Default)]
pub(crate) struct CallTimes {
    /// Calls whose time is up to the bound and above the one before; the last has no bound.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    errors: AtomicU64,
    nanos: AtomicU64,
}

impl CallTimes {
    pub(crate) fn record(&self, took: Duration, failed: bool) {
        let place = BOUNDS.partition_point(|bound| Duration::from_micros(*bound) < took);
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(failed.into(), Ordering::Relaxed);
        self.nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, call: Call) -> CallStats {
        let mut count = 0;
        let mut counts = self.buckets.iter().map(|bucket| {
            count += bucket.load(Ordering::Relaxed);
            count
        });
        let bounds = BOUNDS.iter().map(|bound| Duration::from_micros(*bound));
        let buckets = bounds.zip(counts.by_ref()).collect();
        let count = counts.next().unwrap_or_default();
        CallStats {
            call: call.as_str(),
            count,
            errors: self.errors.load(Ordering::Relaxed),
            total: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_fall_into_cumulative_buckets() {
        let times = CallTimes::default();
        times.record(Duration::from_micros(250), false);
        times.record(Duration::from_micros(251), true);
        times.record(Duration::from_secs(9), false);
        let stats = times.read(Call::Renew);
        assert_eq!((stats.call, stats.count, stats.errors), ("renew", 3, 1));
        assert_eq!(stats.buckets[0], (Duration::from_micros(250), 1));
        assert_eq!(stats.buckets[1].1, 2);
        assert_eq!(stats.buckets.last().unwrap().1, 2, "nine seconds are above every bound");
        assert_eq!(stats.total, Duration::from_micros(9_000_501));
    }
}
