//! The wire between processes: names of keys and topics, envelopes, tickets, receipts.
//!
//! Byte-compatible with FreeIM and ImCore for .NET in both directions. Pure: no I/O, no clock. Used
//! by the Redis broker, the helper and the server; knows none of them.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod lenient;
#[cfg(test)]
mod recorded_tests;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::id::ClientId;
use lenient::Json;

/// Control words in front of a payload, as the original writes them.
const FORCE_OFFLINE: &str = "__FreeIM__(ForceOffline)";
const CHAN_MESSAGE: &str = "__FreeIM__(ChanMessage)";
/// Ours: a node's message to itself, see [`Envelope::Probe`].
const PROBE: &str = "__FreeIM__(Probe)";

/// Names of Redis keys and topics under one prefix.
///
/// The prefix is a constant (`im_v2` for FreeIM 2, `wsim` before) followed by the WebSocket path with
/// every `/` turned into `_`. `key_prefix` stands in front of keys but not of topics, as the `prefix=`
/// option of the original's Redis client does.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    topic: String,
    key: String,
}

impl Names {
    pub(crate) fn new(prefix: &str, path: &str, key_prefix: &str) -> Self {
        let topic = format!("{prefix}{}", path.replace('/', "_"));
        Names { key: format!("{key_prefix}{topic}"), topic }
    }

    /// Topic that one node listens to.
    pub(crate) fn node_topic(&self, node: &str) -> String {
        format!("{}Server{node}", self.topic)
    }

    /// Topic of "a connection opened".
    pub(crate) fn online_topic(&self) -> String {
        format!("evt_{}Online", self.topic)
    }

    /// Topic of "a connection ended".
    pub(crate) fn offline_topic(&self) -> String {
        format!("evt_{}Offline", self.topic)
    }

    /// Topic, ours: private to one event subscriber, which tells itself there that it still hears.
    pub(crate) fn probe_topic(&self, subscriber: u64) -> String {
        format!("{}Probe{subscriber:016x}", self.topic)
    }

    /// String with a short life: what a connect token stands for.
    pub(crate) fn token_key(&self, token: &str) -> String {
        format!("{}Token{token}", self.key)
    }

    /// Hash: client -> number of its open connections.
    pub(crate) fn online_key(&self) -> String {
        format!("{}Online", self.key)
    }

    /// Hash: member of the channel -> 0.
    pub(crate) fn channel_key(&self, channel: &str) -> String {
        format!("{}Chan{channel}", self.key)
    }

    /// Hash: channel of the client -> 0.
    pub(crate) fn client_key(&self, client: ClientId) -> String {
        format!("{}{client}", self.client_key_prefix())
    }

    /// What every [`client_key`](Self::client_key) starts with.
    pub(crate) fn client_key_prefix(&self) -> String {
        format!("{}Client", self.key)
    }

    /// Hash: channel -> number of its members.
    pub(crate) fn channel_list_key(&self) -> String {
        format!("{}ListChan", self.key)
    }

    /// Hash, ours: presence session -> number of its last report, a blank, name of its node.
    pub(crate) fn sessions_key(&self) -> String {
        format!("{}Sessions", self.key)
    }

    /// String with a life, ours: exists as long as the session's node renews its lease.
    pub(crate) fn lease_key(&self, session: &str) -> String {
        format!("{}Lease{session}", self.key)
    }

    /// String with a long life, ours: exists once the session was ended, also after it is forgotten. Its
    /// connections go with events (`loud`) or without (`quiet`).
    pub(crate) fn ended_key(&self, session: &str) -> String {
        format!("{}Ended{session}", self.key)
    }

    /// Hash, ours: node -> messages that were ever published to it.
    pub(crate) fn published_key(&self) -> String {
        format!("{}Published", self.key)
    }

    /// Hash, ours: connection of the session -> client, a blank, ticket text.
    pub(crate) fn connections_key(&self, session: &str) -> String {
        format!("{}Connections{session}", self.key)
    }

    /// Sorted set, ours: connections of the session that opened and closed within one report -> when.
    pub(crate) fn closed_key(&self, session: &str) -> String {
        format!("{}Closed{session}", self.key)
    }
}

/// What travels to a node through the broker.
#[derive(Debug, Clone, PartialEq)]
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
    /// The payload as the .NET helper would write it.
    pub(crate) fn encode(&self) -> String {
        let mut out = String::with_capacity(64);
        match self {
            Envelope::Direct { sender, receivers, content, receipt } => {
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
                out.push_str(if *receipt { "true}" } else { "false}" });
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
            Envelope::Probe { origin, number } => {
                let _ = write!(out, "{PROBE}{origin}:{number}");
            }
        }
        out
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
}

/// CSRedis-era publishers put `number|` in front of every payload.
fn strip_number(payload: &str) -> &str {
    match payload.split_once('|') {
        Some((number, rest)) if number.len() <= 24 && number.trim().parse::<i64>().is_ok() => rest,
        _ => payload,
    }
}

fn decode_direct(payload: &str) -> Option<Envelope> {
    #[derive(Deserialize)]
    struct Strict {
        #[serde(rename = "Item1")]
        sender: ClientId,
        #[serde(rename = "Item2")]
        receivers: Vec<ClientId>,
        #[serde(rename = "Item3")]
        content: String,
        #[serde(rename = "Item4")]
        receipt: bool,
    }

    // Serde reads a struct from a JSON array too; the contract does not.
    if payload.starts_with('{')
        && let Ok(Strict { sender, receivers, content, receipt }) = serde_json::from_str(payload)
    {
        return Some(Envelope::Direct { sender, receivers, content, receipt });
    }
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
        receipt: match json.member("Item4") {
            None => false,
            Some(Json::Bool(wanted)) => *wanted,
            Some(Json::Number(number)) => number.parse::<f64>().ok()? != 0.0,
            Some(Json::String(word)) => word.trim().to_ascii_lowercase().parse().ok()?,
            Some(_) => return None,
        },
    })
}

fn decode_channel(payload: &str) -> Option<Envelope> {
    #[derive(Deserialize)]
    struct Strict {
        #[serde(rename = "Item1")]
        sender: ClientId,
        #[serde(rename = "Item2")]
        channel: Option<String>,
        #[serde(rename = "Item3")]
        content: String,
    }

    if payload.starts_with('{')
        && let Ok(Strict { sender, channel, content }) = serde_json::from_str(payload)
    {
        return Some(Envelope::Channel { sender, channel: non_empty(channel), content });
    }
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

fn non_empty(channel: Option<String>) -> Option<String> {
    channel.filter(|name| !name.is_empty())
}

fn object(payload: &str) -> Option<Json> {
    Json::parse(payload).filter(|json| matches!(json, Json::Object(_)))
}

/// The id in a member; a missing one is 0, a null or unreadable one is an error.
fn id_member(json: &Json, name: &str) -> Option<ClientId> {
    json.member(name).map_or(Some(ClientId::Int(0)), id)
}

/// Ids as the original converts them: numbers round half to even, `true` is 1.
fn id(json: &Json) -> Option<ClientId> {
    match json {
        Json::String(text) => ClientId::parse_text(text),
        Json::Bool(value) => Some(ClientId::Int(i64::from(*value))),
        Json::Number(number) => {
            let rounded = || {
                let value = number.parse::<f64>().ok()?.round_ties_even();
                (value.abs() < i64::MAX as f64 && number.contains(['.', 'e', 'E']))
                    .then_some(value as i64)
            };
            number.parse().ok().or_else(rounded).map(ClientId::Int)
        }
        _ => None,
    }
}

/// The text of a scalar; null, lists and objects have none.
fn text(json: &Json) -> Option<String> {
    match json {
        Json::String(text) | Json::Number(text) => Some(text.clone()),
        Json::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

fn push_id(out: &mut String, id: ClientId) {
    let _ = match id {
        ClientId::Int(id) => write!(out, "{id}"),
        ClientId::Guid(_) => write!(out, "\"{id}\""),
    };
}

/// A JSON string with exactly the original's escapes: those of serde_json, and U+0085, U+2028, U+2029.
fn push_string(out: &mut String, text: &str) {
    let json = serde_json::to_string(text).expect("a str is always valid JSON");
    const SEPARATORS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];
    if !json.contains(SEPARATORS) {
        out.push_str(&json);
        return;
    }
    for character in json.chars() {
        if SEPARATORS.contains(&character) {
            let _ = write!(out, "\\u{:04x}", character as u32);
        } else {
            out.push(character);
        }
    }
}

/// What a connect token stands for: who may connect, and the business's note about the connection.
///
/// The text is stored under the token and sent on, byte for byte, as the online and offline event.
/// A .NET subscriber ends its process on an event it cannot parse, so a `Ticket` only ever holds
/// text that such a subscriber reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticket {
    client: ClientId,
    text: Box<str>,
}

impl Ticket {
    /// A ticket for `client` with the business's `meta` data (address, device, ...), as the original writes it.
    pub fn new(client: ClientId, meta: Option<&str>) -> Self {
        let mut text = String::with_capacity(48);
        text.push_str("{\"Item1\":");
        push_id(&mut text, client);
        text.push_str(",\"Item2\":");
        match meta {
            Some(meta) => push_string(&mut text, meta),
            None => text.push_str("null"),
        }
        text.push('}');
        Ticket { client, text: text.into() }
    }

    /// Reads a stored ticket or an event; `None` unless a .NET subscriber could read it too.
    pub fn parse(text: &str) -> Option<Self> {
        let (client, _) = read_ticket(text)?;
        Some(Ticket { client, text: text.into() })
    }

    /// Who may connect with it.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// The business's note about the connection.
    pub fn meta(&self) -> Option<String> {
        read_ticket(&self.text).and_then(|(_, meta)| meta)
    }

    /// The exact text, as stored and as sent in events.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same ticket; what is left here keeps the client and has no text.
    #[cfg(feature = "server")]
    pub(crate) fn take(&mut self) -> Ticket {
        Ticket { client: self.client, text: std::mem::take(&mut self.text) }
    }

    /// See [`text`](Self::text).
    #[cfg(feature = "server")]
    pub(crate) fn into_text(self) -> Box<str> {
        self.text
    }
}

fn read_ticket(ticket: &str) -> Option<(ClientId, Option<String>)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(rename = "Item1")]
        client: ClientId,
        #[serde(rename = "Item2")]
        meta: Option<String>,
    }

    if ticket.starts_with('{')
        && let Ok(Strict { client, meta }) = serde_json::from_str(ticket)
    {
        return Some((client, meta));
    }
    let Json::Object(members) = Json::parse(ticket)? else { return None };
    let (mut client, mut meta) = (ClientId::Int(0), None);
    // The last of a name wins, but a subscriber converts them all.
    for (name, value) in &members {
        if name.eq_ignore_ascii_case("Item1") {
            client = id(value)?;
        } else if name.eq_ignore_ascii_case("Item2") {
            meta = if *value == Json::Null { None } else { Some(text(value)?) };
        }
    }
    Some((client, meta))
}

/// What became of a message for one receiver, as its sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptStatus {
    /// Written to the socket of at least one of the receiver's connections.
    Sent,
    /// The receiver has no connection on its node, or all of them ended before the write.
    Offline,
}

impl ReceiptStatus {
    /// The original's text, on which existing pages depend.
    fn text(self) -> &'static str {
        match self {
            ReceiptStatus::Sent => "发送成功",
            ReceiptStatus::Offline => "用户不在线",
        }
    }
}

/// The content of a receipt message: the original's two members, then for whom, and a status for programs.
pub(crate) fn receipt_content(content: &str, to: ClientId, status: ReceiptStatus) -> String {
    #[derive(Serialize)]
    struct Receipt<'a> {
        content: &'a str,
        receipt: &'a str,
        to: ClientId,
        status: &'a str,
    }

    let status_word = match status {
        ReceiptStatus::Sent => "sent",
        ReceiptStatus::Offline => "offline",
    };
    serde_json::to_string(&Receipt { content, receipt: status.text(), to, status: status_word })
        .expect("strings and ids are always valid JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(payload: &str) -> Option<(ClientId, Vec<ClientId>, String, bool)> {
        match Envelope::decode(payload).ok()? {
            Envelope::Direct { sender, receivers, content, receipt } => {
                Some((sender, receivers, content, receipt))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_follow_the_path() {
        for (path, prefix) in
            [("/ws", "im_v2_ws"), ("/im/ws", "im_v2_im_ws"), ("/", "im_v2_"), ("", "im_v2")]
        {
            let names = Names::new("im_v2", path, "");
            assert_eq!(names.online_key(), format!("{prefix}Online"));
        }
        let names = Names::new("im_v2", "/ws", "app1:");
        assert_eq!(names.client_key(7.into()), "app1:im_v2_wsClient7");
        assert_eq!(names.node_topic("n:1"), "im_v2_wsServern:1");
        assert_eq!(names.online_topic(), "evt_im_v2_wsOnline");
    }

    #[test]
    fn separators_are_escaped_as_the_original_does() {
        let envelope = Envelope::Direct {
            sender: 1.into(),
            receivers: vec![2.into()],
            content: "\"a\u{2028}\u{85}\u{7f}<\"".into(),
            receipt: false,
        };
        let payload = envelope.encode();
        assert_eq!(
            payload,
            "{\"Item1\":1,\"Item2\":[2],\"Item3\":\"\\\"a\\u2028\\u0085\u{7f}<\\\"\",\"Item4\":false}"
        );
        assert_eq!(Envelope::decode(&payload), Ok(envelope));
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

    #[test]
    fn ids_convert_as_in_the_original() {
        for (json, id) in [("2.0", 2), ("2.5", 2), ("3.5", 4), ("true", 1), ("\" 7\"", 7)] {
            let ticket = Ticket::parse(&format!("{{\"Item1\":{json}}}"));
            assert_eq!(ticket.map(|ticket| ticket.client()), Some(ClientId::Int(id)), "{json}");
        }
        for json in ["null", "9223372036854775808", "1e300", "[1]", "\"x\""] {
            assert_eq!(Ticket::parse(&format!("{{\"Item1\":{json}}}")), None, "{json}");
        }
    }

    #[test]
    fn a_ticket_that_kills_a_subscriber_is_refused() {
        for text in [
            "",
            "null",
            "5",
            "hello",
            "[2,\"m\"]",
            "{\"Item1\":5,\"Item2\":{}}",
            "7|{\"Item1\":5}",
            "{\"Item1\":5,\"Item2\":[\"a\"]}",
            "{\"Item1\":5,\"Item2\":\"a\",\"item2\":{}}",
            "{\"Item1\":5,\"item2\":{},\"Item2\":\"a\"}",
            "{\"Item1\":010,\"Item2\":\"a\"}",
        ] {
            assert_eq!(Ticket::parse(text), None, "{text}");
        }
    }

    #[test]
    fn receipts_hold_the_original_members_first() {
        assert_eq!(
            receipt_content("\"x\"", 2.into(), ReceiptStatus::Sent),
            r#"{"content":"\"x\"","receipt":"发送成功","to":2,"status":"sent"}"#
        );
    }
}
