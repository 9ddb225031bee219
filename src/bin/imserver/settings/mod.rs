//! Every setting of `imserver` as data: one row feeds the flag, the environment variable, the key in the
//! configuration file, the help, the value in [`Config`], what `--check` shows of it and the messages about
//! mistakes.
//!
//! The rows stand in `node`, `listeners`, `webhooks` and `limits`; to add a setting, add a row there and a field to
//! [`Config`]. Where a value is given is found by `layers`, with `file` (and `unique_keys`); variables that look
//! like settings and are none by `environment`. Nothing here opens or starts anything.

pub(crate) mod environment;
mod file;
mod given;
mod layers;
mod limits;
mod listeners;
mod node;
mod unique_keys;
mod webhooks;

use crate::config::Config;

pub(crate) use file::File;
pub(crate) use given::{Given, Source, mistake, place};
pub(crate) use layers::Layers;

/// One setting.
pub(crate) struct Setting {
    /// Its key in the file, with a dot below a group; the flag has `-` for `_`, the variable is in capitals.
    pub(crate) name: &'static str,
    /// Whether it is a key of the file and nothing else: no flag, no variable.
    pub(crate) in_file_alone: bool,
    /// Another name of the same setting: it is given under one of the two.
    pub(crate) same_as: Option<&'static str>,
    /// Another setting that must be given beside it.
    pub(crate) needs: Option<&'static str>,
    pub(crate) value_name: &'static str,
    pub(crate) help: &'static str,
    /// The value where none is given; empty where that means something else, which `help` says.
    pub(crate) default: &'static str,
    /// A valid value, for messages; empty where the default is one.
    example: &'static str,
    /// All values, where there are only a few.
    pub(crate) choices: &'static [&'static str],
    pub(crate) kind: Kind,
    pub(crate) takes_effect: TakesEffect,
    /// Checks what was given and puts it into the configuration; otherwise says what was expected.
    pub(crate) read: fn(&mut Config, &Given) -> Result<(), &'static str>,
    /// What the configuration has, for a person: never a secret, and empty where there is nothing.
    pub(crate) show: fn(&Config) -> String,
}

/// What a setting's value looks like in the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// Text that messages do not repeat.
    Secret,
    /// An array of texts; elsewhere separated by commas.
    List,
    /// A number.
    Number,
}

/// When the node goes by a value that has changed in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakesEffect {
    NextStart,
    /// As soon as the file is [read again](crate::reload).
    Reload,
    /// As soon as the file is read again, unless the node would begin or cease to speak TLS.
    ReloadOfTls,
}

/// What most settings have in common.
const PLAIN: Setting = Setting {
    name: "",
    in_file_alone: false,
    same_as: None,
    needs: None,
    value_name: "TEXT",
    help: "",
    default: "",
    example: "",
    choices: &[],
    kind: Kind::Text,
    takes_effect: TakesEffect::NextStart,
    read: |_, _| Ok(()),
    show: |_| String::new(),
};

/// All settings, in the order of the help.
pub(crate) fn all() -> impl Iterator<Item = &'static Setting> + Clone {
    node::SETTINGS
        .iter()
        .chain(listeners::SETTINGS)
        .chain(webhooks::SETTINGS)
        .chain(limits::SETTINGS)
}

/// Those that have a flag and a variable.
pub(crate) fn with_flags() -> impl Iterator<Item = &'static Setting> + Clone {
    all().filter(|setting| !setting.in_file_alone)
}

pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}

/// The environment variable of a setting.
pub(crate) fn variable(name: &str) -> String {
    format!("IMSERVER_{}", name.to_uppercase())
}

/// The word of `known` that is nearest to `word`: in how many letters they differ, and which it is.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    known.map(|name| (strsim::levenshtein(word, name), name)).min_by_key(|(far, _)| *far)
}

impl Setting {
    pub(crate) fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    pub(crate) fn variable(&self) -> String {
        variable(self.name)
    }

    /// A valid value.
    fn example(&self) -> String {
        match self.example {
            "" => (self.show)(&Config::default()),
            example => example.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_whole() {
        let names: BTreeSet<_> = all().map(|setting| setting.name).collect();
        assert_eq!(names.len(), all().count(), "a name stands for one setting");
        for setting in all() {
            let Setting { name, choices, default, same_as, needs, .. } = setting;
            let example = setting.example();
            assert!(!example.is_empty(), "{name}");
            assert!(choices.is_empty() || choices.contains(&&*example), "{name}");
            let fits = default.is_empty() || choices.contains(default);
            assert!(choices.is_empty() || fits, "{name}");
            let back = same_as.map(|twin| find(twin).unwrap().same_as);
            assert_eq!(back, same_as.map(|_| Some(*name)), "{name}");
            assert!(needs.is_none_or(|other| find(other).is_some()), "{name}");
        }
    }

    #[test]
    fn examples_and_defaults_are_read_and_shown() {
        for setting in all() {
            let given = |text: &str| Given::new([text.to_owned()], Source::Default);
            let mut config = Config::default();
            for text in [&setting.example(), setting.default].into_iter().filter(|t| !t.is_empty())
            {
                assert_eq!((setting.read)(&mut config, &given(text)), Ok(()), "{}", setting.name);
            }
            if setting.kind != Kind::Secret {
                assert!(!(setting.show)(&config).is_empty(), "{}", setting.name);
            }
        }
    }

    #[test]
    fn the_nearest_word_is_found() {
        assert_eq!(nearest("lisen", ["log", "listen"].into_iter()), Some((1, "listen")));
    }
}
