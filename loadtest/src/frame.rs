//! WebSocket framing, the client's half and no more: what a server may send, read with as little work
//! as possible, so that the instrument does not cost more than what it measures. Pure.

/// Bytes of a payload that are kept for reading; the rest is counted and skipped.
const KEPT: usize = 1024;

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The server sent what a server must not send.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

/// The unread rest of one connection's byte stream. Empty between frames, when it holds no memory.
#[derive(Debug, Default)]
pub struct Reader {
    /// Header and kept payload of a frame that is not complete.
    partial: Vec<u8>,
    /// Bytes of it that are still to come and of no interest.
    skip: u64,
}

struct Header {
    opcode: u8,
    length: usize,
    payload: u64,
}

impl Reader {
    /// Takes the next bytes; calls `each` with opcode, first [`KEPT`] bytes and length of every complete frame.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(u8, &[u8], u64),
    ) -> Result<(), Broken> {
        while !bytes.is_empty() {
            if !self.partial.is_empty() {
                bytes = self.continue_partial(bytes, &mut each)?;
                continue;
            }
            match header(bytes)? {
                Some(header) if (bytes.len() - header.length) as u64 >= header.payload => {
                    let end = header.length + header.payload as usize;
                    let kept = end.min(header.length + KEPT);
                    each(header.opcode, &bytes[header.length..kept], header.payload);
                    bytes = &bytes[end..];
                }
                _ => bytes = self.begin_partial(bytes)?,
            }
        }
        Ok(())
    }

    fn begin_partial<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Broken> {
        let wanted = match header(bytes)? {
            None => bytes.len(),
            Some(header) => header.length + header.payload.min(KEPT as u64) as usize,
        };
        let taken = wanted.min(bytes.len());
        self.partial.extend_from_slice(&bytes[..taken]);
        self.note_skip()?;
        let rest = &bytes[taken..];
        let skipped = self.skip.min(rest.len() as u64);
        self.skip -= skipped;
        Ok(&rest[skipped as usize..])
    }

    fn continue_partial<'a>(
        &mut self,
        mut bytes: &'a [u8],
        each: &mut impl FnMut(u8, &[u8], u64),
    ) -> Result<&'a [u8], Broken> {
        if self.skip == 0 {
            let missing = match header(&self.partial)? {
                None => 1,
                Some(header) => {
                    let kept = header.length + header.payload.min(KEPT as u64) as usize;
                    kept - self.partial.len()
                }
            };
            let taken = missing.min(bytes.len());
            self.partial.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.note_skip()?;
        }
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        bytes = &bytes[skipped as usize..];
        if self.skip == 0
            && let Some(header) = header(&self.partial)?
            && self.partial.len() == header.length + header.payload.min(KEPT as u64) as usize
        {
            each(header.opcode, &self.partial[header.length..], header.payload);
            self.partial = Vec::new();
        }
        Ok(bytes)
    }

    /// Once header and kept part are there, the rest of the frame is only skipped.
    fn note_skip(&mut self) -> Result<(), Broken> {
        if let Some(header) = header(&self.partial)?
            && header.payload > KEPT as u64
            && self.partial.len() == header.length + KEPT
        {
            self.skip = header.payload - KEPT as u64;
        }
        Ok(())
    }
}

fn header(bytes: &[u8]) -> Result<Option<Header>, Broken> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    // Unfragmented, no extension, not masked: the server under test sends nothing else.
    if first & 0xf0 != 0x80 || second & 0x80 != 0 {
        return Err(Broken);
    }
    let opcode = first & 0x0f;
    Ok(match (second, rest) {
        (126, [a, b, ..]) => {
            Some(Header { opcode, length: 4, payload: u16::from_be_bytes([*a, *b]).into() })
        }
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            let payload = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            Some(Header { opcode, length: 10, payload })
        }
        (126 | 127, _) => None,
        (short, _) => Some(Header { opcode, length: 2, payload: u64::from(*short) }),
    })
}

/// A finished server-side text frame, for the floor.
pub fn text(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | TEXT];
    match payload.len() {
        short @ 0..126 => frame.push(short as u8),
        medium @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// A client's control frame, or a short text of its. Its mask is zero: legal, and the payload stays as it is.
pub fn control(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(125)];
    let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut stream = Vec::new();
        let sizes = [0usize, 5, 125, 126, 128, 1023, 1024, 1025, 5000, 0xffff, 70_000, 3];
        for size in sizes {
            stream.extend(text(&vec![size as u8; size]));
        }
        stream.extend([0x89, 2, b'h', b'i']);
        for step in [1, 2, 3, 7, 129, 1000, 4096, stream.len()] {
            let mut reader = Reader::default();
            let mut seen = Vec::new();
            for piece in stream.chunks(step) {
                let each = |opcode, head: &[u8], _| seen.push((opcode, head.to_vec()));
                reader.feed(piece, each).unwrap();
            }
            assert_eq!(seen.len(), sizes.len() + 1, "step {step}");
            for ((opcode, head), size) in seen.iter().zip(sizes) {
                assert_eq!((*opcode, head.len()), (TEXT, size.min(KEPT)), "step {step}");
                assert!(head.iter().all(|byte| *byte == size as u8));
            }
            assert_eq!(seen[sizes.len()], (PING, b"hi".to_vec()));
            assert_eq!((reader.partial.capacity(), reader.skip), (0, 0));
        }
    }

    #[test]
    fn what_no_server_sends_is_an_error() {
        for bytes in [[0x01, 0], [0xc1, 0], [0x81, 0x80]] {
            assert_eq!(Reader::default().feed(&bytes, |_, _, _| ()), Err(Broken));
        }
    }

    #[test]
    fn a_control_frame_is_masked() {
        assert_eq!(control(PONG, b"x"), [0x8a, 0x81, 0, 0, 0, 0, b'x']);
    }
}
