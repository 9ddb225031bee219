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
    /// The client of it, if it is of one, and known.
    pub client: Option<ClientId>,
    /// The channel of it, if it is of one.
    pub channel: Option<String>,
    /// Number of the connection; unique as long as its node runs.
    pub connection: Option<u64>,
    /// The ticket of the connection, with what the business noted when it issued the address.
    pub ticket: Option<Ticket>,
    /// The id of the message that was not delivered.
    pub message: Option<String>,
    /// Name of the node; empty if it is of none.
    pub node: String,
    /// Why a connection ended, in one word, as in metrics and logs; `node_gone` if only its node could say. Why a message was
    /// not delivered, as in receipts: `offline` or `expired`. Else empty.
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
    /// The channel has its first member, over all nodes; the client is who came.
    Occupied,
    /// The channel has no member any more; the client is who went last. Comes between two `Occupied` of a channel.
    Vacated,
    /// A message that has an id did not reach the client, where the setting `undelivered` of nodes says so.
    Undelivered,
    /// So many events were trimmed before this group was given them; `None`: all are gone, nobody knows how many. Ask the
    /// broker who is online.
    Missed(Option<u64>),
    /// Something that this version does not know.
    Other(String),
}

impl EventKind {
    /// All that this version knows, but for [`Missed`](EventKind::Missed), which is no event of its own.
    pub const KNOWN: [EventKind; 8] = [
        EventKind::Opened,
        EventKind::Ended,
        EventKind::Online,
        EventKind::Offline,
        EventKind::NodeDied,
        EventKind::Occupied,
        EventKind::Vacated,
        EventKind::Undelivered,
    ];

    /// The word for it in the stream; empty for [`Missed`](EventKind::Missed), which is not there.
    pub fn word(&self) -> &str {
        match self {
            EventKind::Opened => "opened",
            EventKind::Ended => "ended",
            EventKind::Online => "online",
            EventKind::Offline => "offline",
            EventKind::NodeDied => "node_died",
            EventKind::Occupied => "occupied",
            EventKind::Vacated => "vacated",
            EventKind::Undelivered => "undelivered",
            EventKind::Missed(_) => "",
            EventKind::Other(word) => word,
        }
    }

    #[cfg(feature = "redis")]
    fn is_of_channel(&self) -> bool {
        matches!(self, EventKind::Occupied | EventKind::Vacated)
    }

    #[cfg(feature = "redis")]
    fn of_word(word: &str) -> Self {
        let found = Self::KNOWN.into_iter().find(|kind| kind.word() == word);
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
            channel: None,
            connection: None,
            ticket: None,
            message: None,
            node: String::new(),
            reason: String::new(),
            ms: 0,
            n: 0,
        }
    }

    /// The events of one entry of the stream, whose id is that of the last; what cannot be read is left out. `event.lua` writes
    /// them: `node`, `ms` and `count`, then for each change `word[+word] connection reason` and `client ticket`, or `client channel`, or
    /// `client message`.
    #[cfg(feature = "redis")]
    pub(crate) fn of_entry(id: &str, fields: impl Iterator<Item = (String, String)>) -> Vec<Self> {
        let (mut node, mut ms, mut events) = (String::new(), 0, Vec::new());
        for (name, value) in fields {
            match &*name {
                "node" => node = value,
                "ms" => ms = value.parse().unwrap_or_default(),
                "count" => {}
                _ => {
                    let mut about = name.splitn(3, ' ');
                    let mut next = || about.next().unwrap_or_default();
                    let (words, connection, reason) = (next(), next().parse().ok(), next());
                    let (client, about) = value.split_once(' ').unwrap_or((&value, ""));
                    events.extend(words.split('+').map(EventKind::of_word).map(|kind| Event {
                        client: client.parse().ok(),
                        channel: kind.is_of_channel().then(|| about.to_owned()),
                        connection,
                        message: (kind == EventKind::Undelivered).then(|| about.to_owned()),
                        ticket: connection.and_then(|_| Ticket::parse(about)),
                        reason: reason.to_owned(),
                        ..Event::bare(String::new(), kind)
                    }));
                }
            }
        }
        let (number, serial) = id.split_once('-').unwrap_or_default();
        let [number, serial] = [number, serial].map(|text| text.parse::<u64>().unwrap_or_default());
        for (event, later) in events.iter_mut().rev().zip(0..) {
            (event.n, event.ms) = (number.saturating_sub(later), ms);
            event.node.clone_from(&node);
            event.id = format!("{}-{}", event.n, serial.saturating_sub(later));
        }
        events
    }
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;

    #[test]
    fn an_entry_holds_several_events() {
        let ticket = r#"{"Item1":7,"Item2":"a b"}"#;
        let fields = [
            ("node", "n1"),
            ("ms", "1700000000000"),
            ("count", "5"),
            ("opened+online 3 ", &*format!("7 {ticket}")),
            ("ended 4 kicked", &*format!("8 {ticket}")),
            ("vacated  ", r#"8 a {"Item1":1}"#),
            ("thing from later", ""),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let events = Event::of_entry("1700000000000009-40", fields.into_iter());
        let words: Vec<_> = events.iter().map(|event| event.kind.word()).collect();
        assert_eq!(words, ["opened", "online", "ended", "vacated", "thing"]);
        let ids: Vec<_> = events.iter().map(|event| &*event.id).collect();
        assert_eq!((ids[0], ids[4]), ("1700000000000005-36", "1700000000000009-40"));
        assert!(events.iter().all(|event| event.ms == 1_700_000_000_000 && event.node == "n1"));
        let ended = &events[2];
        assert_eq!((ended.client.clone(), ended.connection), (Some(8.into()), Some(4)));
        assert_eq!((&*ended.reason, ended.n), ("kicked", 1_700_000_000_000_007));
        assert_eq!(ended.ticket.as_ref().unwrap().text(), ticket);
        let vacated = (events[3].client.clone(), events[3].channel.as_deref(), &events[3].ticket);
        assert_eq!(vacated, (Some(8.into()), Some(r#"a {"Item1":1}"#), &None));
        assert_eq!(
            (events[4].client.clone(), &events[4].channel, &events[4].ticket),
            (None, &None, &None)
        );
        assert_eq!(Event::of_entry("", [].into_iter()), []);
    }
}
