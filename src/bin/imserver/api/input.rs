//! From bodies, paths and queries to values that are good: every limit of the API is enforced here, and
//! the document states the same ones. Pure.

use imcore::ClientId;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::problem::{Code, Problem};
use crate::web::Request;

/// Bytes of a request body.
pub(super) const BODY: usize = 1 << 20;
/// Bytes of one message.
pub(super) const MESSAGE: usize = 256 << 10;
/// Clients, channels or memberships in one list.
pub(super) const LIST: usize = 10_000;
/// Messages of a batch.
pub(super) const BATCH: usize = 1000;
/// Characters of a channel's name.
pub(super) const CHANNEL: usize = 256;
/// Characters of the note about a connection.
pub(super) const META: usize = 1024;
/// Characters of an idempotency key.
pub(super) const KEY: usize = 255;
/// Entries of one page.
pub(super) const PAGE: usize = 1000;

/// A client id: a number, or its text as it is written in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(pub(super) ClientId);

impl Id {
    /// Stricter than the library, which reads what .NET writes in all its forms: each id has one text
    /// here, but for the case of a GUID.
    pub(super) fn parse(text: &str) -> Result<Id, Problem> {
        let id: Option<ClientId> = text.parse().ok();
        id.filter(|id| id.to_string() == text.to_ascii_lowercase()).map(Id).ok_or_else(|| {
            Problem::invalid(format!(
                "{text:?} is not a client id; expected a 64-bit integer such as 42 or a GUID such as \
                 0f8fad5b-d9cb-469f-a165-70867728950e"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Id {
    /// From the text itself, as no number type of JSON readers holds all that may stand there.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        let value = Box::<RawValue>::deserialize(deserializer)?;
        let text = value.get();
        let id = match serde_json::from_str::<String>(text) {
            Ok(text) => Id::parse(&text).ok(),
            Err(_) => text.parse().ok().or_else(|| whole(text)).map(|id: i64| Id(id.into())),
        };
        id.ok_or_else(|| {
            let text: String = text.chars().take(64).collect();
            de::Error::custom(format!(
                "{text} is not a client id: expected a 64-bit integer, or a string with one or with a GUID"
            ))
        })
    }
}

/// A whole number that is written with a fraction or an exponent, as some languages do.
fn whole(text: &str) -> Option<i64> {
    let number: f64 = text.contains(['.', 'e', 'E']).then(|| text.parse().ok())??;
    let fits = number.fract() == 0.0 && number.abs() < i64::MAX as f64;
    fits.then_some(number as i64)
}

/// Text of so many characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text<const MIN: usize, const MAX: usize>(pub(super) String);

pub(super) type ChannelName = Text<1, CHANNEL>;
pub(super) type Meta = Text<0, META>;

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    pub(super) fn check(text: String) -> Result<Self, Problem> {
        let count = text.chars().count();
        if (MIN..=MAX).contains(&count) {
            return Ok(Text(text));
        }
        let detail = format!("a text has {count} characters; expected {MIN} to {MAX}");
        Err(Problem::invalid(detail))
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Text::check(text).map_err(|problem| de::Error::custom(problem.detail))
    }
}

/// A list of at most so many entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List<T, const MAX: usize>(pub(super) Vec<T>);

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::deserialize(deserializer)?;
        match entries.len() {
            count if count > MAX => {
                Err(de::Error::custom(format!("a list has {count} entries, and {MAX} at most")))
            }
            _ => Ok(List(entries)),
        }
    }
}

/// A message for sockets, as it was written: numbers keep all their digits, objects their order.
#[derive(Debug)]
pub(super) struct Message(pub(super) Box<RawValue>);

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Message)
    }
}

impl Message {
    pub(super) fn check(&self) -> Result<(), Problem> {
        match self.0.get().len() {
            length if length > MESSAGE => {
                let detail =
                    format!("the message has {length} bytes of JSON, and {MESSAGE} at most");
                Err(Problem::new(Code::TooLarge, detail))
            }
            _ => Ok(()),
        }
    }
}

/// For a key that may be left out but not be null.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The body of a request.
pub(super) fn body<'de, T: Deserialize<'de>>(request: &'de Request) -> Result<T, Problem> {
    serde_json::from_slice(&request.body)
        .map_err(|error| Problem::invalid(format!("the body: {error}")))
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) limit: usize,
    /// The last entry of the page before.
    pub(super) after: Option<String>,
}

/// The query of a request for a list; others have none.
pub(super) fn page(request: &Request, is_list: bool) -> Result<Page, Problem> {
    let pairs = request.query_pairs().ok_or_else(|| Problem::invalid(NOT_ENCODED))?;
    let (mut limit, mut after) = (None, None);
    for (name, value) in pairs {
        match name.as_str() {
            "limit" if is_list && limit.is_none() => {
                let number = value.parse().ok().filter(|number| (1..=PAGE).contains(number));
                limit = Some(number.ok_or_else(|| {
                    Problem::invalid(format!("limit: {value:?} is not a number from 1 to {PAGE}"))
                })?);
            }
            "after" if is_list && after.is_none() && !value.is_empty() => after = Some(value),
            _ => {
                return Err(Problem::invalid(format!(
                    "{name}={value} cannot be used in this query"
                )));
            }
        }
    }
    Ok(Page { limit: limit.unwrap_or(PAGE), after })
}

pub(super) const NOT_ENCODED: &str = "the address is not percent-encoded UTF-8";

impl Page {
    /// The entries on this page, and whether there are more.
    pub(super) fn cut<T: Ord>(&self, mut entries: Vec<T>, after: Option<T>) -> (Vec<T>, bool) {
        if let Some(after) = after {
            entries.retain(|entry| *entry > after);
        }
        entries.sort_unstable();
        let more = entries.len() > self.limit;
        entries.truncate(self.limit);
        (entries, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn ids_are_numbers_or_their_text() {
        let guid = "0f8fad5b-d9cb-469f-a165-70867728950e";
        for (text, id) in [
            ("42", "42"),
            ("-42.0", "-42"),
            ("1851858646950989.0", "1851858646950989"),
            ("1e3", "1000"),
            ("\"42\"", "42"),
            ("9223372036854775807", "9223372036854775807"),
            ("\"-9223372036854775808\"", "-9223372036854775808"),
            ("\"0F8FAD5B-d9cb-469f-a165-70867728950e\"", guid),
        ] {
            assert_eq!(read::<Id>(text).unwrap().0.to_string(), id, "{text}");
        }
        for text in [
            "null",
            "true",
            "1.5",
            "1e300",
            "9223372036854775808",
            "\"\"",
            "\" 42\"",
            "\"+42\"",
            "\"042\"",
            "\"-0\"",
            "\"0f8fad5bd9cb469fa16570867728950e\"",
            "[1]",
            "\"９\"",
        ] {
            assert!(read::<Id>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn texts_and_lists_have_a_length() {
        assert!(read::<Text<1, 2>>("\"你好\"").is_ok());
        assert!(read::<Text<1, 2>>("\"你好吗\"").is_err() && read::<Text<1, 2>>("\"\"").is_err());
        assert!(read::<List<u8, 2>>("[1, 2]").is_ok() && read::<List<u8, 2>>("[1, 2, 3]").is_err());
    }

    #[test]
    fn messages_stay_as_they_are() {
        for text in ["{\"b\":1.0,\"a\":12345678901234567890123}", "\"\\u00e9\"", "null"] {
            assert_eq!(read::<Message>(text).unwrap().0.get(), text);
        }
        let long = format!("\"{}\"", "x".repeat(MESSAGE - 2));
        assert!(read::<Message>(&long).unwrap().check().is_ok());
        let longer = format!("\"{}\"", "x".repeat(MESSAGE - 1));
        assert!(read::<Message>(&longer).unwrap().check().is_err());
    }

    #[test]
    fn pages_follow_each_other() {
        let request = |query: &str| Request { query: Some(query.into()), ..Request::default() };
        let page = |query: &str| super::page(&request(query), true);
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
        assert!(super::page(&request("limit=1"), false).is_err());
        let page = Page { limit: 2, after: None };
        assert_eq!(page.cut(vec![5, 1, 4, 2], None), (vec![1, 2], true));
        assert_eq!(page.cut(vec![5, 1, 4, 2], Some(2)), (vec![4, 5], false));
    }
}
