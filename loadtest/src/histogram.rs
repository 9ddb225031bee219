//! Latencies in nanoseconds, kept with three digits and merged over processes. Pure.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A latency distribution. Travels between processes as its recorded values.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

/// Recorded values and their counts.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Recorded(Vec<(u64, u64)>);

/// The percentiles that reports show, in microseconds.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Percentiles {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        // An hour is longer than any run waits; three digits are the accuracy of the report.
        Latencies(Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("constant bounds"))
    }
}

impl Latencies {
    pub fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds.max(1));
    }

    pub fn clear(&mut self) {
        self.0.reset();
    }

    pub fn recorded(&self) -> Recorded {
        let values = self.0.iter_recorded();
        Recorded(values.map(|v| (v.value_iterated_to(), v.count_at_value())).collect())
    }

    pub fn merge(&mut self, other: &Recorded) {
        for (value, count) in &other.0 {
            self.0.saturating_record_n(*value, *count);
        }
    }

    /// The value below which `share` (0 to 1) of all are, in microseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }

    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            count: self.0.len(),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.0.max() as f64 / 1e3,
        }
    }

    /// Points of the percentile curve for a plot: number of nines, microseconds.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let shares = (0..=60).map(|step| f64::from(step) / 12.0);
        let most = (self.0.len().max(1) as f64).log10();
        let shares = shares.take_while(|nines| *nines <= most);
        shares.map(|nines| (nines, self.quantile(1.0 - 10f64.powf(-nines)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_equals_recording_in_one_place() {
        let (mut all, mut even, mut odd) =
            (Latencies::default(), Latencies::default(), Latencies::default());
        for value in 0..10_000u64 {
            let latency = value * value;
            all.record(latency);
            if value % 2 == 0 { even.record(latency) } else { odd.record(latency) }
        }
        let mut merged = Latencies::default();
        merged.merge(&even.recorded());
        merged.merge(&odd.recorded());
        for share in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
            assert_eq!(merged.quantile(share), all.quantile(share));
        }
        assert_eq!(merged.percentiles().count, 10_000);
    }

    #[test]
    fn an_empty_histogram_has_no_surprises() {
        let empty = Latencies::default();
        assert_eq!(empty.percentiles().count, 0);
        assert!(empty.curve().len() <= 1);
        assert!(empty.recorded().0.is_empty());
    }
}
