//! The configuration file: one JSON object with the keys of [`SETTINGS`] and `limits`.
//!
//! Keys that begin with `//` are comments, since JSON has no others. A key that is not known is refused
//! with the nearest that is: a mistyped limit must not be a limit that is not there.

use std::{collections::BTreeMap, fs};

use imcore::{Error, ErrorKind};
use serde_json::Value;

use crate::{
    json::Unique,
    limits::LIMITS,
    settings::{Given, Kind, SETTINGS, Setting, Source, mistake},
    spelling::nearest,
};

/// What a configuration file says.
#[derive(Debug, Clone, Default)]
pub(crate) struct File {
    pub(crate) path: String,
    /// Settings by name: one text, or several for a list.
    pub(crate) values: BTreeMap<String, Vec<String>>,
    pub(crate) limits: BTreeMap<String, f64>,
}

impl File {
    /// Reads the file at `path`.
    pub(crate) fn read(path: &str) -> Result<File, Error> {
        let text = fs::read_to_string(path).map_err(|error| {
            let detail = format!("--config: {path:?} cannot be read; expected a JSON file");
            Error::new(ErrorKind::Config, detail).with_source(error)
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
        let known = || SETTINGS.iter().map(|setting| setting.name).chain(["limits"]);
        for (key, value) in object.into_iter().filter(|(key, _)| !key.starts_with("//")) {
            if key == "limits" {
                file.read_limits(value)?;
                continue;
            }
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == key) else {
                return Err(unknown(path, &key, known()));
            };
            if !value.is_null() {
                let texts = texts(path, setting, value)?;
                file.values.insert(key, texts);
            }
        }
        Ok(file)
    }

    fn read_limits(&mut self, value: Value) -> Result<(), Error> {
        let path = &self.path;
        let Value::Object(limits) = value else {
            return Err(config(format!(
                "limits in {path}: {value} is not usable: expected an object; for example \
                 \"limits\": {{\"connections\": 100000}}"
            )));
        };
        for (key, value) in limits.into_iter().filter(|(key, _)| !key.starts_with("//")) {
            let Some(limit) = LIMITS.iter().find(|limit| limit.name == key) else {
                return Err(unknown(path, &format!("limits.{key}"), LIMITS.iter().map(|l| l.name)));
            };
            if value.is_null() {
                continue;
            }
            match value.as_f64() {
                Some(number) => drop(self.limits.insert(key, number)),
                None => return Err(limit.mistake(path, &value.to_string())),
            }
        }
        Ok(())
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
        let source = Source::File(path.to_owned());
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        mistake(setting.name, &Given { texts: vec![text], source }, expected)
    })
}

fn config(detail: String) -> Error {
    Error::new(ErrorKind::Config, detail)
}

fn unknown(path: &str, key: &str, known: impl Iterator<Item = &'static str>) -> Error {
    let bare = key.strip_prefix("limits.").unwrap_or(key);
    let (nearest, _) = nearest(bare, known).unwrap_or_default();
    let nearest = key.replace(bare, nearest);
    config(format!("{path}: {key:?} is not a setting; the nearest is {nearest:?}"))
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
        assert_eq!(file.values.len(), 3);
        assert_eq!(file.limits, [("drain_over".to_owned(), 1.5)].into());
    }

    #[test]
    fn mistakes_say_what_is_meant() {
        let refused = |text: &str| File::parse("x.json", text).unwrap_err().to_string();
        for (text, part) in [
            (r#"{"public-url": "x"}"#, "the nearest is \"public_url\""),
            (r#"{"lisen": "x"}"#, "the nearest is \"listen\""),
            (r#"{"limits": {"conections": 1}}"#, "the nearest is \"limits.connections\""),
            (r#"{"limits": 7}"#, "limits in x.json: 7"),
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
