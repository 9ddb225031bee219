//! What became of this node's attempts to deliver, and how long they took: counted by the thread that delivers, shown by the admin listener.

use std::{
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What an attempt can come to, as metrics call it.
pub(super) const OUTCOMES: [&str; 3] = ["delivered", "failed", "gone"];

#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    /// In the order of [`OUTCOMES`].
    attempts: [u64; 3],
    /// Those that were delivered.
    events: u64,
    time: Duration,
}

impl Counts {
    /// One attempt to deliver so many events.
    #[cfg(feature = "webhooks")]
    pub(super) fn count(&self, outcome: &super::post::Outcome, events: u64, took: Duration) {
        use super::post::Outcome;
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [delivered, failed, gone] = &mut numbers.attempts;
        match outcome {
            Outcome::Delivered => *delivered += 1,
            Outcome::Failed(_) => *failed += 1,
            Outcome::Gone => *gone += 1,
        }
        if *outcome == Outcome::Delivered {
            numbers.events += events;
        }
        numbers.time += took;
    }

    /// In the text exposition format of Prometheus.
    pub(super) fn prometheus(&self) -> String {
        let numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Numbers { attempts, events, time } = &*numbers;
        let mut page = String::from(
            "# HELP imcore_webhook_attempts_total Messages that this node has posted, by what became of it.\n\
             # TYPE imcore_webhook_attempts_total counter\n",
        );
        for (outcome, count) in OUTCOMES.iter().zip(attempts) {
            let _ =
                writeln!(page, "imcore_webhook_attempts_total{{outcome=\"{outcome}\"}} {count}");
        }
        let (seconds, all) = (time.as_secs_f64(), attempts.iter().sum::<u64>());
        let _ = write!(
            page,
            "# HELP imcore_webhook_attempt_seconds Time that these attempts took.\n\
             # TYPE imcore_webhook_attempt_seconds summary\n\
             imcore_webhook_attempt_seconds_sum {seconds}\n\
             imcore_webhook_attempt_seconds_count {all}\n\
             # HELP imcore_webhook_events_total Events that this node has delivered.\n\
             # TYPE imcore_webhook_events_total counter\n\
             imcore_webhook_events_total {events}\n"
        );
        page
    }
}

#[cfg(all(test, feature = "webhooks"))]
mod tests {
    use super::{super::post::Outcome, *};

    #[test]
    fn attempts_are_counted_by_what_became_of_them() {
        let counts = Counts::default();
        let took = Duration::from_millis(250);
        counts.count(&Outcome::Delivered, 100, took);
        counts.count(&Outcome::Failed(String::from("status 500")), 7, took);
        counts.count(&Outcome::Failed(String::from("status 503")), 7, took);
        counts.count(&Outcome::Gone, 7, took);
        let page = counts.prometheus();
        for line in [
            "imcore_webhook_attempts_total{outcome=\"delivered\"} 1\n",
            "imcore_webhook_attempts_total{outcome=\"failed\"} 2\n",
            "imcore_webhook_attempts_total{outcome=\"gone\"} 1\n",
            "imcore_webhook_attempt_seconds_sum 1\n",
            "imcore_webhook_attempt_seconds_count 4\n",
            "imcore_webhook_events_total 100\n",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
