//! Delivery by webhooks within one process: whose turn it is, how it goes, and dead letters.
//!
//! Kept in `State`, under the broker's mutex. Waits for nothing; the time of day is its own, as the broker's is on Redis.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime},
};

use crate::broker::contract::{DEAD_LETTERS, DeadLetter, Page, WebhookState, WebhookTurn};

#[derive(Default)]
pub(super) struct WebhookBook {
    turn: Option<(String, Instant)>,
    /// As it is told, but for what is counted when it is asked for.
    state: WebhookState,
    was_held: bool,
    letters: BTreeMap<String, DeadLetter>,
    replays: BTreeSet<String>,
}

impl WebhookBook {
    pub(super) fn hold(&mut self, holder: &str, life: Duration, now: Instant) -> WebhookTurn {
        let held = self.holder(now).is_none_or(|other| other == holder);
        if held {
            self.turn = Some((holder.to_owned(), now + life));
            self.was_held = true;
        }
        let (is_off, has_replay) = (self.state.off.is_some(), !self.replays.is_empty());
        WebhookTurn { held, is_off, has_replay, now: today() }
    }

    pub(super) fn release(&mut self, holder: &str, now: Instant) {
        if self.holder(now) == Some(holder) {
            self.turn = None;
        }
    }

    fn holder(&self, now: Instant) -> Option<&str> {
        let (holder, until) = self.turn.as_ref()?;
        (*until > now).then_some(&**holder)
    }

    pub(super) fn note(&mut self, holder: &str, failure: Option<&str>, now: Instant) {
        if self.holder(now) != Some(holder) {
            return;
        }
        let state = &mut self.state;
        match failure {
            Some(why) => {
                state.failures += 1;
                state.failing_since.get_or_insert_with(today);
                state.last_failure = Some((why.to_owned(), today()));
            }
            None => {
                (state.failures, state.failing_since) = (0, None);
                state.last_success = Some(today());
            }
        }
    }

    pub(super) fn switch(&mut self, off: Option<&str>) {
        self.state.off = off.map(|why| (why.to_owned(), today()));
    }

    pub(super) fn state(&self, now: Instant) -> Option<WebhookState> {
        self.was_held.then(|| WebhookState {
            holder: self.holder(now).map(str::to_owned),
            dead_letters: self.letters.len() as u64,
            replaying: self.replays.len() as u64,
            ..self.state.clone()
        })
    }

    pub(super) fn bury(&mut self, letter: &DeadLetter) {
        let letter = DeadLetter { ms: today(), replaying: false, ..letter.clone() };
        self.letters.insert(letter.id.clone(), letter);
        while self.letters.len() > DEAD_LETTERS {
            if let Some((id, _)) = self.letters.pop_first() {
                self.replays.remove(&id);
                self.state.dropped += 1;
            }
        }
    }

    pub(super) fn letters(&self, after: Option<&str>, limit: usize) -> Page<DeadLetter> {
        let after = after.unwrap_or_default();
        let mut rest = self.letters.values().filter(|letter| *letter.id > *after);
        let told = |letter: &DeadLetter| DeadLetter { body: String::new(), ..self.told(letter) };
        let items: Vec<_> = rest.by_ref().take(limit.max(1)).map(told).collect();
        let next = rest.next().and(items.last()).map(|letter| letter.id.clone());
        Page { items, next, total: self.letters.len() as u64 }
    }

    pub(super) fn letter(&self, id: &str) -> Option<DeadLetter> {
        self.letters.get(id).map(|letter| self.told(letter))
    }

    fn told(&self, letter: &DeadLetter) -> DeadLetter {
        DeadLetter { replaying: self.replays.contains(&letter.id), ..letter.clone() }
    }

    /// Those of `ids` that there are; all, if none is named.
    fn named(&self, ids: &[String]) -> Vec<String> {
        match ids {
            [] => self.letters.keys().cloned().collect(),
            ids => ids.iter().filter(|id| self.letters.contains_key(*id)).cloned().collect(),
        }
    }

    pub(super) fn replay(&mut self, ids: &[String]) -> usize {
        let named = self.named(ids);
        let count = named.len();
        self.replays.extend(named);
        count
    }

    pub(super) fn next_replay(&self) -> Option<DeadLetter> {
        self.letter(self.replays.first()?)
    }

    pub(super) fn settle_replay(&mut self, id: &str, delivered: bool) {
        self.replays.remove(id);
        if delivered {
            self.letters.remove(id);
        }
    }

    pub(super) fn discard(&mut self, ids: &[String]) -> usize {
        let named = self.named(ids);
        for id in &named {
            self.settle_replay(id, true);
        }
        named.len()
    }
}

/// Milliseconds since 1970.
fn today() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
