//! How long a node's calls to its broker take: a histogram for each kind of call.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::histogram::{Histogram, Times};

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

/// How long calls of one kind took; written by the thread that makes them.
#[derive(Debug, Default)]
pub(crate) struct CallTimes {
    times: Histogram,
    errors: AtomicU64,
}

impl CallTimes {
    pub(crate) fn record(&self, took: Duration, failed: bool) {
        self.times.record(took, 1);
        self.errors.fetch_add(failed.into(), Ordering::Relaxed);
    }

    pub(crate) fn read(&self, call: Call) -> CallStats {
        let Times { count, total, buckets } = self.times.read();
        let errors = self.errors.load(Ordering::Relaxed);
        CallStats { call: call.as_str(), count, errors, total, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_with_those_that_failed() {
        let times = CallTimes::default();
        times.record(Duration::from_micros(250), false);
        times.record(Duration::from_micros(251), true);
        let stats = times.read(Call::Renew);
        assert_eq!((stats.call, stats.count, stats.errors), ("renew", 2, 1));
        assert_eq!(stats.buckets[0], (Duration::from_micros(250), 1));
        assert_eq!(stats.total, Duration::from_micros(501));
    }
}
