//! Invariants of the reader of heads, for any bytes. See [`crate::fuzzing`].

use super::{Fault, Head, decode, decode_query, is_encoded, read_head};

const LIMIT: usize = 512;

/// A head is the same in whatever pieces it arrives, within its bound, and can be read in one way only.
pub fn http_head(data: &[u8]) {
    let whole = read_head(data, 0, LIMIT);
    let step = 1 + data.len() / 24;
    let mut seen = 0;
    while seen < data.len() {
        let upto = (seen + step).min(data.len());
        let head = read_head(&data[..upto], seen, LIMIT);
        let anew = read_head(&data[..upto], 0, LIMIT);
        assert_eq!(parts(&head), parts(&anew), "what was seen before matters");
        if !matches!(head, Ok(None)) {
            assert_eq!(parts(&head), parts(&whole), "more bytes change the answer");
            break;
        }
        assert!(upto < LIMIT, "a head without end");
        seen = upto;
    }
    if let Ok(Some(head)) = whole {
        is_right(data, &head);
    }
}

type Parts<'a> = Result<Option<(&'a str, &'a str, bool, usize, Vec<(&'a str, &'a [u8])>)>, Fault>;

fn parts<'a>(head: &Result<Option<Head<'a>>, Fault>) -> Parts<'a> {
    let parts = |head: &Head<'a>| {
        (head.method, head.target, head.is_http10, head.len, head.headers().collect())
    };
    head.as_ref().map(|head| head.as_ref().map(parts)).map_err(|fault| *fault)
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
