//! The command line, as clap reads it.

mod deployment;

pub use deployment::{DeploymentArgs, Pins};

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{orders::Reconnect, stamp::SHORTEST};

/// Measures imcore: its own child processes by default, or a running deployment.
///
/// Every figure that compares is a ratio of CPU time to a floor server's in the same run. Ends with 1
/// when a message is unaccounted for, a connection ended that should have lasted, or anything else went wrong.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Debug, Subcommand)]
pub enum What {
    /// Ramp up connections: rate, latency, CPU and memory of each
    Connect(Measured<ConnectArgs>),
    /// Messages to rooms: CPU per delivery beside the floor's, or latency at a rate
    Fanout(Measured<FanoutArgs>),
    /// Messages to single clients: CPU per message beside the floor's, or latency at a rate
    P2p(Measured<P2pArgs>),
    /// Connects and disconnects while messages flow
    Churn(TrafficArgs),
    /// Rooms, single clients and churn together
    Mixed(TrafficArgs),
    /// The same for long, watching memory
    Soak(TrafficArgs),
    /// Clients that go on from where they were while networks, nodes and Redis break: nothing may be missing, double or out
    /// of order, and nobody told that they were away
    Resume(Resuming),
    /// Clients that resume while Redis loses what it held: whatever is missing, they must have been told
    Holes(crate::holes::args::HolesArgs),
    /// Connections open and close while those who are told of it break, and nodes and Redis: every event must come, in order
    Events(crate::events::args::EventsArgs),
    /// How cost grows with rooms, messages and connections, as plots
    Growth(GrowthArgs),
    /// The floor alone: CPU per delivery, plain, merging and from Redis
    Floor(FloorArgs),
    /// The rows of the table of targets in docs/performance.md
    Rows(Measured<RowsArgs>),
    /// A small run of everything in a few seconds, for continuous integration
    Smoke(CommonArgs),
    /// A scenario from a file: a JSON object with the fields of `mixed`
    Scenario(ScenarioArgs),
    #[command(hide = true)]
    Swarm(SwarmArgs),
    #[command(hide = true)]
    Consumer(ConsumerArgs),
    #[command(hide = true)]
    FloorServer(FloorServerArgs),
}

/// The size of a message, which holds at least what it says of itself.
fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if size >= SHORTEST => Ok(size),
        _ => Err(format!("expected a number of bytes, {SHORTEST} or more")),
    }
}

/// What every measuring command takes.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    #[command(flatten)]
    pub deployment: DeploymentArgs,
    /// Priority of everything that is started, -20 to 19: keeps other work on a shared machine out of
    /// latencies; below 0 needs root
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true)]
    pub nice: i32,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the result as a self-contained HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// How often what is measured several times is measured.
#[derive(Debug, Clone, Args)]
pub struct RunsArgs {
    /// Interleaved runs; minimum, median and maximum are reported
    #[arg(long, default_value_t = NonZeroUsize::new(3).expect("it is 3"), value_name = "N")]
    pub runs: NonZeroUsize,
}

/// A measurement of CPU time: several runs, and a profile of the server if wanted.
#[derive(Debug, Clone, Args)]
pub struct Measured<A: Args> {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub runs: RunsArgs,
    /// Afterwards, profile the server in one more slice: `perf record` into this file
    #[arg(long, value_name = "FILE")]
    pub perf: Option<PathBuf>,
    #[command(flatten)]
    pub what: A,
}

#[derive(Debug, Clone, Args)]
pub struct ConnectArgs {
    /// Connections
    #[arg(long, default_value_t = 15_000)]
    pub clients: usize,
    /// Connections a second [default: as fast as the nodes take them]
    #[arg(long)]
    pub rate: Option<f64>,
    /// Connects under way at the same time
    #[arg(long, default_value_t = 256)]
    pub window: usize,
}

#[derive(Debug, Clone, Args)]
pub struct FanoutArgs {
    /// Members of each room
    #[arg(long, default_value_t = 10_000)]
    pub members: usize,
    /// Rooms, with --rate
    #[arg(long, default_value_t = 1, requires = "rate")]
    pub rooms: usize,
    /// Messages in flight: the next goes out when all deliveries of an earlier one are in
    #[arg(long, default_value_t = 1)]
    pub in_flight: u32,
    /// Messages in each run
    #[arg(long, default_value_t = 40)]
    pub messages: u32,
    /// Bytes of a message, 75 or more
    #[arg(long, default_value_t = 128, value_parser = size)]
    pub size: usize,
    /// Open loop instead: messages a second over all rooms; reports latency
    #[arg(long, conflicts_with_all = ["runs", "perf", "in_flight", "messages"])]
    pub rate: Option<f64>,
    /// Length of each run with --rate, in seconds
    #[arg(long, default_value_t = 10.0, requires = "rate")]
    pub seconds: f64,
}

#[derive(Debug, Clone, Args)]
pub struct P2pArgs {
    /// Clients that get messages
    #[arg(long, default_value_t = 1000)]
    pub receivers: usize,
    /// Messages in each run
    #[arg(long, default_value_t = 60_000)]
    pub messages: u64,
    /// Messages that may be under way when saturating [default: one per receiver, which nothing can merge]
    #[arg(long)]
    pub window: Option<u64>,
    /// Bytes of a message, 75 or more
    #[arg(long, default_value_t = 128, value_parser = size)]
    pub size: usize,
    /// Ask for receipts; compares with the same messages without
    #[arg(long)]
    pub receipts: bool,
    /// Open loop instead: messages a second; reports latency beside the floor's
    #[arg(long, conflicts_with_all = ["perf", "messages", "window"])]
    pub rate: Option<f64>,
    /// Length of each run with --rate, in seconds
    #[arg(long, default_value_t = 10.0, requires = "rate")]
    pub seconds: f64,
}

#[derive(Debug, Clone, Args)]
pub struct TrafficArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// A traffic profile; each rate is open loop.
#[derive(Debug, Clone, Args, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileArgs {
    /// Nodes to start
    #[arg(long, default_value_t = 1)]
    pub nodes: usize,
    /// Clients that stay connected
    #[arg(long, default_value_t = 5000)]
    pub clients: usize,
    /// Messages a second to single clients
    #[arg(long, default_value_t = 500.0)]
    pub direct_rate: f64,
    /// Rooms; the clients are spread over them
    #[arg(long, default_value_t = 10)]
    pub rooms: usize,
    /// Messages a second over all rooms
    #[arg(long, default_value_t = 20.0)]
    pub room_rate: f64,
    /// Connects, and as many disconnects, a second
    #[arg(long, default_value_t = 100.0)]
    pub churn_rate: f64,
    /// Bytes of a message, 75 or more
    #[arg(long, default_value_t = 128, value_parser = size)]
    pub size: usize,
    /// Length in seconds
    #[arg(long, default_value_t = 20.0)]
    pub seconds: f64,
    /// Clients that are cut come back as real ones do, for runs in which nodes are restarted: after pauses of up to 2.5 s
    /// that double up to 30 s, or what the close asks for. What was sent meanwhile is counted as missed; without this
    /// flag each such connection is a fault
    #[arg(long)]
    pub reconnect: bool,
    /// As --reconnect, with clients that go on from where they were (imcore.1): what was sent meanwhile is lost if it
    /// does not come, unless the node has told the client so
    #[arg(long)]
    pub resume: bool,
}

impl Default for ProfileArgs {
    fn default() -> Self {
        ProfileArgs {
            nodes: 1,
            clients: 5000,
            direct_rate: 500.0,
            rooms: 10,
            room_rate: 20.0,
            churn_rate: 100.0,
            size: 128,
            seconds: 20.0,
            reconnect: false,
            resume: false,
        }
    }
}

impl ProfileArgs {
    /// What clients do that are cut.
    pub fn coming(&self) -> Reconnect {
        match (self.resume, self.reconnect) {
            (true, _) => Reconnect::Resuming,
            (false, true) => Reconnect::Anew,
            (false, false) => Reconnect::Never,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub struct Resuming {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub what: ResumeArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// Clients
    #[arg(long, default_value_t = 10_000)]
    pub clients: usize,
    /// Messages a second to single clients
    #[arg(long, default_value_t = 1000.0)]
    pub direct_rate: f64,
    /// Messages a second over ten rooms
    #[arg(long, default_value_t = 10.0)]
    pub room_rate: f64,
    /// Length in seconds
    #[arg(long, default_value_t = 130.0)]
    pub seconds: f64,
}

#[derive(Debug, Clone, Args)]
pub struct ScenarioArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// The scenario, for example {"clients": 20000, "room_rate": 5, "seconds": 60}
    pub file: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct FloorArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub runs: RunsArgs,
    /// Sockets
    #[arg(long, default_value_t = 10_000)]
    pub members: usize,
    /// Messages in each run
    #[arg(long, default_value_t = 40)]
    pub messages: u32,
    /// Bytes of a message, 75 or more
    #[arg(long, default_value_t = 128, value_parser = size)]
    pub size: usize,
}

#[derive(Debug, Clone, Args)]
pub struct GrowthArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(flatten)]
    pub runs: RunsArgs,
    /// Write each plot into this folder: growth-room.svg, growth-size.svg, growth-connect.svg
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
    /// A twentieth of the connections and messages: does it work at all?
    #[arg(long)]
    pub quick: bool,
}

#[derive(Debug, Clone, Args)]
pub struct RowsArgs {
    /// Which; all if none is named
    #[arg(value_enum)]
    pub rows: Vec<RowName>,
    /// A tenth of the connections and messages: does it work at all?
    #[arg(long)]
    pub quick: bool,
    /// Another imserver, say of an earlier commit, which `fanout8-resumable` measures as well
    #[arg(long, value_name = "PATH")]
    pub before: Option<PathBuf>,
    /// Seconds between the broadcast and the memory reading of `memory`
    #[arg(long, default_value_t = 60)]
    pub settle: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowName {
    /// Memory per idle connection, and after a 64 KiB broadcast
    Memory,
    /// Room of 10,000, one message in flight
    Fanout,
    /// The same with eight in flight
    Fanout8,
    /// The same with clients that can resume, beside clients that cannot
    Fanout8Resumable,
    /// Point to point from Redis, one message per receiver under way
    P2p,
    /// The same with four per receiver, beside a floor that merges as well
    P2pSaturated,
    /// With receipts, beside without
    P2pReceipts,
    /// With receipts that wait for the receiver, beside those that say sent
    P2pAcknowledged,
    /// With the log, beside without
    P2pLog,
    /// At 2,000 messages a second: p50 and p99
    P2pLatency,
    /// Point to point beside a busy room
    P2pUnderRoom,
    /// Connects with ticket, presence and event
    Connect,
    /// The same with events that are kept, beside without
    ConnectEvents,
    /// Join and room message as the room grows
    RoomCost,
    /// 15,000 sockets gone at once
    MassDisconnect,
    /// The same with events that are kept, beside without
    MassDisconnectEvents,
    /// Events that a node posts to a target
    Webhook,
    /// Redis CPU with four Redis for eight nodes, beside one that does the same
    SeveralRedis,
    /// 15,000 clients that resume at once, beside as many that connect anew
    Storm,
    /// 200,000 connections over 12 nodes
    Cluster,
    /// Fan-out with 1, 2 and 4 reactors
    Reactors,
}

impl RowName {
    /// Whether it only makes sense on nodes that are started for it.
    pub fn needs_own_nodes(self) -> bool {
        use RowName::*;
        matches!(
            self,
            Cluster
                | Reactors
                | RoomCost
                | MassDisconnect
                | MassDisconnectEvents
                | Webhook
                | Fanout8Resumable
                | P2pLog
                | SeveralRedis
                | Storm
                | ConnectEvents
        )
    }

    /// Whether `--perf` can profile the server in it.
    pub fn can_be_profiled(self) -> bool {
        use RowName::*;
        matches!(
            self,
            Fanout | Fanout8 | P2p | P2pSaturated | P2pReceipts | P2pAcknowledged | Connect
        )
    }
}

#[derive(Debug, Clone, Args)]
pub struct SwarmArgs {
    #[arg(long)]
    pub deployment: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct ConsumerArgs {
    #[arg(long)]
    pub deployment: String,
}

#[derive(Debug, Clone, Args)]
pub struct FloorServerArgs {
    #[arg(long, requires = "topic")]
    pub redis: Option<String>,
    #[arg(long)]
    pub topic: Option<String>,
    #[arg(long)]
    pub merging: bool,
}
