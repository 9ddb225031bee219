//! One live WebSocket: read, enqueue, flush, close, tick.
//!
//! Owned by one reactor. What it reads is only checked and dropped: clients act through the business's
//! own API. Never blocks, never touches the hub or another connection.
//!
//! `inbound` checks what comes in and exists only while a message is incomplete: an idle connection pays nothing for it,
//! and one that never finishes a message is closed. `outbox` holds what goes out, `pace` and `silence` judge a client that
//! does not take it or says nothing. `continuity` and `estate` are what outlives the socket. Nothing but this file changes the
//! phase, so all ways to the end are on one page; hence its length.

pub(super) mod continuity;
mod estate;
pub(super) mod frame;
pub(super) mod hello;
pub(super) mod inbound;
pub(super) mod kept;
pub(super) mod limits;
pub(super) mod outbox;
mod pace;
mod phase;
pub(super) mod place;
pub(super) mod prepared;
pub(super) mod receipt;
pub(super) mod roster;
pub(super) mod runs;
mod silence;
pub(super) mod ticks;
pub(super) mod trace;
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
    wire::{Position, Ticket},
};
use continuity::Continuity;
use estate::Keeper;
pub(crate) use estate::{Estate, NEVER};
use frame::Frame;
use hello::Pause;
use inbound::{Inbound, Listen};
use limits::{ConnectionLimits, Farewell};
use outbox::{Flushed, Outbox, Tally};
use pace::Pace;
use phase::{End, Phase};
use place::Place;
use prepared::{Dialect, Prepared};
use receipt::Receipt;
use roster::Told;
use runs::Runs;
use silence::{Look, Silence};
use ticks::Ticks;

/// Reads per turn and connection, so that one busy socket does not hold up the others.
const READS_PER_TURN: usize = 4;

/// One socket of a client, from the 101 response on.
#[derive(Debug)]
pub(crate) struct Connection<S = Transport> {
    stream: S,
    client: ClientId,
    /// Number of the connection within the node; that of the one that it goes on from, if it does.
    pub(crate) number: u64,
    /// An idle connection of the original's kind does not pay for it.
    continuity: Option<Box<Continuity>>,
    outbox: Outbox,
    /// What is known of the frame or message that is incomplete.
    inbound: Option<Box<Inbound>>,
    phase: Phase,
    silence: Silence,
    pace: Pace,
    /// Bytes received since the last tick, with what TLS adds to them.
    inbound_bytes: u32,
    farewell: Farewell,
    /// Waits for a flush in the reactor's lists of urgent and of bulk traffic.
    pub(crate) in_urgent: bool,
    pub(crate) in_bulk: bool,
    pub(crate) standing: Standing,
}

/// Who answers for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nobody yet: the broker is still to be told that it opened.
    New,
    /// This node.
    Reported,
    /// Another node or connection, and the broker is told by that what becomes of it.
    HandedOver,
    /// The same, and its client gets messages from there alone.
    Mute,
}

/// What connections work with that is not their own.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) now: Ticks,
    pub(crate) limits: &'a ConnectionLimits,
    pub(crate) place: &'a mut Place,
    /// What was written and acknowledged.
    pub(crate) tally: &'a mut Tally,
    /// What clients were written in common.
    pub(crate) runs: &'a mut Runs,
}

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
    pub(crate) fn new(stream: S, ticket: Ticket, number: u64, now: Ticks) -> Self {
        let client = ticket.client().clone();
        Connection::open(stream, client, number, Continuity::plain(ticket), now)
    }

    fn open(
        mut stream: S,
        client: ClientId,
        number: u64,
        continuity: Continuity,
        now: Ticks,
    ) -> Self {
        // Its handshake has bounds of its own.
        stream.take_received(0);
        Connection {
            stream,
            client,
            number,
            continuity: Some(Box::new(continuity)),
            outbox: Outbox::default(),
            inbound: None,
            phase: Phase::Open,
            silence: Silence::new(now),
            pace: Pace::new(now),
            inbound_bytes: 0,
            farewell: Farewell::Returning,
            in_urgent: false,
            in_bulk: false,
            standing: Standing::New,
        }
    }

    /// The socket, to be registered.
    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    pub(crate) fn client(&self) -> &ClientId {
        &self.client
    }

    /// The ticket it came with, the first time.
    pub(crate) fn take_ticket(&mut self) -> Option<Ticket> {
        let ticket = self.continuity.as_mut()?.take_ticket();
        self.tidy();
        ticket
    }

    /// The form in which it takes messages.
    pub(crate) fn dialect(&self) -> Dialect {
        if self.is_resumable() { Dialect::Stamped } else { Dialect::Plain }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether its client gets messages from another node alone.
    pub(crate) fn is_mute(&self) -> bool {
        self.standing == Standing::Mute
    }

    /// Whether it gets messages.
    pub(crate) fn takes_messages(&self) -> bool {
        self.is_open() && !self.is_mute()
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.outbox.is_empty() || self.stream.unsent() > 0
    }

    /// Reads something of each piece of memory that a flush needs.
    pub(crate) fn look_at_output(&self) -> usize {
        self.outbox.look_at()
            ^ self.continuity.as_ref().map_or(0, |continuity| continuity.look_at())
    }

    /// Whether there may be something to read that no event tells of.
    pub(crate) fn has_unread(&self) -> bool {
        self.stream.has_unread()
    }

    /// Bytes that wait for the socket, here and below.
    pub(crate) fn unsent(&self) -> usize {
        self.outbox.pending() + self.stream.unsent()
    }

    /// Bytes and messages that are not written.
    pub(crate) fn unwritten(&self) -> (usize, usize) {
        (self.outbox.pending(), self.outbox.messages().count())
    }

    /// Messages that are not written in full: where they are, and their bytes.
    pub(crate) fn unwritten_messages(&self) -> Vec<(Position, usize)> {
        self.outbox.messages().map(|frame| (frame.position(), frame.bytes().len())).collect()
    }

    /// Why it ends; `None` while it is open.
    pub(crate) fn ending(&self) -> Option<CloseReason> {
        self.phase.ending()
    }

    /// Why it ended, once nothing more can be done with it.
    pub(crate) fn gone(&self) -> Option<CloseReason> {
        self.phase.gone()
    }

    /// Queues protocol bytes: the handshake response.
    pub(crate) fn enqueue_control(&mut self, frame: Frame) {
        self.outbox.push_control(frame);
    }

    /// Queues a message in the connection's dialect. What was written on the way is added to the tally.
    pub(crate) fn enqueue(
        &mut self,
        message: &Prepared,
        mut receipt: Option<Rc<Receipt>>,
        cx: &mut Context,
    ) -> Enqueued {
        let frame = message.frame(self.dialect(), &cx.place.epoch).clone();
        let bytes = frame.bytes().len();
        let offered = !self.has_room(bytes, cx.limits);
        if offered && !self.may_lag(bytes, cx) {
            return Enqueued::TooSlow;
        }
        match &mut self.continuity {
            Some(continuity) if continuity.is_resumable() => continuity.told(cx.now),
            _ => {
                if let Some(receipt) = receipt.take_if(|receipt| receipt.awaits_acknowledgement()) {
                    self.await_pong(receipt);
                }
            }
        }
        self.outbox.push_message(frame, receipt);
        if self.silence.sent(bytes) {
            self.outbox.push_control(Frame::ping(&[]));
        }
        if offered { Enqueued::Offered } else { Enqueued::Queued }
    }

    /// Queues what is told of a roster, unless much waits already; whether it did.
    pub(crate) fn show(&mut self, told: &Told, cx: &mut Context) -> bool {
        let frame = told.frame(self.dialect(), &cx.place.epoch, self.told_up_to(cx));
        let bytes = frame.bytes().len();
        if !self.outbox.is_empty() && self.outbox.weight() + bytes > cx.limits.outbox_bytes / 4 {
            return false;
        }
        self.say(frame, cx.now);
        if self.silence.sent(bytes) {
            self.outbox.push_control(Frame::ping(&[]));
        }
        true
    }

    /// Whether the outbox may take this much more without a look at the client. A single message may exceed
    /// the limit when nothing else waits; it could never be sent otherwise.
    fn has_room(&self, bytes: usize, limits: &ConnectionLimits) -> bool {
        self.outbox.is_empty() || self.outbox.weight() + bytes <= limits.outbox_bytes
    }

    /// Whether a client that has more than its share waiting reads on: what waits is offered to its socket
    /// before anything is said of it.
    fn may_lag(&mut self, bytes: usize, cx: &mut Context) -> bool {
        let (now, limits) = (cx.now, cx.limits);
        let may = |this: &Self| {
            this.has_room(bytes, limits)
                || !this.is_stalled(now, limits)
                    && this.outbox.weight() + bytes <= Pace::most(limits)
        };
        // A socket that refuses is asked once a tick, or the others would pay for it; and before it is cut.
        if self.pace.is_worth_asking(now) || !may(self) {
            self.offer(cx);
        }
        may(self)
    }

    fn is_stalled(&self, now: Ticks, limits: &ConnectionLimits) -> bool {
        self.pace.is_stalled(self.outbox.weight(), now, limits)
    }

    /// The poll says that the socket takes bytes; whether that was waited for. It says so with every packet that comes.
    pub(crate) fn takes_more(&mut self) -> bool {
        self.pace.takes_more() || !self.is_open()
    }

    /// Writes what the socket takes, whatever it said before.
    fn offer(&mut self, cx: &mut Context) {
        self.pace.takes_more();
        self.flush(cx);
    }

    /// Writes what the socket takes; nothing while it is known to take nothing. What was written is added to the tally.
    pub(crate) fn flush(&mut self, cx: &mut Context) {
        if self.pace.refuses() || self.gone().is_some() {
            return;
        }
        let (now, limits) = (cx.now, cx.limits);
        let (before, sealed) = (self.outbox.pending(), self.stream.unsent());
        if let Some(trace) = &mut cx.tally.trace {
            trace.of(&self.client, self.number);
        }
        let result = match &mut self.continuity {
            None => self.outbox.flush(&mut self.stream, cx.tally),
            Some(continuity) => {
                if let Some(payload) = continuity.due_ping() {
                    self.outbox.push_control(Frame::ping(&payload));
                }
                let mut keeper = Keeper { continuity, tally: cx.tally, runs: cx.runs };
                let result = self.outbox.flush(&mut self.stream, &mut keeper);
                keeper.settle();
                continuity.bound(limits.outbox_bytes, cx.tally);
                result
            }
        };
        let taken = before.saturating_sub(self.outbox.pending());
        // TLS counts whole records, which a slow client takes bit by bit.
        let moved = taken > 0 || self.stream.unsent() != sealed;
        self.pace.offered(taken, moved, now);
        match result {
            Ok(Flushed::All) => {
                self.pace.caught_up();
                self.shut();
            }
            Ok(Flushed::Blocked) => self.pace.refused(self.outbox.pending(), now, limits),
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
        cx: &mut Context,
    ) -> ReadOutcome {
        for _ in 0..READS_PER_TURN {
            if self.gone().is_some() {
                return ReadOutcome::Drained;
            }
            let result = self.stream.read(scratch);
            let received = self.stream.take_received(*result.as_ref().unwrap_or(&0));
            self.inbound_bytes = self.inbound_bytes.saturating_add(received as u32);
            if self.inbound_bytes > cx.limits.inbound_bytes {
                self.close(CloseReason::Flood, None, cx);
            }
            match result {
                Ok(0) => {
                    self.end(CloseReason::Lost);
                    return ReadOutcome::Drained;
                }
                Ok(count) => {
                    self.receive(&mut scratch[..count], cx);
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
    pub(crate) fn receive(&mut self, bytes: &mut [u8], cx: &mut Context) {
        if !self.phase.reads() {
            return;
        }
        let (now, limits) = (cx.now, cx.limits);
        self.silence.heard(now);
        let mut inbound =
            self.inbound.take().unwrap_or_else(|| Box::new(Inbound::new(limits.message_bytes)));
        let listen = match self.dialect() {
            _ if self.is_mute() => Listen::ToWords,
            Dialect::Stamped => Listen::ToWords,
            Dialect::Plain if limits.echo => Listen::ToEcho,
            Dialect::Plain => Listen::NotAtAll,
        };
        // Peers choose these bytes; a fault in checking them must not cost the others their reactor.
        let end = catch_unwind(AssertUnwindSafe(|| inbound.feed(bytes, now, listen)))
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
                self.close(CloseReason::Flood, None, cx);
                return;
            }
            self.outbox.push_control(Frame::raw(&output));
        }
        self.hear(inbound.take_said(), cx);
        match end {
            None if inbound.is_clean() => {}
            None => self.inbound = Some(inbound),
            // The reply to the peer's close frame is queued.
            Some(CloseReason::Peer) => self.begin_closing(CloseReason::Peer, now, limits),
            Some(reason) => {
                self.close(reason, None, cx);
            }
        }
    }

    /// Sends a close frame with the reason's code and ends the connection soon after; `pause` tells a client that can
    /// resume when to come back. What is queued goes out before it, except to a client that is being cut for not reading.
    ///
    /// Returns what was dropped.
    pub(crate) fn close(
        &mut self,
        reason: CloseReason,
        pause: Option<Pause>,
        cx: &mut Context,
    ) -> Tally {
        if !self.is_open() {
            return Tally::default();
        }
        let dropped = match reason {
            CloseReason::SlowConsumer => {
                if let Some(continuity) = &mut self.continuity {
                    // What is dropped here is missing to it.
                    continuity.raise_floor(cx.place.newest());
                }
                self.outbox.abandon(self.stream.begun())
            }
            _ => Tally::default(),
        };
        match reason.code() {
            Some(code) => {
                let said = pause.filter(|_| self.is_resumable() || self.is_mute()).map(Pause::text);
                let text = said.as_deref().unwrap_or(reason.text());
                self.outbox.push_control(Frame::close(code, text));
                self.begin_closing(reason, cx.now, cx.limits);
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
    pub(crate) fn tick(&mut self, cx: &mut Context) -> Option<CloseReason> {
        let (now, limits) = (cx.now, cx.limits);
        self.inbound_bytes = 0;
        if self.has_output() {
            // The poll tells late of a little room in a large socket buffer.
            self.offer(cx);
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
        if self.pace.is_late(now) || self.is_stalled(now, limits) {
            return Some(CloseReason::SlowConsumer);
        }
        let unfinished = self.inbound.as_ref().map(|inbound| now - inbound.since());
        if unfinished.is_some_and(|time| time >= limits.message_time) {
            return Some(CloseReason::Unfinished);
        }
        if let Some(taken) = self.pace.last_taken() {
            // A socket that takes bytes again and again has a peer that reads; one that does not is judged above.
            self.silence.seen(taken);
        }
        if let Some(continuity) = &mut self.continuity {
            continuity.tidy();
            if continuity.is_to_be_told(now) {
                self.tell_position(cx);
            }
        }
        match self.silence.look(now, limits) {
            Look::Nothing => {}
            Look::Ping => self.outbox.push_control(Frame::ping(&[])),
            Look::Gone => return Some(CloseReason::Silent),
        }
        None
    }

    /// What will never be written, when the reactor lets go of the connection.
    pub(crate) fn into_unwritten(self) -> Tally {
        let mut dropped = self.outbox.into_unwritten();
        if let Some(mut continuity) = self.continuity {
            dropped.receipts.extend(continuity.unanswered());
            let kept = continuity.take_kept().into_chunks();
            dropped.receipts.extend(kept.into_iter().filter_map(|chunk| chunk.receipt));
        }
        dropped
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
mod tests;
