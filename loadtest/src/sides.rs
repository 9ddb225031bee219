//! What is compared: a room on the server, a room on the floor, direct messages from Redis to either.
//!
//! Each side keeps its clients connected over all runs, so that runs can be interleaved; each counts what
//! it offers, so that the account covers every message.

use std::{
    ops::{AddAssign, Range},
    sync::OnceLock,
    time::Duration,
};

use imcore::{ClientId, ImClient, broker::Envelope};

use crate::{
    account::Account,
    args::{DeploymentArgs, Pins},
    clock,
    cluster::{Cluster, NodeOptions},
    fleet::Fleet,
    floor::Floor,
    meter::Meter,
    orders::{Dial, Sent, SentRoom},
    sender::Sender,
    stamp::{DIRECT, Stamp},
};

/// First client of every fleet, unless `--first-client` says otherwise.
const FIRST: i64 = 1_000_000;
static NAMES: OnceLock<Names> = OnceLock::new();

/// What test clients and rooms are called, so that nobody of a running deployment is met.
struct Names {
    first_client: i64,
    room_prefix: String,
}

/// Decides what clients and rooms of this run are called; to be called once, before anything starts.
pub fn choose_names(args: &DeploymentArgs) -> Result<(), String> {
    const IDS: i64 = 200_000_000;
    if args.first_client.is_some_and(|first| !(1..=i64::MAX / 4 - IDS).contains(&first)) {
        return Err(format!("--first-client: expected 1 to {}", i64::MAX / 4 - IDS));
    }
    let names = match (&args.redis, args.first_client) {
        (None, first) => Names { first_client: first.unwrap_or(FIRST), room_prefix: "room".into() },
        (Some(_), Some(first)) => {
            let room_prefix = args.room_prefix.clone();
            let room_prefix =
                room_prefix.unwrap_or_else(|| format!("loadtest-{:x}", std::process::id()));
            Names { first_client: first, room_prefix }
        }
        (Some(_), None) => {
            return Err(
                "a running deployment has users: name the first of 200,000,000 client ids \
                        that none of them has, for example --first-client 4000000000000"
                    .into(),
            );
        }
    };
    let _ = NAMES.set(names);
    Ok(())
}

/// First client of every fleet.
pub fn first_client() -> i64 {
    NAMES.get().map_or(FIRST, |names| names.first_client)
}
/// The room that a [`Room`] sends to.
pub const STREAM: u32 = 1;
/// Longest wait for a delivery.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connects under way while a side is set up.
const WINDOW: usize = 256;
/// Envelopes in one pipeline to Redis.
const BATCH: u64 = 250;

/// What one measured stretch cost.
#[derive(Debug, Default, Clone, Copy)]
pub struct Slice {
    /// Nanoseconds; NaN if it could not be measured.
    pub cpu: f64,
    pub wall: u64,
    /// Deliveries or messages.
    pub units: u64,
}

impl AddAssign for Slice {
    fn add_assign(&mut self, other: Slice) {
        self.cpu += other.cpu;
        self.wall += other.wall;
        self.units += other.units;
    }
}

/// Parts of a run: the sides take turns often, so that other work on the machine disturbs all alike.
pub const TURNS: u32 = 8;

impl Slice {
    /// Microseconds of CPU time for each unit.
    pub fn each(&self) -> f64 {
        self.cpu / 1e3 / self.units.max(1) as f64
    }

    /// Units a second.
    pub fn rate(&self) -> f64 {
        self.units as f64 * 1e9 / self.wall.max(1) as f64
    }

    /// How much of one core was used.
    pub fn load(&self) -> f64 {
        self.cpu / self.wall.max(1) as f64
    }
}

/// Measures what `work` costs; it returns the number of units.
pub fn slice(meter: &Meter, work: impl FnOnce() -> Result<u64, String>) -> Result<Slice, String> {
    let (cpu, wall) = (meter.cpu(), clock::now());
    let units = work()?;
    Ok(Slice { cpu: meter.cpu() - cpu, wall: clock::now() - wall, units })
}

/// An order to connect everybody quickly.
pub fn everybody(first: i64, count: usize) -> Dial {
    Dial { first, count, rate: None, window: WINDOW, prepared: false, floor: None }
}

/// Who writes to the members of a room.
pub enum Writer {
    Server(Box<Cluster>),
    Plain(Floor),
    /// The same floor, told to merge.
    Merging(Floor),
}

/// A room with its members connected.
pub struct Room {
    pub writer: Writer,
    pub fleet: Fleet,
    pub meter: Meter,
    members: usize,
    size: usize,
    sent: u32,
}

impl Room {
    /// Starts a server and fills a room on it.
    pub fn on_server(
        args: &DeploymentArgs,
        options: &NodeOptions,
        members: usize,
        size: usize,
    ) -> Result<Self, String> {
        let cluster = Cluster::start(args, options)?;
        let clients = args.pins().clients;
        let mut fleet = Fleet::start(Some(&cluster.deployment), first_client(), members, clients)?;
        fleet.dial_all(&everybody(first_client(), members))?;
        join(&cluster.im, &room_name(STREAM), first_client(), members)?;
        fleet.members(STREAM, first_client(), members)?;
        let meter = cluster.meter();
        let writer = Writer::Server(Box::new(cluster));
        Ok(Room { writer, fleet, meter, members, size, sent: 0 })
    }

    /// Starts a floor with as many clients.
    pub fn on_floor(
        pins: Pins,
        merging: bool,
        members: usize,
        size: usize,
    ) -> Result<Self, String> {
        let mut floor = Floor::start(None, false, pins.server)?;
        let mut fleet = Fleet::start(None, first_client(), members, pins.clients)?;
        let dial =
            Dial { floor: Some(floor.address.clone()), ..everybody(first_client(), members) };
        fleet.dial_all(&dial)?;
        floor.accepted(members)?;
        fleet.members(STREAM, first_client(), members)?;
        let meter = floor.meter();
        let writer = if merging { Writer::Merging(floor) } else { Writer::Plain(floor) };
        Ok(Room { writer, fleet, meter, members, size, sent: 0 })
    }

    /// Sends `messages`, `in_flight` at a time: the next goes out when all deliveries of an earlier one
    /// are in.
    pub fn run(&mut self, messages: u32, in_flight: u32) -> Result<Slice, String> {
        let goal = self.sent + messages;
        let meter = self.meter.clone();
        let members = self.members as u64;
        slice(&meter, || {
            loop {
                let complete = self.fleet.look(|state| state.complete(STREAM));
                let allowed = (complete as u32 + in_flight).min(goal);
                if complete >= u64::from(goal) {
                    return Ok(u64::from(messages) * members);
                }
                if allowed > self.sent {
                    self.send(self.sent + 1..allowed + 1)?;
                    self.sent = allowed;
                }
                self.fleet.wait_unbroken(
                    "a room message to reach all members",
                    PATIENCE,
                    |state| state.complete(STREAM) > complete,
                )?;
            }
        })
    }

    fn send(&mut self, numbers: Range<u32>) -> Result<(), String> {
        let (due, size) = (clock::now(), self.size);
        let texts = numbers.map(|number| Stamp::of_room(STREAM, number, due).json(size));
        match &mut self.writer {
            Writer::Plain(floor) => floor.send(texts, false),
            Writer::Merging(floor) => floor.send(texts, true),
            Writer::Server(cluster) => {
                let texts: Vec<_> = texts.collect();
                publish_room(&cluster.im, &cluster.deployment.servers, &room_name(STREAM), &texts)
            }
        }
    }

    /// What became of everything that was sent.
    pub fn audit(&mut self) -> Result<Account, String> {
        let (first, count) = (first_client(), self.members);
        let room = SentRoom { stream: STREAM, first, count, messages: self.sent };
        self.fleet.audit(&Sent { direct: Vec::new(), rooms: vec![room] })
    }
}

/// The name of a room in the deployment.
pub fn room_name(stream: u32) -> String {
    let prefix = NAMES.get().map_or("room", |names| &names.room_prefix);
    format!("{prefix}-{stream}")
}

/// Joins clients to a room in batches, each one round trip.
pub fn join(im: &ImClient, room: &str, first: i64, count: usize) -> Result<(), String> {
    let clients: Vec<i64> = (first..first + count as i64).collect();
    for chunk in clients.chunks(1000) {
        im.join(chunk.iter().copied(), [room])
            .map_err(|error| format!("joining {room}: {error}"))?;
    }
    Ok(())
}

/// Publishes room messages to all nodes in one pipeline, as `ImClient::send` does one by one.
fn publish_room(
    im: &ImClient,
    servers: &[String],
    room: &str,
    texts: &[String],
) -> Result<(), String> {
    let envelope = |text: &String| Envelope::Channel {
        sender: ClientId::Int(0),
        channel: Some(room.to_owned()),
        content: text.clone(),
    };
    let outgoing: Vec<_> = texts
        .iter()
        .flat_map(|text| servers.iter().map(move |server| (&**server, envelope(text))))
        .collect();
    im.broker().publish(&outgoing).map_err(|error| format!("publishing: {error}"))
}

/// Receivers of direct messages that come through Redis, on a server or on the floor.
pub struct Direct {
    pub im: ImClient,
    /// Sends at a rate.
    pub sender: Sender,
    pub fleet: Fleet,
    pub meter: Meter,
    pub receivers: usize,
    /// Clients that send; they get the receipts.
    pub senders: usize,
    pub size: usize,
    pub sent: u64,
    pub receipts: u64,
    /// Keeps the other end alive.
    _floor: Option<Floor>,
}

impl Direct {
    /// Connects receivers, and senders behind them, to `cluster`.
    pub fn on_server(
        cluster: &Cluster,
        pins: Pins,
        receivers: usize,
        senders: usize,
        size: usize,
    ) -> Result<Self, String> {
        let everyone = receivers + senders;
        let mut fleet =
            Fleet::start(Some(&cluster.deployment), first_client(), everyone, pins.clients)?;
        fleet.dial_all(&everybody(first_client(), everyone))?;
        Ok(Direct {
            im: cluster.im.clone(),
            sender: cluster.sender()?,
            fleet,
            meter: cluster.meter(),
            receivers,
            senders,
            size,
            sent: 0,
            receipts: 0,
            _floor: None,
        })
    }

    /// The same on a floor that hears the same Redis under a node name of its own.
    pub fn on_floor(
        cluster: &Cluster,
        pins: Pins,
        merging: bool,
        receivers: usize,
        size: usize,
    ) -> Result<Self, String> {
        let name = if merging { "floor:2" } else { "floor:1" };
        let mut deployment = cluster.deployment.clone();
        deployment.servers = vec![name.into()];
        let path = deployment.path.replace('/', "_");
        let topic = format!("{}{path}Server{name}", deployment.prefix);
        let mut floor = Floor::start(Some((&deployment.redis, &topic)), merging, pins.server)?;
        let mut fleet = Fleet::start(None, first_client(), receivers, pins.clients)?;
        let dial =
            Dial { floor: Some(floor.address.clone()), ..everybody(first_client(), receivers) };
        fleet.dial_all(&dial)?;
        floor.accepted(receivers)?;
        let im = crate::swarm::helper(&deployment)?;
        Ok(Direct {
            sender: Sender::Helper(im.clone()),
            im,
            fleet,
            meter: floor.meter(),
            receivers,
            senders: 0,
            size,
            sent: 0,
            receipts: 0,
            _floor: Some(floor),
        })
    }

    /// Sends `messages` round robin with up to `window` under way, as fast as they arrive.
    pub fn saturate(
        &mut self,
        messages: u64,
        window: u64,
        receipts: bool,
    ) -> Result<Slice, String> {
        let goal = self.sent + messages;
        let meter = self.meter.clone();
        slice(&meter, || {
            loop {
                let (delivered, acknowledged) =
                    self.fleet.look(|state| (state.delivered(), state.receipts()));
                let waiting_receipts = self.receipts - acknowledged;
                if delivered >= goal && waiting_receipts == 0 {
                    return Ok(messages);
                }
                let under_way = (self.sent - delivered).max(waiting_receipts);
                let batch = BATCH.min(goal - self.sent);
                if batch > 0 && under_way + batch <= window {
                    self.send(batch, receipts)?;
                    continue;
                }
                self.fleet.wait_unbroken("direct messages", PATIENCE, |state| {
                    state.delivered() > delivered || state.receipts() > acknowledged
                })?;
            }
        })
    }

    fn send(&mut self, count: u64, receipt: bool) -> Result<(), String> {
        let due = clock::now();
        let batch: Vec<_> = (self.sent..self.sent + count)
            .map(|index| {
                let (receiver, content) = self.message(index, due, receipt);
                let receiver = ClientId::Int(receiver);
                let node = self.im.node_of(receiver);
                let sender = self.author(index, receipt);
                let receivers = vec![receiver];
                (node, Envelope::Direct { sender, receivers, content, receipt, id: None })
            })
            .collect();
        self.im.broker().publish(&batch).map_err(|error| format!("publishing: {error}"))?;
        self.sent += count;
        self.receipts += if receipt { count } else { 0 };
        Ok(())
    }

    /// Who the message with this index is from; the system where no receipt is wanted.
    pub fn author(&self, index: u64, receipt: bool) -> ClientId {
        match receipt && self.senders > 0 {
            true => (first_client() + (self.receivers as u64 + index % self.senders as u64) as i64)
                .into(),
            false => ClientId::Int(0),
        }
    }

    /// Receiver and text of the message with this index, which asks for a receipt or does not.
    pub fn message(&self, index: u64, due: u64, receipt: bool) -> (i64, String) {
        let receivers = self.receivers as u64;
        let sender = match self.author(index, receipt) {
            ClientId::Int(id) => id,
            _ => 0,
        };
        let receiver = first_client() + (index % receivers) as i64;
        let number = (index / receivers) as u32 + 1;
        (receiver, Stamp { stream: DIRECT, number, due, sender, receiver }.json(self.size))
    }

    /// What was sent to each receiver.
    pub fn sent_to_each(&self) -> Vec<(i64, u32)> {
        let receivers = self.receivers as u64;
        let whole = self.sent / receivers;
        (0..receivers)
            .map(|index| {
                let more = u64::from(index < self.sent % receivers);
                (first_client() + index as i64, (whole + more) as u32)
            })
            .collect()
    }

    /// Waits until everything is delivered, or nothing has come for a while: the audit tells which.
    pub fn settle(&self) -> Result<(), String> {
        let goal = self.sent;
        let _ = self.fleet.wait("the last messages", Duration::from_secs(10), |state| {
            state.delivered() >= goal && state.receipts() >= self.receipts
        });
        Ok(())
    }

    pub fn audit(&mut self) -> Result<Account, String> {
        let sent = Sent { direct: self.sent_to_each(), rooms: Vec::new() };
        let mut account = self.fleet.audit(&sent)?;
        // A receipt is a message too: each is offered once and must come once, and say that the message was
        // sent, since all receivers stay connected.
        let (came, offline) = self.fleet.look(|state| (state.receipts(), state.receipts_offline()));
        account.offered += self.receipts;
        account.delivered += came.min(self.receipts);
        account.damaged += offline;
        account.lost += self.receipts.saturating_sub(came);
        account.duplicates += came.saturating_sub(self.receipts);
        Ok(account)
    }
}
