//! The kernel's part: a socket whose other end is in the same thread, with a seeded temper.
//!
//! Like an edge-triggered poll it tells once of a change, so that a wake-up that the reactor misses
//! shows as a message that never comes.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    rc::Rc,
};

use mio::{Interest, Registry, Token, event::Source};
use testkit::seeded::Seeded;

use crate::server::transport::Socket;

/// What both ends share.
#[derive(Debug)]
pub(super) struct Line {
    chance: Seeded,
    /// On its way to the server.
    pub(super) input: VecDeque<u8>,
    /// Everything that the server has written.
    pub(super) output: Vec<u8>,
    /// Bytes that the server can write before it must wait.
    pub(super) room: usize,
    /// The peer's FIN comes after `input`.
    pub(super) ended: bool,
    pub(super) reset: bool,
    /// The server's FIN.
    pub(super) shut: bool,
    /// The server has let go of its end.
    pub(super) dropped: bool,
    /// What the poll has to tell.
    pub(super) readable: bool,
    pub(super) writable: bool,
    blocked: bool,
    /// What the poll calls the socket, while one watches it, and whether that is news.
    pub(super) watch: Option<Token>,
    pub(super) watch_is_new: bool,
}

impl Line {
    pub(super) fn new(seed: u64, room: usize) -> Self {
        Line {
            chance: Seeded::new(seed),
            input: VecDeque::new(),
            output: Vec::new(),
            room,
            ended: false,
            reset: false,
            shut: false,
            dropped: false,
            // A socket that is new to a poll is told of at once.
            readable: true,
            writable: true,
            blocked: false,
            watch: None,
            watch_is_new: false,
        }
    }

    /// The peer has read some of what was written.
    pub(super) fn make_room(&mut self, bytes: usize) {
        self.room += bytes;
        if std::mem::take(&mut self.blocked) {
            self.writable = true;
        }
    }

    /// The peer's bytes arrive.
    pub(super) fn arrive(&mut self, bytes: impl Iterator<Item = u8>) {
        self.input.extend(bytes);
        self.readable = true;
    }

    /// The peer's end, orderly or not.
    pub(super) fn end(&mut self, reset: bool) {
        self.ended = true;
        self.reset |= reset;
        self.readable = true;
        self.writable |= reset;
    }

    /// A fault that any call may meet.
    fn fault(&mut self) -> io::Result<()> {
        if self.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        match self.chance.once_in(16) {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }
}

/// The server's end.
#[derive(Debug)]
pub(super) struct Wire(pub(super) Rc<RefCell<Line>>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut line = self.0.borrow_mut();
        line.fault()?;
        if line.input.is_empty() && !line.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = line.input.len().min(buffer.len());
        for (place, byte) in buffer.iter_mut().zip(line.input.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut line = self.0.borrow_mut();
        line.fault()?;
        assert!(!line.shut, "a write after our own FIN");
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        let most = all.min(line.room);
        if most == 0 {
            line.blocked = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = if line.chance.once_in(2) { most } else { 1 + line.chance.below(most) };
        line.room -= count;
        let mut left = count;
        for slice in slices {
            let here = slice.len().min(left);
            line.output.extend_from_slice(&slice[..here]);
            left -= here;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Wire {
    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut line = self.0.borrow_mut();
        if line.reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        line.shut = true;
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.0.borrow_mut().dropped = true;
    }
}

/// No poll watches it; whoever drives it is told by which name it would be told of.
impl Source for Wire {
    fn register(&mut self, _: &Registry, token: Token, _: Interest) -> io::Result<()> {
        let mut line = self.0.borrow_mut();
        assert_eq!(line.watch.replace(token), None, "watched twice");
        // What is new to a poll is told of at once.
        (line.watch_is_new, line.readable, line.writable) = (true, true, true);
        Ok(())
    }

    fn reregister(&mut self, _: &Registry, token: Token, _: Interest) -> io::Result<()> {
        let mut line = self.0.borrow_mut();
        assert_eq!(line.watch, Some(token), "watched as another");
        (line.readable, line.writable) = (true, true);
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        assert!(self.0.borrow_mut().watch.take().is_some(), "not watched");
        Ok(())
    }
}
