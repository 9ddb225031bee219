//! Clients of slots that another node owns: what they go on from is handed over, and they are told to go there, at a pace.
//!
//! Part of `Reactor`, called from its turn and where it takes a socket over. A slot that is given away is frozen where the feed
//! says so, in order with the messages: who can resume is written nothing more here, and all that comes behind is at the new
//! owner. Who is to go follows from what the reactor is told last of the table of slots, not from what it was told before: a
//! node that was paused, or did not hear, sends on whoever is not its own, but can prove nothing to them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Reactor, hub::Key};
use crate::{
    id::ClientId,
    server::{
        connection::{Estate, continuity::Keep, outbox::Tally, receipt::Receipt},
        message::{Onward, Original, Report, SlotNews},
        ownership::Ownership,
        parcel::{Account, Freight},
        reasons::CloseReason,
        transport::Socket,
    },
    wire::Position,
};

/// Between two of them while somebody is to go.
const STEP: Duration = Duration::from_millis(50);
/// How long after the table says that a slot is given away the feed may take to say it.
const UNHEARD: Duration = Duration::from_secs(2);
/// How long clients stay whose accounts are not with the new owner yet.
const UNTAKEN: Duration = Duration::from_secs(5);

/// Who is to go, and when.
#[derive(Debug, Default)]
pub(super) struct Departing {
    pub(super) ownership: Option<Arc<Ownership>>,
    /// Slots that others own of which clients are or were here.
    slots: HashMap<usize, Stage>,
    /// Slots of which the feed has said who owns them, sooner than the table has: by which version, and who does.
    heard: HashMap<usize, (u64, Arc<str>)>,
    /// Connections by key and number: a key may be another's by the time it comes to its turn.
    queue: VecDeque<(Key, u64)>,
    /// When the next are due, and since when they are counted.
    pub(super) at: Option<Instant>,
    since: Option<Instant>,
    /// The part of a connection that is due and was not closed yet.
    rest: f64,
}

/// How far a slot is.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The table says that it is given away, the feed has not said where in the order of messages.
    Unheard { until: Instant },
    /// What its clients go on from is on its way to the new owner.
    Handing { until: Instant },
    /// Its clients are told to go.
    Going,
}

impl Departing {
    /// Whether the table says that the client's slot is given away, and the feed has not come that far: what comes is for this
    /// node's clients alone.
    pub(super) fn is_still_here(&self, client: &ClientId) -> bool {
        let slot = self.ownership.as_ref().map(|ownership| ownership.slot(client));
        let stage = slot.and_then(|slot| self.slots.get(&slot));
        matches!(stage, Some(Stage::Unheard { .. }))
    }

    /// Whether another node owns the client, by the table or by what the feed has said since.
    pub(super) fn is_elsewhere(&self, client: &ClientId) -> bool {
        self.ownership.as_ref().is_some_and(|ownership| {
            self.heard.contains_key(&ownership.slot(client)) || ownership.is_elsewhere(client)
        })
    }

    /// Whether the slot is known to have gone from here.
    pub(super) fn has_gone(&self, slot: usize) -> bool {
        self.slots.contains_key(&slot)
    }
}

impl<S: Socket> Reactor<S> {
    /// Goes by a newer table of slots.
    pub(super) fn own(&mut self, ownership: Arc<Ownership>) {
        let until = self.at + UNHEARD;
        let node = ownership.node();
        self.await_taken(&ownership);
        self.departing.slots.retain(|slot, _| ownership.owner(*slot) != Some(node));
        for slot in ownership.leaving() {
            self.departing.slots.entry(slot).or_insert(Stage::Unheard { until });
        }
        self.departing.heard.retain(|_, (version, _)| *version > ownership.version());
        self.departing.ownership = Some(Arc::clone(&ownership));
        let clients = self.connections.iter().map(|(_, connection)| connection.client());
        let away = self.parking.keys();
        let away = away.iter().filter_map(|key| Some(&self.parking.get(*key)?.estate.client));
        let astray = clients.chain(away).filter(|client| ownership.is_elsewhere(client));
        let astray: HashSet<usize> = astray.map(|client| ownership.slot(client)).collect();
        for slot in astray {
            if !self.departing.slots.contains_key(&slot) {
                self.freeze(slot, ownership.version(), None);
            }
        }
        self.queue_up();
        self.expect_no_more();
    }

    /// A slot has another owner from here on in the order of messages.
    pub(super) fn given(
        &mut self,
        slot: usize,
        to: &str,
        version: u64,
        position: Position,
        from: Option<Arc<str>>,
    ) {
        self.place.begin(position);
        self.place.settle();
        let Some(ownership) = self.departing.ownership.clone() else { return };
        let node = ownership.node();
        if to == node {
            self.departing.slots.remove(&slot);
            self.departing.heard.remove(&slot);
            return self.expect(slot, version, position.number, from);
        }
        if version > ownership.version() {
            self.departing.heard.insert(slot, (version, to.into()));
        }
        let owners = [ownership.owner(slot), ownership.former_owner(slot)];
        let stage = self.departing.slots.get(&slot);
        if owners.contains(&Some(node)) && matches!(stage, None | Some(Stage::Unheard { .. })) {
            self.freeze(slot, version, Some(to));
            self.queue_up();
        }
    }

    /// What clients of a slot go on from is handed over, and they get nothing more. `to` is the new owner if this is where it
    /// was given away, so that all before and nothing behind is in it.
    fn freeze(&mut self, slot: usize, version: u64, to: Option<&str>) {
        let Some(ownership) = self.departing.ownership.clone() else { return };
        let Some(owner) = to.or_else(|| ownership.owner(slot)).map(Arc::from) else { return };
        self.departing.slots.insert(slot, Stage::Handing { until: self.at + UNTAKEN });
        self.end_arriving_of(slot);
        let is_its = |client: &ClientId| ownership.slot(client) == slot;
        let open = self.connections.iter().filter(|(_, c)| c.is_open() && is_its(c.client()));
        let open: Vec<_> = open.map(|(key, c)| (key as Key, c.client().clone())).collect();
        let away = self.parking.keys().into_iter();
        let away = away.filter_map(|key| Some((key, self.parking.get(key)?.estate.client.clone())));
        let away: Vec<_> = away.filter(|(_, client)| is_its(client)).collect();
        // They are not gone before it is their turn.
        let turn = (self.departing.queue.len() + open.len()) as f64 / self.departure_rate();
        let turn = Duration::from_secs_f64(turn);
        let (mut accounts, mut receipts) = (Vec::new(), Vec::new());
        for (key, client) in open {
            let channels = self.hub.channels_of(&client);
            let Some(connection) = self.connections.get_mut(key as usize) else { continue };
            let estate = match connection.is_resumable() && connection.keep() != Keep::NONE {
                true => connection.bequeath(),
                false => connection.bequeath_place(self.limits.grace),
            };
            let Some(estate) = estate else { continue };
            if connection.is_mute() && self.hub.remove(&client, key) {
                self.parts.watchlist.unwatch(client);
            }
            let left = Duration::from_secs(estate.keep.seconds()) + turn;
            accounts.push(self.account(estate, left, channels, &mut receipts));
        }
        for (key, client) in away {
            let channels = self.hub.channels_of(&client);
            let left = self.parking.left(key).unwrap_or_default();
            let Some(estate) = self.take_parked(key) else { continue };
            if self.hub.remove(&client, key) {
                self.parts.watchlist.unwatch(client);
            }
            let left = Duration::from_millis(u64::from(left) * 100);
            accounts.push(self.account(estate, left, channels, &mut receipts));
        }
        receipts.iter().for_each(|receipt: &Rc<Receipt>| receipt.is_handed_over());
        self.tell(Report::HandOver(Box::new(Freight {
            slot,
            version,
            to: owner,
            part: self.parts.index,
            parts: self.parts.reactors,
            is_whole: to.is_some(),
            epoch: Arc::clone(&self.place.epoch),
            at: if to.is_some() { self.place.settled().number } else { u64::MAX },
            accounts,
        })));
    }

    /// What is handed over of an estate.
    fn account(
        &mut self,
        estate: Estate,
        left: Duration,
        channels: Vec<String>,
        receipts: &mut Vec<Rc<Receipt>>,
    ) -> Account {
        let Estate { client, number, floor, kept, is_place, .. } = estate;
        let (written, messages) = (kept.written(), kept.unwritten() as u64);
        // The other node counts them anew.
        self.settle_dropped(CloseReason::Moved, Tally { messages, ..Tally::default() });
        let kept = kept.into_chunks().map(|chunk| {
            let inquiry = chunk.receipt.as_ref().and_then(|receipt| receipt.hand_over());
            receipts.extend(chunk.receipt.filter(|_| inquiry.is_some()));
            (chunk.frame, inquiry)
        });
        // What is not known here to be all is not given to it.
        let floor = floor.max(self.place.hole());
        Account { client, number, is_place, left, floor, written, kept: kept.collect(), channels }
    }

    /// What clients of a slot go on from is with the new owner.
    pub(super) fn handed_over(&mut self, slot: usize) {
        if let Some(stage @ Stage::Handing { .. }) = self.departing.slots.get_mut(&slot) {
            *stage = Stage::Going;
            self.queue_up();
        }
    }

    /// Lists whoever is to go now: first those who get nothing here any more.
    fn queue_up(&mut self) {
        let Some(ownership) = &self.departing.ownership else { return };
        let goes = |client: &ClientId| {
            let stage = self.departing.slots.get(&ownership.slot(client));
            matches!(stage, Some(Stage::Going))
        };
        let open = self.connections.iter().filter(|(_, c)| c.is_open() && goes(c.client()));
        let mut queue: Vec<_> = open.map(|(key, c)| (!c.is_mute(), key as Key, c.number)).collect();
        queue.sort_by_key(|(is_last, ..)| *is_last);
        self.departing.queue = queue.into_iter().map(|(_, key, number)| (key, number)).collect();
        self.depart_soon();
        self.tell_departures();
    }

    /// A connection that was taken over just now may be another node's already.
    pub(super) fn look_whose(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key as usize) else { return };
        if self.departing.is_elsewhere(connection.client()) {
            self.departing.queue.push_back((key, connection.number));
            self.depart_soon();
            self.tell_departures();
        }
    }

    /// How many go in a second.
    fn departure_rate(&self) -> f64 {
        self.parts.limits.moves_per_second.max(1) as f64 / self.parts.reactors as f64
    }

    /// Sends as many on as are due.
    pub(super) fn depart(&mut self) {
        self.look_at_stages();
        let rate = self.departure_rate();
        let waited = self.departing.since.map(|since| self.at.saturating_duration_since(since));
        self.departing.since = Some(self.at);
        // Never more than a second's share: a node that was stopped does not make up for it.
        let waited = waited.unwrap_or_default().min(Duration::from_secs(1)).as_secs_f64();
        let mut due = self.departing.rest + waited * rate;
        while due >= 1.0 {
            let Some((key, number)) = self.departing.queue.pop_front() else { break };
            let connection = self.connections.get(key as usize);
            if connection.is_some_and(|c| c.number == number && c.is_open()) {
                self.close(key, CloseReason::Moved);
                due -= 1.0;
            }
        }
        self.departing.rest = due.min(1.0);
        self.departing.at = None;
        self.depart_soon();
        self.tell_departures();
    }

    /// What the feed never said, or the new owner never took, is waited for no longer.
    fn look_at_stages(&mut self) {
        if self.delivery.is_some() {
            return;
        }
        let version = self.departing.ownership.as_ref().map_or(0, |ownership| ownership.version());
        let slots = self.departing.slots.iter().map(|(slot, stage)| (*slot, *stage));
        let mut any = false;
        for (slot, stage) in slots.collect::<Vec<_>>() {
            match stage {
                Stage::Unheard { until } if self.at >= until => self.freeze(slot, version, None),
                Stage::Handing { until } if self.at >= until => {
                    self.departing.slots.insert(slot, Stage::Going);
                }
                _ => continue,
            }
            any = true;
        }
        if any {
            self.queue_up();
        }
    }

    fn depart_soon(&mut self) {
        let waits = |stage: &Stage| !matches!(stage, Stage::Going);
        if self.departing.queue.is_empty() {
            self.departing.since = None;
            if !self.departing.slots.values().any(waits) {
                self.departing.at = None;
                return;
            }
        } else {
            self.departing.since.get_or_insert(self.at);
        }
        self.departing.at.get_or_insert(self.at + STEP);
    }

    /// Says how many are still to go; a slot that is not handed over yet counts for one more.
    fn tell_departures(&self) {
        let Some(ownership) = &self.departing.ownership else { return };
        let mut left = HashMap::new();
        for (slot, stage) in &self.departing.slots {
            if !matches!(stage, Stage::Going) {
                left.insert(*slot, 1);
            }
        }
        for (key, number) in &self.departing.queue {
            let connection = self.connections.get(*key as usize);
            if let Some(connection) = connection.filter(|c| c.number == *number && c.is_open()) {
                *left.entry(ownership.slot(connection.client())).or_default() += 1;
            }
        }
        self.parts.departures.set(self.parts.index, ownership.version(), left);
    }

    /// Hands a message on to the other node that may have connections of a client; whether there is one. `receipt`: it says what
    /// becomes of the message, as nobody is here.
    pub(super) fn hand_on(
        &self,
        receiver: &ClientId,
        origin: Option<&Arc<Original>>,
        receipt: bool,
    ) -> bool {
        let (Some(ownership), Some(origin)) = (&self.departing.ownership, origin) else {
            return false;
        };
        if origin.is_logged && ownership.is_lost(receiver) {
            // Whoever has it has read it in the log, up to where it took the slot.
            return true;
        }
        let heard = self.departing.heard.get(&ownership.slot(receiver)).map(|(_, to)| &**to);
        let Some(node) = heard.or_else(|| ownership.other(receiver)) else { return false };
        let onward = Onward {
            node: node.to_owned(),
            message: Arc::clone(origin),
            receiver: receiver.clone(),
            receipt,
        };
        self.parts
            .onward
            .as_ref()
            .is_some_and(|onwards| onwards.try_send(SlotNews::Onward(onward)).is_ok())
    }
}
