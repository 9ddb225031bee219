//! What SIGHUP does: reads the configuration file again and applies what can change while a node runs.

use imcore::server::ServerHandle;

use crate::{
    cli::Cli,
    config::{Config, Values},
    contradictions::doubts,
    logging,
    settings::RELOADED,
    web::Access,
};

/// Reads the settings again. What holds stays as it is if they are not good.
pub(crate) fn reload(
    cli: &Cli,
    running: &mut Values,
    admin: &Access,
    api: &Access,
    node: &ServerHandle,
) {
    let fresh = match Config::load(cli) {
        Ok(fresh) => fresh,
        Err(error) => {
            log::error!("the settings stay as they are: {error}");
            return;
        }
    };
    // Whether or not the files have other names, they may hold another certificate.
    let had_tls = running.get("tls_cert").is_some_and(|(file, _)| !file.is_empty());
    if let Some(tls) = fresh.server.tls.as_ref().filter(|_| had_tls)
        && let Err(error) = node.reload_tls(tls)
    {
        log::error!("the settings stay as they are: {error}");
        return;
    }
    // Whether there is TLS at all cannot change while the node runs.
    let tls_stays = had_tls == fresh.server.tls.is_some();
    let reloaded =
        |name: &&str| RELOADED.contains(name) && (tls_stays || !name.starts_with("tls_"));
    let after = fresh.values();
    let (changed, waiting): (Vec<_>, Vec<_>) = after
        .iter()
        .filter(|(name, (value, _))| running.get(*name).is_none_or(|(old, _)| old != value))
        .map(|(name, _)| name.as_str())
        .partition(reloaded);
    logging::change(fresh.log, fresh.log_format);
    admin.change(fresh.admin_token.clone(), &fresh.hosts);
    api.change(fresh.api_key.clone(), &fresh.hosts);
    log::info!("settings read again; changed: {}", list(&changed));
    for (name, access) in [("admin_token", admin), ("api_key", api)] {
        if changed.contains(&name) {
            tell_access(name, access);
        }
    }
    doubts(&fresh).iter().for_each(|doubt| log::warn!("{doubt}"));
    if !waiting.is_empty() {
        log::warn!("these wait for the next start: {}", list(&waiting));
    }
    // The others are compared with what the node runs with, however often they are read.
    for name in RELOADED.into_iter().filter(reloaded) {
        running.extend(after.get(name).map(|value| (name.to_owned(), value.clone())));
    }
}

/// What a listener asks for now, where the setting alone does not say it.
fn tell_access(setting: &str, access: &Access) {
    match access.made() {
        Some(made) => {
            log::warn!("{setting} is not set any more: {made} is asked for until the next start")
        }
        None if access.is_open() => {
            log::warn!(
                "{setting}: the listener is open to everybody with an account on this machine"
            );
        }
        None => {}
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}
