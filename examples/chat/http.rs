//! HTTP/1.1 on one connection: its requests one after the other, bounded in bytes and in time.
//!
//! Called by `web`, on a thread that this connection has for itself. Knows no routes. What it takes is what a
//! browser sends and what is easy to judge: bodies state their length.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use crate::refusal::Refusal;

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// The largest body; a message of the greatest length, percent-encoded, fits.
pub(crate) const MAX_BODY: usize = 64 * 1024;
/// For all of a request, from its first byte on.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// For all of an answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// What is still taken from a peer whose request was refused half-way: else it may not see the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// One request, complete.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Vec<u8>,
    headers: Vec<(String, String)>,
    /// Whether the peer wants to send another one.
    pub(crate) keeps_alive: bool,
}

impl Request {
    /// The value of the first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(found.1.as_str())
    }

    fn count(&self, name: &str) -> usize {
        self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count()
    }

    /// How long the body is, by its head.
    fn body_length(&self) -> Result<usize, Refusal> {
        if self.count("Transfer-Encoding") > 0 {
            return Err(Refusal::new(411, "State the length of the body: Content-Length."));
        }
        let Some(text) = self.header("Content-Length") else { return Ok(0) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || self.count("Content-Length") > 1 {
            return Err(Refusal::bad("Content-Length must be there once, as a number."));
        }
        match text.parse() {
            Ok(length) if length <= MAX_BODY => Ok(length),
            _ => Err(Refusal::new(413, format!("A request has at most {MAX_BODY} bytes."))),
        }
    }
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Adds a header to the answer.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The peer went, or was silent for too long between two requests.
    Gone,
    /// It sent something that is not served; nothing after it can be made sense of.
    Refused(Refusal),
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Self {
        Unread::Refused(refusal)
    }
}

/// A peer's connection.
pub(crate) struct Connection {
    stream: TcpStream,
    /// What has been read and belongs to no request yet.
    read: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Answers are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        Connection { stream, read: Vec::new() }
    }

    /// The next request. Its first byte may take `idle`, the rest ten seconds.
    pub(crate) fn next(&mut self, idle: Duration) -> Result<Request, Unread> {
        if self.read.is_empty() && !self.fill(Instant::now() + idle)? {
            return Err(Unread::Gone);
        }
        let until = Instant::now() + REQUEST_TIME;
        let mut request = loop {
            if let Some((request, length)) = parse(&self.read)? {
                self.read.drain(..length);
                break request;
            }
            self.more(until)?;
        };
        let length = request.body_length()?;
        if length > self.read.len()
            && request
                .header("Expect")
                .is_some_and(|what| what.eq_ignore_ascii_case("100-continue"))
        {
            let go_on = Timed(&self.stream, until).write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            go_on.map_err(|_| Unread::Gone)?;
        }
        while self.read.len() < length {
            self.more(until)?;
        }
        request.body = self.read.drain(..length).collect();
        Ok(request)
    }

    /// Reads more of a request that has begun.
    fn more(&mut self, until: Instant) -> Result<(), Unread> {
        match self.fill(until)? {
            true => Ok(()),
            false => Err(Refusal::new(408, "The request did not come in time.").into()),
        }
    }

    /// Reads what is there; `false` if nothing came in time.
    fn fill(&mut self, until: Instant) -> Result<bool, Unread> {
        let mut room = [0; 8 * 1024];
        loop {
            match Timed(&self.stream, until).read(&mut room) {
                Ok(0) => return Err(Unread::Gone),
                Ok(count) => {
                    self.read.extend_from_slice(&room[..count]);
                    return Ok(true);
                }
                Err(error) if is_late(&error) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Unread::Gone),
            }
        }
    }

    /// Sends an answer; with `last` it is the last one. `without_body` is for HEAD.
    pub(crate) fn answer(
        &self,
        response: &Response,
        last: bool,
        without_body: bool,
    ) -> io::Result<()> {
        let Response { status, headers, body } = response;
        let mut text = format!("HTTP/1.1 {status} {}\r\n", phrase(*status));
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        let connection = if last { "close" } else { "keep-alive" };
        text += &format!("Content-Length: {}\r\nConnection: {connection}\r\n\r\n", body.len());
        let mut bytes = text.into_bytes();
        if !without_body {
            bytes.extend_from_slice(body);
        }
        Timed(&self.stream, Instant::now() + ANSWER_TIME).write_all(&bytes)
    }

    /// Closes so that the peer can read the answer, although it may still be sending.
    pub(crate) fn linger(self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut rest = Timed(&self.stream, Instant::now() + LINGER).take(LINGER_BYTES as u64);
        let _ = io::copy(&mut rest, &mut io::sink());
    }
}

/// A stream whose reads and writes all end at one moment, however small the steps of the peer are.
struct Timed<'a>(&'a TcpStream, Instant);

impl Timed<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.1.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.set_read_timeout(Some(self.left()?))?;
        self.0.read(room)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set_write_timeout(Some(self.left()?))?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_late(error: &io::Error) -> bool {
    // The system calls a time-out one or the other.
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// The head at the beginning of `bytes` and its length; `None` if it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, "The head of the request is too large."));
        }
        Err(error) => return Err(Refusal::bad(format!("This is not HTTP: {error}."))),
    };
    let headers = head.headers.iter().map(|header| {
        let value = String::from_utf8_lossy(header.value).trim().to_owned();
        (header.name.to_owned(), value)
    });
    let target = path_of(head.path.unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        body: Vec::new(),
        headers: headers.collect(),
        keeps_alive: head.version == Some(1),
    };
    if request.header("Connection").is_some_and(|value| value.to_lowercase().contains("close")) {
        request.keeps_alive = false;
    }
    Ok(Some((request, length)))
}

/// A target may name scheme and host as well, as to a proxy.
fn path_of(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |begin| &rest[begin..])
        }
        _ => target,
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, Refusal> {
        let (request, length) = parse(text.as_bytes())?.expect("a whole head");
        assert_eq!(length, text.len());
        request.body_length().map(|_| request)
    }

    #[test]
    fn heads_are_taken_apart() {
        let request = read("POST /a?b=1 HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\n\r\n").unwrap();
        assert_eq!((request.path.as_str(), request.query.as_str()), ("/a", "b=1"));
        assert_eq!((request.header("HOST"), request.body_length()), (Some("x"), Ok(3)));
        assert!(request.keeps_alive);
        assert_eq!(read("GET http://h:1/a HTTP/1.1\r\n\r\n").unwrap().path, "/a");
        assert_eq!(read("GET http://h HTTP/1.1\r\n\r\n").unwrap().path, "/");
        assert!(!read("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n").unwrap().keeps_alive);
        assert!(!read("GET / HTTP/1.0\r\n\r\n").unwrap().keeps_alive);
        assert!(parse(b"GET / HTTP/1.1\r\nHo").unwrap().is_none());
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        let head =
            |lines: &str| read(&format!("POST / HTTP/1.1\r\n{lines}\r\n")).unwrap_err().status;
        assert_eq!(head("Content-Length: -1\r\n"), 400);
        assert_eq!(head("Content-Length: +1\r\n"), 400);
        assert_eq!(head("Content-Length:\r\n"), 400);
        assert_eq!(head("Content-Length: 1\r\nContent-Length: 1\r\n"), 400);
        assert_eq!(head("Content-Length: 65537\r\n"), 413);
        assert_eq!(head("Content-Length: 99999999999999999999999\r\n"), 413);
        assert_eq!(head("Transfer-Encoding: chunked\r\n"), 411);
        assert_eq!(parse(b"\x16\x03\x01\x02").unwrap_err().status, 400);
        assert_eq!(parse(&[b'a'; MAX_HEAD]).unwrap_err().status, 431);
        let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
        assert_eq!(
            parse(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).unwrap_err().status,
            431
        );
    }
}
