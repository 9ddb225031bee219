//! When a failed attempt is made again. Pure.

use std::time::Duration;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(300);

/// Pauses that double from the first up to five minutes, each up to a quarter longer by chance.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
}

impl Retry {
    /// The pause after one more failure; `chance` is any number.
    pub(super) fn pause(&mut self, first: Duration, chance: u64) -> Duration {
        let step = first.saturating_mul(1 << self.failures.min(30)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        step + step.mul_f64(chance as f64 / u64::MAX as f64 / 4.0)
    }

    /// Whether attempts fail, and thus for how many in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let (mut retry, second) = (Retry::default(), Duration::from_secs(1));
        let pauses: Vec<_> = (0..11).map(|_| retry.pause(second, 0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        retry.failures = u32::MAX;
        assert_eq!(retry.pause(second, u64::MAX), Duration::from_secs(375));
        retry.succeed();
        assert_eq!(retry.pause(Duration::from_millis(8), u64::MAX), Duration::from_millis(10));
    }
}
