//! Where settings are given, one layer over the other: flags, environment, file, defaults. Looks values up.

use std::collections::BTreeMap;

use super::{Given, Kind, Setting, Source, file::File};

/// Everything that was given, by precedence: flag, environment, file, default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    pub(crate) flags: BTreeMap<&'static str, String>,
    pub(crate) environment: BTreeMap<&'static str, String>,
    pub(crate) file: Option<File>,
}

impl Layers {
    /// The value of a setting, under any of its names; `None` where none is given and there is no default.
    pub(crate) fn get(&self, setting: &Setting) -> Option<Given> {
        let names = || [setting.name].into_iter().chain(setting.same_as);
        let split = |text: &String| match setting.kind {
            Kind::List => text.split(',').map(str::to_owned).collect(),
            _ => vec![text.clone()],
        };
        if let Some(text) = names().find_map(|name| self.flags.get(name)) {
            return Some(Given::new(split(text), Source::Flag));
        }
        if let Some(text) = names().find_map(|name| self.environment.get(name)) {
            return Some(Given::new(split(text), Source::Environment));
        }
        if let Some(file) = &self.file
            && let Some(texts) = names().find_map(|name| file.values.get(name))
        {
            return Some(Given::new(texts.clone(), Source::File(file.path.clone())));
        }
        let default = setting.default;
        (!default.is_empty()).then(|| Given::new([default.to_owned()], Source::Default))
    }

    /// Where the value of a setting comes from.
    pub(crate) fn source(&self, setting: &Setting) -> Source {
        self.get(setting).map_or(Source::Default, |given| given.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::find;

    #[test]
    fn flag_then_environment_then_file_then_default() {
        let mut layers = Layers::default();
        let seen = |layers: &Layers| {
            layers.get(find("path").unwrap()).map(|given| (given.texts, given.source))
        };
        let is = |text: &str, source| Some((vec![text.to_owned()], source));
        assert_eq!(seen(&layers), is("/ws", Source::Default));
        let values = [("path", vec!["/file".to_owned()])].into();
        layers.file = Some(File { path: "x.json".into(), values });
        assert_eq!(seen(&layers), is("/file", Source::File("x.json".into())));
        layers.environment.insert("path", "/env".into());
        assert_eq!(seen(&layers), is("/env", Source::Environment));
        layers.flags.insert("path", "/flag".into());
        assert_eq!(seen(&layers), is("/flag", Source::Flag));
    }

    #[test]
    fn a_setting_with_two_names_is_looked_up_under_both() {
        let mut layers = Layers::default();
        let drain = |layers: &Layers| {
            ["drain", "limits.drain_over"]
                .map(|name| layers.get(find(name).unwrap()).map(|g| g.texts))
        };
        let both = |text: &str| [Some(vec![text.to_owned()]), Some(vec![text.to_owned()])];
        assert_eq!(drain(&layers), [None, None]);
        let values = [("limits.drain_over", vec!["2.5".to_owned()])].into();
        layers.file = Some(File { path: "x.json".into(), values });
        assert_eq!(drain(&layers), both("2.5"));
        layers.flags.insert("drain", "7".into());
        assert_eq!(drain(&layers), both("7"));
    }
}
