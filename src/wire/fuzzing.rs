//! Invariants of what is read from Redis, for any text. See [`crate::fuzzing`].

use serde_json::Value;

use super::{Envelope, Ticket, lenient::Json};

/// A message means the same to the fast reader as to the lenient one. Whatever is understood is written so
/// that it is understood again, and strictly.
pub fn envelope(data: &[u8]) {
    let Ok(payload) = std::str::from_utf8(data) else { return };
    let Ok(envelope) = Envelope::decode(payload) else { return };
    if matches!(envelope, Envelope::Direct { .. } | Envelope::Channel { .. }) {
        assert_eq!(Some(&envelope), Envelope::decode_leniently(payload).as_ref(), "{payload}");
    }
    let encoded = envelope.encode();
    assert_eq!(Envelope::decode(&encoded).as_ref(), Ok(&envelope), "{encoded}");
    if let Some(start) = encoded.find('{') {
        let strict = serde_json::from_str::<Value>(&encoded[start..]);
        assert!(strict.is_ok_and(|json| json.is_object()), "{encoded}");
    }
}

/// A ticket keeps its text, and a .NET subscriber can read that text: every member that it may take for
/// `Item1`, `Item2` or a reference has a value that converts.
pub fn ticket(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(ticket) = Ticket::parse(text) else { return };
    assert_eq!(ticket.text(), text);
    let json = Json::parse(text).expect("the text is at least lenient JSON");
    let Json::Object(members) = json else { panic!("not an object") };
    for (name, value) in members {
        let scalar = matches!(value, Json::String(_) | Json::Number(_) | Json::Bool(_));
        if name.eq_ignore_ascii_case("Item1") {
            assert!(scalar, "Item1 is {value:?}");
        } else if name.eq_ignore_ascii_case("Item2") {
            assert!(scalar || value == Json::Null, "Item2 is {value:?}");
        }
        assert!(!matches!(name.as_str(), "$ref" | "$values"), "{name}");
    }
    let again = Ticket::new(ticket.client().clone(), ticket.meta().as_deref());
    let parsed = Ticket::parse(again.text()).expect("what we write is a ticket");
    assert_eq!((parsed.client(), parsed.meta()), (ticket.client(), ticket.meta()));
    let strict: Value = serde_json::from_str(again.text()).expect("what we write is JSON");
    assert!(strict["Item2"].is_string() || strict["Item2"].is_null());
}

/// Strict JSON means the same to the lenient reader, up to its depth.
pub fn lenient_json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lenient = Json::parse(text);
    let Ok(strict) = serde_json::from_str::<Value>(text) else { return };
    match lenient {
        Some(lenient) => assert!(same(&lenient, &strict), "{lenient:?} is not {strict}"),
        None => assert!(depth(&strict) > 60, "strict JSON is refused"),
    }
}

fn same(lenient: &Json, strict: &Value) -> bool {
    match (lenient, strict) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(a), Value::Bool(b)) => a == b,
        (Json::String(a), Value::String(b)) => a == b,
        (Json::Number(a), Value::Number(b)) => {
            let (a, b) = (a.parse::<f64>().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= b.abs() * 1e-12
        }
        (Json::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(members), Value::Object(map)) => map.iter().all(|(name, value)| {
            let last = members.iter().rev().find(|(key, _)| key == name);
            last.is_some_and(|(_, found)| same(found, value))
        }),
        _ => false,
    }
}

fn depth(json: &Value) -> usize {
    match json {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
