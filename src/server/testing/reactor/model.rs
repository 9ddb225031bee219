//! What must come of a run: a model of who is here and who is owed what, beside the real reactor. One model, in one file, so
//! that the promise can be read as a whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use mio::{Poll, Token};

use super::{
    super::line::{Line, Wire},
    peer::{LINGER, Peer, RESPONSE, digest},
};
use testkit::seeded::Seeded;

use crate::{
    broker::{MemoryBroker, PresenceChange, Watchlist},
    id::ClientId,
    server::{
        config::{Limits, ServerConfig},
        connection::{
            frame::Frame,
            prepared::Prepared,
            receipt::{DueNotices, Inquiry, notices},
        },
        inbox::inbox,
        message::{Adoption, Command, Report},
        node::Node,
        reactor::{Reactor, Ready, hub::Key},
        stats::counters::Counters,
    },
    wire::{Envelope, Position, ReceiptText, Ticket},
};

const CLIENTS: i64 = 8;
pub(super) const CHANNELS: usize = 3;
pub(super) const OUTBOX: usize = 4096;
pub(super) const LARGEST: usize = 6000;

pub(super) struct World {
    /// The clock, which goes on when the run says so.
    now: Instant,
    pub(super) reactor: Reactor<Wire>,
    pub(super) counters: Arc<Counters>,
    pub(super) live: Arc<AtomicU64>,
    pub(super) watchlist: Arc<Watchlist>,
    pub(super) presence: Receiver<Report>,
    publisher: DueNotices,
    pub(super) seed: u64,
    /// Every connection there ever was; its place is its number.
    pub(super) peers: Vec<Peer>,
    /// Digest and sender of every message.
    pub(super) messages: Vec<(u64, i64)>,
    /// The sizes of messages and of what peers read, against a world of small limits.
    pub(super) scale: usize,
    pub(super) offered: u64,
    /// Messages to many take several turns.
    pub(super) in_steps: bool,
    /// Channels that a client has joined, and those of them that the reactor was told of.
    pub(super) joined: BTreeMap<i64, BTreeSet<usize>>,
    pub(super) told: BTreeMap<i64, BTreeSet<usize>>,
    /// Clients whose channels the feed has still to report.
    pub(super) untold: Vec<i64>,
    pub(super) watched: BTreeSet<ClientId>,
    /// Receipts that are due by message and receiver, and those that came.
    pub(super) due: BTreeSet<(usize, i64)>,
    pub(super) receipts: BTreeMap<(usize, i64), bool>,
    pub(super) opened: BTreeSet<u64>,
    pub(super) closed: BTreeSet<u64>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        // The outbox is the product's own in some worlds, and small in the others.
        let (limits, scale) = match seed % 10 {
            9 => (limits(Limits::default()), 64),
            _ => (limits(small()), 1),
        };
        let poll = Poll::new().unwrap();
        let (_, commands) = inbox(&poll, Token(0), 1).unwrap();
        let (presence_sender, presence) = channel();
        let (publisher_sender, publisher) = notices();
        let config = ServerConfig { limits, ..ServerConfig::default() };
        let bound = config.listen;
        let node = Node::new(config, bound, None, Arc::new(MemoryBroker::new())).unwrap();
        let mut reactor = Reactor::new(&node, poll, commands, presence_sender, publisher_sender);
        let counters = Arc::clone(&reactor.parts.counters);
        let (live, watchlist) = (Arc::clone(&node.live), Arc::clone(&node.watchlist));
        // Small, so that one message takes several reads.
        reactor.scratch = vec![0; 48].into();
        let in_steps = seed.is_multiple_of(3);
        if in_steps {
            reactor.work_per_turn = 3;
        }
        let now = Instant::now();
        reactor.pass(now, Duration::ZERO);
        World {
            now,
            reactor,
            counters,
            live,
            watchlist,
            presence,
            publisher,
            seed,
            peers: Vec::new(),
            messages: Vec::new(),
            scale,
            offered: 0,
            in_steps,
            joined: BTreeMap::new(),
            told: BTreeMap::new(),
            untold: Vec::new(),
            watched: BTreeSet::new(),
            due: BTreeSet::new(),
            receipts: BTreeMap::new(),
            opened: BTreeSet::new(),
            closed: BTreeSet::new(),
        }
    }

    /// Something happens, at the business, at a peer, or with time.
    pub(super) fn act(&mut self, chance: &mut Seeded) {
        let client = 1 + chance.below(CLIENTS as usize) as i64;
        match chance.below(51) {
            0..=2 => self.connect(client, chance),
            3..=12 => self.send_direct(client, chance),
            13..=18 => self.send_to_channel(client, chance),
            50 => (0..10 + chance.below(30)).for_each(|_| self.send_direct(client, chance)),
            19..=21 => {
                let channels = (0..CHANNELS).filter(|_| chance.once_in(2)).collect();
                self.joined.insert(client, channels);
                self.untold.push(client);
            }
            22..=24 => self.tell_channels(),
            25 if chance.once_in(4) => {
                self.obey(Command::ForceOffline(client.into()));
            }
            26..=27 => {
                let longer = if self.scale > 1 { 4 } else { 1 };
                let waited = longer * chance.below(8) as u32 * Duration::from_millis(100);
                self.now += waited;
                self.reactor.pass(self.now, waited);
                self.peers.iter_mut().for_each(|peer| peer.now = self.reactor.now);
            }
            28..=29 => self.reactor.sweep(),
            30 => self.reactor.rejoin(),
            _ if self.peers.is_empty() => {}
            _ => {
                let recent = self.peers.len().min(24);
                let index = self.peers.len() - 1 - chance.below(recent);
                self.peers[index].act(chance);
            }
        }
        self.check_outboxes();
        self.check_cuts();
        self.check_ends();
    }

    /// The reactor takes a command from its inbox, which it does when the one before is done with.
    pub(super) fn obey(&mut self, command: Command<Wire>) {
        let most = self.reactor.work_per_turn;
        self.reactor.obey(command, most);
        while self.reactor.delivery.is_some() {
            self.check_cuts();
            self.work(|| 1);
        }
    }

    fn connect(&mut self, client: i64, chance: &mut Seeded) {
        let number = self.peers.len() as u64;
        let seed = self.seed.wrapping_mul(0x1_0000_0001) ^ number;
        let room = if chance.once_in(4) { 0 } else { chance.below(5000) * self.scale };
        let line = Line::new(seed, room);
        let mut peer = Peer::new(client, line, self.reactor.now, self.scale, chance);
        let stream = Wire(peer.line.clone());
        peer.act(chance);
        self.peers.push(peer);
        self.live.fetch_add(1, Ordering::Relaxed);
        let leftover = match chance.once_in(8) {
            true => vec![0x81, 0x80, 0, 0, 0, 0],
            false => Vec::new(),
        };
        self.obey(Command::Adopt(Box::new(Adoption {
            stream,
            ticket: Ticket::new(client.into(), None),
            connection: number,
            response: Frame::raw(RESPONSE),
            leftover,
            claim: None,
        })));
    }

    /// A new message; its text names it.
    fn message(&mut self, sender: i64, chance: &mut Seeded) -> (usize, Prepared) {
        let id = self.messages.len();
        let length = match chance.below(16) {
            0 => chance.below(LARGEST - 20),
            _ => chance.below(200),
        };
        let text = format!("{id} {}", "x".repeat(length * self.scale));
        let message = Prepared::text(&text, self.next_position());
        self.messages.push((digest(text.as_bytes()), sender));
        (id, message)
    }

    /// Where the next message comes.
    fn next_position(&self) -> Position {
        Position { number: self.messages.len() as u64 + 1, sub: 0 }
    }

    fn send_direct(&mut self, sender: i64, chance: &mut Seeded) {
        let (id, message) = self.message(sender, chance);
        let wants = chance.once_in(2);
        let receivers: Vec<i64> =
            (1..=CLIENTS).filter(|_| chance.once_in(CLIENTS as usize / 2)).collect();
        // In steps, whether it has another connection may change on the way.
        let receivers: Vec<_> = match self.in_steps {
            true => receivers.into_iter().filter(|receiver| *receiver != sender).collect(),
            false => receivers,
        };
        for receiver in &receivers {
            let connections = self.connections_of(*receiver);
            if *receiver == sender && connections.len() == 1 {
                continue;
            }
            self.owe(id, &connections);
            if wants && *receiver != sender {
                self.due.insert((id, *receiver));
            }
        }
        let receipt = wants.then(|| {
            let text = ReceiptText::new("", Some(&id.to_string()), 0);
            Arc::new(Inquiry::new(sender.into(), text, false, None))
        });
        let receivers = receivers.into_iter().map(ClientId::Int).collect();
        self.obey(Command::Direct {
            sender: sender.into(),
            receivers,
            message,
            receipt,
            origin: None,
        });
    }

    pub(super) fn send_to_channel(&mut self, sender: i64, chance: &mut Seeded) {
        let (id, message) = self.message(sender, chance);
        let channel = (!chance.once_in(4)).then(|| chance.below(CHANNELS));
        let own = self.connections_of(sender);
        let mut connections = self.members(channel);
        if own.len() == 1 {
            connections.retain(|number| *number != own[0]);
        }
        self.owe(id, &connections);
        let channel = channel.map(|channel| channel_name(channel).into());
        self.obey(Command::Channel { sender: sender.into(), channel, message });
    }

    /// The hub's connections of a client, by number.
    fn connections_of(&self, client: i64) -> Vec<usize> {
        let peers = self.peers.iter().enumerate();
        peers
            .filter(|(_, peer)| peer.in_hub && peer.client == client)
            .map(|(number, _)| number)
            .collect()
    }

    /// The connections that a channel reaches; `None` is everybody.
    pub(super) fn members(&self, channel: Option<usize>) -> Vec<usize> {
        let joined = |client| match channel {
            Some(channel) => self.told.get(&client).is_some_and(|all| all.contains(&channel)),
            None => true,
        };
        let clients = (1..=CLIENTS).filter(|client| joined(*client));
        clients.flat_map(|client| self.connections_of(client)).collect()
    }

    /// A message is about to be offered to these connections.
    fn owe(&mut self, id: usize, numbers: &[usize]) {
        let open: BTreeSet<u64> = self.open().map(|(number, _)| number).collect();
        for number in numbers {
            if open.contains(&(*number as u64)) {
                self.offered += 1;
                self.peers[*number].expected.push(id);
            }
        }
    }

    /// The reactor's open connections: number and key.
    pub(super) fn open(&self) -> impl Iterator<Item = (u64, Key)> {
        let open = self.reactor.connections.iter().filter(|(_, connection)| connection.is_open());
        open.map(|(key, connection)| (connection.number, key as Key))
    }

    /// By client, or in some worlds by channel.
    pub(super) fn tell_channels(&mut self) {
        if self.seed % 4 == 1 && !self.untold.is_empty() {
            self.tell_members();
        }
        for client in std::mem::take(&mut self.untold) {
            let channels = self.joined.get(&client).cloned().unwrap_or_default();
            let names = channels.iter().map(|channel| channel_name(*channel)).collect();
            self.obey(Command::Channels { client: client.into(), channels: names });
            if !self.connections_of(client).is_empty() {
                self.told.insert(client, channels);
            }
        }
    }

    fn tell_members(&mut self) {
        for channel in 0..CHANNELS {
            let joined = self.joined.iter().filter(|(_, all)| all.contains(&channel));
            let clients = joined.map(|(client, _)| (*client).into()).collect();
            self.obey(Command::Members { channel: channel_name(channel).into(), clients });
        }
        self.untold.clear();
        // Also of those that were not asked for yet.
        for client in 1..=CLIENTS {
            if !self.connections_of(client).is_empty() {
                self.told.insert(client, self.joined.get(&client).cloned().unwrap_or_default());
            }
        }
    }

    /// The reactor works on what the sockets tell, some of it later.
    pub(super) fn turn(&mut self, chance: &mut Seeded) {
        self.work(|| chance.below(4));
    }

    /// One turn; a socket's news come if `delay` is 0, news of nothing if it is 3.
    pub(super) fn work(&mut self, mut delay: impl FnMut() -> usize) {
        // As long as no test says so, the clock makes no sweep.
        if self.reactor.drain.is_none() {
            self.reactor.sweep_at = self.now + Duration::from_secs(3600);
        }
        let mut ready = Vec::new();
        for (key, connection) in &self.reactor.connections {
            let mut line = self.peers[connection.number as usize].line.borrow_mut();
            let (now, spurious) = match delay() {
                0 => (true, false),
                other => (false, other == 3),
            };
            ready.push(Ready {
                key: key as Key,
                writable: spurious || now && std::mem::take(&mut line.writable),
                readable: spurious || now && std::mem::take(&mut line.readable),
                ended: now && line.ended,
            });
        }
        self.reactor.work(ready.into_iter());
        let open: BTreeSet<u64> = self.open().map(|(number, _)| number).collect();
        for (number, peer) in self.peers.iter_mut().enumerate() {
            peer.in_hub &= open.contains(&(number as u64));
        }
        for client in 1..=CLIENTS {
            if self.connections_of(client).is_empty() {
                self.told.remove(&client);
            }
        }
        self.collect();
        self.check_hub();
        self.check_outboxes();
        self.check_cuts();
        self.check_ends();
    }

    /// Takes what the reactor tells others.
    pub(super) fn collect(&mut self) {
        for (client, watch) in self.watchlist.take() {
            let changed = match watch {
                true => self.watched.insert(client.clone()),
                false => self.watched.remove(&client),
            };
            assert!(changed, "{client} is watched twice, or unwatched twice");
            if let (true, ClientId::Int(id)) = (watch, client) {
                self.untold.push(id);
            }
        }
        for report in self.presence.try_iter() {
            match report {
                Report::Change(PresenceChange::Opened { connection, ticket, .. }) => {
                    assert!(self.peers[connection as usize].got().response, "open before the 101");
                    assert!(!ticket.text().is_empty(), "its ticket was taken before");
                    assert!(self.opened.insert(connection), "opened twice");
                }
                Report::Change(PresenceChange::Closed { connection, .. }) => {
                    assert!(self.opened.contains(&connection), "closed but never opened");
                    assert!(self.closed.insert(connection), "closed twice");
                }
                Report::Change(other) => panic!("{other:?}"),
                // Nobody moves here.
                Report::HandOver(_) | Report::Expect { .. } => {}
                Report::Members(members) => {
                    for (_, channel) in members {
                        assert!((0..CHANNELS).any(|known| channel == channel_name(known)));
                    }
                }
            }
        }
        let receipts: Vec<_> = self.publisher.queue.try_iter().collect();
        self.publisher.done(&receipts, false);
        receipts.into_iter().for_each(|notice| self.take_receipt(notice.envelope()));
    }

    fn take_receipt(&mut self, envelope: Envelope) {
        let Envelope::Direct { sender: ClientId::Int(to), receivers, content, .. } = envelope
        else {
            panic!("{envelope:?}");
        };
        let json: serde_json::Value = serde_json::from_str(&content).unwrap();
        let id: usize = json["id"].as_str().unwrap().parse().unwrap();
        assert_eq!(receivers, [ClientId::Int(self.messages[id].1)]);
        let sent = json["status"] == "sent";
        assert!(self.due.contains(&(id, to)), "a receipt that nobody wants");
        assert_eq!(self.receipts.insert((id, to), sent), None, "a second receipt");
    }
}

pub(super) fn channel_name(channel: usize) -> String {
    format!("channel-{channel}")
}

/// An outbox that is soon full.
fn small() -> Limits {
    Limits {
        outbox_bytes: OUTBOX,
        outbox_stall: Duration::from_secs(1),
        outbox_age: Duration::from_secs(2),
        ..Limits::default()
    }
}

fn limits(outbox: Limits) -> Limits {
    Limits {
        inbound_message_bytes: 1024,
        inbound_rate: 4096,
        ping_after: Duration::from_secs(3),
        pong_within: Duration::from_secs(2),
        linger: Duration::from_millis(100) * LINGER,
        sweep: Duration::from_secs(1),
        ..outbox
    }
}
