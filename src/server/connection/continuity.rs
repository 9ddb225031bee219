//! What lets a client go on on another socket, and what else a connection has for a while only.
//!
//! A part of `connection`. Nothing of it for an idle connection of the original's kind; 24 bytes for an idle one that can be
//! resumed.

use std::{collections::VecDeque, rc::Rc, time::Duration};

use super::{
    kept::Kept,
    outbox::Tally,
    receipt::Receipt,
    ticks::{TICKS_PER_SECOND, Ticks},
};
use crate::wire::{Position, Ticket};

/// How long without a frame until a client that can be resumed is told its position: with a look every few seconds it
/// hears something every 25 s.
const TELL_AFTER: Ticks = 20 * TICKS_PER_SECOND;

/// How long a client is kept once its socket has ended, as a connection holds it: in steps of two seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Keep(u16);

impl Keep {
    /// Not at all.
    pub(crate) const NONE: Keep = Keep(0);
    /// As long as possible.
    pub(crate) const LONGEST: Keep = Keep(u16::MAX - 1);
    /// The step in which it is counted.
    const STEP: u64 = 2;

    /// Rounded up; at most 36 hours.
    pub(crate) fn new(time: Duration) -> Self {
        let steps = time.as_millis().div_ceil(u128::from(Self::STEP) * 1000);
        Keep(steps.min(u128::from(Self::LONGEST.0)) as u16)
    }

    pub(crate) fn seconds(self) -> u64 {
        u64::from(self.0) * Self::STEP
    }

    pub(crate) fn ticks(self) -> Ticks {
        self.seconds() as Ticks * TICKS_PER_SECOND
    }
}

#[derive(Debug)]
pub(super) struct Continuity {
    /// The newest position that is not kept any more: whoever resumes from before it has missed something. In pieces, lest
    /// they be aligned.
    floor: [u32; 3],
    /// `None` of a connection that cannot be resumed.
    keep: Keep,
    /// The last bits of the moment when the client was last sent something.
    told: u16,
    passing: Option<Box<Passing>>,
}

/// What is there for a while only.
#[derive(Debug, Default)]
pub(super) struct Passing {
    /// What it came with, until presence has taken it over.
    ticket: Option<Ticket>,
    pub(super) kept: Kept,
    awaiting: Awaiting,
}

/// Receipts that wait for the pong to a ping behind their messages: of clients that cannot acknowledge.
#[derive(Debug, Default)]
struct Awaiting {
    receipts: VecDeque<(u32, Rc<Receipt>)>,
    /// Payload of the next ping.
    next: u32,
    /// Whether it is to be sent.
    is_due: bool,
}

/// The mark of a connection of the original's kind.
const PLAIN: Keep = Keep(u16::MAX);

impl Continuity {
    /// Of a connection that cannot be resumed.
    pub(super) fn plain(ticket: Ticket) -> Self {
        Continuity::new(PLAIN, Position::default(), 0, Some(ticket))
    }

    /// Of one that cannot, when presence has its ticket.
    pub(super) fn without() -> Self {
        Continuity::new(PLAIN, Position::default(), 0, None)
    }

    /// Of one that can: from `floor` on, until `keep` after its end.
    pub(super) fn new(keep: Keep, floor: Position, now: Ticks, ticket: Option<Ticket>) -> Self {
        let passing =
            ticket.map(|ticket| Box::new(Passing { ticket: Some(ticket), ..Passing::default() }));
        let mut new = Continuity { floor: [0; 3], keep, told: now as u16, passing };
        new.raise_floor(floor);
        new
    }

    pub(super) fn is_resumable(&self) -> bool {
        self.keep != PLAIN
    }

    /// Whether there is nothing in it that anybody needs.
    pub(super) fn is_over(&self) -> bool {
        self.keep == PLAIN && self.passing.is_none()
    }

    pub(super) fn keep(&self) -> Keep {
        if self.is_resumable() { self.keep } else { Keep::NONE }
    }

    pub(super) fn floor(&self) -> Position {
        let [high, low, sub] = self.floor;
        Position { number: u64::from(high) << 32 | u64::from(low), sub }
    }

    pub(super) fn raise_floor(&mut self, floor: Position) {
        if floor > self.floor() {
            let Position { number, sub } = floor;
            self.floor = [(number >> 32) as u32, number as u32, sub];
        }
    }

    pub(super) fn take_ticket(&mut self) -> Option<Ticket> {
        let ticket = self.passing.as_mut()?.ticket.take();
        self.tidy();
        ticket
    }

    /// The client was sent something.
    pub(super) fn told(&mut self, now: Ticks) {
        self.told = now as u16;
    }

    /// Whether it is time to tell a client that can be resumed where it is.
    pub(super) fn is_to_be_told(&self, now: Ticks) -> bool {
        self.is_resumable() && Ticks::from((now as u16).wrapping_sub(self.told)) >= TELL_AFTER
    }

    pub(super) fn passing(&mut self) -> &mut Passing {
        self.passing.get_or_insert_default()
    }

    /// Reads something of each piece of memory that keeping a message needs.
    pub(super) fn look_at(&self) -> usize {
        self.passing.as_ref().map_or(0, |passing| passing.kept.look_at())
    }

    /// Messages that were written and may have to be again, and the weight of all that is kept bounded by `limit`.
    pub(super) fn bound(&mut self, limit: usize, dropped: &mut Tally) {
        let Some(passing) = &mut self.passing else { return };
        if let Some(floor) = passing.kept.shed(limit, dropped) {
            self.raise_floor(floor);
        }
    }

    /// Nothing before `position` is kept.
    pub(super) fn begin_anew(&mut self, position: Position, dropped: &mut Tally) {
        if let Some(passing) = &mut self.passing {
            passing.kept.clear(dropped);
        }
        self.floor = [0; 3];
        self.raise_floor(position);
        self.tidy();
    }

    /// Where the last message is that was written.
    pub(super) fn last_written(&self) -> Position {
        let kept = self.passing.as_ref().and_then(|passing| passing.kept.last());
        kept.unwrap_or_default().max(self.floor())
    }

    /// The client has handled all up to `position`.
    pub(super) fn handled(&mut self, position: Position, tally: &mut Tally) {
        let Some(passing) = &mut self.passing else { return };
        if let Some(floor) = passing.kept.handled(position, tally) {
            self.raise_floor(floor);
        }
    }

    /// The receipt of a message that is being queued waits for a pong.
    pub(super) fn await_pong(&mut self, receipt: Rc<Receipt>) {
        let Awaiting { receipts, next, is_due } = &mut self.passing().awaiting;
        receipts.push_back((*next, receipt));
        *is_due = true;
    }

    /// The payload of a ping that is to follow what is queued: never to a client that acknowledges.
    pub(super) fn due_ping(&mut self) -> Option<[u8; 4]> {
        if self.is_resumable() {
            return None;
        }
        let Awaiting { next, is_due, .. } = &mut self.passing.as_mut()?.awaiting;
        std::mem::take(is_due).then(|| {
            let payload = next.to_be_bytes();
            *next = next.wrapping_add(1);
            payload
        })
    }

    /// The pong to one of these pings came: what was queued before it has arrived.
    pub(super) fn ponged(&mut self, payload: u32, tally: &mut Tally) {
        let Some(passing) = &mut self.passing else { return };
        let Awaiting { receipts, next, .. } = &mut passing.awaiting;
        // Pings number from 0 on; a number that is not out yet is no answer.
        while receipts.front().is_some_and(|(number, _)| payload < *next && *number <= payload) {
            tally.acknowledged.extend(receipts.pop_front().map(|(_, receipt)| receipt));
        }
        self.tidy();
    }

    /// The receipts that wait for a pong which will not come.
    pub(super) fn unanswered(&mut self) -> impl Iterator<Item = Rc<Receipt>> {
        let waiting = self.passing.as_mut().map(|passing| std::mem::take(&mut passing.awaiting));
        waiting.unwrap_or_default().receipts.into_iter().map(|(_, receipt)| receipt)
    }

    /// What is kept, which the caller takes over.
    pub(super) fn take_kept(&mut self) -> Kept {
        let kept = self.passing.as_mut().map(|passing| std::mem::take(&mut passing.kept));
        kept.unwrap_or_default()
    }

    /// Gives back the memory of what has passed. Not at each acknowledgement: with the next message it is needed again.
    pub(super) fn tidy(&mut self) {
        let over = |passing: &Passing| {
            passing.ticket.is_none()
                && passing.kept.is_empty()
                && passing.awaiting.receipts.is_empty()
                && !passing.awaiting.is_due
        };
        if self.passing.as_deref().is_some_and(over) {
            self.passing = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_pays_little() {
        assert!(size_of::<Continuity>() <= 24, "{}", size_of::<Continuity>());
        let mut plain = Continuity::plain(Ticket::new(1.into(), None));
        assert!(plain.take_ticket().is_some() && plain.is_over());
    }

    #[test]
    fn times_are_kept_in_their_steps() {
        for (time, seconds) in [(0, 0), (1, 2), (60, 60), (61, 62), (86_400, 86_400)] {
            assert_eq!(Keep::new(Duration::from_secs(time)).seconds(), seconds);
        }
        assert_ne!(Keep::new(Duration::MAX), PLAIN);
    }

    #[test]
    fn a_position_is_told_in_time_whatever_the_clock_says() {
        for start in [0, 65_530, 1 << 20] {
            let mut new = Continuity::new(Keep::NONE, Position::default(), start, None);
            assert!(!new.is_to_be_told(start + TELL_AFTER - 1));
            assert!(new.is_to_be_told(start + TELL_AFTER));
            new.told(start + TELL_AFTER);
            assert!(!new.is_to_be_told(start + TELL_AFTER));
        }
    }

    #[test]
    fn the_floor_only_rises() {
        let mut new = Continuity::new(Keep::NONE, Position { number: 1 << 40, sub: 5 }, 0, None);
        new.raise_floor(Position { number: 7, sub: 0 });
        assert_eq!(new.floor(), Position { number: 1 << 40, sub: 5 });
        new.raise_floor(Position { number: 1 << 40, sub: 6 });
        assert_eq!(new.floor(), Position { number: 1 << 40, sub: 6 });
    }
}
