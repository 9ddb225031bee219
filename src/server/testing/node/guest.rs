//! Somebody who comes to the node: with TLS or without, with a good ticket or not, patient or not.

use std::{cell::RefCell, collections::VecDeque, fmt, io::Write, rc::Rc};

use rustls::ClientConnection;
use testkit::seeded::Seeded;

use super::super::line::Line;

/// What it comes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A ticket that is good.
    Good,
    /// A ticket that nobody issued.
    Forged,
    /// Another path.
    Lost,
    /// No HTTP, or where TLS is spoken no TLS.
    Clear,
    /// Something that begins like TLS.
    Junk,
    /// Says nothing.
    Silent,
}

pub(super) struct Guest {
    pub(super) client: i64,
    pub(super) kind: Kind,
    /// Goes on sending and reading, and leaves only when it is told to.
    pub(super) polite: bool,
    pub(super) line: Rc<RefCell<Line>>,
    tls: Option<ClientConnection>,
    /// What a proxy in front says first.
    front: VecDeque<u8>,
    /// In the clear, before TLS.
    unsent: VecDeque<u8>,
    /// Sealed, or as it is: what the line has still to take.
    on_the_way: VecDeque<u8>,
    /// Bytes of the line's output that it has looked at.
    read: usize,
    /// What it got, in the clear, that is no whole frame yet.
    clear: Vec<u8>,
    /// The status of the answer.
    pub(super) status: Option<u16>,
    /// Numbers of the messages that came.
    pub(super) got: Vec<usize>,
    pub(super) close: Option<u16>,
    /// It has ended its side, or reset the line.
    pub(super) left: bool,
    /// Messages that it must get: sent while it was known to be here.
    pub(super) owed: Vec<usize>,
    pub(super) may_get: Vec<usize>,
    /// A kick was heard, and that after its ticket was taken, so that it must have ended it.
    pub(super) was_kicked: bool,
    pub(super) must_go: bool,
    pub(super) has_ticket: bool,
}

/// What can be said of it in a line.
impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Guest { client, kind, polite, left, was_kicked, status, close, .. } = self;
        write!(
            f,
            "guest {client} ({kind:?}, polite: {polite}, left: {left}, kicked: {was_kicked}, \
             status: {status:?}, close: {close:?})"
        )
    }
}

impl Guest {
    pub(super) fn new(
        client: i64,
        kind: Kind,
        polite: bool,
        line: Line,
        tls: Option<ClientConnection>,
        (front, head): (Vec<u8>, String),
    ) -> Self {
        let unsent = match kind {
            Kind::Silent => Vec::new(),
            Kind::Clear => {
                b"\x01\x02 this is nothing that a server of this kind speaks\r\n\r\n".to_vec()
            }
            Kind::Junk => {
                b"\x16\x03\x01\x00\x05hello and more that is no record of any kind".to_vec()
            }
            _ => head.into_bytes(),
        };
        let plain = matches!(kind, Kind::Silent | Kind::Clear | Kind::Junk);
        Guest {
            client,
            kind,
            polite,
            line: Rc::new(RefCell::new(line)),
            tls: if plain { None } else { tls },
            front: front.into(),
            unsent: unsent.into(),
            on_the_way: VecDeque::new(),
            read: 0,
            clear: Vec::new(),
            status: None,
            got: Vec::new(),
            close: None,
            left: false,
            owed: Vec::new(),
            may_get: Vec::new(),
            was_kicked: false,
            must_go: false,
            has_ticket: false,
        }
    }

    /// Does one thing that somebody may do.
    pub(super) fn act(&mut self, chance: &mut Seeded) {
        if self.left {
            return;
        }
        match chance.below(12) {
            0..=4 => self.send(1 + chance.below(400)),
            5..=9 => self.receive(chance.below(4000)),
            10 if !self.polite && chance.once_in(4) => self.leave(true),
            11 if !self.polite && chance.once_in(4) => self.leave(false),
            10 if self.status == Some(101) && chance.once_in(8) => self.leave(chance.once_in(2)),
            _ => {}
        }
    }

    /// Sends and reads all that there is.
    pub(super) fn settle(&mut self) {
        if !self.left {
            self.send(usize::MAX);
            self.receive(1 << 20);
            self.send(usize::MAX);
        }
    }

    /// Ends its side in order, or not.
    pub(super) fn leave(&mut self, reset: bool) {
        self.left = true;
        self.line.borrow_mut().end(reset);
    }

    fn send(&mut self, most: usize) {
        self.on_the_way.extend(self.front.drain(..));
        let clear: Vec<u8> = self.unsent.drain(..).collect();
        match &mut self.tls {
            None => self.on_the_way.extend(clear),
            Some(tls) => {
                tls.writer().write_all(&clear).unwrap();
                while tls.wants_write() {
                    tls.write_tls(&mut self.on_the_way).unwrap();
                }
            }
        }
        let count = self.on_the_way.len().min(most);
        if count > 0 {
            self.line.borrow_mut().arrive(self.on_the_way.drain(..count));
        }
    }

    /// Makes room for so many bytes, and takes what has come.
    fn receive(&mut self, room: usize) {
        let mut line = self.line.borrow_mut();
        line.make_room(room);
        let new = line.output[self.read..].to_vec();
        let ended = line.shut;
        drop(line);
        // Who has sent no more than a proxy's header is refused in the clear: nobody knows what it would speak.
        if self.read == 0 && new.first() == Some(&b'H') {
            self.tls = None;
        }
        self.read += new.len();
        match &mut self.tls {
            None => self.clear.extend(&new),
            Some(tls) => {
                let mut rest = &new[..];
                while !rest.is_empty() {
                    tls.read_tls(&mut rest).unwrap();
                    let state = tls.process_new_packets().expect("the node speaks TLS");
                    let mut clear = vec![0; state.plaintext_bytes_to_read()];
                    std::io::Read::read_exact(&mut tls.reader(), &mut clear).unwrap();
                    self.clear.extend(clear);
                }
            }
        }
        self.understand();
        if ended && !self.left {
            self.leave(false);
        }
    }

    fn understand(&mut self) {
        // What TLS tells somebody who speaks none is nothing to read.
        if self.kind == Kind::Junk {
            return self.clear.clear();
        }
        if self.status.is_none() {
            let Some(end) = self.clear.windows(4).position(|four| four == b"\r\n\r\n") else {
                return;
            };
            let head: Vec<u8> = self.clear.drain(..end + 4).collect();
            let head = String::from_utf8(head).unwrap();
            self.status = Some(head["HTTP/1.1 ".len()..][..3].parse().unwrap());
        }
        if self.status != Some(101) {
            return;
        }
        while let Some((first, payload)) = self.take_frame() {
            match first {
                0x81 => {
                    let text = String::from_utf8(payload).unwrap();
                    self.got.push(text.split(' ').next().unwrap().parse().unwrap());
                }
                0x89 => self.frame(0x8a, &payload),
                0x88 => {
                    assert_eq!(self.close, None, "closed twice");
                    self.close = Some(u16::from_be_bytes([payload[0], payload[1]]));
                    self.frame(0x88, &payload[..2]);
                }
                other => panic!("a frame {other:x}"),
            }
        }
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, length, ..] = self.clear[..] else { return None };
        let (header, length) = match length {
            126 => {
                let [_, _, high, low, ..] = self.clear[..] else { return None };
                (4, usize::from(u16::from_be_bytes([high, low])))
            }
            127 => panic!("a message that nobody sent"),
            length => (2, usize::from(length)),
        };
        if self.clear.len() < header + length {
            return None;
        }
        let payload = self.clear[header..header + length].to_vec();
        self.clear.drain(..header + length);
        Some((first, payload))
    }

    /// Sends a short frame; the mask is nothing.
    fn frame(&mut self, first: u8, payload: &[u8]) {
        self.unsent.extend([first, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
        self.unsent.extend(payload);
    }
}
