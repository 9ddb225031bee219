//! Group 1: whole messages of every length form, and frames that break the framing itself.

use crate::{
    case::{Case, Chop},
    frames::{self, BINARY, TEXT},
};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (group, first, byte) in [("1.1", TEXT, b'*'), ("1.2", BINARY, 0xfe)] {
        for (index, length) in
            [0, 125, 126, 127, 128, 65_535, 65_536, 65_536].into_iter().enumerate()
        {
            let chop = if index == 7 { Chop::Bytes(997) } else { Chop::No };
            let id = format!("{group}.{}", index + 1);
            cases.push(Case::new(id, "5.2").echo(first, &vec![byte; length]).chop(chop));
        }
        for length in [125, 126, 127, 128, 1024] {
            let id = format!("{group}.octets-{length}");
            let chop = Chop::Bytes(1);
            cases.push(Case::new(id, "5.2").echo(first, &vec![byte; length]).chop(chop));
        }
    }
    cases.extend([unmasked("1.a", 0), unmasked("1.b", 5), unmasked("1.c", 200)]);
    cases.push(long_forms());
    cases.push(negative_length());
    cases
}

/// A client that does not mask must be cut off.
fn unmasked(id: &str, length: usize) -> Case {
    let mut frame = vec![TEXT];
    match length {
        0..=125 => frame.push(length as u8),
        _ => frame.extend([126, (length >> 8) as u8, length as u8]),
    }
    frame.resize(frame.len() + length, b'x');
    Case::new(id, "5.1").echo(TEXT, b"before").send(frame).fails(1002)
}

/// Lengths in a longer form than needed are the sender's fault, but there is one way to read them.
fn long_forms() -> Case {
    let mut medium = vec![BINARY, 0x80 | 126, 0, 2, 0, 0, 0, 0];
    medium.extend(b"ab");
    let mut long = vec![BINARY, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];
    long.extend(b"cd");
    Case::new("1.d", "5.2").send(medium).expect(BINARY, "ab").send(long).expect(BINARY, "cd")
}

/// The top bit of a length must be 0: at once, whatever else the frame would hold.
fn negative_length() -> Case {
    let mut header = vec![BINARY, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 1];
    header.extend([0; 4]);
    Case::new("1.e", "5.2")
        .send(frames::frame(BINARY, b"x"))
        .expect(BINARY, "x")
        .send(header)
        .fails(1009)
}
