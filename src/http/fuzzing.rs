//! Invariants of the reader of heads, for any bytes. See [`crate::fuzzing`].

use super::{Fault, Head, decode, decode_query, is_encoded, read_head};

const LIMIT: usize = 512;

/// A head is the same in whatever pieces it arrives, within its bound, and can be read in one way only.
pub fn http_head(data: &[u8]) {
    let whole = parts(data, 0);
    let step = 1 + data.len() / 24;
    let mut seen = 0;
    while seen < data.len() {
        let upto = (seen + step).min(data.len());
        let head = parts(&data[..upto], seen);
        assert_eq!(head, parts(&data[..upto], 0), "what was seen before matters");
        if head != Ok(None) {
            assert_eq!(head, whole, "more bytes change the answer");
            break;
        }
        assert!(upto < LIMIT, "a head without end");
        seen = upto;
    }
    let _ = read_head(data, 0, LIMIT, |head| is_right(data, head));
}

type Parts = (String, String, bool, usize, Vec<(String, Vec<u8>)>);

fn parts(data: &[u8], seen: usize) -> Result<Option<Parts>, Fault> {
    read_head(data, seen, LIMIT, |head| {
        let headers = head.headers().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (method, target) = (head.method.to_owned(), head.target.to_owned());
        (method, target, head.is_http10, head.len, headers.collect())
    })
}

fn is_right(data: &[u8], head: &Head) {
    assert!(head.len <= LIMIT);
    let bytes = &data[..head.len];
    let lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(lines.iter().all(|line| line.ends_with(b"\r\n")));
    let begun = lines.iter().skip_while(|line| **line == b"\r\n");
    let end = begun.clone().position(|line| *line == b"\r\n");
    assert_eq!(end, Some(begun.count() - 1), "the head goes on after its end");
    assert!(!head.method.is_empty() && !head.target.contains([' ', '\r', '\n']));
    let target = head.target;
    assert!(decode(target).len() <= target.len() && decode_query(target).len() <= target.len());
    assert!(!is_encoded(target) || target.contains('%') || *decode(target) == *target.as_bytes());
}
