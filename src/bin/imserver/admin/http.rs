//! One HTTP request and its answer on one connection, within fixed bounds of time and size.
//!
//! Deliberately small: no bodies, no keep-alive. A server crate that was tried for this reads heads
//! without a time-out and without a bound on their length, which an operator's port must not do.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

/// Time for all of a connection.
const TIME: Duration = Duration::from_secs(5);
/// Longest request head.
const HEAD: usize = 8 << 10;
/// Headers that are looked at.
const HEADERS: usize = 64;
/// What a peer may send after its head before it is cut: closing with unread input would reset the
/// connection and take the answer with it.
const IGNORED: usize = 64 << 10;

/// What matters of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    pub(super) host: Option<String>,
    /// What follows `Bearer` in `Authorization`.
    pub(super) bearer: Option<String>,
}

/// What is answered.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Response {
    /// One line for a person, or a program that looks at the status.
    pub(super) fn line(status: u16, text: &str) -> Response {
        let body = format!("{text}\n");
        Response { status, content_type: "text/plain; charset=utf-8", body }
    }

    fn bytes(&self, with_body: bool) -> Vec<u8> {
        let phrase = match self.status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            _ => "Service Unavailable",
        };
        let extra = match self.status {
            401 => "WWW-Authenticate: Bearer realm=\"imserver\"\r\n",
            405 => "Allow: GET, HEAD\r\n",
            _ => "",
        };
        let head = format!(
            "HTTP/1.1 {} {phrase}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
             Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'; connect-src 'self'; img-src data:\r\n{extra}\r\n",
            self.status,
            self.content_type,
            self.body.len(),
        );
        let body = if with_body { self.body.as_str() } else { "" };
        [head.as_bytes(), body.as_bytes()].concat()
    }
}

/// Reads one request, answers it and closes. Whatever goes wrong with the peer ends here.
pub(super) fn serve(stream: TcpStream, answer: impl FnOnce(&Request) -> Response) {
    let peer = Peer { stream, until: Instant::now() + TIME };
    if let Err(error) = peer.converse(answer) {
        log::trace!("admin: a request was given up: {error}");
    }
}

struct Peer {
    stream: TcpStream,
    until: Instant,
}

impl Peer {
    fn converse(&self, answer: impl FnOnce(&Request) -> Response) -> io::Result<()> {
        let mut head = Vec::new();
        let (response, with_body) = loop {
            match read_head(&head) {
                Ok(Some(request)) => break (answer(&request), request.method != "HEAD"),
                Ok(None) if head.len() >= HEAD => {
                    break (Response::line(431, "the request head is too long"), true);
                }
                Ok(None) => {}
                Err(why) => break (Response::line(400, why), true),
            }
            let mut chunk = [0; 2048];
            let count = self.read(&mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            head.extend_from_slice(&chunk[..count]);
        };
        self.write(&response.bytes(with_body))?;
        self.stream.shutdown(Shutdown::Write)?;
        let mut chunk = [0; 4096];
        let mut ignored = 0;
        while ignored < IGNORED {
            match self.read(&mut chunk)? {
                0 => break,
                count => ignored += count,
            }
        }
        Ok(())
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    fn read(&self, chunk: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        (&self.stream).read(chunk)
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match (&self.stream).write(bytes)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => bytes = &bytes[count..],
            }
        }
        Ok(())
    }
}

/// The request whose head these bytes begin with; `None` until it is whole.
fn read_head(bytes: &[u8]) -> Result<Option<Request>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Err(_) => return Err("this is not an HTTP/1.1 request"),
        Ok(status) if status.is_partial() => return Ok(None),
        Ok(_) => {}
    }
    let value = |name: &str| {
        let header =
            request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok().map(str::trim)
    };
    let bearer = value("Authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim().to_owned())
    });
    let target = request.path.unwrap_or_default();
    Ok(Some(Request {
        method: request.method.unwrap_or_default().to_owned(),
        path: target.split('?').next().unwrap_or_default().to_owned(),
        host: value("Host").map(str::to_owned),
        bearer,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let head =
            b"GET /stats?x=1 HTTP/1.1\r\nhost: a:1\r\nAUTHORIZATION: bearer  secret \r\n\r\n";
        for len in 0..head.len() {
            assert_eq!(read_head(&head[..len]), Ok(None), "{len}");
        }
        let request = read_head(head).unwrap().unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/stats"));
        assert_eq!(
            (request.host.as_deref(), request.bearer.as_deref()),
            (Some("a:1"), Some("secret"))
        );
        assert!(read_head(b"\x16\x03\x01").is_err());
    }

    #[test]
    fn a_head_request_gets_the_length_but_no_body() {
        let text = String::from_utf8(Response::line(200, "live").bytes(false)).unwrap();
        assert!(text.contains("Content-Length: 5\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }
}
