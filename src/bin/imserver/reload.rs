//! What SIGHUP does: reads the configuration file again and applies what can change while a node runs.

use std::collections::BTreeMap;

use crate::{
    cli::Cli,
    config::Config,
    logging,
    settings::{RELOADED, Source},
    web::Access,
};

/// Values of all settings, with their sources.
pub(crate) type Values = BTreeMap<String, (String, Source)>;

/// Reads the settings again. What holds stays as it is if they are not good.
pub(crate) fn reload(cli: &Cli, running: &mut Values, admin: &Access, api: &Access) {
    let fresh = match Config::load(cli) {
        Ok(fresh) => fresh,
        Err(error) => {
            log::error!("the settings stay as they are: {error}");
            return;
        }
    };
    let after = fresh.values();
    let (changed, waiting): (Vec<_>, Vec<_>) = after
        .iter()
        .filter(|(name, (value, _))| running.get(*name).is_none_or(|(old, _)| old != value))
        .map(|(name, _)| name.as_str())
        .partition(|name| RELOADED.contains(name));
    logging::change(fresh.log, fresh.log_format);
    admin.set_secret(fresh.admin_token.clone());
    api.set_secret(fresh.api_key.clone());
    log::info!("settings read again; changed: {}", list(&changed));
    if !waiting.is_empty() {
        log::warn!("these wait for the next start: {}", list(&waiting));
    }
    // The others are compared with what the node runs with, however often they are read.
    for name in RELOADED {
        running.extend(after.get(name).map(|value| (name.to_owned(), value.clone())));
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}
