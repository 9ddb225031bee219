//! Group 6: text is UTF-8 as RFC 3629 has it, wherever it is cut; what is not fails at once.
//!
//! The sequences are those of Markus Kuhn's decoder stress test, which the suite uses too.

use crate::{
    case::{Case, Chop},
    frames::{CLOSE, CONTINUATION, MORE, TEXT, fragments, frame},
};

/// The suite's Greek word, whose second letter takes three bytes.
const KOSME: &str = "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}";
/// The suite's Greek word, a surrogate, `edited`.
const BROKEN: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";

/// Sequences that must be taken, by the suite's group.
#[rustfmt::skip]
const VALID: &[(&str, &[&[u8]])] = &[
    ("6.5", &[KOSME.as_bytes()]),
    // The first and last of each length, and the edges of the surrogates.
    ("6.7", &[b"\0", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
    ("6.9", &[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
    ("6.11", &[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf"]),
    // Noncharacters are characters for this purpose.
    ("6.22", &[
        b"\xef\xbf\xbe", b"\xef\xbf\xbf", b"\xf0\x9f\xbf\xbe", b"\xf0\x9f\xbf\xbf",
        b"\xf0\xaf\xbf\xbe", b"\xf0\xaf\xbf\xbf", b"\xf0\xbf\xbf\xbe", b"\xf0\xbf\xbf\xbf",
        b"\xf1\x8f\xbf\xbe", b"\xf1\x8f\xbf\xbf", b"\xf1\x9f\xbf\xbe", b"\xf1\x9f\xbf\xbf",
        b"\xf1\xaf\xbf\xbe", b"\xf1\xaf\xbf\xbf", b"\xf1\xbf\xbf\xbe", b"\xf1\xbf\xbf\xbf",
        b"\xf2\x8f\xbf\xbe", b"\xf2\x8f\xbf\xbf", b"\xf2\x9f\xbf\xbe", b"\xf2\x9f\xbf\xbf",
        b"\xf2\xaf\xbf\xbe", b"\xf2\xaf\xbf\xbf", b"\xf2\xbf\xbf\xbe", b"\xf2\xbf\xbf\xbf",
        b"\xf3\x8f\xbf\xbe", b"\xf3\x8f\xbf\xbf", b"\xf3\x9f\xbf\xbe", b"\xf3\x9f\xbf\xbf",
        b"\xf3\xaf\xbf\xbe", b"\xf3\xaf\xbf\xbf", b"\xf3\xbf\xbf\xbe", b"\xf3\xbf\xbf\xbf",
        b"\xf4\x8f\xbf\xbe", b"\xf4\x8f\xbf\xbf",
    ]),
    ("6.23", &[
        b"\xef\xbf\xb9", b"\xef\xbf\xba", b"\xef\xbf\xbb", b"\xef\xbf\xbc", b"\xef\xbf\xbd",
        b"\xef\xbf\xbe", b"\xef\xbf\xbf",
    ]),
    ("6.a", &["中文 😀 e\u{301} 👩‍👩‍👧 \u{202e}".as_bytes(), &[0xf0, 0x9f, 0x98, 0x80]]),
];

/// Sequences that must fail the connection.
#[rustfmt::skip]
const INVALID: &[(&str, &[&[u8]])] = &[
    // Sequences of five and six bytes, the first and the last of each.
    ("6.8", &[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
    ("6.10", &[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
    ("6.11.5", &[b"\xf4\x90\x80\x80"]),
    // Continuation bytes without a start.
    ("6.12", &[
        b"\x80", b"\xbf", b"\x80\xbf", b"\x80\xbf\x80", b"\x80\xbf\x80\xbf", b"\x80\xbf\x80\xbf\x80",
        b"\x80\xbf\x80\xbf\x80\xbf",
        b"\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\
          \x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\
          \xac\xad\xae\xaf\xb0\xb1\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xbb\xbc\xbd\xbe",
    ]),
    // Starts without a continuation.
    ("6.13", &[
        b"\xc0 \xc1 \xc2 \xc3 \xc4 \xc5 \xc6 \xc7 \xc8 \xc9 \xca \xcb \xcc \xcd \xce \xcf \xd0 \xd1 \
          \xd2 \xd3 \xd4 \xd5 \xd6 \xd7 \xd8 \xd9 \xda \xdb \xdc \xdd \xde ",
        b"\xe0 \xe1 \xe2 \xe3 \xe4 \xe5 \xe6 \xe7 \xe8 \xe9 \xea \xeb \xec \xed \xee ",
        b"\xf0 \xf1 \xf2 \xf3 \xf4 \xf5 \xf6 ",
        b"\xf8 \xf9 \xfa ",
        b"\xfc ",
    ]),
    // Sequences whose last byte is missing.
    ("6.14", &[
        b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80",
        b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf",
    ]),
    ("6.15", &[
        b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\xfb\
          \xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf",
    ]),
    // Bytes that no sequence has.
    ("6.16", &[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
    // Longer than needed: of a slash, of the last of each length, of NUL.
    ("6.17", &[
        b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf",
        b"\xfc\x80\x80\x80\x80\xaf",
    ]),
    ("6.18", &[
        b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf",
        b"\xfc\x83\xbf\xbf\xbf\xbf",
    ]),
    ("6.19", &[
        b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80\x80",
    ]),
    // Surrogates, single and in pairs.
    ("6.20", &[
        b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80",
        b"\xed\xbe\x80", b"\xed\xbf\xbf",
    ]),
    ("6.21", &[
        b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xa0\x80\xed\xbf\xbf", b"\xed\xad\xbf\xed\xb0\x80",
        b"\xed\xad\xbf\xed\xbf\xbf", b"\xed\xae\x80\xed\xb0\x80", b"\xed\xae\x80\xed\xbf\xbf",
        b"\xed\xaf\xbf\xed\xb0\x80", b"\xed\xaf\xbf\xed\xbf\xbf",
    ]),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = empty_messages();
    cases.extend(cut_up());
    cases.extend(fail_fast());
    cases.extend(prefixes());
    for (group, sequences) in VALID {
        for (index, sequence) in sequences.iter().enumerate() {
            let id = format!("{group}.{}", index + 1);
            cases.push(Case::new(id, "8.1").echo(TEXT, sequence).chop(Chop::Bytes(1)));
        }
    }
    for (group, sequences) in INVALID {
        for (index, sequence) in sequences.iter().enumerate() {
            let id = format!("{group}.{}", index + 1);
            cases.push(Case::new(&id, "8.1").send(frame(TEXT, sequence)).fails(1007));
            let parts = fragments(TEXT, sequence, 1).into_iter();
            cases.push(parts.fold(Case::new(id + "-octets", "8.1"), Case::send).fails(1007));
        }
    }
    cases
}

fn empty_messages() -> Vec<Case> {
    let three = |id: &str, middle: &[u8]| {
        Case::new(id, "5.6")
            .send(frame(TEXT & MORE, b""))
            .send(frame(CONTINUATION & MORE, middle))
            .send(frame(CONTINUATION, b""))
            .expect(TEXT, middle)
    };
    vec![
        Case::new("6.1.1", "5.6").echo(TEXT, b""),
        three("6.1.2", b""),
        three("6.1.3", "middle frame payload κόσμε".as_bytes()),
    ]
}

/// Valid and invalid text over frame borders, between code points and within them.
fn cut_up() -> Vec<Case> {
    let text = "Hello-µ@ßöäüàá-UTF-8!!".as_bytes();
    let in_parts = |id: String, text: &[u8], size: usize| {
        let case = Case::new(id, "8.1");
        fragments(TEXT, text, size).into_iter().fold(case, Case::send)
    };
    let mut cases = vec![
        Case::new("6.2.1", "8.1").echo(TEXT, text),
        in_parts("6.2.2".into(), text, 12).expect(TEXT, text),
        in_parts("6.2.3".into(), text, 1).expect(TEXT, text),
        in_parts("6.2.4".into(), KOSME.as_bytes(), 1).expect(TEXT, KOSME),
        Case::new("6.3.1", "8.1").send(frame(TEXT, BROKEN)).fails(1007),
        in_parts("6.3.2".into(), BROKEN, 1).fails(1007),
    ];
    let all = "aß中😀".repeat(3);
    for size in 1..8 {
        let case = in_parts(format!("6.b.{size}"), all.as_bytes(), size);
        cases.push(case.expect(TEXT, all.as_str()));
    }
    cases
}

/// The rest of the message never comes: the fault must be told when the frame with it is complete.
///
/// 6.4.3 and 6.4.4 cut one frame instead. The suite calls it non-strict to wait for the end of the
/// frame, which is what happens here.
fn fail_fast() -> Vec<Case> {
    let kosme = || frame(TEXT & MORE, KOSME.as_bytes());
    let more = |bytes: &[u8]| frame(CONTINUATION & MORE, bytes);
    let whole = [KOSME.as_bytes(), b"\xf4\x90\x80\x80edited"].concat();
    vec![
        Case::new("6.4.1", "8.1").send(kosme()).send(more(b"\xf4\x90\x80\x80")).fails(1007),
        Case::new("6.4.2", "8.1")
            .send(frame(TEXT & MORE, &whole[..12]))
            .send(more(&whole[12..13]))
            .fails(1007),
        Case::new("6.4.3", "8.1").send(frame(TEXT, &whole)).chop(Chop::Bytes(15)).fails(1007),
        Case::new("6.4.4", "8.1").send(frame(TEXT, &whole)).chop(Chop::Bytes(19)).fails(1007),
        Case::new("6.4.a", "8.1").send(frame(TEXT & MORE, b"\xc0")).fails(1007),
        Case::new("6.4.b", "8.1").send(frame(TEXT & MORE, b"\xed")).send(more(b"\xa0")).fails(1007),
        Case::new("6.4.c", "8.1").send(frame(TEXT & MORE, b"\xe4")).send(more(b"a")).fails(1007),
        // Only the end of the message tells that its last character is not whole.
        Case::new("6.4.d", "8.1")
            .send(frame(TEXT & MORE, b"\xe4"))
            .ping(b"still open")
            .send(frame(CONTINUATION, b"\xb8"))
            .fails(1007),
        Case::new("6.4.e", "8.1")
            .send(frame(TEXT & MORE, b"\xe4"))
            .send(frame(CLOSE, b"\x03\xe8"))
            .closes(1000),
    ]
}

/// 6.6: every prefix of a text is valid exactly where a character ends.
fn prefixes() -> Vec<Case> {
    let bytes = KOSME.as_bytes();
    let prefix = |length: usize| {
        let case = Case::new(format!("6.6.{length}"), "8.1");
        match KOSME.is_char_boundary(length) {
            true => case.echo(TEXT, &bytes[..length]),
            false => case.send(frame(TEXT, &bytes[..length])).fails(1007),
        }
    };
    (1..=bytes.len()).map(prefix).collect()
}
