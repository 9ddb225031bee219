//! A value as it was given: where it comes from, how rows read it, and what is said of one that is not usable.

use std::{fmt, str::FromStr};

use imcore::{Error, ErrorKind};

use super::{Kind, Setting};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    Environment,
    /// The file at this path.
    File(String),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("flag"),
            Source::Environment => f.write_str("environment"),
            Source::File(path) => f.write_str(path),
            Source::Default => f.write_str("default"),
        }
    }
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// One text; several for a list.
    pub(crate) texts: Vec<String>,
    pub(crate) source: Source,
}

impl Given {
    pub(crate) fn new(texts: impl Into<Vec<String>>, source: Source) -> Given {
        Given { texts: texts.into(), source }
    }

    pub(crate) fn text(&self) -> &str {
        self.texts.first().map_or("", String::as_str)
    }

    /// The value, as its type reads texts; `expected` where it cannot.
    pub(super) fn parse<T: FromStr>(&self, expected: &'static str) -> Result<T, &'static str> {
        self.text().parse().map_err(|_| expected)
    }

    /// The value, as a number that is in this range; `expected` where it is none.
    pub(super) fn number<T>(
        &self,
        expected: &'static str,
        usable: impl FnOnce(T) -> bool,
    ) -> Result<T, &'static str>
    where
        T: FromStr + Copy,
    {
        self.parse(expected).and_then(|n| if usable(n) { Ok(n) } else { Err(expected) })
    }
}

/// A message that names setting, value, source and a valid example, in the form of the source.
pub(crate) fn mistake(setting: &Setting, given: &Given, expected: &str) -> Error {
    let value = match (setting.kind, &given.source) {
        (Kind::Secret, _) => "its value".to_owned(),
        // As it stands there.
        (Kind::Number, Source::File(_)) => given.text().to_owned(),
        _ => format!("{:?}", given.texts.join(",")),
    };
    let (place, example) = place(setting, &given.source);
    let detail = format!("{value} is not usable: expected {expected}; for example {example}");
    Error::new(ErrorKind::Config, detail).with_setting(place)
}

/// How a setting is called where it was given, and an example in that form.
pub(crate) fn place(setting: &Setting, source: &Source) -> (String, String) {
    let (name, example) = (setting.name, setting.example());
    match source {
        Source::Flag | Source::Default => (setting.flag(), format!("{} {example}", setting.flag())),
        Source::Environment => (setting.variable(), format!("{}={example}", setting.variable())),
        Source::File(path) => {
            let example = match setting.kind {
                Kind::Number => example,
                Kind::List => format!("[\"{}\"]", example.replace(',', "\", \"")),
                Kind::Text | Kind::Secret => format!("\"{example}\""),
            };
            let key = name.rsplit_once('.').map_or(name, |(_group, key)| key);
            (format!("{name} in {path}"), format!("\"{key}\": {example}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::find;

    #[test]
    fn a_mistake_names_setting_value_source_and_example() {
        let of = |name, source| {
            let given = Given::new(["x".to_owned()], source);
            mistake(find(name).unwrap(), &given, "an address").to_string()
        };
        let text = of("listen", Source::Flag);
        assert!(
            text.contains("--listen: \"x\"") && text.contains("--listen 0.0.0.0:6001"),
            "{text}"
        );
        let text = of("key_prefix", Source::Environment);
        assert!(text.contains("IMSERVER_KEY_PREFIX=shop:"), "{text}");
        let text = of("servers", Source::File("a.json".into()));
        assert!(
            text.contains("servers in a.json") && text.contains("[\"10.0.0.1:6001\", "),
            "{text}"
        );
        assert!(!of("admin_token", Source::Flag).contains("\"x\""), "secrets are not repeated");
        let text = of("limits.lease", Source::File("a.json".into()));
        assert!(text.contains("limits.lease in a.json: x is") && text.ends_with("\"lease\": 7"));
    }
}
