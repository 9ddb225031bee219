//! One client connection: dialling, upgrading, open. Its owner drops it when it is over.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use super::{
    pause::End,
    resume::{Frame, Place},
    stream::Stream,
    tally::Tally,
};
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
}

pub struct Socket {
    stream: Stream,
    phase: Phase,
    /// When the connect was due.
    due: u64,
}

/// Whose connection it is, what that client has got, and where it is counted.
pub struct Owner<'a> {
    pub client: i64,
    pub sequences: &'a mut Vec<(u32, Sequence)>,
    /// Where it is, if it goes on from there.
    pub place: Option<&'a mut Place>,
    /// What the node said of what it missed.
    pub greeted: Option<Greeted>,
    /// Nothing comes after what is there.
    pub is_over: bool,
    pub tally: &'a mut Tally,
}

/// What a node says first to a client that goes on from where it was.
pub enum Greeted {
    Resumed,
    /// Something may be missing, and why; nothing at a first connection.
    Resync(Option<String>),
}

impl Owner<'_> {
    /// A text has come: the beginning of its payload, and its length.
    fn text(&mut self, payload: &[u8], length: u64, now: u64) {
        let Owner { client, sequences, place, greeted, tally, .. } = self;
        let Some(place) = place else {
            return tally.message(*client, sequences, (payload, length), now);
        };
        match place.take(payload, length) {
            Some(Frame::Message(payload, length)) => {
                tally.message(*client, sequences, (payload, length), now);
            }
            Some(Frame::Resumed) => *greeted = Some(Greeted::Resumed),
            Some(Frame::Resync(why)) => *greeted = Some(Greeted::Resync(why)),
            Some(Frame::Nothing) => {}
            // It is counted as a stray.
            Some(Frame::Other) | None => tally.message(*client, sequences, (payload, length), now),
        }
    }
}

impl Socket {
    /// Has the connection end with a reset.
    pub fn reset(&mut self) {
        let _ = socket2::SockRef::from(&*self.stream.tcp_mut()).set_linger(Some(Duration::ZERO));
    }

    pub fn new(stream: Stream, request: Vec<u8>, due: u64) -> Self {
        Socket { stream, phase: Phase::Dialling(request.into()), due }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Reads and answers what is there; how the connection or the attempt ended, if it did.
    pub fn ready(&mut self, scratch: &mut [u8], owner: &mut Owner) -> Result<(), End> {
        self.advance(scratch, owner).map_err(|end| match self.stream.tcp_mut().take_error() {
            Ok(Some(error)) => End::of(error.kind().to_string()),
            _ => end,
        })
    }

    fn advance(&mut self, scratch: &mut [u8], owner: &mut Owner) -> Result<(), End> {
        if let Phase::Dialling(request) = &self.phase {
            match self.stream.write(request) {
                Ok(count) if count == request.len() => {}
                Ok(_) => return Err(End::of("the request did not go out whole")),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                    ) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
            self.stream.tcp_mut().set_nodelay(true)?;
            let no_answer_follows = request.len() == size_of::<i64>();
            if no_answer_follows {
                self.open(owner);
            } else {
                self.phase = Phase::Upgrading(Vec::new());
            }
        }
        match self.stream.drive() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
            _ => {}
        }
        self.read(scratch, owner)
    }

    fn open(&mut self, owner: &mut Owner) {
        // Who goes on from where it was is in once it knows whether it missed anything.
        if owner.place.is_none() {
            owner.tally.connect.record(clock::now().saturating_sub(self.due));
        }
        owner.tally.status.opened += 1;
        owner.tally.changes += 1;
        self.phase = Phase::Open(Box::default());
    }

    fn read(&mut self, scratch: &mut [u8], owner: &mut Owner) -> Result<(), End> {
        loop {
            let count = match self.stream.read(scratch) {
                Ok(0) => return Err(End::of("closed by the server")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.take(&scratch[..count], owner)?;
            // A short read emptied the socket; what comes later is announced by a new event, but not an end that is
            // there already. Under TLS it is a record that ended.
            if count < scratch.len() && !owner.is_over && !self.stream.is_secure() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8], owner: &mut Owner) -> Result<(), End> {
        if let Phase::Upgrading(answer) = &mut self.phase {
            answer.extend_from_slice(bytes);
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(());
            };
            let status = answer.get(9..12).unwrap_or_default();
            if status != b"101" {
                return Err(End::of(format!("HTTP status {}", String::from_utf8_lossy(status))));
            }
            let frames_after_it = answer.len() - (end + 4);
            bytes = &bytes[bytes.len() - frames_after_it..];
            self.open(owner);
        }
        let Phase::Open(reader) = &mut self.phase else { return Ok(()) };
        let now = clock::now();
        let mut answer = Vec::new();
        let mut closed = None;
        let was_greeted = owner.greeted.is_some();
        let fed = reader.feed(bytes, |opcode, payload, length| match opcode {
            frame::TEXT => owner.text(payload, length, now),
            frame::PING => answer.extend(frame::control(frame::PONG, payload)),
            frame::CLOSE => closed = Some(End::close(payload)),
            _ => {}
        });
        fed.map_err(|_| End::broken())?;
        if owner.greeted.is_some() && !was_greeted {
            owner.tally.connect.record(now.saturating_sub(self.due));
        }
        if let Some(end) = closed {
            return Err(end);
        }
        if let Some(word) = owner.place.as_mut().and_then(|place| place.acknowledge(now)) {
            answer.extend(frame::control(frame::TEXT, word.as_bytes()));
        }
        if !answer.is_empty() {
            self.stream.write_all(&answer)?;
        }
        Ok(())
    }
}
