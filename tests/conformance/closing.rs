//! Group 7: the closing handshake, and everything that may stand in a close frame or follow it.

use crate::{
    case::Case,
    frames::{CLOSE, CONTINUATION, MORE, PING, TEXT, close, frame},
};

const VALID: [u16; 16] = [
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999, 1012, 1013, 1014,
];
const INVALID: [u16; 9] = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("7.1.1", "5.5.1").echo(TEXT, b"Hello World!").send(close(1000, "")).closes(1000),
        Case::new("7.1.2", "5.5.1").send(close(1000, "")).send(close(1000, "")).closes(1000),
        Case::new("7.1.3", "5.5.1").send(close(1000, "")).send(frame(PING, b"")).closes(1000),
        Case::new("7.1.4", "5.5.1").send(close(1000, "")).send(frame(TEXT, b"late")).closes(1000),
        Case::new("7.1.5", "5.5.1")
            .send(frame(TEXT & MORE, b"fragment1"))
            .send(close(1000, ""))
            .send(frame(CONTINUATION, b"fragment2"))
            .closes(1000),
        Case::new("7.1.6", "5.5.1")
            .echo(TEXT, &vec![b'B'; 256 << 10])
            .echo(TEXT, b"Hello World!")
            .send(close(1000, ""))
            .send(frame(PING, b""))
            .closes(1000),
        Case::new("7.3.1", "5.5.1").send(frame(CLOSE, b"")).closes(None),
        Case::new("7.3.2", "5.5.1").send(frame(CLOSE, b"a")).fails(1002),
        Case::new("7.3.3", "5.5.1").send(close(1000, "")).closes(1000),
        Case::new("7.3.4", "5.5.1").send(close(1000, "Hello World!")).closes(1000),
        Case::new("7.3.5", "5.5").send(close(1000, &"*".repeat(123))).closes(1000),
        Case::new("7.3.6", "5.5").send(close(1000, &"*".repeat(124))).fails(1002),
        Case::new("7.5.1", "8.1")
            .send(frame(CLOSE, b"\x03\xe8\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"))
            .fails(1007),
    ];
    for (index, code) in VALID.into_iter().enumerate() {
        let id = if index < 13 { format!("7.7.{}", index + 1) } else { format!("7.a.{code}") };
        cases.push(Case::new(id, "7.4.1").send(close(code, "")).closes(code));
    }
    for (index, code) in INVALID.into_iter().enumerate() {
        let id = format!("7.9.{}", index + 1);
        cases.push(Case::new(id, "7.4").send(close(code, "")).fails(1002));
    }
    for (id, code) in [("7.13.1", 5000), ("7.13.2", 65_535), ("7.b.1015", 1015)] {
        cases.push(Case::new(id, "7.4").send(close(code, "")).fails(1002));
    }
    cases.extend([
        Case::new("7.c", "5.5").send(frame(CLOSE & MORE, b"\x03\xe8")).fails(1002),
        Case::new("7.d", "5.5.1").send(close(1000, "再见 👋")).closes(1000),
        // What cannot be part of any answer any more is not even looked at.
        Case::new("7.e", "5.5.1").send(close(1001, "")).send(vec![0xff; 100]).closes(1001),
        Case::new("7.f", "7.1.7").send(frame(0x83, b"")).send(close(1000, "")).fails(1002),
    ]);
    cases
}
