//! A client of `imcore.1`: what it asks for, and what it knows of where it is. Pure.
//!
//! Written by docs/protocol.md alone. Used by the swarms and by `holes`.

use std::time::Duration;

use serde::Deserialize;

/// Between two acknowledgements of a client, at least.
pub const ACKNOWLEDGE_EVERY: Duration = Duration::from_secs(1);

/// Where a client is.
#[derive(Debug, Default)]
pub struct Place {
    since: String,
    c: String,
    /// Something has come that it has not acknowledged.
    owes: bool,
    /// When it did so last.
    acknowledged: u64,
}

/// What a frame is to a client of the stream.
pub enum Frame<'a> {
    /// It goes on from where it was.
    Resumed,
    /// It is to load its state anew, and why; nothing at its first connection.
    Resync(Option<String>),
    /// A message: the beginning of its payload, and its length.
    Message(&'a [u8], u64),
    /// A position with what no run sends: a text that is no JSON, a receipt.
    Other,
    /// A position alone.
    Nothing,
}

#[derive(Deserialize)]
struct Hello {
    p: String,
    c: String,
    resumed: bool,
    why: Option<String>,
}

#[derive(Deserialize)]
struct Greeting {
    hello: Hello,
}

/// The request of an upgrade, asking for a connection that goes on from `place`.
pub fn asking(request: &[u8], place: Option<&Place>) -> Vec<u8> {
    let request = String::from_utf8_lossy(request);
    let (line, rest) = request.split_once(" HTTP/1.1\r\n").unwrap_or((&request, ""));
    let known = place.filter(|place| !place.is_new());
    let from = known.map(|place| format!("&since={}&c={}", place.since, place.c));
    let from = from.unwrap_or_default();
    format!("{line}{from} HTTP/1.1\r\nSec-WebSocket-Protocol: imcore.1\r\n{rest}").into_bytes()
}

impl Place {
    /// Whether no node has ever said hello to it.
    pub fn is_new(&self) -> bool {
        self.c.is_empty()
    }

    /// Whether something has come that it has not acknowledged.
    pub fn owes(&self) -> bool {
        self.owes
    }

    /// Takes a text frame: the beginning of its payload, and its length. `None` if it is none of the protocol.
    pub fn take<'a>(&mut self, payload: &'a [u8], length: u64) -> Option<Frame<'a>> {
        if payload.starts_with(b"{\"hello\"") {
            let Hello { p, c, resumed, why } =
                serde_json::from_slice::<Greeting>(payload).ok()?.hello;
            self.c = c;
            if resumed {
                return Some(Frame::Resumed);
            }
            self.since = p;
            return Some(Frame::Resync(why));
        }
        let rest = payload.strip_prefix(b"{\"p\":\"")?;
        let end = rest.iter().position(|byte| *byte == b'"')?;
        std::str::from_utf8(&rest[..end]).ok()?.clone_into(&mut self.since);
        self.owes = true;
        let rest = &rest[end + 1..];
        let Some(message) = rest.strip_prefix(b",\"m\":") else {
            return Some(if rest == b"}" { Frame::Nothing } else { Frame::Other });
        };
        let before = (payload.len() - message.len()) as u64;
        // Without the last brace, if it is among what was kept.
        let inside = length - before - 1;
        Some(Frame::Message(&message[..message.len().min(inside as usize)], inside))
    }

    /// What it says of what it has handled, if it is time to.
    pub fn acknowledge(&mut self, now: u64) -> Option<String> {
        if !self.owes || now < self.acknowledged + ACKNOWLEDGE_EVERY.as_nanos() as u64 {
            return None;
        }
        self.owes = false;
        self.acknowledged = now;
        Some(format!("{{\"a\":\"{}\"}}", self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart() {
        let mut place = Place::default();
        let hello = br#"{"hello":{"p":"k.7","c":"c1","client":"1","resumed":false,"keep":60}}"#;
        assert!(matches!(place.take(hello, hello.len() as u64), Some(Frame::Resync(None))));
        let message = br#"{"p":"k.9","m":"Lx"}"#;
        let Some(Frame::Message(payload, 4)) = place.take(message, message.len() as u64) else {
            panic!("no message")
        };
        assert_eq!(payload, b"\"Lx\"");
        assert!(matches!(place.take(br#"{"p":"k.11","t":"x"}"#, 20), Some(Frame::Other)));
        assert!(matches!(place.take(br#"{"p":"k.12"}"#, 12), Some(Frame::Nothing)));
        assert_eq!(place.acknowledge(2_000_000_000).unwrap(), r#"{"a":"k.12"}"#);
        assert_eq!(place.acknowledge(3_500_000_000), None);
        place.take(br#"{"p":"k.12"}"#, 12);
        assert_eq!(place.acknowledge(2_900_000_000), None);
        assert!(place.owes() && place.acknowledge(3_000_000_000).is_some() && !place.owes());
        let request = asking(b"GET /ws?token=x HTTP/1.1\r\nHost: h\r\n\r\n", Some(&place));
        let request = String::from_utf8(request).unwrap();
        assert!(request.starts_with("GET /ws?token=x&since=k.12&c=c1 HTTP/1.1\r\nSec-WebSocket-"));
        assert!(place.take(b"\"L00\"", 5).is_none());
    }
}
