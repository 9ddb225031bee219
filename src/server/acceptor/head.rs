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
use crate::{
    http::{self, Fault, Head, request_line},
    server::{message::Claim, reasons::Refusal},
    wire::POSITION_BYTES,
};

/// Longest token that the broker is asked for: the helper's have 128 bytes.
const MAX_TOKEN: usize = 256;
/// The sub-protocol of clients that can resume.
const PROTOCOL: &str = "imcore.1";

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
    /// What a client that speaks `imcore.1` says of its former connection; `None` for one that does not.
    pub(crate) claim: Option<Box<Claim>>,
    /// Whether sub-protocols were offered, of which none is known: browsers give up then.
    pub(crate) offers_unknown: bool,
}

/// The upgrade that `bytes` ask for, of which `seen` were there the last time; `None` until the head is whole.
///
/// # Errors
/// Why they are turned away.
pub(crate) fn read_upgrade(
    bytes: &[u8],
    seen: usize,
    rules: &Rules,
) -> Result<Option<Upgrade>, Refusal> {
    if is_proxy_header(bytes) {
        return Err(Refusal::UnexpectedProxyHeader);
    }
    // Other protocols are told at once rather than at the time-out.
    match request_line(bytes) {
        [] | b"\r" => {}
        [first, ..] if first.is_ascii_uppercase() => {}
        _ => return Err(Refusal::NotHttp),
    }
    match http::read_head(bytes, seen, rules.head_bytes, |head| upgrade(head, rules)) {
        Ok(upgrade) => upgrade.transpose(),
        Err(Fault::NotHttp | Fault::BareLineFeed) => Err(Refusal::NotHttp),
        Err(Fault::TooLong | Fault::TooManyHeaders) => Err(Refusal::HeadTooLarge),
    }
}

/// A whole head that may be upgraded, or what is wrong with it.
fn upgrade(head: &Head, rules: &Rules) -> Result<Upgrade, Refusal> {
    let target = Target::parse(head.target).ok_or(Refusal::Path)?;
    if !target.is_below(&rules.path) {
        return Err(Refusal::Path);
    }
    if head.method != "GET" {
        return Err(Refusal::Method);
    }
    let names_host = head.only("Host").is_some_and(is_host)
        && target.authority.is_none_or(|authority| is_host(authority.as_bytes()));
    if !head.is_http10 && !names_host {
        return Err(Refusal::BadHost);
    }
    if head.is_http10 {
        return Err(Refusal::NotUpgrade);
    }
    let key = upgrade_key(head)?;
    let may_connect = |origin: &[u8]| {
        rules.origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin))
    };
    if !rules.origins.is_empty() && !head.all("Origin").all(may_connect) {
        return Err(Refusal::Origin);
    }
    let token =
        target.parameter("token").filter(|token| !token.is_empty()).ok_or(Refusal::NoToken)?;
    if token.len() > MAX_TOKEN {
        return Err(Refusal::BadToken);
    }
    let offers = || {
        let lines = head.all("Sec-WebSocket-Protocol");
        lines.flat_map(|line| line.split(|byte| *byte == b',')).map(|offer| offer.trim_ascii())
    };
    let speaks = offers().any(|offer| offer == PROTOCOL.as_bytes());
    let forwarded = head.all("X-Forwarded-For").last().filter(|_| rules.forwarded);
    Ok(Upgrade {
        token,
        response: switching(key, speaks),
        head_len: head.len,
        forwarded: forwarded.and_then(last_forwarded),
        claim: speaks.then(|| Box::new(claim(&target))),
        offers_unknown: !speaks && offers().any(|offer| !offer.is_empty()),
    })
}

/// The key of a request that asks for a WebSocket in all it must say (RFC 6455, section 4.2.1).
fn upgrade_key<'a>(head: &Head<'_, 'a>) -> Result<&'a [u8], Refusal> {
    if !head.has_word("Connection", "upgrade") || !head.has_word("Upgrade", "websocket") {
        return Err(Refusal::NotUpgrade);
    }
    // Frames begin behind the head: whoever counts a body there would see others.
    let is_nothing =
        |length: &[u8]| !length.is_empty() && length.iter().all(|digit| *digit == b'0');
    let has_body = head.all("Transfer-Encoding").next().is_some()
        || !head.all("Content-Length").all(is_nothing);
    if has_body {
        return Err(Refusal::Body);
    }
    if head.only("Sec-WebSocket-Version") != Some(b"13") {
        return Err(Refusal::Version);
    }
    head.only("Sec-WebSocket-Key").filter(|key| is_key(key)).ok_or(Refusal::BadKey)
}

/// What the client knows of its former connection. A text too long to be one of ours counts as none of ours.
fn claim(target: &Target) -> Claim {
    let bounded = |name| {
        let text = target.parameter(name)?;
        Some(if text.len() <= POSITION_BYTES { text } else { String::new() })
    };
    Claim { since: bounded("since"), c: bounded("c") }
}

fn switching(key: &[u8], speaks: bool) -> String {
    let mut response = String::with_capacity(129 + 34 * usize::from(speaks));
    let accept = derive_accept_key(key);
    response.push_str(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    );
    if speaks {
        let _ = write!(response, "Sec-WebSocket-Protocol: {PROTOCOL}\r\n");
    }
    let _ = write!(response, "Sec-WebSocket-Accept: {accept}\r\n\r\n");
    response
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

    fn read(head: &str) -> Result<Option<Upgrade>, Refusal> {
        let rules = Rules {
            path: "/ws".into(),
            origins: vec!["https://good.example".into()],
            head_bytes: 1024,
            forwarded: true,
        };
        read_upgrade(head.as_bytes(), 0, &rules)
    }

    fn token_of(target: &str) -> Result<String, Refusal> {
        let upgrade = read(&GOOD.replace("/ws?token=abc", target))?;
        Ok(upgrade.expect("the head is whole").token)
    }

    #[test]
    fn the_answer_of_the_standard_to_the_key_of_the_standard() {
        let upgrade = read(&format!("{GOOD}frames")).unwrap().unwrap();
        assert_eq!(upgrade.head_len, GOOD.len());
        assert!(
            upgrade.response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
        );
    }

    #[test]
    fn every_prefix_is_incomplete() {
        for len in 0..GOOD.len() {
            assert_eq!(read(&GOOD[..len]), Ok(None), "{len}");
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
        let refused = |from: &str, to: &str| read(&GOOD.replace(from, to)).unwrap_err();
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
            assert!(matches!(read(&head), Ok(Some(_))), "{more}");
        }
    }

    #[test]
    fn a_trusted_proxy_names_the_peer() {
        let head = GOOD
            .replace("Host: h", "Host: h\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 10.0.0.7");
        let upgrade = read(&head).unwrap().unwrap();
        assert_eq!(upgrade.forwarded, Some([10, 0, 0, 7].into()));
    }

    #[test]
    fn empty_lines_in_front_are_skipped() {
        let upgrade = read(&format!("\r\n\r\n{GOOD}frames")).unwrap().unwrap();
        assert_eq!(upgrade.head_len, GOOD.len() + 4);
        for front in ["\r", "\r\n", "\r\n\r", "\r\n\r\n"] {
            assert_eq!(read(front), Ok(None), "{front:?}");
        }
        assert_eq!(read(&"\r\n".repeat(600)), Err(Refusal::HeadTooLarge));
        assert_eq!(read("\n"), Err(Refusal::NotHttp));
    }
}
