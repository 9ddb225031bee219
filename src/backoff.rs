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
/// What works for so long halves the next pause.
const HALVES: Duration = Duration::from_secs(1);
/// How long an interruption may be overlooked.
const CHECK: Duration = Duration::from_millis(50);

/// Doubles from 50 ms to 2 s; each pause is drawn from the upper half of its step, so that many
/// processes do not return in one wave.
#[derive(Debug)]
pub(crate) struct Backoff {
    step: Duration,
    reasons: Reasons,
    /// Since when it works, or when the pause was halved last.
    works_since: Option<Instant>,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { step: FIRST, reasons: Reasons::default(), works_since: None }
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
        self.works_since = None;
    }

    /// It works at this moment. The next pause shrinks with the time for which it does, not with one success:
    /// a broker that lets us in and turns us out is not back. True once, when the outage is over.
    pub(crate) fn works(&mut self, now: Instant) -> bool {
        if self.is_first() {
            return false;
        }
        let since = *self.works_since.get_or_insert(now);
        if now.saturating_duration_since(since) < HALVES {
            return false;
        }
        self.works_since = Some(now);
        self.step = (self.step / 2).max(FIRST);
        if self.is_first() {
            self.reset();
        }
        self.is_first()
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
        self.works_since = None;
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
        let mut is_news = |text: &str| backoff.is_news(&Error::argument(text));
        assert!(is_news("broke") && is_news("refused"));
        assert!(!is_news("broke") && !is_news("refused"));
        assert!((0..100).filter(|n| is_news(&n.to_string())).count() < REASONS);
        backoff.reset();
        assert!(backoff.is_news(&Error::argument("broke")), "another outage");
    }

    #[test]
    fn pauses_shrink_with_the_time_for_which_it_works() {
        let mut backoff = Backoff::default();
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        assert!(!backoff.works(begin), "there was no outage");
        for _ in 0..20 {
            backoff.next();
            assert!(!backoff.works(at(0)) && !backoff.works(at(999)));
        }
        assert!(backoff.next() >= LONGEST / 2, "successes alone shorten nothing");
        let over = (0..100).find(|tenth| backoff.works(at(2_000 + tenth * 100))).unwrap();
        assert!((50..70).contains(&over), "{over}");
        assert!(backoff.is_first() && !backoff.works(at(60_000)), "told once");
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
