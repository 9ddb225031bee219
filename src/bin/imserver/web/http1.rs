//! One connection in HTTP/1.1: requests are read and answered in turn until one side ends it. Runs on a thread of
//! its own, which may wait; every wait has its end. Knows of a site what [`Site`] says and nothing more.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use super::{
    Limits, Site,
    body::BodyReader,
    connections::{Slot, State},
    head::{self, Framing, Head, Refusal},
    message::{Body, Response},
};

/// Bytes that a peer may send after the last answer before it is cut, in the time of a request: closing with
/// unread input would reset the connection and take the answer with it, before a peer that sends all of
/// its body first has read that this is too large.
const IGNORED: usize = 256 << 20;
/// Bytes that are read at once.
const CHUNK: usize = 16 << 10;

/// One connection and what it has sent ahead.
pub(super) struct Http1Connection<'a, S> {
    stream: &'a TcpStream,
    site: &'a S,
    slot: &'a Slot,
    limits: Limits,
    buffer: Vec<u8>,
    /// When the step under way must be done.
    until: Instant,
}

/// What a request comes to.
struct Answer {
    response: Response,
    with_body: bool,
    /// Whether the connection ends with it.
    last: bool,
}

/// Why there is no request.
enum Failure {
    /// It gets this answer, and the connection ends.
    Refused(Refusal),
    Gone(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::TimedOut => {
                Failure::Refused(Refusal { status: 408, why: "the request takes too long" })
            }
            _ => Failure::Gone(error),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

impl<'a, S: Site> Http1Connection<'a, S> {
    pub(super) fn new(stream: &'a TcpStream, site: &'a S, slot: &'a Slot) -> Self {
        let limits = site.limits();
        let until = Instant::now() + limits.request;
        Http1Connection { stream, site, slot, limits, buffer: Vec::new(), until }
    }

    /// Until the connection has ended; what goes wrong with the peer goes no further.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            let answer = match self.exchange() {
                Ok(answer) => answer,
                Err(Failure::Refused(Refusal { status, why })) => {
                    let response = self.site.refusal(status, why);
                    Answer { response, with_body: true, last: true }
                }
                Err(Failure::Gone(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(());
                }
                Err(Failure::Gone(error)) => return Err(error),
            };
            let last = answer.last;
            self.send(answer)?;
            if last || self.slot.is_closed() || !self.another_begins()? {
                return self.end();
            }
        }
    }

    /// Reads one request and has it answered.
    fn exchange(&mut self) -> Result<Answer, Failure> {
        let Head { mut request, len, framing, keep_alive, expects_continue } = self.read_head()?;
        self.buffer.drain(..len);
        request.peer = self.stream.peer_addr().ok();
        let with_body = request.method != "HEAD";
        let last = !keep_alive || self.limits.idle.is_zero();
        if let Err(response) = self.site.admit(&request) {
            // What is left of the body would be taken for the next request.
            let last = last || framing != Framing::Nothing;
            return Ok(Answer { response, with_body, last });
        }
        let body = BodyReader::new(framing, self.limits.body)?;
        if expects_continue && !body.is_done() && self.buffer.is_empty() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        request.body = self.read_body(body)?;
        if !self.slot.enter(State::Answering) {
            return Err(Failure::Gone(io::ErrorKind::ConnectionAborted.into()));
        }
        let response = self.site.answer(&request);
        let is_stream = matches!(response.body, Body::Stream(_));
        let last = last || is_stream || self.slot.is_closed();
        Ok(Answer { response, with_body, last })
    }

    fn read_head(&mut self) -> Result<Head, Failure> {
        let mut seen = 0;
        loop {
            if let Some(head) = head::read(&self.buffer, seen, self.limits.head)? {
                return Ok(head);
            }
            seen = self.buffer.len();
            // A peer that has sent nothing gets no answer when its time is over.
            let silent = self.buffer.is_empty();
            self.fill()
                .map_err(|error| if silent { Failure::Gone(error) } else { error.into() })?;
            if silent {
                self.slot.enter(State::Receiving);
            }
        }
    }

    fn read_body(&mut self, mut body: BodyReader) -> Result<Vec<u8>, Failure> {
        loop {
            let taken = body.take(&self.buffer)?;
            self.buffer.drain(..taken);
            if body.is_done() {
                return Ok(body.into_body());
            }
            self.fill()?;
        }
    }

    /// Waits for the first byte of the next request; false if none comes.
    fn another_begins(&mut self) -> io::Result<bool> {
        if self.buffer.is_empty() {
            self.slot.enter(State::Idle);
            self.until = Instant::now() + self.limits.idle;
            match self.fill() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.slot.enter(State::Receiving);
        self.until = Instant::now() + self.limits.request;
        Ok(true)
    }

    fn send(&mut self, answer: Answer) -> io::Result<()> {
        let Answer { response, with_body, last } = answer;
        self.until = Instant::now() + self.limits.answer;
        let mut bytes = response.head(last);
        // From here on the connection gives way to others, so that a peer keeps no slot by not reading its answer.
        // A stream does not: its peer waits for the next piece.
        let is_stream = matches!(response.body, Body::Stream(_)) && with_body;
        self.slot.enter(if is_stream { State::Streaming } else { State::Sending });
        match response.body {
            Body::Whole(body) if with_body => {
                bytes.extend_from_slice(&body);
                self.write(&bytes)
            }
            Body::Stream(pieces) if with_body => {
                self.write(&bytes)?;
                for piece in pieces {
                    if self.slot.is_closed() {
                        break;
                    }
                    self.until = Instant::now() + self.limits.answer;
                    self.write(&piece)?;
                    // What the next piece takes from somewhere is for somebody who is there.
                    if self.is_left()? {
                        break;
                    }
                }
                Ok(())
            }
            _ => self.write(&bytes),
        }
    }

    /// Whether the peer has ended its side.
    fn is_left(&self) -> io::Result<bool> {
        self.stream.set_nonblocking(true)?;
        let seen = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        Ok(match seen {
            Ok(count) => count == 0,
            Err(error) => {
                !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
            }
        })
    }

    /// Says that no more comes, and waits a moment for the peer to have read it.
    fn end(&mut self) -> io::Result<()> {
        self.slot.enter(State::Ending);
        self.until = Instant::now() + self.limits.request;
        self.stream.shutdown(Shutdown::Write)?;
        let mut ignored = 0;
        while ignored < IGNORED {
            self.buffer.clear();
            if self.fill().is_err() {
                break;
            }
            ignored += self.buffer.len();
        }
        Ok(())
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    /// Waits for more bytes, of which there is at least one.
    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        let read = loop {
            self.stream.set_read_timeout(Some(self.left()?))?;
            match self.stream.read(&mut chunk) {
                // The process was stopped and continued, or is traced: that says nothing of the peer.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            // How a time-out is called differs from system to system.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
