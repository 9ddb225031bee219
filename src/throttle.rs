//! Log lines that peers or outages can cause by the thousand: one of each kind a minute, with the count of
//! the others.
//!
//! Called by whoever logs, library and program alike; knows nothing of what is logged.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a kind of line is held back after it was said.
const PAUSE: Duration = Duration::from_secs(60);
/// How long a count is kept for a kind that does not come again, once there are too many kinds.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Kinds that are told apart at a time: what names a kind may come from a peer. The others share one.
const KINDS: usize = 64;
/// The kind of all that are too many.
const OTHERS: &str = "";

/// Says which lines of one place in the code may be logged; usually a `static` beside that place.
///
/// ```
/// use imcore::throttle::Throttle;
///
/// static REFUSED: Throttle = Throttle::new();
///
/// for _ in 0..1000 {
///     if let Some(more) = REFUSED.admit("401") {
///         log::warn!("a handshake was refused with 401{more}"); // once
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct Throttle(Mutex<Vec<Kind>>);

#[derive(Debug)]
struct Kind {
    name: String,
    said: Instant,
    held_back: u64,
}

/// How many lines of the same kind were held back; displayed behind the line, nothing if there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBack {
    /// Lines that were not logged since the last one that was.
    pub count: u64,
    /// How long ago that was.
    pub over: Duration,
}

impl Throttle {
    /// A throttle that has said nothing yet.
    pub const fn new() -> Self {
        Throttle(Mutex::new(Vec::new()))
    }

    /// Whether a line of the kind called `kind` may be logged now: at once the first time, then once a
    /// minute. `None`: it is counted instead. Takes a lock for a moment, makes no system call but for the time.
    pub fn admit(&self, kind: &str) -> Option<HeldBack> {
        self.admit_at(kind, Instant::now())
    }

    fn admit_at(&self, kind: &str, now: Instant) -> Option<HeldBack> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= KINDS && !kinds.iter().any(|known| known.name == kind) {
            kinds.retain(|known| {
                let age = now.saturating_duration_since(known.said);
                age < PAUSE || (known.held_back > 0 && age < FORGOTTEN)
            });
        }
        let is_known = kinds.iter().any(|known| known.name == kind);
        let kind = if is_known || kinds.len() < KINDS { kind } else { OTHERS };
        let Some(known) = kinds.iter_mut().find(|known| known.name == kind) else {
            kinds.push(Kind { name: kind.to_owned(), said: now, held_back: 0 });
            return Some(HeldBack { count: 0, over: Duration::ZERO });
        };
        let over = now.saturating_duration_since(known.said);
        if over < PAUSE {
            known.held_back += 1;
            return None;
        }
        known.said = now;
        Some(HeldBack { count: std::mem::take(&mut known.held_back), over })
    }
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 => Ok(()),
            count => write!(f, " ({count} more in the last {} s)", self.over.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_once_a_minute_with_the_count() {
        let throttle = Throttle::new();
        let start = Instant::now();
        let at = |kind, seconds| {
            let more = throttle.admit_at(kind, start + Duration::from_secs(seconds));
            more.map(|more| more.to_string())
        };
        assert_eq!(at("a", 0).as_deref(), Some(""));
        assert_eq!(at("b", 0).as_deref(), Some(""), "another kind is another line");
        assert_eq!((at("a", 1), at("a", 59)), (None, None));
        assert_eq!(at("a", 61).as_deref(), Some(" (2 more in the last 61 s)"));
        assert_eq!(at("a", 62), None);
        assert_eq!(at("b", 200).as_deref(), Some(""));
    }

    #[test]
    fn kinds_without_end_cost_neither_memory_nor_lines() {
        let throttle = Throttle::new();
        let start = Instant::now();
        let said = (0..10_000).filter(|n| throttle.admit_at(&n.to_string(), start).is_some());
        assert_eq!(said.count(), KINDS + 1);
        let later = start + PAUSE;
        assert_eq!(throttle.admit_at("new", later).map(|more| more.count), Some(0), "room again");
        assert!(throttle.0.lock().unwrap().len() <= KINDS + 1);
    }
}
