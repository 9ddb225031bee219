//! Who is here: client -> its connections, channel -> its clients on this reactor.
//!
//! Owned by one reactor; pure, without sockets. Every connection of a client is on the same reactor,
//! so multi-device, self-echo, receipts and force offline need no lock.

use std::rc::Rc;

use ahash::{AHashMap, AHashSet};

use super::rosters::Newcomers;
use crate::id::ClientId;

/// Key of a connection in the reactor's slab.
pub(crate) type Key = u32;

/// The index of one reactor.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    clients: AHashMap<ClientId, Client>,
    /// Only channels with a member here, so that a message to any other costs one look-up.
    channels: AHashMap<Rc<str>, Channel>,
    /// While the broker is told again what it has forgotten: clients that are kept in channels of which it does not know
    /// any more.
    restoring: Option<AHashSet<ClientId>>,
    /// Who is new in which channel, if that has a roster.
    pub(super) newcomers: Newcomers,
}

#[derive(Debug, Default)]
struct Channel {
    members: AHashSet<ClientId>,
    /// All connections of the members when a message last needed them, so that a busy channel is walked as one
    /// array; `None` if they are to be gathered from the members.
    connections: Option<Rc<[Key]>>,
    /// Connections that came (true) or went since. A join costs the same however large the channel is.
    changes: Vec<(Key, bool)>,
}

impl Channel {
    /// A connection of a member came, or went.
    fn note(&mut self, key: Key, here: bool) {
        if self.connections.is_some() {
            self.changes.push((key, here));
            if self.changes.len() > FEW_CHANGES + self.members.len() / 4 {
                self.connections = None;
                self.changes = Vec::new();
            }
        }
    }

    /// All connections of the members, in the order of the slab: walking it in any other costs a cache miss
    /// per connection, a tenth of the whole delivery.
    fn connections(&mut self, clients: &AHashMap<ClientId, Client>) -> Rc<[Key]> {
        let mut keys: Vec<Key> = match &self.connections {
            Some(keys) if self.changes.is_empty() => return Rc::clone(keys),
            Some(keys) => {
                // Of several changes of one place the last counts.
                let changed: AHashMap<Key, bool> = self.changes.drain(..).collect();
                let kept = keys.iter().filter(|key| !changed.contains_key(*key)).copied();
                let come = changed.iter().filter(|(_, here)| **here).map(|(key, _)| *key);
                kept.chain(come).collect()
            }
            None => {
                let of = |client| clients.get(client).map_or(&[][..], |c| c.connections.as_slice());
                self.members.iter().flat_map(of).copied().collect()
            }
        };
        // Nearly sorted after changes, which this takes advantage of.
        keys.sort();
        Rc::clone(self.connections.insert(keys.into()))
    }
}

/// Changes of a channel that are carried into its list whatever its size; beyond these and a quarter of it
/// gathering anew costs no more.
const FEW_CHANGES: usize = 64;

/// Where a channel message goes, in the order of the slab. Holds as long as no connection and no membership
/// is added; connections that have ended are to be passed over.
#[derive(Debug)]
pub(crate) struct Plan {
    keys: Rc<[Key]>,
    /// The sender's only connection, which gets no echo.
    own: Option<Key>,
    next: usize,
}

impl Plan {
    /// Whether it leads to a connection, unless that is the sender's own.
    pub(super) fn includes(&self, key: Key) -> bool {
        Some(key) != self.own && self.keys.binary_search(&key).is_ok()
    }

    /// Places that are left.
    #[cfg(feature = "bench")]
    pub(crate) fn len(&self) -> usize {
        self.keys.len() - self.next
    }
}

impl Iterator for Plan {
    type Item = Key;

    fn next(&mut self) -> Option<Key> {
        loop {
            let key = *self.keys.get(self.next)?;
            self.next += 1;
            if Some(key) != self.own {
                return Some(key);
            }
        }
    }
}

#[derive(Debug)]
struct Client {
    connections: Connections,
    channels: Box<[Rc<str>]>,
}

/// Nearly every client has one connection, which needs no heap.
#[derive(Debug)]
enum Connections {
    One(Key),
    Many(Vec<Key>),
}

impl Connections {
    fn as_slice(&self) -> &[Key] {
        match self {
            Connections::One(key) => std::slice::from_ref(key),
            Connections::Many(keys) => keys,
        }
    }
}

/// Where a direct message goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recipient<'a> {
    /// The client has no connection here.
    Offline,
    /// The client is the sender with its only connection: no message to oneself, no receipt.
    OwnEcho,
    /// To all of the client's connections.
    Connections(&'a [Key]),
}

impl Hub {
    /// All connections. Counts them one by one.
    pub(crate) fn len(&self) -> usize {
        self.clients.values().map(|client| client.connections.as_slice().len()).sum()
    }

    /// Adds a connection; true if it is the client's first.
    pub(crate) fn insert(&mut self, client: ClientId, key: Key) -> bool {
        match self.clients.get_mut(&client) {
            None => {
                let connections = Connections::One(key);
                self.clients.insert(client, Client { connections, channels: Box::default() });
                true
            }
            Some(entry) => {
                match &mut entry.connections {
                    Connections::One(first) => {
                        entry.connections = Connections::Many(vec![*first, key]);
                    }
                    Connections::Many(keys) => keys.push(key),
                }
                note(&mut self.channels, &entry.channels, key, true);
                self.newcomers.note_all(&entry.channels, key, true);
                false
            }
        }
    }

    /// Puts a connection in the place of another of the same client.
    pub(crate) fn replace(&mut self, client: &ClientId, old: Key, new: Key) {
        let Some(entry) = self.clients.get_mut(client) else { return };
        match &mut entry.connections {
            Connections::One(key) => *key = new,
            Connections::Many(keys) => {
                // The newest stands last.
                keys.retain(|key| *key != old);
                keys.push(new);
            }
        }
        for (key, here) in [(old, false), (new, true)] {
            note(&mut self.channels, &entry.channels, key, here);
            self.newcomers.note_all(&entry.channels, key, here);
        }
    }

    /// Removes a connection; true if it was the client's last, which also ends its channels here.
    pub(crate) fn remove(&mut self, client: &ClientId, key: Key) -> bool {
        let Some(entry) = self.clients.get_mut(client) else { return false };
        match &mut entry.connections {
            Connections::One(only) if *only != key => return false,
            Connections::One(_) => {
                let restoring = self.restoring.take();
                self.set_channels(client, Vec::new());
                self.restoring = restoring;
                self.clients.remove(client);
                return true;
            }
            Connections::Many(keys) => {
                keys.retain(|other| *other != key);
                if let [only] = keys[..] {
                    entry.connections = Connections::One(only);
                }
            }
        }
        note(&mut self.channels, &entry.channels, key, false);
        self.newcomers.note_all(&entry.channels, key, false);
        false
    }

    /// From now on the broker says too little of who is in which channel: nobody leaves one before the
    /// [end](Self::restored) of that.
    pub(crate) fn restore(&mut self) {
        self.restoring.get_or_insert_default();
    }

    /// The broker knows all memberships again. Returns the clients of which it said less meanwhile: they are in the channels
    /// that it names next.
    pub(crate) fn restored(&mut self) -> AHashSet<ClientId> {
        self.restoring.take().unwrap_or_default()
    }

    /// The client is in exactly these channels from now on. Ignored for a client without connection.
    pub(crate) fn set_channels(&mut self, client: &ClientId, mut channels: Vec<String>) {
        let Some(entry) = self.clients.get_mut(client) else { return };
        if let Some(restoring) = &mut self.restoring {
            let named: AHashSet<&str> = channels.iter().map(String::as_str).collect();
            let missing = entry.channels.iter().filter(|name| !named.contains(&***name));
            let missing: Vec<_> = missing.map(|name| name.to_string()).collect();
            if !missing.is_empty() {
                restoring.insert(client.clone());
                channels.extend(missing);
            }
        }
        let before = std::mem::take(&mut entry.channels);
        let mut after = Vec::with_capacity(channels.len());
        for channel in channels {
            match self.channels.get_key_value(channel.as_str()) {
                Some((name, _)) => after.push(Rc::clone(name)),
                None => {
                    let name: Rc<str> = channel.into();
                    self.channels.insert(Rc::clone(&name), Channel::default());
                    after.push(name);
                }
            }
        }
        let keys = entry.connections.as_slice();
        for name in &after {
            if let Some(channel) = self.channels.get_mut(name)
                && channel.members.insert(client.clone())
            {
                keys.iter().for_each(|key| channel.note(*key, true));
                self.newcomers.note(name, keys, true);
            }
        }
        let kept: AHashSet<&str> = after.iter().map(|name| &**name).collect();
        for name in before.iter().filter(|name| !kept.contains(&***name)) {
            if let Some(channel) = self.channels.get_mut(name) {
                channel.members.remove(client);
                keys.iter().for_each(|key| channel.note(*key, false));
                self.newcomers.note(name, keys, false);
                if channel.members.is_empty() {
                    self.channels.remove(name);
                }
            }
        }
        entry.channels = after.into();
    }

    /// Exactly these clients are in the channel from now on, as far as they have a connection.
    pub(crate) fn set_members(&mut self, channel: &str, clients: Vec<ClientId>) {
        let clients: AHashSet<ClientId> = clients.into_iter().collect();
        let before = self.channels.get(channel).map(|channel| &channel.members);
        let gone = before.into_iter().flatten().filter(|client| !clients.contains(client));
        let come = clients.iter().filter(|client| before.is_none_or(|all| !all.contains(client)));
        let changed: Vec<_> = gone.chain(come).cloned().collect();
        for client in changed {
            let Some(entry) = self.clients.get(&client) else { continue };
            let others = entry.channels.iter().filter(|name| &***name != channel);
            let mut channels: Vec<_> = others.map(|name| name.to_string()).collect();
            if clients.contains(&client) {
                channels.push(channel.to_owned());
            }
            self.set_channels(&client, channels);
        }
    }

    /// The channels of a client.
    pub(crate) fn channels_of(&self, client: &ClientId) -> Vec<String> {
        let channels = self.clients.get(client).map(|client| &client.channels);
        channels.into_iter().flatten().map(|name| name.to_string()).collect()
    }

    /// Who here is in a channel.
    pub(crate) fn members(&self, channel: &str) -> impl Iterator<Item = &ClientId> {
        self.channels.get(channel).into_iter().flat_map(|channel| &channel.members)
    }

    /// Every client with each of its channels.
    pub(crate) fn memberships(&self) -> Vec<(ClientId, String)> {
        let of = |(client, entry): (&ClientId, &Client)| {
            let of_client = |name: &Rc<str>| (client.clone(), name.to_string());
            entry.channels.iter().map(of_client).collect::<Vec<_>>()
        };
        self.clients.iter().flat_map(of).collect()
    }

    /// Where a message from `sender` to `receiver` goes.
    pub(crate) fn direct(&self, sender: &ClientId, receiver: &ClientId) -> Recipient<'_> {
        match self.clients.get(receiver).map(|client| client.connections.as_slice()) {
            None => Recipient::Offline,
            Some([_]) if sender == receiver => Recipient::OwnEcho,
            Some(keys) => Recipient::Connections(keys),
        }
    }

    /// All connections of a client.
    pub(crate) fn connections(&self, client: &ClientId) -> &[Key] {
        self.clients.get(client).map_or(&[], |client| client.connections.as_slice())
    }

    /// The only connection of `client`, which gets no echo of what the client sends to many.
    pub(crate) fn own(&self, client: &ClientId) -> Option<Key> {
        match self.connections(client) {
            [own] => Some(*own),
            _ => None,
        }
    }

    /// All connections in the channel; `None` if nobody here is in it.
    pub(super) fn plan_for_all(&mut self, channel: &str) -> Option<Plan> {
        let channel = self.channels.get_mut(channel)?;
        Some(Plan { keys: channel.connections(&self.clients), own: None, next: 0 })
    }

    /// Nobody in the channel knows its roster.
    pub(super) fn come_anew(&mut self, channel: &str) {
        let Hub { clients, channels, newcomers, .. } = self;
        let members = channels.get(channel).map(|channel| &channel.members);
        for client in members.into_iter().flatten().filter_map(|client| clients.get(client)) {
            newcomers.note(channel, client.connections.as_slice(), true);
        }
    }

    /// A connection knows no roster any more.
    pub(super) fn forgets_rosters(&mut self, client: &ClientId, key: Key) {
        if let Some(entry) = self.clients.get(client) {
            self.newcomers.note_all(&entry.channels, key, true);
        }
    }

    /// The connections that get a message from `sender` to `channel`; `None` if nobody here is in it.
    pub(crate) fn plan(&mut self, sender: &ClientId, channel: &str) -> Option<Plan> {
        let own = self.own(sender);
        let channel = self.channels.get_mut(channel)?;
        Some(Plan { keys: channel.connections(&self.clients), own, next: 0 })
    }
}

/// A connection of a member of these channels came, or went.
fn note(channels: &mut AHashMap<Rc<str>, Channel>, names: &[Rc<str>], key: Key, here: bool) {
    for name in names {
        if let Some(channel) = channels.get_mut(name) {
            channel.note(key, here);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::seeded::Seeded;

    fn plan(hub: &mut Hub, sender: i64, channel: &str) -> Vec<Key> {
        hub.plan(&sender.into(), channel).into_iter().flatten().collect()
    }

    #[test]
    fn nobody_leaves_a_channel_while_the_broker_is_told_again() {
        let mut hub = Hub::default();
        hub.insert(1.into(), 10);
        hub.insert(2.into(), 20);
        hub.set_channels(&1.into(), vec!["a".into()]);
        hub.restore();
        hub.set_channels(&1.into(), Vec::new());
        hub.set_channels(&2.into(), vec!["a".into()]);
        let plan =
            |hub: &mut Hub| hub.plan(&0.into(), "a").into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(plan(&mut hub), [10, 20]);
        assert_eq!(hub.restored().into_iter().collect::<Vec<_>>(), [1.into()]);
        hub.set_channels(&1.into(), Vec::new());
        assert_eq!(plan(&mut hub), [20]);
        hub.restore();
        assert!(hub.remove(&2.into(), 20));
        assert!(hub.plan(&0.into(), "a").is_none(), "who is gone is in no channel");
    }

    #[test]
    fn who_is_in_a_channel_can_be_told_by_the_channel() {
        let mut hub = Hub::default();
        for client in 1..=3 {
            hub.insert(client.into(), client as Key * 10);
            hub.set_channels(&client.into(), vec!["a".into(), "b".into()]);
        }
        hub.set_channels(&3.into(), Vec::new());
        hub.set_members("a", vec![2.into(), 3.into(), 4.into()]);
        assert_eq!((plan(&mut hub, 0, "a"), plan(&mut hub, 0, "b")), (vec![20, 30], vec![10, 20]));
        hub.set_members("a", Vec::new());
        hub.set_members("c", vec![1.into()]);
        assert!(hub.plan(&0.into(), "a").is_none(), "it is not kept for nobody");
        assert_eq!((plan(&mut hub, 0, "b"), plan(&mut hub, 0, "c")), (vec![10, 20], vec![10]));
        hub.restore();
        hub.set_members("b", Vec::new());
        assert_eq!(plan(&mut hub, 0, "b"), [10, 20], "nobody leaves meanwhile");
    }

    #[test]
    fn a_single_connection_gets_no_echo_and_several_all_do() {
        let mut hub = Hub::default();
        assert!(hub.insert(1.into(), 10));
        assert_eq!(hub.direct(&1.into(), &1.into()), Recipient::OwnEcho);
        assert_eq!(hub.direct(&2.into(), &1.into()), Recipient::Connections(&[10]));
        assert!(!hub.insert(1.into(), 11));
        assert_eq!(hub.direct(&1.into(), &1.into()), Recipient::Connections(&[10, 11]));
        assert!(!hub.remove(&1.into(), 10));
        assert_eq!(hub.direct(&1.into(), &1.into()), Recipient::OwnEcho);
        assert!(hub.remove(&1.into(), 11));
        assert_eq!(hub.direct(&2.into(), &1.into()), Recipient::Offline);
    }

    #[test]
    fn a_list_that_is_carried_on_is_the_one_that_is_gathered() {
        let mut chance = Seeded::new(1);
        let mut hub = Hub::default();
        let mut free: Vec<Key> = (0..400).collect();
        let mut here: Vec<(i64, Key)> = Vec::new();
        for _ in 0..20_000 {
            let client = chance.below(300) as i64;
            match chance.below(8) {
                0..=2 if !free.is_empty() => {
                    let key = free.swap_remove(chance.below(free.len()));
                    hub.insert(client.into(), key);
                    here.push((client, key));
                }
                3..=4 if !here.is_empty() => {
                    let (client, key) = here.swap_remove(chance.below(here.len()));
                    hub.remove(&client.into(), key);
                    free.push(key);
                }
                5..=6 => {
                    let rooms = ["a", "b"].iter().filter(|_| !chance.once_in(3));
                    let rooms = rooms.map(|name| name.to_string()).collect();
                    hub.set_channels(&client.into(), rooms);
                }
                _ if chance.once_in(4) => {
                    let carried = plan(&mut hub, -1, "a");
                    let of = |client: &ClientId| hub.connections(client).to_vec();
                    let members = hub.channels.get("a").map(|channel| &channel.members);
                    let mut gathered: Vec<Key> =
                        members.into_iter().flatten().flat_map(of).collect();
                    gathered.sort_unstable();
                    assert_eq!(carried, gathered);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn channels_follow_their_members() {
        let mut hub = Hub::default();
        for (client, key) in [(1, 10), (2, 20), (3, 30), (3, 31)] {
            hub.insert(client.into(), key);
        }
        hub.set_channels(&1.into(), vec!["a".into(), "b".into()]);
        hub.set_channels(&2.into(), vec!["a".into()]);
        hub.set_channels(&3.into(), vec!["a".into(), "a".into()]);
        hub.set_channels(&9.into(), vec!["a".into()]);
        assert_eq!(plan(&mut hub, 0, "a"), [10, 20, 30, 31]);
        assert_eq!(plan(&mut hub, 1, "a"), [20, 30, 31], "no echo to the only connection");
        assert_eq!(plan(&mut hub, 3, "a"), [10, 20, 30, 31]);
        assert_eq!(plan(&mut hub, 0, "b"), [10]);
        assert_eq!(
            (hub.own(&1.into()), hub.own(&3.into()), hub.own(&9.into())),
            (Some(10), None, None)
        );
        hub.set_channels(&1.into(), vec!["b".into()]);
        assert_eq!(plan(&mut hub, 0, "a"), [20, 30, 31]);
        hub.insert(2.into(), 21);
        assert_eq!(plan(&mut hub, 0, "a"), [20, 21, 30, 31], "a connection more");
        hub.remove(&2.into(), 21);
        hub.remove(&2.into(), 20);
        hub.remove(&3.into(), 30);
        assert_eq!(plan(&mut hub, 0, "a"), [31]);
        hub.remove(&3.into(), 31);
        assert!(plan(&mut hub, 0, "a").is_empty());
        assert_eq!(hub.channels.len(), 1, "only b has a member");
    }
}
