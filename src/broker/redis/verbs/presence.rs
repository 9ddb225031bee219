//! Sessions of nodes: leases, reports, and what becomes of sessions that have ended.
//!
//! Called by a node's presence thread, which holds the session and with it the numbers of its reports.

use std::{collections::HashSet, time::Duration};

use redis::{Pipeline, Value};

use super::{millis, scripts};
use crate::{
    broker::{
        contract::{PresenceChange, Session},
        redis::{backend::Backend, link::reply},
        reports::Kind,
    },
    error::{Error, ErrorKind, Result},
    id::ClientId,
    wire::NodeStatus,
};

/// Changes in one run of the report script, which blocks Redis for as long as it takes.
const REPORT_CHUNK: usize = 128;

/// Connections closed by one run of the reaping script, if they were in few channels.
const REAP_CHUNK: usize = 100;

/// Clients named by one run of the rejoining script.
const REJOIN_CHUNK: usize = 100;

/// Runs of the script for overdue memberships after one report; the rest waits for the next look.
const OVERDUE_RUNS: usize = 16;

/// How long the end of a session stays known: longer than any node may be paused and come back.
const END_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A change as the report script reads it.
struct Tagged<'a> {
    what: &'static str,
    connection: u64,
    opened: Option<&'a crate::wire::Ticket>,
}

impl Tagged<'_> {
    /// What it is, however late it is told.
    fn kind(&self) -> Kind {
        (if self.opened.is_some() { 'o' } else { 'c' }, self.connection)
    }
}

/// Whether a connection was opened by the same call decides how its close is told.
fn tagged(changes: &[PresenceChange]) -> Vec<Tagged<'_>> {
    let mut here = HashSet::new();
    let mut open = |what, connection: &u64, ticket| {
        here.insert(*connection);
        Tagged { what, connection: *connection, opened: Some(ticket) }
    };
    let mut tagged: Vec<_> = changes
        .iter()
        .map(|change| match change {
            PresenceChange::Opened { connection, ticket } => open("o", connection, ticket),
            PresenceChange::Reopened { connection, ticket } => open("a", connection, ticket),
            PresenceChange::Restored { connection, ticket } => open("r", connection, ticket),
            PresenceChange::Closed { connection } => {
                Tagged { what: "c", connection: *connection, opened: None }
            }
            PresenceChange::ClosedLate { connection } => {
                Tagged { what: "C", connection: *connection, opened: None }
            }
        })
        .collect();
    for change in tagged.iter_mut().filter(|change| here.contains(&change.connection)) {
        change.what = match change.what {
            "c" => "x",
            "C" => "X",
            opened => opened,
        };
    }
    tagged
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
        self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::BEGIN).arg(2);
            pipeline.arg(layout.sessions_key()).arg(layout.lease_key(&session.id));
            pipeline.arg(node).arg(&session.id).arg(millis(lease)).arg(END_LIFE.as_secs());
            pipeline.arg(layout.lease_key("")).arg(layout.ended_key("")).arg(i32::from(supersede));
        })?;
        Ok(session)
    }

    pub(crate) fn renew(&self, session: &Session, status: &NodeStatus) -> Result<()> {
        let layout = &self.layout;
        let renewed = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::RENEW).arg(3).arg(layout.sessions_key());
            pipeline.arg(layout.lease_key(&session.id)).arg(layout.ended_key(&session.id));
            pipeline
                .arg(&session.id)
                .arg(millis(session.lease))
                .arg(session.reports.acknowledged());
            pipeline.arg(status.encode());
        })?;
        judge(session, &renewed)
    }

    pub(crate) fn report(&self, session: &mut Session, changes: &[PresenceChange]) -> Result<()> {
        let tagged = tagged(changes);
        let former = session.reports.repeated(tagged.iter().map(Tagged::kind));
        // What is repeated goes alone: with the same numbers, the same chunks.
        let (again, more) = tagged.split_at(former);
        let mut left = false;
        for part in [again, more].into_iter().filter(|part| !part.is_empty()) {
            left |= self.report_part(session, part)?;
        }
        for _ in 0..OVERDUE_RUNS {
            if !left {
                break;
            }
            left = self.leave_overdue()?;
        }
        Ok(())
    }

    /// Reports some changes; whether they have ended more memberships than one run may.
    fn report_part(&self, session: &mut Session, changes: &[Tagged]) -> Result<bool> {
        let chunks: Vec<_> = changes.chunks(REPORT_CHUNK).zip(1..).collect();
        let kinds = changes.iter().map(Tagged::kind).collect();
        let sent = session.reports.send(kinds, chunks.len() as u64);
        let acknowledged = session.reports.acknowledged();
        let replies = self.each(&chunks, |pipeline, (chunk, number)| {
            self.presence_script(pipeline, &scripts::REPORT);
            pipeline.arg(self.layout.online_topic()).arg(self.layout.offline_topic());
            pipeline.arg(&session.id).arg(acknowledged).arg(sent + number);
            for Tagged { what, connection, opened } in *chunk {
                pipeline.arg(*what).arg(*connection);
                match opened {
                    Some(ticket) => {
                        pipeline.arg(ticket.client().to_string()).arg(ticket.text());
                        pipeline.arg(mark(ticket.tag()));
                    }
                    None => {
                        pipeline.arg("").arg("").arg("");
                    }
                };
            }
        })?;
        replies.iter().try_for_each(|reply| judge(session, reply))?;
        session.reports.answered();
        Ok(replies.contains(&Value::Int(2)))
    }

    pub(crate) fn stop_session(&self, session: &Session, how: &str) -> Result<()> {
        let layout = &self.layout;
        self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::END).arg(4).arg(layout.sessions_key());
            pipeline.arg(layout.lease_key(&session.id)).arg(layout.ended_key(&session.id));
            pipeline.arg(layout.connections_key(&session.id));
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
            pipeline.arg(sessions);
        })?;
        Ok(reply::texts(ended))
    }

    pub(crate) fn reap(&self, limit: usize) -> Result<usize> {
        let layout = &self.layout;
        let ended = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::ENDED).arg(1).arg(layout.sessions_key());
            pipeline.arg(layout.ended_key(""));
        })?;
        let mut closed = 0;
        for session in reply::texts(ended) {
            // At least once, for a session without connections.
            loop {
                let chunk = REAP_CHUNK.min(limit - closed);
                let step = self.one(|pipeline| {
                    self.presence_script(pipeline, &scripts::REAP);
                    pipeline.arg(layout.offline_topic()).arg(&session).arg(chunk);
                })?;
                let mut step = reply::items(step).into_iter().map(reply::number);
                closed += step.next().unwrap_or_default().max(0) as usize;
                let more = step.next() == Some(1);
                if !more || closed >= limit {
                    break;
                }
            }
        }
        Ok(closed)
    }

    /// Ends some memberships that are overdue; whether there are more.
    pub(crate) fn leave_overdue(&self) -> Result<bool> {
        let more = self.one(|pipeline| self.presence_script(pipeline, &scripts::OVERDUE))?;
        Ok(reply::number(more) == 1)
    }

    pub(crate) fn rejoin(&self, clients: &[ClientId]) -> Result<usize> {
        let chunk = &clients[..clients.len().min(REJOIN_CHUNK)];
        let done = self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::REJOIN);
            chunk.iter().for_each(|client| {
                pipeline.arg(client.to_string());
            });
        })?;
        Ok(reply::number(done).clamp(0, chunk.len() as i64) as usize)
    }

    /// A script without keys, whose first argument is the prefix of all of them.
    fn presence_script(&self, pipeline: &mut Pipeline, script: &str) {
        pipeline.cmd("EVAL").arg(script).arg(0).arg(self.layout.prefix());
    }
}

/// What stands for a taken ticket in its client's `Coming`; nothing for a tag of 0.
pub(crate) fn mark(tag: u64) -> String {
    if tag == 0 { String::new() } else { format!("~{tag:016x}") }
}

/// What [`scripts::RENEW`] and [`scripts::REPORT`] say of an own session.
fn judge(session: &Session, reply: &Value) -> Result<()> {
    let (kind, what) = match reply {
        Value::Int(1 | 2) => return Ok(()),
        Value::Int(-1) => (ErrorKind::SessionLost, "was ended"),
        _ => (ErrorKind::SessionForgotten, "is not, or not fully, known any more"),
    };
    Err(Error::new(kind, format!("session {} {what}", session.id)))
}
