//! How a client goes on from a former connection: what it is given, what it is told, and what becomes of the former one.
//!
//! Part of `Reactor`, called from its turn alone.

use std::sync::Arc;

use super::{Reactor, hub::Key, parked::is_parked};
use crate::{
    id::ClientId,
    server::{
        connection::{
            Connection, Estate, NEVER,
            continuity::Keep,
            hello::{Hello, Pause, Resumption},
            outbox::Tally,
            place::Hole,
        },
        identity,
        message::Claim,
        reasons::{CloseReason, NotResumed},
        stats::counters::add,
        transport::Socket,
    },
    wire::{Position, Ticket},
};

/// Clients that may load their state anew in a second, per node, after something was lost for all of them.
const RESYNCS_PER_SECOND: u64 = 1000;
/// The longest time over which that is spread, in milliseconds.
const LONGEST_SPREAD: u64 = 60_000;
/// Time over which clients that are sent away one by one come back, in milliseconds: what they would draw themselves.
const SPREAD: u64 = 2500;

impl<S: Socket> Reactor<S> {
    /// Takes over what the former connection of a client has left, which is superseded if it is still open; with the key
    /// under which the hub knows it. `None` if it is not known, or not the client's.
    pub(super) fn take_over(&mut self, client: &ClientId, claim: &Claim) -> Option<(Key, Estate)> {
        let number = self.parts.origin.connection_of(client, claim.c.as_deref()?)?;
        let keys = self.hub.connections(client);
        let key = keys.iter().copied().find(|key| self.number_of(*key) == Some(number))?;
        if is_parked(key) {
            return self.take_parked(key).map(|estate| (key, estate));
        }
        // One that is ending and not waited for was kicked, or left for good.
        let connection = self.connections.get_mut(key as usize)?;
        let estate = connection.is_open().then(|| connection.bequeath()).flatten()?;
        self.close(key, CloseReason::Superseded);
        Some((key, estate))
    }

    pub(super) fn number_of(&self, key: Key) -> Option<u64> {
        if is_parked(key) {
            let estate = &self.parking.get(key)?.estate;
            return (!estate.is_place).then_some(estate.number);
        }
        self.connections.get(key as usize).map(|connection| connection.number)
    }

    /// Judges what a client is given of what it missed: all that came after its position, or nothing. What it has, and
    /// what it is not given, is let go of.
    pub(super) fn judge(&mut self, claim: &Claim, estate: &mut Estate) -> Resumption {
        let since = claim.since.as_deref().unwrap_or_default();
        if estate.floor == NEVER {
            estate.floor = self.place.settled();
            return self.refused(NotResumed::Expired);
        }
        match self.place.resume(since, estate.floor) {
            Ok(since) => {
                estate.kept.handled(since, &mut self.written);
                estate.floor = estate.floor.max(since);
                let (written, unwritten) = (estate.kept.written(), estate.kept.unwritten());
                add(&self.parts.counters.resumed, 1);
                add(&self.parts.counters.replayed, written as u64);
                Resumption::Whole(written + unwritten)
            }
            Err(why) => {
                let mut dropped = Tally::default();
                estate.kept.clear(&mut dropped);
                self.settle_dropped(CloseReason::Expired, dropped);
                estate.floor = self.place.settled();
                self.refused(why)
            }
        }
    }

    /// A client came back and is to load its state anew.
    pub(super) fn refused(&self, why: NotResumed) -> Resumption {
        self.parts.counters.not_resumed(why);
        Resumption::Refused(why)
    }

    /// Tells a client that can resume where it is.
    pub(super) fn say_hello(&mut self, key: Key, resumption: Resumption, channels: bool) {
        let spread = match resumption {
            Resumption::Refused(NotResumed::Epoch) => self.resync_spread(),
            _ => 0,
        };
        let resume_key = self.parts.origin.resume_key();
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let (client, keep) = (connection.client(), connection.keep());
        let c = identity::write(resume_key, client, connection.number);
        let hello = Hello { client, c: &c, keep, resumption, channels, spread };
        let hello = hello.frame(&self.place);
        connection.say(hello, self.now);
    }

    /// Milliseconds over which all clients of the node spread what they ask of the business after a common loss.
    fn resync_spread(&self) -> u64 {
        let live = self.parts.live.load(std::sync::atomic::Ordering::Relaxed);
        (live * 1000 / RESYNCS_PER_SECOND).min(LONGEST_SPREAD)
    }

    /// The order of messages goes on from `position`. With a `hole` everybody who can resume is told that something may
    /// be missing.
    pub(super) fn go_on(&mut self, epoch: Arc<str>, position: Position, hole: Option<Hole>) {
        let begins_anew = self.place.epoch != epoch;
        self.place.go_on(epoch, position, hole);
        if hole.is_some() || begins_anew {
            self.gathered_in_vain();
        }
        if hole.is_none() && !begins_anew {
            return;
        }
        // Without a hole the log says where it begins.
        self.forget_missed(hole.is_some());
        let open: Vec<Key> = self.connections.iter().map(|(key, _)| key as Key).collect();
        for key in open {
            let Some(connection) = self.connections.get_mut(key as usize) else { continue };
            if !connection.is_resumable() || !connection.takes_messages() {
                continue;
            }
            let client = connection.client().clone();
            let lost = connection.begin_anew(self.place.settled());
            self.settle_dropped(CloseReason::Expired, lost);
            let resumption = self.refused(NotResumed::Epoch);
            self.say_hello(key, resumption, hole != Some(Hole::Channels));
            self.hub.forgets_rosters(&client, key);
            self.mark_urgent(key);
        }
    }

    /// When a client whose connection is closed for this is to come back; `None` where nothing is said of it.
    pub(super) fn pause(&self, reason: CloseReason) -> Option<Pause> {
        // Not the grace for clients that do not go: the node mostly ends without it.
        let left = || {
            let told = self.drain.as_ref()?.began + self.parts.limits.drain_over;
            Some(told.saturating_duration_since(self.at).as_millis() as u64)
        };
        match reason {
            CloseReason::Moved => Some(Pause { after: 0, spread: 0 }),
            CloseReason::SlowConsumer => Some(Pause { after: 1000, spread: SPREAD }),
            // Nobody is let in before the node is back.
            CloseReason::Stopping | CloseReason::Restarting => Some(Pause {
                after: 1000 + left().unwrap_or(0).min(LONGEST_SPREAD),
                spread: SPREAD,
            }),
            _ => None,
        }
    }

    /// What a connection of a client that can resume is to begin with.
    pub(super) fn opened(&self, stream: S, ticket: Ticket, number: u64) -> Connection<S> {
        let (keep, floor) = (self.keep_of(&ticket), self.place.settled());
        Connection::resumable(stream, ticket, number, (keep, floor), self.now)
    }

    /// How long the client of a ticket is waited for.
    pub(super) fn keep_of(&self, ticket: &Ticket) -> Keep {
        ticket.keep().map_or(self.parts.keep, Keep::new)
    }
}
