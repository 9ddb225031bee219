//! Finished WebSocket frames, encoded once and shared by every connection that gets them.
//!
//! Pure. Server frames are never masked or fragmented (RFC 6455, section 5).

use std::sync::{Arc, OnceLock};

use crate::{server::waits::Since, wire::Position};

/// Bytes ready for a socket. A clone is another reference to the same bytes, one word long: a channel of slow
/// clients queues many.
#[derive(Debug, Clone)]
pub(crate) struct Frame(Arc<Encoded>);

#[derive(Debug)]
struct Encoded {
    kind: Kind,
    /// Of a message: since when it is under way, if that is known.
    since: Since,
    /// Of a message: where it is in the order of the node.
    position: Position,
    bytes: Box<[u8]>,
    /// Of a message as its sender wrote it: the same for those who are told its position, once one of them is met.
    stamped: OnceLock<Frame>,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Protocol traffic, of which nobody keeps account.
    Control,
    /// A message, which is accounted for.
    Message,
    /// A message by which a node says what became of another.
    Receipt,
}

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

impl Frame {
    /// A message of some kind.
    pub(super) fn message(content: &str, kind: Kind, position: Position) -> Self {
        Frame::encode(TEXT, content.as_bytes(), kind, position)
    }

    /// A text that is no message.
    pub(crate) fn word(content: &str) -> Self {
        Frame::control(TEXT, content.as_bytes())
    }

    /// A ping.
    pub(crate) fn ping(payload: &[u8]) -> Self {
        debug_assert!(payload.len() <= 125, "a ping is a control frame");
        Frame::control(PING, payload)
    }

    /// A close frame; `reason` must leave the payload within the 125 bytes of a control frame.
    pub(crate) fn close(code: u16, reason: &str) -> Self {
        debug_assert!(reason.len() <= 123, "close reason is too long for a control frame");
        let mut payload = Vec::with_capacity(2 + reason.len());
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(reason.as_bytes());
        Frame::control(CLOSE, &payload)
    }

    /// Bytes that are already in wire form: a handshake response, what the protocol library wrote.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Frame::new(Kind::Control, Position::default(), bytes.into())
    }

    /// This message, under way since then; before anybody else has it.
    pub(super) fn under_way(mut self, since: Since) -> Self {
        if let Some(encoded) = Arc::get_mut(&mut self.0) {
            encoded.since = since;
        }
        self
    }

    /// Since when a message is under way.
    pub(crate) fn since(&self) -> Since {
        self.0.since
    }

    /// Whether it is a message, which is accounted for, or protocol traffic.
    pub(crate) fn is_message(&self) -> bool {
        self.0.kind != Kind::Control
    }

    /// Whether it is the same as another, not only equal.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Where it is in memory.
    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    pub(super) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Where a message is in the order of the node.
    pub(crate) fn position(&self) -> Position {
        self.0.position
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// A message whose text another node has made; `is_receipt`: by which a node says what became of another.
    pub(crate) fn handed_over(content: &str, is_receipt: bool, position: Position) -> Self {
        let kind = if is_receipt { Kind::Receipt } else { Kind::Message };
        Frame::message(content, kind, position)
    }

    /// Whether it is a message by which a node says what became of another.
    pub(crate) fn is_receipt(&self) -> bool {
        self.0.kind == Kind::Receipt
    }

    /// The text in it; only of frames that were made of one.
    pub(crate) fn content(&self) -> &str {
        let header = header_len(self.bytes().get(1).map_or(0, |len| usize::from(*len)));
        std::str::from_utf8(self.bytes().get(header..).unwrap_or_default()).unwrap_or_default()
    }

    /// The form of this message that was made of it before, or is made now.
    pub(super) fn stamped(&self, make: impl FnOnce(&Self) -> Self) -> &Self {
        self.0.stamped.get_or_init(|| make(self))
    }

    fn control(first: u8, payload: &[u8]) -> Self {
        Frame::encode(first, payload, Kind::Control, Position::default())
    }

    fn encode(first: u8, payload: &[u8], kind: Kind, position: Position) -> Self {
        // Exactly as long as it gets, or it would be copied to be.
        let header = match payload.len() {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        let mut bytes = Vec::with_capacity(header + payload.len());
        put_header(&mut bytes, first, payload.len());
        bytes.extend_from_slice(payload);
        Frame::new(kind, position, bytes.into())
    }

    fn new(kind: Kind, position: Position, bytes: Box<[u8]>) -> Self {
        let (since, stamped) = (Since::default(), OnceLock::new());
        Frame(Arc::new(Encoded { kind, since, position, bytes, stamped }))
    }
}

/// Bytes of a header by the short length in it.
fn header_len(short: usize) -> usize {
    match short {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

/// Adds the header of a frame with a payload of `len` bytes, in its shortest form.
pub(super) fn put_header(bytes: &mut Vec<u8>, first: u8, len: usize) {
    bytes.push(first);
    match len {
        0..=125 => bytes.push(len as u8),
        126..=0xffff => {
            bytes.push(126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        for (len, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (0xffff, vec![0x81, 126, 0xff, 0xff]),
            (0x10000, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = Frame::word(&"x".repeat(len));
            assert_eq!(frame.bytes()[..header.len()], header);
            assert_eq!(frame.bytes().len(), header.len() + len);
            assert_eq!(frame.content().len(), len);
        }
    }

    #[test]
    fn close_carries_code_and_reason() {
        assert_eq!(Frame::close(1001, "bye").bytes(), b"\x88\x05\x03\xe9bye");
    }
}
