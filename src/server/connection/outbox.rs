//! What one connection still has to write: shared frames in order, and who waits for them.
//!
//! Used by `connection`. Never copies a frame, holds no memory when empty, and writes many frames with
//! one system call. Knows nothing of the protocol.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Write},
    rc::Rc,
};

use super::{frame::Frame, receipt::Receipt, trace::Trace};
use crate::{server::waits::Waits, wire::Position};

/// Frames per system call: the kernel takes 1024, few sockets take more than this at once.
const BATCH: usize = 64;
/// Chunks behind the first that there is room for at once: a queue that grows to this costs more than what it holds.
const REST: usize = 7;
/// What a frame costs besides its bytes: its place in the queue, and an allocation if it is not shared.
pub(crate) const FRAME_COST: usize = 64;

/// Frames that wait for the socket, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: Chunks,
    /// Bytes of the first chunk that are written.
    head_written: u32,
    /// Bytes that are not written, over all chunks.
    pending: u32,
}

/// A frame, and who waits to hear what becomes of it.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) frame: Frame,
    pub(crate) receipt: Option<Rc<Receipt>>,
}

/// A queue that takes no memory of its own for one chunk: most flushes find no more, and a burst to every
/// connection must not leave the heap full of small holes.
#[derive(Debug, Default)]
struct Chunks {
    first: Option<Chunk>,
    /// Only together with `first`; never empty.
    #[expect(clippy::box_collection, reason = "one word in every idle connection instead of four")]
    rest: Option<Box<VecDeque<Chunk>>>,
}

impl Chunks {
    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.first.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    fn push_back(&mut self, chunk: Chunk) {
        match &mut self.first {
            None => self.first = Some(chunk),
            Some(_) => {
                let rest = self.rest.get_or_insert_with(|| Box::new(VecDeque::with_capacity(REST)));
                rest.push_back(chunk);
            }
        }
    }

    fn pop_front(&mut self) -> Option<Chunk> {
        let next = self.rest.as_mut().and_then(|rest| rest.pop_front());
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            self.rest = None;
        }
        std::mem::replace(&mut self.first, next)
    }
}

/// What a flush came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing is left.
    All,
    /// The socket takes no more for now.
    Blocked,
}

/// Messages with one fate, collected over many connections.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Messages that were written to their sockets in full, or that never will be.
    pub(crate) messages: u64,
    /// The receipts that wait for them.
    pub(crate) receipts: Vec<Rc<Receipt>>,
    /// Receipts of messages that their receivers say they have.
    pub(crate) acknowledged: Vec<Rc<Receipt>>,
    /// Since when those were under way that were written.
    pub(crate) waits: Waits,
    /// What became of each, while somebody follows something.
    pub(crate) trace: Option<Trace>,
}

impl Tally {
    /// A frame was written in full; counts it if it is a message.
    pub(super) fn count(&mut self, frame: &Frame) {
        if frame.is_message() {
            self.messages += 1;
            self.waits.add(frame.since());
            if let Some(trace) = &mut self.trace {
                trace.written(frame);
            }
        }
    }
}

/// Hears of every frame that is written in full, in order.
pub(crate) trait Written {
    fn written(&mut self, frame: Frame, receipt: Option<Rc<Receipt>>);
}

impl Written for Tally {
    fn written(&mut self, frame: Frame, receipt: Option<Rc<Receipt>>) {
        self.count(&frame);
        self.receipts.extend(receipt);
    }
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes that are not written.
    pub(crate) fn pending(&self) -> usize {
        self.pending as usize
    }

    /// Reads something of each piece of memory that a flush needs.
    pub(super) fn look_at(&self) -> usize {
        let rest = self.chunks.rest.as_ref().map(|rest| [rest.front(), rest.back()]);
        let chunks = rest.into_iter().flatten().flatten();
        chunks.filter(|chunk| chunk.receipt.is_some()).count()
    }

    /// Where the last message is that is not written in full, if there is one.
    pub(crate) fn last_message(&self) -> Option<Position> {
        let Chunks { first, rest } = &self.chunks;
        let rest = rest.iter().flat_map(|rest| rest.iter().rev());
        let message = rest.chain(first).find(|chunk| chunk.frame.is_message());
        message.map(|chunk| chunk.frame.position())
    }

    /// Messages that are not written in full.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Frame> {
        self.chunks.iter().map(|chunk| &chunk.frame).filter(|frame| frame.is_message())
    }

    /// Memory that the unwritten frames hold, which is what a limit is about: many small ones weigh more
    /// than their bytes.
    pub(crate) fn weight(&self) -> usize {
        self.pending() + self.chunks.len() * FRAME_COST
    }

    /// Queues a message.
    pub(crate) fn push_message(&mut self, frame: Frame, receipt: Option<Rc<Receipt>>) {
        debug_assert!(frame.is_message());
        self.push(Chunk { frame, receipt });
    }

    /// Queues protocol traffic: handshake response, ping, pong, close.
    pub(crate) fn push_control(&mut self, frame: Frame) {
        debug_assert!(!frame.is_message());
        self.push(Chunk { frame, receipt: None });
    }

    fn push(&mut self, chunk: Chunk) {
        self.pending += chunk.frame.bytes().len() as u32;
        self.chunks.push_back(chunk);
    }

    /// Writes as much as the socket takes; `written` hears what was completed.
    ///
    /// # Errors
    /// Those of the stream except `WouldBlock` and `Interrupted`: the connection is gone.
    pub(crate) fn flush(
        &mut self,
        stream: &mut impl Write,
        written: &mut impl Written,
    ) -> io::Result<Flushed> {
        while !self.chunks.is_empty() {
            match self.write_some(stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flushed::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match stream.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Flushed::Blocked),
            result => result.map(|()| Flushed::All),
        }
    }

    fn write_some(&self, stream: &mut impl Write) -> io::Result<usize> {
        if let (Some(only), None) = (&self.chunks.first, &self.chunks.rest) {
            // By far the most frequent case.
            return stream.write(&only.frame.bytes()[self.head_written as usize..]);
        }
        let mut slices = [IoSlice::new(&[]); BATCH];
        let count = self.slices(&mut slices);
        stream.write_vectored(&slices[..count])
    }

    /// Fills `slices` with what is to be written next, in order; how many it took. Whoever has written some of it says so
    /// with [`advance`](Self::advance).
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.head_written as usize;
        let count = slices.len().min(self.chunks.len());
        for (slice, chunk) in slices.iter_mut().zip(self.chunks.iter()) {
            *slice = IoSlice::new(&chunk.frame.bytes()[std::mem::take(&mut skip)..]);
        }
        count
    }

    /// The first `count` bytes of what waits are written; `written` hears what they complete.
    pub(crate) fn advance(&mut self, count: usize, written: &mut impl Written) {
        self.pending -= count as u32;
        let mut count = count + self.head_written as usize;
        while let Some(chunk) = &self.chunks.first {
            let len = chunk.frame.bytes().len();
            if count < len {
                break;
            }
            count -= len;
            if let Some(Chunk { receipt, frame }) = self.chunks.pop_front() {
                written.written(frame, receipt);
            }
        }
        self.head_written = count as u32;
    }

    /// Drops every message that is not begun, so that a last control frame still comes out whole, and after
    /// the handshake response if that waits here too. The stream cannot give back the next `sealed` bytes.
    /// Returns the messages and their receipts.
    pub(crate) fn abandon(&mut self, sealed: usize) -> Tally {
        let mut begun = self.head_written as usize + sealed;
        let mut dropped = Tally::default();
        let mut chunks = std::mem::take(&mut self.chunks);
        while let Some(chunk) = chunks.pop_front() {
            let len = chunk.frame.bytes().len();
            if begun > 0 || !chunk.frame.is_message() {
                begun = begun.saturating_sub(len);
                self.chunks.push_back(chunk);
                continue;
            }
            self.pending -= len as u32;
            dropped.messages += 1;
            dropped.receipts.extend(chunk.receipt);
        }
        dropped
    }

    /// Takes out every message that is not written in full, for another socket. Of one that is begun the bytes stay here
    /// too, on nobody's account: the peer could be told nothing behind half a frame.
    pub(crate) fn leave_messages(&mut self, sealed: usize) -> VecDeque<Chunk> {
        let mut begun = self.head_written as usize + sealed;
        let mut left = VecDeque::new();
        let mut chunks = std::mem::take(&mut self.chunks);
        while let Some(chunk) = chunks.pop_front() {
            let len = chunk.frame.bytes().len();
            match (chunk.frame.is_message(), begun) {
                (true, 0) => self.pending -= len as u32,
                (true, _) => {
                    let frame = Frame::raw(chunk.frame.bytes());
                    self.chunks.push_back(Chunk { frame, receipt: None });
                }
                (false, _) => {
                    begun = begun.saturating_sub(len);
                    self.chunks.push_back(chunk);
                    continue;
                }
            }
            begun = begun.saturating_sub(len);
            left.push_back(chunk);
        }
        left
    }

    /// Everything that will never be written, when the connection ends.
    pub(crate) fn into_unwritten(mut self) -> Tally {
        let mut dropped = Tally::default();
        while let Some(chunk) = self.chunks.pop_front() {
            dropped.messages += u64::from(chunk.frame.is_message());
            dropped.receipts.extend(chunk.receipt);
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::connection::frame::Kind;

    fn text(content: &str) -> Frame {
        Frame::message(content, Kind::Message, Position::default())
    }

    /// Takes `room` bytes, at most `step` a call, then blocks.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
        step: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.step).min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_left_to_another_socket_comes_out_there_whole() {
        for room in 0..40 {
            let mut outbox = Outbox::default();
            for word in ["first", "second", "third"] {
                outbox.push_message(text(word), None);
            }
            let mut stream = Narrow { taken: Vec::new(), room, step: 100 };
            let mut written = Tally::default();
            outbox.flush(&mut stream, &mut written).unwrap();
            let left = outbox.leave_messages(0);
            assert_eq!(written.messages as usize + left.len(), 3);
            outbox.push_control(Frame::close(4002, ""));
            (stream.room, stream.step) = (100, 100);
            outbox.flush(&mut stream, &mut written).unwrap();
            assert_eq!((written.messages as usize + left.len(), outbox.pending()), (3, 0));
            assert!(stream.taken.ends_with(b"\x88\x02\x0f\xa2"), "{room}");
            let whole = [&b"\x81\x05first"[..], b"\x81\x06second", b"\x81\x05third"].concat();
            let frames = &stream.taken[..stream.taken.len() - 4];
            assert!(whole.starts_with(frames) && [0, 7, 15, 22].contains(&frames.len()), "{room}");
        }
    }

    #[test]
    fn frames_come_out_whole_and_in_order_whatever_the_socket_takes() {
        for step in 1..7 {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for index in 0..200 {
                let frame = text(&index.to_string());
                expected.extend_from_slice(frame.bytes());
                outbox.push_message(frame, None);
            }
            let mut stream = Narrow { taken: Vec::new(), room: 0, step };
            let mut written = Tally::default();
            while outbox.flush(&mut stream, &mut written).unwrap() == Flushed::Blocked {
                assert_eq!(outbox.pending() + stream.taken.len(), expected.len());
                stream.room = 11;
            }
            assert_eq!(stream.taken, expected);
            assert_eq!((written.messages, outbox.pending()), (200, 0));
        }
    }

    #[test]
    fn abandoning_keeps_the_handshake_response() {
        let mut outbox = Outbox::default();
        outbox.push_control(Frame::raw(b"101"));
        outbox.push_message(text("first"), None);
        assert_eq!(outbox.abandon(0).messages, 1);
        outbox.push_control(Frame::close(1013, ""));
        let mut stream = Narrow { taken: Vec::new(), room: 100, step: 100 };
        outbox.flush(&mut stream, &mut Tally::default()).unwrap();
        assert_eq!(stream.taken, b"101\x88\x02\x03\xf5");
    }

    #[test]
    fn abandoning_keeps_a_frame_that_is_begun() {
        let mut outbox = Outbox::default();
        outbox.push_message(text("first"), None);
        outbox.push_message(text("second"), None);
        let mut stream = Narrow { taken: Vec::new(), room: 3, step: 100 };
        let mut written = Tally::default();
        outbox.flush(&mut stream, &mut written).unwrap();
        assert_eq!(outbox.abandon(0).messages, 1);
        outbox.push_control(Frame::close(1013, ""));
        stream.room = 100;
        assert_eq!(outbox.flush(&mut stream, &mut written).unwrap(), Flushed::All);
        assert_eq!(stream.taken, b"\x81\x05first\x88\x02\x03\xf5");
        assert_eq!(written.messages, 1);
    }
}
