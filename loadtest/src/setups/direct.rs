//! Receivers of direct messages that come through Redis, on a server or on a floor.

use std::time::Duration;

use imcore::{ClientId, ImClient, Receipt, broker::Envelope};

use super::{PATIENCE, Slice, everybody, first_client, slice};
use crate::{
    account::Account,
    args::Pins,
    clock,
    cluster::Cluster,
    floor::Floor,
    meter::Meter,
    orders::{Dial, Reconnect, Sent, SentDirect},
    pace::Pace,
    sender::Sender,
    stamp::{DIRECT, Stamp},
    swarms::Swarms,
};

/// Envelopes in one pipeline to Redis.
const BATCH: u64 = 250;

/// Receivers of direct messages that come through Redis, on a server or on the floor.
pub struct Direct {
    pub im: ImClient,
    /// Sends at a rate.
    pub sender: Sender,
    pub swarms: Swarms,
    pub meter: Meter,
    pub receivers: usize,
    /// Clients that send; they get the receipts.
    pub senders: usize,
    pub size: usize,
    pub sent: u64,
    pub receipts: u64,
    /// Those of them that are to say `acknowledged`.
    acknowledged: u64,
    /// When it was sent, if all of it went out in one stretch at a rate.
    pub pace: Option<Pace>,
    /// Keeps the other end alive.
    _floor: Option<Floor>,
}

impl Direct {
    /// Connects receivers, and senders behind them, to `cluster`; with `reconnect` they come back when they are cut.
    pub fn on_server(
        cluster: &Cluster,
        pins: Pins,
        receivers: usize,
        senders: usize,
        size: usize,
        reconnect: Reconnect,
    ) -> Result<Self, String> {
        let everyone = receivers + senders;
        let mut swarms =
            Swarms::start(Some(&cluster.deployment), first_client(), everyone, pins.clients)?;
        swarms.dial_all(&Dial { reconnect, ..everybody(first_client(), everyone) })?;
        Ok(Direct {
            im: cluster.im.clone(),
            sender: cluster.sender()?,
            swarms,
            meter: cluster.meter(),
            receivers,
            senders,
            size,
            sent: 0,
            receipts: 0,
            acknowledged: 0,
            pace: None,
            _floor: None,
        })
    }

    /// The same on a floor that hears the same Redis under a node name of its own.
    pub fn on_floor(
        cluster: &Cluster,
        pins: Pins,
        merging: bool,
        receivers: usize,
        size: usize,
    ) -> Result<Self, String> {
        let name = if merging { "floor:2" } else { "floor:1" };
        let mut deployment = cluster.deployment.clone();
        deployment.servers = vec![name.into()];
        let topic = deployment.topic(name);
        let mut floor = Floor::start(Some((&deployment.redis, &topic)), merging, pins.server)?;
        let mut swarms = Swarms::start(None, first_client(), receivers, pins.clients)?;
        let dial =
            Dial { floor: Some(floor.address.clone()), ..everybody(first_client(), receivers) };
        swarms.dial_all(&dial)?;
        floor.accepted(receivers)?;
        let im = crate::swarm::helper(&deployment)?;
        Ok(Direct {
            sender: Sender::Helper(im.clone()),
            im,
            swarms,
            meter: floor.meter(),
            receivers,
            senders: 0,
            size,
            sent: 0,
            receipts: 0,
            acknowledged: 0,
            pace: None,
            _floor: Some(floor),
        })
    }

    /// Sends `messages` round robin with up to `window` under way, as fast as they arrive.
    pub fn saturate(
        &mut self,
        messages: u64,
        window: u64,
        receipt: Receipt,
    ) -> Result<Slice, String> {
        let goal = self.sent + messages;
        let meter = self.meter.clone();
        slice(&meter, || {
            loop {
                let (delivered, acknowledged) =
                    self.swarms.look(|state| (state.delivered(), state.receipts()));
                let waiting_receipts = self.receipts - acknowledged;
                if delivered >= goal && waiting_receipts == 0 {
                    return Ok(messages);
                }
                let under_way = (self.sent - delivered).max(waiting_receipts);
                let batch = BATCH.min(goal - self.sent);
                if batch > 0 && under_way + batch <= window {
                    self.send(batch, receipt)?;
                    continue;
                }
                self.swarms.wait_unbroken("direct messages", PATIENCE, |state| {
                    state.delivered() > delivered || state.receipts() > acknowledged
                })?;
            }
        })
    }

    fn send(&mut self, count: u64, level: Receipt) -> Result<(), String> {
        let due = clock::now();
        let (receipt, acknowledge) = (level != Receipt::None, level == Receipt::Acknowledged);
        let mut batch = Vec::with_capacity(count as usize);
        for index in self.sent..self.sent + count {
            let (receiver, content) = self.message(index, due, receipt);
            let receiver = ClientId::Int(receiver);
            let node = self.im.node_of(&receiver).map_err(|error| error.to_string())?;
            let sender = self.author(index, receipt);
            let receivers = vec![receiver];
            batch.push((
                node,
                Envelope::Direct {
                    sender,
                    receivers,
                    content,
                    receipt,
                    id: None,
                    acknowledge,
                    about: false,
                    trace: None,
                },
            ));
        }
        let batch: Vec<_> =
            batch.iter().map(|(node, envelope)| (&**node, envelope.clone())).collect();
        self.im.broker().publish(&batch).map_err(|error| format!("publishing: {error}"))?;
        self.sent += count;
        self.receipts += if receipt { count } else { 0 };
        self.acknowledged += if acknowledge { count } else { 0 };
        Ok(())
    }

    /// Who the message with this index is from; the system where no receipt is wanted.
    pub fn author(&self, index: u64, receipt: bool) -> ClientId {
        match receipt && self.senders > 0 {
            true => (first_client() + (self.receivers as u64 + index % self.senders as u64) as i64)
                .into(),
            false => ClientId::Int(0),
        }
    }

    /// Receiver and text of the message with this index, which asks for a receipt or does not.
    pub fn message(&self, index: u64, due: u64, receipt: bool) -> (i64, String) {
        let receivers = self.receivers as u64;
        let sender = match self.author(index, receipt) {
            ClientId::Int(id) => id,
            _ => 0,
        };
        let receiver = first_client() + (index % receivers) as i64;
        let number = (index / receivers) as u32 + 1;
        (receiver, Stamp { stream: DIRECT, number, due, sender, receiver }.json(self.size))
    }

    /// What was sent to each receiver.
    fn sent_to_each(&self) -> Vec<SentDirect> {
        let receivers = self.receivers as u64;
        let whole = self.sent / receivers;
        (0..receivers)
            .map(|index| SentDirect {
                client: first_client() + index as i64,
                messages: (whole + u64::from(index < self.sent % receivers)) as u32,
                schedule: self.pace.map(|pace| pace.schedule(index, receivers)),
            })
            .collect()
    }

    /// Waits until everything is delivered, or nothing has come for a while: the audit tells which.
    pub fn settle(&self) -> Result<(), String> {
        let goal = self.sent;
        let _ = self.swarms.wait("the last messages", Duration::from_secs(10), |state| {
            let all_came = state.delivered() >= goal && state.receipts() >= self.receipts;
            all_came || state.interrupted() > 0
        });
        Ok(())
    }

    pub fn audit(&mut self) -> Result<Account, String> {
        let sent = Sent { direct: self.sent_to_each(), rooms: Vec::new() };
        let mut account = self.swarms.audit(&sent)?;
        // A receipt is a message too: each is offered once and must come once, and say what it was asked for, since
        // all receivers stay connected.
        let (came, acknowledged, offline) = self.swarms.look(|state| {
            (state.receipts(), state.receipts_acknowledged(), state.receipts_offline())
        });
        account.offered += self.receipts;
        account.delivered += came.min(self.receipts);
        account.damaged += offline + acknowledged.abs_diff(self.acknowledged);
        account.lost += self.receipts.saturating_sub(came);
        account.duplicates += came.saturating_sub(self.receipts);
        Ok(account)
    }
}
