//! Everything a `MemoryBroker` knows: tickets, requests, presence, channels and the queues of subscribers.
//! What happens to presence is in `presence`.
//!
//! Used under the broker's mutex only. Takes the time as an argument and never waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::{AHashMap, AHashSet};

use super::{
    events::EventLog,
    expiring::Expiring,
    leaving::Leaving,
    log::Log,
    presence::SessionState,
    queues::{EventQueue, NodeQueue, Wake},
    rosters::RosterBook,
    webhooks::WebhookBook,
};
use crate::{
    broker::contract::JoinLimits,
    id::ClientId,
    slots::SlotTable,
    wire::{Envelope, EventKind},
};

#[derive(Default)]
pub(super) struct State {
    /// Token -> ticket text.
    pub(super) tickets: Expiring,
    /// Key of a request -> who carries it out, or what came of it.
    requests: Expiring,
    /// Client -> number of its open connections; never zero.
    pub(super) online: BTreeMap<ClientId, u64>,
    pub(super) sessions: AHashMap<String, SessionState>,
    /// Channel -> members; never empty.
    pub(super) members: BTreeMap<String, BTreeSet<ClientId>>,
    /// Client -> channels; never empty.
    pub(super) joined: AHashMap<ClientId, AHashSet<String>>,
    /// Clients that are coming, or leave later.
    pub(super) leaving: Leaving,
    pub(super) log: Log,
    pub(super) events: EventLog,
    /// Who is there of the members of channels that have a roster.
    pub(super) rosters: RosterBook,
    /// Who owns which slot; `None` where nodes are a fixed list.
    pub(super) slots: Option<SlotTable>,
    pub(super) webhooks: WebhookBook,
    /// What clients of all nodes prove with which connection is theirs.
    pub(super) common_key: Option<[u8; 16]>,
    /// Subscribers of nodes; a node name listed twice is two processes under one name.
    pub(super) node_queues: Vec<NodeQueue>,
    /// Subscribers of presence events.
    pub(super) event_queues: Vec<EventQueue>,
    pub(super) next_subscriber: u64,
}

// --- Requests ------------------------------------------------------------------------------------

impl State {
    pub(super) fn claim(
        &mut self,
        key: &str,
        claim: &str,
        now: Instant,
        life: Duration,
    ) -> Option<String> {
        if let Some(there) = self.requests.get(key, now) {
            return Some(there.to_owned());
        }
        self.requests.put(key, claim, now, life);
        None
    }

    pub(super) fn complete(
        &mut self,
        key: &str,
        claim: &str,
        outcome: &str,
        now: Instant,
        life: Duration,
    ) -> bool {
        if self.requests.get(key, now) != Some(claim) {
            return false;
        }
        match life.is_zero() {
            true => drop(self.requests.take(key, now)),
            false => self.requests.put(key, outcome, now, life),
        }
        true
    }
}

// --- Channels ------------------------------------------------------------------------------------

impl State {
    pub(super) fn join(&mut self, client: &ClientId, channel: &str) {
        let members = self.members.entry(channel.into()).or_default();
        if !members.insert(client.clone()) {
            return;
        }
        if members.len() == 1 {
            self.events.push_of_channel(EventKind::Occupied, client, channel);
        }
        self.joined.entry(client.clone()).or_default().insert(channel.into());
        self.rosters.stir(channel);
        self.mark(client);
    }

    /// Joins, unless the client is in as many channels as it may be; whether it is a member now.
    pub(super) fn join_within(
        &mut self,
        client: &ClientId,
        channel: &str,
        limits: &JoinLimits,
        now: Instant,
    ) -> bool {
        let channels = self.joined.get(client);
        if limits.channels_per_client > 0
            && channels.is_some_and(|channels| {
                channels.len() >= limits.channels_per_client && !channels.contains(channel)
            })
        {
            return false;
        }
        self.join(client, channel);
        if !self.is_online(client) {
            self.leaving.joined(client, channel, limits.offline_life, now);
        }
        true
    }

    pub(super) fn leave(&mut self, client: &ClientId, channel: &str) {
        let Some(members) = self.members.get_mut(channel) else { return };
        if !members.remove(client) {
            return;
        }
        if members.is_empty() {
            self.members.remove(channel);
            self.events.push_of_channel(EventKind::Vacated, client, channel);
        }
        if let Some(channels) = self.joined.get_mut(client) {
            channels.remove(channel);
            if channels.is_empty() {
                self.joined.remove(client);
            }
        }
        self.rosters.stir(channel);
        self.mark(client);
    }

    fn mark(&mut self, client: &ClientId) {
        for queue in &mut self.node_queues {
            queue.watched.mark(client);
            queue.wake.arrived.notify_one();
        }
    }

    pub(super) fn members(&self, channel: &str) -> Vec<ClientId> {
        self.members.get(channel).map_or_else(Vec::new, |members| members.iter().cloned().collect())
    }

    pub(super) fn channels(&self) -> Vec<(String, i64)> {
        self.members.iter().map(|(name, members)| (name.clone(), members.len() as i64)).collect()
    }

    pub(super) fn channels_of(&self, client: &ClientId) -> Vec<String> {
        self.joined.get(client).map_or_else(Vec::new, |names| names.iter().cloned().collect())
    }

    pub(super) fn channel_size(&self, channel: &str) -> i64 {
        self.members.get(channel).map_or(0, |members| members.len() as i64)
    }
}

// --- Messages ------------------------------------------------------------------------------------

impl State {
    /// The first node that has no room, and what to wait on for some; `None` if all can be delivered.
    pub(super) fn first_full<'a>(
        &self,
        outgoing: &[(&'a str, Envelope)],
        capacity: usize,
    ) -> Option<(&'a str, Arc<Wake>)> {
        let full = self.node_queues.iter().filter(|queue| queue.messages.len() >= capacity);
        full.into_iter().find_map(|queue| {
            let (node, _) = outgoing.iter().find(|(node, _)| *node == queue.node)?;
            Some((*node, Arc::clone(&queue.wake)))
        })
    }

    /// Logs what is to be logged and hands everything to its nodes; those of them that nobody listens as.
    pub(super) fn publish<'a>(
        &mut self,
        outgoing: &[(&'a str, Envelope)],
        now: Instant,
    ) -> Vec<&'a str> {
        let mut unheard: Vec<&str> = Vec::new();
        let mut last: Option<(Arc<Envelope>, Option<u64>)> = None;
        for (node, envelope) in outgoing {
            let (message, volatile) = envelope.message();
            // The same to the next node, as it stands in a batch, is one message.
            let is_copy = matches!(message, Envelope::Channel { .. });
            let copied = last.take_if(|(copied, number)| {
                is_copy && **copied == *message && number.is_none() == volatile
            });
            let sent = copied.unwrap_or_else(|| {
                let message = Arc::new(message.clone());
                let number = (!volatile).then(|| self.log.add(node, &message, now));
                (message, number)
            });
            if !self.deliver(node, &sent.0, sent.1) && !unheard.contains(node) {
                unheard.push(*node);
            }
            last = Some(sent);
        }
        unheard
    }

    /// Returns whether anybody listens as `node`.
    pub(super) fn deliver(
        &mut self,
        node: &str,
        envelope: &Arc<Envelope>,
        number: Option<u64>,
    ) -> bool {
        let mut heard = false;
        for queue in self.node_queues.iter_mut().filter(|queue| queue.node == node) {
            queue.messages.push_back((Arc::clone(envelope), number));
            queue.wake.arrived.notify_one();
            heard = true;
        }
        heard
    }
}
