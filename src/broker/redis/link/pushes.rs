//! What Redis sends to a subscribed connection, read where it lies.
//!
//! Filled and asked by the listener. A message as Redis writes it is found without a copy; whatever else comes (a
//! confirmation, a pong, a notice of changed keys, an error) is cut out whole, and the client library says what it is.
//! Memory grows with what has come, never with a length that is only announced. Pure.

use std::ops::Range;

use redis::{ErrorKind, RedisError, RedisResult, Value, parse_redis_value};

/// Bytes that are read at once.
const ROOM: usize = 64 << 10;
/// Memory above this, which a long message has taken, is given back.
const KEPT: usize = 1 << 20;
/// Longest reply, in bytes. Redis takes no longer text (`proto-max-bulk-len`) unless it is told to.
const MOST: usize = (512 << 20) + ROOM;
/// Longest line in a reply, as Redis has it.
const LINE: usize = 64 << 10;
/// What a value can begin with.
const MARKS: &[u8] = b"+-:_,#($!=*~>%|";

/// One reply.
#[derive(Debug, PartialEq)]
pub(super) enum Push<'a> {
    /// What was published on a topic.
    Message {
        topic: &'a [u8],
        payload: &'a [u8],
    },
    Other(Value),
}

pub(super) struct Pushes {
    buffer: Vec<u8>,
    /// Where in it is what has come and was not taken.
    filled: Range<usize>,
    /// The first reply of that, once it is whole.
    first: Option<Found>,
    scan: Scan,
}

/// Where a whole reply is; all counts from its begin.
struct Found {
    end: usize,
    /// Topic and payload of a message.
    message: Option<[Range<usize>; 2]>,
}

impl Pushes {
    pub(super) fn new() -> Self {
        Pushes { buffer: vec![0; ROOM], filled: 0..0, first: None, scan: Scan::NEW }
    }

    /// Where to put what comes next; it is never empty.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        if self.filled.is_empty() && self.buffer.len() > KEPT {
            self.buffer = vec![0; ROOM];
        } else if self.buffer.len() - self.filled.end < ROOM / 4 {
            self.buffer.resize((2 * self.buffer.len()).max(ROOM), 0);
        }
        &mut self.buffer[self.filled.end..]
    }

    /// So many bytes were put there.
    pub(super) fn came(&mut self, count: usize) {
        self.filled.end = (self.filled.end + count).min(self.buffer.len());
    }

    /// The bytes of the first reply; `None` if it is not whole.
    pub(super) fn first(&mut self) -> RedisResult<Option<&[u8]>> {
        let came = &self.buffer[self.filled.clone()];
        if self.first.is_none() {
            self.first = match message(came) {
                None => self.scan.end(came)?.map(|end| Found { end, message: None }),
                found => found,
            };
        }
        Ok(self.first.as_ref().map(|first| &came[..first.end]))
    }

    /// Takes the first reply; `None` if it is not whole.
    pub(super) fn take(&mut self) -> RedisResult<Option<Push<'_>>> {
        self.first()?;
        let Some(Found { end, message }) = self.first.take() else { return Ok(None) };
        self.scan = Scan::NEW;
        let reply = &self.buffer[self.filled.start..][..end];
        self.filled.start += end;
        Ok(Some(match message {
            Some([topic, payload]) => {
                Push::Message { topic: &reply[topic], payload: &reply[payload] }
            }
            None => Push::Other(parse_redis_value(reply)?),
        }))
    }

    /// Puts bytes that were taken in front of what has come.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        self.buffer.splice(..self.filled.start, bytes.iter().copied());
        self.filled = 0..bytes.len() + self.filled.len();
        (self.first, self.scan) = (None, Scan::NEW);
    }
}

/// A whole message, if `bytes` begin with one; on a topic of a cluster's slot it is called otherwise.
fn message(bytes: &[u8]) -> Option<Found> {
    const HEADS: [&[u8]; 2] = [b"*3\r\n$7\r\nmessage\r\n", b"*3\r\n$8\r\nsmessage\r\n"];
    let head = HEADS.iter().find(|head| bytes.starts_with(head))?;
    let topic = text(bytes, head.len())?;
    let payload = text(bytes, topic.end + 2)?;
    Some(Found { end: payload.end + 2, message: Some([topic, payload]) })
}

/// The whole text whose length is written at `at`.
fn text(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let length = bytes.get(at..)?.strip_prefix(b"$")?;
    // Ten digits say more than a reply may have.
    let digits = length.iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
    let (length, rest) = length.split_at_checked(digits)?;
    let rest = rest.strip_prefix(b"\r\n")?;
    if length.is_empty() {
        return None;
    }
    let length = length.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0'));
    let length = usize::try_from(length).ok().filter(|length| *length <= MOST)?;
    rest.get(length..)?.starts_with(b"\r\n").then_some(())?;
    let start = bytes.len() - rest.len();
    Some(start..start + length)
}

/// Finds the end of a reply, however it comes in pieces.
struct Scan {
    /// Where the next value of the reply begins.
    at: usize,
    /// Values that are still to come.
    left: usize,
}

impl Scan {
    const NEW: Scan = Scan { at: 0, left: 1 };

    /// The end of the reply with which `bytes` begin; `None` if it is not whole.
    fn end(&mut self, bytes: &[u8]) -> RedisResult<Option<usize>> {
        while self.left > 0 {
            let Some(came) = bytes.get(self.at..).filter(|came| !came.is_empty()) else {
                return Ok(None);
            };
            let (mark, line) = (came[0], &came[1..came.len().min(LINE)]);
            let length = line.windows(2).position(|end| end == b"\r\n");
            if !MARKS.contains(&mark) || (length.is_none() && line.len() == LINE - 1) {
                return Err(garbage());
            }
            let Some(length) = length else { return Ok(None) };
            let count = || count(&line[..length]);
            // How many bytes, and how many values, belong to what the line begins.
            let (bytes, values) = match mark {
                b'$' => (count()?.map_or(0, |length| length + 2), 0),
                b'!' | b'=' => (count()?.ok_or_else(garbage)? + 2, 0),
                b'*' | b'~' | b'>' => (0, count()?.unwrap_or(0)),
                b'%' => (0, 2 * count()?.ok_or_else(garbage)?),
                b'|' => (0, 2 * count()?.ok_or_else(garbage)? + 1),
                _ => (0, 0),
            };
            self.at += 1 + length + 2 + bytes;
            self.left = self.left - 1 + values;
            if self.at > MOST || self.left > MOST {
                return Err(garbage());
            }
        }
        Ok((self.at <= bytes.len()).then_some(self.at))
    }
}

/// A number of bytes or values; `None` if it is negative, which stands for nothing.
fn count(line: &[u8]) -> RedisResult<Option<usize>> {
    let text = std::str::from_utf8(line).ok().map(str::trim);
    let count: i64 = text.and_then(|text| text.parse().ok()).ok_or_else(garbage)?;
    if count > MOST as i64 {
        return Err(garbage());
    }
    Ok(usize::try_from(count).ok())
}

fn garbage() -> RedisError {
    (ErrorKind::Parse, "what came is no reply of Redis").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nt\r\n:1\r\n\
        *3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$7\r\na\r\n$1\r\n\r\n\
        *3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$0\r\n\r\n\
        *2\r\n$4\r\npong\r\n$0\r\n\r\n\
        *3\r\n$7\r\nmessage\r\n$1\r\ni\r\n*2\r\n$1\r\nx\r\n$-1\r\n\
        -NOPERM no\r\n";

    fn put(pushes: &mut Pushes, bytes: &[u8]) {
        for bytes in bytes.chunks(ROOM / 4) {
            pushes.room()[..bytes.len()].copy_from_slice(bytes);
            pushes.came(bytes.len());
        }
    }

    /// All that is whole, as texts.
    fn taken(pushes: &mut Pushes) -> Vec<String> {
        let next = || pushes.take().unwrap().map(|push| format!("{push:?}"));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn replies_are_the_same_in_whatever_pieces_they_come() {
        let mut whole = Pushes::new();
        put(&mut whole, STREAM);
        let replies = taken(&mut whole);
        let message = Push::Message { topic: b"t", payload: b"a\r\n$1\r\n" };
        assert_eq!((replies.len(), &replies[1]), (6, &format!("{message:?}")));
        for cut in 0..STREAM.len() {
            let mut pushes = Pushes::new();
            put(&mut pushes, &STREAM[..cut]);
            let mut all = taken(&mut pushes);
            put(&mut pushes, &STREAM[cut..]);
            all.extend(taken(&mut pushes));
            assert_eq!(all, replies, "cut at {cut}");
        }
        let mut bytewise = Pushes::new();
        let each = STREAM.chunks(1).flat_map(|byte| {
            put(&mut bytewise, byte);
            taken(&mut bytewise)
        });
        assert_eq!(each.collect::<Vec<_>>(), replies);
    }

    #[test]
    fn what_is_put_back_comes_again_first() {
        let mut pushes = Pushes::new();
        put(&mut pushes, STREAM);
        let first = pushes.first().unwrap().unwrap().to_vec();
        let replies = taken(&mut pushes);
        put(&mut pushes, &STREAM[..40]);
        pushes.take().unwrap();
        pushes.put_back(&first);
        put(&mut pushes, &STREAM[40..]);
        assert_eq!(taken(&mut pushes), replies);
        pushes.put_back(&[]);
        assert!(!pushes.room().is_empty());
    }

    #[test]
    fn memory_follows_what_has_come_and_is_given_back() {
        let mut pushes = Pushes::new();
        put(&mut pushes, b"*3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$536870912\r\n");
        assert_eq!(pushes.take().unwrap(), None);
        assert_eq!(pushes.buffer.len(), ROOM);
        let mut pushes = Pushes::new();
        let payload = vec![b'x'; 3 << 20];
        put(&mut pushes, b"*3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$3145728\r\n");
        put(&mut pushes, &payload);
        assert_eq!(pushes.take().unwrap(), None);
        put(&mut pushes, b"\r\n");
        let message = Push::Message { topic: b"t", payload: &payload };
        assert_eq!(pushes.take().unwrap(), Some(message));
        assert!(pushes.buffer.len() < 3 * payload.len());
        assert_eq!((pushes.room().len(), pushes.buffer.len()), (ROOM, ROOM));
    }

    #[test]
    fn what_is_no_reply_and_what_is_too_long_is_refused() {
        let line = vec![b'1'; LINE + 1];
        for (mark, garbage) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], &b""[..]),
            (b"\r\n", b""),
            (b"$x\r\n", b""),
            (b"!-1\r\n", b""),
            (b"$99999999999999999999\r\n", b""),
            (b"$536936449\r\n", b""),
            (b"*536936449\r\n", b""),
            (b"*2\r\n*536870912\r\n*536870912\r\n", b""),
            (b"%-1\r\n", b""),
            (b"$1\r\nxyz", b""),
            (b"*3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$1\r\nxyz", b""),
            (b":", &line),
        ] {
            let mut pushes = Pushes::new();
            put(&mut pushes, mark);
            put(&mut pushes, garbage);
            assert!(pushes.take().is_err(), "{}", mark.escape_ascii());
        }
        let mut deep = Pushes::new();
        put(&mut deep, &b"*1\r\n".repeat(100_000));
        assert_eq!(deep.take().unwrap(), None, "not whole");
        put(&mut deep, b":1\r\n");
        assert!(deep.take().is_err());
    }
}
