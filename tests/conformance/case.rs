//! One case: what a client sends, in which pieces, and everything that the server must answer.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use crate::{frames, node::Node};

/// How the bytes of a case are cut into writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chop {
    /// All in one.
    No,
    /// Each frame in a write of its own.
    Frames,
    /// This many bytes at a time, without regard to frames.
    Bytes(usize),
    /// All in one write with the request head, before the server has agreed to anything.
    WithHead,
}

/// How a case ends; TCP always ends with the server's FIN, never with a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The connection is still good: a close handshake with code 1000 ends it.
    Open,
    /// The server sends a close frame with this code, if any.
    Closed(Option<u16>),
}

/// One frame from the server: its first byte and its payload.
#[derive(PartialEq, Eq)]
pub(crate) struct Reply(pub(crate) u8, pub(crate) Vec<u8>);

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = String::from_utf8_lossy(&self.1[..self.1.len().min(40)]);
        write!(f, "{:#04x} with {} bytes {start:?}", self.0, self.1.len())
    }
}

/// A row of a table. The id is that of the Autobahn suite; ids with a letter are cases of our own.
#[derive(Debug)]
pub(crate) struct Case {
    id: String,
    /// The section of RFC 6455 that it follows.
    section: &'static str,
    input: Vec<Vec<u8>>,
    chop: Chop,
    replies: Vec<Reply>,
    end: End,
}

impl Case {
    pub(crate) fn new(id: impl Into<String>, section: &'static str) -> Case {
        Case {
            id: id.into(),
            section,
            input: Vec::new(),
            chop: Chop::No,
            replies: Vec::new(),
            end: End::Open,
        }
    }

    /// The client sends a frame.
    pub(crate) fn send(mut self, frame: Vec<u8>) -> Case {
        self.input.push(frame);
        self
    }

    /// The server answers with a frame.
    pub(crate) fn expect(mut self, first: u8, payload: impl Into<Vec<u8>>) -> Case {
        self.replies.push(Reply(first, payload.into()));
        self
    }

    /// The client sends a whole text or binary message, which comes back.
    pub(crate) fn echo(self, first: u8, payload: &[u8]) -> Case {
        self.send(frames::frame(first, payload)).expect(first, payload)
    }

    /// The client sends a ping, which is answered.
    pub(crate) fn ping(self, payload: &[u8]) -> Case {
        self.send(frames::frame(frames::PING, payload)).expect(frames::PONG, payload)
    }

    pub(crate) fn chop(mut self, chop: Chop) -> Case {
        self.chop = chop;
        self
    }

    /// The server must end the connection with this close code.
    pub(crate) fn fails(mut self, code: u16) -> Case {
        self.end = End::Closed(Some(code));
        self
    }

    /// The server answers the client's close frame with this code.
    pub(crate) fn closes(mut self, code: impl Into<Option<u16>>) -> Case {
        self.end = End::Closed(code.into());
        self
    }

    /// Runs the case as it is and, if it is small, again with every byte in its own write and with
    /// everything behind the request head: the answers never depend on how bytes arrive.
    fn run(&self, node: &Node) -> Result<(), String> {
        self.run_chopped(node, self.chop)?;
        let size: usize = self.input.iter().map(Vec::len).sum();
        let again = [Chop::Bytes(1), Chop::WithHead];
        let again = again.into_iter().filter(|chop| size <= 1024 && *chop != self.chop);
        again.into_iter().try_for_each(|chop| self.run_chopped(node, chop))
    }

    fn run_chopped(&self, node: &Node, chop: Chop) -> Result<(), String> {
        let early = if chop == Chop::WithHead { self.input.concat() } else { Vec::new() };
        let mut stream = node.connect(&early);
        // The server may have ended the connection before it has taken everything.
        let _ = self.write(&mut stream, chop);
        let judged = self.judge(&mut stream);
        judged.map_err(|error| {
            format!("case {} (RFC 6455, {}), {chop:?}: {error}", self.id, self.section)
        })
    }

    fn write(&self, stream: &mut TcpStream, chop: Chop) -> io::Result<()> {
        let pieces = match chop {
            Chop::Frames => return self.input.iter().try_for_each(|frame| stream.write_all(frame)),
            Chop::WithHead => return Ok(()),
            Chop::No => vec![self.input.concat()],
            Chop::Bytes(size) => self.input.concat().chunks(size).map(<[u8]>::to_vec).collect(),
        };
        pieces.iter().try_for_each(|piece| stream.write_all(piece))
    }

    fn judge(&self, stream: &mut TcpStream) -> Result<(), String> {
        for expected in &self.replies {
            let reply = read_frame(stream)?.ok_or(format!("nothing instead of {expected:?}"))?;
            if reply != *expected {
                return Err(format!("{reply:?} instead of {expected:?}"));
            }
        }
        let code = match self.end {
            End::Closed(code) => code,
            End::Open => {
                let close = frames::close(1000, "");
                stream.write_all(&close).map_err(|error| format!("closing: {error}"))?;
                Some(1000)
            }
        };
        match read_frame(stream)? {
            Some(Reply(frames::CLOSE, payload)) if close_code(&payload)? == code => {}
            other => return Err(format!("{other:?} instead of a close with {code:?}")),
        }
        match read_frame(stream)? {
            None => Ok(()),
            Some(reply) => Err(format!("{reply:?} after the close frame")),
        }
    }
}

/// The code in a close frame, whose form is checked.
fn close_code(payload: &[u8]) -> Result<Option<u16>, String> {
    match payload {
        [] => Ok(None),
        [high, low, reason @ ..] if reason.len() <= 123 && std::str::from_utf8(reason).is_ok() => {
            Ok(Some(u16::from_be_bytes([*high, *low])))
        }
        _ => Err(format!("the server's close payload is malformed: {payload:?}")),
    }
}

/// One frame, or `None` at the FIN. The server's frames are never masked, and as short as can be.
fn read_frame(stream: &mut TcpStream) -> Result<Option<Reply>, String> {
    let mut header = [0; 2];
    match stream.read(&mut header[..1]) {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(format!("waiting for a frame: {error}")),
    }
    let mut take = |count: usize| {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).map(|()| bytes).map_err(|error| error.to_string())
    };
    header[1] = take(1)?[0];
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
    let (length, least) = match header[1] {
        126 => (number(&take(2)?), 126),
        127 => (number(&take(8)?), 0x1_0000),
        length @ 0..=125 => (usize::from(length), 0),
        _ => return Err("the server masks a frame".into()),
    };
    if length < least {
        return Err(format!("a length of {length} in a longer form than needed"));
    }
    Ok(Some(Reply(header[0], take(length)?)))
}

/// Runs a group's table.
pub(crate) fn run_group(name: &str, cases: Vec<Case>) {
    let node = Node::shared();
    let failures: Vec<_> = cases.iter().filter_map(|case| case.run(node).err()).collect();
    report(name, cases.len(), &failures);
}

/// Prints how many cases a group has; panics if any failed.
pub(crate) fn report(name: &str, cases: usize, failures: &[String]) {
    // Past the test harness, which hides the output of tests that pass.
    let _ = writeln!(io::stderr(), "conformance group {name}: {cases} cases");
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}
