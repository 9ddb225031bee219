//! Settings of the listeners beside the clients' own, the admin listener and the API, and of the log.

use std::time::Duration;

use super::{Given, Kind, PLAIN, Setting, TakesEffect};
use crate::{logging::Format, web::Secret};

/// What a listener is given.
pub(super) const ADDRESS: &str = "an IP address with a port, since names are not looked up";

/// Fewest characters of a secret, so that it cannot be guessed; the next line says it too.
const SECRET_LENGTH: usize = 16;
const SECRET: &str = "none, or at least 16 letters, digits or signs without blanks";

const DAY: u64 = 24 * 3600;
const YEAR: u64 = 366 * DAY;

/// In the order of the help.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "admin",
        value_name: "ADDR",
        help: "Address of the admin listener: health, metrics, a page for people [default: none]",
        example: "127.0.0.1:9001",
        read: |config, given| given.parse(ADDRESS).map(|at| config.admin = Some(at)),
        show: |config| config.admin.map(|at| at.to_string()).unwrap_or_default(),
        ..PLAIN
    },
    Setting {
        name: "admin_token",
        help: "What the admin listener asks for as `Authorization: Bearer`, or none: then it serves this \
               machine alone, on a loopback address. Other users can read flags: better the variable or \
               the file [default: made and logged at every start]",
        example: "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
        kind: Kind::Secret,
        takes_effect: TakesEffect::Reload,
        read: |config, given| secret(given).map(|secret| config.admin_token = Some(secret)),
        show: |config| show_secret(&config.admin_token),
        ..PLAIN
    },
    Setting {
        name: "api",
        value_name: "ADDR",
        help: "Address of the API over HTTP, for business code in any language [default: none]",
        example: "127.0.0.1:7001",
        read: |config, given| given.parse(ADDRESS).map(|at| config.api = Some(at)),
        show: |config| config.api.map(|at| at.to_string()).unwrap_or_default(),
        ..PLAIN
    },
    Setting {
        name: "api_key",
        help: "What the API asks for as `Authorization: Bearer`, or none: then it serves this machine \
               alone, on a loopback address. Other users can read flags: better the variable or the file \
               [default: made and logged at every start]",
        example: "5f4e3d2c1b0a69788796a5b4c3d2e1f0",
        kind: Kind::Secret,
        takes_effect: TakesEffect::Reload,
        read: |config, given| secret(given).map(|secret| config.api_key = Some(secret)),
        show: |config| show_secret(&config.api_key),
        ..PLAIN
    },
    Setting {
        name: "hosts",
        value_name: "A,B",
        help: "Names under which the admin listener and the API may be asked, besides addresses and names \
               without a dot; * for any",
        example: "im.example.com",
        kind: Kind::List,
        takes_effect: TakesEffect::Reload,
        read: |config, given| {
            if !given.texts.iter().all(|name| is_host_name(name)) {
                return Err("names without scheme and port, or *");
            }
            config.hosts.clone_from(&given.texts);
            Ok(())
        },
        show: |config| config.hosts.join(","),
        ..PLAIN
    },
    Setting {
        name: "idempotency_life",
        value_name: "SECONDS",
        help: "How long the API keeps an answer under its idempotency key, where the request does not say",
        default: "600",
        example: "600",
        kind: Kind::Number,
        read: |config, given| {
            let life = given.number("a number of seconds up to a day", |n| (1..=DAY).contains(&n));
            life.map(|seconds| config.idempotency.life = Duration::from_secs(seconds))
        },
        show: |config| config.idempotency.life.as_secs().to_string(),
        ..PLAIN
    },
    Setting {
        name: "idempotency_keys",
        value_name: "N",
        help: "Most idempotency keys that the API of this node keeps in Redis at a time, some 300 bytes each",
        default: "1000000",
        example: "1000000",
        kind: Kind::Number,
        read: |config, given| given.parse("a whole number").map(|n| config.idempotency.keys = n),
        show: |config| config.idempotency.keys.to_string(),
        ..PLAIN
    },
    Setting {
        name: "channels_per_client",
        value_name: "N",
        help: "Most channels that the API lets one client be in; 0 is no limit",
        default: "1000",
        example: "1000",
        kind: Kind::Number,
        read: |config, given| given.parse("a whole number").map(|n| config.channels_per_client = n),
        show: |config| config.channels_per_client.to_string(),
        ..PLAIN
    },
    Setting {
        name: "offline_memberships",
        value_name: "SECONDS",
        help: "How long a client that the API joins while it is offline stays a member without coming; 0 is \
               for ever",
        default: "86400",
        example: "86400",
        kind: Kind::Number,
        read: |config, given| {
            let life = given.number("a number of seconds up to a year", |seconds| seconds <= YEAR);
            life.map(|seconds| config.offline_memberships = Duration::from_secs(seconds))
        },
        show: |config| config.offline_memberships.as_secs().to_string(),
        ..PLAIN
    },
    Setting {
        name: "follow_texts",
        value_name: "WHETHER",
        help: "Whether those who follow a client, a channel or a message, on the admin page or by the API, are shown what \
               messages say, 2000 bytes of each",
        default: "off",
        example: "off",
        choices: &["on", "off"],
        read: |config, given| {
            config.follow_texts = given.text() == "on";
            Ok(())
        },
        show: |config| if config.follow_texts { "on" } else { "off" }.to_owned(),
        ..PLAIN
    },
    Setting {
        name: "log",
        value_name: "LEVEL",
        help: "What to log",
        default: "info",
        example: "info",
        choices: &["off", "error", "warn", "info", "debug", "trace"],
        takes_effect: TakesEffect::Reload,
        read: |config, given| given.parse("a level").map(|level| config.log = level),
        show: |config| config.log.as_str().to_ascii_lowercase(),
        ..PLAIN
    },
    Setting {
        name: "log_format",
        value_name: "FORMAT",
        help: "How to log: lines for people, or one JSON object per line",
        default: "text",
        example: "json",
        choices: &["text", "json"],
        takes_effect: TakesEffect::Reload,
        read: |config, given| {
            config.log_format = Format::parse(given.text()).ok_or("text or json")?;
            Ok(())
        },
        show: |config| config.log_format.as_str().to_owned(),
        ..PLAIN
    },
];

/// A secret that a listener asks for; the word `none` says that it asks for none.
fn secret(given: &Given) -> Result<Secret, &'static str> {
    let secret = given.text();
    if secret == "none" {
        return Ok(Secret::Open);
    }
    let can_be_sent = secret.bytes().all(|byte| byte.is_ascii_graphic());
    match can_be_sent && secret.len() >= SECRET_LENGTH {
        true => Ok(Secret::Asked(secret.to_owned())),
        false => Err(SECRET),
    }
}

fn show_secret(secret: &Option<Secret>) -> String {
    let shown = match secret {
        None => "",
        Some(Secret::Open) => "none",
        Some(Secret::Asked(_)) => "(not shown)",
    };
    shown.to_owned()
}

/// Whether it is a name as it stands in `Host`, without a port, or the word for all.
fn is_host_name(name: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    name == "*" || (!name.is_empty() && name.bytes().all(is_sign))
}
