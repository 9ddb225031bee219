//! Group 3: without an extension every reserved bit must be 0.

use crate::{
    case::{Case, Chop},
    frames::{BINARY, CLOSE, PING, TEXT, frame},
};

pub(crate) fn cases() -> Vec<Case> {
    let hello = b"Hello, world!";
    let bits = |first: u8, bits: u8| frame(first | bits << 4, hello);
    let after_text = |id: &str, set: u8| {
        let case = Case::new(id, "5.2").echo(TEXT, hello);
        case.send(bits(TEXT, set)).send(frame(PING, b"")).fails(1002)
    };
    let mut cases = vec![
        Case::new("3.1", "5.2").send(bits(TEXT, 1)).fails(1002),
        after_text("3.2", 2),
        after_text("3.3", 3).chop(Chop::Frames),
        after_text("3.4", 4).chop(Chop::Bytes(1)),
        Case::new("3.5", "5.2").send(bits(BINARY, 5)).fails(1002),
        Case::new("3.6", "5.2").send(bits(PING, 6)).fails(1002),
        Case::new("3.7", "5.2").send(frame(CLOSE | 0x70, &[])).fails(1002),
    ];
    // In a continuation too.
    for set in 1..8 {
        let case = Case::new(format!("3.a{set}"), "5.2").send(frame(0x01, hello));
        cases.push(case.send(frame(0x80 | set << 4, hello)).fails(1002));
    }
    cases
}
