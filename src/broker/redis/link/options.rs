//! `RedisOptions`: names, sizes and times, checked when a broker is opened.

use std::{fmt, str::FromStr, time::Duration};

use crate::error::{Error, Result};

/// How a node learns that somebody has changed the channels of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ChangesBy {
    /// By whichever of the others the server offers, the first if it can be had. Default.
    #[default]
    Auto,
    /// By `CLIENT TRACKING .. REDIRECT`, which Redis and Valkey have, and many of the services on top of them do not.
    Tracking,
    /// By keyspace notifications, which have to be on: `notify-keyspace-events Kgh` or more.
    Keyspace,
    /// By notices of the helpers and nodes of this library, on any server. Joins and leaves by others, such as .NET
    /// helpers, are found when a message to that channel comes, up to 200 ms late.
    Notice,
}

impl FromStr for ChangesBy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(ChangesBy::Auto),
            "tracking" => Ok(ChangesBy::Tracking),
            "keyspace" => Ok(ChangesBy::Keyspace),
            "notice" => Ok(ChangesBy::Notice),
            _ => Err(Error::argument("expected auto, tracking, keyspace or notice")),
        }
    }
}

impl fmt::Display for ChangesBy {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            ChangesBy::Auto => "auto",
            ChangesBy::Tracking => "tracking",
            ChangesBy::Keyspace => "keyspace",
            ChangesBy::Notice => "notice",
        })
    }
}

/// How a [`RedisBroker`](crate::broker::RedisBroker) names its keys and treats its connections.
///
/// ```
/// use imcore::broker::{Broker, RedisBroker, RedisOptions};
///
/// let options = RedisOptions { prefix: "wsim".into(), pool_size: 4, ..RedisOptions::default() };
/// let broker = RedisBroker::open("redis://user:secret@127.0.0.1:6379/2", options)?; // connects later
/// assert_eq!(broker.describe(), "redis://127.0.0.1:6379/2");
/// # Ok::<(), imcore::Error>(())
/// ```
///
/// Further fields may come with any version: build one with `..RedisOptions::default()`, which goes on compiling.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// First part of all names: `im_v2` (default) as FreeIM 2, `wsim` as ImCore and FreeIM 1.
    pub prefix: String,
    /// The WebSocket path of the nodes, part of all names with `/` turned into `_`. Default `/ws`.
    pub path: String,
    /// In front of keys but not of topics, as the `prefix=` option of a .NET connection string.
    /// Default empty.
    pub key_prefix: String,
    /// Most connections open for calls at once; subscriptions have their own. Default 16.
    pub pool_size: usize,
    /// Most connections open for lists at once, beside those for calls. Default 4.
    pub read_pool_size: usize,
    /// Longest wait for a connection, whether one must become free or be opened. Default 2 s.
    pub connect_timeout: Duration,
    /// Longest wait, once there is a connection, for Redis to answer a call whole; of a long batch for
    /// each thousand commands. Default 3 s.
    pub call_timeout: Duration,
    /// How often a subscription proves that it still hears. Default 2 s.
    pub probe_interval: Duration,
    /// A subscription whose proof takes longer is given up. Default 5 s.
    pub probe_timeout: Duration,
    /// How nodes learn of joins and leaves.
    pub changes: ChangesBy,
    /// Whether what is published is also kept in Redis for a while, so that a node that could not hear reads it
    /// there. To be set alike in all helpers and nodes; needs nodes of this library alone. Default false.
    pub log: bool,
    /// How long the log keeps a message; that of the nodes counts. Default 2 minutes.
    pub log_age: Duration,
    /// Bytes of messages that each node's log keeps, and that for all nodes, beyond which the oldest go earlier; that
    /// of the nodes counts. Default 256 MiB.
    pub log_bytes: u64,
    /// How many [events](crate::Event) about connections are kept in Redis for those who read them in groups, of a day
    /// at most; that of the nodes counts. Default 0: none are written.
    pub events: u64,
    /// What slots are called in the servers list of .NET helpers, `{slot}` being the number with as many digits as the last one has:
    /// `im.example.com/s{slot}`. Where the number of nodes may change, these hear what is sent to such names. To be set alike
    /// in all nodes. Default empty: nobody sends to slots.
    pub slot_names: String,
    /// Names of all nodes, in the order of the `servers` list. Needed where [several Redis](crate::broker::open) share them,
    /// and used there alone. Default empty.
    pub nodes: Vec<String>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        RedisOptions {
            prefix: "im_v2".into(),
            path: "/ws".into(),
            key_prefix: String::new(),
            pool_size: 16,
            read_pool_size: 4,
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(3),
            probe_interval: Duration::from_secs(2),
            probe_timeout: Duration::from_secs(5),
            changes: ChangesBy::Auto,
            log: false,
            log_age: Duration::from_secs(120),
            log_bytes: 256 << 20,
            events: 0,
            slot_names: String::new(),
            nodes: Vec::new(),
        }
    }
}

impl RedisOptions {
    /// The smallest `log_bytes`: fewer would hold no message of full length.
    pub const LEAST_LOG_BYTES: u64 = 1 << 20;

    pub(crate) fn validate(&self) -> Result<()> {
        let sizes = [(self.pool_size, "pool_size"), (self.read_pool_size, "read_pool_size")];
        if let Some((_, name)) = sizes.iter().find(|(size, _)| *size == 0) {
            return Err(Error::config(*name, "0 connections serve nobody; take at least 1"));
        }
        if let Some(why) = mistake_in_names(&self.slot_names) {
            let detail =
                format!("{:?} {why}; take a name like im.example.com/s{{slot}}", self.slot_names);
            return Err(Error::config("slot_names", detail));
        }
        let durations = [
            (self.connect_timeout, "connect_timeout"),
            (self.call_timeout, "call_timeout"),
            (self.probe_interval, "probe_interval"),
            (self.probe_timeout, "probe_timeout"),
            (self.log_age, "log_age"),
        ];
        if self.log_bytes < Self::LEAST_LOG_BYTES {
            return Err(Error::config(
                "log_bytes",
                "too few to keep anything; take at least 1 MiB",
            ));
        }
        match durations.iter().find(|(duration, _)| duration.is_zero()) {
            Some((_, name)) => Err(Error::config(*name, "no time is too little; try 2 s")),
            None => Ok(()),
        }
    }
}

/// What is wrong with the names of slots, if anything.
fn mistake_in_names(names: &str) -> Option<&'static str> {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || ",;?#".contains(c);
    match names {
        "" => None,
        _ if names.matches("{slot}").count() != 1 => {
            Some("has not one {slot} in it, for the number of the slot")
        }
        _ if names.contains("://") => Some("is a URL, which .NET helpers make of it"),
        _ if names.contains(is_bad) => Some("holds what no name can"),
        _ => None,
    }
}
