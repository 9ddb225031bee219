//! How clients of a dead node pass to the one that has taken their slots. Part of the presence thread, which alone reports in
//! a session.
//!
//! What the dead session still holds of such slots goes to this node's session, as it is. What those clients may have missed
//! is read from the dead node's log, up to where the order of messages says that the slot is this node's; reactors gather
//! what comes behind that. So they are waited for here as their own node would have waited for them. What was not heard, or
//! could not be read, is not proven: such clients keep their place, and are told that something may be missing.
//!
//! Looks at what sessions have left, not at what was said of it: what was missed is found later.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    estates::{Estates, Left},
    feed::inquiry,
    presence::{Presence, State},
};
use crate::{
    broker::{Abandoned, Past},
    error::Result,
    server::{message::Command, stats::calls::Call},
    slots,
    wire::Envelope,
};

/// From the first slot that is taken to the look for who was in it: a dead node's slots are taken one behind the other.
const SOON: Duration = Duration::from_millis(100);
/// How long the feed may take to say what the table of slots does.
const UNHEARD: Duration = Duration::from_secs(3);
/// Connections that are taken in one step.
const CHUNK: usize = 200;

/// What dead nodes have left.
#[derive(Default)]
pub(super) struct Failover {
    /// Where in the order of messages slots became this node's, as far as the feed has said, and from which dead node.
    heard: HashMap<usize, (u64, Option<Arc<str>>)>,
    /// Those of them that are taken from the dead and not looked through, by the version of the table.
    taken: HashMap<usize, u64>,
    look_at: Option<Instant>,
    seen: HashMap<String, Seen>,
    inheritance: Option<Inheritance>,
}

/// A session that was abandoned.
struct Seen {
    since: Instant,
    /// The version of the table when it was last looked through for what nobody has said.
    looked: Option<u64>,
}

/// What is being taken from one session.
struct Inheritance {
    session: String,
    node: String,
    left: Vec<Left>,
    /// From here on they are still to be taken.
    next: usize,
    taken: HashSet<u64>,
    reading: Option<Reading>,
}

struct Reading {
    estates: Estates,
    past: Option<Box<dyn Past>>,
}

impl Failover {
    /// When there is something to do.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if self.inheritance.is_some() { Some(now) } else { self.look_at }
    }

    /// A reactor says that the feed gives this node a slot.
    pub(super) fn heard(
        &mut self,
        slot: usize,
        version: u64,
        at: u64,
        from: Option<Arc<str>>,
        now: Instant,
    ) {
        let is_dead = from.is_some();
        let before = self.heard.insert(slot, (at, from));
        let is_news = before.is_none_or(|(before, _)| before != at);
        if is_news && is_dead {
            self.taken.insert(slot, version);
            self.look_at = self.look_at.or(Some(now + SOON));
        }
    }

    /// Where a slot became this node's, if it came from `node` alone: what another had in between is in its log, not in that
    /// of `node`. `former`: who has still to hand it over.
    fn came(&self, slot: usize, node: &str, former: Option<&str>) -> Option<u64> {
        let (at, from) = self.heard.get(&slot)?;
        (from.as_deref().or(former) == Some(node)).then_some(*at)
    }

    /// Looks what is there.
    pub(super) fn look(&mut self, now: Instant) {
        self.look_at.get_or_insert(now);
    }
}

impl Presence {
    /// Does the next step of what there is to do.
    pub(super) fn fail_over(&self, state: &mut State, now: Instant) -> Result<()> {
        match &state.failover.inheritance {
            Some(Inheritance { reading: Some(_), .. }) => self.read_on(state),
            Some(inheritance) if inheritance.next < inheritance.left.len() => self.take_some(state),
            Some(_) => self.open_past(state),
            None if state.failover.look_at.is_some_and(|at| now >= at) => {
                self.look_for_abandoned(state, now)
            }
            None => Ok(()),
        }
    }

    fn look_for_abandoned(&self, state: &mut State, now: Instant) -> Result<()> {
        let abandoned = self.node.pulse.time(Call::Reap, || self.node.broker.abandoned())?;
        let failover = &mut state.failover;
        failover.seen.retain(|session, _| abandoned.iter().any(|left| left.session == *session));
        let version = self.node.placement().version();
        for abandoned in abandoned {
            let new = || Seen { since: now, looked: None };
            let seen = failover.seen.entry(abandoned.session.clone()).or_insert_with(new);
            let is_late = now.duration_since(seen.since) >= UNHEARD && seen.looked != version;
            if failover.taken.is_empty() && !is_late {
                continue;
            }
            if is_late {
                seen.looked = version;
            }
            if let Some(inheritance) = self.whose(failover, &abandoned, is_late)? {
                failover.inheritance = Some(inheritance);
                failover.look_at = Some(now);
                return Ok(());
            }
        }
        failover.look_at = None;
        for (slot, version) in failover.taken.drain() {
            for reactor in self.reactors.all() {
                // Fails when the reactor has ended, and the node with it.
                let _ = reactor.push(Command::Arrived { slot, version });
            }
        }
        Ok(())
    }

    /// Those of an abandoned session who are in slots of this node; `None` if nobody is.
    fn whose(
        &self,
        failover: &Failover,
        abandoned: &Abandoned,
        is_late: bool,
    ) -> Result<Option<Inheritance>> {
        let Abandoned { session, node, away, keep, grace } = abandoned;
        let read = || self.node.broker.abandoned_connections(session);
        let connections = self.node.pulse.time(Call::Reap, read)?;
        let (placement, name) = (self.node.placement(), &*self.node.name);
        let left = connections.into_iter().filter_map(|connection| {
            let slot = slots::slot(connection.ticket.client(), self.node.config.slots);
            let is_owner = placement.slot_owner(slot) == Some(name);
            let at = failover.came(slot, node, placement.former_owner(slot));
            let is_own =
                failover.taken.contains_key(&slot) || is_owner && (is_late || at.is_some());
            let whole = match connection.resumable {
                true => connection.ticket.keep().unwrap_or(*keep),
                false => *grace,
            };
            let left = whole.checked_sub(*away).filter(|left| is_own && !left.is_zero())?;
            Some(Left { connection, slot, left, at })
        });
        let left: Vec<_> = left.collect();
        let (session, node) = (session.clone(), node.clone());
        let (next, taken, reading) = (0, HashSet::new(), None);
        let inheritance = Inheritance { session, node, left, next, taken, reading };
        Ok((!inheritance.left.is_empty()).then_some(inheritance))
    }

    fn take_some(&self, state: &mut State) -> Result<()> {
        let (Some(session), Some(inheritance)) = (&state.session, &mut state.failover.inheritance)
        else {
            return Ok(());
        };
        let Inheritance { session: abandoned, left, next, taken, .. } = inheritance;
        let chunk = &left[*next..left.len().min(*next + CHUNK)];
        let numbers: Vec<_> = chunk.iter().map(|left| left.connection.number).collect();
        let from = chunk.iter().map(|left| left.at.unwrap_or(u64::MAX)).max().unwrap_or(u64::MAX);
        let take = || self.node.broker.take_abandoned(session, abandoned, from, &numbers);
        taken.extend(self.node.pulse.time(Call::Reap, take)?);
        *next += numbers.len();
        Ok(())
    }

    fn open_past(&self, state: &mut State) -> Result<()> {
        let Some(inheritance) = &mut state.failover.inheritance else { return Ok(()) };
        let Inheritance { node, left, taken, reading, .. } = inheritance;
        let (broker, pulse) = (&self.node.broker, &self.node.pulse);
        left.retain(|left| taken.contains(&left.connection.number));
        let clients: Vec<_> =
            left.iter().map(|left| left.connection.ticket.client().clone()).collect();
        let channels = pulse.time(Call::Reap, || broker.channels_of(&clients))?;
        let is_whole = |left: &Left| left.at.is_some() && left.connection.resumable;
        let open = || Ok((broker.settled(node)?, broker.past(node)?));
        let (settled, past) = match left.iter().any(is_whole) {
            true => pulse.time(Call::Reap, open).unwrap_or_else(|error| {
                unread(&error);
                (HashSet::new(), None)
            }),
            false => (HashSet::new(), None),
        };
        let limit = self.node.config.limits.outbox_bytes;
        let estates = Estates::new(std::mem::take(left), channels, settled, limit);
        *reading = Some(Reading { estates, past });
        Ok(())
    }

    /// Reads a page of the log; when that was all, reactors are told of all who are waited for.
    fn read_on(&self, state: &mut State) -> Result<()> {
        let Some(inheritance) = &mut state.failover.inheritance else { return Ok(()) };
        let Some(Reading { estates, past }) = &mut inheritance.reading else { return Ok(()) };
        let inquire = |message: &Envelope, number: u64| match message {
            Envelope::Direct { sender, content, receipt, id, acknowledge, .. } => {
                let (config, id) = (&self.node.config, id.as_deref());
                inquiry(config, sender, content, *receipt, id, *acknowledge, Some(number))
            }
            _ => None,
        };
        let mut is_whole = false;
        if let Some(reading) = past {
            match self.node.pulse.time(Call::Reap, || reading.next()) {
                Ok(Some(events)) => {
                    if events.into_iter().all(|event| estates.read(event, &inquire)) {
                        return Ok(());
                    }
                }
                Ok(None) => is_whole = true,
                Err(error) => unread(&error),
            }
        }
        let Some(Inheritance { node: dead, reading: Some(Reading { estates, .. }), .. }) =
            state.failover.inheritance.take()
        else {
            return Ok(());
        };
        estates.kicked().for_each(|number| state.ledger.close_late(number));
        let (connections, arrivals) =
            estates.arrivals(is_whole, |client| self.reactors.index_of(client));
        let count = connections.len();
        for connection in connections {
            let text = connection.ticket.into_text();
            state.ledger.arrived(connection.number, text.into(), connection.resumable);
        }
        for ((_, reactor), arrival) in arrivals {
            let _ = self.reactors.all()[reactor].push(Command::Arrive(Box::new(arrival)));
        }
        let (node, dead) = (&*self.node.name, &*dead);
        let clients = if count == 1 { "client" } else { "clients" };
        log::info!(node, count, dead; "node {node} waits for {count} {clients} of node {dead}, which is dead");
        Ok(())
    }
}

/// What clients missed cannot be read.
fn unread(error: &crate::error::Error) {
    log::warn!(reason:% = error; "the log of a dead node cannot be read; its clients load their state anew: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_from_where_it_came_a_slot_is_known_to_its_end() {
        let mut failover = Failover::default();
        let now = Instant::now();
        failover.heard(1, 7, 70, Some("dead".into()), now);
        failover.heard(2, 8, 80, None, now);
        assert_eq!(failover.look_at, Some(now + SOON));
        assert_eq!(failover.came(1, "dead", None), Some(70));
        assert_eq!(failover.came(1, "before", None), None, "another had it in between");
        assert_eq!(failover.came(2, "gives", Some("gives")), Some(80));
        assert_eq!(failover.came(2, "gave", None), None, "it has handed over all it had");
        assert_eq!(failover.came(3, "dead", None), None, "the feed has not said so");
        // Each reactor says so; it is news once.
        assert_eq!(failover.taken.drain().collect::<Vec<_>>(), [(1, 7)]);
        failover.heard(1, 7, 70, Some("dead".into()), now);
        assert!(failover.taken.is_empty());
    }
}
