//! A connection against sockets that take nothing, little, or hold bytes back.

use std::{
    collections::VecDeque,
    io::{Read, Write},
};

use super::{continuity::Keep, *};
use crate::{server::transport::unwatched, wire::Position};

/// A socket whose peer reads nothing.
#[derive(Debug)]
struct Deaf;

impl Read for Deaf {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// What both sockets do the same: they take nothing, and no poll watches them.
macro_rules! mute {
    ($socket:ty, $unread:expr) => {
        impl Write for $socket {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::WouldBlock.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        unwatched!($socket);

        impl Socket for $socket {
            fn shutdown_write(&mut self) -> io::Result<()> {
                Ok(())
            }

            fn has_unread(&self) -> bool {
                $unread(self)
            }
        }
    };
}

mute!(Deaf, |_: &Deaf| false);
mute!(Layered, |socket: &Layered| !socket.0.is_empty());

pub(super) const LIMITS: ConnectionLimits = ConnectionLimits {
    echo: false,
    message_bytes: 1024,
    message_time: 100,
    inbound_bytes: 4096,
    ping_after: 100,
    pong_within: 100,
    outbox_bytes: 1 << 16,
    outbox_stall: 30,
    outbox_age: 100,
    linger: 10,
    grace: Keep::NONE,
};

/// Does something with the connection at a moment.
fn at<T>(now: Ticks, work: impl FnOnce(&mut Context) -> T) -> T {
    let (place, tally) = (&mut Place::new("k".into()), &mut Tally::default());
    work(&mut Context { now, limits: &LIMITS, place, tally, runs: &mut Runs::default() })
}

#[test]
fn a_peer_that_pings_and_does_not_read_is_bounded() {
    let mut connection = Connection::new(Deaf, Ticket::new(1.into(), None), 0, 0);
    let mut answered = 0;
    while connection.is_open() {
        at(0, |cx| connection.receive(&mut b"\x89\x80\0\0\0\0".to_owned(), cx));
        at(0, |cx| connection.tick(cx));
        assert!(connection.outbox.weight() <= LIMITS.outbox_bytes + 100);
        answered += 1;
    }
    assert!(answered > 100, "well-behaved peers are not close to it");
}

#[test]
fn a_message_has_its_time_and_whoever_talks_on_is_let_be() {
    let end = |connection: &mut Connection<Deaf>, now| at(now, |cx| connection.tick(cx));
    let mut connection = Connection::new(Deaf, Ticket::new(1.into(), None), 0, 0);
    // A message of six bytes every five; at each tick one of them is unfinished, but no old one.
    let mut bytes = b"\x82\x80\0\0\0\0".iter().copied().cycle();
    for now in 0..1000 {
        let mut piece: Vec<u8> = bytes.by_ref().take(5).collect();
        at(now, |cx| connection.receive(&mut piece, cx));
        assert_eq!(end(&mut connection, now), None);
    }
    let mut connection = Connection::new(Deaf, Ticket::new(1.into(), None), 0, 0);
    at(7, |cx| connection.receive(&mut b"\x02\x80\0\0\0\0".to_owned(), cx));
    for now in 8..107 {
        at(now, |cx| connection.receive(&mut b"\x8a\x80\0\0\0\0".to_owned(), cx));
        assert_eq!(end(&mut connection, now), None);
    }
    assert_eq!(end(&mut connection, 107), Some(CloseReason::Unfinished));
}

/// A socket that counts nothing before a large record is through, of which its peer takes a little at a
/// time.
#[derive(Debug)]
struct Dripping {
    sealed: usize,
}

impl Read for Dripping {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Dripping {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        self.sealed -= 1;
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

unwatched!(Dripping);

impl Socket for Dripping {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn unsent(&self) -> usize {
        self.sealed
    }
}

#[test]
fn only_who_takes_nothing_is_stalled() {
    fn cut_at<S: Socket>(mut connection: Connection<S>) -> Option<Ticks> {
        let message = Prepared::text(&"x".repeat(LIMITS.outbox_bytes), Position::default());
        (0..90).find(|now| {
            let enqueued = at(*now, |cx| connection.enqueue(&message, None, cx));
            let late = at(*now, |cx| connection.tick(cx)).is_some();
            enqueued == Enqueued::TooSlow || late
        })
    }
    let ticket = || Ticket::new(1.into(), None);
    let most = Pace::most(&LIMITS);
    assert_eq!(cut_at(Connection::new(Deaf, ticket(), 0, 0)), Some(LIMITS.outbox_stall));
    let dripping = Connection::new(Dripping { sealed: 1 << 20 }, ticket(), 0, 0);
    // Not for its pace, but because no more may wait for anybody.
    assert_eq!(cut_at(dripping), Some((most / LIMITS.outbox_bytes) as Ticks - 1));
}

/// A socket that holds back what it has got, in pieces.
#[derive(Debug)]
struct Layered(VecDeque<&'static [u8]>);

impl Read for Layered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.0.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        buffer[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

#[test]
fn what_no_event_tells_of_is_read_at_once() {
    let pieces = [&b"\x89\x81"[..], b"\0\0\0", b"\0x"];
    let socket = Layered(pieces.into());
    let mut connection = Connection::new(socket, Ticket::new(1.into(), None), 0, 0);
    let outcome = at(0, |cx| connection.read(&mut [0; 64], false, cx));
    assert_eq!((outcome, connection.has_output()), (ReadOutcome::Drained, true), "a pong");
}

#[test]
fn an_idle_connection_is_small() {
    let size = size_of::<Connection>();
    assert!(size <= 152, "{size}");
}
