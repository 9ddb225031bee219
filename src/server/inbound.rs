//! Checks what one peer sends, with the protocol library (`tungstenite`), and drops it.
//!
//! Built by `connection` when bytes arrive and dropped when they end on a message boundary, so that an idle
//! connection holds no buffer and one large message leaves none behind. Does no I/O.

use std::io::{self, Read, Write};

use tungstenite::{
    Error as WsError, Message, WebSocket,
    protocol::{Role, WebSocketConfig},
};

use super::{boundary::Boundary, reasons::CloseReason};

/// The library at work, and how far the bytes it was given are from a frame boundary.
#[derive(Debug)]
pub(super) struct Inbound {
    socket: WebSocket<Pipe>,
    boundary: Boundary,
}

/// What the library reads from and writes to instead of the socket: bytes that were read, and its
/// pongs and close replies, which then take their place in the outbox.
#[derive(Debug, Default)]
struct Pipe {
    input: Vec<u8>,
    taken: usize,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = &self.input[self.taken..];
        if left.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.taken += count;
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Inbound {
    /// For messages of at most `message_bytes`.
    pub(super) fn new(message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(512)
            .write_buffer_size(0)
            .max_message_size(Some(message_bytes))
            .max_frame_size(Some(message_bytes));
        let socket = WebSocket::from_raw_socket(Pipe::default(), Role::Server, Some(config));
        Inbound { socket, boundary: Boundary::default() }
    }

    /// Whether the library holds nothing of the peer: all bytes so far make whole messages.
    pub(super) fn is_clean(&self) -> bool {
        self.boundary.is_clean()
    }

    /// Lets the library check `bytes`; the reason to close if they end the connection.
    pub(super) fn feed(&mut self, bytes: &[u8], echo: bool) -> Option<CloseReason> {
        self.boundary.advance(bytes);
        let pipe = self.socket.get_mut();
        pipe.input.clear();
        pipe.input.extend_from_slice(bytes);
        pipe.taken = 0;
        loop {
            match self.socket.read() {
                Ok(Message::Close(_)) => {
                    // The reply is written by the next flush, which then says that all is done.
                    let _ = self.socket.flush();
                    return Some(CloseReason::Peer);
                }
                Ok(message @ (Message::Text(_) | Message::Binary(_))) if echo => {
                    let _ = self.socket.send(message);
                }
                Ok(_) => {}
                Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return None;
                }
                Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => {
                    return Some(CloseReason::Peer);
                }
                Err(WsError::Capacity(_)) => return Some(CloseReason::TooBig),
                Err(WsError::Utf8(_)) => return Some(CloseReason::BadText),
                Err(_) => return Some(CloseReason::Protocol),
            }
        }
    }

    /// What the library has to say to the peer: pongs, the reply to a close.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.socket.get_mut().output)
    }
}
