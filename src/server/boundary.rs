//! Where frames begin and end in a byte stream, without looking into them.
//!
//! Tells `connection` when the protocol library holds nothing of a peer any more. It checks nothing:
//! bytes that break the protocol are the library's to refuse.

/// Follows the frame headers of one direction of one connection.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    /// The header that is being read.
    header: [u8; 14],
    have: u8,
    /// Payload bytes still to come.
    payload: u64,
    /// A message began in a frame that was not its last.
    fragmented: bool,
}

impl Boundary {
    /// Whether all bytes so far make whole messages.
    pub(super) fn is_clean(&self) -> bool {
        self.have == 0 && self.payload == 0 && !self.fragmented
    }

    /// Follows further bytes.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let count = self.payload.min(bytes.len() as u64);
                self.payload -= count;
                bytes = &bytes[count as usize..];
                continue;
            }
            self.header[usize::from(self.have)] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have >= 2 && self.have == self.header_len() {
                self.begin_payload();
            }
        }
    }

    fn header_len(&self) -> u8 {
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    fn begin_payload(&mut self) {
        let [first, second, rest @ ..] = self.header;
        self.payload = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([rest[0], rest[1]])),
            127 => rest[..8].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
            length => u64::from(length),
        };
        let is_control = first & 0x08 != 0;
        if !is_control {
            self.fragmented = first & 0x80 == 0;
        }
        self.have = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload {
            0..=125 => bytes.push(0x80 | payload as u8),
            126..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.resize(bytes.len() + payload, 7);
        bytes
    }

    #[test]
    fn is_clean_exactly_between_messages() {
        for payload in [0, 1, 125, 126, 0xffff, 0x10000] {
            let bytes = frame(0x82, payload);
            let mut boundary = Boundary::default();
            for (index, byte) in bytes.iter().enumerate() {
                assert_eq!(boundary.is_clean(), index == 0, "{payload} {index}");
                boundary.advance(&[*byte]);
            }
            assert!(boundary.is_clean());
            boundary.advance(&[bytes.clone(), bytes].concat());
            assert!(boundary.is_clean());
        }
    }

    #[test]
    fn fragments_with_a_ping_between_are_one_message() {
        let mut boundary = Boundary::default();
        for (first, clean) in [(0x01, false), (0x89, false), (0x00, false), (0x80, true)] {
            boundary.advance(&frame(first, 5));
            assert_eq!(boundary.is_clean(), clean, "{first:#x}");
        }
    }
}
