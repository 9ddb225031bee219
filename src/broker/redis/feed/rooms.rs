//! Whose members must be read again before a message, where nobody tells of those that .NET helpers join.
//!
//! Pure: it is told the time, and reads nothing. Owned by one feed. One channel is read once in a while however many
//! messages it has, and a large one less often: a reading takes Redis as long as all of its members are many.

use std::time::{Duration, Instant};

use ahash::AHashMap;

/// The least time between two readings of one channel.
const PAUSE: Duration = Duration::from_millis(200);

/// A reading that takes longer than a part of that in so many makes the pause longer in proportion.
const SHARE: u32 = 20;

/// The most that the pause becomes.
const LONGEST: Duration = Duration::from_secs(2);

/// Channels that are kept in mind before those are forgotten that could be read.
const MANY: usize = 1024;

/// Channels that had messages, and from when on each is to be read before the next.
#[derive(Default)]
pub(super) struct Rooms {
    next: AHashMap<String, Instant>,
    /// How many were left when some were last forgotten.
    kept: usize,
}

impl Rooms {
    /// Those of `channels` that are to be read now, each once.
    pub(super) fn due<'a>(
        &mut self,
        channels: impl Iterator<Item = &'a str>,
        now: Instant,
    ) -> Vec<String> {
        if self.next.len() > MANY + 2 * self.kept {
            self.next.retain(|_, next| *next > now);
            self.kept = self.next.len();
        }
        let mut due = Vec::new();
        for channel in channels {
            if self.next.get(channel).is_none_or(|next| *next <= now) {
                self.next.insert(channel.to_owned(), now + PAUSE);
                due.push(channel.to_owned());
            }
        }
        due
    }

    /// They were read, which began at `now` and took so long.
    pub(super) fn read(&mut self, channels: &[String], now: Instant, took: Duration) {
        let pause = (took * SHARE).clamp(PAUSE, LONGEST);
        for channel in channels {
            if let Some(next) = self.next.get_mut(channel) {
                *next = now + pause;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_channel_is_read_once_in_a_while() {
        let start = Instant::now();
        let mut rooms = Rooms::default();
        let mut due = |after: u32, names: &[&str]| {
            rooms.due(names.iter().copied(), start + after * MS).concat()
        };
        assert_eq!(due(0, &["a", "b", "a"]), "ab");
        assert_eq!(due(100, &["a", "c", "b"]), "c");
        assert_eq!(due(200, &["a", "c"]), "a");
        assert_eq!(due(399, &["a", "b", "c"]), "bc");
    }

    #[test]
    fn what_takes_long_is_read_less_often_but_read() {
        let start = Instant::now();
        let mut rooms = Rooms::default();
        for (took, pause) in [(5, 200), (50, 1000), (3000, 2000)] {
            let mut rooms = Rooms::default();
            let due = rooms.due(["a"].into_iter(), start);
            rooms.read(&due, start, took * MS);
            assert!(rooms.due(["a"].into_iter(), start + (pause - 1) * MS).is_empty());
            assert_eq!(rooms.due(["a"].into_iter(), start + pause * MS), ["a"]);
        }
        for number in 0..100_000 {
            rooms.due([number.to_string().as_str()].into_iter(), start + number * MS);
        }
        assert!(rooms.next.len() <= 2 * MANY, "{}", rooms.next.len());
    }
}
