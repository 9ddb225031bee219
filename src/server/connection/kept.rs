//! Messages that a client may still need: written and not acknowledged yet, and behind them those never written.
//!
//! Of a connection that can be resumed, and of its client while it is away. Shares the frames, knows neither socket nor
//! clock. Bounded by whoever adds to it, with [`shed`](Kept::shed).

use std::{collections::VecDeque, rc::Rc};

use super::{
    frame::Frame,
    outbox::{Chunk, FRAME_COST, Tally},
    receipt::Receipt,
    runs::Run,
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

/// Nothing but the frames, and beside them how many there are and what they weigh.
#[derive(Debug, Default)]
struct Frames {
    queue: VecDeque<Entry>,
    /// How many of the first entry have gone.
    begun: u32,
    count: u32,
    bytes: usize,
}

#[derive(Debug)]
enum Entry {
    One(Frame),
    Run(Rc<Run>),
}

impl Frames {
    fn len(&self) -> usize {
        self.count as usize
    }

    fn push_back(&mut self, frame: Frame) {
        self.bytes += frame.bytes().len();
        self.count += 1;
        self.queue.push_back(Entry::One(frame));
    }

    fn push_run(&mut self, run: Rc<Run>) {
        self.bytes += run.bytes();
        self.count += run.frames().len() as u32;
        self.queue.push_back(Entry::Run(run));
    }

    fn front(&self) -> Option<&Frame> {
        match self.queue.front()? {
            Entry::One(frame) => Some(frame),
            Entry::Run(run) => run.frames().get(self.begun as usize),
        }
    }

    fn back(&self) -> Option<Position> {
        match self.queue.back()? {
            Entry::One(frame) => Some(frame.position()),
            Entry::Run(run) => Some(run.last()),
        }
    }

    fn pop_front(&mut self) -> Option<Frame> {
        let frame = match self.queue.front()? {
            Entry::Run(run) if self.begun as usize + 1 < run.frames().len() => {
                let frame = run.frames().get(self.begun as usize)?.clone();
                self.begun += 1;
                frame
            }
            _ => match self.queue.pop_front()? {
                Entry::One(frame) => frame,
                Entry::Run(run) => {
                    let last = run.frames().get(self.begun as usize)?.clone();
                    self.begun = 0;
                    last
                }
            },
        };
        self.count -= 1;
        self.bytes -= frame.bytes().len();
        Some(frame)
    }

    /// Takes a run off the front of which nothing has gone and nothing is behind `position`.
    fn pop_run(&mut self, position: Position) -> Option<Rc<Run>> {
        match self.queue.front()? {
            Entry::Run(run) if self.begun == 0 && run.last() <= position => {}
            _ => return None,
        }
        let Entry::Run(run) = self.queue.pop_front()? else { return None };
        self.count -= run.frames().len() as u32;
        self.bytes -= run.bytes();
        Some(run)
    }

    fn weight(&self) -> usize {
        self.bytes + self.len() * FRAME_COST
    }
}

impl Kept {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.queue.is_empty()
    }

    /// Reads something of each piece of memory that another message needs.
    pub(super) fn look_at(&self) -> usize {
        let is_run = matches!(self.frames.queue.back(), Some(Entry::Run(_)));
        self.unwritten ^ usize::from(is_run)
    }

    /// Messages that were never written.
    pub(crate) fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// Those, in order: each stands by itself, behind all that were written.
    pub(super) fn unwritten_frames(&self) -> impl Iterator<Item = &Frame> {
        let frames = self.frames.queue.iter().rev().take(self.unwritten).rev();
        frames.filter_map(|entry| match entry {
            Entry::One(frame) => Some(frame),
            Entry::Run(_) => None,
        })
    }

    /// Messages that were written and may have to be again.
    pub(crate) fn written(&self) -> usize {
        self.frames.len() - self.unwritten
    }

    /// A message was written. `receipt` waits for its acknowledgement.
    pub(crate) fn push_written(&mut self, frame: Frame, receipt: Option<Rc<Receipt>>) {
        debug_assert_eq!(self.unwritten, 0, "a message overtakes another");
        self.push(Chunk { frame, receipt });
    }

    /// Messages were written for which nobody waits.
    pub(super) fn push_run(&mut self, run: Rc<Run>) {
        debug_assert_eq!(self.unwritten, 0, "a message overtakes another");
        self.frames.push_run(run);
    }

    /// A message that is still to be written.
    pub(crate) fn push_unwritten(&mut self, chunk: Chunk) {
        self.unwritten += 1;
        self.push(chunk);
    }

    fn push(&mut self, Chunk { frame, receipt }: Chunk) {
        if let Some(receipt) = receipt {
            self.receipts.push_back((self.gone + self.frames.len() as u64, receipt));
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
        loop {
            // Nobody waits for one of a run, and all of it was written.
            while let Some(run) = self.frames.pop_run(position) {
                self.gone += run.frames().len() as u64;
                last = Some(run.last());
            }
            if self.frames.front().is_none_or(|frame| frame.position() > position) {
                break;
            }
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
        while self.frames.len() > 1 && self.frames.weight() > limit {
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
        self.frames.back()
    }

    /// All of it, for a socket that is to write it.
    pub(crate) fn into_chunks(mut self) -> impl Iterator<Item = Chunk> {
        std::iter::from_fn(move || self.pop().map(|(chunk, _)| chunk))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use testkit::seeded::Seeded;

    use super::*;
    use crate::{
        server::connection::{frame::Kind, outbox::Chunk, receipt::Inquiry, runs::Runs},
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

    /// Against a plain list, whatever part of the messages clients have in common.
    #[test]
    fn runs_are_kept_as_their_messages_would_be() {
        let mut random = Seeded::new(7);
        for _ in 0..200 {
            let (mut runs, mut kept) = ([(); 3].map(|()| Kept::default()), Vec::<u64>::new());
            let (mut common, mut number) = (Runs::default(), 0);
            for _ in 0..40 {
                match random.below(4) {
                    0 | 1 => {
                        let some: Vec<_> = (0..random.below(5))
                            .map(|_| {
                                number += 1;
                                frame(number)
                            })
                            .collect();
                        kept.extend(some.iter().map(|frame| frame.position().number));
                        for client in &mut runs {
                            some.iter().for_each(|frame| common.add(frame.clone()));
                            common.settle(client);
                        }
                    }
                    2 => {
                        let upto = number.saturating_sub(random.below(12) as u64);
                        let floor = kept.iter().copied().rfind(|number| *number <= upto);
                        kept.retain(|number| *number > upto);
                        for client in &mut runs {
                            let mut tally = Tally::default();
                            assert_eq!(client.handled(at(upto), &mut tally), floor.map(at));
                            assert_eq!(tally.messages, 0);
                        }
                    }
                    _ => {
                        let most = 1 + random.below(12);
                        let gone = kept.len().saturating_sub(most);
                        let floor = kept.drain(..gone).next_back();
                        for client in &mut runs {
                            let mut dropped = Tally::default();
                            let limit = most * (frame(1).bytes().len() + FRAME_COST);
                            assert_eq!(client.shed(limit, &mut dropped), floor.map(at));
                        }
                    }
                }
                for client in &runs {
                    assert_eq!(client.written(), kept.len());
                    assert_eq!(client.last(), kept.last().copied().map(at));
                }
            }
            for client in runs {
                let left: Vec<_> =
                    client.into_chunks().map(|chunk| chunk.frame.position().number).collect();
                assert_eq!(left, kept);
            }
        }
    }

    #[test]
    fn what_clients_have_in_common_is_kept_once() {
        let frames: Vec<_> = (1..=8).map(frame).collect();
        let (mut common, mut clients) = (Runs::default(), Vec::new());
        for _ in 0..100 {
            let mut kept = Kept::default();
            frames.iter().for_each(|frame| common.add(frame.clone()));
            common.settle(&mut kept);
            clients.push(kept);
        }
        // The first cannot know, the second makes it.
        let entries: Vec<_> = clients.iter().map(|kept| kept.frames.queue.len()).collect();
        assert_eq!((entries[0], &entries[1..]), (8, &[1; 99][..]));
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
