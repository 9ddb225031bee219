//! Which clients were kicked lately, so that none comes back with an address that it had before.
//!
//! The feed notes a kick before it tells the client's reactor; the ticket thread and the acceptor ask. A ticket
//! of our own helper is gone from the broker once the helper has kicked; what is caught here are tickets that
//! a node has taken already, and those of the .NET helper.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ahash::AHashMap;

use crate::{id::ClientId, wire::Ticket};

/// What has expired is looked for only when at least so many are noted.
const PURGE_AT_LEAST: usize = 1024;
/// A kick may be heard so much later than it was sent: a ticket that is younger by less than this may have
/// been issued after it.
const LAG: Duration = Duration::from_secs(1);

/// Clients that were kicked, each with when that was heard last, for as long as a ticket lives.
#[derive(Debug, Default)]
pub(crate) struct Kicks(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    heard: AHashMap<ClientId, Instant>,
    purge_at: usize,
}

impl Kicks {
    /// A kick was heard.
    pub(crate) fn note(&self, client: ClientId, now: Instant) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.heard.len() >= noted.purge_at.max(PURGE_AT_LEAST) {
            let life = Ticket::LIFE + LAG;
            noted.heard.retain(|_, heard| now.saturating_duration_since(*heard) < life);
            noted.purge_at = 2 * noted.heard.len();
        }
        noted.heard.insert(client, now);
    }

    /// Whether the client was kicked after `at`.
    pub(crate) fn is_kicked_since(&self, client: &ClientId, at: Instant) -> bool {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.heard.get(client).is_some_and(|heard| *heard >= at)
    }

    /// Whether a ticket that was taken at `taken`, with so much of its life `left`, was issued before the
    /// client was kicked, as far as that can be told by time.
    pub(crate) fn void(&self, client: &ClientId, taken: Instant, left: Duration) -> bool {
        let age = Ticket::LIFE.saturating_sub(left);
        let issued = taken.checked_sub(age.saturating_sub(LAG)).unwrap_or(taken);
        age > LAG && self.is_kicked_since(client, issued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_from_before_a_kick_are_void() {
        let kicks = Kicks::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let void = |taken, left| kicks.void(&1.into(), at(taken), Duration::from_secs(left));
        assert!(!void(6, 4));
        kicks.note(1.into(), at(20));
        assert!(void(21, 4), "issued at 15");
        assert!(void(21, 7), "issued at 18");
        assert!(!void(21, 9), "issued at 20, which may have been after it");
        assert!(!void(29, 4), "issued at 23");
        assert!(!kicks.void(&2.into(), at(21), Duration::from_secs(4)), "another client");
        assert!(
            kicks.is_kicked_since(&1.into(), at(20)) && !kicks.is_kicked_since(&1.into(), at(21))
        );
    }

    #[test]
    fn what_is_noted_is_forgotten() {
        let kicks = Kicks::default();
        let start = Instant::now();
        for client in 0..100_000_i64 {
            kicks.note(client.into(), start + Duration::from_millis(client as u64));
        }
        assert!(kicks.0.lock().unwrap().heard.len() < 50_000);
    }
}
