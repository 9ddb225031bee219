//! What the conductor and its client processes say to each other: one JSON object per line.
//!
//! Orders go down a swarm's standard input, notes come up its standard output. Counts in notes are totals
//! since the start, so that the newest note is the whole truth and none has to be added up.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

use crate::{account::Account, histogram::Recorded};

/// How to reach the deployment, for a swarm's own helper.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deployment {
    pub redis: String,
    pub servers: Vec<String>,
    pub prefix: String,
    pub path: String,
    pub public_url: String,
    /// A PEM file with who signs the nodes' certificates, for `wss://`.
    pub ca: Option<String>,
    /// Whether the helper keeps messages in the log.
    #[serde(default)]
    pub log: bool,
}

impl Deployment {
    /// The topic that a node reads.
    pub fn topic(&self, node: &str) -> String {
        format!("{}{}Server{node}", self.prefix, self.path.replace('/', "_"))
    }
}

/// From the conductor to a swarm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Connect clients `first`, `first + 1`, ...
    Dial(Dial),
    /// Drop the sockets of these clients without a word.
    Hangup { first: i64, count: usize },
    /// The clients `first .. first + count` are the members of `stream`, `here` of them in this swarm: a
    /// message of it is complete when all those have it, and misdelivered at anybody else.
    /// Whoever comes back joins the channel of this name again.
    Members { stream: u32, channel: Option<String>, first: i64, count: usize, here: u32 },
    /// Send latencies, then forget them.
    Collect,
    /// Cut this share of the open connections: with a reset, or without a word to the other side.
    Cut { share: f64, silently: bool },
    /// Reset all connections, after which clients that come back wait for an order to dial.
    CutOff,
    /// What was sent; tell what became of it.
    Audit(Sent),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dial {
    pub first: i64,
    pub count: usize,
    /// Connections a second; `None` is as fast as `window` allows.
    pub rate: Option<f64>,
    /// Connections under way at the same time.
    pub window: usize,
    /// Issue all tickets before the first connect, so that issuing is no part of the measured time.
    pub prepared: bool,
    /// A floor server instead of the deployment: no ticket, no handshake.
    pub floor: Option<String>,
    /// Whether they come back when a connection ends without an order, or an attempt fails.
    pub reconnect: Reconnect,
    /// They were here before and are cut off: they come back now.
    pub again: bool,
}

/// What a client does when its connection ends without an order, or an attempt fails.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reconnect {
    /// Nothing.
    #[default]
    Never,
    /// It comes back, and what was sent meanwhile is missed.
    Anew,
    /// It comes back and goes on from where it was (`imcore.1`): nothing is missed, unless the node says so.
    Resuming,
}

/// Everything that was sent to clients of one swarm.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Sent {
    pub direct: Vec<SentDirect>,
    pub rooms: Vec<SentRoom>,
}

/// What was sent to one client alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SentDirect {
    pub client: i64,
    pub messages: u32,
    pub schedule: Option<Schedule>,
}

/// What was sent to a room, and its members.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SentRoom {
    pub stream: u32,
    pub first: i64,
    pub count: usize,
    pub messages: u32,
    pub schedule: Option<Schedule>,
}

/// When the messages of a stream were sent, if that was at a rate: needed to tell what a client missed while it was
/// away from what was lost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// When the first was due.
    pub first: u64,
    /// Nanoseconds between two.
    pub step: f64,
    /// How long after it was due any of them went out at the latest.
    pub late: u64,
}

impl Schedule {
    /// When the message with this number, from 1 on, was sent: at the earliest, at the latest.
    pub fn moments(&self, number: u32) -> RangeInclusive<u64> {
        let due = self.first + (f64::from(number - 1) * self.step) as u64;
        due..=due + self.late
    }
}

/// From a swarm to the conductor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Note {
    Status(Status),
    Latencies(LatencyNote),
    Audit(Account),
    /// The swarm cannot go on.
    Failed(String),
}

/// Totals of one swarm since its start.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Status {
    pub opened: u64,
    /// Reason -> connects that failed.
    pub refused: BTreeMap<String, u64>,
    /// Reason -> open connections that ended for good, hang-ups by order aside.
    pub ended: BTreeMap<String, u64>,
    /// Reason -> open connections that ended and whose clients come back.
    pub interrupted: BTreeMap<String, u64>,
    /// Reason -> attempts that failed and are followed by another.
    pub tried: BTreeMap<String, u64>,
    /// Connections after an interrupted one, of those that were opened.
    pub returned: u64,
    /// Clients that are on their way back now.
    pub away: u64,
    pub hung_up: u64,
    /// Connections that went on from the one before.
    pub resumed: u64,
    /// Reason -> how often a client was told to load its state anew.
    pub resyncs: BTreeMap<String, u64>,
    pub delivered: u64,
    pub receipts_sent: u64,
    pub receipts_acknowledged: u64,
    pub receipts_offline: u64,
    /// Rooms whose members are declared.
    pub declared: u64,
    /// Room -> messages that every expected member has.
    pub complete: BTreeMap<u32, u64>,
    /// Prepared tickets that wait for the first connect.
    pub prepared: usize,
}

/// Distributions since the last [`Order::Collect`].
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct LatencyNote {
    pub connect: Recorded,
    pub direct: Recorded,
    pub room: Recorded,
    pub receipt: Recorded,
    /// From a connection's end until the client's next one was open.
    pub away: Recorded,
}
