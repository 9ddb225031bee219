//! From the bytes of a head to a request, and how the body after it is delimited. Pure.
//!
//! Where a proxy in front and this program could read the same bytes differently, one request can be
//! hidden in another ("smuggling"); whatever leaves room for that is refused.

use std::net::Ipv6Addr;

use super::message::Request;

/// Headers of a request.
const HEADERS: usize = 100;

/// How the body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Nothing,
    Length(u64),
    Chunked,
}

/// The head of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) request: Request,
    /// Bytes of the head itself.
    pub(super) len: usize,
    pub(super) framing: Framing,
    /// Whether the peer may send another request on this connection.
    pub(super) keep_alive: bool,
    /// Whether the peer waits to be told to send its body.
    pub(super) expects_continue: bool,
}

/// Why bytes are no request that can be taken, and the status that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) why: &'static str,
}

pub(super) fn bad(why: &'static str) -> Refusal {
    Refusal { status: 400, why }
}

/// How far a head has come that arrives in pieces. Reading it from its beginning after every byte would cost
/// the square of its length.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes that were looked at for the end of the head.
    seen: usize,
    /// Bytes there were when the head was last read.
    tried: usize,
}

impl Progress {
    /// The head that `bytes` begin with, which are those of the last call and more; `None` until it is whole.
    /// What cannot become one is refused when there are twice as many bytes, at the latest.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Option<Head>, Refusal> {
        let new = &bytes[self.seen.saturating_sub(3).min(bytes.len())..];
        let ends = new.windows(2).any(|pair| pair == b"\n\n")
            || new.windows(3).any(|three| three == b"\n\r\n");
        self.seen = bytes.len();
        if !ends && bytes.len() < 2 * self.tried {
            return Ok(None);
        }
        self.tried = bytes.len();
        read(bytes)
    }
}

/// The head that these bytes begin with; `None` until it is whole.
fn read(bytes: &[u8]) -> Result<Option<Head>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let len = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal { status: 431, why: "there are more than 100 headers" });
        }
        Err(_) => return Err(bad("this is not an HTTP/1.1 request")),
    };
    // The parser takes a bare LF for the end of a line; others take it for a part of the header.
    if bytes[..len].split_inclusive(|byte| *byte == b'\n').any(|line| !line.ends_with(b"\r\n")) {
        return Err(bad("a line of the request head does not end in CR LF"));
    }
    let (authority, target) = target(parsed.path.unwrap_or_default())?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let headers = parsed.headers.iter().map(|header| {
        let value = String::from_utf8_lossy(header.value);
        (header.name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
    });
    let mut request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: if path.is_empty() { "/" } else { path }.to_owned(),
        query,
        headers: headers.collect(),
        ..Request::default()
    };
    let current = parsed.version == Some(1);
    request.is_http10 = !current;
    match request.headers_of("Host").count() {
        0 if current => return Err(bad("the header Host is missing")),
        0 | 1 => {}
        _ => return Err(bad("there is more than one header Host")),
    }
    if request.header("Host").is_some_and(|host| !is_host(host)) {
        return Err(bad("the header Host is not a name with or without a port"));
    }
    if let Some(authority) = authority {
        // RFC 9112, section 3.2.2: the target counts, whatever the header says.
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Host"));
        request.headers.push(("Host".into(), authority.to_owned()));
    }
    let framing = framing(&request, current)?;
    let closes = tokens(&request, "Connection").any(|token| token.eq_ignore_ascii_case("close"));
    let expects_continue = match request.header("Expect") {
        None => false,
        Some(what) if what.eq_ignore_ascii_case("100-continue") => current,
        Some(_) => return Err(Refusal { status: 417, why: "only 100-continue can be expected" }),
    };
    Ok(Some(Head { request, len, framing, keep_alive: current && !closes, expects_continue }))
}

/// What names a host in a request target, which only one in absolute form has, and the path with its query.
fn target(text: &str) -> Result<(Option<&str>, &str), Refusal> {
    let refused =
        bad("the request target is not a path, such as /v1/clients, nor an address with one");
    if text.contains('#') {
        return Err(bad("a request target has no fragment"));
    }
    if text.starts_with('/') {
        return Ok((None, text));
    }
    let (scheme, rest) = text.split_once("://").ok_or(refused)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let is_http = ["http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme));
    match is_http && is_host(authority) {
        true => Ok((Some(authority), path)),
        false => Err(refused),
    }
}

/// Whether this is a host with or without a port, as `Host` has it. Narrower than the grammar, which allows
/// signs that no name has and that programs read differently.
pub(super) fn is_host(text: &str) -> bool {
    let (is_name, rest) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, rest)) => (address.parse::<Ipv6Addr>().is_ok(), rest),
        None => {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_sign =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            (!name.is_empty() && name.bytes().all(is_sign), rest)
        }
    };
    let port = rest.strip_prefix(':').unwrap_or(rest);
    is_name
        && (rest.is_empty() || rest.starts_with(':'))
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && (port.is_empty() || port.parse::<u16>().is_ok())
}

fn framing(request: &Request, current: bool) -> Result<Framing, Refusal> {
    let mut lengths = request.headers_of("Content-Length");
    let mut codings = request.headers_of("Transfer-Encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Framing::Nothing),
        (Some(_), Some(_)) => Err(bad("Content-Length and Transfer-Encoding exclude each other")),
        (Some(length), None) => {
            if lengths.next().is_some() {
                return Err(bad("there is more than one header Content-Length"));
            }
            // `parse` alone would take a sign.
            let digits = length.bytes().all(|byte| byte.is_ascii_digit());
            let length = digits.then(|| length.parse().ok()).flatten();
            length.map(Framing::Length).ok_or(bad("Content-Length is not a number of bytes"))
        }
        (None, Some(_)) if !current => Err(bad("HTTP/1.0 has no Transfer-Encoding")),
        (None, Some(coding)) => {
            if coding.eq_ignore_ascii_case("chunked") && codings.next().is_none() {
                return Ok(Framing::Chunked);
            }
            Err(Refusal { status: 501, why: "the only Transfer-Encoding here is chunked" })
        }
    }
}

/// The entries of a header that is a list.
fn tokens<'a>(request: &'a Request, name: &'a str) -> impl Iterator<Item = &'a str> {
    request.headers_of(name).flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<Head, Refusal> {
        read(text.as_bytes()).map(|head| head.expect("a whole head"))
    }

    /// A request with these further header lines.
    fn with(lines: &str) -> Result<Head, Refusal> {
        whole(&format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let text = "GET /stats?x=1?2 HTTP/1.1\r\nhost: a:1\r\nX:  y \r\n\r\n";
        let bytes = [text, "GET / HTTP"].concat();
        for len in 0..text.len() {
            assert_eq!(read(&bytes.as_bytes()[..len]), Ok(None), "{len}");
        }
        let head = whole(&bytes).unwrap();
        assert_eq!((head.len, head.framing), (text.len(), Framing::Nothing));
        let Request { method, path, query, .. } = &head.request;
        assert_eq!((&**method, &**path, query.as_deref()), ("GET", "/stats", Some("x=1?2")));
        assert_eq!(
            (head.request.header("Host"), head.request.header("x")),
            (Some("a:1"), Some("y"))
        );
        assert!(head.keep_alive && !head.expects_continue);
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_not_read_for_each() {
        let text = format!("\r\nGET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(9000));
        let (mut progress, mut cost, mut tried) = (Progress::default(), 0, 0);
        for len in 1..text.len() {
            assert_eq!(progress.read(&text.as_bytes()[..len]), Ok(None), "{len}");
            if progress.tried != tried {
                (cost, tried) = (cost + len, progress.tried);
            }
        }
        assert!(cost < 4 * text.len(), "{cost}");
        assert!(progress.read(text.as_bytes()).unwrap().is_some());
        let mut early = Progress::default();
        assert_eq!(early.read(b"\x16\x03\x01").map_err(|refusal| refusal.status), Err(400));
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for host in
            ["a", "a:", "a:1", "im-0.example.com:65535", "127.0.0.1:1", "[::1]", "[::1]:7001"]
        {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "", ":1", "a b", "a/x", "u@a", "a, b", "a,b", "a:b", "a:1:2", "a:65536", "[::1", "[x]",
            "::1", "a?", "[::1]x", "a:-1", "é",
        ] {
            assert!(!is_host(host), "{host}");
            let lines = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(whole(&lines).map_err(|refusal| refusal.status), Err(400), "{host}");
        }
    }

    #[test]
    fn bodies_are_delimited_in_one_way() {
        assert_eq!(with("Content-Length: 12\r\n").unwrap().framing, Framing::Length(12));
        assert_eq!(with("transfer-encoding: Chunked\r\n").unwrap().framing, Framing::Chunked);
        for (lines, status) in [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", 400),
            ("Content-Length: 1\r\nContent-Length: 1\r\n", 400),
            ("Content-Length: 1, 1\r\n", 400),
            ("Content-Length: +1\r\n", 400),
            ("Content-Length: 0x1\r\n", 400),
            ("Content-Length: \r\n", 400),
            ("Content-Length: 99999999999999999999\r\n", 400),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501),
            ("Transfer-Encoding: identity\r\n", 501),
            // A header that goes on in the next line, and blanks before the colon.
            ("X: a\r\n Content-Length: 1\r\n", 400),
            ("Content-Length : 1\r\n", 400),
            ("X: a\rContent-Length: 1\r\n", 400),
            ("X: a\nContent-Length: 1\r\n", 400),
            ("X: a\r\n\n", 400),
            ("Host: b\r\n", 400),
            ("Expect: more\r\n", 417),
        ] {
            assert_eq!(with(lines).map_err(|refusal| refusal.status), Err(status), "{lines:?}");
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(whole(old).map_err(|refusal| refusal.status), Err(400));
    }

    #[test]
    fn other_versions_and_targets() {
        assert!(!whole("GET / HTTP/1.0\r\n\r\n").unwrap().keep_alive);
        assert!(!with("Connection: x, Close\r\n").unwrap().keep_alive);
        assert!(with("Expect: 100-Continue\r\n").unwrap().expects_continue);
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(whole(text).map_err(|refusal| refusal.status), Err(400), "{text:?}");
        }
        for (target, host, path, query) in [
            ("http://a:1/x?y", "a:1", "/x", Some("y")),
            ("HTTPS://im.example.com", "im.example.com", "/", None),
            ("http://[::1]?y", "[::1]", "/", Some("y")),
        ] {
            let request =
                whole(&format!("GET {target} HTTP/1.1\r\nHost: b\r\n\r\n")).unwrap().request;
            assert_eq!(request.headers_of("host").collect::<Vec<_>>(), [host]);
            assert_eq!((&*request.path, request.query.as_deref()), (path, query), "{target}");
        }
        let many = "X: y\r\n".repeat(HEADERS);
        assert_eq!(with(&many).map_err(|refusal| refusal.status), Err(431));
    }
}
