//! One client connection: dialling, upgrading, open, over.

use std::io::{self, Read, Write};

use super::{stream::Stream, tally::Tally};
use crate::{
    account::Sequence,
    clock,
    frame::{self, Reader},
};

/// How far a connection is.
#[derive(Debug)]
enum Phase {
    /// The TCP connection is not there yet; holds what to send first.
    Dialling(Box<[u8]>),
    /// The request is out; holds what came of the answer.
    Upgrading(Vec<u8>),
    Open(Box<Reader>),
    /// Over; `by_order` if the run had the client hang up.
    Ended {
        by_order: bool,
    },
}

pub struct Socket {
    pub client: i64,
    stream: Option<Stream>,
    phase: Phase,
    /// When the connect was due.
    due: u64,
    /// What arrived, by stream; most clients know one or two.
    pub sequences: Vec<(u32, Sequence)>,
}

/// What a readiness event led to.
pub enum Ready {
    Nothing,
    /// The connect is over, well or not.
    Settled,
}

impl Socket {
    pub fn new(stream: Stream, client: i64, request: Vec<u8>, due: u64) -> Self {
        let phase = Phase::Dialling(request.into());
        Socket { client, stream: Some(stream), phase, due, sequences: Vec::new() }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Whether the run had it hang up.
    pub fn hung_up(&self) -> bool {
        matches!(self.phase, Phase::Ended { by_order: true })
    }

    /// The client goes, without a word. False if it was not there.
    pub fn hang_up(&mut self) -> bool {
        let was_open = self.is_open();
        if was_open {
            self.phase = Phase::Ended { by_order: true };
            self.stream = None;
        }
        was_open
    }

    /// Reads and answers what is there.
    pub fn ready(&mut self, scratch: &mut [u8], tally: &mut Tally) -> Ready {
        let was_open = self.is_open();
        let result = self.advance(scratch, tally);
        if let Err(error) = result {
            let reason = match self.stream.as_mut().and_then(|s| s.tcp_mut().take_error().ok()?) {
                Some(error) => error.kind().to_string(),
                None => error.to_string(),
            };
            self.end(reason, was_open, tally);
            return if was_open { Ready::Nothing } else { Ready::Settled };
        }
        if self.is_open() && !was_open { Ready::Settled } else { Ready::Nothing }
    }

    fn end(&mut self, reason: String, was_open: bool, tally: &mut Tally) {
        if self.stream.take().is_none() {
            return;
        }
        if was_open {
            *tally.status.ended.entry(reason).or_default() += 1;
            tally.note();
        } else {
            tally.refuse(reason);
        }
        self.phase = Phase::Ended { by_order: false };
    }

    fn advance(&mut self, scratch: &mut [u8], tally: &mut Tally) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if let Phase::Dialling(request) = &self.phase {
            match stream.write(request) {
                Ok(count) if count == request.len() => {}
                Ok(_) => return Err(io::Error::other("the request did not go out whole")),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                    ) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            stream.tcp_mut().set_nodelay(true)?;
            let no_answer_follows = request.len() == size_of::<i64>();
            if no_answer_follows {
                self.open(tally);
            } else {
                self.phase = Phase::Upgrading(Vec::new());
            }
        }
        match self.stream.as_mut().map_or(Ok(()), Stream::drive) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        self.read(scratch, tally)
    }

    fn open(&mut self, tally: &mut Tally) {
        tally.connect.record(clock::now().saturating_sub(self.due));
        tally.status.opened += 1;
        tally.changes += 1;
        self.phase = Phase::Open(Box::default());
    }

    fn read(&mut self, scratch: &mut [u8], tally: &mut Tally) -> io::Result<()> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            let count = match stream.read(scratch) {
                Ok(0) => return Err(io::Error::other("closed by the server")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.take(&scratch[..count], tally)?;
            // A short read emptied the socket; what comes later is announced by a new event. Under TLS it is
            // a record that ended.
            if count < scratch.len() && !self.stream.as_ref().is_some_and(Stream::is_secure) {
                return Ok(());
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8], tally: &mut Tally) -> io::Result<()> {
        if let Phase::Upgrading(answer) = &mut self.phase {
            answer.extend_from_slice(bytes);
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(());
            };
            let status = answer.get(9..12).unwrap_or_default();
            if status != b"101" {
                let status = String::from_utf8_lossy(status);
                return Err(io::Error::other(format!("HTTP status {status}")));
            }
            let frames_after_it = answer.len() - (end + 4);
            bytes = &bytes[bytes.len() - frames_after_it..];
            self.open(tally);
        }
        let Phase::Open(reader) = &mut self.phase else { return Ok(()) };
        let now = clock::now();
        let mut answer = Vec::new();
        let mut closed = None;
        let (client, sequences) = (self.client, &mut self.sequences);
        let fed = reader.feed(bytes, |opcode, payload, length| match opcode {
            frame::TEXT => tally.message(client, sequences, (payload, length), now),
            frame::PING => answer.extend(frame::control(frame::PONG, payload)),
            frame::CLOSE => closed = Some(close_reason(payload)),
            _ => {}
        });
        if fed.is_err() {
            return Err(io::Error::other("bytes that are no frame"));
        }
        if let Some(reason) = closed {
            return Err(io::Error::other(reason));
        }
        if !answer.is_empty()
            && let Some(stream) = &mut self.stream
        {
            stream.write_all(&answer)?;
        }
        Ok(())
    }
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [high, low, ..] => format!("close code {}", u16::from_be_bytes([*high, *low])),
        _ => "close without a code".into(),
    }
}
