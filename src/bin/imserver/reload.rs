//! What SIGHUP does: reads the configuration file again and applies what can change while a node runs.

use std::collections::{BTreeMap, BTreeSet};

use imcore::server::ServerHandle;

use crate::{
    cli::Cli,
    contradictions::warnings,
    load::Settings,
    logging,
    settings::{self, Setting, TakesEffect},
    web::Access,
    webhook::Webhook,
};

/// A running node, and by which settings it goes.
pub(crate) struct Running<'a> {
    /// What was given for each setting, as far as the node goes by it.
    given: BTreeMap<&'static str, Vec<String>>,
    has_tls: bool,
    listeners: [&'a Access; 2],
    webhook: &'a Webhook,
    node: &'a ServerHandle,
}

impl<'a> Running<'a> {
    /// A node that was started with `settings`.
    pub(crate) fn new(
        settings: &Settings,
        admin: &'a Access,
        api: &'a Access,
        webhook: &'a Webhook,
        node: &'a ServerHandle,
    ) -> Self {
        let has_tls = settings.config.server.tls.is_some();
        Running { given: settings.given(), has_tls, listeners: [admin, api], webhook, node }
    }

    /// Reads the settings again. What holds stays as it is if they are not good.
    pub(crate) fn reload(&mut self, cli: &Cli) {
        let applied = Settings::load(cli).and_then(|fresh| {
            // Whether or not the files have other names, they may hold another certificate.
            if let Some(tls) = fresh.config.server.tls.as_ref().filter(|_| self.has_tls) {
                self.node.reload_tls(tls)?;
            }
            Ok(fresh)
        });
        match applied {
            Ok(fresh) => self.apply(&fresh),
            Err(error) => log::error!("the settings stay as they are: {error}"),
        }
    }

    fn apply(&mut self, fresh: &Settings) {
        let (config, given) = (&fresh.config, fresh.given());
        let tls_stays = self.has_tls == config.server.tls.is_some();
        let at_once = |name: &&str| {
            settings::find(name).is_some_and(|setting| takes_effect(setting, tls_stays))
        };
        let names: BTreeSet<_> = self.given.keys().chain(given.keys()).copied().collect();
        let differs = |name: &&str| self.given.get(name) != given.get(name);
        let (changed, waiting): (Vec<_>, Vec<_>) =
            names.iter().copied().filter(differs).partition(at_once);
        logging::change(config.log, config.log_format);
        let [admin, api] = self.listeners;
        admin.change(config.admin_token.clone(), &config.hosts);
        api.change(config.api_key.clone(), &config.hosts);
        // Also what stands in files that have the same names.
        self.webhook.change(config.hook.clone());
        log::info!("settings read again; changed: {}", list(&changed));
        for access in self.listeners.iter().filter(|access| changed.contains(&access.setting())) {
            tell_access(access);
        }
        warnings(config).iter().for_each(|warning| log::warn!("{warning}"));
        if !waiting.is_empty() {
            log::warn!("these wait for the next start: {}", list(&waiting));
        }
        // The others are compared with what the node runs with, however often they are read.
        for name in changed {
            match given.get(name) {
                Some(texts) => drop(self.given.insert(name, texts.clone())),
                None => drop(self.given.remove(name)),
            }
        }
    }
}

/// Whether a change takes effect at once. Whether there is TLS at all cannot change while the node runs.
fn takes_effect(setting: &Setting, tls_stays: bool) -> bool {
    match setting.takes_effect {
        TakesEffect::NextStart => false,
        TakesEffect::Reload => true,
        TakesEffect::ReloadOfTls => tls_stays,
    }
}

/// What a listener asks for now, where the setting alone does not say it.
fn tell_access(access: &Access) {
    let setting = access.setting();
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
