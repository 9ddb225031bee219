//! What outlives a socket: what its client goes on from, and how a connection gathers it, hands it over and takes it up.
//!
//! A part of `connection`. `continuity` is what is gathered while the socket lives, [`Estate`] what is left of it then.

use std::rc::Rc;

use super::{
    Connection, Context, Standing,
    continuity::{Continuity, Keep},
    frame::Frame,
    inbound::Said,
    kept::Kept,
    limits::Farewell,
    outbox::{Chunk, Tally, Written},
    prepared::{Dialect, Prepared},
    receipt::Receipt,
    runs::Runs,
    ticks::Ticks,
};
use crate::{
    id::ClientId,
    server::transport::Socket,
    wire::{Position, Ticket},
};

/// The floor of an estate from which nothing can be resumed: what its client has missed is not known.
pub(crate) const NEVER: Position = Position { number: u64::MAX, sub: u32::MAX };

/// What is left of a connection whose client may come back, when its socket has ended.
#[derive(Debug)]
pub(crate) struct Estate {
    pub(crate) client: ClientId,
    pub(crate) number: u64,
    pub(crate) keep: Keep,
    /// Everything behind this is in `kept`.
    pub(crate) floor: Position,
    pub(crate) kept: Kept,
    /// Of a client of the original's kind, which is given its place back and nothing else.
    pub(crate) is_place: bool,
}

impl Estate {
    /// Whether the client has had a message, or it is kept for it.
    pub(crate) fn has(&self, message: &Prepared) -> bool {
        message.position() <= self.kept.last().unwrap_or_default().max(self.floor)
    }

    /// Adds a message for the client, which is away; the oldest give way to it if they weigh too much.
    pub(crate) fn add(
        &mut self,
        message: &Prepared,
        receipt: Option<Rc<Receipt>>,
        cx: &mut Context,
    ) -> Tally {
        let frame = message.frame(Dialect::Stamped, &cx.place.epoch).clone();
        self.kept.push_unwritten(Chunk { frame, receipt });
        self.bound(cx.limits.outbox_bytes)
    }

    /// Lets the oldest messages go, if all weigh more than `limit`; these.
    pub(crate) fn bound(&mut self, limit: usize) -> Tally {
        let mut dropped = Tally::default();
        if let Some(floor) = self.kept.shed(limit, &mut dropped) {
            self.floor = self.floor.max(floor);
        }
        dropped
    }

    /// Messages that were never written: where they are, and their bytes.
    pub(crate) fn unwritten_messages(&self) -> Vec<(Position, usize)> {
        let unwritten = self.kept.unwritten_frames();
        unwritten.map(|frame| (frame.position(), frame.bytes().len())).collect()
    }

    /// What will never be written.
    pub(crate) fn into_unwritten(self) -> Tally {
        let messages = self.kept.unwritten() as u64;
        let receipts = self.kept.into_chunks().filter_map(|chunk| chunk.receipt);
        Tally { messages, receipts: receipts.collect(), ..Tally::default() }
    }
}

impl<S: Socket> Connection<S> {
    /// One that its client can resume, from `floor` on, until `keep` after its end.
    pub(crate) fn resumable(
        stream: S,
        ticket: Ticket,
        number: u64,
        (keep, floor): (Keep, Position),
        now: Ticks,
    ) -> Self {
        let client = ticket.client().clone();
        let continuity = Continuity::new(keep, floor, now, Some(ticket));
        Connection::open(stream, client, number, continuity, now)
    }

    /// One that goes on from another, on whose account it is reported.
    pub(crate) fn succeed(stream: S, estate: &Estate, now: Ticks) -> Self {
        let continuity = match estate.is_place {
            true => Continuity::without(),
            false => Continuity::new(estate.keep, estate.floor, now, None),
        };
        let mut this =
            Connection::open(stream, estate.client.clone(), estate.number, continuity, now);
        this.standing = Standing::Reported;
        this.tidy();
        this
    }

    /// Whether its client can resume it on another socket.
    pub(crate) fn is_resumable(&self) -> bool {
        self.continuity.as_ref().is_some_and(|continuity| continuity.is_resumable())
    }

    /// How long its client is kept if it ended now.
    pub(crate) fn keep(&self) -> Keep {
        let keep = self.continuity.as_ref().map_or(Keep::NONE, |continuity| continuity.keep());
        keep.min(self.farewell.longest_keep())
    }

    /// Lets go of what an idle connection does not pay for.
    pub(super) fn tidy(&mut self) {
        if self.continuity.as_ref().is_some_and(|continuity| continuity.is_over()) {
            self.continuity = None;
        }
    }

    /// Queues what the client is to be told besides messages: hello, a position.
    pub(crate) fn say(&mut self, word: Frame, now: Ticks) {
        if let Some(continuity) = &mut self.continuity {
            continuity.told(now);
        }
        self.outbox.push_control(word);
    }

    /// Tells a client that can resume where it is.
    pub(super) fn tell_position(&mut self, cx: &mut Context) {
        let had = self.last_message();
        self.say(cx.place.frame(had), cx.now);
    }

    /// Up to where it was told everything, as soon as what waits is written.
    pub(super) fn told_up_to(&self, cx: &Context) -> Position {
        cx.place.settled().max(self.last_message())
    }

    /// Where the last message is that it was sent, written or not.
    fn last_message(&self) -> Position {
        let written = self.continuity.as_ref().map(|continuity| continuity.last_written());
        written.max(self.outbox.last_message()).unwrap_or_default()
    }

    pub(super) fn await_pong(&mut self, receipt: Rc<Receipt>) {
        let none = || Box::new(Continuity::without());
        self.continuity.get_or_insert_with(none).await_pong(receipt);
    }

    /// Queues what the client missed, which begins behind what it has. How many of these messages were written before.
    pub(crate) fn replay(&mut self, kept: Kept) -> usize {
        let written = kept.written();
        for Chunk { frame, receipt } in kept.into_chunks() {
            self.silence.sent(frame.bytes().len());
            self.outbox.push_message(frame, receipt);
        }
        written
    }

    /// What the client said that concerns the messages it gets.
    pub(super) fn hear(&mut self, said: Said, cx: &mut Context) {
        if let Some(code) = said.closed {
            self.farewell = Farewell::of(code, self.is_resumable());
        }
        let Some(continuity) = &mut self.continuity else { return };
        let mut had = None;
        if let Some(number) = said.pong {
            let before = cx.tally.acknowledged.len();
            continuity.ponged(number, cx.tally);
            had = (cx.tally.acknowledged.len() > before).then_some(None);
        }
        if let Some(position) = said.acknowledged.and_then(|text| cx.place.handled(&text)) {
            continuity.handled(position, cx.tally);
            had = Some(Some(position));
        }
        if let (Some(trace), Some(upto)) = (&mut cx.tally.trace, had) {
            trace.acknowledged(&self.client, self.number, upto);
        }
        if said.probed {
            self.tell_position(cx);
        }
        self.tidy();
    }

    /// Something was lost that this client may have missed: it begins anew at `position`. The receipts of what it was sent
    /// before, which it can acknowledge no more.
    pub(crate) fn begin_anew(&mut self, position: Position) -> Tally {
        let mut lost = Tally::default();
        if let Some(continuity) = &mut self.continuity {
            continuity.begin_anew(position, &mut lost);
        }
        lost
    }

    /// Takes what its client needs to go on elsewhere out of a connection that is ending, or is being superseded; `None`
    /// if it cannot be resumed or is not known as open yet. What its socket has still to write stays.
    pub(crate) fn bequeath(&mut self) -> Option<Estate> {
        if !self.is_resumable() || self.standing != Standing::Reported {
            return None;
        }
        let keep = self.keep();
        let mut continuity = self.continuity.take()?;
        self.standing = Standing::Mute;
        let mut kept = continuity.take_kept();
        let unwritten = self.outbox.leave_messages(self.stream.begun());
        unwritten.into_iter().for_each(|chunk| kept.push_unwritten(chunk));
        let (client, number, floor) = (self.client.clone(), self.number, continuity.floor());
        let is_place = false;
        Some(Estate { client, number, keep, floor, kept, is_place })
    }

    /// As [`bequeath`](Self::bequeath), of a connection of the original's kind: its place, for `grace`, if it has not said
    /// that its client leaves.
    pub(crate) fn bequeath_place(&mut self, grace: Keep) -> Option<Estate> {
        let keep = grace.min(self.farewell.longest_keep());
        if keep == Keep::NONE || self.is_resumable() || self.standing != Standing::Reported {
            return None;
        }
        self.standing = Standing::HandedOver;
        let (client, number, is_place) = (self.client.clone(), self.number, true);
        let (floor, kept) = (Position::default(), Kept::default());
        Some(Estate { client, number, keep, floor, kept, is_place })
    }
}

/// Takes note of what a client that can resume was sent.
pub(super) struct Keeper<'a> {
    pub(super) continuity: &'a mut Continuity,
    pub(super) tally: &'a mut Tally,
    pub(super) runs: &'a mut Runs,
}

impl Keeper<'_> {
    /// Keeps what was written in a row.
    pub(super) fn settle(&mut self) {
        if self.continuity.is_resumable() {
            self.runs.settle(&mut self.continuity.passing().kept);
        }
    }
}

impl Written for Keeper<'_> {
    fn written(&mut self, frame: Frame, mut receipt: Option<Rc<Receipt>>) {
        if !frame.is_message() || !self.continuity.is_resumable() {
            return self.tally.written(frame, receipt);
        }
        self.tally.count(&frame);
        let waits = receipt.take_if(|receipt| receipt.awaits_acknowledgement());
        match waits {
            None => self.runs.add(frame),
            waits => {
                self.settle();
                self.continuity.passing().kept.push_written(frame, waits);
            }
        }
        self.tally.receipts.extend(receipt);
    }
}
