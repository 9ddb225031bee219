//! Messages that clients of one channel were written one behind the other, kept once for all of them.
//!
//! Of a reactor: each connection says what it wrote, and gets for it what the one before had, if that was the same. A second of a
//! busy channel is far more than a processor's cache holds if each client keeps its own list of it.

use std::rc::Rc;

use super::{frame::Frame, kept::Kept};
use crate::wire::Position;

/// Messages in a row, at least two.
#[derive(Debug)]
pub(super) struct Run {
    frames: Box<[Frame]>,
    bytes: usize,
}

impl Run {
    fn new(frames: Box<[Frame]>) -> Self {
        let bytes = frames.iter().map(|frame| frame.bytes().len()).sum();
        Run { frames, bytes }
    }

    pub(super) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the last of them is.
    pub(super) fn last(&self) -> Position {
        self.frames.last().map(Frame::position).unwrap_or_default()
    }
}

/// What connections have in common.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// What one of them is writing.
    current: Vec<Frame>,
    /// What the one before wrote: places in memory, which may be others' by now. A hint whether a run is worth making.
    before: Vec<usize>,
    /// What was the same for two of them.
    run: Option<Rc<Run>>,
}

impl Runs {
    /// A message was written.
    pub(super) fn add(&mut self, frame: Frame) {
        self.current.push(frame);
    }

    /// Keeps for a client what it was written since the last time.
    pub(super) fn settle(&mut self, kept: &mut Kept) {
        if let [] | [_] = self.current[..] {
            self.current.drain(..).for_each(|frame| kept.push_written(frame, None));
            return;
        }
        let is_same = |run: &&Rc<Run>| {
            let (run, current) = (run.frames(), &self.current);
            run.len() == current.len() && run.iter().zip(current).all(|(a, b)| a.is(b))
        };
        if let Some(run) = self.run.as_ref().filter(is_same) {
            let run = Rc::clone(run);
            // First, as letting go of what threads share waits for all that was stored before, and what is kept is far away.
            self.current.clear();
            kept.push_run(run);
        } else if self.current.iter().map(Frame::address).eq(self.before.iter().copied()) {
            let run = Rc::new(Run::new(self.current.drain(..).collect()));
            kept.push_run(Rc::clone(&run));
            self.run = Some(run);
        } else {
            self.before.clear();
            self.before.extend(self.current.iter().map(Frame::address));
            self.current.drain(..).for_each(|frame| kept.push_written(frame, None));
        }
    }
}
