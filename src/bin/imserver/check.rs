//! `--check`: shows what all settings come to, what an operator should look at, and that they are valid; asks
//! the broker as well, if that is wanted. Binds nothing and starts nothing.

use std::fmt::Write;

use imcore::{Error, broker::Broker, server::TlsConfig};

use crate::{api, config::Config, contradictions, descriptors, load::Settings, settings};

/// What there is to print; `stray_variables` are warnings about the environment.
///
/// # Errors
/// Settings with which the node would not start; if `dial`, a broker that cannot be used.
pub(crate) fn report(
    mut settings: Settings,
    broker: &dyn Broker,
    stray_variables: &[String],
    dial: bool,
) -> Result<String, Error> {
    let warnings = prepare(&mut settings.config)?;
    let mut text = show(&settings);
    for warning in stray_variables.iter().chain(&warnings) {
        // Writing to a text never fails.
        let _ = writeln!(text, "warning: {warning}");
    }
    if dial {
        match settings.config.redis {
            Some(_) => {
                let found = broker.examine().map_err(|error| settings.of_redis(&error))?;
                let _ = writeln!(text, "redis: {} {found}", broker.describe());
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
    let mut warnings = descriptors::clamp_to_rlimit(&mut config.server.limits, others)?;
    warnings.extend(contradictions::warnings(config));
    warnings.extend(config.server.tls.iter().flat_map(TlsConfig::warnings));
    Ok(warnings)
}

/// All settings for a person, without secrets.
fn show(settings: &Settings) -> String {
    let line = |setting: &settings::Setting| {
        let (name, source) = (setting.name, settings.source(setting));
        let value = (setting.show)(&settings.config);
        let value = if value.is_empty() { "-" } else { &value };
        format!("{name:<30} {value:<34} {source}\n")
    };
    settings::all().map(line).collect()
}
