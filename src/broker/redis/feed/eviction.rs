//! A warning, once per feed: of a Redis that drops keys when its memory is full.

use redis::cmd;

use crate::{
    broker::redis::link::{connection::Link, connector::Connector, error, reply},
    error::Result,
};

/// Asks Redis on `link`. Whoever may not ask is not told.
pub(super) fn warn_of_eviction(link: &mut Link, connector: &Connector) -> Result<()> {
    let mut command = cmd("INFO");
    command.arg("memory");
    let reply = link
        .ask(&command, connector.call_deadline())
        .map_err(|error| error::call_failed(&connector.address, error))?;
    let info = reply::text(reply);
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let policy = field("maxmemory_policy").unwrap_or("noeviction");
    if policy != "noeviction" && field("maxmemory") != Some("0") {
        log::warn!(
            "Redis at {} has maxmemory-policy {policy}: when its memory is full it drops who is online \
             and who is in which channel, and nobody is told; set maxmemory-policy noeviction",
            connector.address
        );
    }
    Ok(())
}
