//! One message as connections get it: finished bytes for each form that clients speak, shared by all who get it.
//!
//! Made once, by the feed, for all reactors; each connection takes the frame of its own dialect. The plain frame holds
//! the message itself, so the other is made from it when the first connection that speaks it is met.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::frame::{Frame, Kind};
use crate::{server::waits::Since, wire::Position};

/// The form in which a connection takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A text message as the sender wrote it: what the original sends.
    Plain,
    /// `imcore.1`: with its position.
    Stamped,
}

#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    plain: Frame,
}

impl Prepared {
    /// A message that comes at `position`.
    pub(crate) fn text(content: &str, position: Position) -> Self {
        Prepared { plain: Frame::message(content, Kind::Message, position) }
    }

    /// What became of another message, as a node says it.
    pub(crate) fn receipt(content: &str, position: Position) -> Self {
        Prepared { plain: Frame::message(content, Kind::Receipt, position) }
    }

    /// This message, under way since then; before anybody else has it.
    pub(crate) fn under_way(self, since: Since) -> Self {
        Prepared { plain: self.plain.under_way(since) }
    }

    /// Bytes of it, plain.
    pub(crate) fn len(&self) -> usize {
        self.plain.bytes().len()
    }

    /// The text that was sent.
    pub(crate) fn content(&self) -> &str {
        self.plain.content()
    }

    /// Where it comes in the order of the node.
    pub(crate) fn position(&self) -> Position {
        self.plain.position()
    }

    /// Its bytes for a connection of `dialect`; `epoch` is that of its position.
    pub(crate) fn frame(&self, dialect: Dialect, epoch: &str) -> &Frame {
        match dialect {
            Dialect::Plain => &self.plain,
            Dialect::Stamped => self.plain.stamped(|plain| stamped(plain, epoch)),
        }
    }
}

fn stamped(plain: &Frame, epoch: &str) -> Frame {
    let (content, position) = (plain.content(), plain.position());
    let mut text = String::with_capacity(content.len() + 64);
    text.push_str("{\"p\":\"");
    position.push(epoch, &mut text);
    let receipt = (plain.kind() == Kind::Receipt).then(|| receipt(content)).flatten();
    match receipt {
        Some(receipt) => {
            text.push_str("\",\"r\":");
            text.push_str(&receipt);
        }
        None if serde_json::from_str::<IgnoredAny>(content).is_ok() => {
            text.push_str("\",\"m\":");
            text.push_str(content);
        }
        None => {
            text.push_str("\",\"t\":");
            text.push_str(&Value::from(content).to_string());
        }
    }
    text.push('}');
    Frame::message(&text, plain.kind(), position).under_way(plain.since())
}

/// A receipt without what only old pages read, and its receiver as text: JavaScript rounds large numbers. `None` for what
/// is no receipt.
fn receipt(content: &str) -> Option<String> {
    let Value::Object(mut said) = serde_json::from_str(content).ok()? else { return None };
    let mut receipt = Map::new();
    let to = match said.remove("to")? {
        Value::String(to) => to,
        number => number.to_string(),
    };
    receipt.insert("to".into(), to.into());
    receipt.insert("status".into(), said.remove("status")?);
    for name in ["id", "content"] {
        if let Some(value) = said.remove(name) {
            receipt.insert(name.into(), value);
        }
    }
    Some(Value::Object(receipt).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { number: 7, sub: 0 };

    fn stamped(message: &Prepared) -> &str {
        message.frame(Dialect::Stamped, "k3").content()
    }

    #[test]
    fn a_message_is_stamped_as_it_came() {
        for (content, expected) in [
            ("{\"a\": 1}", "{\"p\":\"k3.7\",\"m\":{\"a\": 1}}"),
            ("1.10", "{\"p\":\"k3.7\",\"m\":1.10}"),
            ("no \"JSON\"", "{\"p\":\"k3.7\",\"t\":\"no \\\"JSON\\\"\"}"),
            ("", "{\"p\":\"k3.7\",\"t\":\"\"}"),
            ("1 2", "{\"p\":\"k3.7\",\"t\":\"1 2\"}"),
            (
                "{\"receipt\":\"sent\",\"to\":2,\"status\":\"sent\"}",
                "{\"p\":\"k3.7\",\"m\":{\"receipt\":\"sent\",\"to\":2,\"status\":\"sent\"}}",
            ),
        ] {
            assert_eq!(stamped(&Prepared::text(content, AT)), expected);
        }
        let long = format!("\"{}\"", "x".repeat(70_000));
        assert_eq!(stamped(&Prepared::text(&long, AT)), format!("{{\"p\":\"k3.7\",\"m\":{long}}}"));
    }

    #[test]
    fn a_receipt_is_a_kind_of_its_own() {
        let content = "{\"content\":\"\\\"x\\\"\",\"receipt\":\"发送成功\",\"to\":2,\"status\":\"sent\",\"id\":\"a\"}";
        let expected: Value = serde_json::json!(
            { "p": "k3.7", "r": { "to": "2", "status": "sent", "id": "a", "content": "\"x\"" } }
        );
        let message = Prepared::receipt(content, AT);
        assert_eq!(serde_json::from_str::<Value>(stamped(&message)).unwrap(), expected);
        assert_eq!(message.frame(Dialect::Plain, "k3").content(), content);
    }
}
