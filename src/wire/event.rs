//! What is told of connections, clients and nodes to those who must not miss it. Pure.

use super::ticket::Ticket;
use crate::id::ClientId;

/// Something that happened, as it is kept for a day and handed to each group of readers.
///
/// It may come twice, with the same [`id`](Self::id). Of two events of one client the one with the higher [`n`](Self::n)
/// is the newer: whoever stores what the last one said never goes back.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// Its place among all events, and its name when it is acknowledged. Opaque; empty for [`EventKind::Missed`].
    pub id: String,
    /// What happened.
    pub kind: EventKind,
    /// The client of it, if it is of one.
    pub client: Option<ClientId>,
    /// Number of the connection; unique as long as its node runs.
    pub connection: Option<u64>,
    /// The ticket of the connection, with what the business noted when it issued the address.
    pub ticket: Option<Ticket>,
    /// Name of the node.
    pub node: String,
    /// Why a connection ended, in one word, as in metrics and logs; `node_gone` if only its node could say. Else empty.
    pub reason: String,
    /// When, in milliseconds since 1970, by the clock of the broker.
    pub ms: u64,
    /// Grows from event to event, also where the broker has lost its data or its clock has gone back.
    pub n: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A connection opened.
    Opened,
    /// A connection ended, and is not waited for (any more).
    Ended,
    /// The client has its first connection: follows on its `Opened`.
    Online,
    /// The client has no connection any more: follows on its `Ended`.
    Offline,
    /// A node did not renew its lease and was taken for dead. What becomes of its connections is told of each.
    NodeDied,
    /// So many events were trimmed before this group was given them; `None`: all are gone, nobody knows how many. Ask the
    /// broker who is online.
    Missed(Option<u64>),
    /// Something that this version does not know.
    Other(String),
}

impl EventKind {
    /// The word for it in the stream; empty for [`Missed`](EventKind::Missed), which is not there.
    pub fn word(&self) -> &str {
        match self {
            EventKind::Opened => "opened",
            EventKind::Ended => "ended",
            EventKind::Online => "online",
            EventKind::Offline => "offline",
            EventKind::NodeDied => "node_died",
            EventKind::Missed(_) => "",
            EventKind::Other(word) => word,
        }
    }

    #[cfg(feature = "redis")]
    fn of_word(word: &str) -> Self {
        let known = [Self::Opened, Self::Ended, Self::Online, Self::Offline, Self::NodeDied];
        let found = known.into_iter().find(|kind| kind.word() == word);
        found.unwrap_or_else(|| EventKind::Other(word.to_owned()))
    }
}

impl Event {
    /// That some events were missed.
    pub(crate) fn missed(count: Option<u64>) -> Self {
        Event::bare(String::new(), EventKind::Missed(count))
    }

    pub(crate) fn bare(id: String, kind: EventKind) -> Self {
        Event {
            id,
            kind,
            client: None,
            connection: None,
            ticket: None,
            node: String::new(),
            reason: String::new(),
            ms: 0,
            n: 0,
        }
    }

    /// Reads the fields of an entry; what cannot be read is left out.
    #[cfg(feature = "redis")]
    pub(crate) fn read(id: String, fields: impl Iterator<Item = (String, String)>) -> Self {
        let mut event = Event::bare(id, EventKind::Other(String::new()));
        for (name, value) in fields {
            match &*name {
                "type" => event.kind = EventKind::of_word(&value),
                "client" => event.client = value.parse().ok(),
                "connection" => event.connection = value.parse().ok(),
                "ticket" => event.ticket = Ticket::parse(&value),
                "node" => event.node = value,
                "reason" => event.reason = value,
                "ms" => event.ms = value.parse().unwrap_or_default(),
                "n" => event.n = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        event
    }
}
