//! What a test message says about itself: from whom, to whom, which stream, which number, when it was due.
//!
//! The text is a JSON string, so that it passes through any broker and helper unchanged, and has fixed
//! places, so that reading it costs the clients next to nothing. Pure.

/// One test message as the receiver sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// 0 for messages to one client, else the number of a room.
    pub stream: u32,
    /// Counts up by one per stream, and for stream 0 per receiver; starts at 1.
    pub number: u32,
    /// The scheduled moment of sending by [`clock::now`](crate::clock::now).
    pub due: u64,
    /// Who gets the receipt, if there is one; 0 is the system.
    pub sender: i64,
    /// The client that the message is for; 0 for a room.
    pub receiver: i64,
}

/// Stream of messages to one client.
pub const DIRECT: u32 = 0;
/// Shortest message: quotes, a letter, and 8 + 8 + 16 + 16 + 16 + 8 hexadecimal digits.
pub const SHORTEST: usize = 75;

impl Stamp {
    /// A message of a room, from the system.
    pub fn of_room(stream: u32, number: u32, due: u64) -> Self {
        Stamp { stream, number, due, sender: 0, receiver: 0 }
    }

    /// The JSON text, `size` bytes long with its quotes, or [`SHORTEST`] if that is more.
    pub fn json(self, size: usize) -> String {
        let Stamp { stream, number, due, sender, receiver } = self;
        let size = size.max(SHORTEST);
        let mut text =
            format!("\"L{stream:08x}{number:08x}{due:016x}{sender:016x}{receiver:016x}{size:08x}");
        text.extend(std::iter::repeat_n('x', size - 1 - text.len()));
        text.push('"');
        text
    }

    /// Reads the beginning of a payload; `None` if it is no test message.
    pub fn read(payload: &[u8]) -> Option<Self> {
        if payload.len() < SHORTEST || &payload[..2] != b"\"L" {
            return None;
        }
        Some(Stamp {
            stream: hex(&payload[2..10])? as u32,
            number: hex(&payload[10..18])? as u32,
            due: hex(&payload[18..34])?,
            sender: hex(&payload[34..50])? as i64,
            receiver: hex(&payload[50..66])? as i64,
        })
    }

    /// Whether everything behind the stamp came as it was sent: length, padding, closing quote. `payload` is the
    /// beginning of `length` bytes, or all of them.
    pub fn is_whole(payload: &[u8], length: u64) -> bool {
        if payload.len() < SHORTEST || hex(&payload[66..74]) != Some(length) {
            return false;
        }
        let (padding, is_closed) = match payload.len() as u64 == length {
            true => (&payload[SHORTEST - 1..payload.len() - 1], payload.ends_with(b"\"")),
            false => (&payload[SHORTEST - 1..], true),
        };
        is_closed && padding.iter().all(|byte| *byte == b'x')
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_way() {
        let stamp = Stamp {
            stream: 7,
            number: 0xffff_fffe,
            due: u64::MAX - 1,
            sender: -3,
            receiver: i64::MAX,
        };
        for size in [0, SHORTEST, 128, 70_000] {
            let text = stamp.json(size);
            assert_eq!(text.len(), size.max(SHORTEST));
            assert_eq!(Stamp::read(text.as_bytes()), Some(stamp));
            let (bytes, length) = (text.as_bytes(), text.len() as u64);
            assert!(Stamp::is_whole(bytes, length));
            assert_eq!(Stamp::is_whole(&bytes[..SHORTEST], length), text.len() >= SHORTEST);
        }
        assert_eq!(Stamp::read(b"{\"content\":\"\\\"L00000000000000000000000000000000\"}"), None);
        assert_eq!(Stamp::read(b"\"L0000000g000000000000000000000000\""), None);
    }

    #[test]
    fn what_was_changed_behind_the_stamp_is_seen() {
        let text = Stamp::of_room(1, 2, 3).json(128);
        let mut cut = text[..100].to_owned();
        cut.push('"');
        for damaged in [text.replacen('x', "y", 1), cut, text.replace('x', ""), text + "x"] {
            assert!(Stamp::read(damaged.as_bytes()).is_some());
            assert!(!Stamp::is_whole(damaged.as_bytes(), damaged.len() as u64), "{damaged}");
        }
    }
}
