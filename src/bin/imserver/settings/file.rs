//! The configuration file: one JSON object whose keys are the names of the settings; what has a dot in its name
//! stands in an object of its own (`limits`).
//!
//! Keys that begin with `//` are comments, since JSON has no others. A key that is not known is refused
//! with the nearest that is: a mistyped limit must not be a limit that is not there.

use std::{collections::BTreeMap, fs};

use imcore::{Error, ErrorKind};
use serde_json::{Map, Value};

use super::{Given, Kind, Setting, Source, all, find, mistake, nearest, unique_keys::Unique};

/// What a configuration file says.
#[derive(Debug, Clone, Default)]
pub(crate) struct File {
    pub(crate) path: String,
    /// Settings by name: one text, or several for a list.
    pub(crate) values: BTreeMap<&'static str, Vec<String>>,
}

impl File {
    /// Reads the file at `path`.
    pub(crate) fn read(path: &str) -> Result<File, Error> {
        let text = fs::read_to_string(path).map_err(|error| {
            let detail = format!("{path:?} cannot be read; expected a JSON file");
            config(detail).with_setting("--config").with_source(error)
        })?;
        File::parse(path, &text)
    }

    fn parse(path: &str, text: &str) -> Result<File, Error> {
        // Editors on Windows like to put a byte order mark there.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let example = "for example {\"listen\": \"127.0.0.1:6001\"}";
        let Unique(value) = serde_json::from_str(text)
            .map_err(|error| config(format!("{path} is not usable: {error}; {example}")))?;
        let Value::Object(object) = value else {
            return Err(config(format!("{path} is not a JSON object; {example}")));
        };
        let mut file = File { path: path.to_owned(), ..File::default() };
        file.read_group("", object)?;
        let twice = |(name, _): &(&&'static str, _)| {
            let twin = find(name)?.same_as.filter(|twin| file.values.contains_key(twin))?;
            Some((**name, twin))
        };
        match file.values.iter().find_map(|value| twice(&value)) {
            Some((one, other)) => Err(config(format!(
                "{path}: {one} and {other} are the same setting; leave one out"
            ))
            .with_setting(one)),
            None => Ok(file),
        }
    }

    /// Reads the settings whose names begin with `group`, which is empty or ends in a dot.
    fn read_group(&mut self, group: &str, object: Map<String, Value>) -> Result<(), Error> {
        for (key, value) in object.into_iter().filter(|(key, _)| !key.starts_with("//")) {
            let name = format!("{group}{key}");
            let below = format!("{name}.");
            if let Some(first) = all().find(|setting| setting.name.starts_with(&below)) {
                let Value::Object(object) = value else {
                    return Err(self.not_an_object(&name, &value, first));
                };
                self.read_group(&below, object)?;
            } else if let Some(setting) = find(&name) {
                if !value.is_null() {
                    self.values.insert(setting.name, texts(&self.path, setting, value)?);
                }
            } else {
                return Err(self.unknown(group, &key));
            }
        }
        Ok(())
    }

    fn not_an_object(&self, name: &str, value: &Value, first: &Setting) -> Error {
        let (_, example) = super::place(first, &Source::File(self.path.clone()));
        let detail = format!(
            "{value} is not usable: expected an object; for example \"{name}\": {{{example}}}"
        );
        config(detail).with_setting(format!("{name} in {}", self.path))
    }

    fn unknown(&self, group: &str, key: &str) -> Error {
        let keys = all().filter_map(|setting| setting.name.strip_prefix(group)?.split('.').next());
        let (_, nearest) = nearest(key, keys).unwrap_or_default();
        let [given, meant] = [key, nearest].map(|key| format!("{group}{key}"));
        config(format!("{}: {given:?} is not a setting; the nearest is {meant:?}", self.path))
    }
}

/// A value of the type that the setting has in a file, as text.
fn texts(path: &str, setting: &Setting, value: Value) -> Result<Vec<String>, Error> {
    let (texts, expected) = match (setting.kind, &value) {
        (Kind::Text | Kind::Secret, Value::String(text)) => (Some(vec![text.clone()]), ""),
        (Kind::Number, Value::Number(number)) => (Some(vec![number.to_string()]), ""),
        (Kind::List, Value::Array(items)) => {
            let text = |item: &Value| item.as_str().map(str::to_owned);
            (items.iter().map(text).collect(), "an array of texts")
        }
        (Kind::Text | Kind::Secret, _) => (None, "a text"),
        (Kind::Number, _) => (None, "a number"),
        (Kind::List, _) => (None, "an array of texts"),
    };
    texts.ok_or_else(|| {
        let text = match (setting.kind, &value) {
            (Kind::List, Value::String(text)) => text.clone(),
            _ => value.to_string(),
        };
        mistake(setting, &Given::new([text], Source::File(path.to_owned())), expected)
    })
}

fn config(detail: String) -> Error {
    Error::new(ErrorKind::Config, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_comments_and_nulls() {
        let text = r#"{"// listen": "where", "listen": "[::1]:1", "servers": ["a", "b"],
            "reactors": 3, "server": null, "limits": {"//": 0, "drain_over": 1.5, "lease": null}}"#;
        let file = File::parse("x", &format!("\u{feff}{text}")).unwrap();
        assert_eq!(file.values["listen"], ["[::1]:1"]);
        assert_eq!(file.values["servers"], ["a", "b"]);
        assert_eq!(file.values["reactors"], ["3"]);
        assert_eq!(file.values["limits.drain_over"], ["1.5"]);
        assert_eq!(file.values.len(), 4);
    }

    #[test]
    fn mistakes_say_what_is_meant() {
        let refused = |text: &str| File::parse("x.json", text).unwrap_err().to_string();
        for (text, part) in [
            (r#"{"public-url": "x"}"#, "the nearest is \"public_url\""),
            (r#"{"lisen": "x"}"#, "the nearest is \"listen\""),
            (r#"{"limits": {"conections": 1}}"#, "the nearest is \"limits.connections\""),
            (r#"{"limit": {}}"#, "the nearest is \"limits\""),
            (r#"{"limits": 7}"#, "limits in x.json: 7"),
            (r#"{"limits": 7}"#, "for example \"limits\": {\"connections\": 250000}"),
            (r#"{"drain": 3, "limits": {"drain_over": 3}}"#, "are the same setting"),
            (r#"{"limits": {"lease": "7s"}}"#, "limits.lease in x.json: \"7s\""),
            (r#"{"reactors": "3"}"#, "expected a number; for example \"reactors\": 4"),
            (r#"{"servers": "a,b"}"#, "expected an array of texts"),
            (r#"{"servers": ["a", 1]}"#, "expected an array of texts"),
            (r#"{"listen": 6001}"#, "listen in x.json"),
            ("[]", "x.json is not a JSON object"),
            ("{", "x.json is not usable: EOF"),
            (r#"{"log": "info", "path": "/ws", "log": "warn"}"#, "the key \"log\" is there twice"),
            (
                r#"{"limits": {"lease": 7, "//": 0, "//": 1, "lease": 9}}"#,
                "\"lease\" is there twice",
            ),
        ] {
            assert!(refused(text).contains(part), "{text}: {}", refused(text));
        }
    }
}
