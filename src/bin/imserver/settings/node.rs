//! Settings of the node: where clients connect, to which cluster it belongs, and its broker.

use std::time::Duration;

use imcore::{Ticket, broker::RedisOptions, server::PeerAddress};

use super::{Kind, PLAIN, Setting, TakesEffect, given::Given, limits::time, listeners::ADDRESS};

const LOG_AGE: &str = "a number of seconds above 0 and up to 30 days";
const LOG_BYTES: &str = "a whole number of bytes from 1048576 (1 MiB) on";
const EVENTS: &str = "a whole number, 0 for none";
const SLOTS: &str = "a whole number from 1 to 4096, 0 for a fixed list";
const WEIGHT: &str = "a whole number";
const ABSENCE: &str = "a number of seconds up to a day (86400)";

/// For how long somebody may be away, at most as long as nodes count it.
fn absence(given: &Given) -> Result<Duration, &'static str> {
    let time = time::read(given).map_err(|_| ABSENCE)?;
    if time > Ticket::LONGEST_KEEP { Err(ABSENCE) } else { Ok(time) }
}

/// In the order of the help.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "listen",
        value_name: "ADDR",
        help: "Address to listen on",
        default: "127.0.0.1:6001",
        example: "0.0.0.0:6001",
        read: |config, given| given.parse(ADDRESS).map(|at| config.server.listen = at),
        show: |config| config.server.listen.to_string(),
        ..PLAIN
    },
    Setting {
        name: "server",
        value_name: "NAME",
        help: "This node's identity: its entry in --servers [default: the listen address]",
        example: "127.0.0.1:6001",
        read: |config, given| {
            config.server.server = Some(given.text().to_owned());
            Ok(())
        },
        show: |config| config.node_name(),
        ..PLAIN
    },
    Setting {
        name: "servers",
        value_name: "A,B,C",
        help: "Identities of all nodes, the same list in the same order everywhere [default: this node \
               alone]",
        example: "10.0.0.1:6001,10.0.0.2:6001",
        kind: Kind::List,
        read: |config, given| {
            config.server.servers.clone_from(&given.texts);
            Ok(())
        },
        show: |config| config.node_names().join(","),
        ..PLAIN
    },
    Setting {
        name: "slots",
        value_name: "N",
        help: "In place of --servers, where nodes come and go: the number of slots by which clients are spread over the nodes \
               there are, the same everywhere and for ever (64 suit twenty nodes); 0: nodes are a fixed list",
        default: "0",
        example: "0",
        kind: Kind::Number,
        read: |config, given| {
            config.server.slots = given.parse(SLOTS)?;
            if config.server.slots > 4096 { Err(SLOTS) } else { Ok(()) }
        },
        show: |config| config.server.slots.to_string(),
        ..PLAIN
    },
    Setting {
        name: "weight",
        value_name: "N",
        help: "With --slots: how many slots this node takes compared with others; 0 takes none",
        default: "1",
        example: "1",
        kind: Kind::Number,
        read: |config, given| given.parse(WEIGHT).map(|weight| config.server.weight = weight),
        show: |config| config.server.weight.to_string(),
        ..PLAIN
    },
    Setting {
        name: "address",
        value_name: "HOST",
        help: "With --slots: what stands for {server} in the addresses of this node's clients [default: its name]",
        example: "im-0.example.com",
        read: |config, given| {
            config.server.address = Some(given.text().to_owned());
            Ok(())
        },
        show: |config| config.server.address.clone().unwrap_or_else(|| config.node_name()),
        ..PLAIN
    },
    Setting {
        name: "slot_names",
        needs: Some("slots"),
        value_name: "PATTERN",
        help: "With --slots: what slots are called in the servers list of .NET helpers, {slot} being the number (00 to 63 of 64), so \
               that they can send; the same everywhere [default: none do]",
        example: "im.example.com/s{slot}",
        read: |config, given| {
            config.slot_names = given.text().to_owned();
            Ok(())
        },
        show: |config| config.slot_names.clone(),
        ..PLAIN
    },
    Setting {
        name: "redis",
        value_name: "URL",
        help: "Redis, for example redis://user:password@127.0.0.1:6379/0, or with Sentinels \
               redis+sentinel://user:password@host:26379,host,host/name/0; several URLs with commas between them, or a Redis \
               Cluster, redis+cluster://user:password@host:6379,host,host, share the nodes, the same everywhere \
               [default: the in-process broker]",
        example: "redis://127.0.0.1:6379/0",
        kind: Kind::Secret,
        read: |config, given| {
            config.redis = Some(given.text().to_owned());
            Ok(())
        },
        show: |config| config.broker.clone(),
        ..PLAIN
    },
    Setting {
        name: "prefix",
        help: "First part of every Redis name; wsim for ImCore and FreeIM 1. The path is appended",
        default: "im_v2",
        example: "im_v2",
        read: |config, given| {
            config.prefix = given.text().to_owned();
            Ok(())
        },
        show: |config| config.prefix.clone(),
        ..PLAIN
    },
    Setting {
        name: "ids",
        value_name: "KIND",
        help: "Which ids clients have; others are refused, as they would end .NET processes. text is any, where no \
               .NET process takes part [default: by --prefix, integer for im_v2, guid for wsim, mixed for others]",
        example: "integer",
        choices: &["integer", "guid", "mixed", "text"],
        read: |config, given| {
            given.parse("integer, guid, mixed or text").map(|ids| config.server.ids = Some(ids))
        },
        show: |config| config.ids().to_string(),
        ..PLAIN
    },
    Setting {
        name: "key_prefix",
        help: "Put in front of Redis keys but not of topics, like prefix= in the .NET connection string",
        example: "shop:",
        read: |config, given| {
            config.key_prefix = given.text().to_owned();
            Ok(())
        },
        show: |config| config.key_prefix.clone(),
        ..PLAIN
    },
    Setting {
        name: "redis_changes",
        value_name: "WAY",
        help: "How this node learns of joins and leaves: by tracking, keyspace or notice, or auto for what Redis offers",
        default: "auto",
        choices: &["auto", "tracking", "keyspace", "notice"],
        read: |config, given| {
            given.parse("auto, tracking, keyspace or notice").map(|by| config.redis_changes = by)
        },
        show: |config| config.redis_changes.to_string(),
        ..PLAIN
    },
    Setting {
        name: "tls_cert",
        needs: Some("tls_key"),
        value_name: "FILE",
        help: "Certificate as PEM, followed by those that lead to its root: clients then connect with \
               wss:// [default: no TLS]",
        example: "/etc/imserver/fullchain.pem",
        takes_effect: TakesEffect::ReloadOfTls,
        read: |config, given| {
            config.tls_cert = Some(given.text().to_owned());
            Ok(())
        },
        show: |config| config.tls_cert.clone().unwrap_or_default(),
        ..PLAIN
    },
    Setting {
        name: "tls_key",
        needs: Some("tls_cert"),
        value_name: "FILE",
        help: "Private key of --tls-cert as PEM, without a password",
        example: "/etc/imserver/privkey.pem",
        takes_effect: TakesEffect::ReloadOfTls,
        read: |config, given| {
            config.tls_key = Some(given.text().to_owned());
            Ok(())
        },
        show: |config| config.tls_key.clone().unwrap_or_default(),
        ..PLAIN
    },
    Setting {
        name: "path",
        value_name: "PATH",
        help: "Path of the WebSocket endpoint",
        default: "/ws",
        example: "/ws",
        read: |config, given| {
            config.server.path = given.text().to_owned();
            Ok(())
        },
        show: |config| config.server.path.clone(),
        ..PLAIN
    },
    Setting {
        name: "public_url",
        value_name: "TEMPLATE",
        help: "Address that clients connect to, as the API issues it; a helper has a setting of its own \
               [default: ws://{server}{path}, wss:// with TLS]",
        example: "wss://im.example.com/{index}{path}",
        read: |config, given| {
            config.public_url = Some(given.text().to_owned());
            Ok(())
        },
        show: |config| config.public_url_of(&config.node_name()),
        ..PLAIN
    },
    Setting {
        name: "reactors",
        value_name: "N",
        help: "Event-loop threads [default: one per core]",
        example: "4",
        kind: Kind::Number,
        read: |config, given| given.parse("a whole number").map(|n| config.server.reactors = n),
        show: |config| config.server.reactors.to_string(),
        ..PLAIN
    },
    Setting {
        name: "origins",
        value_name: "A,B",
        help: "Origins that may connect, separated by commas [default: any]",
        example: "https://example.com",
        kind: Kind::List,
        read: |config, given| {
            config.server.origins.clone_from(&given.texts);
            Ok(())
        },
        show: |config| config.server.origins.join(","),
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
        read: |config, given| {
            config.server.peer_address = match given.text() {
                "socket" => PeerAddress::Socket,
                "proxy-protocol" => PeerAddress::ProxyProtocol,
                "forwarded-for" => PeerAddress::ForwardedFor,
                _ => return Err("socket, proxy-protocol or forwarded-for"),
            };
            Ok(())
        },
        show: |config| config.server.peer_address.as_str().to_owned(),
        ..PLAIN
    },
    Setting {
        name: "message_log",
        value_name: "WHETHER",
        help: "Whether messages are also kept in Redis for a while, so that clients that can resume (imcore.1) miss \
               nothing over a restart of their node or a loss of its connection; the same in helpers. The \
               in-process broker always keeps them",
        default: "off",
        example: "on",
        choices: &["on", "off"],
        read: |config, given| {
            config.message_log = given.text() == "on";
            Ok(())
        },
        show: |config| if config.message_log { "on" } else { "off" }.to_owned(),
        ..PLAIN
    },
    Setting {
        name: "message_log_age",
        value_name: "SECONDS",
        help: "How long the log keeps a message",
        default: "120",
        example: "120",
        kind: Kind::Number,
        read: |config, given| {
            let age = time::read(given).map_err(|_| LOG_AGE)?;
            config.message_log_age = age;
            if age.is_zero() { Err(LOG_AGE) } else { Ok(()) }
        },
        show: |config| time::show(config.message_log_age),
        ..PLAIN
    },
    Setting {
        name: "message_log_bytes",
        value_name: "BYTES",
        help: "Bytes of messages that the log keeps for each node, and for all, beyond which the oldest go earlier",
        default: "268435456",
        example: "268435456",
        kind: Kind::Number,
        read: |config, given| {
            let bytes = given.parse(LOG_BYTES)?;
            config.message_log_bytes = bytes;
            if bytes < RedisOptions::LEAST_LOG_BYTES { Err(LOG_BYTES) } else { Ok(()) }
        },
        show: |config| config.message_log_bytes.to_string(),
        ..PLAIN
    },
    Setting {
        name: "events",
        value_name: "N",
        help: "How many events about connections are kept in Redis, of a day at most, for services that must miss none \
               (docs/events.md); 0: none are written. The in-process broker always keeps some",
        default: "0",
        example: "1000000",
        kind: Kind::Number,
        read: |config, given| given.parse(EVENTS).map(|events| config.events = events),
        show: |config| config.events.to_string(),
        ..PLAIN
    },
    Setting {
        name: "undelivered",
        value_name: "WHETHER",
        help: "Whether it is told by an event that is kept which messages that have an id did not reach a client, for \
               a push to its phone (docs/events.md); such a message costs what one with a receipt does",
        default: "off",
        example: "on",
        choices: &["on", "off"],
        read: |config, given| {
            config.server.undelivered = given.text() == "on";
            Ok(())
        },
        show: |config| if config.server.undelivered { "on" } else { "off" }.to_owned(),
        ..PLAIN
    },
    Setting {
        name: "keep",
        value_name: "SECONDS",
        help: "How long a client that can resume (imcore.1) is waited for when its connection has ended, unless \
               its address says otherwise: it stays online and is given what it missed",
        default: "60",
        example: "60",
        kind: Kind::Number,
        read: |config, given| absence(given).map(|time| config.server.keep = time),
        show: |config| time::show(config.server.keep),
        ..PLAIN
    },
    Setting {
        name: "grace",
        value_name: "SECONDS",
        help: "How long a client that cannot resume still counts as online when its connection has ended uncleanly, \
               and stays in its channels; what is sent meanwhile is not given to it",
        default: "0",
        example: "0",
        kind: Kind::Number,
        read: |config, given| absence(given).map(|time| config.server.grace = time),
        show: |config| time::show(config.server.grace),
        ..PLAIN
    },
    Setting {
        name: "drain",
        // From when it was the only limit with a flag.
        same_as: Some("limits.drain_over"),
        value_name: "SECONDS",
        help: "Seconds over which a stopping node spreads its closes [default: all at once]",
        example: "30",
        kind: Kind::Number,
        read: |config, given| time::read(given).map(|time| config.server.limits.drain_over = time),
        show: |config| time::show(config.server.limits.drain_over),
        ..PLAIN
    },
];
