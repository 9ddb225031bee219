//! Invariants of what is read from sockets, for any bytes. See [`crate::fuzzing`].

use crate::server::{
    acceptor::{
        head::{Rules, read_upgrade},
        real_address::{self, ProxyHeader},
    },
    connection::inbound::{Inbound, Listen},
    reasons::CloseReason,
};

const MESSAGE_BYTES: usize = 4096;

/// The answer does not depend on how a head arrives, and is a whole HTTP response. What holds for any head is in
/// `http_head`.
pub fn request_head(data: &[u8]) {
    let rules = Rules {
        path: "/ws".into(),
        origins: vec!["https://good.example".into()],
        head_bytes: 512,
        forwarded: true,
    };
    let whole = read_upgrade(data, 0, &rules);
    let step = 1 + data.len() / 24;
    let mut seen = 0;
    while seen < data.len() {
        let upto = (seen + step).min(data.len());
        let read = read_upgrade(&data[..upto], seen, &rules);
        assert_eq!(read, read_upgrade(&data[..upto], 0, &rules), "what was seen before matters");
        if read != Ok(None) {
            assert_eq!(read, whole, "more bytes change the answer");
            break;
        }
        seen = upto;
    }
    match whole {
        Ok(None) => {}
        Err(refusal) => {
            let response = refusal.response(false);
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
        }
        Ok(Some(upgrade)) => {
            assert!(!upgrade.token.is_empty());
            assert!(data[..upgrade.head_len].ends_with(b"\r\n\r\n"));
            assert_eq!(upgrade.response.matches("\r\n").count(), 5);
            assert!(upgrade.response.ends_with("=\r\n\r\n"));
        }
    }
}

/// A PROXY header is decided by its own bytes alone.
pub fn proxy_header(data: &[u8]) {
    let whole = real_address::proxy_header(data);
    for len in 0..data.len().min(64) {
        match real_address::proxy_header(&data[..len]) {
            ProxyHeader::Incomplete => {}
            decided => assert_eq!(decided, whole, "more bytes change the answer"),
        }
    }
    if let ProxyHeader::Complete { len, .. } = whole {
        assert!(len <= data.len());
        assert_eq!(real_address::proxy_header(&data[..len]), whole);
    }
    let _ = real_address::last_forwarded(data);
}

/// What one peer's bytes come to.
#[derive(Debug, PartialEq)]
struct Outcome {
    end: Option<CloseReason>,
    output: Vec<u8>,
    clean: bool,
}

/// The first byte says in which pieces the others arrive; the outcome does not depend on it, nor on
/// the library being dropped whenever the bytes so far make whole messages, as `connection` does.
pub fn frames(data: &[u8]) {
    let Some((first, stream)) = data.split_first() else { return };
    for echo in [false, true] {
        let whole = receive(stream, stream.len().max(1), false, echo);
        let pieces = receive(stream, usize::from(*first) + 1, true, echo);
        assert_eq!(pieces, whole, "echo {echo}");
        check_output(&whole, stream.len(), echo);
    }
    check_clean(stream);
}

fn listen(echo: bool) -> Listen {
    if echo { Listen::ToEcho } else { Listen::ToWords }
}

fn receive(stream: &[u8], size: usize, drop_when_clean: bool, echo: bool) -> Outcome {
    let mut inbound = Inbound::new(MESSAGE_BYTES);
    let mut output = Vec::new();
    for piece in stream.chunks(size) {
        let end = inbound.feed(&mut piece.to_vec(), 0, listen(echo));
        output.extend(inbound.take_output());
        if end.is_some() {
            return Outcome { end, output, clean: false };
        }
        if drop_when_clean && inbound.is_clean() {
            inbound = Inbound::new(MESSAGE_BYTES);
        }
    }
    Outcome { end: None, output, clean: inbound.is_clean() }
}

/// Nothing but pongs, the close reply and, echoing, messages; never more than came in, but for one close.
fn check_output(outcome: &Outcome, received: usize, echo: bool) {
    let mut rest = &outcome.output[..];
    while !rest.is_empty() {
        let (head, length) = match rest[1] {
            126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
            length => (2, usize::from(length)),
        };
        match rest[0] {
            0x8a => assert!(length <= 125),
            0x81 | 0x82 => assert!(echo),
            0x88 => {
                assert_eq!(outcome.end, Some(CloseReason::Peer));
                assert_eq!(rest.len(), head + length, "bytes after the close frame");
                assert!(length != 1 && length <= 125);
                assert!(length == 0 || std::str::from_utf8(&rest[4..]).is_ok());
            }
            other => panic!("frame {other:#x}"),
        }
        rest = &rest[head + length..];
    }
    assert!(outcome.output.len() <= received + 125);
}

/// Where the bytes so far make whole messages, and only there, the library holds nothing: a text that
/// follows comes back as it is, in the place of one that would be swallowed.
fn check_clean(stream: &[u8]) {
    let mut inbound = Inbound::new(MESSAGE_BYTES);
    if inbound.feed(&mut stream.to_vec(), 0, listen(true)).is_some() {
        return;
    }
    inbound.take_output();
    let clean = inbound.is_clean();
    assert_eq!(clean, makes_whole_messages(stream), "is_clean is {clean}");
    let end = inbound.feed(&mut b"\x81\x82\0\0\0\0hi".to_owned(), 0, listen(true));
    if clean {
        assert_eq!((end, &inbound.take_output()[..]), (None, &b"\x81\x02hi"[..]));
        assert!(inbound.is_clean());
    }
}

/// Follows the frames of a stream that the library has accepted, in the plainest way.
fn makes_whole_messages(mut stream: &[u8]) -> bool {
    let mut fragmented = false;
    while !stream.is_empty() {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
        let head = match stream.get(1).map(|byte| byte & 0x7f) {
            None => return false,
            Some(126) => stream.get(2..4).map(|bytes| (8, number(bytes))),
            Some(127) => stream.get(2..10).map(|bytes| (14, number(bytes))),
            Some(length) => Some((6, usize::from(length))),
        };
        let Some((head, length)) = head else { return false };
        if stream[0] & 8 == 0 {
            fragmented = stream[0] & 0x80 == 0;
        }
        match stream.get(head..).and_then(|body| body.get(length..)) {
            Some(rest) => stream = rest,
            None => return false,
        }
    }
    !fragmented
}
