//! A bounded request head in, an upgrade or a refusal out.
//!
//! Pure: the acceptor hands in what it has read so far. Routing follows the original: the path matches
//! by whole segments without regard to case, the token is the query parameter `token` in any case.

use std::{fmt::Write as _, net::IpAddr};

use tungstenite::handshake::derive_accept_key;

use super::{
    real_address::{is_proxy_header, last_forwarded},
    target::{Target, is_host},
};
use crate::server::reasons::Refusal;

/// Headers that are looked at, as many as the original took; a head with more is refused as too large.
const MAX_HEADERS: usize = 100;
/// Longest token that the broker is asked for: the helper's have 128 bytes.
const MAX_TOKEN: usize = 256;

/// What decides whether a request may become a WebSocket.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Path of the endpoint.
    pub(crate) path: String,
    /// Origins that may connect; empty allows any.
    pub(crate) origins: Vec<String>,
    /// Longest head in bytes.
    pub(crate) head_bytes: usize,
    /// Whether `X-Forwarded-For` is believed.
    pub(crate) forwarded: bool,
}

/// A request that may become a WebSocket once its ticket is found good.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upgrade {
    /// The connect token.
    pub(crate) token: String,
    /// The finished 101 response.
    pub(crate) response: String,
    /// Bytes of the head; what follows it are frames.
    pub(crate) head_len: usize,
    /// The peer's address as a trusted proxy gives it.
    pub(crate) forwarded: Option<IpAddr>,
    /// Whether sub-protocols were offered, of which none is chosen: browsers give up then.
    pub(crate) offers_protocols: bool,
}

/// What the bytes read so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// More bytes are needed.
    Incomplete,
    /// A well-formed upgrade with a token.
    Upgrade(Upgrade),
    /// Turned away.
    Refused(Refusal),
}

/// Reads the head at the start of `bytes`, of which `seen` were there the last time.
pub(crate) fn read_head(bytes: &[u8], seen: usize, rules: &Rules) -> Head {
    let start = first_line(bytes);
    // A TLS hello or any other binary is told at once rather than at the time-out.
    match bytes.get(start) {
        _ if is_proxy_header(bytes) => return Head::Refused(Refusal::UnexpectedProxyHeader),
        Some(byte) if !byte.is_ascii_uppercase() && bytes[start..] != *b"\r" => {
            return Head::Refused(Refusal::NotHttp);
        }
        _ => {}
    }
    let from = seen.saturating_sub(3).max(start).min(bytes.len());
    let end = bytes[from..].windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end.map(|end| from + end) else {
        let too_large = bytes.len() >= rules.head_bytes;
        return if too_large { Head::Refused(Refusal::HeadTooLarge) } else { Head::Incomplete };
    };
    if end + 4 > rules.head_bytes {
        return Head::Refused(Refusal::HeadTooLarge);
    }
    match judge(&bytes[start..end + 4], rules) {
        Ok(upgrade) => Head::Upgrade(Upgrade { head_len: end + 4, ..upgrade }),
        Err(refusal) => Head::Refused(refusal),
    }
}

/// Whether the request that begins with `bytes` is one whose answer has no body.
pub(crate) fn is_head_request(bytes: &[u8]) -> bool {
    bytes[first_line(bytes)..].starts_with(b"HEAD ")
}

/// Where the request line begins: empty lines may stand in front of it (RFC 9112, section 2.2).
fn first_line(bytes: &[u8]) -> usize {
    bytes.chunks_exact(2).take_while(|line| *line == b"\r\n").count() * 2
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
    let target = Target::parse(target).ok_or(Refusal::Path)?;
    if !target.is_below(&rules.path) {
        return Err(Refusal::Path);
    }
    if method != "GET" {
        return Err(Refusal::Method);
    }
    let headers = Headers(request.headers);
    let names_host = headers.only("Host").is_some_and(is_host)
        && target.authority.is_none_or(|authority| is_host(authority.as_bytes()));
    if version == 1 && !names_host {
        return Err(Refusal::BadHost);
    }
    if version == 0 {
        return Err(Refusal::NotUpgrade);
    }
    let key = upgrade_key(&headers)?;
    let may_connect = |origin: &[u8]| {
        rules.origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin))
    };
    if !rules.origins.is_empty() && !headers.all("Origin").all(may_connect) {
        return Err(Refusal::Origin);
    }
    let token = target.token().filter(|token| !token.is_empty()).ok_or(Refusal::NoToken)?;
    if token.len() > MAX_TOKEN {
        return Err(Refusal::BadToken);
    }
    let forwarded = headers.all("X-Forwarded-For").last().filter(|_| rules.forwarded);
    Ok(Upgrade {
        token,
        response: switching(key),
        head_len: head.len(),
        forwarded: forwarded.and_then(last_forwarded),
        offers_protocols: headers.all("Sec-WebSocket-Protocol").any(|offer| !offer.is_empty()),
    })
}

/// The key of a request that asks for a WebSocket in all it must say (RFC 6455, section 4.2.1).
fn upgrade_key<'a>(headers: &Headers<'a>) -> Result<&'a [u8], Refusal> {
    if !headers.has_word("Connection", "upgrade") || !headers.has_word("Upgrade", "websocket") {
        return Err(Refusal::NotUpgrade);
    }
    // Frames begin behind the head: whoever counts a body there would see others.
    let is_nothing =
        |length: &[u8]| !length.is_empty() && length.iter().all(|digit| *digit == b'0');
    let has_body = headers.all("Transfer-Encoding").next().is_some()
        || !headers.all("Content-Length").all(is_nothing);
    if has_body {
        return Err(Refusal::Body);
    }
    if headers.only("Sec-WebSocket-Version") != Some(b"13") {
        return Err(Refusal::Version);
    }
    headers.only("Sec-WebSocket-Key").filter(|key| is_key(key)).ok_or(Refusal::BadKey)
}

fn switching(key: &[u8]) -> String {
    let mut response = String::with_capacity(129);
    let _ = write!(
        response,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key)
    );
    response
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
            "http://h/ws?token=abc",
            "/%77s?token=abc",
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
        assert!(token_of(&format!("/ws?token={}", "a".repeat(256))).is_ok());
        let longer = format!("/ws?token={}", "a".repeat(257));
        assert_eq!(token_of(&longer), Err(Refusal::BadToken));
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
        let evil = "Host: h\r\nOrigin: https://evil.example";
        assert_eq!(refused("Host: h", evil), Refusal::Origin);
        let two = "Host: h\r\nOrigin: https://good.example\r\nOrigin: https://evil.example";
        assert_eq!(refused("Host: h", two), Refusal::Origin);
        for host in ["X: y", "Host:", "Host: a b", "Host: h\r\nHost: h", "Host: a@h", "Host: h/x"] {
            assert_eq!(refused("Host: h", host), Refusal::BadHost, "{host}");
        }
        assert_eq!(refused("/ws?", "http:///ws?"), Refusal::BadHost);
        assert_eq!(refused("/ws?", "ftp://h/ws?"), Refusal::Path);
        for body in ["Content-Length: 5", "Content-Length: x", "Transfer-Encoding: chunked"] {
            assert_eq!(refused("Host: h", &format!("Host: h\r\n{body}")), Refusal::Body, "{body}");
        }
        assert_eq!(
            refused("GET", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET"),
            Refusal::UnexpectedProxyHeader
        );
        assert_eq!(refused("GET", "\r\n\r\n\0\r\nQUIT\nGET"), Refusal::UnexpectedProxyHeader);
        assert_eq!(refused("Host: h", "Bad Header"), Refusal::NotHttp);
        assert_eq!(refused("Host: h\r\n", "Host: h\n\n"), Refusal::NotHttp);
        assert_eq!(refused("GET", "\u{16}\u{3}\u{1}"), Refusal::NotHttp);
        assert_eq!(refused("Host: h", &format!("X: {}", "x".repeat(1024))), Refusal::HeadTooLarge);
        assert_eq!(refused("Host: h", &"A: b\r\n".repeat(101)[..604]), Refusal::HeadTooLarge);
        for more in ["Origin: https://good.example", "Content-Length: 0", "Expect: 100-continue"] {
            let head = GOOD.replace("Host: h", &format!("Host: h\r\n{more}"));
            assert!(matches!(read(&head), Head::Upgrade(_)), "{more}");
        }
    }

    #[test]
    fn a_trusted_proxy_names_the_peer() {
        let head = GOOD
            .replace("Host: h", "Host: h\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 10.0.0.7");
        let Head::Upgrade(upgrade) = read(&head) else { panic!() };
        assert_eq!(upgrade.forwarded, Some([10, 0, 0, 7].into()));
    }

    #[test]
    fn empty_lines_in_front_are_skipped() {
        let Head::Upgrade(upgrade) = read(&format!("\r\n\r\n{GOOD}frames")) else { panic!() };
        assert_eq!(upgrade.head_len, GOOD.len() + 4);
        for front in ["\r", "\r\n", "\r\n\r", "\r\n\r\n"] {
            assert_eq!(read(front), Head::Incomplete, "{front:?}");
        }
        assert_eq!(read(&"\r\n".repeat(600)), Head::Refused(Refusal::HeadTooLarge));
        assert_eq!(read("\n"), Head::Refused(Refusal::NotHttp));
        assert!(is_head_request(b"\r\nHEAD / HTTP/1.1"));
        assert!(!is_head_request(b"HEADER") && !is_head_request(b"\r"));
    }
}
