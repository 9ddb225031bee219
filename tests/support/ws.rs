//! A WebSocket client for tests: real socket, every wait with a deadline.
#![allow(dead_code)]

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use tungstenite::{Error, Message, WebSocket, client::IntoClientRequest};

/// Longest wait for anything that is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One open connection.
pub struct Client(pub WebSocket<TcpStream>);

impl Client {
    /// Connects to `address` with the path and query of `url`; the status if it is refused.
    pub fn connect(address: SocketAddr, url: &str) -> Result<Client, u16> {
        Client::upgrade(TcpStream::connect(address).unwrap(), url)
    }

    /// Makes a WebSocket of a connected socket; the status if it is refused.
    pub fn upgrade(stream: TcpStream, url: &str) -> Result<Client, u16> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match tungstenite::client(url.into_client_request().unwrap(), stream) {
            Ok((socket, _)) => Ok(Client(socket)),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                Err(response.status().as_u16())
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
        loop {
            match self.0.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
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

    /// The bare socket, for bytes that no library would send.
    pub fn raw(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }
}

/// Sends `bytes` on a fresh socket and returns all that comes back until the server closes.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
