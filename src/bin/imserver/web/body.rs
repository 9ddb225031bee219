//! The body of a request, taken out of the bytes that arrive, in whatever pieces they do. Pure.

use super::head::{Framing, Refusal, bad};

/// Longest line that gives the size of a chunk, with what extensions it has.
const SIZE_LINE: usize = 256;
/// Bytes after the last chunk, which nobody reads.
const TRAILERS: usize = 8 << 10;

/// Collects one body.
pub(super) struct BodyReader {
    body: Vec<u8>,
    limit: usize,
    state: State,
    /// A line of chunked framing as far as it has come.
    line: Vec<u8>,
    trailers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes are still to come, of a chunk or of all.
    Content {
        left: usize,
        chunked: bool,
    },
    ChunkSize,
    ChunkEnd,
    Trailer,
    Done,
}

impl BodyReader {
    /// For a body of up to `limit` bytes.
    pub(super) fn new(framing: Framing, limit: usize) -> Result<BodyReader, Refusal> {
        let state = match framing {
            Framing::Nothing | Framing::Length(0) => State::Done,
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= limit => State::Content { left: length, chunked: false },
                _ => return Err(TOO_LARGE),
            },
            Framing::Chunked => State::ChunkSize,
        };
        Ok(BodyReader { body: Vec::new(), limit, state, line: Vec::new(), trailers: 0 })
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes what belongs to the body from the front of `input`, and says how much that is.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            at += match self.state {
                State::Content { left, chunked } => {
                    let count = left.min(input.len() - at);
                    self.body.extend_from_slice(&input[at..at + count]);
                    self.state = match left - count {
                        0 if chunked => State::ChunkEnd,
                        0 => State::Done,
                        left => State::Content { left, chunked },
                    };
                    count
                }
                _ => {
                    self.take_framing(input[at])?;
                    1
                }
            };
        }
        Ok(at)
    }

    pub(super) fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// One byte between chunks.
    fn take_framing(&mut self, byte: u8) -> Result<(), Refusal> {
        self.line.push(byte);
        if byte != b'\n' {
            return match self.state {
                State::ChunkSize if self.line.len() >= SIZE_LINE => {
                    Err(bad("the line with the size of a chunk is too long"))
                }
                State::ChunkEnd if self.line.len() >= 2 => Err(NOT_CHUNKED),
                State::Trailer if self.trailers + self.line.len() >= TRAILERS => {
                    Err(Refusal { status: 431, why: "the trailers are too long" })
                }
                _ => Ok(()),
            };
        }
        // A line that ends otherwise is read differently by different programs.
        let line = self.line.strip_suffix(b"\r\n").ok_or(NOT_CHUNKED)?;
        self.state = match self.state {
            State::ChunkSize => match chunk_size(line)? {
                0 => State::Trailer,
                size if size > self.limit - self.body.len() => return Err(TOO_LARGE),
                size => State::Content { left: size, chunked: true },
            },
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::Trailer if line.is_empty() => State::Done,
            State::Trailer if !is_field(line) => return Err(NOT_CHUNKED),
            State::Trailer => {
                self.trailers += self.line.len();
                State::Trailer
            }
            _ => return Err(NOT_CHUNKED),
        };
        self.line.clear();
        Ok(())
    }
}

const TOO_LARGE: Refusal = Refusal { status: 413, why: "the request body is too large" };
const NOT_CHUNKED: Refusal = Refusal { status: 400, why: "the chunked body is malformed" };

fn chunk_size(line: &[u8]) -> Result<usize, Refusal> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let (digits, extension) =
        line.split_at(line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len()));
    // Blanks lead to an extension or nowhere (RFC 9112, section 7.1.1), and no line has a bare CR in it.
    let begins = extension.iter().find(|byte| !is_blank(byte));
    let good = extension.is_empty() || begins == Some(&b';');
    if digits.is_empty() || !good || !line.iter().all(|byte| is_text(*byte)) {
        return Err(NOT_CHUNKED);
    }
    digits.iter().try_fold(0_usize, |size, byte| {
        let digit = (*byte as char).to_digit(16).ok_or(NOT_CHUNKED)? as usize;
        size.checked_mul(16).map(|size| size + digit).ok_or(TOO_LARGE)
    })
}

/// Whether a byte may stand in a line.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether a line is a header.
fn is_field(line: &[u8]) -> bool {
    let sign = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let name = line.iter().position(|byte| *byte == b':').map(|at| &line[..at]);
    name.is_some_and(|name| !name.is_empty() && name.iter().all(sign))
        && line.iter().all(|byte| is_text(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Body and unused bytes, with the input in two pieces cut at `cut`.
    fn read(framing: Framing, input: &[u8], cut: usize) -> Result<(Vec<u8>, usize), Refusal> {
        let mut reader = BodyReader::new(framing, 10)?;
        let mut at = 0;
        for end in [cut, input.len()] {
            at += reader.take(&input[at..end])?;
        }
        assert!(reader.is_done(), "{input:?} at {cut}");
        Ok((reader.into_body(), input.len() - at))
    }

    #[test]
    fn any_split_gives_the_same_body() {
        let next = b"GET / HTTP/1.1\r\n";

        for (framing, text, body) in [
            (Framing::Nothing, "", ""),
            (Framing::Length(0), "", ""),
            (Framing::Length(5), "hello", "hello"),
            (Framing::Length(10), "0123456789", "0123456789"),
            (Framing::Chunked, "0\r\n\r\n", ""),
            (
                Framing::Chunked,
                "2\r\nhe\r\n003;x=\"y\"\r\nllo\r\n00\r\nA: b\r\nC: d\r\n\r\n",
                "hello",
            ),
            (Framing::Chunked, "A\r\n01234\r\n789\r\n0\r\n\r\n", "01234\r\n789"),
        ] {
            let input = [text.as_bytes(), next].concat();
            for cut in 0..=input.len() {
                let expected = (body.as_bytes().to_vec(), next.len());
                assert_eq!(read(framing, &input, cut), Ok(expected), "{text:?} at {cut}");
            }
            let mut reader = BodyReader::new(framing, 10).unwrap();
            for byte in text.bytes() {
                assert!(!reader.is_done());
                assert_eq!(reader.take(&[byte]), Ok(1));
            }
            assert!(reader.is_done(), "{text:?} byte by byte");
            assert_eq!(reader.into_body(), body.as_bytes());
        }
    }

    #[test]
    fn what_is_too_large_or_malformed_is_refused_at_once() {
        assert_eq!(read(Framing::Length(11), b"", 0), Err(TOO_LARGE));
        assert_eq!(read(Framing::Length(u64::MAX), b"", 0), Err(TOO_LARGE));
        let long_size = format!("1;{}\r\n", "x".repeat(SIZE_LINE));
        let long_trailer = format!("0\r\n{}", "X: y\r\n".repeat(TRAILERS / 6 + 1));
        for (text, status) in [
            ("b\r\n", 413),
            ("6\r\n012345\r\n5\r\n", 413),
            ("ffffffffffffffffff\r\n", 413),
            ("\r\n", 400),
            ("x\r\n", 400),
            ("-1\r\n", 400),
            ("1\n", 400),
            ("1\rx\r\n", 400),
            ("1\r\nxy\r\n", 400),
            ("1\r\nx\n", 400),
            ("1 \r\n", 400),
            ("1 x\r\n", 400),
            ("1;\u{1}\r\n", 400),
            ("0\r\nno colon\r\n", 400),
            ("0\r\n: y\r\n", 400),
            ("0\r\nX : y\r\n", 400),
            ("0\r\nX: y\r\n folded\r\n", 400),
            (&long_size, 400),
            (&long_trailer, 431),
        ] {
            for cut in 0..=text.len() {
                let mut reader = BodyReader::new(Framing::Chunked, 10).unwrap();
                let first = reader.take(&text.as_bytes()[..cut]);
                let all = first.and_then(|at| reader.take(&text.as_bytes()[at..]));
                assert_eq!(all.map_err(|refusal| refusal.status), Err(status), "{text:?} at {cut}");
            }
        }
    }
}
