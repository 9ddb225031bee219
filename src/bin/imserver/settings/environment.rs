//! Environment variables that look like settings and are none: a mistyped one would be ignored without a word.
//!
//! They are warned of and not refused: an operator does not choose all of the program's environment.
//! Kubernetes sets variables that begin with the name of each service, such as `IMSERVER_PORT`.

use strsim::levenshtein;

use super::{all, nearest, variable, with_flags};

const PREFIX: &str = "IMSERVER_";

/// A sentence for each variable that was most likely meant to be a setting.
pub(crate) fn warnings(variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut warnings: Vec<_> =
        variables.filter_map(|(name, value)| warning(&name, &value)).collect();
    warnings.sort();
    warnings
}

fn warning(name: &str, value: &str) -> Option<String> {
    let settings = || with_flags().map(|setting| setting.name).chain(["config"]);
    // An empty variable counts as not given, whatever its name.
    if value.is_empty() || settings().any(|setting| variable(setting) == name) {
        return None;
    }
    let upper = name.to_uppercase().replace('-', "_");
    let Some(rest) = upper.strip_prefix(PREFIX) else {
        // IM_SERVER_LISTEN, IMSERVR_LISTEN, IMCORE_LISTEN.
        let joined = upper.replace('_', "");
        let meant = settings().find(|setting| {
            let rest = setting.to_uppercase().replace('_', "");
            let head = joined.strip_suffix(&rest);
            head.is_some_and(|head| levenshtein(head, "IMSERVER") <= 2 || head == "IMCORE")
        })?;
        return Some(ignored(name, &format!("did you mean {}?", variable(meant))));
    };
    if is_of_a_service(rest, value) {
        return None;
    }
    let word = rest.to_lowercase();
    let mut in_file = all().filter(|setting| setting.in_file_alone).map(|setting| setting.name);
    let limit = in_file.find(|name| {
        let (group, key) = name.split_once('.').unwrap_or(("", name));
        let head = word.strip_suffix(key);
        head.is_some_and(|head| head.is_empty() || head.starts_with(group.trim_end_matches('s')))
    });
    if let Some(limit) = limit {
        let why = format!("limits are set in the configuration file, this one as {limit}");
        return Some(ignored(name, &why));
    }
    let meant = meant(&word, &settings().collect::<Vec<_>>())?;
    Some(ignored(name, &format!("did you mean {}?", variable(meant))))
}

fn ignored(name: &str, why: &str) -> String {
    format!("the environment variable {name} is not a setting and has no effect; {why}")
}

/// The setting that a word was meant for: one that differs in a few letters, or that says more or less.
fn meant<'a>(word: &str, settings: &[&'a str]) -> Option<&'a str> {
    // `port` and `address` are what others call `listen`; `url`, what they call `public_url`.
    const OTHERS: [(&str, &str); 6] = [
        ("port", "listen"),
        ("address", "listen"),
        ("bind", "listen"),
        ("host", "listen"),
        ("url", "public_url"),
        ("name", "server"),
    ];
    let (far, closest) = nearest(word, settings.iter().copied())?;
    if far <= (closest.len() / 3).max(1) || word.replace('_', "") == closest.replace('_', "") {
        return Some(closest);
    }
    if let Some((_, setting)) = OTHERS.iter().find(|(other, _)| *other == word) {
        return settings.iter().copied().find(|known| known == setting);
    }
    let extends = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.starts_with('_'))
            || long.strip_suffix(short).is_some_and(|rest| rest.ends_with('_'))
    };
    let related =
        settings.iter().copied().filter(|known| extends(word, known) || extends(known, word));
    related.min_by_key(|known| levenshtein(word, known))
}

/// Whether Kubernetes sets a variable of this name for a service whose name begins with `imserver`.
fn is_of_a_service(rest: &str, value: &str) -> bool {
    let is_url =
        value.split_once("://").is_some_and(|(scheme, _)| matches!(scheme, "tcp" | "udp" | "sctp"));
    let words: Vec<_> = rest.split('_').collect();
    let is_number =
        |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    // NAME_SERVICE_HOST, NAME_SERVICE_PORT, NAME_SERVICE_PORT_HTTP.
    let service = words.windows(2).any(|pair| matches!(pair, ["SERVICE", "HOST" | "PORT"]));
    // NAME_PORT=tcp://..., NAME_PORT_80_TCP=tcp://..., NAME_PORT_80_TCP_PROTO, _PORT and _ADDR.
    let port = words.windows(3).any(|three| {
        three[0] == "PORT" && is_number(&three[1]) && matches!(three[2], "TCP" | "UDP" | "SCTP")
    });
    service || port || (words.last() == Some(&"PORT") && is_url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_warned_of_with_what_was_meant() {
        for (name, meant) in [
            ("IMSERVER_LISEN", "IMSERVER_LISTEN?"),
            ("IMSERVER_REDIS_URL", "IMSERVER_REDIS?"),
            ("IMSERVER_REDIS_HOST", "IMSERVER_REDIS?"),
            ("IMSERVER_PUBLICURL", "IMSERVER_PUBLIC_URL?"),
            ("IMSERVER_PUBLIC_URI", "IMSERVER_PUBLIC_URL?"),
            ("IMSERVER_PUBLIC", "IMSERVER_PUBLIC_URL?"),
            ("IMSERVER_LOG_LEVEL", "IMSERVER_LOG?"),
            ("IMSERVER_SERVER_NAME", "IMSERVER_SERVER?"),
            ("IMSERVER_PORT", "IMSERVER_LISTEN?"),
            ("IMSERVER_ADMIN-TOKEN", "IMSERVER_ADMIN_TOKEN?"),
            ("imserver_listen", "IMSERVER_LISTEN?"),
            ("IM_SERVER_LISTEN", "IMSERVER_LISTEN?"),
            ("IMSEVER_API_KEY", "IMSERVER_API_KEY?"),
            ("IMCORE_REDIS", "IMSERVER_REDIS?"),
            ("IMSERVER_CONF", "IMSERVER_CONFIG?"),
            ("IMSERVER_CONNECTIONS", "limits.connections"),
            ("IMSERVER_LIMITS_OUTBOX_BYTES", "limits.outbox_bytes"),
        ] {
            let warning =
                warning(name, "secret").unwrap_or_else(|| panic!("{name} is not warned of"));
            assert!(warning.contains(name) && warning.ends_with(meant), "{warning}");
            assert!(!warning.contains("secret"));
        }
    }

    #[test]
    fn settings_and_variables_of_others_are_not() {
        for (name, value) in [
            ("IMSERVER_LISTEN", "127.0.0.1:1"),
            ("IMSERVER_CONFIG", "x"),
            ("IMSERVER_LISEN", ""),
            ("IMSERVER_SERVICE_HOST", "10.0.0.1"),
            ("IMSERVER_SERVICE_PORT", "6001"),
            ("IMSERVER_SERVICE_PORT_HTTP", "6001"),
            ("IMSERVER_PORT", "tcp://10.0.0.1:6001"),
            ("IMSERVER_PORT_6001_TCP", "tcp://10.0.0.1:6001"),
            ("IMSERVER_PORT_6001_TCP_PROTO", "tcp"),
            ("IMSERVER_PORT_6001_TCP_PORT", "6001"),
            ("IMSERVER_PORT_6001_TCP_ADDR", "10.0.0.1"),
            ("IMSERVER_REDIS_PORT", "tcp://10.0.0.1:6379"),
            ("IMSERVER_REDIS_SERVICE_HOST", "10.0.0.1"),
            ("IMSERVER_API_PORT_7001_TCP", "tcp://10.0.0.1:7001"),
            ("IMSERVER_ADMIN_SERVICE_PORT_ADMIN", "9001"),
            ("IMSERVER_VERSION", "1"),
            ("IMSERVER_HOME", "/opt"),
            ("PATH", "/bin"),
            ("LISTEN", "x"),
            ("REDIS", "x"),
            ("HOME", "/root"),
        ] {
            assert_eq!(warning(name, value), None, "{name}={value}");
        }
    }
}
