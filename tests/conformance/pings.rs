//! Group 2: pings are answered with their own payload, pongs with nothing.

use crate::{
    case::{Case, Chop},
    frames::{PING, PONG, frame},
};

pub(crate) fn cases() -> Vec<Case> {
    let longest = [0xfe; 125];
    let ten = |id| (0..10).fold(Case::new(id, "5.5.2"), |case, n| case.ping(&[b'0' + n; 8]));
    vec![
        Case::new("2.1", "5.5.2").ping(b""),
        Case::new("2.2", "5.5.2").ping(b"Hello, world!"),
        Case::new("2.3", "5.5.2").ping(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"),
        Case::new("2.4", "5.5").ping(&longest),
        Case::new("2.5", "5.5").send(frame(PING, &[0xfe; 126])).fails(1002),
        Case::new("2.6", "5.5.2").ping(&longest).chop(Chop::Bytes(1)),
        Case::new("2.7", "5.5.3").send(frame(PONG, b"")),
        Case::new("2.8", "5.5.3").send(frame(PONG, b"unsolicited pong payload")),
        Case::new("2.9", "5.5.3").send(frame(PONG, b"unsolicited")).ping(b"ping payload"),
        ten("2.10"),
        ten("2.11").chop(Chop::Bytes(1)),
        Case::new("2.a", "5.5").send(frame(PONG, &[0xfe; 126])).fails(1002),
        Case::new("2.b", "5.5").send(frame(PING, &[0; 65_536])).fails(1002),
        // What came before a fault is answered before the close.
        Case::new("2.c", "5.5.2").ping(b"still").send(frame(PING, &[0; 126])).fails(1002),
    ]
}
