//! Clients of slots that this node has just been given: what comes for them before they are here, what they go on from, and
//! who comes back sooner than that.
//!
//! Part of `Reactor`, called from its turn alone. From where the feed says that the slot is this node's, in order with the
//! messages, all that may be for its clients is gathered. When the account of a client has come from the former owner, and the
//! broker has said in which channels it is, it gets what was gathered and is waited for like anybody who is away.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::AHashMap;

use super::{Reactor, hub::Key};
use crate::{
    id::ClientId,
    server::{
        connection::{
            Context, Estate, NEVER, Standing,
            continuity::Keep,
            kept::Kept,
            outbox::{Chunk, Tally},
            prepared::Prepared,
            receipt::{Inquiry, Receipt},
        },
        message::{Adoption, Original, Report, SlotNews},
        ownership::Ownership,
        parcel::{Account, Arrival},
        reasons::CloseReason,
        transport::Socket,
    },
    wire::ReceiptStatus,
};
use mio::{Interest, Token};

/// How long a former owner may take to hand over what it has.
const LONGEST: Duration = Duration::from_secs(30);
/// How long an account that has come may wait until the feed says that the slot is this node's.
const UNHEARD: Duration = Duration::from_secs(3);
/// How long a client waits whose account is still to come.
const WAIT: Duration = Duration::from_secs(5);
/// How long one waits whose slot is another node's as far as is known here.
const WAIT_FOR_TABLE: Duration = Duration::from_secs(1);
/// Bytes of messages that are gathered for the clients of one slot.
const BYTES: usize = 64 << 20;

/// Who is to come, and what came before them.
#[derive(Debug)]
pub(super) struct Arriving<S> {
    slots: HashMap<usize, Gather>,
    /// Slots of which all has come, by the version of the table that gave them.
    done: HashMap<usize, u64>,
    waiting: Vec<Waiting<S>>,
    /// When something is waited for no longer.
    pub(super) at: Option<Instant>,
}

impl<S> Default for Arriving<S> {
    fn default() -> Self {
        let (slots, done, waiting) = (HashMap::new(), HashMap::new(), Vec::new());
        Arriving { slots, done, waiting, at: None }
    }
}

/// A socket whose client's account is still to come.
#[derive(Debug)]
struct Waiting<S> {
    adoption: Adoption<S>,
    until: Instant,
}

#[derive(Debug)]
struct Gather {
    /// Whether the feed has said that the slot is this node's.
    is_heard: bool,
    /// Whether all that came since is in `items`.
    is_whole: bool,
    /// Whether no account is to come any more.
    is_complete: bool,
    until: Instant,
    items: Vec<Item>,
    bytes: usize,
    /// Accounts that have come and are not here yet, and whether they are whole.
    clients: AHashMap<ClientId, Vec<(Account, bool)>>,
}

/// What came, in order.
#[derive(Debug)]
enum Item {
    Direct {
        sender: ClientId,
        receiver: ClientId,
        message: Prepared,
        receipt: Option<Rc<Receipt>>,
        origin: Option<Arc<Original>>,
        /// Whether somebody here has it.
        is_taken: bool,
    },
    Channel {
        sender: ClientId,
        channel: Option<Arc<str>>,
        message: Prepared,
    },
    Kick(ClientId),
}

impl Gather {
    fn new(is_heard: bool, until: Instant) -> Self {
        let (items, clients) = (Vec::new(), AHashMap::new());
        Gather { is_heard, is_whole: true, is_complete: false, until, items, bytes: 0, clients }
    }
}

impl<S: Socket> Reactor<S> {
    // --- What comes ---------------------------------------------------------------------------------

    /// The slot is this node's from here on in the order of messages.
    pub(super) fn expect(&mut self, slot: usize, version: u64, at: u64, from: Option<Arc<str>>) {
        let mut gather = Gather::new(true, self.at + LONGEST);
        gather.is_complete = self.arriving.done.get(&slot) == Some(&version);
        if !gather.is_complete {
            self.arriving.done.remove(&slot);
        }
        match self.arriving.slots.remove(&slot) {
            Some(before) if !before.is_heard => {
                // Their channels are told once more, now that what comes is gathered.
                before.clients.keys().for_each(|client| self.parts.watchlist.watch(client.clone()));
                gather.clients = before.clients;
            }
            Some(before) => self.end_gather(slot, before),
            None => {}
        }
        self.arriving.slots.insert(slot, gather);
        self.tell(Report::Expect { slot, version, at, from });
        self.look_if_over(slot);
        self.arrive_soon();
    }

    /// Slots that the table says this node has taken from the dead: their clients may be here before the feed says so.
    pub(super) fn await_taken(&mut self, ownership: &Ownership) {
        let Some(before) = self.departing.ownership.clone() else { return };
        let (node, until) = (ownership.node(), self.at + UNHEARD);
        for slot in 0..ownership.count() {
            let was_others = before.owner(slot).is_some_and(|owner| owner != node);
            let is_taken = was_others
                && ownership.owner(slot) == Some(node)
                && ownership.former_owner(slot).is_none();
            let is_known =
                self.arriving.done.get(&slot).is_some_and(|version| *version > before.version());
            if is_taken && !is_known {
                self.arriving.slots.entry(slot).or_insert_with(|| Gather::new(false, until));
            }
        }
    }

    /// Something may be missing: nothing that was gathered is proven to be all.
    pub(super) fn gathered_in_vain(&mut self) {
        self.arriving.slots.values_mut().for_each(|gather| gather.is_whole = false);
    }

    /// A message for members of a channel, or for everybody, is for those too who are to come.
    pub(super) fn gather_channel(
        &mut self,
        sender: &ClientId,
        channel: Option<&Arc<str>>,
        message: &Prepared,
    ) {
        for gather in self.arriving.slots.values_mut().filter(|gather| gather.is_heard) {
            gather.bytes += message.len();
            gather.is_whole &= gather.bytes <= BYTES;
            if gather.is_whole {
                let (channel, message) = (channel.cloned(), message.clone());
                gather.items.push(Item::Channel { sender: sender.clone(), channel, message });
            }
        }
    }

    pub(super) fn gather_kick(&mut self, client: &ClientId) {
        if let Some(gather) = self.gather_of(client) {
            gather.items.push(Item::Kick(client.clone()));
        }
    }

    /// A message for a client that may be to come; `None` if it is not. How much work it was.
    pub(super) fn gather_direct(
        &mut self,
        (sender, receiver): (&ClientId, &ClientId),
        message: &Prepared,
        inquiry: Option<&Arc<Inquiry>>,
        origin: Option<&Arc<Original>>,
    ) -> Option<usize> {
        self.gather_of(receiver).filter(|gather| gather.is_heard)?;
        let receipt = inquiry.map(|inquiry| Rc::new(Receipt::new(inquiry, receiver.clone())));
        let keys = self.hub.connections(receiver).to_vec();
        let mut work = 1;
        for key in &keys {
            if sender != receiver || keys.len() > 1 {
                work += self.enqueue(*key, message, receipt.clone());
                self.mark_urgent(*key);
            }
        }
        let gather = self.gather_of(receiver)?;
        gather.bytes += message.len();
        gather.is_whole &= gather.bytes <= BYTES;
        gather.items.push(Item::Direct {
            sender: sender.clone(),
            receiver: receiver.clone(),
            message: message.clone(),
            receipt,
            origin: origin.cloned(),
            is_taken: !keys.is_empty(),
        });
        Some(work)
    }

    /// Nobody is to come of a slot that goes on to another node.
    pub(super) fn end_arriving_of(&mut self, slot: usize) {
        if let Some(gather) = self.arriving.slots.remove(&slot) {
            self.end_gather(slot, gather);
        }
    }

    fn gather_of(&mut self, client: &ClientId) -> Option<&mut Gather> {
        if self.arriving.slots.is_empty() {
            return None;
        }
        let slot = self.departing.ownership.as_ref()?.slot(client);
        self.arriving.slots.get_mut(&slot)
    }

    // --- Who comes ----------------------------------------------------------------------------------

    /// Accounts have come from the former owner of a slot.
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival { slot, is_whole, epoch, accounts } = arrival;
        let is_whole = is_whole && epoch == self.place.epoch;
        let until = self.at + UNHEARD;
        let gather = self.arriving.slots.entry(slot).or_insert_with(|| Gather::new(false, until));
        let clients: HashSet<ClientId> =
            accounts.iter().map(|account| account.client.clone()).collect();
        for account in accounts {
            gather.clients.entry(account.client.clone()).or_default().push((account, is_whole));
        }
        for client in clients {
            // Tells its channels, for the first time or once more.
            self.parts.watchlist.watch(client.clone());
            if !is_whole {
                self.settle_in(slot, &client, None);
            }
        }
        self.look_if_over(slot);
        self.arrive_soon();
    }

    /// No further account of the slot is to come.
    pub(super) fn arrived(&mut self, slot: usize, version: u64) {
        self.arriving.done.insert(slot, version);
        if let Some(gather) = self.arriving.slots.get_mut(&slot) {
            gather.is_complete = true;
        }
        self.look_if_over(slot);
        self.arrive_soon();
    }

    /// The channels of a client are known: one whose account has come is here from now on.
    pub(super) fn channels_known(&mut self, client: &ClientId, channels: &[String]) {
        let Some(gather) = self.gather_of(client) else { return };
        if !gather.is_heard || !gather.clients.contains_key(client) {
            return;
        }
        let Some(ownership) = &self.departing.ownership else { return };
        let slot = ownership.slot(client);
        self.settle_in(slot, client, Some(channels));
        self.look_if_over(slot);
        self.arrive_soon();
    }

    /// A client of which all is known that there will be is waited for, with what came for it meanwhile.
    fn settle_in(&mut self, slot: usize, client: &ClientId, channels: Option<&[String]>) {
        let Some(gather) = self.arriving.slots.get_mut(&slot) else { return };
        let Some(accounts) = gather.clients.remove(client) else { return };
        let is_whole = gather.is_heard && gather.is_whole;
        let mut items = std::mem::take(&mut gather.items);
        let accounts: Vec<_> = accounts
            .into_iter()
            .filter(|(account, _)| {
                let keys = self.hub.connections(client);
                !keys.iter().any(|key| self.number_of(*key) == Some(account.number))
            })
            .collect();
        let is_only = accounts.len() + self.hub.connections(client).len() == 1;
        let mut receipts = AHashMap::new();
        let mut keys = Vec::new();
        let mut names: Vec<String> = channels.unwrap_or_default().to_vec();
        for (account, is_own_whole) in accounts {
            let is_whole = is_whole && is_own_whole;
            names.extend(account.channels.iter().cloned());
            let mut estate = self.estate(account, is_whole, &mut receipts);
            if is_whole && !estate.is_place {
                self.catch_up(&mut estate, &mut items, &names, is_only);
            }
            let key = self.keep_estate(estate);
            self.hub.insert(client.clone(), key);
            keys.push(key);
        }
        if channels.is_none() {
            // As far as is known.
            names.extend(self.hub.channels_of(client));
            names.sort_unstable();
            names.dedup();
            self.hub.set_channels(client, names);
        }
        let is_kicked =
            items.iter().any(|item| matches!(item, Item::Kick(kicked) if kicked == client));
        if let Some(gather) = self.arriving.slots.get_mut(&slot) {
            gather.items = items;
        }
        if is_kicked {
            keys.into_iter().for_each(|key| self.end_parked(key, CloseReason::Kicked));
        }
        self.readmit(|waiting| waiting.ticket.client() == client);
    }

    /// What an account comes to here. From one that is not whole nothing can be resumed.
    fn estate(
        &mut self,
        account: Account,
        is_whole: bool,
        receipts: &mut AHashMap<(u64, u32), Rc<Receipt>>,
    ) -> Estate {
        let Account { client, number, is_place, left, floor, written, kept, .. } = account;
        let chunks = kept.into_iter().map(|(frame, inquiry)| {
            let (at, new) =
                (frame.position(), |inquiry| Rc::new(Receipt::new(&inquiry, client.clone())));
            // Connections of one client have one receipt.
            let receipt = inquiry.map(|inquiry| {
                Rc::clone(receipts.entry((at.number, at.sub)).or_insert_with(|| new(inquiry)))
            });
            Chunk { frame, receipt }
        });
        let mut kept = Kept::handed_over(chunks.collect(), written);
        self.offered += kept.unwritten() as u64;
        let keep = Keep::new(left);
        if is_whole || is_place {
            return Estate { client, number, keep, floor, kept, is_place };
        }
        let mut dropped = Tally::default();
        kept.clear(&mut dropped);
        receipts.clear();
        self.settle_dropped(CloseReason::Expired, dropped);
        Estate { client, number, keep, floor: NEVER, kept, is_place }
    }

    /// What was gathered and is for the client.
    fn catch_up(
        &mut self,
        estate: &mut Estate,
        items: &mut [Item],
        names: &[String],
        is_only: bool,
    ) {
        let client = estate.client.clone();
        for item in items {
            let (message, receipt) = match item {
                Item::Direct { sender, receiver, message, receipt, is_taken, .. }
                    if *receiver == client =>
                {
                    *is_taken = true;
                    if *sender == client && is_only {
                        continue;
                    }
                    (message, receipt.clone())
                }
                Item::Channel { sender, channel, message } => {
                    let is_member = channel
                        .as_ref()
                        .is_none_or(|channel| names.iter().any(|name| **name == **channel));
                    if !is_member || *sender == client && is_only {
                        continue;
                    }
                    (message, None)
                }
                _ => continue,
            };
            if estate.has(message) {
                continue;
            }
            let (limits, place, tally, runs) =
                (&self.limits, &mut self.place, &mut self.written, &mut self.runs);
            let mut cx = Context { now: self.now, limits, place, tally, runs };
            self.offered += 1;
            let dropped = estate.add(message, receipt, &mut cx);
            self.settle_dropped(CloseReason::Expired, dropped);
        }
    }

    // --- The end of it ------------------------------------------------------------------------------

    /// Ends the gathering for a slot if nobody is to come any more.
    fn look_if_over(&mut self, slot: usize) {
        let Some(gather) = self.arriving.slots.get(&slot) else { return };
        let is_over = gather.clients.is_empty() && (gather.is_complete || !gather.is_heard);
        if is_over && let Some(gather) = self.arriving.slots.remove(&slot) {
            self.end_gather(slot, gather);
        }
    }

    /// Whoever has not come yet comes without what was gathered; what nobody has taken may be for connections at the former
    /// owner.
    fn end_gather(&mut self, slot: usize, mut gather: Gather) {
        gather.is_whole = false;
        let clients: Vec<ClientId> = gather.clients.keys().cloned().collect();
        self.arriving.slots.insert(slot, gather);
        clients.into_iter().for_each(|client| self.settle_in(slot, &client, None));
        let Some(gather) = self.arriving.slots.remove(&slot) else { return };
        let has_gone = self.departing.has_gone(slot);
        for item in gather.items {
            let Item::Direct { receiver, receipt, origin, is_taken, .. } = item else { continue };
            // What was taken goes on with whoever took it, if the slot has gone on meanwhile.
            let is_on =
                !(is_taken && has_gone) && self.hand_on(&receiver, origin.as_ref(), !is_taken);
            match receipt {
                Some(receipt) if is_on && !is_taken => receipt.is_handed_over(),
                Some(receipt) => self.lose(receipt, ReceiptStatus::Offline),
                None => {}
            }
        }
        let Some(ownership) = self.departing.ownership.clone() else { return };
        self.readmit(|waiting| ownership.slot(waiting.ticket.client()) == slot);
    }

    /// Looks at what has been waited for long enough.
    pub(super) fn look_who_arrives(&mut self) {
        self.arriving.at = None;
        let at = self.at;
        let due = self.arriving.slots.iter().filter(|(_, gather)| at >= gather.until);
        for slot in due.map(|(slot, _)| *slot).collect::<Vec<_>>() {
            if let Some(gather) = self.arriving.slots.remove(&slot) {
                self.end_gather(slot, gather);
            }
        }
        let waiting = std::mem::take(&mut self.arriving.waiting);
        for Waiting { adoption, until } in waiting {
            self.consider(adoption, Some(until));
        }
        self.arrive_soon();
    }

    /// The table is newer: who waited for that waits no longer.
    pub(super) fn expect_no_more(&mut self) {
        let Some(ownership) = self.departing.ownership.clone() else { return };
        self.arriving.done.retain(|slot, _| ownership.former_owner(*slot).is_some());
        self.readmit(|_| true);
        self.arrive_soon();
    }

    fn arrive_soon(&mut self) {
        let slots = self.arriving.slots.values().map(|gather| gather.until);
        self.arriving.at = slots.chain(self.arriving.waiting.iter().map(|w| w.until)).min();
    }

    // --- Who comes back sooner ------------------------------------------------------------------------

    /// Takes a socket over, unless its client has to wait for what it goes on from, or belongs elsewhere. `until`: it has waited,
    /// and does no longer than that.
    pub(super) fn consider(&mut self, adoption: Adoption<S>, until: Option<Instant>) {
        if self.drain.is_none()
            && let Some(wait) = self.has_to_wait(&adoption)
        {
            let until = until.unwrap_or(self.at + wait);
            if self.at < until {
                self.arriving.waiting.push(Waiting { adoption, until });
                return self.arrive_soon();
            }
        }
        let is_elsewhere = self.departing.is_elsewhere(adoption.ticket.client());
        // It is told nothing of what it missed: that is known elsewhere.
        match is_elsewhere && adoption.claim.is_some() && self.drain.is_none() {
            true => self.turn_away(adoption),
            false => self.admit(adoption),
        }
    }

    fn has_to_wait(&self, adoption: &Adoption<S>) -> Option<Duration> {
        let ownership = self.departing.ownership.as_ref()?;
        let client = adoption.ticket.client();
        let slot = ownership.slot(client);
        if self.departing.is_elsewhere(client) {
            adoption.claim.as_ref()?;
            let is_known = self.departing.has_gone(slot);
            if !is_known && let Some(news) = &self.parts.onward {
                let _ = news.try_send(SlotNews::Changed);
            }
            return (!is_known).then_some(WAIT_FOR_TABLE);
        }
        let is_coming = self.arriving.slots.contains_key(&slot)
            || ownership.former_owner(slot).is_some_and(|node| node != ownership.node())
                && !self.arriving.done.contains_key(&slot);
        if !is_coming {
            return None;
        }
        let Some(claim) = &adoption.claim else {
            // Its place may be among what is to come.
            return (self.limits.grace != Keep::NONE).then_some(WAIT);
        };
        let number = self.parts.origin.connection_of(client, claim.c.as_deref()?)?;
        let keys = self.hub.connections(client);
        let is_here = keys.iter().any(|key| self.number_of(*key) == Some(number));
        (!is_here).then_some(WAIT)
    }

    /// Looks again at some of those who wait.
    fn readmit(&mut self, which: impl Fn(&Adoption<S>) -> bool) {
        let waiting = std::mem::take(&mut self.arriving.waiting);
        let (now, later): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|waiting| which(&waiting.adoption));
        self.arriving.waiting = later;
        for Waiting { adoption, until } in now {
            self.consider(adoption, Some(until));
        }
    }

    /// The node takes nobody any more.
    pub(super) fn end_arriving(&mut self) {
        for (slot, gather) in std::mem::take(&mut self.arriving.slots) {
            self.end_gather(slot, gather);
        }
        self.readmit(|_| true);
    }

    /// Tells a client that can resume to go where it belongs, and nothing else.
    fn turn_away(&mut self, adoption: Adoption<S>) {
        let Adoption { stream, ticket, connection: number, response, .. } = adoption;
        let mut connection = self.opened(stream, ticket, number);
        connection.standing = Standing::Mute;
        let key = self.connections.vacant_key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.parts.poll.registry();
        if registry.register(connection.stream_mut(), Token(key), interest).is_err() {
            self.parts.live.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            return;
        }
        connection.enqueue_control(response);
        self.connections.insert(connection);
        self.close(key as Key, CloseReason::Moved);
    }
}
