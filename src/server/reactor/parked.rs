//! Clients that are away and are waited for: what they may come back to, and what they miss.
//!
//! Part of `Reactor`, called from its turn alone. A parked client stands in the hub like an open connection, under a key of
//! its own kind, so whoever looks for sockets passes it over. It takes messages as references, up to the limit of an
//! outbox, until it comes back (`adopt`) or its time is over.

use std::{rc::Rc, sync::atomic::Ordering};

use slab::Slab;

use super::{
    Reactor,
    hub::{Key, Plan},
};
use crate::{
    broker::PresenceChange,
    id::ClientId,
    server::{
        connection::{
            Context, Estate, NEVER, continuity::Keep, kept::Kept, outbox::Tally,
            prepared::Prepared, receipt::Receipt, ticks::Ticks,
        },
        reasons::CloseReason,
        transport::Socket,
    },
    wire::Position,
};

/// The bit that tells the key of a parked client from that of a connection.
const PARKED: Key = 1 << 31;

#[derive(Debug)]
pub(super) struct Parked {
    pub(super) estate: Estate,
    /// Which of all that were ever parked it is.
    order: u64,
    /// When it is waited for no longer, by the clock of all who are away.
    until: Ticks,
}

/// All parked clients of a reactor.
#[derive(Debug, Default)]
pub(super) struct Parking {
    slots: Slab<Parked>,
    /// How many were ever parked, and how many before the message that is under way.
    parked: u64,
    before: u64,
    /// How far the sweep is.
    swept: usize,
    /// Time in which they could come back: it stands still while the node takes nobody.
    clock: Ticks,
    /// When it was last looked at.
    looked: Ticks,
}

impl Parking {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The key behind all that have ever been taken at the same time.
    pub(super) fn end(&self) -> Key {
        PARKED | self.slots.capacity() as Key
    }

    pub(super) fn first() -> Key {
        PARKED
    }

    fn insert(&mut self, estate: Estate, until: Ticks) -> usize {
        let order = self.parked;
        self.parked += 1;
        self.slots.insert(Parked { estate, order, until })
    }

    /// A message begins to be handed on: who is parked from here on stands in no plan of it.
    pub(super) fn begin(&mut self) {
        self.before = self.parked;
    }

    /// Whether a place has been given to somebody else since the message that is under way began.
    pub(super) fn is_taken_anew(&self, key: Key) -> bool {
        self.get(key).is_some_and(|parked| parked.order >= self.before)
    }

    /// For how long somebody is still waited for.
    pub(super) fn left(&self, key: Key) -> Option<Ticks> {
        self.get(key).map(|parked| parked.until.saturating_sub(self.clock))
    }

    pub(super) fn get(&self, key: Key) -> Option<&Parked> {
        self.slots.get(slot(key)?)
    }

    fn get_mut(&mut self, key: Key) -> Option<&mut Parked> {
        self.slots.get_mut(slot(key)?)
    }

    fn remove(&mut self, key: Key) -> Option<Parked> {
        self.slots.try_remove(slot(key)?)
    }

    /// Messages for those who are away that were never written.
    pub(super) fn unwritten(&self) -> usize {
        self.slots.iter().map(|(_, parked)| parked.estate.kept.unwritten()).sum()
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.slots.iter().map(|(key, _)| PARKED | key as Key).collect()
    }

    /// It is `now`; whether those who are away could come back since it was last looked.
    fn pass(&mut self, now: Ticks, is_open: bool) {
        if is_open {
            self.clock += now - self.looked;
        }
        self.looked = now;
    }

    /// A part of the keys whose time is over.
    fn due(&mut self, parts: usize) -> Vec<Key> {
        let size = self.slots.capacity();
        let to = (self.swept + size.div_ceil(parts)).min(size);
        let is_due =
            |key: &usize| self.slots.get(*key).is_some_and(|parked| self.clock >= parked.until);
        let due = (self.swept..to).filter(is_due).map(|key| PARKED | key as Key).collect();
        self.swept = if to == size { 0 } else { to };
        due
    }
}

/// Whether a key is that of a parked client.
pub(super) fn is_parked(key: Key) -> bool {
    slot(key).is_some()
}

/// Where the parked client of a key stands; `None` of a connection's key.
fn slot(key: Key) -> Option<usize> {
    (key & PARKED != 0).then_some((key & !PARKED) as usize)
}

impl<S: Socket> Reactor<S> {
    /// Waits for the client of a connection that has ended, in its place, from this moment on: not a message may come in
    /// between. Nothing if there is nothing to wait for.
    pub(super) fn park(&mut self, key: Key, reason: CloseReason) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        if !reason.keeps_client() || self.parking.len() >= self.parts.limits.connections {
            return;
        }
        let estate = match connection.is_resumable() {
            true if connection.keep() == Keep::NONE => None,
            true => connection.bequeath(),
            // The process that comes after this one does not know it.
            false if self.drain.is_some() => None,
            false => connection.bequeath_place(self.limits.grace),
        };
        let Some(estate) = estate else { return };
        let (client, number, keep) = (estate.client.clone(), estate.number, estate.keep);
        let parked = self.keep_estate(estate);
        self.hub.replace(&client, key, parked);
        self.moved.push((key, parked));
        self.see_parked(&client, number, keep, reason);
    }

    /// Hands a message on to those who stood in its `plan` with a socket and are away since.
    pub(super) fn follow_moved(&mut self, plan: &Plan, message: &Prepared) {
        for (from, to) in self.moved.clone() {
            if plan.includes(from) {
                self.put_by(to, message, None);
            }
        }
    }

    /// Waits for a client of a former process of this node.
    pub(super) fn park_former(&mut self, client: ClientId, connection: u64, keep: Keep, from: u64) {
        let floor = self.place.newest().max(Position { number: from, sub: 0 });
        let kept = Kept::default();
        let number = connection;
        let estate = Estate { client: client.clone(), number, keep, floor, kept, is_place: false };
        let key = self.keep_estate(estate);
        if self.hub.insert(client.clone(), key) {
            self.parts.watchlist.watch(client);
        }
    }

    pub(super) fn keep_estate(&mut self, mut estate: Estate) -> Key {
        self.pass_for_parked();
        let until = self.parking.clock + estate.keep.ticks();
        let dropped = estate.bound(self.limits.outbox_bytes);
        self.parts.pulse.away.add(estate.number);
        let key = PARKED | self.parking.insert(estate, until) as Key;
        self.settle_dropped(CloseReason::Expired, dropped);
        self.count_parked();
        key
    }

    /// A message for a client that is away.
    pub(super) fn put_by(&mut self, key: Key, message: &Prepared, receipt: Option<Rc<Receipt>>) {
        let (limits, place, tally, runs) =
            (&self.limits, &mut self.place, &mut self.written, &mut self.runs);
        let mut cx = Context { now: self.now, limits, place, tally, runs };
        let Some(parked) = self.parking.get_mut(key) else { return };
        if parked.estate.is_place || parked.estate.has(message) {
            // It had it on the socket that it has lost since, or is not given what it misses.
            return;
        }
        self.offered += 1;
        let before = self.followers.is_some().then(|| parked.estate.unwritten_messages());
        let who = before.as_ref().map(|_| (parked.estate.client.clone(), parked.estate.number));
        let dropped = parked.estate.add(message, receipt, &mut cx);
        if let Some((client, number)) = who {
            let (after, reason) = (self.unwritten_of(key), CloseReason::Expired);
            self.see_dropped((&client, number), before, after, reason);
        }
        self.settle_dropped(CloseReason::Expired, dropped);
    }

    /// The oldest place that is kept for a client of the original's kind.
    pub(super) fn take_place(&mut self, client: &ClientId) -> Option<(Key, Estate)> {
        if self.limits.grace == Keep::NONE {
            return None;
        }
        let number = |key: Key| {
            let estate = &self.parking.get(key)?.estate;
            estate.is_place.then_some((estate.number, key))
        };
        let keys = self.hub.connections(client).iter();
        let (_, key) = keys.filter_map(|key| number(*key)).min()?;
        self.take_parked(key).map(|estate| (key, estate))
    }

    /// Takes a parked client out, which has come back and stays in the hub.
    pub(super) fn take_parked(&mut self, key: Key) -> Option<Estate> {
        let parked = self.parking.remove(key)?;
        self.parts.pulse.away.remove(parked.estate.number);
        self.count_parked();
        Some(parked.estate)
    }

    /// Waits for a parked client no longer.
    pub(super) fn end_parked(&mut self, key: Key, reason: CloseReason) {
        let unwritten = self.unwritten_of(key);
        let Some(estate) = self.take_parked(key) else { return };
        let (client, number) = (estate.client.clone(), estate.number);
        self.see_dropped((&client, number), unwritten, None, reason);
        self.see_closed(&client, number, reason);
        self.report(PresenceChange::Closed { connection: number, reason: reason.label() });
        if self.hub.remove(&client, key) {
            self.parts.watchlist.unwatch(client.clone());
        }
        self.settle_dropped(reason, estate.into_unwritten());
        let reason = reason.label();
        log::debug!(
            connection = number, client:% = client, reason;
            "connection={number} client={client} is waited for no longer: {reason}"
        );
    }

    /// Waits for a parked client no longer, as the node stops: one that can resume stays reported.
    pub(super) fn leave_parked(&mut self, key: Key, reason: CloseReason) {
        if self.parking.get(key).is_some_and(|parked| parked.estate.is_place) {
            return self.end_parked(key, reason);
        }
        if let Some(estate) = self.take_parked(key) {
            self.settle_left(CloseReason::Expired, estate.into_unwritten());
        }
    }

    /// Ends those whose time is over, in one of so many parts of a sweep.
    pub(super) fn expire_parked(&mut self, parts: u32) {
        self.pass_for_parked();
        for key in self.parking.due(parts as usize) {
            self.end_parked(key, CloseReason::Expired);
        }
    }

    /// A node that waits for its broker sends everybody away: that is held against nobody.
    fn pass_for_parked(&mut self) {
        self.parking.pass(self.now, self.parts.pulse.readiness.is_ready());
    }

    /// Of everybody who is away, only what comes from here on is kept, or from where its own floor is unless `something` may
    /// be missing.
    pub(super) fn forget_missed(&mut self, something: bool) {
        let floor = self.place.settled();
        let mut dropped = Tally::default();
        for (_, parked) in &mut self.parking.slots {
            let estate = &mut parked.estate;
            estate.kept.clear(&mut dropped);
            let stays = estate.floor == NEVER || !something && estate.floor > floor;
            estate.floor = if stays { estate.floor } else { floor };
        }
        self.settle_dropped(CloseReason::Expired, dropped);
    }

    fn count_parked(&self) {
        self.parts.counters.parked.store(self.parking.len() as u64, Ordering::Relaxed);
    }
}
