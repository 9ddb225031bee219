//! How long messages take from the sender to clients that are in, while nothing is done to the nodes and while something is.
//! Kept by the swarm, read by the run at the end.

use crate::{histogram::Latencies, report::Row};

#[derive(Default)]
pub struct Delays {
    quiet: Latencies,
    fault: Latencies,
}

impl Delays {
    /// A message is here that was sent while its receiver was in.
    pub fn add(&mut self, nanoseconds: u64, amid_fault: bool) {
        let delays = if amid_fault { &mut self.fault } else { &mut self.quiet };
        delays.record(nanoseconds);
    }

    /// What the row says of them; `most`: the ratio that is promised.
    pub fn state(&self, row: &mut Row, most: Option<f64>) {
        let [quiet, fault] = [&self.quiet, &self.fault].map(|delays| delays.quantile(0.99) / 1e3);
        if self.fault.percentiles().count == 0 {
            return;
        }
        row.figure("p99 to clients that are in, while nothing is done", "ms", None, vec![quiet]);
        row.figure("p99 to clients that are in, amid faults", "ms", None, vec![fault]);
        row.figure("amid faults / while nothing is done", "", most, vec![fault / quiet]);
    }
}
