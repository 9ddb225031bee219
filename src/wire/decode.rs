//! How what travels to a node is read: a number in front, a control word, and the message in either of two ways.
//!
//! The usual form is read by `known`; what that does not know goes to the lenient reader. Pure.

use super::{
    convert::{good_trace, id, id_member, non_empty, object, text, usable},
    envelope::{CHAN_MESSAGE, Envelope, FORCE_OFFLINE, FORWARDED, PROBE, SLOTS},
    known,
    lenient::Json,
};
use crate::id::ClientId;

/// Why a payload was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Not an object that can be read as an envelope.
    Unparsable,
    /// A control word that this version does not know.
    UnknownCommand,
}

impl Malformed {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Malformed::Unparsable => "payload is not an envelope",
            Malformed::UnknownCommand => "unknown control word",
        }
    }
}

impl Envelope {
    /// As [`decode`](Self::decode), and what the number in front says, if there is one.
    #[cfg(feature = "redis")]
    pub(crate) fn decode_numbered(payload: &str) -> (Mark, Result<Envelope, Malformed>) {
        let (number, message) = split_number(payload);
        let mark = match number {
            Some(0) => Mark::Volatile,
            Some(-1) => Mark::Refused,
            Some(number) if number >= LEAST_NUMBER => Mark::Logged(number as u64),
            _ => Mark::Plain,
        };
        (mark, Envelope::decode(message))
    }

    /// Reads what any version of the .NET helper writes, as leniently as the .NET server does.
    pub(crate) fn decode(payload: &str) -> Result<Envelope, Malformed> {
        let payload = strip_number(payload);
        if let Some(body) = payload.strip_prefix(CHAN_MESSAGE) {
            return decode_channel(body).ok_or(Malformed::Unparsable);
        }
        if let Some(id) = payload.strip_prefix(FORCE_OFFLINE) {
            let client = ClientId::parse_text(id).ok_or(Malformed::Unparsable)?;
            return Ok(Envelope::ForceOffline { client });
        }
        if let Some(probe) = payload.strip_prefix(PROBE) {
            let parts = probe.split_once(':');
            let numbers = parts.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            let (origin, number) = numbers.ok_or(Malformed::Unparsable)?;
            return Ok(Envelope::Probe { origin, number });
        }
        if let Some(version) = payload.strip_prefix(SLOTS) {
            return decode_slots(version).ok_or(Malformed::Unparsable);
        }
        if let Some(message) = payload.strip_prefix(FORWARDED) {
            // Only what is for clients is handed on, and once.
            return match Envelope::decode(message)? {
                message @ (Envelope::Direct { .. } | Envelope::ForceOffline { .. }) => {
                    Ok(Envelope::Forwarded(Box::new(message)))
                }
                _ => Err(Malformed::Unparsable),
            };
        }
        if payload.starts_with("__") {
            return Err(Malformed::UnknownCommand);
        }
        decode_direct(payload).ok_or(Malformed::Unparsable)
    }

    /// What [`decode`](Self::decode) must make of a message: it reads the usual form in a faster way.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn decode_leniently(payload: &str) -> Option<Envelope> {
        let payload = strip_number(payload);
        match payload.strip_prefix(CHAN_MESSAGE) {
            Some(body) => lenient_channel(body),
            None => lenient_direct(payload),
        }
    }
}

/// What stands in front of a payload where a log is kept.
#[cfg(feature = "redis")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Its number in the log.
    Logged(u64),
    /// No log is to keep it: `0`.
    Volatile,
    /// The log did not take it: `-1`.
    Refused,
    /// Nothing, or a number of a CSRedis-era publisher, which only counts.
    Plain,
}

/// The log's numbers are microseconds, and none is of before 2001.
#[cfg(feature = "redis")]
const LEAST_NUMBER: i64 = 1_000_000_000_000_000;

/// Longest number in front of a payload, blanks included.
const NUMBER_BYTES: usize = 24;

/// CSRedis-era publishers put `number|` in front of every payload.
fn strip_number(payload: &str) -> &str {
    split_number(payload).1
}

fn split_number(payload: &str) -> (Option<i64>, &str) {
    // What most payloads begin with is no number.
    if payload.starts_with(['{', '_']) {
        return (None, payload);
    }
    let front = payload.as_bytes().get(..=NUMBER_BYTES).unwrap_or(payload.as_bytes());
    let bar = front.iter().position(|byte| *byte == b'|');
    let number = bar.and_then(|bar| payload[..bar].trim().parse().ok());
    match (number, bar) {
        (Some(number), Some(bar)) => (Some(number), &payload[bar + 1..]),
        _ => (None, payload),
    }
}

fn decode_slots(text: &str) -> Option<Envelope> {
    let Some((version, given)) = text.split_once([':', '!']) else {
        return Some(Envelope::Slots { version: text.parse().ok()?, given: None, from: None });
    };
    let (slot, to) = given.split_once(':')?;
    let (to, from) = match text.as_bytes().get(version.len()) {
        Some(b'!') => to.split_once(' ').map(|(to, from)| (to, Some(from.to_owned())))?,
        _ => (to, None),
    };
    let given = Some((slot.parse().ok()?, to.to_owned()));
    Some(Envelope::Slots { version: version.parse().ok()?, given, from })
}

fn decode_direct(payload: &str) -> Option<Envelope> {
    known::direct(payload).or_else(|| lenient_direct(payload))
}

fn lenient_direct(payload: &str) -> Option<Envelope> {
    let json = object(payload)?;
    let receivers = match json.member("Item2")? {
        Json::Array(ids) => ids,
        list @ Json::Object(_) => match list.member("$values")? {
            Json::Array(ids) => ids,
            _ => return None,
        },
        _ => return None,
    };
    Some(Envelope::Direct {
        sender: id_member(&json, "Item1")?,
        receivers: receivers.iter().map(id).collect::<Option<_>>()?,
        content: text(json.member("Item3")?)?,
        receipt: flag(&json, "Item4")?,
        id: usable(json.member("Id").and_then(text)),
        acknowledge: flag(&json, "Ack").unwrap_or_default(),
        about: flag(&json, "Receipt").unwrap_or_default(),
        trace: good_trace(json.member("Trace").and_then(text)),
    })
}

/// A member that says yes or no, and no if it is missing; `None` if it says neither.
fn flag(json: &Json, name: &str) -> Option<bool> {
    match json.member(name) {
        None => Some(false),
        Some(Json::Bool(wanted)) => Some(*wanted),
        Some(Json::Number(number)) => Some(number.parse::<f64>().ok()? != 0.0),
        Some(Json::String(word)) => word.trim().to_ascii_lowercase().parse().ok(),
        Some(_) => None,
    }
}

fn decode_channel(payload: &str) -> Option<Envelope> {
    known::channel(payload).or_else(|| lenient_channel(payload))
}

fn lenient_channel(payload: &str) -> Option<Envelope> {
    let json = object(payload)?;
    let channel = match json.member("Item2") {
        None | Some(Json::Null) => None,
        Some(name) => Some(text(name)?),
    };
    Some(Envelope::Channel {
        sender: id_member(&json, "Item1")?,
        channel: non_empty(channel),
        content: text(json.member("Item3")?)?,
        trace: good_trace(json.member("Trace").and_then(text)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_old_publishers_is_stripped() {
        let payload = r#"17|{"Item1":0,"Item2":[2],"Item3":"a|b","Item4":false}"#;
        let Ok(Envelope::Direct { content, .. }) = Envelope::decode(payload) else { panic!() };
        assert_eq!(content, "a|b");
    }

    #[test]
    fn a_number_in_front_is_short() {
        let payload = |blanks: usize| format!("{}17|{{\"Item1\":1}}", " ".repeat(blanks));
        assert_eq!(split_number(&payload(22)), (Some(17), "{\"Item1\":1}"));
        for payload in [&*payload(23), "x|y", "|", "", "{|x", "1.5|x", "𝕏𝕏𝕏𝕏𝕏𝕏|x"]
        {
            assert_eq!(split_number(payload), (None, payload));
        }
    }

    #[test]
    fn unknown_commands_are_told_from_garbage() {
        assert_eq!(Envelope::decode("__FreeIM__(New)x"), Err(Malformed::UnknownCommand));
        assert_eq!(Envelope::decode("__freeim__(forceoffline)2"), Err(Malformed::UnknownCommand));
        for payload in ["", "hello", "[]", "null", "{}", "0\r\n", "__FreeIM__(ForceOffline)a b"] {
            assert_eq!(Envelope::decode(payload), Err(Malformed::Unparsable), "{payload}");
        }
    }
}
