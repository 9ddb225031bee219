//! How a session begins: anew, or by going on from one before. Part of the presence thread.
//!
//! A node that starts goes on from the session of a former process that has left clients who can resume; one that was
//! taken for dead goes on from what others had not told yet.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{
    ledger::Ended,
    presence::{Presence, REAP_STEP, State},
};
use crate::{
    broker::{BROUGHT_BACK, FeedStart, Former, FormerConnection, Session},
    error::Result,
    placement::Placement,
    server::{
        connection::place::Hole, identity::ResumeKey, message::Command, node::Heritage,
        stats::calls::Call,
    },
    token::random_u64,
};

impl Presence {
    pub(super) fn begin(&self, state: &mut State) -> Result<()> {
        // Whoever ended the last one may still be at it: no client may be online again before it was offline.
        if state.ended == Some(Ended::Reaped) && self.reap_step()? == REAP_STEP {
            return Ok(());
        }
        let session = match state.begun.take() {
            Some(session) => session,
            None => match self.inherit(state)? {
                Some(session) => session,
                None => {
                    let session = self.begin_anew(state)?;
                    if state.ended == Some(Ended::Reaped) {
                        state.absent = state.absent.max(Some(self.missed_by_absence()));
                    }
                    session
                }
            },
        };
        // What was taken over must not be lost because of what follows.
        let session = state.begun.insert(session);
        // As long as this is not remembered, nobody is let in who could resume.
        if self.node.config.slots > 0 {
            self.key()?;
        }
        let (key, config) = (self.node.origin.resume_key(), &self.node.config);
        // Who cannot resume is waited for by another node alone.
        let grace = if config.slots > 0 { config.grace } else { Duration::ZERO };
        let remember = || self.node.broker.keep_session(session, key, config.keep, grace);
        self.node.pulse.time(Call::Begin, remember)?;
        if state.ended == Some(Ended::Reaped) && config.slots > 0 {
            self.give_way(state)?;
        }
        state.session = state.begun.take();
        self.node.set_session(state.session.as_ref().map(|session| &*session.id));
        self.node.pulse.renewed.touch();
        state.discard |= state.ended == Some(Ended::Forgotten);
        state.ended = None;
        state.renew_at = Instant::now();
        Ok(())
    }

    /// This node was taken for dead: clients of slots that others have taken meanwhile are theirs, or were told offline.
    fn give_way(&self, state: &mut State) -> Result<()> {
        let table = self.node.pulse.time(Call::Begin, || self.node.broker.slot_table())?;
        if let Some(owners) = table.map(Placement::slots) {
            let name = &*self.node.name;
            state.ledger.give_up(|client| owners.owner(client).is_ok_and(|owner| owner != name));
        }
        Ok(())
    }

    /// What clients may have missed while they were taken for gone.
    fn missed_by_absence(&self) -> Hole {
        // Those who did it began an hour's time, which was later than the last renewal.
        match self.node.pulse.renewed.age() {
            Some(age) if age >= BROUGHT_BACK => Hole::Channels,
            _ => Hole::Messages,
        }
    }

    /// What clients prove with which connection is theirs, to any node that they may move to.
    fn key(&self) -> Result<ResumeKey> {
        let own = self.node.origin.resume_key();
        match self.node.config.slots {
            0 => Ok(*own),
            _ => self.node.pulse.time(Call::Begin, || self.node.broker.common_key(own)),
        }
    }

    fn begin_anew(&self, state: &State) -> Result<Session> {
        let supersede = state.former.is_empty();
        let begin = || self.node.broker.begin_session(&self.node.name, self.lease, supersede);
        self.node.pulse.time(Call::Begin, begin)
    }

    /// A session that goes on from one before: from that of a former process, if it has left clients who can resume; from
    /// this process's own, of which others have told only a part.
    fn inherit(&self, state: &mut State) -> Result<Option<Session>> {
        let is_first = self.node.origin.heritage().is_none();
        if !is_first && state.ended != Some(Ended::Reaped) {
            return Ok(None);
        }
        // Of its own, not what another process of this name has taken over while this one was paused.
        let own = if is_first { None } else { state.former.last() };
        let take_over = || self.node.broker.take_over_session(&self.node.name, self.lease, own);
        let former = self.node.pulse.time(Call::Begin, take_over)?;
        if !is_first {
            return Ok(former.map(|Former { session, connections, .. }| {
                state.ledger.retake(connections);
                session
            }));
        }
        let serves_slots = self.node.config.slots > 0;
        // Those of a list may become slots while their connections live.
        let may_move = serves_slots || self.node.config.servers.len() > 1;
        let mut heritage = Heritage {
            key: self.key()?,
            former_key: None,
            first_number: if may_move { scattered(random_u64()?) } else { 0 },
            feed: FeedStart::Now,
        };
        let session = former.map(|Former { session, key, connections, .. }| {
            let last = connections.iter().map(|connection| connection.number).max();
            heritage.feed = FeedStart::Log;
            match serves_slots {
                true => heritage.former_key = Some(key),
                false => heritage.key = key,
            }
            if !may_move {
                heritage.first_number = first_number(last.unwrap_or_default(), SystemTime::now());
            }
            self.park(&connections);
            state.ledger.inherit(connections);
            session
        });
        self.node.origin.found(heritage);
        Ok(session)
    }

    /// Has the reactors wait for those who can come back.
    fn park(&self, connections: &[FormerConnection]) {
        let mut parked = 0;
        for FormerConnection { number, ticket, resumable, from, .. } in connections {
            if *resumable {
                parked += 1;
                let keep = ticket.keep().unwrap_or(self.node.config.keep);
                let client = ticket.client();
                let reactor = &self.reactors.all()[self.reactors.index_of(client)];
                // Fails when the reactor has ended, and the node with it.
                let _ = reactor.push(Command::Park {
                    client: client.clone(),
                    connection: *number,
                    keep,
                    from: *from,
                });
            }
        }
        let (node, clients) = (&*self.node.name, if parked == 1 { "client" } else { "clients" });
        log::info!(node, parked; "node {node} goes on from a former process and waits for {parked} {clients}");
    }
}

/// Where the numbers of connections begin where they move between nodes: two processes hardly ever give the same. Below 2^53,
/// so that scripts reckon with them, with room for all that a process may take.
fn scattered(random: u64) -> u64 {
    (1 << 40) + random % ((1 << 53) - (1 << 42))
}

/// Where the numbers of connections begin when those of a former process go on: behind all that it can have given, also to
/// connections that have ended since. A proof that a client holds of one of these would else be good for a newer one. Below
/// 2^53, so that scripts reckon with them.
fn first_number(last: u64, now: SystemTime) -> u64 {
    /// A process does not take more in a second.
    const PER_SECOND: u64 = 1 << 20;
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    (seconds * PER_SECOND).max(last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_former_process_are_not_given_again() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let first = first_number(12, at(1_800_000_000));
        let next = first_number(first, at(1_800_000_001));
        assert!(first > 12 && next >= first + (1 << 20) && next < 1 << 53);
        assert_eq!(first_number(next, at(0)), next + 1, "a clock that is wrong");
    }
}
