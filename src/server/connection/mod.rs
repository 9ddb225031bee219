//! One live WebSocket: read, enqueue, flush, close, tick.
//!
//! Owned by one reactor. What it reads is only checked and dropped: clients act through the business's
//! own API. Never blocks, never touches the hub or another connection.
//!
//! What comes in is checked by `inbound`, which exists only while a message is incomplete: an idle
//! connection pays nothing for it, and one that never finishes a message is closed.

pub(super) mod frame;
pub(super) mod inbound;
pub(super) mod outbox;
pub(super) mod receipt;
pub(super) mod ticks;
mod utf8;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use crate::{
    id::ClientId,
    server::{
        reasons::CloseReason,
        transport::{Socket, Transport},
    },
    wire::Ticket,
};
use frame::Frame;
use inbound::Inbound;
use outbox::{Flushed, Outbox, Written};
use receipt::Receipt;
use ticks::Ticks;

/// Reads per turn and connection, so that one busy socket does not hold up the others.
const READS_PER_TURN: usize = 4;

/// Bytes of messages after which a ping goes out among them: its pong tells that the peer has read so far, through
/// whatever buffers lie between. A ping behind a long backlog would find even a reader silent for too long.
const PING_EVERY: u32 = 128 << 10;

/// Bytes a tick (16 KiB a second) at which what was sent since the peer was last heard may reach it: a pong cannot
/// come before all of that was read.
const SLOWEST: u32 = (16 << 10) / 10;
/// Ticks that a pong may be late for that reason at most.
const LATE_AT_MOST: Ticks = 1200;

/// One socket of a client, from the 101 response on.
#[derive(Debug)]
pub(crate) struct Connection<S = Transport> {
    stream: S,
    client: ClientId,
    /// What it came with, until presence has taken it over: an idle connection does not pay for it.
    ticket: Option<Box<Ticket>>,
    /// Number of the connection within the node.
    pub(crate) number: u64,
    outbox: Outbox,
    /// What is known of the frame or message that is incomplete.
    inbound: Option<Box<Inbound>>,
    phase: Phase,
    /// When the peer was last heard.
    heard: Ticks,
    /// Bytes received since the last tick, with what TLS adds to them.
    inbound_bytes: u32,
    /// Bytes that the socket has still to take by `due`, the pace that is asked of it; set anew whenever they
    /// are taken and more waits. `Ticks::MAX` while the socket has refused nothing.
    due_bytes: u32,
    due: Ticks,
    /// When the socket last took bytes, or first refused some.
    took: Ticks,
    /// When it was last offered some.
    asked: Ticks,
    /// The socket has refused bytes and nobody has said since that it takes more.
    refused: bool,
    /// Bytes of messages since the peer was last heard.
    unheard: u32,
    /// Waits for a flush in the reactor's lists of urgent and of bulk traffic.
    pub(crate) in_urgent: bool,
    pub(crate) in_bulk: bool,
    pinged: bool,
    /// Whether the broker was told that the connection opened.
    pub(crate) reported: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Delivers and reads.
    Open,
    /// The close frame is queued.
    Closing { reason: CloseReason, until: Ticks, end: End },
    /// Nothing more can be done.
    Gone { reason: CloseReason },
}

/// How far a close is (RFC 6455, section 7.1.1: TCP ends when both close frames are there).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The peer's close frame is to come; until then its bytes are checked on.
    Awaited,
    /// It is there, or nothing that can be read any more; input is dropped.
    Answered,
    /// Our side of TCP is closed.
    Shut,
}

/// The limits that a connection checks itself, in its own units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Not a limit, but as constant as they are: see [`ServerConfig::echo`](super::ServerConfig::echo).
    pub(crate) echo: bool,
    pub(crate) message_bytes: usize,
    pub(crate) message_time: Ticks,
    /// Bytes between two ticks.
    pub(crate) inbound_bytes: u32,
    pub(crate) ping_after: Ticks,
    pub(crate) pong_within: Ticks,
    pub(crate) outbox_bytes: usize,
    pub(crate) outbox_stall: Ticks,
    pub(crate) outbox_age: Ticks,
    pub(crate) linger: Ticks,
}

/// Bytes that a client whose socket refuses some must take within `outbox_age`, if so many wait.
const LEAST_PACE: usize = 16 << 10;
/// Times `outbox_age` within which a client must be able to catch up at its pace, whatever waits.
const CATCH_UP: usize = 30;
/// Times `outbox_bytes` that wait at most, even for a client that reads.
const FAR_BEHIND: usize = 64;
/// Bytes that wait at most however large that is: an outbox counts in 32 bits.
const MOST: usize = 2 << 30;

/// What became of a message that was to be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enqueued {
    /// It waits.
    Queued,
    /// It waits; the socket was offered what waited before, which is work of another order.
    Offered,
    /// The client does not read: the caller closes the connection.
    TooSlow,
}

/// What a read leaves to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// The socket has no more for now.
    Drained,
    /// There may be more; read again next turn.
    More,
}

impl<S: Socket> Connection<S> {
    pub(crate) fn new(mut stream: S, ticket: Ticket, number: u64, now: Ticks) -> Self {
        // Its handshake has bounds of its own.
        stream.take_received(0);
        Connection {
            stream,
            client: ticket.client(),
            ticket: Some(Box::new(ticket)),
            number,
            outbox: Outbox::default(),
            inbound: None,
            phase: Phase::Open,
            heard: now,
            inbound_bytes: 0,
            due_bytes: 0,
            due: Ticks::MAX,
            took: now,
            asked: now,
            refused: false,
            in_urgent: false,
            in_bulk: false,
            pinged: false,
            unheard: 0,
            reported: false,
        }
    }

    /// The socket, to be registered.
    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    pub(crate) fn client(&self) -> ClientId {
        self.client
    }

    /// The ticket it came with, the first time.
    pub(crate) fn take_ticket(&mut self) -> Option<Ticket> {
        self.ticket.take().map(|ticket| *ticket)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.outbox.is_empty() || self.stream.unsent() > 0
    }

    /// Whether there may be something to read that no event tells of.
    pub(crate) fn has_unread(&self) -> bool {
        self.stream.has_unread()
    }

    /// Bytes and messages that are not written.
    pub(crate) fn unwritten(&self) -> (usize, usize) {
        (self.outbox.pending(), self.outbox.messages())
    }

    /// Why it ends; `None` while it is open.
    pub(crate) fn ending(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Open => None,
            Phase::Closing { reason, .. } | Phase::Gone { reason } => Some(reason),
        }
    }

    /// Why it ended, once nothing more can be done with it.
    pub(crate) fn gone(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Gone { reason } => Some(reason),
            _ => None,
        }
    }

    /// Queues protocol bytes: the handshake response.
    pub(crate) fn enqueue_control(&mut self, frame: Frame) {
        self.outbox.push_control(frame);
    }

    /// Queues a message.
    pub(crate) fn enqueue(
        &mut self,
        frame: Frame,
        receipt: Option<Rc<Receipt>>,
        now: Ticks,
        limits: &ConnectionLimits,
        written: &mut Written,
    ) -> Enqueued {
        let bytes = frame.bytes().len();
        let offered = !self.has_room(bytes, limits);
        if offered && !self.may_lag(bytes, now, limits, written) {
            return Enqueued::TooSlow;
        }
        self.outbox.push_message(frame, receipt);
        let before = self.unheard;
        self.unheard = before.saturating_add(bytes as u32);
        if self.unheard / PING_EVERY > before / PING_EVERY {
            self.outbox.push_control(Frame::ping());
        }
        if offered { Enqueued::Offered } else { Enqueued::Queued }
    }

    /// Whether the outbox may take this much more without a look at the client. A single message may exceed
    /// the limit when nothing else waits; it could never be sent otherwise.
    fn has_room(&self, bytes: usize, limits: &ConnectionLimits) -> bool {
        self.outbox.is_empty() || self.outbox.weight() + bytes <= limits.outbox_bytes
    }

    /// Whether a client that has more than its share waiting reads on: what waits is offered to its socket
    /// before anything is said of it.
    fn may_lag(
        &mut self,
        bytes: usize,
        now: Ticks,
        limits: &ConnectionLimits,
        written: &mut Written,
    ) -> bool {
        let most = limits.outbox_bytes.saturating_mul(FAR_BEHIND).min(MOST);
        let may = |this: &Self| {
            this.has_room(bytes, limits)
                || !this.is_stalled(now, limits) && this.outbox.weight() + bytes <= most
        };
        // A socket that refuses is asked once a tick, or the others would pay for it; and before it is cut.
        if !self.refused || self.asked != now || !may(self) {
            self.offer(now, limits, written);
        }
        may(self)
    }

    /// Whether more than its share waits and the socket has taken nothing of it for too long.
    fn is_stalled(&self, now: Ticks, limits: &ConnectionLimits) -> bool {
        self.due != Ticks::MAX
            && self.outbox.weight() > limits.outbox_bytes
            && now - self.took >= limits.outbox_stall
    }

    /// The poll says that the socket takes bytes again.
    pub(crate) fn takes_more(&mut self) {
        self.refused = false;
    }

    /// Writes what the socket takes, whatever it said before.
    fn offer(&mut self, now: Ticks, limits: &ConnectionLimits, written: &mut Written) {
        self.refused = false;
        self.flush(now, limits, written);
    }

    /// Writes what the socket takes; nothing while it is known to take nothing.
    pub(crate) fn flush(&mut self, now: Ticks, limits: &ConnectionLimits, written: &mut Written) {
        if self.refused || self.gone().is_some() {
            return;
        }
        self.asked = now;
        let (before, sealed) = (self.outbox.pending(), self.stream.unsent());
        let result = self.outbox.flush(&mut self.stream, written);
        let taken = before - self.outbox.pending();
        self.due_bytes = self.due_bytes.saturating_sub(taken as u32);
        // TLS counts whole records, which a slow client takes bit by bit.
        if taken > 0 || self.stream.unsent() != sealed {
            self.took = now;
        }
        match result {
            Ok(Flushed::All) => {
                self.due = Ticks::MAX;
                self.shut();
            }
            Ok(Flushed::Blocked) => {
                self.refused = true;
                if self.due == Ticks::MAX {
                    self.took = now;
                }
                if self.due == Ticks::MAX || self.due_bytes == 0 {
                    let waiting = self.outbox.pending();
                    self.due_bytes = waiting.min(LEAST_PACE.max(waiting / CATCH_UP)) as u32;
                    self.due = now + limits.outbox_age;
                }
            }
            Err(error) => self.end(reason_of(&error)),
        }
    }

    /// Ends our side of TCP once both close frames are through; the peer's end is then awaited.
    fn shut(&mut self) {
        if let Phase::Closing { reason, until, end: End::Answered } = self.phase
            && !self.has_output()
        {
            self.phase = match self.stream.shutdown_write() {
                Ok(()) => Phase::Closing { reason, until, end: End::Shut },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => Phase::Gone { reason },
            };
        }
    }

    /// Reads what the socket has, up to a bound, and answers pings and closes.
    ///
    /// `to_end` says that the peer has closed its side: then a read that does not fill the buffer is not
    /// the last. Otherwise it is, and the poll tells when there is more.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        to_end: bool,
        now: Ticks,
        limits: &ConnectionLimits,
    ) -> ReadOutcome {
        for _ in 0..READS_PER_TURN {
            if self.gone().is_some() {
                return ReadOutcome::Drained;
            }
            let result = self.stream.read(scratch);
            let received = self.stream.take_received(*result.as_ref().unwrap_or(&0));
            self.inbound_bytes = self.inbound_bytes.saturating_add(received as u32);
            if self.inbound_bytes > limits.inbound_bytes {
                self.close(CloseReason::Flood, now, limits);
            }
            match result {
                Ok(0) => {
                    self.end(CloseReason::Lost);
                    return ReadOutcome::Drained;
                }
                Ok(count) => {
                    self.receive(&mut scratch[..count], now, limits);
                    if count < scratch.len() && !to_end && !self.has_unread() {
                        return ReadOutcome::Drained;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return ReadOutcome::Drained;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.end(reason_of(&error));
                    return ReadOutcome::Drained;
                }
            }
        }
        ReadOutcome::More
    }

    /// Takes bytes that came from the peer.
    pub(crate) fn receive(&mut self, bytes: &mut [u8], now: Ticks, limits: &ConnectionLimits) {
        match self.phase {
            Phase::Open | Phase::Closing { end: End::Awaited, .. } => {}
            _ => return,
        }
        self.heard = now;
        self.pinged = false;
        self.unheard = 0;
        let mut inbound =
            self.inbound.take().unwrap_or_else(|| Box::new(Inbound::new(limits.message_bytes)));
        // Peers choose these bytes; a fault in checking them must not cost the others their reactor.
        let end = catch_unwind(AssertUnwindSafe(|| inbound.feed(bytes, now, limits.echo)))
            .unwrap_or(Some(CloseReason::Internal));
        let output = inbound.take_output();
        if let Phase::Closing { reason, until, .. } = self.phase {
            // Nothing may follow our close frame; all that counts is the peer's.
            match end {
                None => self.inbound = (!inbound.is_clean()).then_some(inbound),
                Some(_) => self.phase = Phase::Closing { reason, until, end: End::Answered },
            }
            return self.shut();
        }
        if !output.is_empty() {
            if !self.has_room(output.len(), limits) {
                // It asks faster than it reads the answers.
                self.close(CloseReason::Flood, now, limits);
                return;
            }
            self.outbox.push_control(Frame::raw(&output));
        }
        match end {
            None if inbound.is_clean() => {}
            None => self.inbound = Some(inbound),
            // The reply to the peer's close frame is queued.
            Some(CloseReason::Peer) => self.begin_closing(CloseReason::Peer, now, limits),
            Some(reason) => {
                self.close(reason, now, limits);
            }
        }
    }

    /// Sends a close frame with the reason's code and ends the connection soon after. What is queued
    /// goes out before it, except to a client that is being cut for not reading.
    ///
    /// Returns what was dropped.
    pub(crate) fn close(
        &mut self,
        reason: CloseReason,
        now: Ticks,
        limits: &ConnectionLimits,
    ) -> Written {
        if !self.is_open() {
            return Written::default();
        }
        let dropped = match reason {
            CloseReason::SlowConsumer => self.outbox.abandon(self.stream.begun()),
            _ => Written::default(),
        };
        match reason.code() {
            Some(code) => {
                self.outbox.push_control(Frame::close(code, reason.text()));
                self.begin_closing(reason, now, limits);
            }
            None => self.end(reason),
        }
        dropped
    }

    fn begin_closing(&mut self, reason: CloseReason, now: Ticks, limits: &ConnectionLimits) {
        let end = if reason.expects_answer() { End::Awaited } else { End::Answered };
        if end == End::Answered {
            self.inbound = None;
        }
        self.phase = Phase::Closing { reason, until: now + limits.linger, end };
    }

    /// Nothing more can be done; a reason that was there before stays.
    fn end(&mut self, reason: CloseReason) {
        self.phase = Phase::Gone { reason: self.ending().unwrap_or(reason) };
    }

    /// Looks after the connection once per sweep: offers what waits, pings the idle, and names a reason to
    /// close the silent and the stuck.
    pub(crate) fn tick(
        &mut self,
        now: Ticks,
        limits: &ConnectionLimits,
        written: &mut Written,
    ) -> Option<CloseReason> {
        self.inbound_bytes = 0;
        if self.has_output() {
            // The poll tells late of a little room in a large socket buffer.
            self.offer(now, limits, written);
        }
        match self.phase {
            Phase::Closing { reason, until, .. } if now >= until => {
                if self.outbox.is_empty() {
                    // It has had the time to answer.
                    let _ = self.stream.shutdown_write();
                }
                self.phase = Phase::Gone { reason };
                return None;
            }
            Phase::Open => {}
            _ => return None,
        }
        if now >= self.due && self.due_bytes > 0 || self.is_stalled(now, limits) {
            return Some(CloseReason::SlowConsumer);
        }
        let unfinished = self.inbound.as_ref().map(|inbound| now - inbound.since());
        if unfinished.is_some_and(|time| time >= limits.message_time) {
            return Some(CloseReason::Unfinished);
        }
        if self.due != Ticks::MAX {
            // A socket that takes bytes again and again has a peer that reads; one that does not is judged above.
            self.heard = self.heard.max(self.took);
        }
        let silent = now - self.heard;
        let late = (self.unheard / SLOWEST).min(LATE_AT_MOST);
        if silent >= limits.ping_after + limits.pong_within + late && self.pinged {
            return Some(CloseReason::Silent);
        }
        if silent >= limits.ping_after && !self.pinged {
            self.pinged = true;
            // A pong is due from now on, however late this tick came.
            self.heard = now - limits.ping_after;
            self.outbox.push_control(Frame::ping());
        }
        None
    }

    /// What will never be written, when the reactor lets go of the connection.
    pub(crate) fn into_unwritten(self) -> Written {
        self.outbox.into_unwritten()
    }
}

/// Why a connection ends whose socket gives an error.
fn reason_of(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::InvalidData => CloseReason::Protocol,
        io::ErrorKind::Other => CloseReason::Internal,
        _ => CloseReason::Lost,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        io::{Read, Write},
    };

    use super::*;
    use crate::server::transport::unwatched;

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

    const LIMITS: ConnectionLimits = ConnectionLimits {
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
    };

    #[test]
    fn a_peer_that_pings_and_does_not_read_is_bounded() {
        let mut connection = Connection::new(Deaf, Ticket::new(1.into(), None), 0, 0);
        let mut answered = 0;
        while connection.is_open() {
            connection.receive(&mut b"\x89\x80\0\0\0\0".to_owned(), 0, &LIMITS);
            connection.tick(0, &LIMITS, &mut Written::default());
            assert!(connection.outbox.weight() <= LIMITS.outbox_bytes + 100);
            answered += 1;
        }
        assert!(answered > 100, "well-behaved peers are not close to it");
    }

    #[test]
    fn a_message_has_its_time_and_whoever_talks_on_is_let_be() {
        let end = |connection: &mut Connection<Deaf>, now| {
            connection.tick(now, &LIMITS, &mut Written::default())
        };
        let mut connection = Connection::new(Deaf, Ticket::new(1.into(), None), 0, 0);
        // A message of six bytes every five; at each tick one of them is unfinished, but no old one.
        let mut bytes = b"\x82\x80\0\0\0\0".iter().copied().cycle();
        for now in 0..1000 {
            let mut piece: Vec<u8> = bytes.by_ref().take(5).collect();
            connection.receive(&mut piece, now, &LIMITS);
            assert_eq!(end(&mut connection, now), None);
        }
        let mut connection = Connection::new(Deaf, Ticket::new(1.into(), None), 0, 0);
        connection.receive(&mut b"\x02\x80\0\0\0\0".to_owned(), 7, &LIMITS);
        for now in 8..107 {
            connection.receive(&mut b"\x8a\x80\0\0\0\0".to_owned(), now, &LIMITS);
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
            let frame = Frame::text(&"x".repeat(LIMITS.outbox_bytes));
            (0..90).find(|now| {
                let written = &mut Written::default();
                let enqueued = connection.enqueue(frame.clone(), None, *now, &LIMITS, written);
                let late = connection.tick(*now, &LIMITS, written).is_some();
                enqueued == Enqueued::TooSlow || late
            })
        }
        let ticket = || Ticket::new(1.into(), None);
        let limits = LIMITS.outbox_bytes.saturating_mul(FAR_BEHIND);
        assert_eq!(cut_at(Connection::new(Deaf, ticket(), 0, 0)), Some(LIMITS.outbox_stall));
        let dripping = Connection::new(Dripping { sealed: 1 << 20 }, ticket(), 0, 0);
        // Not for its pace, but because no more may wait for anybody.
        assert_eq!(cut_at(dripping), Some((limits / LIMITS.outbox_bytes) as Ticks - 1));
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
        let outcome = connection.read(&mut [0; 64], false, 0, &LIMITS);
        assert_eq!((outcome, connection.has_output()), (ReadOutcome::Drained, true), "a pong");
    }

    #[test]
    fn an_idle_connection_is_small() {
        let size = size_of::<Connection>();
        assert!(size <= 192, "{size}");
    }
}
