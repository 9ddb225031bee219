//! `Pace`: how often somebody may do something. Shared by all threads of `web`.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use crate::refusal::Refusal;

/// Those who are remembered; beyond it, who has been quiet for long enough is forgotten.
const MOST_KNOWN: usize = 10_000;

/// A number of actions at once, and then so many per second, for each key.
pub(crate) struct Pace<Key> {
    at_once: f64,
    per_second: f64,
    known: Mutex<HashMap<Key, Left>>,
}

#[derive(Clone, Copy)]
struct Left {
    actions: f64,
    at: Instant,
}

impl<Key: Eq + Hash> Pace<Key> {
    pub(crate) fn new(at_once: u32, per_second: u32) -> Self {
        let (at_once, per_second) = (f64::from(at_once), f64::from(per_second));
        Pace { at_once, per_second, known: Mutex::default() }
    }

    /// Counts one action of `key`, or refuses it.
    pub(crate) fn take(&self, key: Key) -> Result<(), Refusal> {
        self.take_at(key, Instant::now())
    }

    fn take_at(&self, key: Key, now: Instant) -> Result<(), Refusal> {
        let left_at = |left: &Left| {
            let passed = now.saturating_duration_since(left.at).as_secs_f64();
            (left.actions + passed * self.per_second).min(self.at_once)
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN && !known.contains_key(&key) {
            known.retain(|_, left| left_at(left) < self.at_once);
            if known.len() >= MOST_KNOWN {
                return Err(too_many());
            }
        }
        let left = known.entry(key).or_insert(Left { actions: self.at_once, at: now });
        let actions = left_at(left);
        if actions < 1.0 {
            return Err(too_many());
        }
        *left = Left { actions: actions - 1.0, at: now };
        Ok(())
    }
}

fn too_many() -> Refusal {
    Refusal::new(429, "That was too much at once; wait a moment.")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_a_pace_for_each() {
        let pace = Pace::new(2, 1);
        let now = Instant::now();
        assert!(pace.take_at(1, now).is_ok() && pace.take_at(1, now).is_ok());
        assert_eq!(pace.take_at(1, now).unwrap_err().status, 429);
        assert!(pace.take_at(2, now).is_ok());
        let later = now + Duration::from_secs(1);
        assert!(pace.take_at(1, later).is_ok());
        assert!(pace.take_at(1, later).is_err());
    }

    #[test]
    fn who_is_quiet_is_forgotten_when_it_gets_crowded() {
        let pace = Pace::new(1, 1);
        let now = Instant::now();
        for key in 0..MOST_KNOWN {
            assert!(pace.take_at(key, now).is_ok());
        }
        assert!(pace.take_at(MOST_KNOWN, now).is_err());
        assert!(pace.take_at(MOST_KNOWN, now + Duration::from_secs(1)).is_ok());
        assert_eq!(pace.known.lock().unwrap().len(), 1);
    }
}
