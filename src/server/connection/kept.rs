//! Messages that a client may still need: written and not acknowledged yet, and behind them those never written.
//!
//! Of a connection that can be resumed, and of its client while it is away. Shares the frames, knows neither socket nor
//! clock. Bounded by whoever adds to it, with [`shed`](Kept::shed).

use std::{collections::VecDeque, rc::Rc};

use super::{
    frame::Frame,
    outbox::{Chunk, FRAME_COST, Tally},
    receipt::Receipt,
};
use crate::wire::Position;

/// In the order in which they were sent.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    chunks: VecDeque<Chunk>,
    /// How many of them, from the first, were written once.
    written: usize,
    bytes: usize,
}

impl Kept {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Messages that were never written.
    pub(crate) fn unwritten(&self) -> usize {
        self.chunks.len() - self.written
    }

    /// Messages that were written and may have to be again.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// A message was written. `receipt` waits for its acknowledgement.
    pub(crate) fn push_written(&mut self, frame: Frame, receipt: Option<Rc<Receipt>>) {
        debug_assert_eq!(self.unwritten(), 0, "a message overtakes another");
        self.written += 1;
        self.push(Chunk { frame, receipt });
    }

    /// A message that is still to be written.
    pub(crate) fn push_unwritten(&mut self, chunk: Chunk) {
        self.push(chunk);
    }

    fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.frame.bytes().len();
        self.chunks.push_back(chunk);
    }

    fn pop(&mut self) -> Option<(Chunk, bool)> {
        let chunk = self.chunks.pop_front()?;
        self.bytes -= chunk.frame.bytes().len();
        let was_written = self.written > 0;
        self.written -= usize::from(was_written);
        Some((chunk, was_written))
    }

    /// The client has handled all up to `position`; what that settles is added to `tally`. Where the last of these
    /// was.
    pub(crate) fn handled(&mut self, position: Position, tally: &mut Tally) -> Option<Position> {
        let mut last = None;
        while self.chunks.front().is_some_and(|chunk| chunk.frame.position() <= position) {
            let Some((Chunk { frame, receipt }, was_written)) = self.pop() else { break };
            last = Some(frame.position());
            // What it says it has was delivered, by whomever.
            tally.messages += u64::from(!was_written);
            tally.acknowledged.extend(receipt);
        }
        last
    }

    /// Lets the oldest go until what is left weighs at most `limit` or is one message; what was lost is added to
    /// `dropped`. Where the last of these was.
    pub(crate) fn shed(&mut self, limit: usize, dropped: &mut Tally) -> Option<Position> {
        let mut last = None;
        while self.chunks.len() > 1 && self.bytes + self.chunks.len() * FRAME_COST > limit {
            last = self.drop_first(dropped).or(last);
        }
        last
    }

    /// Lets all of it go; what was lost is added to `dropped`.
    pub(crate) fn clear(&mut self, dropped: &mut Tally) {
        while self.drop_first(dropped).is_some() {}
        *self = Kept::default();
    }

    fn drop_first(&mut self, dropped: &mut Tally) -> Option<Position> {
        let (Chunk { frame, receipt }, was_written) = self.pop()?;
        dropped.messages += u64::from(!was_written);
        dropped.receipts.extend(receipt);
        Some(frame.position())
    }

    /// Where the last message is, if there is one.
    pub(crate) fn last(&self) -> Option<Position> {
        self.chunks.back().map(|chunk| chunk.frame.position())
    }

    /// All of it, for a socket that is to write it.
    pub(crate) fn into_chunks(self) -> VecDeque<Chunk> {
        self.chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::connection::{frame::Kind, outbox::Chunk};

    fn at(number: u64) -> Position {
        Position { number, sub: 0 }
    }

    fn frame(number: u64) -> Frame {
        Frame::message("x", Kind::Message, at(number))
    }

    fn kept(written: u64, unwritten: u64) -> Kept {
        let mut kept = Kept::default();
        (1..=written).for_each(|number| kept.push_written(frame(number), None));
        (written + 1..=written + unwritten)
            .for_each(|number| kept.push_unwritten(Chunk { frame: frame(number), receipt: None }));
        kept
    }

    #[test]
    fn what_is_handled_goes_and_nothing_behind_it() {
        let (mut kept, mut tally) = (kept(3, 2), Tally::default());
        assert_eq!(kept.handled(at(0), &mut tally), None);
        assert_eq!(kept.handled(at(2), &mut tally), Some(at(2)));
        assert_eq!((kept.written(), kept.unwritten(), tally.messages), (1, 2, 0));
        assert_eq!(kept.handled(at(4), &mut tally), Some(at(4)));
        assert_eq!((kept.written(), kept.unwritten(), tally.messages), (0, 1, 1));
        assert_eq!(kept.into_chunks().len(), 1);
    }

    #[test]
    fn the_oldest_are_shed_first() {
        let (mut kept, mut dropped) = (kept(2, 2), Tally::default());
        assert_eq!(kept.shed(FRAME_COST * 4 + 100, &mut dropped), None);
        assert_eq!(kept.shed(FRAME_COST + 10, &mut dropped), Some(at(3)));
        assert_eq!((dropped.messages, kept.unwritten()), (1, 1));
        assert_eq!((kept.shed(0, &mut dropped), kept.last()), (None, Some(at(4))));
        kept.clear(&mut dropped);
        assert_eq!((kept.is_empty(), dropped.messages), (true, 2));
    }
}
