//! Finished WebSocket frames, encoded once and shared by every connection that gets them.
//!
//! Pure. Server frames are never masked or fragmented (RFC 6455, section 5).

use std::sync::Arc;

/// Bytes ready for a socket. A clone is another reference to the same bytes, one word long: a channel of slow
/// clients queues many.
#[derive(Debug, Clone)]
pub(crate) struct Frame(Arc<Encoded>);

#[derive(Debug)]
struct Encoded {
    is_message: bool,
    bytes: Box<[u8]>,
}

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

impl Frame {
    /// A text message.
    pub(crate) fn text(content: &str) -> Self {
        Frame::encode(TEXT, content.as_bytes(), true)
    }

    /// An empty ping.
    pub(crate) fn ping() -> Self {
        Frame::encode(PING, &[], false)
    }

    /// A close frame; `reason` must leave the payload within the 125 bytes of a control frame.
    pub(crate) fn close(code: u16, reason: &str) -> Self {
        debug_assert!(reason.len() <= 123, "close reason is too long for a control frame");
        let mut payload = Vec::with_capacity(2 + reason.len());
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(reason.as_bytes());
        Frame::encode(CLOSE, &payload, false)
    }

    /// Bytes that are already in wire form: a handshake response, what the protocol library wrote.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Frame(Arc::new(Encoded { is_message: false, bytes: bytes.into() }))
    }

    /// Whether it is a message, which is accounted for, or protocol traffic.
    pub(crate) fn is_message(&self) -> bool {
        self.0.is_message
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    fn encode(first: u8, payload: &[u8], is_message: bool) -> Self {
        // Exactly as long as it gets, or it would be copied to be.
        let header = match payload.len() {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        let mut bytes = Vec::with_capacity(header + payload.len());
        put_header(&mut bytes, first, payload.len());
        bytes.extend_from_slice(payload);
        Frame(Arc::new(Encoded { is_message, bytes: bytes.into() }))
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
            let frame = Frame::text(&"x".repeat(len));
            assert_eq!(frame.bytes()[..header.len()], header);
            assert_eq!(frame.bytes().len(), header.len() + len);
        }
    }

    #[test]
    fn close_carries_code_and_reason() {
        assert_eq!(Frame::close(1001, "bye").bytes(), b"\x88\x05\x03\xe9bye");
    }
}
