//! Reads the JSON of a body member by member, and says in the words of JSON what is wrong and where. Used
//! by `calls`; knows no operation. Pure.
//!
//! Every value is handed on as the text that stands in the body: numbers keep their digits, and a message
//! goes out as it was written.

use std::fmt::{self, Display};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::problem::Code;

/// Why a value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) code: Code,
    why: String,
    /// Where it stands, innermost step first.
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(&'static str),
    Entry(usize),
}

impl Mistake {
    pub(super) fn new(why: impl Into<String>) -> Mistake {
        Mistake { code: Code::InvalidRequest, why: why.into(), steps: Vec::new() }
    }

    pub(super) fn with_code(self, code: Code) -> Mistake {
        Mistake { code, ..self }
    }

    /// This mistake, as one in the member `name` of an object.
    pub(super) fn in_member(mut self, name: &'static str) -> Mistake {
        self.steps.push(Step::Member(name));
        self
    }

    fn in_entry(mut self, index: usize) -> Mistake {
        self.steps.push(Step::Entry(index));
        self
    }

    /// What is wrong, without the place.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    /// A JSON pointer (RFC 6901) to the value.
    pub(super) fn pointer(&self) -> String {
        self.steps.iter().rev().fold(String::new(), |pointer, step| match step {
            Step::Member(name) => format!("{pointer}/{name}"),
            Step::Entry(index) => format!("{pointer}/{index}"),
        })
    }

    /// For a person: the place and what is wrong there.
    pub(super) fn detail(&self) -> String {
        let place = self.steps.iter().rev().fold(String::new(), |place, step| match step {
            Step::Member(name) if place.is_empty() => (*name).to_owned(),
            Step::Member(name) => format!("{place}.{name}"),
            Step::Entry(index) => format!("{place}[{index}]"),
        });
        let place = if place.is_empty() { "the body" } else { &place };
        format!("{place}: {}", self.why)
    }
}

/// The text of a whole body that is well-formed JSON.
pub(super) fn whole(body: &[u8]) -> Result<&str, Mistake> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Mistake::new(format!("it is not UTF-8 from byte {} on", error.valid_up_to()))
    })?;
    if text.trim_ascii().is_empty() {
        return Err(Mistake::new("it is empty; expected a JSON object"));
    }
    if text.starts_with('\u{feff}') {
        return Err(Mistake::new("it begins with a byte order mark; leave that out"));
    }
    let value: Result<&RawValue, _> = serde_json::from_str(text);
    value.map(RawValue::get).map_err(|error| match error.is_eof() {
        true => Mistake::new(format!(
            "it ends in the middle of a JSON value, at line {} column {}",
            error.line(),
            error.column()
        )),
        false => Mistake::new(format!("it is not JSON: {error}")),
    })
}

/// The members of an object, which has none but those of `known`, each once.
pub(super) struct Object<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Object<'a> {
    pub(super) fn read(text: &'a str, known: &[&'static str]) -> Result<Object<'a>, Mistake> {
        expect(text, Shape::Object, "an object")?;
        let Members(found) = serde_json::from_str(text).map_err(broken)?;
        let mut members: Vec<(&'static str, &'a str)> = Vec::with_capacity(known.len());
        for (name, value) in found {
            let Some(name) = known.iter().find(|known| **known == name) else {
                let shown: String = name.chars().take(64).collect();
                return Err(Mistake::new(format!(
                    "{shown:?} is not known here; there are {}",
                    known.join(", ")
                )));
            };
            if members.iter().any(|(other, _)| other == name) {
                return Err(Mistake::new(format!("\"{name}\" is there twice")));
            }
            members.push((name, value.get()));
        }
        Ok(Object(members))
    }

    /// The member called `name`, if it is there.
    pub(super) fn get<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&'a str) -> Result<T, Mistake>,
    ) -> Result<Option<T>, Mistake> {
        let found = self.0.iter().find(|(other, _)| *other == name);
        found.map(|(_, text)| read(text).map_err(|error| error.in_member(name))).transpose()
    }

    /// The member called `name`, which must be there.
    pub(super) fn need<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&'a str) -> Result<T, Mistake>,
    ) -> Result<T, Mistake> {
        self.get(name, read)?.ok_or_else(|| Mistake::new(format!("\"{name}\" is missing")))
    }
}

/// The entries of an array that has from `least` to `most` of them.
pub(super) fn array<'a, T>(
    text: &'a str,
    (least, most): (usize, usize),
    mut read: impl FnMut(&'a str) -> Result<T, Mistake>,
) -> Result<Vec<T>, Mistake> {
    expect(text, Shape::Array, "an array")?;
    let entries: Vec<&RawValue> = serde_json::from_str(text).map_err(broken)?;
    let count = entries.len();
    if count > most {
        return Err(Mistake::new(format!("it has {count} entries, and {most} at most are taken")));
    }
    if count < least {
        return Err(Mistake::new(format!("it has {count} entries; expected {least} or more")));
    }
    let entries = entries.into_iter().enumerate();
    entries.map(|(index, entry)| read(entry.get()).map_err(|error| error.in_entry(index))).collect()
}

/// A string.
pub(super) fn string(text: &str) -> Result<String, Mistake> {
    expect(text, Shape::String, "a string")?;
    // All that can be wrong with one that is well-formed: `\ud83d` without its other half.
    serde_json::from_str(text)
        .map_err(|_| Mistake::new("it holds one half of a character (a lone surrogate)"))
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, Mistake> {
    expect(text, Shape::Boolean, "true or false")?;
    Ok(text == "true")
}

/// How many arrays and objects lie in each other at most.
pub(super) fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// What kind of value a well-formed text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

impl Shape {
    pub(super) fn of(text: &str) -> Shape {
        match text.bytes().next() {
            Some(b'{') => Shape::Object,
            Some(b'[') => Shape::Array,
            Some(b'"') => Shape::String,
            Some(b't' | b'f') => Shape::Boolean,
            Some(b'n') => Shape::Null,
            _ => Shape::Number,
        }
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Object => "an object",
            Shape::Array => "an array",
            Shape::String => "a string",
            Shape::Number => "a number",
            Shape::Boolean => "a boolean",
            Shape::Null => "null",
        })
    }
}

fn expect(text: &str, shape: Shape, what: &str) -> Result<(), Mistake> {
    match Shape::of(text) {
        found if found == shape => Ok(()),
        found => Err(Mistake::new(format!("it is {found}; expected {what}"))),
    }
}

/// What is left to be wrong in a part of a body that is well-formed.
fn broken(error: serde_json::Error) -> Mistake {
    Mistake::new(format!("it cannot be read: {error}"))
}

/// Names and values of an object, as they stand there.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    members.push(entry);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["a", "list"];

    fn read(body: &str) -> Result<(String, Vec<bool>), Mistake> {
        let object = Object::read(whole(body.as_bytes())?, KNOWN)?;
        let list = object.get("list", |text| array(text, (1, 2), boolean))?;
        Ok((object.need("a", string)?, list.unwrap_or_default()))
    }

    #[test]
    fn objects_have_the_members_that_are_known() {
        let body = " {\"\\u0061\": \"\\u00e9\", \"list\": [true, false]} ";
        assert_eq!(read(body), Ok(("é".into(), vec![true, false])));
        assert_eq!(read("{\"a\": \"\"}"), Ok((String::new(), vec![])));
    }

    #[test]
    fn mistakes_say_where_and_in_the_words_of_json() {
        for (body, pointer, detail) in [
            ("", "", "the body: it is empty; expected a JSON object"),
            (" \n", "", "the body: it is empty; expected a JSON object"),
            ("\u{feff}{}", "", "the body: it begins with a byte order mark; leave that out"),
            ("[1]", "", "the body: it is an array; expected an object"),
            ("3", "", "the body: it is a number; expected an object"),
            ("{", "", "the body: it ends in the middle of a JSON value, at line 1 column 1"),
            ("{}", "", "the body: \"a\" is missing"),
            ("{\"a\":\"\",\"a\":\"\"}", "", "the body: \"a\" is there twice"),
            ("{\"text\":1}", "", "the body: \"text\" is not known here; there are a, list"),
            ("{\"a\":null}", "/a", "a: it is null; expected a string"),
            ("{\"a\":{}}", "/a", "a: it is an object; expected a string"),
            ("{\"a\":\"\\ud83d\"}", "/a", "a: it holds one half of a character (a lone surrogate)"),
            ("{\"list\":{}}", "/list", "list: it is an object; expected an array"),
            ("{\"list\":[]}", "/list", "list: it has 0 entries; expected 1 or more"),
            ("{\"list\":[true,1]}", "/list/1", "list[1]: it is a number; expected true or false"),
        ] {
            let mistake = read(body).unwrap_err();
            assert_eq!((&*mistake.pointer(), &*mistake.detail()), (pointer, detail), "{body}");
        }
        assert!(read("{\"list\":[true,true,true]}").unwrap_err().detail().contains("2 at most"));
        assert!(read("{,}").unwrap_err().detail().contains("line 1 column 2"));
        assert!(whole(b"{\"a\":\"\xff\"}").unwrap_err().detail().contains("from byte 6"));
    }

    #[test]
    fn depth_counts_no_brackets_in_strings() {
        for (text, expected) in
            [("1", 0), ("[]", 1), ("[[],{\"a\":[1]}]", 3), (r#"["[[\"[[",{}]"#, 2)]
        {
            assert_eq!(depth(text), expected, "{text}");
        }
    }
}
