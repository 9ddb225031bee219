//! What a test message says about itself: which stream, which number, when it was due.
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
}

/// Stream of messages to one client.
pub const DIRECT: u32 = 0;
/// Shortest message: quotes, a letter, 8 + 8 + 16 hexadecimal digits.
pub const SHORTEST: usize = 35;

impl Stamp {
    /// The JSON text, `size` bytes long with its quotes.
    pub fn json(self, size: usize) -> String {
        let Stamp { stream, number, due } = self;
        let mut text = format!("\"L{stream:08x}{number:08x}{due:016x}");
        while text.len() + 1 < size {
            text.push('x');
        }
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
        })
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
        let stamp = Stamp { stream: 7, number: 0xffff_fffe, due: u64::MAX - 1 };
        for size in [0, SHORTEST, 128, 70_000] {
            let text = stamp.json(size);
            assert_eq!(text.len(), size.max(SHORTEST));
            assert_eq!(Stamp::read(text.as_bytes()), Some(stamp));
        }
        assert_eq!(Stamp::read(b"{\"content\":\"\\\"L00000000000000000000000000000000\"}"), None);
        assert_eq!(Stamp::read(b"\"L0000000g000000000000000000000000\""), None);
    }
}
