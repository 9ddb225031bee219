//! What a connect token stands for, which is also what presence events say.

use std::{fmt::Write as _, time::Duration};

use serde::Deserialize;

use super::{
    convert::{id, push_id, push_string, text},
    lenient::Json,
};
use crate::id::{ClientId, fnv1a};

/// What a connect token stands for: who may connect, and the business's note about the connection.
///
/// The text is stored under the token and sent on, byte for byte, as the online and offline event.
/// A .NET subscriber ends its process on an event it cannot parse, so a `Ticket` only ever holds
/// text that such a subscriber reads, but for the id: who may have which is said by [`IdKind`](crate::IdKind).
#[derive(Debug, Clone, PartialEq)]
pub struct Ticket {
    client: ClientId,
    text: Box<str>,
    /// Names the token that it was taken with, among those of the client; 0 if there was none.
    tag: u64,
}

impl Ticket {
    /// How long a token can be used once it is issued, as in the original.
    pub(crate) const LIFE: Duration = Duration::from_secs(10);

    /// The longest time for which a ticket can have its client waited for.
    pub const LONGEST_KEEP: Duration = Duration::from_secs(24 * 3600);

    /// A ticket for `client` with the business's `meta` data (address, device, ...), as the original writes it.
    pub fn new(client: ClientId, meta: Option<&str>) -> Self {
        let mut text = String::with_capacity(48);
        text.push_str("{\"Item1\":");
        push_id(&mut text, &client);
        text.push_str(",\"Item2\":");
        match meta {
            Some(meta) => push_string(&mut text, meta),
            None => text.push_str("null"),
        }
        text.push('}');
        Ticket { client, text: text.into(), tag: 0 }
    }

    /// The client is waited for so long when a connection with this ticket has ended, whatever its node is set to; see
    /// [`keep`](Self::keep). At most a day; in whole seconds, rounded up. Not the original's; .NET processes skip it.
    pub fn kept_for(self, keep: Duration) -> Self {
        let seconds = keep.min(Self::LONGEST_KEEP).as_millis().div_ceil(1000);
        let mut text = String::from(&*self.text);
        text.pop();
        let _ = write!(text, ",\"Keep\":{seconds}}}");
        Ticket { text: text.into(), ..self }
    }

    /// Reads a stored ticket or an event; `None` unless a .NET subscriber could read it too.
    pub fn parse(text: &str) -> Option<Self> {
        let (client, ..) = read_ticket(text)?;
        Some(Ticket { client, text: text.into(), tag: 0 })
    }

    /// Who may connect with it.
    pub fn client(&self) -> &ClientId {
        &self.client
    }

    /// The business's note about the connection.
    pub fn meta(&self) -> Option<String> {
        read_ticket(&self.text).and_then(|(_, meta, _)| meta)
    }

    /// How long the client is waited for when its connection has ended, if the ticket says so: it then counts as online,
    /// stays in its channels, and is given what it missed when it comes back. Of a client that can resume
    /// (`imcore.1`).
    pub fn keep(&self) -> Option<Duration> {
        let (.., seconds) = read_ticket(&self.text)?;
        seconds.map(Duration::from_secs).map(|keep| keep.min(Self::LONGEST_KEEP))
    }

    /// The exact text, as stored and as sent in events.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Notes the token that the ticket was taken with: reporting its connection says that it has come.
    #[cfg(feature = "server")]
    pub(crate) fn taken_with(mut self, token: &str) -> Ticket {
        self.tag = tag(token);
        self
    }

    /// Which token it was taken with, see [`tag`].
    pub(crate) fn tag(&self) -> u64 {
        self.tag
    }

    /// See [`text`](Self::text).
    #[cfg(feature = "server")]
    pub(crate) fn into_text(self) -> Box<str> {
        self.text
    }
}

/// A short name for a token, the same in every process: FNV-1a, never 0. Two tokens of one client that share
/// it would only make a node wait less long for one of them.
pub(crate) fn tag(token: &str) -> u64 {
    fnv1a(token).max(1)
}

/// Client, note, and for how many seconds the client is waited for.
fn read_ticket(ticket: &str) -> Option<(ClientId, Option<String>, Option<u64>)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(rename = "Item1")]
        client: ClientId,
        #[serde(rename = "Item2")]
        meta: Option<String>,
        #[serde(rename = "Keep", default)]
        keep: Option<u64>,
    }

    if ticket.starts_with('{')
        && let Ok(Strict { client, meta, keep }) = serde_json::from_str(ticket)
    {
        return Some((client, meta, keep));
    }
    let Json::Object(members) = Json::parse_plain(ticket)? else { return None };
    let (mut client, mut meta, mut keep) = (ClientId::Int(0), None, None);
    // The last of a name wins, but a subscriber converts them all.
    for (name, value) in &members {
        match name.as_str() {
            // A subscriber looks for what these refer to.
            "$ref" | "$values" => return None,
            "$type" => drop(text(value)?),
            "$id" if *value != Json::Null => drop(text(value)?),
            _ => {}
        }
        if name.eq_ignore_ascii_case("Item1") {
            client = id(value)?;
        } else if name.eq_ignore_ascii_case("Item2") {
            meta = if *value == Json::Null { None } else { Some(text(value)?) };
        } else if name.eq_ignore_ascii_case("Keep") {
            // What is no number says nothing.
            keep = text(value).and_then(|text| text.parse().ok());
        }
    }
    Some((client, meta, keep))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_can_say_how_long_its_client_is_kept() {
        let ticket = Ticket::new(7.into(), Some("m")).kept_for(Duration::from_millis(299_500));
        assert_eq!(ticket.text(), r#"{"Item1":7,"Item2":"m","Keep":300}"#);
        let again = Ticket::parse(ticket.text()).unwrap();
        assert_eq!(
            (again.keep(), again.meta()),
            (Some(Duration::from_secs(300)), Some("m".into()))
        );
        for (keep, seconds) in [
            ("0", Some(0)),
            ("99999999", Some(86_400)),
            ("\"60\"", Some(60)),
            ("-1", None),
            ("1.5", None),
            ("null", None),
            ("\"x\"", None),
            ("{}", None),
        ] {
            let ticket = Ticket::parse(&format!("{{\"Item1\":7,\"Keep\":{keep}}}")).unwrap();
            assert_eq!(ticket.keep(), seconds.map(Duration::from_secs), "{keep}");
        }
        assert_eq!(Ticket::new(7.into(), None).keep(), None);
    }

    #[test]
    fn an_id_that_is_another_text_has_the_escapes_of_json() {
        for id in ["alice", "a\"b\\c", "李雷,"] {
            let ticket = Ticket::new(id.parse().unwrap(), None);
            let again = Ticket::parse(ticket.text()).unwrap();
            assert_eq!((again.client().to_string().as_str(), again.text()), (id, ticket.text()));
        }
        let escaped = Ticket::parse(r#"{"Item1":"\u0061\ud83d\ude00"}"#).unwrap();
        assert_eq!(escaped.client().to_string(), "a😀");
        assert_eq!(Ticket::parse(r#"{"Item1":"a\ud83d"}"#), None, "half a character is none");
    }

    #[test]
    fn ids_convert_as_in_the_original() {
        for (json, id) in [("2.0", 2), ("2.5", 2), ("3.5", 4), ("true", 1), ("\" 7\"", 7)] {
            let ticket = Ticket::parse(&format!("{{\"Item1\":{json}}}"));
            assert_eq!(
                ticket.map(|ticket| ticket.client().clone()),
                Some(ClientId::Int(id)),
                "{json}"
            );
        }
        for json in ["null", "9223372036854775808", "1e300", "[1]", "\"\"", "\"a b\""] {
            assert_eq!(Ticket::parse(&format!("{{\"Item1\":{json}}}")), None, "{json}");
        }
    }

    #[test]
    fn what_a_subscriber_reads_is_taken() {
        for text in [
            "{\"$id\":\"1\",\"$type\":\"x\",\"Item1\":7}",
            "{/*c*/\"Item1\":7,/*c*/\"a\":{\"b\":1}}//c",
            "{\"Item1\":\" 7\\t\"}",
            &format!("{{\"Item1\":7,\"a\":{}}}", "1".repeat(380)),
        ] {
            let client = Ticket::parse(text).map(|ticket| ticket.client().clone());
            assert_eq!(client, Some(ClientId::Int(7)), "{text}");
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
            "{\"Item1\":7,\"a\":/**/1}",
            "{\"Item1\":7,\"a\":\n//x\n1}",
            "{\"Item1\"/**/:7}",
            "{\"$ref\":\"1\",\"Item1\":7}",
            "{\"Item1\":7,\"$values\":[]}",
            "{\"$type\":null,\"Item1\":7}",
            "{\"$type\":{},\"Item1\":7}",
            "{\"$id\":[],\"Item1\":7}",
            "{\"Item1\":\"7\u{a0}\"}",
            "{\"Item1\":9007199254740993.0}",
            &format!("{{\"Item1\":7,\"a\":[{}]}}", "1".repeat(381)),
        ] {
            assert_eq!(Ticket::parse(text), None, "{text}");
        }
    }
}
