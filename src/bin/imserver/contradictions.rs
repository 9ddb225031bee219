//! Settings that are good one by one and cannot hold together, and those that are allowed and yet most likely
//! a mistake. Pure: nothing is opened or looked up.

use std::net::{IpAddr, SocketAddr};

use imcore::{Error, ErrorKind, IdKind, server::ServerConfig};

use crate::{config::Config, settings::variable, web::Secret};

/// Refuses what could not serve.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    check_reach("admin", config.admin, "admin_token", &config.admin_token)?;
    check_reach("api", config.api, "api_key", &config.api_key)?;
    check_apart([
        ("listen", Some(config.server.listen)),
        ("admin", config.admin),
        ("api", config.api),
    ])?;
    if config.redis.is_none() && config.server.servers.len() > 1 {
        return Err(refusal(
            "servers",
            format!(
                "{} nodes need a broker that they share, and the in-process one is shared with nobody: \
             clients and messages would be lost between them. Set redis, for example \
             --redis redis://127.0.0.1:6379/0, or leave servers out",
                config.server.servers.len()
            ),
        ));
    }
    check_slot_names(config)?;
    if config.hook.is_some() && config.redis.is_some() && config.events == 0 {
        let detail = "there is nothing to post, as no events are kept; say how many, for example --events 1000000";
        return Err(refusal("webhook_url", detail.to_owned()));
    }
    Ok(())
}

/// Names that .NET helpers send to.
fn check_slot_names(config: &Config) -> Result<(), Error> {
    let why = match config {
        _ if config.slot_names.is_empty() => return Ok(()),
        _ if config.server.slots == 0 => {
            "nodes are a fixed list, to whose names .NET helpers send; leave slot_names out, or set slots"
        }
        _ if config.redis.is_none() => {
            "without Redis no .NET helper can send; leave slot_names out, or set redis"
        }
        _ if config.ids() == IdKind::Text => {
            "ids are texts, which no .NET helper can read; leave slot_names out, or set ids to integer or guid"
        }
        _ => return Ok(()),
    };
    Err(refusal("slot_names", why.to_owned()))
}

/// What the operator should look at, a sentence each.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let secrets = [("admin_token", &config.admin_token), ("api_key", &config.api_key)];
    let guessable =
        secrets.into_iter().filter_map(|(name, secret)| guessable(name, secret.as_ref()?));
    let others = [without_senders(config), unreachable_name(config), forgetful_log(config)];
    others.into_iter().flatten().chain(guessable).collect()
}

/// A log that reaches back less far than clients are waited for.
fn forgetful_log(config: &Config) -> Option<String> {
    let (keep, age) = (config.server.keep, config.message_log_age);
    (config.redis.is_some() && config.message_log && keep > age).then(|| {
        format!(
            "clients are waited for {} s (keep), and the log reaches back {} s: who is away for longer than that when \
             the node is restarted loads its state anew. Raise message_log_age, if Redis has the memory",
            keep.as_secs(),
            age.as_secs()
        )
    })
}

/// A secret that is long enough and yet among the first that anybody would try.
fn guessable(name: &str, secret: &Secret) -> Option<String> {
    const WORDS: [&str; 9] = [
        "password",
        "passwort",
        "secret",
        "changeme",
        "letmein",
        "qwerty",
        "12345678",
        "abcdefgh",
        "trying-out",
    ];
    let Secret::Asked(text) = secret else { return None };
    let text = text.to_ascii_lowercase();
    let letters: std::collections::BTreeSet<char> = text.chars().collect();
    let is_weak = letters.len() < 7 || WORDS.iter().any(|word| text.contains(word));
    is_weak.then(|| {
        format!("{name}: it is easy to guess; set {}=$(openssl rand -hex 16)", variable(name))
    })
}

/// A node that nobody can issue an address for.
fn without_senders(config: &Config) -> Option<String> {
    let reaches_nobody = config.redis.is_none() && config.api.is_none();
    reaches_nobody.then(|| {
        "nobody will be able to connect: with the in-process broker and without the API no process can issue \
         addresses or send. Add --api 127.0.0.1:7001, or a broker that helpers share, for example \
         --redis redis://127.0.0.1:6379/0"
            .to_owned()
    })
}

/// A default identity by which clients elsewhere cannot find this node.
fn unreachable_name(config: &Config) -> Option<String> {
    let ServerConfig { listen, server: None, servers, .. } = &config.server else { return None };
    let named =
        format!("this node is called {listen}, its listen address, as server is not given;");
    let port = listen.port();
    if listen.ip().is_unspecified() && config.public_url().contains("{server}") {
        return Some(format!(
            "{named} no client can connect to that. Set server to the address or name that helpers have \
             in their list, for example --server 10.0.0.1:{port}"
        ));
    }
    let here = |name: &str| name.parse().is_ok_and(|at: SocketAddr| at.ip().is_loopback());
    let elsewhere = servers.iter().find(|name| !here(name))?;
    listen.ip().is_loopback().then(|| {
        format!(
            "{named} only this machine can connect to that, while {elsewhere} seems to be another. Set \
             server to this node's name, and listen to an address for all, for example \
             --listen 0.0.0.0:{port} --server 10.0.0.1:{port}"
        )
    })
}

/// Two listeners cannot have one address.
fn check_apart(addresses: [(&'static str, Option<SocketAddr>); 3]) -> Result<(), Error> {
    for (place, (name, address)) in addresses.iter().enumerate() {
        for (earlier, other) in &addresses[..place] {
            if let (Some(address), Some(other)) = (address, other)
                && collide(*address, *other)
            {
                return Err(refusal(
                    name,
                    format!(
                        "{address} is taken by {earlier} ({other}); give each an address of its own, for \
                     example 127.0.0.1:{}",
                        address.port().wrapping_add(1).max(1024)
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// Whether the system would refuse the second of two addresses.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: IpAddr, single: IpAddr| match all {
        // Sockets on every IPv6 address take IPv4 as well.
        IpAddr::V6(ip) => ip.is_unspecified(),
        IpAddr::V4(ip) => ip.is_unspecified() && single.is_ipv4(),
    };
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() != 0 && one.port() == other.port() && (a == b || covers(a, b) || covers(b, a))
}

/// A listener that other machines can reach must ask for a secret.
fn check_reach(
    name: &'static str,
    address: Option<SocketAddr>,
    secret_name: &str,
    secret: &Option<Secret>,
) -> Result<(), Error> {
    match address {
        Some(address)
            if !address.ip().is_loopback() && !matches!(secret, Some(Secret::Asked(_))) =>
        {
            Err(refusal(
                name,
                format!(
                    "{address} can be reached from other machines and needs {secret_name}; set \
                 {}=$(openssl rand -hex 16), or listen on 127.0.0.1:{}",
                    variable(secret_name),
                    address.port()
                ),
            ))
        }
        _ => Ok(()),
    }
}

fn refusal(setting: &'static str, detail: String) -> Error {
    Error::new(ErrorKind::Config, detail).with_setting(setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_forgets_whom_the_node_waits_for_is_warned_of() {
        let seconds = std::time::Duration::from_secs;
        let config = |log, keep, age| {
            let mut config = Config {
                redis: Some("redis://127.0.0.1".into()),
                message_log: log,
                message_log_age: seconds(age),
                ..Config::default()
            };
            config.server.keep = seconds(keep);
            config
        };
        assert_eq!(forgetful_log(&config(true, 120, 120)), None);
        assert_eq!(forgetful_log(&config(false, 600, 120)), None);
        let warning = forgetful_log(&config(true, 600, 120)).unwrap();
        assert!(warning.contains("600 s (keep)") && warning.contains("120 s:"), "{warning}");
    }

    #[test]
    fn addresses_collide_as_sockets_do() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "[::1]:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(collide(one, other), expected, "{one} {other}");
            assert_eq!(collide(other, one), expected, "{other} {one}");
        }
    }
}
