//! Pauses between attempts to reach a broker that is away: growing, jittered, interruptible.

use std::{
    hash::{BuildHasher, RandomState},
    thread,
    time::{Duration, Instant},
};

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
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { step: FIRST }
    }
}

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.step = FIRST;
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
