//! When a message was published, or came to the node, in a few bytes of its frame; and how long messages took from there until they
//! were written.
//!
//! The feed asks for the moment once a message, a reactor once a turn that wrote something: messages of one moment, as one to many
//! is, are counted together.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A step of the clock: so a message that has waited for a day is still told from one that has just come.
const STEP_MICROS: u32 = 50;
/// A publication further back is not told from one to come.
const OLDEST: Duration = Duration::from_secs(24 * 3600);
/// Numbers of a log from this one on are microseconds since 1970, by its Redis: no log of ours is from before 2001.
const LEAST_TIME: u64 = 1_000_000_000_000_000;

/// Where the time of a message begins, or that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Since {
    /// In steps; 0 is no moment.
    at: u32,
    /// Whether it was published then, or else came to this node.
    is_published: bool,
}

/// The clock that the threads of a node have in common.
#[derive(Debug)]
pub(crate) struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Clock(Instant::now())
    }
}

impl Clock {
    /// Of a message that comes now, under this number if a log has it.
    pub(crate) fn since(&self, number: Option<u64>) -> Since {
        let now = self.now();
        match number.and_then(age) {
            Some(age) => Since { at: now.wrapping_sub(steps(age)).max(1), is_published: true },
            None => Since { at: now, is_published: false },
        }
    }

    /// The moment now, in steps. It goes round after some 59 hours.
    pub(crate) fn now(&self) -> u32 {
        steps(self.0.elapsed()).max(1)
    }
}

fn steps(time: Duration) -> u32 {
    (time.as_micros() / u128::from(STEP_MICROS)) as u32
}

/// How long ago a message was published that a log has under this number; none if the clocks of Redis and node say later than now.
fn age(number: u64) -> Option<Duration> {
    let published = (number >= LEAST_TIME).then(|| Duration::from_micros(number))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(now.saturating_sub(published)).filter(|age| *age < OLDEST)
}

/// Messages that were written: since when they took how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) time: Duration,
    pub(crate) is_published: bool,
    pub(crate) messages: u64,
}

/// Since when those messages were under way that were written, those of one moment together.
#[derive(Debug, Default)]
pub(crate) struct Waits(Vec<(Since, u32)>);

impl Waits {
    pub(crate) fn add(&mut self, since: Since) {
        match self.0.last_mut() {
            Some((last, count)) if *last == since => *count += 1,
            _ if since == Since::default() => {}
            _ => self.0.push((since, 1)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives them back, written `now`.
    pub(crate) fn take(&mut self, now: u32) -> impl Iterator<Item = Wait> {
        self.0.drain(..).map(move |(Since { at, is_published }, count)| {
            let micros = u64::from(now.wrapping_sub(at)) * u64::from(STEP_MICROS);
            Wait { time: Duration::from_micros(micros), is_published, messages: count.into() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_one_moment_are_counted_together() {
        let mut waits = Waits::default();
        let since = |at| Since { at, is_published: false };
        [7, 7, 0, 9, 7].into_iter().for_each(|at| waits.add(since(at)));
        let wait = |micros, messages| {
            let time = Duration::from_micros(micros);
            Wait { time, is_published: false, messages }
        };
        let all: Vec<_> = waits.take(9).collect();
        assert_eq!(all, [wait(100, 2), wait(0, 1), wait(100, 1)]);
        assert!(waits.is_empty());
        // The clock has gone round meanwhile.
        waits.add(since(u32::MAX));
        assert_eq!(waits.take(3).next(), Some(wait(200, 1)));
    }

    #[test]
    fn the_number_of_a_log_says_when_a_message_was_published() {
        let clock = Clock::default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        let mut waits = Waits::default();
        let mut wait = |number| {
            waits.add(clock.since(number));
            waits.take(clock.now()).next().unwrap()
        };
        let logged = wait(Some(now - 3_000_000));
        assert!(logged.is_published && logged.time >= Duration::from_secs(2), "{logged:?}");
        // Of a Redis whose clock is ahead.
        assert!(wait(Some(now + 9_000_000)).is_published);
        // Not of this kind, or of no time that can be believed.
        for number in [None, Some(7), Some(now - 100_000_000_000)] {
            assert!(!wait(number).is_published, "{number:?}");
        }
    }
}
