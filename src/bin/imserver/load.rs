//! From what was given to what holds: reads every setting by its row and checks them as a whole, before
//! anything is opened. Keeps where each comes from, for messages and for the next time the file is read.

use std::{collections::BTreeMap, sync::Arc};

use imcore::{Error, ErrorKind, broker::MemoryBroker, server::TlsConfig};

use crate::{
    cli::Cli,
    config::Config,
    contradictions,
    settings::{self, File, Layers, Setting, Source, mistake, place},
};

/// Checked settings, and where they come from.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    layers: Layers,
}

impl Settings {
    /// Puts the layers together and checks everything that needs no socket.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config), about the first setting that cannot be used.
    pub(crate) fn load(cli: &Cli) -> Result<Settings, Error> {
        let layers = Layers {
            flags: cli.flags.clone(),
            environment: cli.environment.clone(),
            file: cli.config.as_deref().map(File::read).transpose()?,
        };
        let mut config = Config::default();
        for setting in settings::all() {
            if let Some(given) = layers.get(setting) {
                (setting.read)(&mut config, &given)
                    .map_err(|expected| mistake(setting, &given, expected))?;
            }
        }
        check_pairs(&layers)?;
        config.server.ids = Some(config.ids());
        config.server.tls = tls(&config);
        let hook = config.webhook.hook();
        let mut settings = Settings { config, layers };
        settings.config.hook = hook.map_err(|error| settings.with_source(&error))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), Error> {
        let config = &self.config;
        config.server.validate().map_err(|error| self.with_source(&error))?;
        // A helper checks what it would be given. Port 0 becomes another one once it is bound.
        let mut bound = config.server.listen;
        bound.set_port(bound.port().max(1));
        let name = config.server.server.clone().unwrap_or_else(|| bound.to_string());
        config
            .im_client(&name, Arc::new(MemoryBroker::new()))
            .map_err(|error| self.with_source(&error))?;
        contradictions::check(config)
    }

    /// Says where the setting comes from of which an error of the library speaks.
    pub(crate) fn with_source(&self, error: &Error) -> Error {
        let detail = error.detail().to_string();
        let Some(name) = error.setting() else { return Error::new(error.kind(), detail) };
        // By its name here: the library's fields of fields (`tls.cert`) are settings of their own.
        let Some(setting) =
            settings::find(name).or_else(|| settings::find(&name.replace('.', "_")))
        else {
            return Error::new(error.kind(), detail).with_setting(name.to_owned());
        };
        let given = match self.layers.source(setting) {
            Source::Default => String::new(),
            source => format!(" ({} was given)", place(setting, &source).0),
        };
        Error::new(error.kind(), format!("{detail}{given}")).with_setting(setting.name)
    }

    /// An error of the Redis broker under the name by which the operator knows it.
    pub(crate) fn of_redis(&self, error: &Error) -> Error {
        let called = |setting| place(setting, &self.layers.source(setting)).0;
        let name = settings::find("redis").map(called).unwrap_or_default();
        Error::new(error.kind(), error.detail().to_string()).with_setting(name)
    }

    pub(crate) fn source(&self, setting: &Setting) -> Source {
        self.layers.source(setting)
    }

    /// What was given, by setting: to compare with what is given later. Holds secrets.
    pub(crate) fn given(&self) -> BTreeMap<&'static str, Vec<String>> {
        let texts = |setting| self.layers.get(setting).map(|given| given.texts);
        settings::all().filter_map(|setting| Some((setting.name, texts(setting)?))).collect()
    }
}

/// Some settings come with another one or not at all.
fn check_pairs(layers: &Layers) -> Result<(), Error> {
    for setting in settings::all() {
        if let Some(given) = layers.get(setting)
            && let Some(other) = setting.needs.and_then(settings::find)
            && layers.get(other).is_none()
        {
            let (name, _) = place(setting, &given.source);
            let (missing, example) = place(other, &given.source);
            return Err(Error::new(
                ErrorKind::Config,
                format!("{name} needs {missing} beside it; for example {example}"),
            ));
        }
    }
    Ok(())
}

fn tls(config: &Config) -> Option<TlsConfig> {
    let (cert, key) = (config.tls_cert.as_ref()?, config.tls_key.as_ref()?);
    Some(TlsConfig::from_files(cert, key))
}
