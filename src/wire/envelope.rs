//! What travels to a node: direct messages, channel messages, commands, probes.

use std::fmt::Write as _;

use serde::Deserialize;

use super::{
    convert::{id, id_member, object, push_id, push_string, text},
    lenient::Json,
};
use crate::id::ClientId;

/// Control words in front of a payload, as the original writes them.
const FORCE_OFFLINE: &str = "__FreeIM__(ForceOffline)";
const CHAN_MESSAGE: &str = "__FreeIM__(ChanMessage)";
/// Ours: a node's message to itself, see [`Envelope::Probe`].
const PROBE: &str = "__FreeIM__(Probe)";
/// Longest id of a message.
pub(crate) const MESSAGE_ID_BYTES: usize = 128;

/// What travels to a node through the broker.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Envelope {
    /// A message for some clients of the node.
    Direct {
        /// Who sends it; the system's messages get no receipts.
        sender: ClientId,
        /// Receivers, in order; one listed twice gets it twice.
        receivers: Vec<ClientId>,
        /// The text that each receiver's socket gets: the JSON of the message value.
        content: String,
        /// Whether the sender wants to be told what became of it, per receiver.
        receipt: bool,
        /// The sender's own name for the message, which its receipts repeat. Not the original's.
        id: Option<String>,
        /// Whether the receipt is to wait until the receiver says that it has the message. Not the original's.
        acknowledge: bool,
        /// Whether it is itself a receipt, by which a node says what became of another message. Not the original's.
        about: bool,
    },
    /// A message for all members of a channel on the node, or for everybody on it.
    Channel {
        /// Who sends it.
        sender: ClientId,
        /// The channel; `None` is a broadcast.
        channel: Option<String>,
        /// The text that each receiver's socket gets.
        content: String,
    },
    /// Close all connections of a client.
    ForceOffline {
        /// The client to cut.
        client: ClientId,
    },
    /// A message that no log keeps, as it is worth nothing a moment later. Only ever published: a feed hands on what
    /// is inside.
    Volatile(Box<Envelope>),
    /// A node's message to itself: proof that its subscription hears, and a barrier in the feed.
    Probe {
        /// Tells the node's own probes from those of a second process under the same name.
        origin: u64,
        /// Counts up by one.
        number: u64,
    },
}

/// Why a payload was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Not an object that can be read as an envelope.
    Unparsable,
    /// A control word that this version does not know.
    UnknownCommand,
}

impl Malformed {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Malformed::Unparsable => "payload is not an envelope",
            Malformed::UnknownCommand => "unknown control word",
        }
    }
}

impl Envelope {
    /// The message itself, and whether no log is to keep it.
    pub(crate) fn message(&self) -> (&Envelope, bool) {
        match self {
            Envelope::Volatile(message) => (message.message().0, true),
            message => (message, false),
        }
    }

    /// The payload as the .NET helper would write it.
    pub(crate) fn encode(&self) -> String {
        let mut out = String::with_capacity(64);
        match self {
            Envelope::Direct { sender, receivers, content, receipt, id, acknowledge, about } => {
                out.push_str("{\"Item1\":");
                push_id(&mut out, *sender);
                out.push_str(",\"Item2\":[");
                for (index, receiver) in receivers.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    push_id(&mut out, *receiver);
                }
                out.push_str("],\"Item3\":");
                push_string(&mut out, content);
                out.push_str(",\"Item4\":");
                out.push_str(if *receipt { "true" } else { "false" });
                if let Some(id) = id {
                    out.push_str(",\"Id\":");
                    push_string(&mut out, id);
                }
                for (name, set) in [("Ack", acknowledge), ("Receipt", about)] {
                    if *set {
                        let _ = write!(out, ",\"{name}\":true");
                    }
                }
                out.push('}');
            }
            Envelope::Channel { sender, channel, content } => {
                out.push_str(CHAN_MESSAGE);
                out.push_str("{\"Item1\":");
                push_id(&mut out, *sender);
                out.push_str(",\"Item2\":");
                match channel {
                    Some(channel) => push_string(&mut out, channel),
                    None => out.push_str("null"),
                }
                out.push_str(",\"Item3\":");
                push_string(&mut out, content);
                out.push('}');
            }
            Envelope::ForceOffline { client } => {
                let _ = write!(out, "{FORCE_OFFLINE}{client}");
            }
            Envelope::Volatile(message) => out = message.encode(),
            Envelope::Probe { origin, number } => {
                let _ = write!(out, "{PROBE}{origin}:{number}");
            }
        }
        out
    }

    /// As [`decode`](Self::decode), and what the number in front says, if there is one.
    #[cfg(feature = "redis")]
    pub(crate) fn decode_numbered(payload: &str) -> (Mark, Result<Envelope, Malformed>) {
        let (number, message) = split_number(payload);
        let mark = match number {
            Some(0) => Mark::Volatile,
            Some(-1) => Mark::Refused,
            Some(number) if number >= LEAST_NUMBER => Mark::Logged(number as u64),
            _ => Mark::Plain,
        };
        (mark, Envelope::decode(message))
    }

    /// Reads what any version of the .NET helper writes, as leniently as the .NET server does.
    pub(crate) fn decode(payload: &str) -> Result<Envelope, Malformed> {
        let payload = strip_number(payload);
        if let Some(body) = payload.strip_prefix(CHAN_MESSAGE) {
            return decode_channel(body).ok_or(Malformed::Unparsable);
        }
        if let Some(id) = payload.strip_prefix(FORCE_OFFLINE) {
            let client = ClientId::parse_text(id).ok_or(Malformed::Unparsable)?;
            return Ok(Envelope::ForceOffline { client });
        }
        if let Some(probe) = payload.strip_prefix(PROBE) {
            let parts = probe.split_once(':');
            let numbers = parts.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            let (origin, number) = numbers.ok_or(Malformed::Unparsable)?;
            return Ok(Envelope::Probe { origin, number });
        }
        if payload.starts_with("__") {
            return Err(Malformed::UnknownCommand);
        }
        decode_direct(payload).ok_or(Malformed::Unparsable)
    }

    /// What [`decode`](Self::decode) must make of a message: it reads the usual form in a faster way.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn decode_leniently(payload: &str) -> Option<Envelope> {
        let payload = strip_number(payload);
        match payload.strip_prefix(CHAN_MESSAGE) {
            Some(body) => lenient_channel(body),
            None => lenient_direct(payload),
        }
    }
}

/// What stands in front of a payload where a log is kept.
#[cfg(feature = "redis")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Its number in the log.
    Logged(u64),
    /// No log is to keep it: `0`.
    Volatile,
    /// The log did not take it: `-1`.
    Refused,
    /// Nothing, or a number of a CSRedis-era publisher, which only counts.
    Plain,
}

/// The log's numbers are microseconds, and none is of before 2001.
#[cfg(feature = "redis")]
const LEAST_NUMBER: i64 = 1_000_000_000_000_000;

/// CSRedis-era publishers put `number|` in front of every payload.
fn strip_number(payload: &str) -> &str {
    split_number(payload).1
}

fn split_number(payload: &str) -> (Option<i64>, &str) {
    match payload.split_once('|') {
        Some((number, rest)) if number.len() <= 24 => match number.trim().parse() {
            Ok(number) => (Some(number), rest),
            Err(_) => (None, payload),
        },
        _ => (None, payload),
    }
}

fn decode_direct(payload: &str) -> Option<Envelope> {
    strict_direct(payload).or_else(|| lenient_direct(payload))
}

/// The form that every helper writes: these members, each once and in this spelling. Whatever else stands
/// in the object is for the lenient reader, which knows what it means.
fn strict_direct(payload: &str) -> Option<Envelope> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(rename = "Item1")]
        sender: ClientId,
        #[serde(rename = "Item2")]
        receivers: Vec<ClientId>,
        #[serde(rename = "Item3")]
        content: String,
        #[serde(rename = "Item4")]
        receipt: bool,
        #[serde(rename = "Id", default)]
        id: Option<String>,
        #[serde(rename = "Ack", default)]
        acknowledge: bool,
        #[serde(rename = "Receipt", default)]
        about: bool,
    }

    let Strict { sender, receivers, content, receipt, id, acknowledge, about } = strict(payload)?;
    let id = usable(id);
    Some(Envelope::Direct { sender, receivers, content, receipt, id, acknowledge, about })
}

fn lenient_direct(payload: &str) -> Option<Envelope> {
    let json = object(payload)?;
    let receivers = match json.member("Item2")? {
        Json::Array(ids) => ids,
        list @ Json::Object(_) => match list.member("$values")? {
            Json::Array(ids) => ids,
            _ => return None,
        },
        _ => return None,
    };
    Some(Envelope::Direct {
        sender: id_member(&json, "Item1")?,
        receivers: receivers.iter().map(id).collect::<Option<_>>()?,
        content: text(json.member("Item3")?)?,
        receipt: flag(&json, "Item4")?,
        id: usable(json.member("Id").and_then(text)),
        acknowledge: flag(&json, "Ack").unwrap_or_default(),
        about: flag(&json, "Receipt").unwrap_or_default(),
    })
}

/// A member that says yes or no, and no if it is missing; `None` if it says neither.
fn flag(json: &Json, name: &str) -> Option<bool> {
    match json.member(name) {
        None => Some(false),
        Some(Json::Bool(wanted)) => Some(*wanted),
        Some(Json::Number(number)) => Some(number.parse::<f64>().ok()? != 0.0),
        Some(Json::String(word)) => word.trim().to_ascii_lowercase().parse().ok(),
        Some(_) => None,
    }
}

/// An id that is too long to be repeated in every receipt counts as none.
fn usable(id: Option<String>) -> Option<String> {
    id.filter(|id| id.len() <= MESSAGE_ID_BYTES)
}

fn decode_channel(payload: &str) -> Option<Envelope> {
    strict_channel(payload).or_else(|| lenient_channel(payload))
}

/// As [`strict_direct`]. The channel must be there: without it the message would go to everybody.
fn strict_channel(payload: &str) -> Option<Envelope> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(rename = "Item1")]
        sender: ClientId,
        #[serde(rename = "Item2", deserialize_with = "Option::deserialize")]
        channel: Option<String>,
        #[serde(rename = "Item3")]
        content: String,
    }

    let Strict { sender, channel, content } = strict(payload)?;
    Some(Envelope::Channel { sender, channel: non_empty(channel), content })
}

fn lenient_channel(payload: &str) -> Option<Envelope> {
    let json = object(payload)?;
    let channel = match json.member("Item2") {
        None | Some(Json::Null) => None,
        Some(name) => Some(text(name)?),
    };
    Some(Envelope::Channel {
        sender: id_member(&json, "Item1")?,
        channel: non_empty(channel),
        content: text(json.member("Item3")?)?,
    })
}

/// Serde reads a struct from a JSON array too; the contract does not.
fn strict<'a, T: Deserialize<'a>>(payload: &'a str) -> Option<T> {
    payload.starts_with('{').then(|| serde_json::from_str(payload).ok())?
}

fn non_empty(channel: Option<String>) -> Option<String> {
    channel.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(payload: &str) -> Option<(ClientId, Vec<ClientId>, String, bool)> {
        match Envelope::decode(payload).ok()? {
            Envelope::Direct { sender, receivers, content, receipt, .. } => {
                Some((sender, receivers, content, receipt))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn separators_are_escaped_as_the_original_does() {
        let envelope = Envelope::Direct {
            sender: 1.into(),
            receivers: vec![2.into()],
            content: "\"a\u{2028}\u{85}\u{7f}<\"".into(),
            receipt: false,
            id: None,
            acknowledge: false,
            about: false,
        };
        let payload = envelope.encode();
        assert_eq!(
            payload,
            "{\"Item1\":1,\"Item2\":[2],\"Item3\":\"\\\"a\\u2028\\u0085\u{7f}<\\\"\",\"Item4\":false}"
        );
        assert_eq!(Envelope::decode(&payload), Ok(envelope));
    }

    #[test]
    fn an_id_stands_behind_the_original_members() {
        let envelope = |id: Option<&str>| Envelope::Direct {
            sender: 1.into(),
            receivers: vec![2.into()],
            content: "3".into(),
            receipt: true,
            id: id.map(str::to_owned),
            acknowledge: false,
            about: false,
        };
        let payload = r#"{"Item1":1,"Item2":[2],"Item3":"3","Item4":true,"Id":"order 17"}"#;
        assert_eq!(envelope(Some("order 17")).encode(), payload);
        assert_eq!(Envelope::decode(payload), Ok(envelope(Some("order 17"))));
        // As leniently as the other members; what no receipt could repeat is none.
        for (written, id) in [
            ("'order 17'", Some("order 17")),
            ("17", Some("17")),
            ("null", None),
            ("[1]", None),
            (&format!("\"{}\"", "x".repeat(129)), None),
        ] {
            let payload = payload.replace("\"order 17\"", written).replace("Item4", "item4");
            assert_eq!(Envelope::decode(&payload), Ok(envelope(id)), "{payload}");
        }
    }

    #[test]
    fn what_is_ours_is_written_only_where_it_says_something() {
        for (acknowledge, about, tail) in [
            (false, false, "}"),
            (true, false, ",\"Ack\":true}"),
            (false, true, ",\"Receipt\":true}"),
        ] {
            let (sender, receivers, content) = (1.into(), vec![2.into()], "3".to_owned());
            let receipt = acknowledge;
            let envelope = Envelope::Direct {
                sender,
                receivers,
                content,
                receipt,
                id: None,
                acknowledge,
                about,
            };
            let payload = envelope.encode();
            assert!(payload.ends_with(tail), "{payload}");
            assert_eq!(Envelope::decode(&payload), Ok(envelope.clone()));
            assert_eq!(Envelope::decode(&payload.replace("Item4", "item4")), Ok(envelope));
        }
    }

    #[test]
    fn the_number_of_old_publishers_is_stripped() {
        let (_, receivers, content, _) =
            direct(r#"17|{"Item1":0,"Item2":[2],"Item3":"a|b","Item4":false}"#).unwrap();
        assert_eq!((receivers, content.as_str()), (vec![2.into()], "a|b"));
    }

    #[test]
    fn unknown_commands_are_told_from_garbage() {
        assert_eq!(Envelope::decode("__FreeIM__(New)x"), Err(Malformed::UnknownCommand));
        assert_eq!(Envelope::decode("__freeim__(forceoffline)2"), Err(Malformed::UnknownCommand));
        for payload in ["", "hello", "[]", "null", "{}", "0\r\n", "__FreeIM__(ForceOffline)abc"] {
            assert_eq!(Envelope::decode(payload), Err(Malformed::Unparsable), "{payload}");
        }
    }
}
