//! The command line of `holes`.

use clap::{Args, ValueEnum};

use crate::args::CommonArgs;

/// Clients that come and go, on nodes and a Redis of the run's own that are treated badly.
#[derive(Debug, Clone, Args)]
pub struct HolesArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// Clients, all of which can resume
    #[arg(long, default_value_t = 10_000)]
    pub clients: usize,
    /// Nodes to start
    #[arg(long, default_value_t = 2)]
    pub nodes: usize,
    /// Slots that the nodes share, in place of a list, so that they may join and drain
    #[arg(long, default_value_t = 0)]
    pub slots: usize,
    /// Length in seconds; faults begin after 10, and none is begun that would end later
    #[arg(long, default_value_t = 300)]
    pub seconds: u64,
    /// Messages a second to single clients
    #[arg(long, default_value_t = 1000.0)]
    pub direct_rate: f64,
    /// Channels; each client is in one
    #[arg(long, default_value_t = 100)]
    pub rooms: usize,
    /// Messages a second over all channels
    #[arg(long, default_value_t = 50.0)]
    pub room_rate: f64,
    /// Messages a second to everybody
    #[arg(long, default_value_t = 0.2)]
    pub broadcast_rate: f64,
    /// Seconds between two ends of a client's connection, about: by reset, silence, a close without a word, or code 3001
    #[arg(long, default_value_t = 30.0)]
    pub flap: f64,
    /// Seconds for which the nodes wait for a client
    #[arg(long, default_value_t = 120)]
    pub keep: u64,
    /// Seconds for which Redis is cut off or stalled
    #[arg(long, default_value_t = 30)]
    pub cut: u64,
    /// What is done to nodes and Redis, in turn [default: flush, empty, rollback, trim]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub faults: Option<Vec<Fault>>,
    /// Clients come and go, nodes and Redis are left alone
    #[arg(long, conflicts_with = "faults")]
    pub no_faults: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// SIGKILL of a node, and another process in its place after 2 s
    Kill,
    /// SIGKILL of a node beside others that share slots; they take what it had, and it does not come back
    Die,
    /// SIGSTOP of a node for 10 s
    Stop,
    /// SIGSTOP of a node beside others that share slots, for so long that they take what it had
    Pause,
    /// The nodes' connections to Redis end, and none comes about
    Cut,
    /// The nodes' connections to Redis stand still
    Stall,
    /// CLIENT KILL of everybody at Redis
    ClientKill,
    /// FLUSHALL
    Flush,
    /// Redis is killed and comes back with nothing
    Empty,
    /// Redis is killed and comes back as it was a second before
    Rollback,
    /// One more node beside those that share slots, until it has its share
    Join,
    /// The last that joined, or the first one, gives its slots away and ends
    Drain,
    /// A node is killed, and logs lose all but their last entry before it comes back
    Trim,
}

impl Fault {
    /// After these nothing may be missing without a word; after the others, nothing at all.
    pub const LOSING: [Fault; 4] = [Fault::Flush, Fault::Empty, Fault::Rollback, Fault::Trim];

    pub fn is_harmless(self) -> bool {
        !Fault::LOSING.contains(&self)
    }
}
