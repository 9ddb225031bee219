//! Which clients a feed watches, and whose channels must be read again before a channel message.
//!
//! The part of the ordered feed that both backends share; owned by one subscription (Redis) or kept
//! under the state lock (memory). Pure: it never reads a channel itself. The rule its users follow:
//! before a channel message is handed on, take every dirty client, read its channels *after* taking
//! it, and report them. Whoever changes a client's channels marks it dirty first.

use std::collections::VecDeque;

use ahash::AHashMap;

use super::contract::Watchlist;
use crate::id::ClientId;

/// Clients read again at a time while nothing else is to do: one short pipeline, so that a burst of
/// connects neither delays messages nor is paid for by the first channel message alone.
pub(super) const IDLE_CHUNK: usize = 512;

/// The watched clients of one feed.
#[derive(Default)]
pub(super) struct Watched {
    /// Watched client -> whether its channels must be read again.
    clients: AHashMap<ClientId, bool>,
    /// The dirty ones, oldest first; entries whose flag is gone are skipped.
    dirty: VecDeque<ClientId>,
}

impl Watched {
    /// Takes over what the reactors asked for; a newly watched client is dirty.
    pub(super) fn apply(&mut self, watchlist: &Watchlist) {
        for (client, watch) in watchlist.take() {
            if !watch {
                self.clients.remove(&client);
            } else if self.clients.insert(client.clone(), true) != Some(true) {
                self.dirty.push_back(client);
            }
        }
    }

    /// The channels of `client` have changed or may have. Of no effect for a client not watched.
    pub(super) fn mark(&mut self, client: &ClientId) {
        if let Some(dirty @ false) = self.clients.get_mut(client) {
            *dirty = true;
            self.dirty.push_back(client.clone());
        }
    }

    /// Whether `client` is watched.
    #[cfg(feature = "redis")]
    pub(super) fn contains(&self, client: &ClientId) -> bool {
        self.clients.contains_key(client)
    }

    /// Nothing is known for sure any more.
    #[cfg(any(feature = "redis", test))]
    pub(super) fn mark_all(&mut self) {
        self.dirty.clear();
        self.dirty.extend(self.clients.keys().cloned());
        self.clients.values_mut().for_each(|dirty| *dirty = true);
    }

    /// Whether [`take_dirty`](Self::take_dirty) may have something to give.
    #[cfg(any(feature = "redis", test))]
    pub(super) fn any_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Up to `limit` dirty clients, clean from here on: read them after this call.
    pub(super) fn take_dirty(&mut self, limit: usize) -> Vec<ClientId> {
        let mut taken = Vec::with_capacity(limit.min(self.dirty.len()));
        while taken.len() < limit
            && let Some(client) = self.dirty.pop_front()
        {
            if let Some(dirty @ true) = self.clients.get_mut(&client) {
                *dirty = false;
                taken.push(client);
            }
        }
        if self.dirty.is_empty() {
            // A burst of connects must not be paid for ever after.
            self.dirty = VecDeque::new();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: i64) -> ClientId {
        number.into()
    }

    #[test]
    fn each_dirty_client_is_taken_once() {
        let watchlist = Watchlist::default();
        let mut watched = Watched::default();
        watched.mark(&id(1));
        watchlist.watch(id(1));
        watchlist.watch(id(2));
        watched.apply(&watchlist);
        watched.mark(&id(2));
        assert_eq!(watched.take_dirty(1), [id(1)]);
        assert_eq!(watched.take_dirty(9), [id(2)]);
        assert!(!watched.any_dirty());
        watched.mark(&id(2));
        assert_eq!(watched.take_dirty(9), [id(2)]);
        watched.mark_all();
        assert_eq!(watched.take_dirty(9).len(), 2);
    }

    #[test]
    fn a_client_watched_anew_is_dirty_once() {
        let watchlist = Watchlist::default();
        let mut watched = Watched::default();
        for _ in 0..3 {
            watchlist.watch(id(1));
            watchlist.unwatch(id(1));
        }
        watched.apply(&watchlist);
        assert_eq!(watched.take_dirty(9), []);
        watchlist.watch(id(1));
        watchlist.unwatch(id(1));
        watchlist.watch(id(1));
        watched.apply(&watchlist);
        assert_eq!(watched.take_dirty(9), [id(1)]);
    }
}
