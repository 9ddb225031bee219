//! How clients move from one node's session to another's. Part of the presence thread, which alone reports in a session.
//!
//! What reactors hand over of a slot goes to its new owner in one step with the connections: at each moment they are one node's
//! or the other's, and whoever dies leaves only what is its own. The new owner takes what was left for it, and gives it to its
//! reactors.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::presence::{Presence, State};
use crate::{
    broker::HandOver,
    error::Result,
    server::{
        message::{Command, Report},
        parcel::{Account, Arrival, Freight, Parcel},
        stats::calls::Call,
    },
    token::random_u64,
};

/// Between two looks for parcels while some are expected.
const LOOK: Duration = Duration::from_millis(10);
/// How long they are expected.
const LONGEST: Duration = Duration::from_secs(30);
/// Between two attempts at a new owner that does not live.
const AGAIN: Duration = Duration::from_millis(200);
/// How long such a one is waited for: as long as its death may take to be noticed, and the slot to be taken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Parcels of which is remembered that they have been read.
const SEEN: usize = 64;

/// What is on its way from and to this node.
#[derive(Default)]
pub(super) struct Moves {
    /// To others, with when they came from the reactors.
    freights: VecDeque<(Instant, Freight)>,
    /// Whether what was reported before the last of them is still to be told.
    is_barred: bool,
    again_at: Option<Instant>,
    /// Slots that come from others.
    expected: HashMap<usize, Expected>,
    /// The last version that gave each slot, of those that have come.
    arrived: HashMap<usize, u64>,
    look_at: Option<Instant>,
    /// What was read, and may be read again.
    seen: VecDeque<u64>,
}

struct Expected {
    version: u64,
    until: Instant,
    /// Reactors of the former owner that have handed over all they had.
    parts: BTreeSet<usize>,
}

impl Moves {
    /// When there is something to do; `None` if nothing is on its way.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let freight = self.freights.front().map(|_| self.again_at.unwrap_or(now));
        let parcel = (!self.expected.is_empty()).then(|| self.look_at.unwrap_or(now));
        freight.into_iter().chain(parcel).min()
    }

    /// Whether nothing more is to be taken from the reactors for now.
    pub(super) fn is_barred(&self) -> bool {
        self.is_barred
    }

    fn expect(&mut self, slot: usize, version: u64, now: Instant) -> Option<&mut Expected> {
        if self.arrived.get(&slot).is_some_and(|arrived| *arrived >= version) {
            return None;
        }
        let new = || Expected { version, until: now + LONGEST, parts: BTreeSet::new() };
        let expected = self.expected.entry(slot).or_insert_with(new);
        if expected.version < version {
            *expected = new();
        }
        (expected.version == version).then_some(expected)
    }
}

impl State {
    /// Takes note of what a reactor says.
    pub(super) fn take(&mut self, report: Report) {
        let now = Instant::now();
        match report {
            Report::HandOver(freight) => {
                self.moves.freights.push_back((now, *freight));
                self.moves.is_barred = true;
            }
            Report::Expect { slot, version, at, from } => {
                if from.is_none() {
                    self.moves.expect(slot, version, now);
                }
                self.failover.heard(slot, version, at, from, now);
            }
            report => self.ledger.take(report),
        }
    }
}

impl Presence {
    /// Does what is due of both.
    pub(super) fn move_on(&self, state: &mut State) -> Result<()> {
        let now = Instant::now();
        if state.ledger.waiting() == 0 {
            state.moves.is_barred = false;
            if state.moves.again_at.is_none_or(|at| now >= at) {
                state.moves.again_at = None;
                self.hand_over(state, now)?;
            }
        }
        self.fail_over(state, now)?;
        state.moves.expected.retain(|_, expected| now < expected.until);
        if !state.moves.expected.is_empty() && state.moves.look_at.is_none_or(|at| now >= at) {
            state.moves.look_at = Some(now + LOOK);
            self.take_parcels(state)?;
        }
        Ok(())
    }

    /// Hands over as much of one freight as goes into one parcel.
    fn hand_over(&self, state: &mut State, now: Instant) -> Result<()> {
        let Some(session) = &state.session else { return Ok(()) };
        let Some((since, freight)) = state.moves.freights.front_mut() else { return Ok(()) };
        let placement = self.node.placement();
        if placement.version() >= Some(freight.version)
            && let Some(owner) = placement.slot_owner(freight.slot)
            && owner != &*freight.to
        {
            // The one that it was given to is dead, and others have taken the slot.
            freight.to = owner.into();
            freight.is_whole = false;
        }
        if *freight.to == *self.node.name {
            let taken = state.moves.freights.pop_front();
            taken.into_iter().for_each(|(_, freight)| self.take_back(freight));
            return Ok(());
        }
        let count = freight.next();
        let (mut parcel, numbers) = freight.pack(count, |number| state.ledger.ticket(number));
        parcel.id = random_u64()?;
        let give = || {
            let broker = &self.node.broker;
            broker.hand_over(session, &freight.to, freight.at, &numbers, &parcel.encode())
        };
        match self.node.pulse.time(Call::Report, give)? {
            HandOver::Done => {
                numbers.into_iter().for_each(|number| state.ledger.handed_over(number));
                freight.accounts.drain(..count);
                if parcel.is_last {
                    let (slot, part) = (freight.slot, freight.part);
                    state.moves.freights.pop_front();
                    let _ = self.reactors.all()[part].push(Command::HandedOver { slot });
                }
            }
            // They end here: what proves them there is another's.
            HandOver::Taken(taken) => {
                freight.accounts.retain(|account| !taken.contains(&account.number));
                taken.into_iter().for_each(|number| state.ledger.close_late(number));
            }
            HandOver::Nobody if now.duration_since(*since) < PATIENCE => {
                state.moves.again_at = Some(now + AGAIN);
                state.moves.freights.rotate_left(1);
            }
            HandOver::Nobody => {
                let ended = state.moves.freights.pop_front();
                let accounts = ended.into_iter().flat_map(|(_, freight)| freight.accounts);
                accounts.for_each(|account| state.ledger.close_late(account.number));
            }
        }
        Ok(())
    }

    /// The slot is this node's again; what came for its clients meanwhile went to the other.
    fn take_back(&self, freight: Freight) {
        let Freight { slot, part, epoch, accounts, .. } = freight;
        let arrival = Arrival { slot, is_whole: false, epoch, accounts };
        let _ = self.reactors.all()[part].push(Command::Arrive(Box::new(arrival)));
    }

    /// Takes what others have left.
    pub(super) fn take_parcels(&self, state: &mut State) -> Result<()> {
        let Some(session) = &state.session else { return Ok(()) };
        let read = || self.node.broker.parcels(session);
        let parcels = self.node.pulse.time(Call::Report, read)?;
        if parcels.is_empty() {
            return Ok(());
        }
        let count = parcels.len();
        for text in parcels {
            match Parcel::decode(&text) {
                Ok(parcel) => self.unpack(state, parcel),
                Err(why) => log::error!("what another node has handed over cannot be read: {why}"),
            }
        }
        let Some(session) = &state.session else { return Ok(()) };
        self.node.pulse.time(Call::Report, || self.node.broker.took(session, count))?;
        state.moves.look_at = None;
        Ok(())
    }

    fn unpack(&self, state: &mut State, mut parcel: Parcel) {
        if state.moves.seen.contains(&parcel.id) {
            return;
        }
        state.moves.seen.push_back(parcel.id);
        if state.moves.seen.len() > SEEN {
            state.moves.seen.pop_front();
        }
        for account in &mut parcel.accounts {
            state.ledger.arrived(
                account.number,
                std::mem::take(&mut account.ticket),
                !account.is_place,
            );
        }
        let (slot, version, is_whole) = (parcel.slot, parcel.version, parcel.is_whole);
        let epoch: Arc<str> = parcel.epoch.as_str().into();
        let mut parts: Vec<Vec<Account>> = Vec::new();
        parts.resize_with(self.reactors.len(), Vec::new);
        for account in parcel.unpack() {
            parts[self.reactors.index_of(&account.client)].push(account);
        }
        for (reactor, accounts) in self.reactors.all().iter().zip(parts) {
            if !accounts.is_empty() {
                let epoch = Arc::clone(&epoch);
                let arrival = Arrival { slot, is_whole, epoch, accounts };
                // Fails when the reactor has ended, and the node with it.
                let _ = reactor.push(Command::Arrive(Box::new(arrival)));
            }
        }
        if !parcel.is_last {
            return;
        }
        let Some(expected) = state.moves.expect(slot, version, Instant::now()) else { return };
        expected.parts.insert(parcel.part);
        if expected.parts.len() == parcel.parts {
            state.moves.expected.remove(&slot);
            state.moves.arrived.insert(slot, version);
            for reactor in self.reactors.all() {
                let _ = reactor.push(Command::Arrived { slot, version });
            }
        }
    }
}
