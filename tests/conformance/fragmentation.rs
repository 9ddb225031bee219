//! Group 5: messages in several frames, with control frames between them, and every way to get that
//! wrong. Group 10: a message that an intermediary has cut up.

use crate::{
    case::{Case, Chop},
    frames::{BINARY, CONTINUATION, MORE, PING, PONG, TEXT, fragments, frame},
};

/// Autobahn repeats a shape as one write, frame by frame and byte by byte.
const CHOPS: [Chop; 3] = [Chop::No, Chop::Frames, Chop::Bytes(1)];

fn more(first: u8, payload: &str) -> Vec<u8> {
    frame(first & MORE, payload.as_bytes())
}

fn last(payload: &str) -> Vec<u8> {
    frame(CONTINUATION, payload.as_bytes())
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("5.1", "5.4").send(more(PING, "first")).send(last("second")).fails(1002),
        Case::new("5.2", "5.4").send(more(PONG, "first")).send(last("second")).fails(1002),
    ];
    for (index, chop) in CHOPS.into_iter().enumerate() {
        let two = Case::new(format!("5.{}", 3 + index), "5.4");
        let two = two.send(more(TEXT, "fragment1")).send(last("fragment2"));
        cases.push(two.expect(TEXT, "fragment1fragment2").chop(chop));

        let between = Case::new(format!("5.{}", 6 + index), "5.4");
        let between = between.send(more(TEXT, "fragment1")).ping(b"ping payload");
        let between = between.send(last("fragment2")).expect(TEXT, "fragment1fragment2");
        cases.push(between.chop(chop));

        let stray = Case::new(format!("5.{}", 9 + index), "5.4").send(last("nothing to continue"));
        cases.push(stray.send(frame(TEXT, b"Hello")).fails(1002).chop(chop));

        let stray = Case::new(format!("5.{}", 12 + index), "5.4");
        let stray = stray.send(more(CONTINUATION, "nothing to continue"));
        cases.push(stray.send(frame(TEXT, b"Hello")).fails(1002).chop(chop));
    }
    cases.extend(after_a_message());
    cases.extend(five_parts());
    cases.extend(own());
    cases
}

/// Strays after a message was completed, and a message within a message.
fn after_a_message() -> [Case; 4] {
    let whole = Case::new("5.15", "5.4").send(more(TEXT, "fragment1")).send(last("fragment2"));
    let whole = whole.expect(TEXT, "fragment1fragment2");
    let twice = |id: &str, stray: fn(&str) -> Vec<u8>| {
        let round = |case: Case| {
            let case = case.send(stray("fragment1 (nothing to continue)"));
            case.send(more(TEXT, "fragment2")).send(last("fragment3"))
        };
        round(round(Case::new(id, "5.4"))).fails(1002)
    };
    [
        whole.send(more(CONTINUATION, "fragment3")).send(frame(TEXT, b"fragment4")).fails(1002),
        twice("5.16", |text| more(CONTINUATION, text)),
        twice("5.17", last),
        Case::new("5.18", "5.4")
            .send(more(TEXT, "fragment1"))
            .send(frame(TEXT, b"fragment2"))
            .fails(1002),
    ]
}

/// Five parts with two pings, which are answered before the message is complete.
fn five_parts() -> [Case; 2] {
    let case = |id: &str| {
        Case::new(id, "5.4")
            .send(more(TEXT, "fragment1"))
            .send(more(CONTINUATION, "fragment2"))
            .ping(b"pongme 1!")
            .send(more(CONTINUATION, "fragment3"))
            .send(more(CONTINUATION, "fragment4"))
            .ping(b"pongme 2!")
            .send(last("fragment5"))
            .expect(TEXT, "fragment1fragment2fragment3fragment4fragment5")
    };
    [case("5.19"), case("5.20").chop(Chop::Frames)]
}

fn own() -> Vec<Case> {
    let halves = |id: &str| Case::new(id, "5.4").send(more(BINARY, "a"));
    vec![
        halves("5.a").send(frame(BINARY, b"b")).fails(1002),
        halves("5.b").send(more(TEXT, "b")).fails(1002),
        halves("5.c").send(frame(PONG, b"pong")).send(last("b")).expect(BINARY, "ab"),
        // Pings are answered while the message is incomplete, not only once it is whole.
        halves("5.d").ping(b"1").ping(b"2").ping(b"3").send(last("")).expect(BINARY, "a"),
        halves("5.e").send(last("b")).expect(BINARY, "ab").echo(TEXT, b"next"),
    ]
}

/// Group 10.
pub(crate) fn automatic() -> Vec<Case> {
    let payload = vec![b'*'; 65_536];
    let mut cases = Vec::new();
    for (id, first, size) in
        [("10.1.1", TEXT, 1300), ("10.a", BINARY, 1300), ("10.b", TEXT, 1), ("10.c", BINARY, 125)]
    {
        let case = Case::new(id, "5.4").expect(first, payload.as_slice());
        let parts = fragments(first, &payload, size);
        cases.push(parts.into_iter().fold(case, Case::send));
    }
    cases
}
