//! What all who publish over one broker know of the log: which nodes can read it, and whether it took everything.
//!
//! Shared by threads; kept in the backend, used by `append`. Knows no connection and is told the time.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long it is believed that no node of this library serves a name, and that one does.
const RECHECK_ABSENT: Duration = Duration::from_secs(1);
const RECHECK_SERVED: Duration = Duration::from_secs(60);

/// How long a node that has served its name may have no session until the name is taken for another's: a Redis that was
/// emptied has none until its nodes stand again, and what is sent meanwhile belongs into the log all the same.
const RETURN: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Appending {
    nodes: Mutex<HashMap<String, Found>>,
    /// How often the log was refused, and up to which of them the log knows of it.
    refused: AtomicU64,
    noted: AtomicU64,
    logged: Mutex<Logged>,
}

/// What is known of a node.
struct Found {
    /// Whether it is of this library.
    is_served: bool,
    /// When it was looked for.
    at: Instant,
    /// Since when it is missing, although it serves.
    missing: Option<Instant>,
}

/// What was logged last, and where.
#[derive(Default)]
struct Logged {
    /// Number of the server.
    term: u64,
    /// Number of the message there; 0: none yet.
    last: u64,
    /// Up to this number something was logged with former servers, of which the log of now may not know; 0: nothing.
    astray: u64,
}

impl Appending {
    fn nodes(&self) -> MutexGuard<'_, HashMap<String, Found>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a node of this library serves `node`; it was [found out](Self::found) before.
    pub(super) fn is_served(&self, node: &str) -> bool {
        self.nodes().get(node).is_some_and(|found| found.is_served)
    }

    /// Those of `nodes` of which that must be found out, again or for the first time. Others who ask meanwhile go on
    /// with what is known.
    pub(super) fn stale<'a>(
        &self,
        nodes: impl Iterator<Item = &'a str>,
        now: Instant,
    ) -> Vec<&'a str> {
        let mut known = self.nodes();
        let mut stale = Vec::new();
        let mut last = "";
        for node in nodes {
            if std::mem::replace(&mut last, node) == node || stale.contains(&node) {
                continue;
            }
            match known.get_mut(node) {
                Some(found) => {
                    let is_sure = found.is_served && found.missing.is_none();
                    let life = if is_sure { RECHECK_SERVED } else { RECHECK_ABSENT };
                    if now >= found.at + life {
                        found.at = now;
                        stale.push(node);
                    }
                }
                None => stale.push(node),
            }
        }
        stale
    }

    /// Whether `node` has a session; true if it is news that nothing of this library serves it.
    pub(super) fn found(&self, node: &str, has_session: bool, now: Instant) -> bool {
        let mut known = self.nodes();
        let before = known.get(node);
        let served = before.filter(|before| before.is_served);
        let missing = match served {
            Some(before) if !has_session => before.missing.or(Some(now)),
            _ => None,
        };
        let is_served = has_session || missing.is_some_and(|since| now < since + RETURN);
        let is_news = !is_served && before.is_none_or(|before| before.is_served);
        known.insert(node.to_owned(), Found { is_served, at: now, missing });
        is_news
    }

    /// Up to which number something was logged with a server that came before that of `term`; 0 if nothing was.
    pub(super) fn astray(&self, term: u64) -> u64 {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if term > logged.term {
            *logged = Logged { term, last: 0, astray: logged.astray.max(logged.last) };
        }
        logged.astray
    }

    /// All up to `number` was logged with the server of `term`, and that its log knows of what went `astray`.
    pub(super) fn logged(&self, term: u64, number: u64, astray: u64) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if term < logged.term {
            // The answer came after somebody has found the next server.
            logged.astray = logged.astray.max(number);
            return;
        }
        logged.last = logged.last.max(number);
        if logged.astray <= astray {
            logged.astray = 0;
        }
    }

    /// How often the log was refused, if it does not know of all of them.
    pub(super) fn unnoted(&self) -> Option<u64> {
        let refused = self.refused.load(Ordering::Acquire);
        (self.noted.load(Ordering::Acquire) < refused).then_some(refused)
    }

    /// The log knows of those refusals.
    pub(super) fn note(&self, refused: u64) {
        self.noted.fetch_max(refused, Ordering::AcqRel);
    }

    /// Something was published that the log refused.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_served_is_looked_for_again_soon() {
        let (appending, now) = (Appending::default(), Instant::now());
        let stale = |after: u64| {
            let later = now + Duration::from_millis(after);
            appending.stale(["a", "a", "b", "a"].into_iter(), later)
        };
        assert_eq!(stale(0), ["a", "b"]);
        assert!(!appending.found("a", true, now) && appending.found("b", false, now));
        assert!(appending.is_served("a") && !appending.is_served("b"));
        assert!(stale(999).is_empty());
        assert_eq!(stale(1000), ["b"]);
        assert!(stale(1001).is_empty(), "one looks for all");
        assert!(!appending.found("b", false, now), "that was said");
        assert_eq!(stale(60_000), ["a", "b"]);
    }

    #[test]
    fn who_has_served_may_be_missing_for_a_while() {
        let (appending, now) = (Appending::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        appending.found("a", true, now);
        assert!(!appending.found("a", false, after(60)) && appending.is_served("a"));
        assert_eq!(appending.stale(["a"].into_iter(), after(61)), ["a"], "it is looked for soon");
        assert!(!appending.found("a", true, after(61)));
        assert!(!appending.found("a", false, after(130)), "each time anew");
        assert!(!appending.found("a", false, after(139)) && appending.is_served("a"));
        assert!(appending.found("a", false, after(140)), "now that is news");
        assert!(!appending.is_served("a"));
        assert!(!appending.found("a", true, after(200)) && appending.is_served("a"));
    }

    #[test]
    fn what_was_logged_with_a_former_server_is_told_to_the_next() {
        let appending = Appending::default();
        assert_eq!(appending.astray(1), 0);
        appending.logged(1, 70, 0);
        assert_eq!(appending.astray(1), 0);
        assert_eq!(appending.astray(2), 70);
        // One more answer of the former server comes while that is told.
        appending.logged(1, 80, 0);
        appending.logged(2, 75, 70);
        assert_eq!(appending.astray(2), 80);
        appending.logged(2, 90, 80);
        assert_eq!((appending.astray(2), appending.astray(3)), (0, 90));
        // Nothing was logged in between.
        assert_eq!(appending.astray(4), 90);
    }

    #[test]
    fn a_refusal_is_noted_by_who_knew_of_it() {
        let appending = Appending::default();
        assert_eq!(appending.unnoted(), None);
        appending.refuse();
        let known = appending.unnoted().unwrap();
        appending.refuse();
        appending.note(known);
        assert_eq!(appending.unnoted(), Some(2));
        appending.note(2);
        assert_eq!(appending.unnoted(), None);
    }
}
