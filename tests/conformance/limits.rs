//! Group 9: large messages whole, in fragments and in small writes, and many messages at once.

use crate::{
    case::{Case, Chop},
    frames::{BINARY, TEXT, fragments, frame},
    node::LARGEST,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// The suite's group for text, the one for binary.
type Pair = [(&'static str, u8); 2];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let whole: Pair = [("9.1", TEXT), ("9.2", BINARY)];
    each(whole, &[64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, LARGEST], |case, first, size| {
        cases.push(case.echo(first, &vec![b'*'; size]));
    });
    let fragmented: Pair = [("9.3", TEXT), ("9.4", BINARY)];
    let sizes: Vec<_> = (0..9).map(|power| 64 << (2 * power)).collect();
    each(fragmented, &sizes, |case, first, size| {
        let payload = vec![b'*'; 4 * MIB];
        let parts = fragments(first, &payload, size);
        cases.push(parts.into_iter().fold(case, Case::send).expect(first, payload));
    });
    let chopped: Pair = [("9.5", TEXT), ("9.6", BINARY)];
    each(chopped, &[64, 128, 256, 512, 1024, 2048], |case, first, size| {
        cases.push(case.echo(first, &vec![b'*'; MIB]).chop(Chop::Bytes(size)));
    });
    let many: Pair = [("9.7", TEXT), ("9.8", BINARY)];
    each(many, &[0, 16, 64, 256, 1024, 4096], |case, first, size| {
        let payload = vec![b'*'; size];
        cases.push((0..1000).fold(case, |case, _| case.echo(first, &payload)));
    });
    cases.extend(too_large());
    cases
}

fn each(groups: Pair, sizes: &[usize], mut add: impl FnMut(Case, u8, usize)) {
    for (group, first) in groups {
        for (index, size) in sizes.iter().enumerate() {
            add(Case::new(format!("{group}.{}", index + 1), "5.2"), first, *size);
        }
    }
}

/// More than the node takes: told by the header alone, or by the fragment that passes the limit.
fn too_large() -> [Case; 2] {
    let mut header = vec![BINARY, 0x80 | 127];
    header.extend((LARGEST as u64 + 1).to_be_bytes());
    header.extend([0; 4]);
    let half = vec![b'*'; LARGEST / 2];
    [
        Case::new("9.a", "7.4.1").send(header).fails(1009),
        Case::new("9.b", "7.4.1")
            .send(frame(0x01, &half))
            .send(frame(0x00, &half))
            .send(frame(0x00, b"*"))
            .fails(1009),
    ]
}
