//! What a node asks of Redis beside a [way](super::ways) to learn of changes: looked at before the first client comes, so that
//! a server that cannot do it is named in one sentence, and not found out piece by piece.
//!
//! Changes nothing. What passes by itself, such as a full memory or a replica, is no answer.

use redis::{Cmd, Pipeline, RedisError, Value, cmd};

use crate::{
    broker::redis::{
        backend::Backend,
        link::{connection::Link, error},
    },
    error::{Error, ErrorKind, Result},
};

/// One need: a command that asks for it, what it is, what for, and the way out.
type Need = (Cmd, &'static str, &'static str, &'static str);

const NEWER: &str =
    "take Redis 6.2 or newer, or Valkey, with no command renamed and no proxy in front of it";

/// What is asked. `key` and `topic` are nobody's.
fn needs(key: &str, topic: &str, log: bool) -> Vec<Need> {
    let script = |text: &str, argument: &str| {
        let mut eval = cmd("EVAL");
        eval.arg(text).arg(0).arg(argument);
        eval
    };
    let on_key = |name: &str| {
        let mut command = cmd(name);
        command.arg(key);
        command
    };
    let mut both = on_key("EXISTS");
    both.arg(format!("{key}?"));
    let mut needs = vec![
        // All servers do, but for those of a cluster, whose own words say more.
        (both, "EXISTS of two keys", "a cluster is told from one Redis", NEWER),
        (script("return 1", ""), "EVAL", "joins and presence are changed in one step", NEWER),
        (
            script("return redis.call('GET', ARGV[1])", key),
            "keys that a script does not declare",
            "joins and presence are changed in one step",
            "allow them (Alibaba Cloud: script_check_enable 0; Dragonfly: \
             --default_lua_flags=allow-undeclared-keys), or take a Redis that is no cluster",
        ),
        (on_key("GETDEL"), "GETDEL", "a ticket is taken once", NEWER),
        (on_key("HRANDFIELD"), "HRANDFIELD", "dead nodes are cleared away in steps", NEWER),
    ];
    if log {
        let mut range = on_key("XRANGE");
        range.arg("-").arg("+").arg("COUNT").arg(1);
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg("return 1");
        let publish = script("return redis.call('PUBLISH', ARGV[1], '')", topic);
        needs.push((publish, "PUBLISH in a script", "the log is written", "leave the log off"));
        needs.push((range, "XRANGE", "the log is read", "leave the log off"));
        needs.push((load, "SCRIPT LOAD", "the log is written", "leave the log off"));
    }
    needs
}

/// Fails with one sentence if the server refuses what a node needs. Has a connection of its own for it.
pub(super) fn check(backend: &Backend) -> Result<()> {
    let connector = &backend.connector;
    check_on(&mut connector.connect(connector.connect_deadline())?, backend)
}

/// As [`check`], for the server on `link`.
pub(super) fn check_on(link: &mut Link, backend: &Backend) -> Result<()> {
    let (connector, layout) = (&backend.connector, &backend.layout);
    let (key, topic) = (layout.nobodys_key(), layout.node_topic("?"));
    let needs = needs(&key, &topic, backend.options.log);
    let mut pipeline = Pipeline::with_capacity(needs.len());
    for (command, ..) in &needs {
        pipeline.add_command(command.clone());
    }
    let replies = link
        .exchange(&pipeline.get_packed_pipeline(), needs.len(), connector.call_deadline())
        .map_err(|error| error::call_failed(&connector.address, error))?;
    for ((_, what, why, instead), reply) in needs.into_iter().zip(replies) {
        let address = &connector.address;
        if error::is_of_cluster(&reply)
            && let Some(error) = error::of_reply(address, &reply)
        {
            return Err(error);
        }
        let passes = error::of_reply(address, &reply).map(|error| error.is_retryable());
        if let (Value::ServerError(error), Some(false)) = (reply, passes) {
            let detail = format!("Redis at {address} refuses {what}, by which {why}: {instead}");
            let error = RedisError::from(error);
            return Err(Error::new(ErrorKind::Config, detail).with_source(error));
        }
    }
    Ok(())
}
