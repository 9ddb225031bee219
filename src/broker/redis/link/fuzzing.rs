//! What must hold of what Redis sends, for any bytes. See [`crate::fuzzing`].

use redis::{Parser, Value};

use super::pushes::{Push, Pushes};

/// The replies in a stream, whose first byte is the size of its pieces, are those that the client library finds.
pub fn pushes(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let mut pushes = Pushes::new();
    let mut ours = Vec::new();
    'stream: for piece in stream.chunks(usize::from(*size).max(1)) {
        pushes.room()[..piece.len()].copy_from_slice(piece);
        pushes.came(piece.len());
        loop {
            match pushes.take() {
                Ok(Some(push)) => ours.push(value(push)),
                Ok(None) => break,
                Err(_) => break 'stream,
            }
        }
    }
    let (mut parser, mut rest) = (Parser::new(), stream);
    let theirs: Vec<_> = std::iter::from_fn(|| parser.parse_value(&mut rest).ok()).collect();
    // Not compared as numbers, of which one differs from itself.
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{}", stream.escape_ascii());
}

/// As the client library says it.
fn value(push: Push<'_>) -> Value {
    let text = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
    match push {
        Push::Message { topic, payload } => {
            Value::Array(vec![text(b"message"), text(topic), text(payload)])
        }
        Push::Other(value) => value,
    }
}
