//! How many handshakes were refused, as one line a minute: single ones are logged at `debug` only, since
//! whoever knocks could fill the disk otherwise. Called by the watch thread at each of its looks.

use std::time::{Duration, Instant};

/// Pause between two lines.
const PAUSE: Duration = Duration::from_secs(60);

/// What was said last.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    said: Option<Instant>,
    counts: Vec<(String, u64)>,
}

impl Refusals {
    /// What to say now that so many were refused since the start, for each status or reason: at once after
    /// a quiet minute, and otherwise at the end of each.
    pub(crate) fn look(&mut self, counts: Vec<(String, u64)>, now: Instant) -> Option<String> {
        let since = self.said.map(|said| now.saturating_duration_since(said));
        if since.is_some_and(|since| since < PAUSE) {
            return None;
        }
        let before = |name: &String| {
            self.counts.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count)
        };
        let new = counts.iter().filter_map(|(name, count)| {
            let more = count.saturating_sub(before(name));
            (more > 0).then(|| format!("{name}: {more}"))
        });
        let new = new.collect::<Vec<_>>().join(", ");
        if new.is_empty() {
            return None;
        }
        self.counts = counts;
        self.said = Some(now);
        Some(format!("handshakes refused since this was said last, by status: {new}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_minute_and_only_if_there_is_news() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let mut look = |counts: &[(&str, u64)], seconds| {
            let counts = counts.iter().map(|(name, count)| (name.to_string(), *count)).collect();
            let said = refusals.look(counts, start + Duration::from_secs(seconds));
            said.map(|text| text.split_once("status: ").unwrap().1.to_owned())
        };
        assert_eq!(look(&[("401", 0)], 0), None);
        assert_eq!(look(&[("401", 2)], 5).as_deref(), Some("401: 2"));
        assert_eq!(look(&[("401", 9), ("429", 1)], 64), None);
        assert_eq!(look(&[("401", 9), ("429", 1)], 65).as_deref(), Some("401: 7, 429: 1"));
        assert_eq!(look(&[("401", 9), ("429", 1)], 200), None);
        assert_eq!(look(&[("401", 9), ("429", 2)], 201).as_deref(), Some("429: 1"));
    }
}
