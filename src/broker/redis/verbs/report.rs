//! Reports of a session: which connections opened and closed, each told to Redis as a letter and what goes with it.
//!
//! Called by a node's presence thread, which holds the session and with it the numbers of its reports.

use std::collections::HashSet;

use redis::{Pipeline, Value};

use super::{coming_mark, scripts};
use crate::{
    broker::{
        contract::{PresenceChange, Session},
        redis::{backend::Backend, link::error},
        reports::Kind,
    },
    error::{Error, ErrorKind, Result},
    wire::Ticket,
};

/// Changes in one run of the report script, which blocks Redis for as long as it takes.
const REPORT_CHUNK: usize = 128;

/// Runs of the script for overdue memberships after one report; the rest waits for the next look.
const OVERDUE_RUNS: usize = 16;

/// What a connection did, as the report script is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Opened,
    /// Opened again, after its session was ended: its memberships may be brought back.
    Reopened,
    /// Opened long ago, in a session that Redis has forgotten: nobody is told.
    Restored,
    Closed,
    /// Closed long ago: its client may be connecting again already.
    ClosedLate,
    /// Closed, and opened by the same report: it is remembered for a minute, or repeating the report would open
    /// it again.
    Brief,
    BriefLate,
}

impl What {
    /// A capital for an opened connection that can be resumed.
    fn letter(self, resumable: bool) -> char {
        let letter = match self {
            What::Opened => 'o',
            What::Reopened => 'a',
            What::Restored => 'r',
            What::Closed => return 'c',
            What::ClosedLate => return 'C',
            What::Brief => return 'x',
            What::BriefLate => return 'X',
        };
        if resumable { letter.to_ascii_uppercase() } else { letter }
    }
}

/// A change as the report script is told.
struct Told<'a> {
    what: What,
    connection: u64,
    opened: Option<&'a Ticket>,
    /// Why it closed.
    reason: &'static str,
    resumable: bool,
}

impl Told<'_> {
    /// Its letter, and for how many seconds it is held, if it can be resumed and its ticket says so.
    fn text(&self) -> String {
        let mut text = String::from(self.what.letter(self.resumable));
        if let Some(keep) = self.opened.filter(|_| self.resumable).and_then(Ticket::keep) {
            text.push_str(&keep.as_secs().to_string());
        }
        text
    }

    fn kind(&self) -> Kind {
        (if self.opened.is_some() { 'o' } else { 'c' }, self.connection)
    }
}

impl<'a> From<&'a PresenceChange> for Told<'a> {
    fn from(change: &'a PresenceChange) -> Self {
        let told = |what, connection: &u64, opened, resumable| Told {
            what,
            connection: *connection,
            opened,
            reason: "",
            resumable,
        };
        let closed = |what, connection: &u64, reason| Told {
            what,
            connection: *connection,
            opened: None,
            reason,
            resumable: false,
        };
        match change {
            PresenceChange::Opened { connection, ticket, resumable } => {
                told(What::Opened, connection, Some(ticket), *resumable)
            }
            PresenceChange::Reopened { connection, ticket, resumable } => {
                told(What::Reopened, connection, Some(ticket), *resumable)
            }
            PresenceChange::Restored { connection, ticket, resumable } => {
                told(What::Restored, connection, Some(ticket), *resumable)
            }
            PresenceChange::Closed { connection, reason } => {
                closed(What::Closed, connection, reason)
            }
            PresenceChange::ClosedLate { connection, reason } => {
                closed(What::ClosedLate, connection, reason)
            }
        }
    }
}

/// How these changes are told, if they are reported by one call.
fn told(changes: &[PresenceChange]) -> Vec<Told<'_>> {
    let mut all: Vec<Told> = changes.iter().map(Told::from).collect();
    let opened = all.iter().filter(|told| told.opened.is_some());
    let opened: HashSet<_> = opened.map(|told| told.connection).collect();
    for told in all.iter_mut().filter(|told| opened.contains(&told.connection)) {
        told.what = match told.what {
            What::Closed => What::Brief,
            What::ClosedLate => What::BriefLate,
            what => what,
        };
    }
    all
}

impl Backend {
    pub(crate) fn report(&self, session: &mut Session, changes: &[PresenceChange]) -> Result<()> {
        let told = told(changes);
        let former = session.reports.repeated(told.iter().map(Told::kind));
        // What is repeated goes alone: with the same numbers, the same chunks.
        let (again, more) = told.split_at(former);
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
    fn report_part(&self, session: &mut Session, changes: &[Told]) -> Result<bool> {
        let script = self.eventful(&scripts::REPORT)?;
        let chunks: Vec<_> = changes.chunks(REPORT_CHUNK).zip(1..).collect();
        let kinds = changes.iter().map(Told::kind).collect();
        let sent = session.reports.send(kinds, chunks.len() as u64);
        let acknowledged = session.reports.acknowledged();
        let arguments = |pipeline: &mut Pipeline, (chunk, number): &(&[Told], u64)| {
            pipeline.arg(0).arg(self.layout.prefix());
            pipeline.arg(self.layout.online_topic()).arg(self.layout.offline_topic());
            pipeline.arg(&session.id).arg(acknowledged).arg(sent + number).arg(self.options.events);
            for told in *chunk {
                pipeline.arg(told.text()).arg(told.connection);
                match told.opened {
                    Some(ticket) => {
                        pipeline.arg(ticket.client().to_string()).arg(ticket.text());
                        pipeline.arg(coming_mark(ticket.tag()));
                    }
                    None => {
                        pipeline.arg("").arg(told.reason).arg("");
                    }
                };
            }
        };
        let replies = match &chunks[..] {
            // Most are short: the text of the script would be most of their cost.
            [alone] => vec![self.report_alone(script, |pipeline| arguments(pipeline, alone))?],
            // A script that is lost half-way would leave a gap: not from the cache.
            _ => self.each(&chunks, |pipeline, chunk| {
                arguments(pipeline.cmd("EVAL").arg(script), chunk);
            })?,
        };
        replies.iter().try_for_each(|reply| check_known(session, reply))?;
        self.tell_untold()?;
        session.reports.answered();
        Ok(replies.contains(&Value::Int(2)))
    }

    /// Runs the script once, from the cache.
    fn report_alone(
        &self,
        script: &'static str,
        arguments: impl Fn(&mut Pipeline),
    ) -> Result<Value> {
        let mut in_use = self.calls.take(&self.connector)?;
        let reply = self.cached.run(&mut in_use, script, |[command, script]| {
            let mut pipeline = Pipeline::with_capacity(1);
            arguments(pipeline.cmd(command).arg(script));
            pipeline.get_packed_pipeline()
        })?;
        match error::of_reply(&self.connector.address, &reply) {
            Some(error) => Err(error),
            None => Ok(reply),
        }
    }
}

/// What [`scripts::RENEW`] and [`scripts::REPORT`] say of an own session.
pub(super) fn check_known(session: &Session, reply: &Value) -> Result<()> {
    let (kind, what) = match reply {
        Value::Int(1 | 2) => return Ok(()),
        Value::Int(-1) => (ErrorKind::SessionLost, "was ended"),
        _ => (ErrorKind::SessionForgotten, "is not, or not fully, known any more"),
    };
    Err(Error::new(kind, format!("session {} {what}", session.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_and_closes_within_one_call_is_told_as_brief() {
        let opened = |connection| PresenceChange::Opened {
            connection,
            ticket: Ticket::new(1.into(), None),
            resumable: false,
        };
        let changes = [
            PresenceChange::Closed { connection: 1, reason: "peer" },
            opened(2),
            PresenceChange::ClosedLate { connection: 2, reason: "peer" },
            opened(3),
            PresenceChange::ClosedLate { connection: 4, reason: "peer" },
        ];
        let whats: Vec<_> = told(&changes).iter().map(|told| told.what).collect();
        let expected =
            [What::Closed, What::Opened, What::BriefLate, What::Opened, What::ClosedLate];
        assert_eq!(whats, expected);
    }
}
