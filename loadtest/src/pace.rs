//! Open loop: things happen at their scheduled moments, whether or not earlier ones are answered.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{clock, orders::Schedule};

/// How well a rate was held.
#[derive(Debug, Default, Clone, Copy)]
pub struct Pace {
    pub sent: u64,
    /// When the first was due, and nanoseconds between two.
    pub start: u64,
    pub step: f64,
    /// How much later than due the middle message went out, in nanoseconds.
    pub median_lateness: u64,
    /// The same of the latest one.
    pub worst_lateness: u64,
}

impl Pace {
    /// Lateness of the middle message from which on the sender is what was measured. A deployment that stands
    /// still for a while makes single messages late, and that is a result; a sender that is too slow makes
    /// them all late.
    const TOO_LATE: u64 = 2_000_000;

    /// When those with the indices `offset`, `offset + every`, ... were sent.
    pub fn schedule(&self, offset: u64, every: u64) -> Schedule {
        Schedule {
            first: self.start + (offset as f64 * self.step) as u64,
            step: every as f64 * self.step,
            late: self.worst_lateness,
        }
    }

    /// Why this is no result; `None` if it is one.
    pub fn excuse(&self) -> Option<String> {
        let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        (self.median_lateness > Self::TOO_LATE).then(|| {
            format!(
                "not a result: the generator was late, half of {} sends by more than {:.1} ms, the last by \
                 {:.1} ms; ask for a lower rate",
                self.sent,
                milliseconds(self.median_lateness),
                milliseconds(self.worst_lateness)
            )
        })
    }
}

/// Calls `send` with index and scheduled moment, `rate` times a second for `seconds`.
///
/// One that is late is followed at once by the next, and its lateness counts as latency because it is
/// the scheduled moment that is passed on.
pub fn open_loop(
    rate: f64,
    seconds: f64,
    mut send: impl FnMut(u64, u64) -> Result<(), String>,
) -> Result<Pace, String> {
    // The default slack of 50 us would be measured as latency of the server.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let count = (rate * seconds).round() as u64;
    let mut lateness = Vec::with_capacity(count as usize);
    let step = 1e9 / rate;
    let start = clock::now();
    for index in 0..count {
        let due = start + (index as f64 * step) as u64;
        let ahead = due.saturating_sub(clock::now());
        if ahead > 0 {
            thread::sleep(Duration::from_nanos(ahead));
        }
        lateness.push(clock::now().saturating_sub(due));
        send(index, due)?;
    }
    lateness.sort_unstable();
    Ok(Pace {
        sent: count,
        start,
        step,
        median_lateness: lateness.get(lateness.len() / 2).copied().unwrap_or_default(),
        worst_lateness: lateness.last().copied().unwrap_or_default(),
    })
}

/// Sleeps until `deadline` in steps, calling `step` at each.
pub fn until(
    deadline: Instant,
    every: Duration,
    mut step: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    while Instant::now() < deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        thread::sleep(every.min(left));
        step()?;
    }
    Ok(())
}

/// Asks again until the answer is yes, for so long at most.
pub fn wait(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<(), String> {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() > deadline {
            return Err(format!("still not after {patience:?}: {what}"));
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sender_that_is_always_late_has_an_excuse() {
        let outage = Pace {
            sent: 100,
            median_lateness: 10_000,
            worst_lateness: 1_000_000_000,
            ..Pace::default()
        };
        assert_eq!(outage.excuse(), None);
        let slow = Pace { median_lateness: 500_000_000, ..outage };
        assert!(slow.excuse().is_some_and(|excuse| excuse.contains("not a result")));
    }

    #[test]
    fn what_cannot_be_sent_in_time_is_told() {
        let pace = open_loop(1e6, 1e-3, |_, _| {
            thread::sleep(Duration::from_micros(50));
            Ok(())
        });
        assert!(pace.unwrap().excuse().is_some());
    }
}
