//! What an operator looks at: the nodes, and the connections of one client.
//!
//! Called by helpers only, a few times a second at most. Unlike the other verbs these take several round
//! trips, and read what nodes keep for themselves.

use std::collections::BTreeMap;

use super::{RedisBroker, reply, scripts};
use crate::{
    error::Result,
    id::ClientId,
    wire::{NodeStatus, Ticket},
};

/// Connections looked at by one run of the finding script, which takes Redis less than a millisecond.
const FIND_STEP: usize = 500;

/// One step of a walk through the connections of a session.
struct Step {
    /// Where the next begins; `None` at the end.
    next: Option<String>,
    found: Vec<(u64, Ticket)>,
}

impl RedisBroker {
    /// Two round trips, however many nodes there are.
    pub(super) fn read_statuses(&self) -> Result<Vec<(String, Option<NodeStatus>)>> {
        let sessions = self.sessions()?;
        let leases = self.each(&sessions, |pipeline, (session, _)| {
            pipeline.cmd("GET").arg(self.names().lease_key(session));
        })?;
        let standing =
            sessions.into_iter().zip(leases).filter(|(_, lease)| *lease != redis::Value::Nil);
        let status = |lease| NodeStatus::decode(&reply::text(lease));
        Ok(standing.map(|((_, node), lease)| (node, status(lease))).collect())
    }

    /// One round trip for a client that is offline; else up to one for each 500 connections of the node,
    /// fewer once as many were found as are open.
    pub(super) fn find_connections(
        &self,
        client: ClientId,
        node: &str,
    ) -> Result<Vec<(u64, Ticket)>> {
        let open = reply::number(self.one(|pipeline| {
            pipeline.cmd("HGET").arg(self.names().online_key()).arg(client.to_string());
        })?);
        if open <= 0 {
            return Ok(Vec::new());
        }
        let sessions = self.sessions()?;
        // A walk may meet the same connection twice.
        let mut found = BTreeMap::new();
        'sessions: for (session, _) in sessions.iter().filter(|(_, owner)| owner == node) {
            let mut cursor = Some("0".to_owned());
            while let Some(at) = cursor {
                let step = self.find_step(client, session, &at)?;
                found.extend(
                    step.found.into_iter().map(|(number, ticket)| ((session, number), ticket)),
                );
                if found.len() as i64 >= open {
                    break 'sessions;
                }
                cursor = step.next;
            }
        }
        Ok(found.into_iter().map(|((_, number), ticket)| (number, ticket)).collect())
    }

    fn find_step(&self, client: ClientId, session: &str, cursor: &str) -> Result<Step> {
        let mark = format!("{client} ");
        let reply = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(scripts::FIND).arg(1);
            pipeline.arg(self.names().connections_key(session));
            pipeline.arg(cursor).arg(FIND_STEP).arg(&mark);
        })?;
        let mut texts = reply::texts(reply).into_iter();
        let next = texts.next().filter(|next| next != "0");
        let found = reply::pairs(texts).filter_map(|(number, record)| {
            let ticket = record.strip_prefix(&mark).and_then(Ticket::parse);
            number.parse().ok().zip(ticket)
        });
        Ok(Step { next, found: found.collect() })
    }

    /// All sessions, each with its node.
    fn sessions(&self) -> Result<Vec<(String, String)>> {
        let listed = self.one(|pipeline| {
            pipeline.cmd("HGETALL").arg(self.names().sessions_key());
        })?;
        let sessions = reply::pairs(reply::texts(listed).into_iter());
        let node = |value: String| value.split_once(' ').map_or("", |(_, node)| node).to_owned();
        Ok(sessions.map(|(session, value)| (session, node(value))).collect())
    }
}
