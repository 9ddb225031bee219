//! Checks what one peer sends, byte by byte as it comes, and drops it: nothing of a message is kept, but for the few words
//! about messages that a client of `imcore.1` says.
//!
//! Built by `connection` when bytes arrive and dropped when they end on a message boundary, so that an idle
//! connection holds none. An unfinished message costs what is in [`Inbound`], whatever its length. Codes and
//! opcodes are the protocol library's (`tungstenite`). Does no I/O.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::{frame::put_header, ticks::Ticks, utf8::Utf8};
use crate::server::reasons::CloseReason;

/// Longest payload of a control frame (RFC 6455, section 5.5).
const CONTROL_BYTES: u8 = 125;
/// What a close frame without a code stands for.
const NO_CODE: u16 = 1005;
/// Bad Gateway, registered after RFC 6455; the library does not know it.
const BAD_GATEWAY: u16 = 1014;
/// Longest text that may be a word about messages.
const WORD_BYTES: usize = 128;
const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// What is known of a peer's bytes between two pieces of them.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// Longest message.
    message_bytes: u64,
    /// The header that is being read.
    header: [u8; 14],
    have: u8,
    /// The frame whose payload is being read.
    frame: Option<Incoming>,
    /// The message that has begun.
    message: Option<Message>,
    /// Payload of the control frame that is being read.
    control: Vec<u8>,
    /// What the peer is to be told: pongs, the reply to its close frame.
    output: Vec<u8>,
    said: Said,
    /// When what is unfinished began.
    since: Ticks,
}

/// What becomes of the texts that a peer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    NotAtAll,
    /// They are sent back.
    ToEcho,
    /// Short ones may be words about messages.
    ToWords,
}

/// What a peer said that concerns the messages it gets; of several words of a kind the last.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The position up to which it has handled everything, unchecked.
    pub(crate) acknowledged: Option<String>,
    /// It asks where it is.
    pub(crate) probed: bool,
    /// The number in a pong.
    pub(crate) pong: Option<u32>,
    /// The code in its close frame; 1005 if there is none (RFC 6455, section 7.1.5).
    pub(crate) closed: Option<u16>,
}

/// A frame after its header.
#[derive(Debug)]
struct Incoming {
    opcode: OpCode,
    is_final: bool,
    /// Turned so that it begins with the byte for the next of the payload.
    mask: [u8; 4],
    left: u64,
}

/// A message, over all its frames so far.
#[derive(Debug)]
struct Message {
    opcode: Data,
    text: Option<Utf8>,
    bytes: u64,
    /// Its content, as long as anybody wants it.
    content: Option<Vec<u8>>,
    /// What becomes of that.
    listen: Listen,
}

impl Inbound {
    /// For messages of at most `message_bytes`.
    pub(crate) fn new(message_bytes: usize) -> Self {
        Inbound {
            message_bytes: message_bytes as u64,
            header: [0; 14],
            have: 0,
            frame: None,
            message: None,
            control: Vec::new(),
            output: Vec::new(),
            said: Said::default(),
            since: 0,
        }
    }

    /// Whether all bytes so far make whole messages.
    pub(crate) fn is_clean(&self) -> bool {
        self.have == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// When what is unfinished began.
    pub(crate) fn since(&self) -> Ticks {
        self.since
    }

    /// Checks `bytes`, which it unmasks; the reason to close if they end the connection.
    pub(crate) fn feed(
        &mut self,
        bytes: &mut [u8],
        now: Ticks,
        listen: Listen,
    ) -> Option<CloseReason> {
        self.check(bytes, now, listen).err()
    }

    /// What the peer said about messages since this was last asked.
    pub(crate) fn take_said(&mut self) -> Said {
        std::mem::take(&mut self.said)
    }

    /// What there is to say to the peer.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn check(
        &mut self,
        mut bytes: &mut [u8],
        now: Ticks,
        listen: Listen,
    ) -> Result<(), CloseReason> {
        while !bytes.is_empty() {
            let rest = match self.frame.take() {
                Some(frame) => {
                    let here = frame.left.min(bytes.len() as u64) as usize;
                    let (payload, rest) = bytes.split_at_mut(here);
                    self.payload(frame, payload)?;
                    rest
                }
                None => {
                    if self.is_clean() {
                        self.since = now;
                    }
                    self.header(bytes[0], listen)?;
                    &mut bytes[1..]
                }
            };
            bytes = rest;
        }
        Ok(())
    }

    /// Takes one byte of a header; what is wrong with a frame is said as soon as it can be seen.
    fn header(&mut self, byte: u8, listen: Listen) -> Result<(), CloseReason> {
        self.header[usize::from(self.have)] = byte;
        self.have += 1;
        if self.have == 2 {
            self.check_start()?;
        }
        if self.have < 2 || self.have < self.header_len() {
            return Ok(());
        }
        let len = self.header_len();
        let [first, second, rest @ ..] = self.header;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let left = match second & !MASKED {
            126 => number(&rest[..2]),
            127 => number(&rest[..8]),
            length => u64::from(length),
        };
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.header[usize::from(len) - 4..usize::from(len)]);
        self.have = 0;
        let opcode = OpCode::from(first & 0x0f);
        if let OpCode::Data(opcode) = opcode {
            let begun = self.message.get_or_insert_with(|| Message::begin(opcode, listen));
            begun.bytes = begun.bytes.saturating_add(left);
            if begun.bytes > self.message_bytes {
                return Err(CloseReason::TooBig);
            }
        }
        self.payload(Incoming { opcode, is_final: first & FINAL != 0, mask, left }, &mut [])
    }

    /// The length of the header by its first two bytes.
    fn header_len(&self) -> u8 {
        match self.header[1] & !MASKED {
            126 => 8,
            127 => 14,
            _ => 6,
        }
    }

    /// What the first two bytes of a frame may be.
    fn check_start(&self) -> Result<(), CloseReason> {
        let [first, second, ..] = self.header;
        let fits = match OpCode::from(first & 0x0f) {
            OpCode::Data(Data::Continue) => self.message.is_some(),
            OpCode::Data(Data::Text | Data::Binary) => self.message.is_none(),
            OpCode::Control(Control::Close | Control::Ping | Control::Pong) => {
                first & FINAL != 0 && second & !MASKED <= CONTROL_BYTES
            }
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => false,
        };
        match fits && first & RESERVED == 0 && second & MASKED != 0 {
            true => Ok(()),
            false => Err(CloseReason::Protocol),
        }
    }

    /// Takes a piece of a frame's payload, or the end of an empty one.
    fn payload(&mut self, mut frame: Incoming, piece: &mut [u8]) -> Result<(), CloseReason> {
        frame.left -= piece.len() as u64;
        let unmask = |piece: &mut [u8], mask: [u8; 4]| {
            piece.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        };
        match (&frame.opcode, &mut self.message) {
            (OpCode::Data(_), Some(message)) => {
                if message.text.is_some() || message.content.is_some() {
                    unmask(piece, frame.mask);
                }
                message.take(piece)?;
            }
            _ => {
                unmask(piece, frame.mask);
                self.control.extend_from_slice(piece);
            }
        }
        frame.mask.rotate_left(piece.len() % 4);
        if frame.left > 0 {
            self.frame = Some(frame);
            return Ok(());
        }
        match frame.opcode {
            OpCode::Data(_) if frame.is_final => self.end_message(),
            OpCode::Data(_) => Ok(()),
            OpCode::Control(opcode) => self.end_control(opcode),
        }
    }

    fn end_message(&mut self) -> Result<(), CloseReason> {
        let Some(Message { opcode, text, content, listen, .. }) = self.message.take() else {
            return Ok(());
        };
        if text.is_some_and(|text| !text.is_whole()) {
            return Err(CloseReason::BadText);
        }
        match (listen, content) {
            (Listen::ToWords, Some(word)) => self.said.take(&word),
            (Listen::ToEcho, Some(content)) => self.say(OpCode::Data(opcode), &content),
            _ => {}
        }
        Ok(())
    }

    fn end_control(&mut self, opcode: Control) -> Result<(), CloseReason> {
        let payload = std::mem::take(&mut self.control);
        match opcode {
            Control::Ping => self.say(OpCode::Control(Control::Pong), &payload),
            Control::Pong => {
                let number = payload.try_into().map(u32::from_be_bytes);
                self.said.pong = number.ok().max(self.said.pong);
            }
            Control::Close => {
                check_close(&payload)?;
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                self.said.closed = Some(code.unwrap_or(NO_CODE));
                self.say(OpCode::Control(Control::Close), &payload);
                return Err(CloseReason::Peer);
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds a frame to what the peer is to be told.
    fn say(&mut self, opcode: OpCode, payload: &[u8]) {
        put_header(&mut self.output, FINAL | u8::from(opcode), payload.len());
        self.output.extend_from_slice(payload);
    }
}

impl Message {
    fn begin(opcode: Data, listen: Listen) -> Self {
        let is_text = opcode == Data::Text;
        let is_wanted = match listen {
            Listen::NotAtAll => false,
            Listen::ToEcho => true,
            Listen::ToWords => is_text,
        };
        let (text, content) = (is_text.then(Utf8::default), is_wanted.then(Vec::new));
        Message { opcode, text, bytes: 0, content, listen }
    }

    /// Checks a piece of its content.
    fn take(&mut self, piece: &[u8]) -> Result<(), CloseReason> {
        if self.text.as_mut().is_some_and(|text| !text.check(piece)) {
            return Err(CloseReason::BadText);
        }
        if let Some(content) = &mut self.content {
            content.extend_from_slice(piece);
            if self.listen == Listen::ToWords && content.len() > WORD_BYTES {
                self.content = None;
            }
        }
        Ok(())
    }
}

impl Said {
    /// Takes a text that may be a word about messages, or anything else.
    fn take(&mut self, text: &[u8]) {
        #[derive(Deserialize)]
        struct Word<'a> {
            #[serde(borrow)]
            a: Option<Cow<'a, str>>,
            q: Option<IgnoredAny>,
        }
        let Ok(Word { a, q }) = serde_json::from_slice(text) else { return };
        if let Some(position) = a {
            self.acknowledged = Some(position.into_owned());
        }
        self.probed |= q.is_some();
    }
}

/// What may stand in a close frame (RFC 6455, sections 5.5.1 and 7.4).
fn check_close(payload: &[u8]) -> Result<(), CloseReason> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(()) } else { Err(CloseReason::Protocol) };
    };
    let code = u16::from_be_bytes(*code);
    if code != BAD_GATEWAY && !CloseCode::from(code).is_allowed() {
        return Err(CloseReason::Protocol);
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(()),
        Err(_) => Err(CloseReason::BadText),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [1, 2, 3, 4];
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..=125 => bytes.push(MASKED | len as u8),
            len @ 126..=0xffff => {
                bytes.push(MASKED | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(MASKED | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    #[test]
    fn is_clean_exactly_between_messages() {
        for payload in [0, 1, 125, 126, 0xffff, 0x10000] {
            let mut bytes = frame(0x81, &vec![b'x'; payload]);
            let mut inbound = Inbound::new(1 << 20);
            for (index, byte) in bytes.iter_mut().enumerate() {
                assert_eq!(inbound.is_clean(), index == 0, "{payload} {index}");
                assert_eq!(inbound.feed(std::slice::from_mut(byte), 0, Listen::NotAtAll), None);
            }
            assert!(inbound.is_clean());
        }
    }

    #[test]
    fn an_unfinished_message_costs_the_same_whatever_its_length() {
        let mut inbound = Inbound::new(1 << 20);
        let mut bytes = frame(0x01, &vec![b'x'; 1 << 19]);
        assert_eq!(inbound.feed(&mut bytes, 7, Listen::NotAtAll), None);
        assert_eq!(inbound.feed(&mut frame(0x89, b"ping"), 8, Listen::NotAtAll), None);
        assert_eq!((inbound.since(), inbound.is_clean()), (7, false));
        inbound.take_output();
        let held = inbound.control.capacity() + inbound.output.capacity();
        assert!(size_of::<Inbound>() + held <= 256, "{}", size_of::<Inbound>() + held);
    }

    #[test]
    fn words_about_messages_are_told_from_all_else() {
        let said = |payload: &[u8]| {
            let mut inbound = Inbound::new(1000);
            assert_eq!(inbound.feed(&mut frame(0x81, payload), 0, Listen::ToWords), None);
            let said = inbound.take_said();
            (said.acknowledged, said.probed)
        };
        assert_eq!(said(br#"{"a":"k3.7"}"#), (Some("k3.7".into()), false));
        assert_eq!(said(br#" { "q" : 1 } "#), (None, true));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(200));
        for other in ["", "ping", "{}", "[1]", r#"{"a":1}"#, r#"{"b":"k3.7"}"#, &long] {
            assert_eq!(said(other.as_bytes()), (None, false), "{other}");
        }
        let mut inbound = Inbound::new(1000);
        let mut bytes =
            [frame(0x8a, &[0, 0, 0, 3]), frame(0x8a, b""), frame(0x88, b"\x0b\xb9")].concat();
        assert_eq!(inbound.feed(&mut bytes, 0, Listen::NotAtAll), Some(CloseReason::Peer));
        let said = inbound.take_said();
        assert_eq!((said.pong, said.closed), (Some(3), Some(3001)));
    }

    #[test]
    fn what_cannot_be_right_is_said_at_its_first_byte() {
        let end = |bytes: &[u8]| Inbound::new(1000).feed(&mut bytes.to_vec(), 0, Listen::NotAtAll);
        for start in
            [&b"\xc1\x80"[..], b"\x81\x00", b"\x83\x80", b"\x89\xfe", b"\x09\x80", b"\x80\x80"]
        {
            assert_eq!(end(start), Some(CloseReason::Protocol), "{start:02x?}");
        }
        assert_eq!(end(b"\x81\xfe\x03\xe9\0\0\0\0"), Some(CloseReason::TooBig));
        assert_eq!(end(b"\x81\x90\0\0\0\0\xed\xa0"), Some(CloseReason::BadText));
    }
}
