//! How often each operation was asked for, what came of it, and how long it took.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Counted by the threads of the API, shown by the admin listener.
#[derive(Default)]
pub(super) struct Stats(Mutex<BTreeMap<&'static str, Counts>>);

#[derive(Default)]
struct Counts {
    by_status: BTreeMap<u16, u64>,
    /// Of those that were carried out, not refused by their heads.
    carried_out: u64,
    time: Duration,
}

impl Stats {
    /// One answer of `operation`; `took` is how long that worked, if it was begun.
    pub(super) fn count(&self, operation: &'static str, status: u16, took: Option<Duration>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = counts.entry(operation).or_default();
        *counts.by_status.entry(status).or_default() += 1;
        counts.carried_out += u64::from(took.is_some());
        counts.time += took.unwrap_or_default();
    }

    /// All counts in the text exposition format of Prometheus, and how many idempotency `keys` are kept.
    pub(super) fn prometheus(&self, keys: u64) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = String::from(
            "# HELP imcore_api_requests_total Requests to the API, by operation and HTTP status.\n\
             # TYPE imcore_api_requests_total counter\n",
        );
        for (operation, Counts { by_status, .. }) in &*counts {
            for (status, count) in by_status {
                let labels = format!("operation=\"{operation}\",status=\"{status}\"");
                let _ = writeln!(page, "imcore_api_requests_total{{{labels}}} {count}");
            }
        }
        page += "# HELP imcore_api_request_seconds Time that the operations of the API took.\n\
                 # TYPE imcore_api_request_seconds summary\n";
        for (operation, Counts { carried_out, time, .. }) in &*counts {
            let label = format!("{{operation=\"{operation}\"}}");
            let sum = time.as_secs_f64();
            let _ = writeln!(page, "imcore_api_request_seconds_sum{label} {sum}");
            let _ = writeln!(page, "imcore_api_request_seconds_count{label} {carried_out}");
        }
        page += "# HELP imcore_idempotency_keys Idempotency keys that this node keeps in the broker.\n\
                 # TYPE imcore_idempotency_keys gauge\n";
        let _ = writeln!(page, "imcore_idempotency_keys {keys}");
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up() {
        let stats = Stats::default();
        stats.count("join", 204, Some(Duration::from_millis(500)));
        stats.count("join", 204, Some(Duration::from_millis(250)));
        stats.count("join", 401, None);
        let text = stats.prometheus(7);
        for line in [
            "imcore_api_requests_total{operation=\"join\",status=\"204\"} 2\n",
            "imcore_api_requests_total{operation=\"join\",status=\"401\"} 1\n",
            "imcore_api_request_seconds_sum{operation=\"join\"} 0.75\n",
            "imcore_idempotency_keys 7\n",
            "imcore_api_request_seconds_count{operation=\"join\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
