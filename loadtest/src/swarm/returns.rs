//! When clients that are away try again, and when an attempt of theirs is given up.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use super::pause::{Failures, Hint, pause};

/// Longest attempt of a client that comes back, from its connect on.
pub const ATTEMPT: Duration = Duration::from_secs(10);

/// What is due for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Ask for an address.
    Address,
    /// Ask for its rooms once more.
    Join,
    /// Give up the attempt with this number, if it still goes on.
    GiveUp(u64),
}

/// What is due, by its moment.
#[derive(Default)]
pub struct Returns {
    due: BinaryHeap<Reverse<(u64, usize, Step)>>,
    attempts: u64,
    random: RandomState,
    drawn: u64,
}

impl Returns {
    /// `key` is to take `step` after a pause that suits so many failures in a row, and what the close asked for.
    pub fn after_pause(
        &mut self,
        now: u64,
        key: usize,
        step: Step,
        again: (Failures, Option<Hint>),
    ) {
        let (failures, hint) = again;
        let pause = pause(failures, hint, self.chance());
        self.due.push(Reverse((now + pause.as_nanos() as u64, key, step)));
    }

    /// An attempt of `key` begins, and is to be given up in time; its number.
    pub fn limit(&mut self, now: u64, key: usize) -> u64 {
        self.attempts += 1;
        let step = Step::GiveUp(self.attempts);
        self.due.push(Reverse((now + ATTEMPT.as_nanos() as u64, key, step)));
        self.attempts
    }

    pub fn next_due(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due, ..))| *due)
    }

    /// What is due by now, one after the other.
    pub fn take(&mut self, now: u64) -> Option<(usize, Step)> {
        if self.next_due()? > now {
            return None;
        }
        self.due.pop().map(|Reverse((_, key, step))| (key, step))
    }

    /// A number from 0 to 1, other ones in each process.
    pub fn chance(&mut self) -> f64 {
        self.drawn += 1;
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.drawn);
        (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_its_order_and_pauses_differ() {
        let mut returns = Returns::default();
        for key in 0..1000 {
            returns.after_pause(0, key, Step::Address, Default::default());
        }
        assert_eq!(returns.take(0), None);
        let mut seen = Vec::new();
        for now in (0..=2_500).map(|ms| ms * 1_000_000) {
            while let Some((key, _)) = returns.take(now) {
                seen.push((now, key));
            }
        }
        assert_eq!(seen.len(), 1000);
        let early = seen.iter().filter(|(now, _)| *now < 1_250_000_000).count();
        assert!((350..650).contains(&early), "{early} of 1000 in the first half");
    }
}
