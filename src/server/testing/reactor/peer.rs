//! One client's end of a connection: what it sends, and what it has got.

use std::{
    cell::{Ref, RefCell},
    collections::VecDeque,
    hash::{DefaultHasher, Hasher},
    rc::Rc,
};

use testkit::seeded::Seeded;

use super::super::line::Line;
use crate::server::connection::limits::ConnectionLimits;

/// What the server sends first, in place of a handshake response.
pub(super) const RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
/// Close codes that the server may choose whatever the peer does; 1013 it must justify.
const ALWAYS: [u16; 4] = [1001, 1008, 1013, 4001];
/// What a peer must read within `outbox_age`: so many bytes, or this part of what waits.
const PACE: usize = 16 << 10;
const PART: usize = 30;
/// Ticks that a peer is given to answer a close frame.
pub(super) const LINGER: u32 = 10;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) client: i64,
    pub(super) line: Rc<RefCell<Line>>,
    /// Messages that were offered while the connection was open.
    pub(super) expected: Vec<usize>,
    pub(super) now: u32,
    /// How large its world is, against the smallest.
    scale: usize,
    seen: RefCell<Got>,
    /// What it read, and when.
    reads: Vec<(u32, usize)>,
    /// What waited for it from when on, since nothing did.
    waiting: Vec<(u32, usize)>,
    pub(super) was_cut: bool,
    /// Whether the hub should know it.
    pub(super) in_hub: bool,
    unsent: VecDeque<u8>,
    /// Payloads of the pings it sent.
    pings: Vec<Vec<u8>>,
    /// Pings of the server that it has seen.
    answered: usize,
    /// Answers no pings.
    mute: bool,
    /// Sends no more: it has sent a close frame or broken the protocol.
    done: bool,
    said_goodbye: bool,
    /// Since when the server has been closing.
    pub(super) closing_since: Option<u32>,
    /// The close code that this must have led to.
    fault: Option<u16>,
}

/// What a byte stream from the server holds.
#[derive(Debug, Default)]
pub(super) struct Got {
    pub(super) response: bool,
    /// Their digests.
    pub(super) messages: Vec<u64>,
    pongs: Vec<Vec<u8>>,
    pings: usize,
    close: Option<u16>,
    /// Bytes that were looked at.
    read: usize,
}

impl Peer {
    pub(super) fn new(
        client: i64,
        line: Line,
        now: u32,
        scale: usize,
        chance: &mut Seeded,
    ) -> Self {
        Peer {
            client,
            line: Rc::new(RefCell::new(line)),
            expected: Vec::new(),
            now,
            scale,
            seen: RefCell::default(),
            reads: Vec::new(),
            waiting: Vec::new(),
            was_cut: false,
            in_hub: true,
            unsent: VecDeque::new(),
            pings: Vec::new(),
            answered: 0,
            mute: chance.once_in(12),
            done: false,
            said_goodbye: false,
            closing_since: None,
            fault: None,
        }
    }

    /// Does one thing that a client may do to its server.
    pub(super) fn act(&mut self, chance: &mut Seeded) {
        match chance.below(40) {
            0..=9 => self.read((1 + chance.below(3000)) * self.scale),
            10..=17 => self.say(chance),
            18..=30 => self.transmit(1 + chance.below(200)),
            31..=34 => self.answer(),
            35 if !self.mute => self.say_goodbye(),
            36 if chance.once_in(4) => self.line.borrow_mut().end(true),
            37 if chance.once_in(4) => {
                self.done = true;
                self.line.borrow_mut().end(false);
            }
            _ => {}
        }
    }

    /// Behaves from now on: reads everything, answers, says goodbye when the server does.
    pub(super) fn settle(&mut self) {
        let ended = self.line.borrow().ended;
        if !ended {
            self.read(self.scale << 20);
            self.mute = false;
            self.answer();
            self.say_goodbye();
            self.transmit(usize::MAX);
            if self.line.borrow().shut {
                self.line.borrow_mut().end(false);
            }
        }
    }

    fn read(&mut self, bytes: usize) {
        self.reads.push((self.now, bytes));
        self.line.borrow_mut().make_room(bytes);
    }

    /// So much waits for it.
    pub(super) fn note_waiting(&mut self, now: u32, bytes: usize) {
        match bytes {
            0 => self.waiting.clear(),
            _ => match self.waiting.last_mut() {
                Some((when, most)) if *when == now => *most = bytes.max(*most),
                _ => self.waiting.push((now, bytes)),
            },
        }
    }

    /// Whether it may be cut: something waited all the time and it read nothing for one while, or less than
    /// the pace and than what waited for a longer one.
    pub(super) fn did_not_read(&self, now: u32, limits: &ConnectionLimits) -> bool {
        let waited = |time: u32| self.waiting.first().is_some_and(|(from, _)| from + time <= now);
        let read = |time: u32| {
            let recent = self.reads.iter().filter(|(when, _)| when + time > now);
            recent.map(|(_, bytes)| bytes).sum::<usize>()
        };
        let most = self.waiting.iter().map(|(_, bytes)| *bytes).max().unwrap_or_default();
        let (stall, age) = (limits.outbox_stall, limits.outbox_age);
        let pace = PACE.max(most / PART).min(most);
        waited(stall) && read(stall) == 0 || waited(age) && read(age) < pace
    }

    /// Whether the server has answered all pings.
    pub(super) fn is_answered(&self) -> bool {
        self.got().pongs.len() == self.pings.len()
    }

    fn say(&mut self, chance: &mut Seeded) {
        if self.done {
            return;
        }
        let size = chance.below(80);
        match chance.below(32) {
            0..=9 => self.frame(0x81, &vec![b'a'; size]),
            10..=13 => self.frame(0x82, &vec![0xff; chance.below(1000)]),
            14..=17 => {
                self.frame(0x01, &[0xe4]);
                self.ping(chance);
                self.frame(0x80, &[0xb8, 0xad]);
            }
            18..=22 => self.ping(chance),
            23..=26 => self.frame(0x8a, &vec![b'p'; size]),
            27 => self.end_with(0x88, b"\x0f\xa0bye", 4000),
            28 => self.end_with(0x83, b"reserved", 1002),
            29 => self.end_with(0x81, b"\xed\xa0\x80", 1007),
            30 => self.end_with(0x82, &[0; 1025], 1009),
            _ => self.end_with(0x89, &[0; 126], 1002),
        }
    }

    fn ping(&mut self, chance: &mut Seeded) {
        let payload = chance.next().to_be_bytes()[..1 + chance.below(8)].to_vec();
        self.frame(0x89, &payload);
        self.pings.push(payload);
    }

    fn end_with(&mut self, first: u8, payload: &[u8], code: u16) {
        self.frame(first, payload);
        self.fault = Some(code);
        self.done = true;
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        const MASK: [u8; 4] = [7, 77, 177, 250];
        self.unsent.push_back(first);
        match payload.len() {
            len @ 0..=125 => self.unsent.push_back(0x80 | len as u8),
            len => self.unsent.extend([0x80 | 126, (len >> 8) as u8, len as u8]),
        }
        self.unsent.extend(MASK);
        self.unsent.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    fn transmit(&mut self, most: usize) {
        let mut line = self.line.borrow_mut();
        let count = self.unsent.len().min(most);
        if count > 0 && !line.ended {
            line.arrive(self.unsent.drain(..count));
        }
    }

    /// Answers the server's pings.
    fn answer(&mut self) {
        let pings = self.got().pings;
        if !self.mute && !self.done && pings > self.answered {
            self.answered = pings;
            self.frame(0x8a, b"");
        }
    }

    /// Answers the server's close frame.
    fn say_goodbye(&mut self) {
        let close = self.got().close;
        if let (Some(code), false) = (close, self.done) {
            self.frame(0x88, &code.to_be_bytes());
            self.done = true;
            self.said_goodbye = true;
        }
    }

    /// Whether the server may end its side of TCP: the peer has sent its close frame or its FIN, has broken the
    /// protocol, or had the time to answer.
    pub(super) fn may_be_shut(&self, closing_since: Option<u32>) -> bool {
        let sent = self.unsent.is_empty();
        self.said_goodbye && sent
            || self.fault.is_some()
            || self.line.borrow().ended
            || closing_since.is_some_and(|since| since + LINGER <= self.now)
    }

    /// Reads what the server has written and checks its form: whole frames in order, pongs as asked, one
    /// close frame with a code that fits, nothing after it.
    pub(super) fn got(&self) -> Ref<'_, Got> {
        self.look();
        self.seen.borrow()
    }

    fn look(&self) {
        let line = self.line.borrow();
        let got = &mut *self.seen.borrow_mut();
        if !got.response {
            let start = RESPONSE.len().min(line.output.len());
            assert_eq!(line.output[..start], RESPONSE[..start], "not a handshake response");
            got.response = start == RESPONSE.len();
            got.read = start;
        }
        while let Some((first, payload, length)) = split_frame(&line.output[got.read..]) {
            assert_eq!(got.close, None, "a frame after the close frame");
            match first {
                0x81 => got.messages.push(digest(payload)),
                0x89 => got.pings += 1,
                0x8a => got.pongs.push(payload.to_vec()),
                0x88 => got.close = Some(u16::from_be_bytes([payload[0], payload[1]])),
                _ => panic!("frame {first:#x}"),
            }
            got.read += length;
        }
        assert!(self.pings.starts_with(&got.pongs), "pongs do not follow the pings");
        if let Some(code) = got.close {
            assert!(ALWAYS.contains(&code) || self.fault == Some(code), "close code {code}");
            assert_eq!(got.read, line.output.len(), "bytes after the close frame");
        }
        if line.shut {
            assert!(got.close.is_some(), "FIN without a close frame");
        }
    }
}

/// A text, in eight bytes.
pub(super) fn digest(text: &[u8]) -> u64 {
    let mut digest = DefaultHasher::new();
    digest.write(text);
    digest.finish()
}

/// The first frame of `bytes`, if it is whole, and its length with the header.
fn split_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (head, length) = match *bytes.get(1)? {
        126 => (4, number(bytes.get(2..4)?)),
        127 => (10, number(bytes.get(2..10)?)),
        length => (2, usize::from(length)),
    };
    Some((bytes[0], bytes.get(head..head + length)?, head + length))
}
