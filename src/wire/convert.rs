//! Ids and texts as the original converts them, to JSON and from it.

use std::fmt::Write as _;

use super::{envelope::MESSAGE_ID_BYTES, lenient::Json, trace::traceparent};
use crate::id::ClientId;

/// A payload as an object, read leniently.
pub(super) fn object(payload: &str) -> Option<Json> {
    Json::parse(payload).filter(|json| matches!(json, Json::Object(_)))
}

/// The id in a member; a missing one is 0, a null or unreadable one is an error.
pub(super) fn id_member(json: &Json, name: &str) -> Option<ClientId> {
    json.member(name).map_or(Some(ClientId::Int(0)), id)
}

/// The largest number up to which every whole one can be told from its neighbours as a fraction.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Ids as the original converts them: numbers round half to even, `true` is 1. A fraction that could stand
/// for several ids is none.
pub(super) fn id(json: &Json) -> Option<ClientId> {
    match json {
        Json::String(text) => ClientId::parse_text(text),
        Json::Bool(value) => Some(ClientId::Int(i64::from(*value))),
        Json::Number(number) => {
            let rounded = || {
                let value = number.parse::<f64>().ok()?.round_ties_even();
                (value.abs() < EXACT && number.contains(['.', 'e', 'E'])).then_some(value as i64)
            };
            number.parse().ok().or_else(rounded).map(ClientId::Int)
        }
        _ => None,
    }
}

/// The text of a scalar; null, lists and objects have none.
pub(super) fn text(json: &Json) -> Option<String> {
    match json {
        Json::String(text) | Json::Number(text) => Some(text.clone()),
        Json::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// An id that is too long to be repeated in every receipt counts as none.
pub(super) fn usable(id: Option<String>) -> Option<String> {
    id.filter(|id| id.len() <= MESSAGE_ID_BYTES)
}

/// What is no `traceparent` is none.
pub(super) fn good_trace(text: Option<String>) -> Option<String> {
    text.and_then(|text| traceparent(&text).map(str::to_owned))
}

/// A channel without a name is none.
pub(super) fn non_empty(channel: Option<String>) -> Option<String> {
    channel.filter(|name| !name.is_empty())
}

/// An id in JSON: a number, or the GUID or the text as a string.
pub(super) fn push_id(out: &mut String, id: &ClientId) {
    let _ = match id {
        ClientId::Int(id) => write!(out, "{id}"),
        ClientId::Guid(_) => write!(out, "\"{id}\""),
        ClientId::Text(text) => return push_string(out, text.as_str()),
    };
}

/// A JSON string with exactly the original's escapes: those of serde_json, and U+0085, U+2028, U+2029.
pub(super) fn push_string(out: &mut String, text: &str) {
    let json = serde_json::to_string(text).expect("a str is always valid JSON");
    const SEPARATORS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];
    if !json.contains(SEPARATORS) {
        out.push_str(&json);
        return;
    }
    for character in json.chars() {
        if SEPARATORS.contains(&character) {
            let _ = write!(out, "\\u{:04x}", character as u32);
        } else {
            out.push(character);
        }
    }
}
