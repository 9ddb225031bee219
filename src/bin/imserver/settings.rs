//! Every setting of `imserver` as data: one entry feeds the flag, the environment variable, the key in
//! the configuration file, the help and the messages about mistakes.
//!
//! What was given is in `layers`. Nothing here reads, opens or starts anything.

use std::fmt;

use imcore::{Error, ErrorKind};

/// One setting.
pub(crate) struct Setting {
    /// Its key in the file; the flag has `-` for `_`, the variable is in capitals.
    pub(crate) name: &'static str,
    pub(crate) value_name: &'static str,
    pub(crate) help: &'static str,
    /// The value where none is given; empty where that means something else, which `help` says.
    pub(crate) default: &'static str,
    /// A valid value, for messages.
    pub(crate) example: &'static str,
    /// All values, where there are only a few.
    pub(crate) choices: &'static [&'static str],
    pub(crate) kind: Kind,
}

/// What a setting's value looks like in the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// Text that is never shown.
    Secret,
    /// An array of texts; elsewhere separated by commas.
    List,
    /// A number.
    Number,
}

const PLAIN: Setting = Setting {
    name: "",
    value_name: "TEXT",
    help: "",
    default: "",
    example: "",
    choices: &[],
    kind: Kind::Text,
};

/// All settings, in the order of the help.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "listen",
        value_name: "ADDR",
        help: "Address to listen on",
        default: "127.0.0.1:6001",
        example: "0.0.0.0:6001",
        ..PLAIN
    },
    Setting {
        name: "server",
        value_name: "NAME",
        help: "This node's identity: its entry in --servers [default: the listen address]",
        example: "127.0.0.1:6001",
        ..PLAIN
    },
    Setting {
        name: "servers",
        value_name: "A,B,C",
        help: "Identities of all nodes, the same list in the same order everywhere [default: this node \
               alone]",
        example: "10.0.0.1:6001,10.0.0.2:6001",
        kind: Kind::List,
        ..PLAIN
    },
    Setting {
        name: "redis",
        value_name: "URL",
        help: "Redis, for example redis://user:password@127.0.0.1:6379/0 [default: the in-process broker]",
        example: "redis://127.0.0.1:6379/0",
        kind: Kind::Secret,
        ..PLAIN
    },
    Setting {
        name: "prefix",
        help: "First part of every Redis name; wsim for ImCore and FreeIM 1. The path is appended",
        default: "im_v2",
        example: "im_v2",
        ..PLAIN
    },
    Setting {
        name: "ids",
        value_name: "KIND",
        help: "Which ids clients have; others are refused, as they would end .NET processes [default: by \
               --prefix, integer for im_v2, guid for wsim, mixed for others]",
        example: "integer",
        choices: &["integer", "guid", "mixed"],
        ..PLAIN
    },
    Setting {
        name: "key_prefix",
        help: "Put in front of Redis keys but not of topics, like prefix= in the .NET connection string",
        example: "shop:",
        ..PLAIN
    },
    Setting {
        name: "tls_cert",
        value_name: "FILE",
        help: "Certificate as PEM, followed by those that lead to its root: clients then connect with \
               wss:// [default: no TLS]",
        example: "/etc/imserver/fullchain.pem",
        ..PLAIN
    },
    Setting {
        name: "tls_key",
        value_name: "FILE",
        help: "Private key of --tls-cert as PEM, without a password",
        example: "/etc/imserver/privkey.pem",
        ..PLAIN
    },
    Setting {
        name: "path",
        value_name: "PATH",
        help: "Path of the WebSocket endpoint",
        default: "/ws",
        example: "/ws",
        ..PLAIN
    },
    Setting {
        name: "public_url",
        value_name: "TEMPLATE",
        help: "Address that clients connect to, as the API issues it; a helper has a setting of its own \
               [default: ws://{server}{path}, wss:// with TLS]",
        example: "wss://im.example.com/{index}{path}",
        ..PLAIN
    },
    Setting {
        name: "reactors",
        value_name: "N",
        help: "Event-loop threads [default: one per core]",
        example: "4",
        kind: Kind::Number,
        ..PLAIN
    },
    Setting {
        name: "origins",
        value_name: "A,B",
        help: "Origins that may connect, separated by commas [default: any]",
        example: "https://example.com",
        kind: Kind::List,
        ..PLAIN
    },
    Setting {
        name: "peer_address",
        value_name: "FROM",
        help: "Where a client's real address comes from, which limits its handshakes: its socket, the \
               PROXY protocol (version 2), or the last entry of X-Forwarded-For",
        default: "socket",
        example: "socket",
        choices: &["socket", "proxy-protocol", "forwarded-for"],
        ..PLAIN
    },
    Setting {
        name: "drain",
        value_name: "SECONDS",
        help: "Seconds over which a stopping node spreads its closes [default: all at once]",
        example: "30",
        kind: Kind::Number,
        ..PLAIN
    },
    Setting {
        name: "admin",
        value_name: "ADDR",
        help: "Address of the admin listener: health, metrics, a page for people [default: none]",
        example: "127.0.0.1:9001",
        ..PLAIN
    },
    Setting {
        name: "admin_token",
        help: "What the admin listener asks for as `Authorization: Bearer`, or none: then it serves this \
               machine alone, on a loopback address. Other users can read flags: better the variable or \
               the file [default: made and logged at every start]",
        example: "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
        kind: Kind::Secret,
        ..PLAIN
    },
    Setting {
        name: "api",
        value_name: "ADDR",
        help: "Address of the API over HTTP, for business code in any language [default: none]",
        example: "127.0.0.1:7001",
        ..PLAIN
    },
    Setting {
        name: "api_key",
        help: "What the API asks for as `Authorization: Bearer`, or none: then it serves this machine \
               alone, on a loopback address. Other users can read flags: better the variable or the file \
               [default: made and logged at every start]",
        example: "5f4e3d2c1b0a69788796a5b4c3d2e1f0",
        kind: Kind::Secret,
        ..PLAIN
    },
    Setting {
        name: "hosts",
        value_name: "A,B",
        help: "Names under which the admin listener and the API may be asked, besides addresses and names \
               without a dot; * for any",
        example: "im.example.com",
        kind: Kind::List,
        ..PLAIN
    },
    Setting {
        name: "idempotency_life",
        value_name: "SECONDS",
        help: "How long the API keeps an answer under its idempotency key, where the request does not say",
        default: "600",
        example: "600",
        kind: Kind::Number,
        ..PLAIN
    },
    Setting {
        name: "idempotency_keys",
        value_name: "N",
        help: "Most idempotency keys that the API of this node keeps in Redis at a time, some 300 bytes each",
        default: "1000000",
        example: "1000000",
        kind: Kind::Number,
        ..PLAIN
    },
    Setting {
        name: "channels_per_client",
        value_name: "N",
        help: "Most channels that the API lets one client be in; 0 is no limit",
        default: "1000",
        example: "1000",
        kind: Kind::Number,
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
        ..PLAIN
    },
    Setting {
        name: "log",
        value_name: "LEVEL",
        help: "What to log",
        default: "info",
        example: "info",
        choices: &["off", "error", "warn", "info", "debug", "trace"],
        ..PLAIN
    },
    Setting {
        name: "log_format",
        value_name: "FORMAT",
        help: "How to log: lines for people, or one JSON object per line",
        default: "text",
        example: "json",
        choices: &["text", "json"],
        ..PLAIN
    },
];

/// The settings that [a reload](crate::reload) applies to the running node.
pub(crate) const RELOADED: [&str; 7] =
    ["log", "log_format", "admin_token", "api_key", "hosts", "tls_cert", "tls_key"];

impl Setting {
    pub(crate) fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    pub(crate) fn variable(&self) -> String {
        variable(self.name)
    }
}

/// The environment variable of a setting.
pub(crate) fn variable(name: &str) -> String {
    format!("IMSERVER_{}", name.to_uppercase())
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    Environment,
    File(String),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("flag"),
            Source::Environment => f.write_str("environment"),
            Source::File(path) => f.write_str(path),
            Source::Default => f.write_str("default"),
        }
    }
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// One text; several for a list.
    pub(crate) texts: Vec<String>,
    pub(crate) source: Source,
}

impl Given {
    pub(crate) fn text(&self) -> &str {
        self.texts.first().map_or("", String::as_str)
    }
}

/// The entry of the setting called `name`, which is one of ours.
pub(crate) fn setting(name: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.name == name).unwrap_or(&PLAIN)
}

/// A message that names setting, value, source and a valid example, in the form of the source.
pub(crate) fn mistake(name: &str, given: &Given, expected: &str) -> Error {
    let setting = setting(name);
    let value = match setting.kind {
        Kind::Secret => "its value".to_owned(),
        _ => format!("{:?}", given.texts.join(",")),
    };
    let (place, example) = place(setting, &given.source);
    Error::new(
        ErrorKind::Config,
        format!("{place}: {value} is not usable: expected {expected}; for example {example}"),
    )
}

/// How a setting is called where it was given, and an example in that form.
pub(crate) fn place(setting: &Setting, source: &Source) -> (String, String) {
    let Setting { name, example, .. } = setting;
    match source {
        Source::Flag | Source::Default => (setting.flag(), format!("{} {example}", setting.flag())),
        Source::Environment => (setting.variable(), format!("{}={example}", setting.variable())),
        Source::File(path) => {
            let example = match setting.kind {
                Kind::Number => (*example).to_owned(),
                Kind::List => format!("[\"{}\"]", example.replace(',', "\", \"")),
                Kind::Text | Kind::Secret => format!("\"{example}\""),
            };
            (format!("{name} in {path}"), format!("\"{name}\": {example}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_names_setting_value_source_and_example() {
        let given = |source| Given { texts: vec!["x".into()], source };
        let of = |name, source| mistake(name, &given(source), "an address").to_string();
        let text = of("listen", Source::Flag);
        assert!(
            text.contains("--listen: \"x\"") && text.contains("--listen 0.0.0.0:6001"),
            "{text}"
        );
        let text = of("key_prefix", Source::Environment);
        assert!(text.contains("IMSERVER_KEY_PREFIX=shop:"), "{text}");
        let text = of("servers", Source::File("a.json".into()));
        assert!(
            text.contains("servers in a.json") && text.contains("[\"10.0.0.1:6001\", "),
            "{text}"
        );
        assert!(!of("admin_token", Source::Flag).contains("\"x\""), "secrets are not repeated");
    }

    #[test]
    fn every_example_is_one_of_the_choices() {
        for Setting { name, example, choices, default, .. } in SETTINGS {
            assert!(!example.is_empty(), "{name}");
            assert!(choices.is_empty() || choices.contains(example), "{name}");
            let fits = default.is_empty() || choices.contains(default);
            assert!(choices.is_empty() || fits, "{name}");
        }
        assert!(RELOADED.iter().all(|name| setting(name).name == *name));
    }
}
