//! `--check`: shows what all settings come to, what an operator should look at, and that they are valid; asks
//! the broker as well, if that is wanted. Binds nothing and starts nothing.

use std::fmt::Write;

use imcore::{Error, broker::Broker, server::TlsConfig};

use crate::{
    api,
    config::Config,
    contradictions, descriptors,
    limits::LIMITS,
    settings::{Kind, SETTINGS, setting},
};

/// What there is to print; `strays` are doubts about the environment.
///
/// # Errors
/// Settings with which the node would not start; if `dial`, a broker that cannot be used.
pub(crate) fn report(
    mut config: Config,
    broker: &dyn Broker,
    strays: &[String],
    dial: bool,
) -> Result<String, Error> {
    let doubts = prepare(&mut config)?;
    let mut text = show(&config, &broker.describe());
    for doubt in strays.iter().chain(&doubts) {
        // Writing to a text never fails.
        let _ = writeln!(text, "warning: {doubt}");
    }
    if dial {
        match config.redis {
            Some(_) => {
                // Any call will do: whatever keeps it from an answer would keep all others.
                broker.are_online(&[1.into()]).map_err(|error| config.name_redis(&error))?;
                let _ = writeln!(text, "redis: {} answers", broker.describe());
            }
            None => text += "redis: there is none to ask\n",
        }
    }
    text += "valid\n";
    Ok(text)
}

/// Fits the settings to the machine; gives what an operator should look at, at `--check` and at a start alike.
pub(crate) fn prepare(config: &mut Config) -> Result<Vec<String>, Error> {
    let others = if config.api.is_some() { api::DESCRIPTORS } else { 0 };
    let mut doubts = descriptors::fit(&mut config.server.limits, others)?;
    doubts.extend(contradictions::doubts(config));
    doubts.extend(config.server.tls.iter().flat_map(TlsConfig::doubts));
    Ok(doubts)
}

/// All settings for a person, without secrets; `broker` is how the broker describes itself.
fn show(config: &Config, broker: &str) -> String {
    let values = config.values();
    let names = SETTINGS.iter().map(|setting| setting.name.to_owned());
    let names = names.chain(LIMITS.iter().map(|limit| format!("limits.{}", limit.name)));
    let (node, servers) = (config.node_name(), config.node_names().join(","));
    let url = config.public_url_of(&node);
    let line = |name: String| {
        let (value, source) = &values[&name];
        let shown = match (setting(&name).kind, name.as_str()) {
            (_, "redis") => broker,
            (_, "server") => &node,
            (_, "servers") => &servers,
            (_, "public_url") => &url,
            (Kind::Secret, _) if !matches!(value.as_str(), "" | "none") => "(not shown)",
            _ if value.is_empty() => "-",
            _ => value,
        };
        format!("{name:<30} {shown:<34} {source}\n")
    };
    names.map(line).collect()
}
