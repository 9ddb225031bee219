//! Group 4: reserved opcodes fail the connection.

use crate::{
    case::{Case, Chop},
    frames::{PING, TEXT, frame},
};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (group, first_opcode) in [("4.1", 3), ("4.2", 11)] {
        for index in 0..5 {
            let id = format!("{group}.{}", index + 1);
            let first = 0x80 | (first_opcode + index);
            let reserved = |payload: &[u8]| frame(first, payload);
            let after_text = |payload: &[u8]| {
                let case = Case::new(id.as_str(), "5.2").echo(TEXT, b"Hello, world!");
                case.send(reserved(payload)).send(frame(PING, b"")).fails(1002)
            };
            cases.push(match index {
                0 => Case::new(id.as_str(), "5.2").send(reserved(b"")).fails(1002),
                1 => {
                    let payload = b"reserved opcode payload";
                    Case::new(id.as_str(), "5.2").send(reserved(payload)).fails(1002)
                }
                2 => after_text(b""),
                3 => after_text(b"reserved opcode payload"),
                _ => after_text(b"reserved opcode payload").chop(Chop::Bytes(1)),
            });
        }
    }
    cases
}
