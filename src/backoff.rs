//! Pauses between attempts to reach a broker that is away: growing, jittered, interruptible.

use std::{
    hash::{BuildHasher, RandomState},
    thread,
    time::{Duration, Instant},
};

use crate::error::Error;

const FIRST: Duration = Duration::from_millis(50);
/// Bounds the time until a recovered broker is noticed.
pub(crate) const LONGEST: Duration = Duration::from_secs(2);
/// How long an interruption may be overlooked.
const CHECK: Duration = Duration::from_millis(50);

/// Doubles from 50 ms to 2 s; each pause is drawn from the upper half of its step, so that many
/// processes do not return in one wave.
#[derive(Debug)]
pub(crate) struct Backoff {
    step: Duration,
    reasons: Reasons,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { step: FIRST, reasons: Reasons::default() }
    }
}

/// The reasons that were given for one outage.
#[derive(Debug, Default)]
pub(crate) struct Reasons(Vec<String>);

/// Most reasons that are told apart: some texts differ each time.
const REASONS: usize = 8;

impl Reasons {
    /// Whether `error` gives another reason than those before.
    pub(crate) fn are_new(&mut self, error: &Error) -> bool {
        let text = error.to_string();
        let new = self.0.len() < REASONS && !self.0.contains(&text);
        if new {
            self.0.push(text);
        }
        new
    }

    /// The outage is over.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.step = FIRST;
        self.reasons.clear();
    }

    /// Whether this reason was not given yet since the last success: what is said of an outage is each of its
    /// reasons, once.
    pub(crate) fn is_news(&mut self, error: &Error) -> bool {
        self.reasons.are_new(error)
    }

    /// Whether no pause has been made since the last success.
    pub(crate) fn is_first(&self) -> bool {
        self.step == FIRST
    }

    /// The length of the next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(LONGEST);
        // A fresh `RandomState` is random per call; no better randomness is needed for jitter.
        let random = RandomState::new().hash_one(0u8) as u32;
        step / 2 + (step / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Pauses, or returns soon after `interrupted` says so.
    pub(crate) fn sleep(&mut self, interrupted: impl Fn() -> bool) {
        let until = Instant::now() + self.next();
        while !interrupted() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(CHECK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_of_an_outage_is_said_once() {
        let mut backoff = Backoff::default();
        let mut is_news = |text: &str| backoff.is_news(&Error::config(text));
        assert!(is_news("broke") && is_news("refused"));
        assert!(!is_news("broke") && !is_news("refused"));
        assert!((0..100).filter(|n| is_news(&n.to_string())).count() < REASONS);
        backoff.reset();
        assert!(backoff.is_news(&Error::config("broke")), "another outage");
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        assert!(backoff.is_first());
        for _ in 0..20 {
            assert!(backoff.next() <= LONGEST);
        }
        assert!(backoff.next() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
