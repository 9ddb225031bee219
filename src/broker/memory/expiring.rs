//! Texts that vanish after a while. Kept in `State`, under the broker's mutex; takes the time as an
//! argument.

use std::time::{Duration, Instant};

use ahash::AHashMap;

/// What has expired is looked for only when at least so many texts are stored.
const PURGE_AT_LEAST: usize = 1024;

/// Texts by key, each until its time.
#[derive(Default)]
pub(super) struct Expiring {
    texts: AHashMap<String, (Box<str>, Instant)>,
    purge_at: usize,
}

impl Expiring {
    pub(super) fn put(&mut self, key: &str, text: &str, now: Instant, life: Duration) {
        if self.texts.len() >= self.purge_at.max(PURGE_AT_LEAST) {
            self.texts.retain(|_, (_, until)| now < *until);
            // Doubling keeps the cost per text constant and the memory within twice the live ones.
            self.purge_at = 2 * self.texts.len();
        }
        self.texts.insert(key.into(), (text.into(), now + life));
    }

    pub(super) fn get(&self, key: &str, now: Instant) -> Option<&str> {
        let (text, until) = self.texts.get(key)?;
        (now < *until).then_some(&**text)
    }

    /// The text, and how long it would have stayed.
    pub(super) fn take(&mut self, key: &str, now: Instant) -> Option<(String, Duration)> {
        let (text, until) = self.texts.remove(key)?;
        (now < until).then(|| (text.into(), until - now))
    }

    /// Takes out all keys that are unwanted, and gives them. Looks at each that is stored.
    pub(super) fn remove_all(&mut self, unwanted: impl Fn(&str) -> bool) -> Vec<String> {
        let keys: Vec<_> = self.texts.keys().filter(|key| unwanted(key)).cloned().collect();
        keys.iter().for_each(|key| drop(self.texts.remove(key)));
        keys
    }
}
