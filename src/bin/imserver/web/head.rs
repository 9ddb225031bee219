//! From the bytes of a head to a request, and how the body after it is delimited. Pure.
//!
//! Where a proxy in front and this program could read the same bytes differently, one request can be
//! hidden in another ("smuggling"); whatever leaves room for that is refused.

use std::net::Ipv6Addr;

use imcore::http::{self, Fault};

use super::message::Request;

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

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        let (status, why) = match fault {
            Fault::NotHttp => (400, "this is not an HTTP/1.1 request"),
            Fault::BareLineFeed => (400, "a line of the request head does not end in CR LF"),
            Fault::TooLong => (431, "the request head is too long"),
            Fault::TooManyHeaders => (431, "there are more than 100 headers"),
        };
        Refusal { status, why }
    }
}

/// The request that `bytes` begin with, whose head has at most `limit` bytes; `None` until that is whole. So many
/// bytes were `seen` at the last call.
pub(super) fn read(bytes: &[u8], seen: usize, limit: usize) -> Result<Option<Head>, Refusal> {
    http::read_head(bytes, seen, limit, interpret)?.transpose()
}

/// What a head asks for, if there are no two ways to read it.
fn interpret(head: &http::Head) -> Result<Head, Refusal> {
    let (authority, target) = target(head.target)?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let headers = head
        .headers()
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()));
    let mut request = Request {
        method: head.method.to_owned(),
        path: if path.is_empty() { "/" } else { path }.to_owned(),
        query,
        headers: headers.collect(),
        is_http10: head.is_http10,
        ..Request::default()
    };
    let current = !head.is_http10;
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
    let keep_alive = current && !closes;
    Ok(Head { request, len: head.len, framing, keep_alive, expects_continue })
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
        read(text.as_bytes(), 0, 8192).map(|head| head.expect("a whole head"))
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
            assert_eq!(read(&bytes.as_bytes()[..len], 0, 8192), Ok(None), "{len}");
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
        let many = "X: y\r\n".repeat(100);
        assert_eq!(with(&many).map_err(|refusal| refusal.status), Err(431));
    }
}
