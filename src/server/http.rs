//! A bounded request head in, an upgrade or a refusal out.
//!
//! Pure: the acceptor hands in what it has read so far. Routing follows the original: the path matches
//! by whole segments without regard to case, the token is the query parameter `token` in any case.

use std::{borrow::Cow, fmt::Write as _, net::IpAddr};

use tungstenite::handshake::derive_accept_key;

use super::peer::last_forwarded;

/// Headers that are looked at; a head with more is refused as too large.
const MAX_HEADERS: usize = 64;

/// What decides whether a request may become a WebSocket.
#[derive(Debug)]
pub(super) struct Rules {
    /// Path of the endpoint.
    pub(super) path: String,
    /// Origins that may connect; empty allows any.
    pub(super) origins: Vec<String>,
    /// Longest head in bytes.
    pub(super) head_bytes: usize,
    /// Whether `X-Forwarded-For` is believed.
    pub(super) forwarded: bool,
}

/// A request that may become a WebSocket once its ticket is found good.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Upgrade {
    /// The connect token.
    pub(super) token: String,
    /// The finished 101 response.
    pub(super) response: String,
    /// Bytes of the head; what follows it are frames.
    pub(super) head_len: usize,
    /// The peer's address as a trusted proxy gives it.
    pub(super) forwarded: Option<IpAddr>,
}

/// What the bytes read so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// More bytes are needed.
    Incomplete,
    /// A well-formed upgrade with a token.
    Upgrade(Upgrade),
    /// Turned away.
    Refused(Refusal),
}

/// Why a handshake was turned away: an HTTP status, and one line for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    NotHttp,
    NotTls,
    BadKey,
    NoToken,
    BadToken,
    BadTicket,
    Origin,
    Path,
    Method,
    TimedOut,
    OtherNode,
    NotUpgrade,
    Version,
    HeadTooLarge,
    AddressBusy,
    Full,
    Draining,
    NoBroker,
}

impl Refusal {
    /// Status code, reason phrase and explanation.
    fn parts(self) -> (u16, &'static str, &'static str) {
        const DENIED: (u16, &str) = (401, "Unauthorized");
        const BUSY: (u16, &str) = (503, "Service Unavailable");
        const UPGRADE: (u16, &str) = (426, "Upgrade Required");
        const BAD: (u16, &str) = (400, "Bad Request");
        let ((status, phrase), why) = match self {
            Refusal::NotHttp => (BAD, "this is not an HTTP/1.1 request"),
            Refusal::NotTls => (BAD, "this port speaks TLS: the address begins with wss://"),
            Refusal::BadKey => (BAD, "Sec-WebSocket-Key must be 16 bytes in base64"),
            Refusal::NoToken => (DENIED, "the query parameter token is missing"),
            Refusal::BadToken => {
                (DENIED, "the token is unknown, used or expired; get a new address")
            }
            Refusal::BadTicket => (DENIED, "the token stands for something that is not a ticket"),
            Refusal::Origin => ((403, "Forbidden"), "this Origin may not connect"),
            Refusal::Path => ((404, "Not Found"), "no WebSocket endpoint at this path"),
            Refusal::Method => ((405, "Method Not Allowed"), "only GET can be upgraded"),
            Refusal::TimedOut => ((408, "Request Timeout"), "the handshake took too long"),
            Refusal::OtherNode => (
                (421, "Misdirected Request"),
                "this client belongs to another node; check that all servers lists are the same",
            ),
            Refusal::NotUpgrade => (UPGRADE, "this endpoint speaks WebSocket only"),
            Refusal::Version => (UPGRADE, "only WebSocket version 13 is supported"),
            Refusal::AddressBusy => (
                (429, "Too Many Requests"),
                "too many handshakes from this address at the same time",
            ),
            Refusal::HeadTooLarge => {
                ((431, "Request Header Fields Too Large"), "the request head is too large")
            }
            Refusal::Full => (BUSY, "this node is full"),
            Refusal::Draining => (BUSY, "this node is stopping"),
            Refusal::NoBroker => (BUSY, "the broker cannot be reached"),
        };
        (status, phrase, why)
    }

    /// The HTTP status.
    pub(super) fn status(self) -> u16 {
        self.parts().0
    }

    /// The explanation.
    pub(super) fn why(self) -> &'static str {
        self.parts().2
    }

    /// The finished response; the connection is closed after it.
    pub(super) fn response(self) -> String {
        let (status, phrase, why) = self.parts();
        let extra = match status {
            405 => "Allow: GET\r\n",
            426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            429 | 503 => "Retry-After: 1\r\n",
            _ => "",
        };
        let connection = if status == 426 { "Upgrade, close" } else { "close" };
        let length = why.len() + 1;
        format!(
            "HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: {connection}\r\n{extra}\r\n{why}\n"
        )
    }
}

/// Reads the head at the start of `bytes`, of which `seen` were there the last time.
pub(super) fn read_head(bytes: &[u8], seen: usize, rules: &Rules) -> Head {
    // A TLS hello or any other binary is told at once rather than at the time-out.
    if bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
        return Head::Refused(Refusal::NotHttp);
    }
    let from = seen.saturating_sub(3);
    let end = bytes[from..].windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end.map(|end| from + end) else {
        let too_large = bytes.len() >= rules.head_bytes;
        return if too_large { Head::Refused(Refusal::HeadTooLarge) } else { Head::Incomplete };
    };
    if end + 4 > rules.head_bytes {
        return Head::Refused(Refusal::HeadTooLarge);
    }
    judge(&bytes[..end + 4], rules).map_or_else(Head::Refused, Head::Upgrade)
}

/// A whole head that may be upgraded, or what is wrong with it.
fn judge(head: &[u8], rules: &Rules) -> Result<Upgrade, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        // It takes bare line feeds for line ends: then the head was over before what we take for its end.
        Ok(_) => return Err(Refusal::NotHttp),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Err(_) => return Err(Refusal::NotHttp),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Refusal::NotHttp);
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path_matches(path, &rules.path) {
        return Err(Refusal::Path);
    }
    if method != "GET" {
        return Err(Refusal::Method);
    }
    let headers = Headers(request.headers);
    if version == 0
        || !headers.has_word("Connection", "upgrade")
        || !headers.has_word("Upgrade", "websocket")
    {
        return Err(Refusal::NotUpgrade);
    }
    if headers.only("Sec-WebSocket-Version") != Some(b"13") {
        return Err(Refusal::Version);
    }
    let key = headers.only("Sec-WebSocket-Key").filter(|key| is_key(key)).ok_or(Refusal::BadKey)?;
    let may_connect = |origin: &[u8]| {
        rules.origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin))
    };
    if !rules.origins.is_empty() && !headers.all("Origin").all(may_connect) {
        return Err(Refusal::Origin);
    }
    let token = token(query).filter(|token| !token.is_empty()).ok_or(Refusal::NoToken)?;
    let mut response = String::with_capacity(129);
    let _ = write!(
        response,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key)
    );
    let forwarded = headers.all("X-Forwarded-For").last().filter(|_| rules.forwarded);
    let forwarded = forwarded.and_then(last_forwarded);
    Ok(Upgrade { token, response, head_len: head.len(), forwarded })
}

struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.trim_ascii())
    }

    /// The value of a header that stands once.
    fn only(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// Whether `word` is in a comma-separated list, over all headers of that name.
    fn has_word(&self, name: &str, word: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// 16 bytes in base64 (RFC 6455, section 4.1): 22 characters and two pads.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// The endpoint itself or anything below it, as the original's route matches.
fn path_matches(path: &str, endpoint: &str) -> bool {
    let endpoint = endpoint.trim_end_matches('/');
    path.get(..endpoint.len()).is_some_and(|start| start.eq_ignore_ascii_case(endpoint))
        && matches!(path.as_bytes().get(endpoint.len()), None | Some(b'/'))
}

/// The token in a query; one given twice is joined with a comma, hence unknown, as in the original.
fn token(query: &str) -> Option<String> {
    let mut values = query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        percent_decode(name).eq_ignore_ascii_case("token").then(|| percent_decode(value))
    });
    let first = values.next()?.into_owned();
    Some(values.fold(first, |joined, value| format!("{joined},{value}")))
}

fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let hex = |byte: Option<&u8>| byte.and_then(|byte| (*byte as char).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = match (hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (Some(high), Some(low)) if byte == b'%' => Some((high << 4 | low) as u8),
            _ => None,
        };
        decoded.push(escaped.unwrap_or(if byte == b'+' { b' ' } else { byte }));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /ws?token=abc HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
                        Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    fn read(head: &str) -> Head {
        let rules = Rules {
            path: "/ws".into(),
            origins: vec!["https://good.example".into()],
            head_bytes: 1024,
            forwarded: true,
        };
        read_head(head.as_bytes(), 0, &rules)
    }

    fn token_of(target: &str) -> Result<String, Refusal> {
        match read(&GOOD.replace("/ws?token=abc", target)) {
            Head::Upgrade(upgrade) => Ok(upgrade.token),
            Head::Refused(refusal) => Err(refusal),
            Head::Incomplete => panic!("incomplete"),
        }
    }

    #[test]
    fn the_answer_of_the_standard_to_the_key_of_the_standard() {
        let Head::Upgrade(upgrade) = read(&format!("{GOOD}frames")) else { panic!() };
        assert_eq!(upgrade.head_len, GOOD.len());
        assert!(
            upgrade.response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
        );
    }

    #[test]
    fn every_prefix_is_incomplete() {
        for len in 0..GOOD.len() {
            assert_eq!(read(&GOOD[..len]), Head::Incomplete, "{len}");
        }
    }

    #[test]
    fn paths_and_tokens_match_as_in_the_original() {
        for target in [
            "/ws?token=abc",
            "/ws/?token=abc",
            "/WS?token=abc",
            "/ws/room/1?token=abc",
            "/ws?TOKEN=abc",
            "/ws?a=1&token=abc&b=2",
            "/ws?token=%61b%63",
        ] {
            assert_eq!(token_of(target).as_deref(), Ok("abc"), "{target}");
        }
        assert_eq!(token_of("/ws?token=a&token=b").as_deref(), Ok("a,b"));
        for target in ["/wsx?token=a", "/?token=a", "/other?token=a"] {
            assert_eq!(token_of(target), Err(Refusal::Path), "{target}");
        }
        for target in ["/ws", "/ws?token=", "/ws?token", "/ws?tokens=a"] {
            assert_eq!(token_of(target), Err(Refusal::NoToken), "{target}");
        }
    }

    #[test]
    fn each_fault_has_its_refusal() {
        let refused = |from: &str, to: &str| match read(&GOOD.replace(from, to)) {
            Head::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("GET ", "POST "), Refusal::Method);
        assert_eq!(refused("Upgrade: WebSocket\r\n", ""), Refusal::NotUpgrade);
        assert_eq!(refused("Upgrade\r\n", "close\r\n"), Refusal::NotUpgrade);
        assert_eq!(refused("HTTP/1.1", "HTTP/1.0"), Refusal::NotUpgrade);
        assert_eq!(refused("Version: 13", "Version: 8"), Refusal::Version);
        assert_eq!(refused("dGhlIHNhbXBsZSBub25jZQ==", "short"), Refusal::BadKey);
        assert_eq!(refused("Host: h", "Origin: https://evil.example"), Refusal::Origin);
        let two = "Origin: https://good.example\r\nOrigin: https://evil.example";
        assert_eq!(refused("Host: h", two), Refusal::Origin);
        assert_eq!(refused("Host: h", "Bad Header"), Refusal::NotHttp);
        assert_eq!(refused("Host: h\r\n", "Host: h\n\n"), Refusal::NotHttp);
        assert_eq!(refused("GET", "\u{16}\u{3}\u{1}"), Refusal::NotHttp);
        assert_eq!(refused("Host: h", &format!("X: {}", "x".repeat(1024))), Refusal::HeadTooLarge);
        assert_eq!(refused("Host: h", &"A: b\r\n".repeat(70)[..418]), Refusal::HeadTooLarge);
        assert!(matches!(
            read(&GOOD.replace("Host: h", "Origin: https://good.example")),
            Head::Upgrade(_)
        ));
    }

    #[test]
    fn a_trusted_proxy_names_the_peer() {
        let head = GOOD.replace("Host: h", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 10.0.0.7");
        let Head::Upgrade(upgrade) = read(&head) else { panic!() };
        assert_eq!(upgrade.forwarded, Some([10, 0, 0, 7].into()));
    }

    #[test]
    fn a_refusal_is_a_whole_response() {
        let response = Refusal::Version.response();
        assert!(response.starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
        assert!(response.contains("Sec-WebSocket-Version: 13\r\n"));
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }
}
