//! The command line of `events`.

use clap::{Args, ValueEnum};

use crate::args::CommonArgs;

/// Clients that come and go, on nodes and a Redis of the run's own, while those who are told of it break.
#[derive(Debug, Clone, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// Connections that open and close
    #[arg(long, default_value_t = 100_000)]
    pub opens: usize,
    /// Clients that open them, one after the other and some on two devices at once
    #[arg(long, default_value_t = 5000)]
    pub clients: usize,
    /// Length in seconds; then everything that is left is waited for
    #[arg(long, default_value_t = 780.0)]
    pub seconds: f64,
    /// Seconds for which the target of the webhook is away
    #[arg(long, default_value_t = 600.0)]
    pub away: f64,
    /// What is done meanwhile
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Break::value_variants().to_vec())]
    pub faults: Vec<Break>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Break {
    /// SIGKILL of one of three consumers, twelve times in turn, and another in its place
    Consumers,
    /// The webhook's target is away
    Target,
    /// SIGKILL of each of two nodes, and another process in its place
    Nodes,
    /// SIGKILL of Redis, twice, which comes back with its append-only file
    Redis,
    /// The nodes' connections to Redis end, and stand still, for up to 4 s each
    Link,
}
