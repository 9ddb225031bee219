//! What a feed asks Redis about Redis: whether it has lost data, whether the count of messages began anew, and
//! whether it drops keys when its memory is full.
//!
//! Third part of `RedisFeed`. Works on the data connection.

use std::sync::atomic::Ordering;

use redis::{Cmd, RedisResult, Value, cmd};

use super::RedisFeed;
use crate::{
    broker::{
        contract::FeedEvent,
        redis::link::{connection::Link, connector::Connector, error, reply},
    },
    error::Result,
};

impl RedisFeed {
    /// Warns of a Redis that drops keys when its memory is full: presence and rooms would vanish without a
    /// word. Whoever may not ask is not told.
    pub(super) fn doubt_policy(&self, data: &mut Link) -> Result<()> {
        let connector = &self.backend.connector;
        let mut command = cmd("INFO");
        command.arg("memory");
        let reply = ask(data, connector, &command)
            .map_err(|error| error::call_failed(&connector.address, error))?;
        let info = reply::text(reply);
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let policy = field("maxmemory_policy").unwrap_or("noeviction");
        if policy != "noeviction" && field("maxmemory") != Some("0") {
            log::warn!(
                "Redis at {} has maxmemory-policy {policy}: when its memory is full it drops who is online \
                 and who is in which room, and nobody is told; set maxmemory-policy noeviction",
                connector.address
            );
        }
        Ok(())
    }

    /// Leaves a mark beside the count of messages, under what cannot be the name of a node. True if there was
    /// none: the count has begun anew.
    pub(super) fn mark_count(&self, data: &mut Link) -> Result<bool> {
        let mark = format!("{} begun", self.node);
        let key = self.backend.layout.published_key();
        let connector = &self.backend.connector;
        let mut command = cmd("HSETNX");
        command.arg(key).arg(mark).arg(1);
        let reply = ask(data, connector, &command)
            .map_err(|error| error::call_failed(&connector.address, error))?;
        // An error, out of memory or read-only, must not deafen the node: it is no 1 either.
        Ok(reply::number(reply) == 1)
    }

    /// Asks whether Redis still knows what this process reported; if not, it has lost memberships too,
    /// and that is told before any is read again.
    pub(super) fn check_memory(&mut self, data: &mut Link) -> Result<()> {
        let sessions: Vec<_> = self.backend.reports().clone().into_iter().collect();
        let mut pipeline = redis::pipe();
        for (session, _) in &sessions {
            pipeline.cmd("EXISTS").arg(self.backend.layout.ended_key(session));
            pipeline.cmd("HGET").arg(self.backend.layout.sessions_key()).arg(session);
        }
        if sessions.is_empty() {
            self.tell_forgotten(false);
            return Ok(());
        }
        let connector = &self.backend.connector;
        let packed = pipeline.get_packed_pipeline();
        let replies = data
            .exchange(&packed, pipeline.len(), connector.call_deadline())
            .map_err(|error| error::call_failed(&connector.address, error))?;
        let mut replies = replies.into_iter();
        let mut lost = false;
        for (_, known) in sessions {
            let ended = reply::number(replies.next().unwrap_or(Value::Nil)) == 1;
            let value = reply::text(replies.next().unwrap_or(Value::Nil));
            let last = value.split_once(' ').and_then(|(last, _)| last.parse::<u64>().ok());
            lost |= !ended && last.is_none_or(|last| last < known.acknowledged);
        }
        self.tell_forgotten(lost);
        Ok(())
    }

    /// Tells once of each loss, whoever found it.
    pub(super) fn tell_forgotten(&mut self, found: bool) {
        let forgotten = self.backend.forgotten.load(Ordering::Acquire);
        if found || forgotten != self.forgotten {
            self.forgotten = forgotten;
            self.ready.push_back(FeedEvent::Forgotten);
        }
    }
}

/// One command and its reply.
pub(super) fn ask(data: &mut Link, connector: &Connector, command: &Cmd) -> RedisResult<Value> {
    let packed = command.get_packed_command();
    let mut replies = data.exchange(&packed, 1, connector.call_deadline())?;
    Ok(replies.pop().unwrap_or(Value::Nil))
}
