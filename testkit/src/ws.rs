//! A WebSocket client for tests: real socket, every wait with a deadline.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use tungstenite::{
    Error, Message, WebSocket, client::IntoClientRequest, handshake::client::Request,
};

use crate::{PATIENCE, tls::Stream};

/// One open connection.
pub struct Client(pub WebSocket<Stream>);

impl Client {
    /// Connects to `address` with the path and query of `url`; the status if it is refused.
    pub fn connect(address: SocketAddr, url: &str) -> Result<Client, u16> {
        Client::upgrade(Stream::connect(address).unwrap(), url)
    }

    /// As [`connect`](Self::connect), asking for a sub-protocol, which must be agreed to.
    pub fn speak(address: SocketAddr, url: &str, protocol: &str) -> Result<Client, u16> {
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
        Client::shake_hands(Stream::connect(address).unwrap(), request)
    }

    /// Makes a WebSocket of a connected socket; the status if it is refused, and 0 without one: before TLS
    /// is agreed on a node can only close.
    pub fn upgrade(stream: Stream, url: &str) -> Result<Client, u16> {
        Client::shake_hands(stream, url.into_client_request().unwrap())
    }

    fn shake_hands(stream: Stream, request: Request) -> Result<Client, u16> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let secure = matches!(stream, Stream::Tls(_));
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Client(socket)),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                Err(response.status().as_u16())
            }
            Err(tungstenite::HandshakeError::Failure(Error::Io(error)))
                if secure && is_end(error.kind()) =>
            {
                Err(0)
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The next text message.
    pub fn text(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.0.read() {
                Ok(Message::Text(text)) => return text.to_string(),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("expected a text message, got {other:?}"),
            }
        }
        panic!("no message");
    }

    /// Shows all text messages until none comes for the length of `pause`.
    pub fn texts(&mut self, pause: Duration, mut see: impl FnMut(&str)) {
        self.raw().set_read_timeout(Some(pause)).unwrap();
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => see(&text),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.raw().set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// The next text message as JSON.
    pub fn json(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// Reads until the server closes; the close code, if it sent one.
    pub fn closed(&mut self) -> Option<u16> {
        self.dismissed().map(|(code, _)| code)
    }

    /// The same, with the reason.
    pub fn dismissed(&mut self) -> Option<(u16, String)> {
        loop {
            match self.0.read() {
                Ok(Message::Close(frame)) => {
                    return frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                }
                Ok(_) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_)) => {
                    return None;
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return None;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Asserts that nothing has arrived before an echo of our ping, that is, up to now.
    pub fn silent(&mut self) {
        self.0.send(Message::Ping("up to here".into())).unwrap();
        loop {
            match self.0.read().unwrap() {
                Message::Pong(data) if &data[..] == b"up to here" => return,
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("expected nothing, got {other:?}"),
            }
        }
    }

    /// Leaves with a close frame and waits for the answer.
    pub fn leave(mut self) {
        self.0.close(None).unwrap();
        self.closed();
    }

    /// The bare socket, for bytes that no library would send.
    pub fn raw(&mut self) -> &mut Stream {
        self.0.get_mut()
    }
}

fn is_end(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};

    matches!(kind, BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Sends `bytes` on a fresh socket and returns all that comes back until the server closes.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = Stream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A frame as a client must send it: with a mask. `first` holds the FIN bit, reserved bits and opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x9a, 0x00, 0xff];
    let mut bytes = header(first, 0x80, payload.len() as u64);
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// First two bytes of a frame and the length that follows them; `mask_bit` is 0x80 or 0.
pub fn header(first: u8, mask_bit: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(mask_bit | length as u8),
        126..=0xffff => {
            bytes.push(mask_bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}

/// An upgrade request, up to and with the empty line.
pub fn request(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Reads a response head, up to and with the empty line, and nothing behind it.
pub fn response_head(stream: &mut Stream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a whole response head");
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}
