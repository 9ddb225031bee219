//! How a reactor tells its connections of rosters: all of one to who is new in the channel, what has changed to the others.
//!
//! `Newcomers` is a part of the hub, which says who comes into a channel and who goes; the rest is part of `Reactor`, called
//! from its turn alone. Whoever is away is passed over, and new when it comes back.

use std::{rc::Rc, sync::Arc};

use ahash::AHashMap;

use super::{Reactor, deliver::Delivery, hub::Key, parked::is_parked};
use crate::server::{
    connection::roster::{Rostered, Told},
    message::RosterNews,
    transport::Socket,
};

/// Connections of members of channels with rosters that were not told of them yet.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    channels: AHashMap<Arc<str>, Known>,
}

/// A channel with a roster.
#[derive(Debug)]
struct Known {
    whole: Arc<Told>,
    /// Connections, and whether they have been waiting for a round.
    new: AHashMap<Key, bool>,
}

impl Newcomers {
    /// Connections of a member of the channel came, or went.
    pub(super) fn note(&mut self, channel: &str, keys: &[Key], here: bool) {
        if self.channels.is_empty() {
            return;
        }
        let Some(known) = self.channels.get_mut(channel) else { return };
        for key in keys {
            if !here {
                known.new.remove(key);
            } else if !is_parked(*key) {
                known.new.insert(*key, false);
            }
        }
    }

    /// The same of one connection in all of these.
    pub(super) fn note_all(&mut self, channels: &[Rc<str>], key: Key, here: bool) {
        if !self.channels.is_empty() {
            channels.iter().for_each(|channel| self.note(channel, &[key], here));
        }
    }

    /// Takes over a roster; whether it is the first of its channel.
    fn learn(&mut self, rostered: &Rostered) -> bool {
        let whole = Arc::clone(&rostered.whole);
        match self.channels.get_mut(&rostered.channel) {
            Some(known) => {
                known.whole = whole;
                false
            }
            None => {
                let new = AHashMap::new();
                self.channels.insert(Arc::clone(&rostered.channel), Known { whole, new });
                true
            }
        }
    }

    /// If the connection was new, whether it has been waiting for a round; it is not new any more.
    fn take(&mut self, channel: &str, key: Key) -> Option<bool> {
        self.channels.get_mut(channel)?.new.remove(&key)
    }

    /// A round of news is over: those who have waited for one before and got nothing, as nothing has changed by their coming,
    /// with what they are to be told; they are not new any more.
    fn overdue(&mut self) -> Vec<(Arc<str>, Arc<Told>, Key)> {
        let mut overdue = Vec::new();
        for (channel, Known { whole, new }) in &mut self.channels {
            new.retain(|key, waits| {
                if *waits {
                    overdue.push((Arc::clone(channel), Arc::clone(whole), *key));
                }
                !std::mem::replace(waits, true)
            });
        }
        overdue
    }
}

impl<S: Socket> Reactor<S> {
    /// Begins to tell what is new of rosters; how much work that was.
    pub(super) fn roster(&mut self, news: RosterNews, most: usize) -> usize {
        match news {
            RosterNews::Changed(rostered) => {
                if self.hub.newcomers.learn(&rostered) {
                    // Nobody knows it.
                    self.hub.come_anew(&rostered.channel);
                }
                if let Some(plan) = self.hub.plan_for_all(&rostered.channel) {
                    return 1 + self.deliver(Delivery::Roster { plan, rostered }, most);
                }
            }
            RosterNews::Ended(channel) => drop(self.hub.newcomers.channels.remove(&channel)),
            RosterNews::Told => {
                for (channel, whole, key) in self.hub.newcomers.overdue() {
                    self.show(&channel, key, &whole);
                }
            }
        }
        1
    }

    /// Tells a connection in the channel what is new to it.
    pub(super) fn tell_roster(&mut self, key: Key, rostered: &Rostered) {
        let Some(connection) = self.connections.get(key as usize) else { return };
        let (channel, client) = (&rostered.channel, connection.client());
        match (self.hub.newcomers.take(channel, key), &rostered.change) {
            // It is older than its coming: the next one has it.
            (Some(false), _) if !rostered.has(client) => {
                self.hub.newcomers.note(channel, &[key], true);
            }
            (Some(_), _) => self.show(channel, key, &rostered.whole),
            (None, Some(change)) => self.show(channel, key, change),
            (None, None) => {}
        }
    }

    /// One that has too much waiting is told all when it has less.
    fn show(&mut self, channel: &str, key: Key, told: &Told) {
        let (connections, mut cx) = self.split();
        let Some(connection) = connections.get_mut(key as usize) else { return };
        if !connection.takes_messages() {
            return;
        }
        match connection.show(told, &mut cx) {
            true => self.mark_bulk(key),
            false => self.hub.newcomers.note(channel, &[key], true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Roster;

    fn rostered(channel: &str) -> Rostered {
        Rostered::new(&channel.into(), None, &Roster::of(Vec::new())).unwrap()
    }

    #[test]
    fn who_comes_is_new_until_told_and_overdue_after_a_whole_round() {
        let mut newcomers = Newcomers::default();
        newcomers.note("a", &[1], true);
        assert!(newcomers.learn(&rostered("a")) && !newcomers.learn(&rostered("a")));
        newcomers.note("a", &[2, 3, 4, 5], true);
        newcomers.note("a", &[3], false);
        newcomers.note("b", &[6], true);
        assert_eq!((newcomers.take("a", 1), newcomers.take("a", 3)), (None, None));
        assert_eq!(newcomers.take("a", 2), Some(false));
        assert_eq!(newcomers.take("a", 2), None, "it is told once");
        assert!(newcomers.overdue().is_empty());
        newcomers.note("a", &[7], true);
        let mut waited: Vec<Key> = newcomers.overdue().iter().map(|(_, _, key)| *key).collect();
        waited.sort_unstable();
        assert_eq!(waited, [4, 5]);
        assert_eq!((newcomers.take("a", 4), newcomers.take("a", 7)), (None, Some(true)));
    }
}
