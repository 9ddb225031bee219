//! What an operator looks at: the nodes, and the connections of one client.
//!
//! Called by helpers only, a few times a second at most. Unlike the other verbs these take several round
//! trips, and read what nodes keep for themselves.

use std::{
    thread,
    time::{Duration, Instant},
};

use redis::{Pipeline, Value};

use super::{lists::bad_cursor, scripts};
use crate::{
    broker::{
        contract::Page,
        redis::{
            backend::Backend,
            link::{error, reply},
        },
    },
    error::Result,
    id::ClientId,
    wire::{NodeStatus, Ticket},
};

/// Connections looked at by one run of the finding script, which takes Redis less than a millisecond.
const FIND_STEP: usize = 500;

/// Bounds the pause after a step: an outage must not be waited for thrice.
const LONGEST_REST: Duration = Duration::from_millis(20);

/// Steps of one page.
const FIND_STEPS: usize = 10;

/// One step of a walk through the connections of a session.
struct Step {
    /// Where the next begins; 0 at the end.
    next: u64,
    found: Vec<(u64, Ticket)>,
}

/// How far a walk through the sessions of a node has come; between two pages as a text.
#[derive(Default)]
struct Place {
    /// Connections found so far.
    found: i64,
    cursor: u64,
    session: String,
}

impl Place {
    fn encode(&self) -> String {
        format!("{}:{}:{}", self.found, self.cursor, self.session)
    }

    fn decode(text: &str) -> Result<Self> {
        let place = || {
            let (found, rest) = text.split_once(':')?;
            let (cursor, session) = rest.split_once(':')?;
            let (found, cursor) = (found.parse().ok()?, cursor.parse().ok()?);
            Some(Place { found, cursor, session: session.into() })
        };
        place().ok_or_else(|| bad_cursor(Some(text)))
    }
}

impl Backend {
    /// Two round trips, however many nodes there are.
    pub(crate) fn statuses(&self) -> Result<Vec<(String, Option<NodeStatus>)>> {
        let sessions = self.sessions()?;
        let mut pipeline = Pipeline::with_capacity(sessions.len());
        for (session, _) in &sessions {
            pipeline.cmd("GET").arg(self.layout.lease_key(session));
        }
        let leases = match sessions.is_empty() {
            true => Vec::new(),
            false => self.read(&pipeline)?,
        };
        let standing = sessions.into_iter().zip(leases).filter(|(_, lease)| *lease != Value::Nil);
        let status = |lease| NodeStatus::decode(&reply::text(lease));
        Ok(standing.map(|((_, node), lease)| (node, status(lease))).collect())
    }

    /// One round trip for a client that is offline; else up to one for each 500 connections of the node,
    /// fewer once as many were found as are open.
    pub(crate) fn connections_of(
        &self,
        client: &ClientId,
        node: &str,
    ) -> Result<Vec<(u64, Ticket)>> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.connections_page(client, node, after.as_deref())?;
            found.extend(page.items);
            after = page.next;
            if after.is_none() {
                // A walk may meet the same connection twice.
                found.sort_by_key(|(number, _)| *number);
                found.dedup();
                return Ok(found);
            }
        }
    }

    /// A few steps of the walk through the connections of a node.
    pub(crate) fn connections_page(
        &self,
        client: &ClientId,
        node: &str,
        after: Option<&str>,
    ) -> Result<Page<(u64, Ticket)>> {
        let mut place = after.map_or(Ok(Place::default()), Place::decode)?;
        let open = reply::number(self.look(|pipeline| {
            pipeline.cmd("HGET").arg(self.layout.online_key()).arg(client.to_string());
        })?);
        let mut page = Page { items: Vec::new(), next: None, total: open.max(0) as u64 };
        if open <= 0 {
            return Ok(page);
        }
        let sessions: Vec<String> = self.sessions_of(node)?;
        let mut steps = 0;
        for session in sessions {
            if session < place.session {
                continue;
            }
            if session != place.session {
                (place.session, place.cursor) = (session, 0);
            }
            loop {
                if steps == FIND_STEPS {
                    page.next = Some(place.encode());
                    return Ok(page);
                }
                steps += 1;
                let step = self.find_step(client, &place.session, place.cursor)?;
                place.found += step.found.len() as i64;
                page.items.extend(step.found);
                if place.found >= open {
                    return Ok(page);
                }
                place.cursor = step.next;
                if place.cursor == 0 {
                    break;
                }
            }
        }
        Ok(page)
    }

    fn find_step(&self, client: &ClientId, session: &str, cursor: u64) -> Result<Step> {
        let mark = format!("{client} ");
        let reply = self.look(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::FIND).arg(1);
            pipeline.arg(self.layout.connections_key(session));
            pipeline.arg(cursor).arg(FIND_STEP).arg(&mark);
        })?;
        let mut texts = reply::texts(reply).into_iter();
        let next = texts.next().and_then(|next| next.parse().ok()).unwrap_or(0);
        let found = reply::pairs(texts).filter_map(|(number, record)| {
            let ticket = record.strip_prefix(&mark).and_then(Ticket::parse);
            number.parse().ok().zip(ticket)
        });
        Ok(Step { next, found: found.collect() })
    }

    /// One command on the one connection for walks. It is kept for twice as long again as Redis took:
    /// however many ask, walks take at most a third of Redis.
    fn look(&self, build: impl FnOnce(&mut Pipeline)) -> Result<Value> {
        let mut pipeline = Pipeline::new();
        build(&mut pipeline);
        let mut walk = self.walks.take(&self.connector)?;
        let began = Instant::now();
        let mut replies = walk.run(&pipeline)?;
        thread::sleep((2 * began.elapsed()).min(LONGEST_REST));
        if let Some(error) =
            replies.iter().find_map(|reply| error::of_reply(&self.connector.address, reply))
        {
            return Err(error);
        }
        replies.pop().ok_or_else(|| error::unexpected(&self.connector.address))
    }

    /// The sessions of one node, in the order of their names.
    fn sessions_of(&self, node: &str) -> Result<Vec<String>> {
        let own = self.sessions()?.into_iter().filter(|(_, owner)| owner == node);
        let mut own: Vec<_> = own.map(|(session, _)| session).collect();
        own.sort_unstable();
        Ok(own)
    }

    /// All sessions, each with its node.
    pub(crate) fn sessions(&self) -> Result<Vec<(String, String)>> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HGETALL").arg(self.layout.sessions_key());
        let listed = self.read(&pipeline)?.pop().unwrap_or(Value::Nil);
        let sessions = reply::pairs(reply::texts(listed).into_iter());
        let node = |value: String| value.split_once(' ').map_or("", |(_, node)| node).to_owned();
        Ok(sessions.map(|(session, value)| (session, node(value))).collect())
    }
}
