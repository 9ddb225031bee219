//! Invariants of what is read from the sockets of the listeners, for any bytes: called by the tests with the
//! seed corpus and mutations of it, and by `fuzz/`.

use super::{
    body::BodyReader,
    head::{Framing, Head, is_host, read},
    message::{Body, Response},
};

const HEAD_BYTES: usize = 2048;
const BODY_BYTES: usize = 64;

/// One request: nothing of it is left open to another reading. That its head is the same in whatever pieces it
/// comes is tried with `http_head` of the library.
pub(crate) fn request(data: &[u8]) {
    let whole = read(data, 0, HEAD_BYTES);
    match whole {
        Ok(None) => {}
        Ok(Some(head)) => head_is_right(data, &head),
        Err(refusal) => {
            let response = Response::line(refusal.status, refusal.why);
            let text = String::from_utf8(response.head(true)).unwrap();
            assert!(!text.starts_with("HTTP/1.1 2") && text.ends_with("\r\n\r\n"), "{text}");
            assert!(matches!(response.body, Body::Whole(body) if !body.is_empty()));
        }
    }
}

fn head_is_right(data: &[u8], head: &Head) {
    let Head { request, len, framing, .. } = head;
    assert!(data[..*len].ends_with(b"\r\n\r\n"));
    let lines = data[..*len].split_inclusive(|byte| *byte == b'\n');
    assert!(lines.clone().all(|line| line.ends_with(b"\r\n")));
    assert!(request.path.starts_with('/'), "{:?}", request.path);
    assert!(!request.path.contains(['?', '#', ' ']), "{:?}", request.path);
    let hosts: Vec<_> = request.headers_of("Host").collect();
    assert!(hosts.len() + usize::from(request.is_http10) >= 1 && hosts.len() <= 1, "{hosts:?}");
    assert!(hosts.iter().all(|host| is_host(host)), "{hosts:?}");
    let lengths = request.headers_of("Content-Length").count();
    let codings = request.headers_of("Transfer-Encoding").count();
    match framing {
        Framing::Nothing => assert_eq!((lengths, codings), (0, 0)),
        Framing::Length(_) => assert_eq!((lengths, codings), (1, 0)),
        Framing::Chunked => assert_eq!((lengths, codings), (0, 1)),
    }
    if let Some(segments) = request.segments() {
        assert_eq!(segments.len(), request.path.split('/').count() - 1);
    }
    let _ = (request.query_pairs(), request.bearer(), request.media_type());
    body(*framing, &data[*len..]);
}

/// A body is the same in whatever pieces it comes, and never larger than allowed.
fn body(framing: Framing, data: &[u8]) {
    let read = |step: usize| {
        let mut reader = BodyReader::new(framing, BODY_BYTES)?;
        let mut taken = 0;
        for piece in data.chunks(step) {
            let count = reader.take(piece)?;
            taken += count;
            if reader.is_done() {
                break;
            }
            assert_eq!(count, piece.len(), "what is not whole takes all there is");
        }
        let done = reader.is_done();
        Ok((done, taken, reader.into_body()))
    };
    let whole: Result<_, super::head::Refusal> = read(data.len().max(1));
    for step in [1, 3, 16] {
        assert_eq!(read(step), whole, "{framing:?} in pieces of {step}");
    }
    if let Ok((_, taken, body)) = whole {
        assert!(body.len() <= BODY_BYTES && taken <= data.len());
    }
}
