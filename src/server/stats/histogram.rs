//! How often something took how long: a histogram whose buckets are fixed, so that recording is two additions without a lock and those of
//! several nodes can be added up.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Bounds in microseconds: from a local Redis, or a socket that takes a message at once, to the broker's own deadlines.
const BOUNDS: [u64; 13] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000,
];

/// Written by one thread, or a few that seldom meet.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// How many took up to the bound and more than the one before; the last has no bound.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// How often something took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Times {
    /// How often it happened.
    pub count: u64,
    /// Time of all together.
    pub total: Duration,
    /// How many took at most that long: each bound with those up to it, without those that took longer than the last.
    pub buckets: Vec<(Duration, u64)>,
}

impl Histogram {
    /// It took that long, so many times.
    pub(crate) fn record(&self, took: Duration, times: u64) {
        let place = BOUNDS.partition_point(|bound| Duration::from_micros(*bound) < took);
        self.buckets[place].fetch_add(times, Ordering::Relaxed);
        self.nanos.fetch_add((took.as_nanos() as u64).saturating_mul(times), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Times {
        let mut count = 0;
        let mut counts = self.buckets.iter().map(|bucket| {
            count += bucket.load(Ordering::Relaxed);
            count
        });
        let bounds = BOUNDS.iter().map(|bound| Duration::from_micros(*bound));
        let buckets = bounds.zip(counts.by_ref()).collect();
        let count = counts.next().unwrap_or_default();
        Times { count, total: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)), buckets }
    }
}

impl Times {
    /// Adds those of another histogram.
    pub(crate) fn add(&mut self, other: Times) {
        if self.buckets.is_empty() {
            *self = other;
            return;
        }
        self.count += other.count;
        self.total += other.total;
        for ((_, count), (_, more)) in self.buckets.iter_mut().zip(other.buckets) {
            *count += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_cumulative_buckets() {
        let (one, two) = (Histogram::default(), Histogram::default());
        one.record(Duration::from_micros(250), 3);
        two.record(Duration::from_micros(251), 1);
        two.record(Duration::from_secs(9), 2);
        let mut times = Times::default();
        times.add(one.read());
        times.add(two.read());
        assert_eq!((times.count, times.total), (6, Duration::from_micros(18_001_001)));
        assert_eq!(times.buckets[0], (Duration::from_micros(250), 3));
        assert_eq!(times.buckets[1].1, 4);
        assert_eq!(times.buckets.last().unwrap().1, 4, "nine seconds are above every bound");
    }
}
