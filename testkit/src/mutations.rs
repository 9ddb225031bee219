//! Runs a fuzz target over its seed corpus and over seeded mutations of it.

use std::fs;

use serde_json::Value;

use crate::{
    fixtures, root,
    seeded::{Replay, Seeded, seeds},
};

const VARIABLE: &str = "IMCORE_FUZZ";
/// Pieces that a mutation may put in.
const WORDS: [&[u8]; 28] = [
    b"\r\n\r\n",
    b"\n\n",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"{\"Item1\":",
    b"\"Item2\":",
    b"item2",
    b"{}",
    b"[[[[",
    b"null",
    b"1e999",
    b"\\ud83d",
    b"/*",
    b"|",
    b"__FreeIM__(",
    b"\x80\x80\0\0\0\0",
    b"\x88\x82\0\0\0\0\x03\xe8",
    b"\x01\x81\0\0\0\0\xf4",
    b"\x81\xfe\x7f\xff",
    b"\r\nHost: b",
    b"\r\nContent-Length: 5",
    b"\r\nTransfer-Encoding: chunked",
    b"\r\n0\r\n\r\n",
    b"http://a",
    b"%2f%",
    b"?&=+",
    b"9007199254740993.0e-1",
];

/// Runs every input of a corpus as it is, then mutations of them: the files of `fuzz/seeds`, and what was recorded.
pub fn fuzz(corpus: &str, target: fn(&[u8])) {
    let folder = root().join("fuzz/seeds").join(corpus);
    let listed = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut inputs: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    inputs.extend(recorded(corpus));
    inputs.iter().for_each(|input| target(input));
    for seed in seeds(VARIABLE, 3000) {
        let _replay = Replay { variable: VARIABLE, seed };
        target(&mutation(&inputs, &mut Seeded::new(seed)));
    }
}

/// The recorded bytes of the kind that a target reads.
fn recorded(corpus: &str) -> Vec<Vec<u8>> {
    let member = |name: &str, member: &str| -> Vec<Vec<u8>> {
        let text = |case: Value| case[member].as_str().expect(member).as_bytes().to_vec();
        fixtures(name).into_iter().map(text).collect()
    };
    let payloads = || [member("published.jsonl", "payload"), member("tolerance.jsonl", "payload")];
    match corpus {
        "envelope" => payloads().concat(),
        "lenient_json" => payloads().concat().into_iter().map(body).collect(),
        "ticket" => member("token_values.jsonl", "value"),
        _ => Vec::new(),
    }
}

/// A payload without the control word in front of its JSON.
fn body(payload: Vec<u8>) -> Vec<u8> {
    let word = payload.starts_with(b"__FreeIM__(").then(|| payload.iter().position(|c| *c == b')'));
    word.flatten().map_or(payload.clone(), |end| payload[end + 1..].to_vec())
}

fn mutation(inputs: &[Vec<u8>], chance: &mut Seeded) -> Vec<u8> {
    let mut bytes = inputs[chance.below(inputs.len())].clone();
    for _ in 0..1 + chance.below(6) {
        let at = chance.below(bytes.len() + 1);
        let to = at + chance.below(bytes.len() - at + 1).min(16);
        match chance.below(7) {
            0 => drop(bytes.drain(at..to)),
            1 => drop(bytes.splice(at..at, WORDS[chance.below(WORDS.len())].iter().copied())),
            2 => bytes.truncate(at),
            3 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let other = &inputs[chance.below(inputs.len())];
                bytes.extend_from_slice(&other[chance.below(other.len() + 1)..]);
            }
            _ if at == bytes.len() => bytes.push(chance.next() as u8),
            5 => bytes[at] ^= 1 << chance.below(8),
            _ => bytes[at] = chance.next() as u8,
        }
    }
    bytes
}
