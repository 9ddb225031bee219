//! The head of one request: where it ends, that it can be read in one way only, and its parts. Pure.

/// Headers that are looked at, as many as the original took; a head with more is refused.
const MAX_HEADERS: usize = 100;

/// Why bytes are no head that can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not HTTP/1.0 or 1.1.
    NotHttp,
    /// A line ends in LF alone. Some programs take that for the end of a line and others for a part of it: what
    /// one of them reads as one request can be two to the next.
    BareLineFeed,
    /// Longer than the limit.
    TooLong,
    /// More than 100 headers.
    TooManyHeaders,
}

/// A whole head.
#[derive(Debug)]
pub struct Head<'h, 'b> {
    /// As it was sent: `GET`.
    pub method: &'b str,
    /// As it was sent: still percent-encoded, with its query.
    pub target: &'b str,
    /// Whether it is HTTP/1.0; otherwise it is 1.1.
    pub is_http10: bool,
    /// Bytes of the head, with empty lines in front of it; what follows is not looked at.
    pub len: usize,
    headers: &'h [httparse::Header<'b>],
}

impl<'b> Head<'_, 'b> {
    /// Names as they were sent, and values without blanks around them, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.headers.iter().map(|header| (header.name, header.value.trim_ascii()))
    }

    /// The values of all headers called `name`, in any case.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.headers()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of a header that stands once.
    pub fn only(&self, name: &str) -> Option<&'b [u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// Whether `word` is in a comma-separated list, over all headers called `name`.
    pub fn has_word(&self, name: &str, word: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// What `take` makes of the head that `bytes` begin with, which has at most `limit` bytes; `None` until it is whole.
/// Of the bytes the first `seen` were there at the last call, which gave `None`: a head that arrives in pieces is
/// not searched anew for each.
///
/// # Errors
/// As soon as it is sure that no head comes: at the first byte, or at the end of the request line or of another line.
pub fn read_head<T>(
    bytes: &[u8],
    seen: usize,
    limit: usize,
    take: impl FnOnce(&Head) -> T,
) -> Result<Option<T>, Fault> {
    let bounded = &bytes[..bytes.len().min(limit)];
    let request = request_line(bounded);
    let start = bounded.len() - request.len();
    // A single CR may be half of an empty line.
    if request.first().is_some_and(|byte| !byte.is_ascii_graphic()) && request != b"\r" {
        return Err(Fault::NotHttp);
    }
    let seen = seen.saturating_sub(start).min(request.len());
    let end = end_of_head(request, seen);
    if let Ok(Some(end)) = end {
        return parse(&request[..end], start, take).map(Some);
    }
    check_request_line(request, seen)?;
    match end {
        Ok(_) if bytes.len() >= limit => Err(Fault::TooLong),
        Ok(_) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// `bytes` from the request line on: empty lines may stand in front of it (RFC 9112, section 2.2).
pub fn request_line(bytes: &[u8]) -> &[u8] {
    let empty = bytes.chunks_exact(2).take_while(|line| *line == b"\r\n").count();
    &bytes[empty * 2..]
}

/// Whether the request that begins with `bytes` is one whose answer has no body.
pub fn is_head_request(bytes: &[u8]) -> bool {
    request_line(bytes).starts_with(b"HEAD ")
}

/// How many bytes go up to the first empty line, and with it; the first `seen` were looked at before.
fn end_of_head(request: &[u8], seen: usize) -> Result<Option<usize>, Fault> {
    let mut at = seen;
    while let Some(next) = request[at..].iter().position(|byte| *byte == b'\n') {
        at += next + 1;
        match &request[..at] {
            [.., b'\n', b'\r', b'\n'] => return Ok(Some(at)),
            [.., b'\r', b'\n'] => {}
            _ => return Err(Fault::BareLineFeed),
        }
    }
    Ok(None)
}

/// Refuses what is no request once its first line has come; the first `seen` bytes were checked before.
fn check_request_line(request: &[u8], seen: usize) -> Result<(), Fault> {
    if !request[seen..].contains(&b'\n') {
        return Ok(());
    }
    match request.iter().position(|byte| *byte == b'\n') {
        Some(end) if end >= seen && request[..end].ends_with(b"\r") => {
            let line = httparse::Request::new(&mut []).parse(&request[..=end]);
            line.map(drop).map_err(|_| Fault::NotHttp)
        }
        _ => Ok(()),
    }
}

/// What `take` makes of a whole head, which stands at `start`.
fn parse<T>(head: &[u8], start: usize, take: impl FnOnce(&Head) -> T) -> Result<T, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::TooManyHeaders),
        Ok(_) | Err(_) => return Err(Fault::NotHttp),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Fault::NotHttp);
    };
    let (is_http10, len) = (version == 0, start + head.len());
    Ok(take(&Head { method, target, is_http10, len, headers: request.headers }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1024;

    fn fault(text: &str) -> Option<Fault> {
        read_head(text.as_bytes(), 0, LIMIT, |_| ()).err()
    }

    #[test]
    fn a_head_is_whole_with_its_empty_line() {
        let text = "\r\n\r\nGET /x?y HTTP/1.1\r\nHost: a\r\nX: 1\r\nx:  2, Three \r\n\r\n";
        for len in 0..text.len() {
            assert_eq!(read_head(&text.as_bytes()[..len], 0, LIMIT, |_| ()), Ok(None), "{len}");
        }
        let bytes = [text, "rest"].concat();
        for seen in 0..text.len() {
            let read = read_head(bytes.as_bytes(), seen, LIMIT, |head| {
                assert_eq!((head.method, head.target, head.len), ("GET", "/x?y", text.len()));
                assert!(!head.is_http10);
                assert_eq!(head.only("HOST"), Some(&b"a"[..]));
                assert_eq!((head.only("x"), head.all("x").count()), (None, 2));
                assert!(head.has_word("X", "three") && !head.has_word("X", "thre"));
                assert_eq!(head.headers().last(), Some(("x", &b"2, Three"[..])));
            });
            assert_eq!(read, Ok(Some(())), "{seen}");
        }
    }

    #[test]
    fn every_line_ends_in_cr_lf() {
        for text in [
            "GET / HTTP/1.1\n",
            "GET / HTTP/1.1\r\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(fault(text), Some(Fault::BareLineFeed), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_request_is_told_early() {
        for text in ["\u{16}\u{3}\u{1}", "\n", " ", "EHLO x\r\n", "GET /\r\n", "PRI * HTTP/2.0\r\n"]
        {
            assert_eq!(fault(text), Some(Fault::NotHttp), "{text:?}");
        }
        for text in ["GET / HTTP/1.1\r\nBad Header\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"]
        {
            assert_eq!(fault(text), Some(Fault::NotHttp), "{text:?}");
        }
        for text in ["", "\r", "\r\n\r", "EHLO x", "GET / HTTP/1.1\r\nBad Header\r\n"] {
            assert_eq!(fault(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_head_has_bounds() {
        let head = |len: usize| {
            let text = "GET / HTTP/1.1\r\nX: \r\n\r\n";
            text.replace("X: ", &format!("X: {}", "x".repeat(len - text.len())))
        };
        assert_eq!(fault(&head(LIMIT)), None);
        assert_eq!(fault(&head(LIMIT + 1)), Some(Fault::TooLong));
        assert_eq!(fault(&"\r\n".repeat(LIMIT / 2)), Some(Fault::TooLong));
        let many = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert_eq!(fault(&many(MAX_HEADERS)), None);
        assert_eq!(fault(&many(MAX_HEADERS + 1)), Some(Fault::TooManyHeaders));
    }

    #[test]
    fn requests_that_are_answered_without_a_body() {
        assert!(is_head_request(b"\r\nHEAD / HTTP/1.1"));
        assert!(!is_head_request(b"HEADER") && !is_head_request(b"\r"));
    }
}
