//! Seeded runs of the real reactor with clients that come and go and resume, over simulated sockets.
//!
//! The oracle knows the promise alone: a device that is told `resumed: true` gets every message that it is owed, once and in
//! order; one that is told otherwise begins anew there. Nobody hears of a device that comes back.
//! `IMCORE_RESUME=seed` replays a run, `IMCORE_RESUME=from..to` searches further.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use mio::{Poll, Token};
use serde_json::Value;
use testkit::seeded::{Replay, Seeded, seeds};

use super::line::{Line, Wire};
use crate::{
    broker::{MemoryBroker, PresenceChange},
    id::ClientId,
    server::{
        config::{Limits, ServerConfig},
        connection::{
            frame::Frame,
            place::Hole,
            prepared::Prepared,
            receipt::{DueNotices, Inquiry, notices},
        },
        inbox::{InboxSender, inbox},
        message::{Adoption, Claim, Command, Report},
        node::Node,
        reactor::{Reactor, Ready, WAKE, hub::Key},
    },
    wire::{Envelope, Position, ReceiptText, Ticket},
};

const VARIABLE: &str = "IMCORE_RESUME";
const CLIENTS: i64 = 4;
const CHANNELS: usize = 2;
const RESPONSE: &[u8] = b"101\r\n\r\n";
/// The sender of all messages, who is no client here.
const SENDER: i64 = 99;

/// One socket of a device.
struct Socket {
    line: Rc<RefCell<Line>>,
    /// Bytes of it that the device has dealt with.
    read: usize,
    greeted: bool,
    /// Messages that the device was owed when the node took the socket.
    owed_before: usize,
    /// The same at each loss that the node was told of since.
    holes: Vec<usize>,
}

/// A page or an app, over all its sockets.
struct Device {
    client: i64,
    socket: Option<Socket>,
    c: Option<String>,
    since: Option<String>,
    /// Messages that it is owed, since it last began anew; of these it has handled the first `had`.
    owed: Vec<usize>,
    had: usize,
    /// It has left for good, or must not come back.
    gone: bool,
    resumed: usize,
}

struct World {
    now: Instant,
    reactor: Reactor<Wire>,
    /// What waits for the reactor beside what it is doing.
    commands: InboxSender<Command<Wire>>,
    node: Arc<Node>,
    presence: Receiver<Report>,
    publisher: DueNotices,
    devices: Vec<Device>,
    lines: Vec<Rc<RefCell<Line>>>,
    messages: usize,
    position: Position,
    told: BTreeMap<i64, BTreeSet<usize>>,
    watched: BTreeSet<i64>,
    due: BTreeSet<(usize, i64)>,
    receipts: BTreeSet<(usize, i64)>,
    opened: BTreeSet<u64>,
    closed: BTreeSet<u64>,
    seed: u64,
    /// Commands that wait.
    queued: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let poll = Poll::new().unwrap();
        let (sender, commands) = inbox(&poll, WAKE, 1024).unwrap();
        let (reports, presence) = channel();
        let (publisher_end, publisher) = notices();
        let limits = Limits {
            outbox_bytes: if seed.is_multiple_of(4) { 2048 } else { 1 << 20 },
            connections_per_client: 6,
            ..Limits::default()
        };
        let keep = Duration::from_secs(20);
        let config = ServerConfig { limits, keep, ..ServerConfig::default() };
        let bound = config.listen;
        let node = Node::new(config, bound, None, Arc::new(MemoryBroker::new())).unwrap();
        node.pulse.readiness.set_listening(true);
        node.pulse.readiness.set_lease(true);
        let mut reactor = Reactor::new(&node, poll, commands, reports, publisher_end);
        reactor.scratch = vec![0; 64].into();
        if seed.is_multiple_of(2) {
            reactor.work_per_turn = 2;
        }
        let now = Instant::now();
        reactor.pass(now, Duration::ZERO);
        World {
            now,
            reactor,
            commands: sender,
            node,
            presence,
            publisher,
            devices: Vec::new(),
            lines: Vec::new(),
            messages: 0,
            position: Position::default(),
            told: BTreeMap::new(),
            watched: BTreeSet::new(),
            due: BTreeSet::new(),
            receipts: BTreeSet::new(),
            opened: BTreeSet::new(),
            closed: BTreeSet::new(),
            seed,
            queued: 0,
        }
    }

    fn act(&mut self, chance: &mut Seeded) {
        let client = 1 + chance.below(CLIENTS as usize) as i64;
        match chance.below(40) {
            0..=1 if self.devices.len() < 12 => self.device(client),
            2..=9 => self.send_direct(chance),
            10..=13 => self.send_to_many(chance),
            14..=15 => {
                let channels = (0..CHANNELS).filter(|_| chance.once_in(2)).collect();
                self.told.insert(client, channels);
                // Of others it is told once they are watched.
                if self.watched.contains(&client) {
                    self.tell_channels(client);
                }
            }
            16..=17 => {
                let most = if chance.once_in(6) { 25_000 } else { 3000 };
                let waited = Duration::from_millis(chance.below(most) as u64);
                self.now += waited;
                self.reactor.pass(self.now, waited);
            }
            18..=19 => self.reactor.sweep(),
            20 if chance.once_in(12) => self.lose(chance),
            21 if chance.once_in(8) => {
                // So that the oracle knows who is here when the next message is sent.
                self.catch_up(chance);
                self.obey(Command::ForceOffline(client.into()), chance);
                self.catch_up(chance);
            }
            _ if self.devices.is_empty() => {}
            _ => {
                let index = chance.below(self.devices.len());
                self.device_acts(index, chance);
            }
        }
    }

    fn device(&mut self, client: i64) {
        self.devices.push(Device {
            client,
            socket: None,
            c: None,
            since: None,
            owed: Vec::new(),
            had: 0,
            gone: false,
            resumed: 0,
        });
        self.connect(self.devices.len() - 1);
    }

    /// A new socket, whatever became of the one before.
    fn connect(&mut self, index: usize) {
        let number = self.lines.len() as u64;
        let line = Line::new(self.seed ^ number.wrapping_mul(0x9e37_79b9), 1 << 30);
        let line = Rc::new(RefCell::new(line));
        self.lines.push(Rc::clone(&line));
        self.node.live.fetch_add(1, Ordering::Relaxed);
        let device = &mut self.devices[index];
        let claim = Claim { since: device.since.clone(), c: device.c.clone() };
        let (owed_before, holes) = (device.owed.len(), Vec::new());
        let stream = Wire(Rc::clone(&line));
        device.socket = Some(Socket { line, read: 0, greeted: false, owed_before, holes });
        let adoption = Adoption {
            stream,
            ticket: Ticket::new(device.client.into(), None),
            connection: number,
            response: Frame::raw(RESPONSE),
            claim: Some(Box::new(claim)),
            leftover: Vec::new(),
        };
        self.commands.push(Command::Adopt(Box::new(adoption))).unwrap();
        self.queued += 1;
    }

    fn device_acts(&mut self, index: usize, chance: &mut Seeded) {
        let device = &mut self.devices[index];
        if device.gone {
            return;
        }
        if device.socket.is_none() {
            return self.connect(index);
        }
        match chance.below(24) {
            0..=9 => device.read(1 + chance.below(600)),
            10..=13 => device.say(0x81, &device.word()),
            14 => device.say(0x81, br#"{"q":1}"#),
            15..=17 => device.cut(chance),
            // Nobody tells the node: the new socket comes first.
            18 => device.socket = None,
            19 => device.leave(b"\x0b\xb9"),
            20 => device.leave(b""),
            21 if chance.once_in(4) => {
                device.leave(b"\x03\xe8");
                device.gone = true;
            }
            22 => self.connect(index),
            _ => {}
        }
    }

    fn message(&mut self, chance: &mut Seeded) -> (usize, Prepared) {
        let id = self.messages;
        self.messages += 1;
        let logged =
            (!chance.once_in(4)).then(|| self.position.number + 1 + chance.below(3) as u64);
        self.position = self.position.next(logged);
        let text = format!("{{\"i\":{id},\"x\":\"{}\"}}", "x".repeat(chance.below(300)));
        (id, Prepared::text(&text, self.position))
    }

    fn send_direct(&mut self, chance: &mut Seeded) {
        let (id, message) = self.message(chance);
        let receivers: Vec<i64> = (1..=CLIENTS).filter(|_| chance.once_in(2)).collect();
        self.owe(id, |client| receivers.contains(&client));
        let receipt = chance.once_in(2).then(|| {
            self.due.extend(receivers.iter().map(|client| (id, *client)));
            let text = ReceiptText::new("", Some(&id.to_string()), 0);
            Arc::new(Inquiry::new(SENDER.into(), text, chance.once_in(2), None))
        });
        let receivers = receivers.into_iter().map(ClientId::Int).collect();
        let sender = SENDER.into();
        self.obey(Command::Direct { sender, receivers, message, receipt, origin: None }, chance);
    }

    fn send_to_many(&mut self, chance: &mut Seeded) {
        let channel = (!chance.once_in(3)).then(|| chance.below(CHANNELS));
        if channel.is_some() {
            // So that the oracle knows who is in it when it is sent.
            self.catch_up(chance);
        }
        let (id, message) = self.message(chance);
        let told = self.told.clone();
        let watched = self.watched.clone();
        self.owe(id, |client| match channel {
            None => true,
            Some(channel) => {
                watched.contains(&client)
                    && told.get(&client).is_some_and(|channels| channels.contains(&channel))
            }
        });
        let channel = channel.map(|channel| format!("c{channel}").into());
        self.obey(Command::Channel { sender: 0.into(), channel, message }, chance);
    }

    fn owe(&mut self, id: usize, to: impl Fn(i64) -> bool) {
        for device in self.devices.iter_mut().filter(|device| to(device.client)) {
            device.owed.push(id);
        }
    }

    /// The node's feed says that something may be missing.
    fn lose(&mut self, chance: &mut Seeded) {
        self.position = self.position.next(Some(self.position.number + 1));
        let epoch: Arc<str> = match chance.once_in(2) {
            true => format!("e{}", self.messages).into(),
            false => Arc::clone(&self.reactor.place.epoch),
        };
        for device in &mut self.devices {
            let owed = device.owed.len();
            device.socket.iter_mut().for_each(|socket| socket.holes.push(owed));
        }
        self.obey(
            Command::Positions { epoch, position: self.position, hole: Some(Hole::Messages) },
            chance,
        );
    }

    /// The reactor is given a command, and mostly the time to carry it out, in which sockets break.
    fn obey(&mut self, command: Command<Wire>, chance: &mut Seeded) {
        self.commands.push(command).unwrap();
        self.queued += 1;
        if chance.once_in(3) || self.queued > 100 {
            self.catch_up(chance);
        }
    }

    /// The reactor does all that waits.
    fn catch_up(&mut self, chance: &mut Seeded) {
        while self.queued > 0 || self.reactor.delivery.is_some() {
            if chance.once_in(2) && !self.devices.is_empty() {
                let index = chance.below(self.devices.len());
                match chance.below(3) {
                    0 => self.devices[index].read(1 + chance.below(600)),
                    _ => self.devices[index].cut(chance),
                }
            }
            self.turn(|| chance.below(4) == 0);
        }
        self.collect();
    }

    /// One turn, in which the sockets that `tells` says have their news told.
    fn turn(&mut self, mut tells: impl FnMut() -> bool) {
        self.reactor.sweep_at = self.now + Duration::from_secs(3600);
        let mut ready = Vec::new();
        for line in &self.lines {
            let mut line = line.borrow_mut();
            let Some(Token(key)) = line.watch.filter(|_| !line.dropped) else { continue };
            if tells() {
                ready.push(Ready {
                    key: key as Key,
                    writable: std::mem::take(&mut line.writable),
                    readable: std::mem::take(&mut line.readable),
                    ended: line.ended,
                });
            }
        }
        self.reactor.work(ready.into_iter());
        self.queued = self.commands.depth().get();
        self.collect();
    }

    fn tell_channels(&mut self, client: i64) {
        let channels = self.told.get(&client).cloned().unwrap_or_default();
        let channels = channels.iter().map(|channel| format!("c{channel}")).collect();
        self.commands.push(Command::Channels { client: client.into(), channels }).unwrap();
        self.queued += 1;
    }

    fn collect(&mut self) {
        for (client, watch) in self.node.watchlist.take() {
            let ClientId::Int(client) = client else { unreachable!() };
            match watch {
                true => assert!(self.watched.insert(client), "watched twice"),
                false => assert!(self.watched.remove(&client), "unwatched twice"),
            }
            if watch {
                self.tell_channels(client);
            }
        }
        for report in self.presence.try_iter() {
            match report {
                Report::Change(PresenceChange::Opened { connection, resumable, .. }) => {
                    assert!(resumable && self.opened.insert(connection), "opened twice");
                }
                Report::Change(PresenceChange::Closed { connection, .. }) => {
                    assert!(self.opened.contains(&connection), "closed but never opened");
                    assert!(self.closed.insert(connection), "closed twice");
                }
                other => panic!("{other:?}"),
            }
        }
        let notices: Vec<_> = self.publisher.queue.try_iter().collect();
        self.publisher.done(&notices, false);
        for notice in notices {
            let Envelope::Direct { sender: ClientId::Int(to), content, .. } = notice.envelope()
            else {
                panic!("{notice:?}")
            };
            let json: Value = serde_json::from_str(&content).unwrap();
            let id = json["id"].as_str().unwrap().parse().unwrap();
            assert!(self.receipts.insert((id, to)), "a second receipt for {id} to {to}");
        }
        let live = self.node.live.load(Ordering::Relaxed);
        // Some may be on their way.
        assert!(self.queued > 0 || live == self.reactor.connections.len() as u64);
    }

    /// Faults are over: everybody who may comes back and gets all that it is owed.
    fn settle(&mut self, chance: &mut Seeded) {
        self.catch_up(chance);
        for _ in 0..60 {
            for index in 0..self.devices.len() {
                let device = &mut self.devices[index];
                if device.gone {
                    continue;
                }
                device.read(1 << 20);
                let is_over = |socket: &Socket| {
                    let line = socket.line.borrow();
                    line.ended || line.shut || line.dropped
                };
                if !device.gone && device.socket.as_ref().is_none_or(is_over) {
                    self.connect(index);
                }
            }
            self.turn(|| true);
        }
        for (index, device) in self.devices.iter().enumerate().filter(|(_, device)| !device.gone) {
            let state = device.socket.as_ref().map(|socket| {
                let line = socket.line.borrow();
                (
                    socket.greeted,
                    socket.read,
                    line.output.len(),
                    line.watch,
                    line.ended,
                    line.dropped,
                )
            });
            assert_eq!(
                device.had,
                device.owed.len(),
                "device {index} of {} ({state:?}, c {:?}) misses some of {:?}",
                device.client,
                device.c,
                device.owed
            );
        }
    }

    /// The node stops.
    fn finish(mut self) -> usize {
        self.reactor.obey(Command::Drain, 1);
        self.turn(|| true);
        self.reactor.finish();
        self.reactor.settle_written();
        self.collect();
        // Those who can come back are left to the process after this one.
        assert!(self.closed.is_subset(&self.opened));
        assert_eq!(self.receipts, self.due, "receipts that came, receipts that were due");
        self.devices.iter().map(|device| device.resumed).sum()
    }
}

impl Device {
    /// Deals with up to so many bytes more of what came.
    fn read(&mut self, bytes: usize) {
        let Some(mut socket) = self.socket.take() else { return };
        let line = Rc::clone(&socket.line);
        let line = line.borrow();
        let until = line.output.len().min(socket.read + bytes);
        if socket.read == 0 && until >= RESPONSE.len() {
            assert_eq!(&line.output[..RESPONSE.len()], RESPONSE);
            socket.read = RESPONSE.len();
        }
        while let Some((first, payload, length)) = (socket.read >= RESPONSE.len())
            .then(|| split(&line.output[socket.read..until]))
            .flatten()
        {
            socket.read += length;
            match first {
                0x81 => self.take(&mut socket, serde_json::from_slice(payload).unwrap()),
                0x88 => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    self.gone |= code == 4001 || code == 4003;
                    return;
                }
                0x89 | 0x8a => {}
                other => panic!("frame {other:#x}"),
            }
        }
        self.socket = Some(socket);
    }

    fn take(&mut self, socket: &mut Socket, frame: Value) {
        let Some(hello) = frame.get("hello") else {
            assert!(socket.greeted, "hello is always first");
            if let Some(message) = frame.get("m") {
                let id = message["i"].as_u64().unwrap() as usize;
                assert_eq!(Some(&id), self.owed.get(self.had), "of {:?}", self.owed);
                self.had += 1;
            }
            self.since = Some(frame["p"].as_str().unwrap().into());
            return;
        };
        self.c = Some(hello["c"].as_str().unwrap().into());
        if hello["resumed"] == true {
            assert!(!socket.greeted, "resumed on an open connection");
            let missed = socket.owed_before - self.had;
            assert_eq!(
                hello["missed"], missed,
                "{hello} of {:?} it had {}, {:?}",
                self.owed, self.had, self.since
            );
            self.resumed += 1;
        } else {
            let from = match socket.greeted {
                true => socket.holes.remove(0),
                false => socket.owed_before,
            };
            self.owed.drain(..from);
            self.had = 0;
            socket.holes.iter_mut().for_each(|hole| *hole -= from);
            self.since = Some(hello["p"].as_str().unwrap().into());
        }
        socket.greeted = true;
    }

    fn word(&self) -> Vec<u8> {
        let since = self.since.as_deref().unwrap_or("none");
        format!("{{\"a\":\"{since}\"}}").into_bytes()
    }

    fn say(&self, first: u8, payload: &[u8]) {
        let Some(socket) = &self.socket else { return };
        let mut line = socket.line.borrow_mut();
        if !line.ended {
            let head = [first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
            line.arrive(head.into_iter().chain(payload.iter().copied()));
        }
    }

    /// The network breaks: what is under way is lost.
    fn cut(&mut self, chance: &mut Seeded) {
        if let Some(socket) = self.socket.take() {
            socket.line.borrow_mut().end(chance.once_in(2));
        }
    }

    /// It closes, with a code or without.
    fn leave(&mut self, code: &[u8]) {
        self.say(0x88, code);
        if let Some(socket) = self.socket.take() {
            socket.line.borrow_mut().end(false);
        }
    }
}

/// The first frame of `bytes`, if it is whole, and its length with the header.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (head, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        length => (2, usize::from(length)),
    };
    Some((bytes[0], bytes.get(head..head + length)?, head + length))
}

fn run(seed: u64) -> usize {
    let _replay = Replay { variable: VARIABLE, seed };
    let mut chance = Seeded::new(seed);
    let mut world = World::new(seed);
    for _ in 0..300 {
        for _ in 0..chance.below(5) {
            world.act(&mut chance);
        }
        world.turn(|| chance.below(3) == 0);
    }
    world.settle(&mut chance);
    world.finish()
}

#[test]
fn who_resumes_misses_repeats_and_reorders_nothing() {
    let resumed: usize = seeds(VARIABLE, 150).map(run).sum();
    assert!(resumed > 0, "nobody ever resumed");
}

#[test]
fn time_in_which_the_node_takes_nobody_is_held_against_nobody() {
    let mut world = World::new(1);
    world.device(1);
    world.turn(|| true);
    world.devices[0].read(1 << 20);
    world.devices[0].cut(&mut Seeded::new(1));
    world.turn(|| true);
    let wait = |world: &mut World, is_open: bool| {
        world.node.pulse.readiness.set_listening(is_open);
        for _ in 0..30 {
            let second = Duration::from_secs(1);
            world.now += second;
            world.reactor.pass(world.now, second);
            world.reactor.sweep();
        }
        world.collect();
    };
    assert_eq!(world.opened.len(), 1);
    wait(&mut world, false);
    assert!(world.closed.is_empty());
    wait(&mut world, true);
    assert_eq!(world.closed, world.opened);
}

#[test]
fn an_acknowledgement_amid_a_message_to_many_costs_no_write() {
    // Of an even seed: a message to five takes three turns.
    let mut world = World::new(2);
    (1..=5).for_each(|client| world.device(client));
    (0..10).for_each(|_| world.turn(|| true));
    world.devices.iter_mut().for_each(|device| device.read(1 << 20));
    let message = Prepared::text("1", world.position.next(Some(1)));
    world.commands.push(Command::Channel { sender: 0.into(), channel: None, message }).unwrap();
    let written = |world: &World| world.lines[0].borrow().output.len();
    let before = written(&world);
    for _ in 0..2 {
        world.devices[0].say(0x81, &world.devices[0].word());
        // A poll that tells of what came says again that there is room.
        world.lines[0].borrow_mut().writable = true;
        world.turn(|| true);
        assert!(world.reactor.delivery.is_some());
        assert_eq!(written(&world), before, "it was to wait for what comes next");
    }
    (0..4).for_each(|_| world.turn(|| true));
    assert!(written(&world) > before);
}
