//! Where settings are given, one layer over the other: flags, environment, file, defaults. Looks values up.

use std::collections::BTreeMap;

use imcore::Error;

use crate::{
    file::File,
    settings::{Given, Kind, Source, mistake, setting},
};

/// Everything that was given, by precedence: flag, environment, file, default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    pub(crate) flags: BTreeMap<&'static str, String>,
    pub(crate) environment: BTreeMap<&'static str, String>,
    pub(crate) file: Option<File>,
}

impl Layers {
    /// The value of the setting called `name`; `None` where none is given and there is no default.
    pub(crate) fn get(&self, name: &str) -> Option<Given> {
        let setting = setting(name);
        let split = |text: &String| match setting.kind {
            Kind::List => text.split(',').map(str::to_owned).collect(),
            _ => vec![text.clone()],
        };
        if let Some(text) = self.flags.get(name) {
            return Some(Given { texts: split(text), source: Source::Flag });
        }
        if let Some(text) = self.environment.get(name) {
            return Some(Given { texts: split(text), source: Source::Environment });
        }
        if let Some(file) = &self.file
            && let Some(texts) = file.values.get(name)
        {
            return Some(Given { texts: texts.clone(), source: Source::File(file.path.clone()) });
        }
        let default = (!setting.default.is_empty()).then(|| setting.default.to_owned())?;
        Some(Given { texts: vec![default], source: Source::Default })
    }

    /// The value of a setting that is any text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|given| given.text().to_owned())
    }

    /// The value of a setting, read by `read`; says what was expected if that fails.
    pub(crate) fn parse<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(given) = self.get(name) else { return Ok(None) };
        match read(given.text()) {
            Some(value) => Ok(Some(value)),
            None => Err(mistake(name, &given, expected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_then_environment_then_file_then_default() {
        let mut layers = Layers::default();
        let seen = |layers: &Layers| layers.get("path").map(|given| (given.texts, given.source));
        let is = |text: &str, source| Some((vec![text.to_owned()], source));
        assert_eq!(seen(&layers), is("/ws", Source::Default));
        let values = [("path".to_owned(), vec!["/file".to_owned()])].into();
        layers.file = Some(File { path: "x.json".into(), values, limits: BTreeMap::new() });
        assert_eq!(seen(&layers), is("/file", Source::File("x.json".into())));
        layers.environment.insert("path", "/env".into());
        assert_eq!(seen(&layers), is("/env", Source::Environment));
        layers.flags.insert("path", "/flag".into());
        assert_eq!(seen(&layers), is("/flag", Source::Flag));
    }
}
