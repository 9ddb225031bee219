//! Settings of webhooks: where events are posted, how they are signed, and when it is tried again.

use std::time::Duration;

use imcore::EventKind;

use super::{Given, Kind, PLAIN, Setting, TakesEffect, limits::time};
use crate::webhook::{Allowed, Secrets, URL};

const TYPES: &str =
    "types of events: opened, ended, online, offline, node_died, occupied, vacated, undelivered";
const TIMEOUT: &str = "a number of seconds from 0.1 to 60";
const RETRY: &str = "a number of seconds above 0 and up to 300";
const GIVE_UP: &str = "a number of seconds up to 82800, as events are kept for a day";

/// What all of these have in common.
const HOOK: Setting = Setting { takes_effect: TakesEffect::Reload, ..PLAIN };

/// In the order of the help.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "webhook_url",
        value_name: "URL",
        help: "Where events are posted as signed JSON, in order and again until they are taken (docs/events.md); on Redis with --events, and \
               the same on all nodes, one of which does it [default: none]",
        example: "https://hooks.example.com/im",
        kind: Kind::Secret,
        read: |config, given| given.parse(URL).map(|url| config.webhook.url = Some(url)),
        show: |config| config.webhook.url.as_ref().map(ToString::to_string).unwrap_or_default(),
        ..HOOK
    },
    Setting {
        name: "webhook_secret",
        needs: Some("webhook_url"),
        help: "What webhooks are signed with, whsec_ and base64; two while it is changed, separated by a comma. Other users can read flags: \
               better the variable or a file",
        example: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        kind: Kind::Secret,
        read: |config, given| {
            Secrets::read(given.text()).map(|keys| config.webhook.secrets = Some(keys))
        },
        show: |config| {
            config.webhook.secrets.as_ref().map(|_| String::from("(not shown)")).unwrap_or_default()
        },
        ..HOOK
    },
    Setting {
        name: "webhook_secret_file",
        needs: Some("webhook_url"),
        value_name: "FILE",
        help: "File with that secret instead, or two, a line each",
        example: "/etc/imserver/webhook.secret",
        read: |config, given| {
            config.webhook.secret_file = Some(given.text().to_owned());
            Ok(())
        },
        show: |config| config.webhook.secret_file.clone().unwrap_or_default(),
        ..HOOK
    },
    Setting {
        name: "webhook_events",
        needs: Some("webhook_url"),
        value_name: "A,B",
        help: "Types of events that are posted; what was missed always is [default: all]",
        example: "online,offline",
        kind: Kind::List,
        read: |config, given| {
            let is_known = |word: &String| EventKind::KNOWN.iter().any(|kind| kind.word() == word);
            config.webhook.types = words(given);
            if config.webhook.types.iter().all(is_known) { Ok(()) } else { Err(TYPES) }
        },
        show: |config| config.webhook.types.join(","),
        ..HOOK
    },
    Setting {
        name: "webhook_allow",
        needs: Some("webhook_url"),
        value_name: "A,B",
        help: "Addresses and networks to which webhooks may go although they are not public, and http if without TLS",
        example: "http,10.0.0.0/8",
        kind: Kind::List,
        read: |config, given| {
            Allowed::read(&words(given)).map(|allowed| config.webhook.allowed = allowed)
        },
        show: |config| config.webhook.allowed.to_string(),
        ..HOOK
    },
    Setting {
        name: "webhook_ca",
        needs: Some("webhook_url"),
        value_name: "FILE",
        help: "Certificates, as PEM, of those whom the target's may be from [default: those that the system trusts]",
        example: "/etc/imserver/ca.pem",
        read: |config, given| {
            config.webhook.ca = Some(given.text().to_owned());
            Ok(())
        },
        show: |config| config.webhook.ca.clone().unwrap_or_default(),
        ..HOOK
    },
    Setting {
        name: "webhook_timeout",
        value_name: "SECONDS",
        help: "How long a webhook's target may take to answer",
        default: "15",
        example: "15",
        kind: Kind::Number,
        read: |config, given| {
            let range = Duration::from_millis(100)..=Duration::from_secs(60);
            let time = time::read(given).ok().filter(|time| range.contains(time));
            time.map(|time| config.webhook.timeout = time).ok_or(TIMEOUT)
        },
        show: |config| time::show(config.webhook.timeout),
        ..HOOK
    },
    Setting {
        name: "webhook_retry",
        value_name: "SECONDS",
        help: "Pause after a webhook's first failure; it doubles up to five minutes",
        default: "1",
        example: "1",
        kind: Kind::Number,
        read: |config, given| {
            let range = Duration::from_millis(1)..=Duration::from_secs(300);
            let time = time::read(given).ok().filter(|time| range.contains(time));
            time.map(|time| config.webhook.retry = time).ok_or(RETRY)
        },
        show: |config| time::show(config.webhook.retry),
        ..HOOK
    },
    Setting {
        name: "webhook_give_up",
        value_name: "SECONDS",
        help: "Age at which events that a webhook's target does not take are put aside as dead letters",
        default: "82800",
        example: "82800",
        kind: Kind::Number,
        read: |config, given| {
            let time = time::read(given).ok().filter(|time| *time <= Duration::from_secs(82_800));
            time.map(|time| config.webhook.give_up = time).ok_or(GIVE_UP)
        },
        show: |config| time::show(config.webhook.give_up),
        ..HOOK
    },
];

fn words(given: &Given) -> Vec<String> {
    given.texts.iter().flat_map(|text| text.split(',')).map(|word| word.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_of_events_are_named() {
        let known: Vec<_> = EventKind::KNOWN.iter().map(EventKind::word).collect();
        assert_eq!(TYPES, format!("types of events: {}", known.join(", ")));
    }
}
