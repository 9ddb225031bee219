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
    frames: Frames,
    /// Who waits to hear of which frame: few have a receipt.
    receipts: VecDeque<(u64, Rc<Receipt>)>,
    /// How many frames have gone; the number of the first.
    gone: u64,
    /// How many of them, to the last, were never written.
    unwritten: usize,
}

/// Nothing but the frames, and beside them what they weigh: a second of a busy channel for every client is far more than a
/// processor's cache holds, and is written and read back through it.
#[derive(Debug, Default)]
struct Frames {
    queue: VecDeque<Frame>,
    bytes: usize,
}

impl Frames {
    fn push_back(&mut self, frame: Frame) {
        self.bytes += frame.bytes().len();
        self.queue.push_back(frame);
    }

    fn pop_front(&mut self) -> Option<Frame> {
        let frame = self.queue.pop_front()?;
        self.bytes -= frame.bytes().len();
        Some(frame)
    }

    fn weight(&self) -> usize {
        self.bytes + self.queue.len() * FRAME_COST
    }
}

impl Kept {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.queue.is_empty()
    }

    /// Messages that were never written.
    pub(crate) fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// Messages that were written and may have to be again.
    pub(crate) fn written(&self) -> usize {
        self.frames.queue.len() - self.unwritten
    }

    /// A message was written. `receipt` waits for its acknowledgement.
    pub(crate) fn push_written(&mut self, frame: Frame, receipt: Option<Rc<Receipt>>) {
        debug_assert_eq!(self.unwritten, 0, "a message overtakes another");
        self.push(Chunk { frame, receipt });
    }

    /// A message that is still to be written.
    pub(crate) fn push_unwritten(&mut self, chunk: Chunk) {
        self.unwritten += 1;
        self.push(chunk);
    }

    fn push(&mut self, Chunk { frame, receipt }: Chunk) {
        if let Some(receipt) = receipt {
            self.receipts.push_back((self.gone + self.frames.queue.len() as u64, receipt));
        }
        self.frames.push_back(frame);
    }

    fn pop(&mut self) -> Option<(Chunk, bool)> {
        let was_written = self.written() > 0;
        let frame = self.frames.pop_front()?;
        self.unwritten -= usize::from(!was_written);
        let is_its = self.receipts.front().is_some_and(|(number, _)| *number == self.gone);
        let receipt =
            is_its.then(|| self.receipts.pop_front()).flatten().map(|(_, receipt)| receipt);
        self.gone += 1;
        Some((Chunk { frame, receipt }, was_written))
    }

    /// The client has handled all up to `position`; what that settles is added to `tally`. Where the last of these
    /// was.
    pub(crate) fn handled(&mut self, position: Position, tally: &mut Tally) -> Option<Position> {
        let mut last = None;
        while self.frames.queue.front().is_some_and(|frame| frame.position() <= position) {
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
        while self.frames.queue.len() > 1 && self.frames.weight() > limit {
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

    /// What another node has kept for a client, of which the first so many were written.
    pub(crate) fn handed_over(chunks: Vec<Chunk>, written: usize) -> Self {
        let unwritten = chunks.len().saturating_sub(written);
        let mut kept = Kept { unwritten, ..Kept::default() };
        chunks.into_iter().for_each(|chunk| kept.push(chunk));
        kept
    }

    /// Where the last message is, if there is one.
    pub(crate) fn last(&self) -> Option<Position> {
        self.frames.queue.back().map(Frame::position)
    }

    /// All of it, for a socket that is to write it.
    pub(crate) fn into_chunks(mut self) -> impl Iterator<Item = Chunk> {
        std::iter::from_fn(move || self.pop().map(|(chunk, _)| chunk))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        server::connection::{frame::Kind, outbox::Chunk, receipt::Inquiry},
        wire::ReceiptText,
    };

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
        assert_eq!(kept.into_chunks().count(), 1);
    }

    #[test]
    fn a_receipt_goes_with_its_message() {
        let inquiry =
            Arc::new(Inquiry::new(7.into(), ReceiptText::new("{}", None, 100), true, None));
        // Every third has one.
        let receipts: Vec<_> =
            (1..=3).map(|of| Rc::new(Receipt::new(&inquiry, (3 * of).into()))).collect();
        let (mut kept, mut tally) = (Kept::default(), Tally::default());
        for number in 1..=9 {
            let receipt = (number % 3 == 0).then(|| Rc::clone(&receipts[number as usize / 3 - 1]));
            kept.push_written(frame(number), receipt);
            // Some go before the last ones come.
            kept.handled(at(number.saturating_sub(4)), &mut tally);
        }
        assert!(matches!(&tally.acknowledged[..], [third] if Rc::ptr_eq(third, &receipts[0])));
        let mut dropped = Tally::default();
        assert_eq!(kept.shed(3 * FRAME_COST + 12, &mut dropped), Some(at(6)));
        assert!(matches!(&dropped.receipts[..], [sixth] if Rc::ptr_eq(sixth, &receipts[1])));
        let with: Vec<_> = kept.into_chunks().map(|chunk| chunk.receipt.is_some()).collect();
        assert_eq!(with, [false, false, true]);
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
