//! Reads replies of Redis without trusting them: foreign bytes become replacement characters, a
//! foreign type becomes nothing. Pure.

use redis::Value;

/// The bytes of a string; empty for anything else.
pub(crate) fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        _ => Vec::new(),
    }
}

/// A string as text.
pub(crate) fn text(value: Value) -> String {
    String::from_utf8(bytes(value))
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The items of a list.
pub(crate) fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// A list of strings as texts.
pub(crate) fn texts(value: Value) -> Vec<String> {
    items(value).into_iter().map(text).collect()
}

/// Pairs of neighbours, as Redis lists the fields of a hash and their values. An odd last item is left out.
pub(crate) fn pairs<T>(mut items: impl Iterator<Item = T>) -> impl Iterator<Item = (T, T)> {
    std::iter::from_fn(move || items.next().zip(items.next()))
}

/// A number, as an integer reply or as text; 0 for anything else, as the original reads counters.
pub(crate) fn number(value: Value) -> i64 {
    match value {
        Value::Int(number) => number,
        value => text(value).trim().parse().unwrap_or(0),
    }
}
