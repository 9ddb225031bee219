//! From bodies, paths and queries to values that are good: every limit of the API is enforced here, and
//! the document states the same ones. Pure.

use std::time::Duration;

use imcore::{ClientId, IdKind, MOST_WEIGHT, Receipt, Ticket, broker::DEAD_LETTERS};
use serde_json::value::RawValue;

use super::{
    json::{self, Mistake, Shape},
    problem::{Code, Problem},
};
use crate::web::Request;

/// Bytes of a request body.
pub(super) const BODY: usize = 1 << 20;
/// Bytes of one message.
pub(super) const MESSAGE: usize = 256 << 10;
/// Arrays and objects of a message that lie in each other: not every reader of JSON survives more.
pub(super) const DEPTH: usize = 128;
/// Clients, channels or memberships in one list.
pub(super) const LIST: usize = 10_000;
/// Messages of a batch.
pub(super) const BATCH: usize = 1000;
/// Characters of a channel's name.
pub(super) const CHANNEL: usize = 256;
/// Characters of the note about a connection.
pub(super) const META: usize = 1024;
/// Characters of a message's id.
pub(super) const MESSAGE_ID: usize = 128;
/// Characters of an idempotency key.
pub(super) const KEY: usize = 255;
/// Entries of one page.
pub(super) const PAGE: usize = 1000;

// --- Clients -------------------------------------------------------------------------------------

/// A client, or the system, by its text as it is written in answers.
///
/// Stricter than the library, which reads what .NET writes in all its forms: each id has one text here,
/// but for the case of a GUID. Texts that are neither a number nor a GUID are ids where the deployment has such.
pub(super) fn id_text(text: &str, kind: IdKind) -> Result<ClientId, Mistake> {
    let id: ClientId = text.parse().map_err(|_| no_id(text, kind))?;
    let is_its_own = match &id {
        ClientId::Text(_) => kind == IdKind::Text,
        ClientId::Guid(_) => id.to_string() == text.to_ascii_lowercase(),
        _ => id.to_string() == text,
    };
    if is_its_own { Ok(id) } else { Err(no_id(text, kind)) }
}

/// A client, or the system, in an address: its text, or a number as JSON writes it.
pub(super) fn id_path(text: &str, kind: IdKind) -> Result<ClientId, Mistake> {
    let is_number = || {
        let value: Result<&RawValue, _> = serde_json::from_str(text);
        value.is_ok_and(|value| value.get() == text && Shape::of(text) == Shape::Number)
    };
    match id_text(text, kind) {
        Err(_) if is_number() => number(text, kind),
        found => found,
    }
}

/// A client, or the system: a number, or a string with its text.
pub(super) fn id(text: &str, kind: IdKind) -> Result<ClientId, Mistake> {
    match Shape::of(text) {
        Shape::String => id_text(&json::string(text)?, kind),
        Shape::Number => number(text, kind),
        _ => Err(no_id(text, kind)),
    }
}

/// A client that is somebody.
pub(super) fn user(text: &str, kind: IdKind) -> Result<ClientId, Mistake> {
    somebody(id(text, kind)?)
}

/// Refuses the system's ids, which is also what no id at all becomes in many languages.
pub(super) fn somebody(id: ClientId) -> Result<ClientId, Mistake> {
    match id.is_system() {
        true => Err(Mistake::new(format!("{id} is the system, and no client"))),
        false => Ok(id),
    }
}

fn no_id(text: &str, kind: IdKind) -> Mistake {
    let shown: String = text.chars().take(64).collect();
    let or_text = match kind {
        IdKind::Text => {
            ", or another text of 1 to 64 bytes without white space, control characters and U+FFFD; a number \
             has one spelling, so 042 is none"
        }
        _ => "",
    };
    Mistake::new(format!(
        "{shown} is not a client id; expected a 64-bit integer such as 42, or a string with one or with a \
         GUID such as \"0f8fad5b-d9cb-469f-a165-70867728950e\"{or_text}"
    ))
}

fn number(text: &str, kind: IdKind) -> Result<ClientId, Mistake> {
    integer(text).map(ClientId::from).ok_or_else(|| no_id(text, kind))
}

/// The integer that a JSON number is, digit by digit: no floating-point number takes part.
fn integer(text: &str) -> Option<i64> {
    if let Ok(integer) = text.parse() {
        return Some(integer);
    }
    if Shape::of(text) != Shape::Number || !text.contains(['.', 'e', 'E']) {
        return None;
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole.trim_start_matches('-'), fraction].concat();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    // The value is `digits` times ten to the power of `shift`.
    let significant = digits.trim_end_matches('0');
    let exponent: i64 = exponent.parse().ok()?;
    let cut = (digits.len() - significant.len()) as i64 - fraction.len() as i64;
    let zeros = usize::try_from(exponent.checked_add(cut)?).ok().filter(|zeros| *zeros < 20)?;
    if significant.len() + zeros > 20 {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    format!("{sign}{significant}{}", "0".repeat(zeros)).parse().ok()
}

// --- Texts and messages --------------------------------------------------------------------------

/// The name of a channel.
pub(super) fn channel_name(name: String) -> Result<String, Mistake> {
    characters(name, 1, CHANNEL)
}

pub(super) fn channel(text: &str) -> Result<String, Mistake> {
    channel_name(json::string(text)?)
}

/// What receipts name a message by.
pub(super) fn message_id(text: &str) -> Result<String, Mistake> {
    let id = json::string(text)?;
    match is_visible(&id, MESSAGE_ID) {
        true => Ok(id),
        false => Err(Mistake::new(format!("expected 1 to {MESSAGE_ID} visible ASCII characters"))),
    }
}

/// Whether these are up to `most` characters that every program takes.
pub(super) fn is_visible(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The note about a connection; `null` is none.
pub(super) fn meta(text: &str) -> Result<Option<String>, Mistake> {
    match Shape::of(text) {
        Shape::Null => Ok(None),
        Shape::String => characters(json::string(text)?, 0, META).map(Some),
        shape => Err(Mistake::new(format!(
            "it is {shape}; expected a string or null, so put other JSON into a string"
        ))),
    }
}

/// How long a client is waited for, in seconds.
pub(super) fn keep(text: &str) -> Result<Duration, Mistake> {
    let most = Ticket::LONGEST_KEEP.as_secs();
    let seconds = integer(text).and_then(|seconds| u64::try_from(seconds).ok());
    match seconds.filter(|seconds| *seconds <= most) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(Mistake::new(format!("expected a whole number of seconds from 0 to {most}"))),
    }
}

/// What a sender is told of its message: `true` is `"sent"`.
pub(super) fn receipt(text: &str) -> Result<Receipt, Mistake> {
    match text {
        "false" => Ok(Receipt::None),
        "true" | "\"sent\"" => Ok(Receipt::Sent),
        "\"acknowledged\"" => Ok(Receipt::Acknowledged),
        _ => Err(Mistake::new("expected true, false, \"sent\" or \"acknowledged\"")),
    }
}

fn characters(text: String, least: usize, most: usize) -> Result<String, Mistake> {
    let count = text.chars().count();
    match (least..=most).contains(&count) {
        true => Ok(text),
        false => {
            Err(Mistake::new(format!("it has {count} characters; expected {least} to {most}")))
        }
    }
}

/// A message for sockets, as it was written: numbers keep all their digits, objects their order.
pub(super) fn message(text: &str) -> Result<&RawValue, Mistake> {
    let length = text.len();
    if length > MESSAGE {
        let why = format!("it has {length} bytes of JSON, and {MESSAGE} at most are taken");
        return Err(Mistake::new(why).with_code(Code::TooLarge));
    }
    if json::depth(text) > DEPTH {
        return Err(Mistake::new(format!(
            "its arrays and objects lie in each other more than {DEPTH} deep"
        )));
    }
    serde_json::from_str(text).map_err(|error| Mistake::new(error.to_string()))
}

// --- Events that are kept ------------------------------------------------------------------------

/// Characters of a group's name.
pub(super) const GROUP: usize = 128;
/// Events that are acknowledged at once.
pub(super) const IDS: usize = 1000;
/// Above it, JavaScript would round.
const EXACT: u64 = (1 << 53) - 1;

/// The name of a group of readers that callers may have; those that begin with `@` are the nodes' own.
pub(super) fn group_name(name: String) -> Result<String, Mistake> {
    match any_group_name(name)? {
        name if name.starts_with('@') => {
            Err(Mistake::new("names that begin with @ are the nodes' own; take another one"))
        }
        name => Ok(name),
    }
}

/// The name of any group of readers.
pub(super) fn any_group_name(name: String) -> Result<String, Mistake> {
    match is_visible(&name, GROUP) {
        true => Ok(name),
        false => Err(Mistake::new(format!("expected 1 to {GROUP} visible ASCII characters"))),
    }
}

/// Whether this can be the id of an event.
pub(super) fn event_id(text: &str) -> bool {
    let is_number =
        |text: &str| digits(text, 19).is_some() && (text == "0" || !text.starts_with('0'));
    text.split_once('-').is_some_and(|(n, serial)| is_number(n) && is_number(serial))
}

/// A number of up to so many digits.
pub(super) fn digits(text: &str, most: usize) -> Option<u64> {
    let are_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| are_digits && text.len() <= most)
}

/// Ids of events.
pub(super) fn event_ids(text: &str) -> Result<Vec<String>, Mistake> {
    json::array(text, (0, IDS), |text| {
        let id = json::string(text)?;
        match event_id(&id) {
            true => Ok(id),
            false => Err(Mistake::new(
                "expected the `id` of an event, such as \"1764304503123459-4714\"",
            )),
        }
    })
}

/// How many events were missed.
pub(super) fn missed(text: &str) -> Result<u64, Mistake> {
    let number = integer(text).and_then(|number| u64::try_from(number).ok());
    number
        .filter(|number| *number <= EXACT)
        .ok_or_else(|| Mistake::new("expected the number that `missed` had"))
}

// --- Webhooks ------------------------------------------------------------------------------------

/// The name of a dead letter.
pub(super) fn letter_id(id: String) -> Result<String, Mistake> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_digest = |text: &str| text.len() == 16 && text.bytes().all(is_hex);
    match id.rsplit_once('-') {
        Some((event, digest)) if event_id(event) && is_digest(digest) => Ok(id),
        _ => Err(Mistake::new(
            "expected the `letter` of a list, such as \"1764304503123458-4713-9a0b1c2d3e4f5a6b\"",
        )),
    }
}

/// Names of dead letters.
pub(super) fn letter_ids(text: &str) -> Result<Vec<String>, Mistake> {
    json::array(text, (1, DEAD_LETTERS), |text| letter_id(json::string(text)?))
}

// --- Nodes ---------------------------------------------------------------------------------------

/// Nodes of one kind of change.
pub(super) const NODES: usize = 20;
/// Characters of a node's name.
pub(super) const SERVER: usize = 256;
/// The highest weight of a node that is asked about.
pub(super) const WEIGHT: u32 = MOST_WEIGHT;

/// The name of a node.
pub(super) fn server(text: &str) -> Result<String, Mistake> {
    characters(json::string(text)?, 1, SERVER)
}

/// How many slots a node takes compared with others.
pub(super) fn weight(text: &str) -> Result<u32, Mistake> {
    let number = integer(text).and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| *number <= WEIGHT)
        .ok_or_else(|| Mistake::new(format!("expected a whole number from 0 to {WEIGHT}")))
}

/// The same, or `null`.
pub(super) fn weight_or_null(text: &str) -> Result<Option<u32>, Mistake> {
    if text.trim() == "null" { Ok(None) } else { weight(text).map(Some) }
}

// --- Queries -------------------------------------------------------------------------------------

/// Which part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// About so many entries.
    pub(super) limit: usize,
    /// `next` of the page before, which only the broker reads.
    pub(super) after: Option<String>,
}

/// The query of a request for a list.
pub(super) fn page(request: &Request) -> Result<Page, Problem> {
    let [limit, after] = query(request, ["limit", "after"])?;
    let limit = limit.map_or(Ok(PAGE), |text| {
        let number = text.parse().ok().filter(|number| (1..=PAGE).contains(number));
        number.ok_or_else(|| {
            Problem::invalid(format!("limit: {text:?} is not a number from 1 to {PAGE}"))
        })
    })?;
    match after {
        Some(after) if after.is_empty() => Err(unusable("after", "")),
        after => Ok(Page { limit, after }),
    }
}

/// What a query says of each of these names, and nothing else, each once.
pub(super) fn query<const N: usize>(
    request: &Request,
    names: [&str; N],
) -> Result<[Option<String>; N], Problem> {
    let pairs = request.query_pairs().ok_or_else(|| Problem::invalid(NOT_ENCODED))?;
    let mut values = [const { None }; N];
    for (name, value) in pairs {
        let place = names.iter().position(|known| *known == name);
        match place.and_then(|place| values.get_mut(place)) {
            Some(slot @ None) => *slot = Some(value),
            _ => return Err(unusable(&name, &value)),
        }
    }
    Ok(values)
}

fn unusable(name: &str, value: &str) -> Problem {
    Problem::invalid(format!("{name}={value} cannot be used in this query"))
}

pub(super) const NOT_ENCODED: &str = "the address is not percent-encoded UTF-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_whole_numbers_however_they_are_written() {
        for (text, seconds) in [("0", 0), ("188.0", 188), ("1.2e2", 120), ("86400", 86_400)] {
            assert_eq!(keep(text).ok(), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["-1", "0.5", "86401", "8.64e5", "1e99999", "\"60\"", "\"6.0\"", "true", "null"]
        {
            assert!(keep(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ids_are_numbers_or_their_text() {
        let guid = "0f8fad5b-d9cb-469f-a165-70867728950e";
        for (text, expected) in [
            ("42", "42"),
            ("-0", "0"),
            ("0.0e99999", "0"),
            ("-42.0", "-42"),
            ("1851858646950989.0", "1851858646950989"),
            ("1e3", "1000"),
            ("1.2E+1", "12"),
            ("4200e-2", "42"),
            ("4200.000e-2", "42"),
            ("9007199254740993.0", "9007199254740993"),
            ("9007199254740993e0", "9007199254740993"),
            ("90071992547409930e-1", "9007199254740993"),
            ("9.007199254740993E15", "9007199254740993"),
            ("-9007199254740995.00", "-9007199254740995"),
            ("9.223372036854775807e18", "9223372036854775807"),
            ("-9223372036854775808.0", "-9223372036854775808"),
            ("9007199254740993", "9007199254740993"),
            ("\"42\"", "42"),
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("\"-9223372036854775808\"", "-9223372036854775808"),
            ("\"0F8FAD5B-d9cb-469f-a165-70867728950e\"", guid),
        ] {
            for kind in [IdKind::Int, IdKind::Text] {
                let read = id(text, kind).map(|id| id.to_string());
                assert_eq!(read, Ok(expected.into()), "{text} {kind}");
            }
        }
    }

    #[test]
    fn no_id_becomes_another_one() {
        for text in [
            "null",
            "true",
            "1.5",
            "1e-1",
            "1e300",
            "1e19",
            "1e99999999999999999999",
            "9007199254740993.5",
            "9223372036854775808",
            "9223372036854775808.0",
            "-9223372036854775809e0",
            "18446744073709551616.0",
            "\"\"",
            "\" 42\"",
            "\"+42\"",
            "\"042\"",
            "\"-0\"",
            "\"42.0\"",
            "\"0f8fad5bd9cb469fa16570867728950e\"",
            "[1]",
            "\"９\"",
        ] {
            assert!(id(text, IdKind::Any).is_err(), "{text}");
        }
        assert_eq!(id_path("42.0", IdKind::Any).unwrap().to_string(), "42");
        for text in ["9007199254740993.1", "+42", "042", "42.", " 42", "4 2", "1..2", ""] {
            assert!(id_path(text, IdKind::Any).is_err(), "{text}");
        }
        for text in ["0", "\"0\"", "0.0", "\"00000000-0000-0000-0000-000000000000\""] {
            let mistake = user(text, IdKind::Text).unwrap_err();
            assert!(mistake.detail().contains("is the system"), "{text}");
        }
    }

    #[test]
    fn texts_are_ids_where_the_deployment_has_such() {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let longest = "é".repeat(32);
        for text in [
            "alice",
            "a,b:c/d?e#f%20g+\"\\",
            "42.0",
            "...",
            "9223372036854775808",
            "李雷@例子",
            "{42}",
            &longest,
        ] {
            for read in [id(&quoted(text), IdKind::Text), id_path(text, IdKind::Text)] {
                assert_eq!(read.map(|id| id.to_string()), Ok(text.to_owned()));
            }
            assert!(id(&quoted(text), IdKind::Any).is_err(), "{text}");
        }
        let longer = "é".repeat(32) + "x";
        for text in
            ["", " a", "a b", "a\u{7}", "a\u{2028}", "a\u{fffd}", ".", "..", "042", "+7", &longer]
        {
            let mistake = id(&quoted(text), IdKind::Text).unwrap_err();
            assert!(mistake.detail().contains("64 bytes"), "{text:?}: {mistake:?}");
            assert!(id_path(text, IdKind::Text).is_err(), "{text:?}");
        }
        for text in ["1.5", "9223372036854775808", "true", "null", "[]", "{}"] {
            assert!(id(text, IdKind::Text).is_err(), "{text}: only strings are texts");
        }
    }

    #[test]
    fn texts_have_a_length() {
        let quoted = |count| format!("\"{}\"", "好".repeat(count));
        assert!(channel(&quoted(CHANNEL)).is_ok() && channel(&quoted(1)).is_ok());
        assert!(channel(&quoted(CHANNEL + 1)).is_err() && channel(&quoted(0)).is_err());
        assert_eq!((meta("null"), meta("\"\"")), (Ok(None), Ok(Some(String::new()))));
        assert!(meta(&quoted(META)).is_ok() && meta(&quoted(META + 1)).is_err());
        assert!(meta("{}").unwrap_err().detail().contains("it is an object"));
    }

    #[test]
    fn messages_stay_as_they_are() {
        for text in ["{\"b\":1.0,\"a\":12345678901234567890123}", "\"\\u00e9\"", "null"] {
            assert_eq!(message(text).unwrap().get(), text);
        }
        let long = format!("\"{}\"", "x".repeat(MESSAGE - 2));
        assert!(message(&long).is_ok());
        let longer = format!("\"{}\"", "x".repeat(MESSAGE - 1));
        assert_eq!(message(&longer).unwrap_err().code, Code::TooLarge);
        let nested = |depth| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(message(&nested(DEPTH)).is_ok() && message(&nested(DEPTH + 1)).is_err());
    }

    #[test]
    fn pages_follow_each_other() {
        let request = |query: &str| Request { query: Some(query.into()), ..Request::default() };
        let page = |query: &str| super::page(&request(query));
        assert_eq!(page("").unwrap(), Page { limit: PAGE, after: None });
        assert_eq!(
            page("after=a%20b&limit=7").unwrap(),
            Page { limit: 7, after: Some("a b".into()) }
        );
        for query in
            ["limit=0", "limit=1001", "limit=x", "limit=1&limit=1", "limit", "x=1", "after="]
        {
            assert!(page(query).is_err(), "{query}");
        }
        assert!(query(&request("limit=1"), []).is_err());
    }
}
