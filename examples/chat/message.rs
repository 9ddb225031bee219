//! What the sockets receive: one JSON shape for room, private and broadcast messages. Pure.
//!
//! The shape is the original demo's: `{type, sender, senderNick, chan, time, msg: {type, content}}`, and
//! it travels as a JSON *string* that holds JSON, because the original's page decodes twice. The web
//! API states who sent it and when; only `msg` is the sender's own.

use std::time::{SystemTime, UNIX_EPOCH};

use imcore::ClientId;
use serde::Serialize;
use serde_json::{Value, json};

use crate::refusal::Refusal;

/// The longest posted message in bytes.
const MAX_MESSAGE: usize = 16 * 1024;

/// What happened, in the original's words where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) enum Kind {
    #[serde(rename = "chanmsg")]
    Room,
    #[serde(rename = "broadcastmsg")]
    Broadcast,
    #[serde(rename = "privatemsg")]
    Private,
    /// Rooms or people changed; the page asks again. The original's page ignores it.
    #[serde(rename = "changed")]
    Changed,
    /// Says nothing but that the socket works.
    #[serde(rename = "check")]
    Check,
}

/// One message as the sockets receive it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatMessage {
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    /// The page finds its own message by it, in echoes and receipts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sender: Option<ClientId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sender_nick: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chan: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<ClientId>,
    /// Milliseconds since 1970, by the web API's clock.
    pub(crate) time: u64,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(crate) msg: Value,
}

impl ChatMessage {
    /// A message of `kind` with nothing in it but the time.
    pub(crate) fn new(kind: Kind) -> Self {
        let time =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let (id, sender, sender_nick, chan, to) = (None, None, None, None, None);
        ChatMessage { kind, id, sender, sender_nick, chan, to, time, msg: Value::Null }
    }

    /// The text to hand to imcore, which encodes it once more.
    pub(crate) fn text(&self) -> Result<String, Refusal> {
        serde_json::to_string(self)
            .map_err(|error| Refusal::bad(format!("The message has no JSON form: {error}.")))
    }
}

/// The posted `message`: plain text, or the JSON that the original's page composes.
#[derive(Debug, PartialEq)]
pub(crate) struct Posted {
    pub(crate) msg: Value,
    /// How the poster calls itself, if it says so.
    pub(crate) nick: Option<String>,
}

impl Posted {
    /// Reads a posted message.
    pub(crate) fn read(message: &str) -> Result<Self, Refusal> {
        if message.len() > MAX_MESSAGE {
            return Err(Refusal::new(413, format!("A message has at most {MAX_MESSAGE} bytes.")));
        }
        if let Ok(Value::Object(mut posted)) = serde_json::from_str(message)
            && let Some(msg @ Value::Object(_)) = posted.remove("msg")
        {
            let nick = posted.get("senderNick").and_then(Value::as_str).map(str::to_owned);
            return Ok(Posted { msg, nick });
        }
        Ok(Posted { msg: json!({ "type": "text", "content": message }), nick: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_becomes_a_text_message() {
        for text in ["hi", "42", "{}", "{\"msg\":1}", "[1]", "<b>"] {
            let posted = Posted::read(text).unwrap();
            assert_eq!(posted.msg, json!({ "type": "text", "content": text }));
        }
    }

    #[test]
    fn the_originals_envelope_keeps_only_what_is_the_senders_own() {
        let message =
            r#"{"type":"x","sender":1,"senderNick":"N","time":5,"msg":{"type":"welcome"}}"#;
        let posted = Posted::read(message).unwrap();
        assert_eq!(posted, Posted { msg: json!({ "type": "welcome" }), nick: Some("N".into()) });
    }

    #[test]
    fn an_oversized_message_is_refused() {
        assert_eq!(Posted::read(&"x".repeat(MAX_MESSAGE + 1)).unwrap_err().status, 413);
    }

    #[test]
    fn the_wire_has_the_originals_members() {
        let mut message = ChatMessage::new(Kind::Room);
        message.sender = Some(7.into());
        message.chan = Some("lobby".into());
        message.time = 1;
        message.msg = json!({ "type": "text", "content": "hi" });
        assert_eq!(
            message.text().unwrap(),
            r#"{"type":"chanmsg","sender":7,"chan":"lobby","time":1,"msg":{"content":"hi","type":"text"}}"#
        );
    }
}
