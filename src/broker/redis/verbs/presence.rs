//! Sessions of nodes: leases, and what becomes of sessions that have ended. What is reported in one is in `report`.
//!
//! Called by a node's presence thread.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use redis::{Pipeline, Value};

use super::{millis, report::check_known, scripts};
use crate::{
    broker::{
        contract::{Former, FormerConnection, Session},
        redis::{backend::Backend, link::reply},
    },
    error::Result,
    id::ClientId,
    wire::{NodeStatus, Ticket},
};

/// Connections closed by one run of the reaping script, if they were in few channels.
const REAP_CHUNK: usize = 100;

/// Runs of it in one call: among many connections that are held it may find few that are not.
const REAP_STEPS: usize = 50;

/// Clients named by one run of the rejoining script.
const REJOIN_CHUNK: usize = 100;

/// How long the end of a session stays known: longer than any node may be paused and come back.
const END_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long it stays known how to resume the connections of a session that nobody renews: longer than any is held.
const RESUME_LIFE: Duration = Duration::from_secs(48 * 3600);

/// Connections looked at in one step of a walk through them.
const WALK_STEP: usize = 1000;

/// The key in what is remembered of how a session can be resumed: 32 hex digits, a blank, seconds, and perhaps a blank and the
/// seconds for all others.
pub(super) fn read_key(text: &str) -> Option<[u8; 16]> {
    let (digits, _) = text.split_once(' ')?;
    let key = u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(key.to_be_bytes())
}

impl Backend {
    pub(crate) fn begin_session(
        &self,
        node: &str,
        lease: Duration,
        supersede: bool,
    ) -> Result<Session> {
        let session = Session::new(node, lease)?;
        let layout = &self.layout;
        // Nodes begin anew where Redis has lost their session, and with it the mark.
        self.connector.mark_again()?;
        self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::BEGIN).arg(2);
            pipeline.arg(layout.sessions_key()).arg(layout.lease_key(&session.id));
            pipeline.arg(node).arg(&session.id).arg(millis(lease)).arg(END_LIFE.as_secs());
            pipeline.arg(layout.lease_key("")).arg(layout.ended_key("")).arg(i32::from(supersede));
        })?;
        Ok(session)
    }

    /// What is left of the node's former session goes on under a new name; see the script.
    pub(crate) fn take_over_session(
        &self,
        node: &str,
        lease: Duration,
        own: Option<&Session>,
    ) -> Result<Option<Former>> {
        // An answer that is lost must not cost what was taken over.
        let session = match own {
            Some(own) => own.successor(node, lease)?,
            None => Session::new(node, lease)?,
        };
        let resume = self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::ADOPT);
            pipeline.arg(node).arg(&session.id).arg(millis(lease)).arg(END_LIFE.as_secs());
            pipeline.arg(own.map_or("", |own| &own.id));
        })?;
        let Some(key) = read_key(&reply::text(resume)) else { return Ok(None) };
        let connections = self.connections_of_session(&session.id)?;
        Ok(Some(Former { session, key, connections }))
    }

    /// What a session has, in steps.
    pub(crate) fn connections_of_session(&self, session: &str) -> Result<Vec<FormerConnection>> {
        let (resumable, moved) = (self.resumable(session)?, self.moved(session)?);
        let (mut connections, mut cursor) = (Vec::new(), 0);
        loop {
            let step = self.one(|pipeline| {
                pipeline.cmd("HSCAN").arg(self.layout.connections_key(session));
                pipeline.arg(cursor).arg("COUNT").arg(WALK_STEP);
            })?;
            let mut step = reply::items(step).into_iter();
            cursor = step.next().map_or(0, reply::number);
            let found = reply::pairs(reply::texts(step.next().unwrap_or(Value::Nil)).into_iter());
            connections.extend(found.filter_map(|(number, record)| {
                let (_, text) = record.split_once(' ')?;
                let (ticket, resumable) = (Ticket::parse(text)?, resumable.contains(&number));
                let from = moved.get(&number).copied().unwrap_or_default();
                Some(FormerConnection { number: number.parse().ok()?, ticket, resumable, from })
            }));
            if cursor == 0 {
                break;
            }
        }
        // A walk may show a field twice.
        connections.sort_by_key(|connection| connection.number);
        connections.dedup_by_key(|connection| connection.number);
        Ok(connections)
    }

    /// Connections of a session that came from other nodes, and from where on the log of its own has all that is for their
    /// clients.
    fn moved(&self, session: &str) -> Result<HashMap<String, u64>> {
        let moved = self.one(|pipeline| {
            pipeline.cmd("HGETALL").arg(self.layout.moved_key(session));
        })?;
        let moved = reply::pairs(reply::texts(moved).into_iter());
        Ok(moved.filter_map(|(number, from)| Some((number, from.parse().ok()?))).collect())
    }

    /// Numbers of the connections of a session that can be resumed, in steps.
    fn resumable(&self, session: &str) -> Result<HashSet<String>> {
        let mut all = HashSet::new();
        loop {
            let (from, to) = (all.len(), all.len() + WALK_STEP - 1);
            let step = self.one(|pipeline| {
                pipeline.cmd("ZRANGE").arg(self.layout.resumable_key(session));
                pipeline.arg(from).arg(to);
            })?;
            all.extend(reply::texts(step));
            if all.len() <= to {
                return Ok(all);
            }
        }
    }

    pub(crate) fn keep_session(
        &self,
        session: &Session,
        key: &[u8; 16],
        keep: Duration,
        grace: Duration,
    ) -> Result<()> {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let [keep, grace] = [keep, grace].map(|time| time.as_millis().div_ceil(1000));
        let mut said = format!("{key} {keep}");
        if grace > 0 {
            said += &format!(" {grace}");
        }
        self.one(|pipeline| {
            pipeline.cmd("SET").arg(self.layout.resume_key(&session.id));
            pipeline.arg(said).arg("EX").arg(RESUME_LIFE.as_secs());
        })?;
        Ok(())
    }

    pub(crate) fn renew(&self, session: &Session, status: &NodeStatus) -> Result<()> {
        let layout = &self.layout;
        let renewed = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::RENEW).arg(5).arg(layout.sessions_key());
            pipeline.arg(layout.lease_key(&session.id)).arg(layout.ended_key(&session.id));
            pipeline.arg(layout.resumable_key(&session.id)).arg(layout.resume_key(&session.id));
            pipeline
                .arg(&session.id)
                .arg(millis(session.lease))
                .arg(session.reports.acknowledged());
            pipeline.arg(status.encode());
        })?;
        check_known(session, &renewed)
    }

    pub(crate) fn stop_session(&self, session: &Session, how: &str) -> Result<()> {
        let layout = &self.layout;
        self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::END).arg(5).arg(layout.sessions_key());
            pipeline.arg(layout.lease_key(&session.id)).arg(layout.ended_key(&session.id));
            pipeline.arg(layout.connections_key(&session.id)).arg(layout.resume_key(&session.id));
            pipeline.arg(&session.id).arg(END_LIFE.as_secs()).arg(how);
        })?;
        Ok(())
    }

    pub(crate) fn lapsed(&self) -> Result<Vec<String>> {
        let layout = &self.layout;
        let lapsed = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::LAPSED).arg(1).arg(layout.sessions_key());
            pipeline.arg(layout.lease_key("")).arg(layout.ended_key(""));
        })?;
        Ok(reply::texts(lapsed))
    }

    pub(crate) fn end_lapsed(&self, sessions: &[String]) -> Result<Vec<String>> {
        let layout = &self.layout;
        let ended = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::END_LAPSED).arg(1).arg(layout.sessions_key());
            pipeline.arg(layout.lease_key("")).arg(layout.ended_key("")).arg(END_LIFE.as_secs());
            pipeline.arg(layout.prefix()).arg(self.options.events).arg(sessions);
        })?;
        Ok(reply::texts(ended))
    }

    pub(crate) fn reap(&self, limit: usize) -> Result<usize> {
        let closed = self.reap_ended(limit)?;
        self.tell_untold()?;
        Ok(closed)
    }

    fn reap_ended(&self, limit: usize) -> Result<usize> {
        let script = self.eventful(&scripts::REAP)?;
        let layout = &self.layout;
        let ended = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::ENDED).arg(1).arg(layout.sessions_key());
            pipeline.arg(layout.ended_key(""));
        })?;
        let (mut closed, mut steps) = (0, 0);
        for session in reply::texts(ended) {
            // At least once, for a session without connections.
            loop {
                let chunk = REAP_CHUNK.min(limit - closed);
                let step = self.one(|pipeline| {
                    self.presence_script(pipeline, script);
                    pipeline.arg(layout.offline_topic()).arg(&session).arg(chunk);
                    pipeline.arg(self.options.events);
                })?;
                let mut step = reply::items(step).into_iter().map(reply::number);
                closed += step.next().unwrap_or_default().max(0) as usize;
                let more = step.next() == Some(1);
                steps += 1;
                if !more || closed >= limit || steps >= REAP_STEPS {
                    break;
                }
            }
        }
        Ok(closed)
    }

    /// Ends some memberships that are overdue; whether there are more.
    pub(crate) fn leave_overdue(&self) -> Result<bool> {
        let script = self.eventful(&scripts::OVERDUE)?;
        let more = self.one(|pipeline| {
            self.presence_script(pipeline, script);
            pipeline.arg(self.options.events);
        })?;
        // Whatever a process has left untold that is no more is told by this.
        self.tell_untold()?;
        Ok(reply::number(more) == 1)
    }

    pub(crate) fn rejoin(&self, clients: &[ClientId]) -> Result<usize> {
        let chunk = &clients[..clients.len().min(REJOIN_CHUNK)];
        let script = self.eventful(&scripts::REJOIN)?;
        let done = self.one(|pipeline| {
            self.presence_script(pipeline, script);
            pipeline.arg(self.options.events);
            chunk.iter().for_each(|client| {
                pipeline.arg(client.to_string());
            });
        })?;
        self.tell_untold()?;
        Ok(reply::number(done).clamp(0, chunk.len() as i64) as usize)
    }

    /// A script without keys, whose first argument is the prefix of all of them.
    pub(super) fn presence_script(&self, pipeline: &mut Pipeline, script: &str) {
        pipeline.cmd("EVAL").arg(script).arg(0).arg(self.layout.prefix());
    }
}
