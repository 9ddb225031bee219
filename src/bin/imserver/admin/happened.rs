//! What happened in the cluster, or was done about it, as facts: a sentence in English for logs and programs, and what it is about for
//! the page, which tells it in its reader's language. Pure.

use std::fmt;

use serde::Serialize;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Happened {
    Came {
        server: String,
    },
    /// It was not heard of for so many seconds.
    Back {
        server: String,
        seconds: u64,
    },
    /// Likewise, if it was not heard of at all.
    StartedAgain {
        server: String,
        seconds: Option<u64>,
    },
    Ready {
        server: String,
    },
    NotReady {
        server: String,
        why: String,
    },
    /// It had so many connections.
    Silent {
        server: String,
        connections: u64,
        hurt: Option<Hurt>,
    },
    Stopped {
        server: String,
        connections: u64,
        hurt: Option<Hurt>,
    },
    BrokerAway {
        why: String,
    },
    BrokerBack {
        seconds: u64,
    },
    Kicked {
        by: String,
        client: String,
    },
    Drained {
        by: String,
        server: String,
    },
    TakenBack {
        by: String,
        server: String,
    },
    WebhooksOn {
        by: String,
    },
    WebhooksOff {
        by: String,
    },
    Replayed {
        by: String,
        letters: usize,
    },
    Discarded {
        by: String,
        letters: usize,
    },
}

impl Happened {
    /// Whether somebody should look into it.
    pub(super) fn is_bad(&self) -> bool {
        match self {
            Happened::NotReady { why, .. } => why != "stopping",
            Happened::Silent { .. } | Happened::BrokerAway { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Happened::Came { server } => write!(f, "{server} came"),
            Happened::Back { server, seconds } => {
                write!(f, "{server} is back, not heard of for {seconds} s")
            }
            Happened::StartedAgain { server, seconds: None } => {
                write!(f, "{server} was started again")
            }
            Happened::StartedAgain { server, seconds: Some(seconds) } => {
                write!(f, "{server} was started again, not heard of for {seconds} s")
            }
            Happened::Ready { server } => write!(f, "{server} is ready"),
            Happened::NotReady { server, why } => write!(f, "{server} is not ready: {why}"),
            Happened::Silent { server, connections, hurt } => {
                gone(f, &format!("{server} fell silent"), *connections, *hurt)
            }
            Happened::Stopped { server, connections, hurt } => {
                gone(f, &format!("{server} has stopped"), *connections, *hurt)
            }
            Happened::BrokerAway { why } => f.write_str(why),
            Happened::BrokerBack { seconds } => {
                write!(f, "the broker answers again, after {seconds} s")
            }
            Happened::Kicked { by, client } => write!(f, "{by} kicked client {client}"),
            Happened::Drained { by, server } => {
                write!(f, "{by} had node {server} give its slots away")
            }
            Happened::TakenBack { by, server } => {
                write!(f, "{by} had node {server} take its share")
            }
            Happened::WebhooksOn { by } => write!(f, "{by} switched webhooks on"),
            Happened::WebhooksOff { by } => write!(f, "{by} switched webhooks off"),
            Happened::Replayed { by, letters } => {
                write!(f, "{by} has {letters} dead letters delivered once more")
            }
            Happened::Discarded { by, letters } => {
                write!(f, "{by} threw {letters} dead letters away")
            }
        }
    }
}

fn gone(f: &mut fmt::Formatter<'_>, how: &str, count: u64, hurt: Option<Hurt>) -> fmt::Result {
    let connections = if count == 1 { "connection" } else { "connections" };
    write!(f, "{how}; it had {count} {connections}")?;
    hurt.map_or(Ok(()), |hurt| write!(f, "; {hurt}"))
}

/// Which clients are cut off while a node is away: those whose id, or the hash of it, leaves `index` when it is divided by `places`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Hurt {
    pub(super) index: usize,
    pub(super) places: usize,
}

impl fmt::Display for Hurt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.places {
            1 => f.write_str("no client can connect"),
            places => write!(
                f,
                "every client whose remainder by {places} nodes is {} cannot connect",
                self.index
            ),
        }
    }
}
