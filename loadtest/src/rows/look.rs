//! Looks at a deployment at intervals, while others work with its clients.

use std::time::Duration;

use crate::{
    clock,
    cluster::Cluster,
    report::Sample,
    swarms::{State, Swarms, Watcher},
};

/// Time between two looks.
pub const LOOK: Duration = Duration::from_millis(500);

pub struct Look<'a> {
    cluster: &'a Cluster,
    watchers: Watchers,
    start: u64,
    /// Moment, CPU of the nodes and of Redis, deliveries.
    last: (u64, f64, f64, u64),
}

/// The counts of all clients.
pub struct Watchers(Vec<Watcher>);

impl Watchers {
    pub fn of<'a>(swarms: impl Iterator<Item = &'a Swarms>) -> Self {
        Watchers(swarms.map(Swarms::watcher).collect())
    }

    fn sum(&self, count: fn(&State) -> u64) -> u64 {
        self.0.iter().map(|watcher| watcher.look(count)).sum()
    }
}

impl<'a> Look<'a> {
    pub fn new(cluster: &'a Cluster, watchers: Watchers) -> Self {
        let now = clock::now();
        let last = (now, cluster.meter().cpu(), cluster.redis_meter().cpu(), 0);
        Look { cluster, watchers, start: now, last }
    }

    pub fn sample(&mut self) -> Sample {
        let meter = self.cluster.meter();
        let delivered = self.watchers.sum(State::delivered);
        let connections = self.watchers.sum(State::open);
        let now = (clock::now(), meter.cpu(), self.cluster.redis_meter().cpu(), delivered);
        let passed = (now.0 - self.last.0).max(1) as f64;
        let sample = Sample {
            second: (now.0 - self.start) as f64 / 1e9,
            server_cores: (now.1 - self.last.1) / passed,
            redis_cores: (now.2 - self.last.2) / passed,
            rss_mib: meter.memory().rss / 1048576.0,
            deliveries_per_second: now.3.saturating_sub(self.last.3) as f64 * 1e9 / passed,
            connections: connections as f64,
            nodes: meter.holdings(),
        };
        self.last = now;
        sample
    }
}
