//! What a swarm counts: arrivals, latencies, completed room messages.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
};

use crate::{
    account::{Account, Arrival, Sequence},
    histogram::Latencies,
    orders::{LatencyNote, Status},
    stamp::{DIRECT, Stamp},
};

#[derive(Default)]
pub struct Tally {
    pub status: Status,
    /// Counts up with everything that the conductor may wait for.
    pub changes: u64,
    /// Something happened that the conductor surely waits for.
    pub urgent: bool,
    pub connect: Latencies,
    direct: Latencies,
    room: Latencies,
    receipt: Latencies,
    away: Latencies,
    rooms: HashMap<u32, Progress>,
    misdelivered: u64,
    duplicates: u64,
    misordered: u64,
    damaged: u64,
    stray: u64,
}

/// Members that have each of a room's latest messages.
struct Progress {
    members: Range<i64>,
    /// Its name in the deployment.
    channel: Option<String>,
    /// How many of them are in this swarm.
    here: u32,
    /// Number of the message that `counts` begins with.
    first: u32,
    counts: VecDeque<u32>,
}

impl Tally {
    pub fn note(&mut self) {
        self.changes += 1;
        self.urgent = true;
    }

    /// An attempt failed, and no other follows.
    pub fn refuse(&mut self, reason: String) {
        *self.status.refused.entry(reason).or_default() += 1;
        self.note();
    }

    /// An attempt failed, and another follows.
    pub fn tried(&mut self, reason: String) {
        *self.status.tried.entry(reason).or_default() += 1;
        self.note();
    }

    /// A connection ended for good.
    pub fn ended(&mut self, reason: String) {
        *self.status.ended.entry(reason).or_default() += 1;
        self.note();
    }

    /// A connection ended whose client comes back.
    pub fn interrupted(&mut self, reason: String) {
        *self.status.interrupted.entry(reason).or_default() += 1;
        self.note();
    }

    /// A client is connected again, so long after its connection ended.
    pub fn returned(&mut self, nanoseconds: u64) {
        self.status.returned += 1;
        self.away.record(nanoseconds);
        self.note();
    }

    pub fn members(
        &mut self,
        stream: u32,
        channel: Option<String>,
        members: Range<i64>,
        here: u32,
    ) {
        let progress = Progress { members, channel, here, first: 1, counts: VecDeque::new() };
        self.rooms.insert(stream, progress);
        self.status.declared += 1;
        self.note();
    }

    /// The channels that a client was in.
    pub fn channels_of(&self, client: i64) -> Vec<String> {
        let rooms = self.rooms.values().filter(|room| room.members.contains(&client));
        rooms.filter_map(|room| room.channel.clone()).collect()
    }

    /// A text message has arrived: the beginning of its payload, and its length.
    pub fn message(
        &mut self,
        client: i64,
        sequences: &mut Vec<(u32, Sequence)>,
        (payload, length): (&[u8], u64),
        now: u64,
    ) {
        let Some(stamp) = Stamp::read(payload) else { return self.receipt(client, payload, now) };
        if !self.is_for(client, stamp) {
            self.misdelivered += 1;
            return;
        }
        self.damaged += u64::from(!Stamp::is_whole(payload, length));
        let place = sequences.iter().position(|(stream, _)| *stream == stamp.stream);
        let place = place.unwrap_or_else(|| {
            sequences.push((stamp.stream, Sequence::default()));
            sequences.len() - 1
        });
        match sequences[place].1.arrive(stamp.number) {
            Arrival::InOrder => {}
            Arrival::Late => self.misordered += 1,
            Arrival::Duplicate => {
                self.duplicates += 1;
                return;
            }
        }
        self.status.delivered += 1;
        self.changes += 1;
        let latency = now.saturating_sub(stamp.due);
        if stamp.stream == DIRECT {
            self.direct.record(latency);
        } else {
            self.room.record(latency);
            self.advance(stamp);
        }
    }

    fn is_for(&self, client: i64, stamp: Stamp) -> bool {
        match stamp.stream {
            DIRECT => stamp.receiver == client,
            room => self.rooms.get(&room).is_some_and(|room| room.members.contains(&client)),
        }
    }

    fn advance(&mut self, stamp: Stamp) {
        let Some(progress) = self.rooms.get_mut(&stamp.stream) else { return };
        let Some(index) = stamp.number.checked_sub(progress.first) else { return };
        let index = index as usize;
        if index >= progress.counts.len() {
            progress.counts.resize(index + 1, 0);
        }
        progress.counts[index] += 1;
        while progress.counts.front() == Some(&progress.here) {
            progress.counts.pop_front();
            progress.first += 1;
            *self.status.complete.entry(stamp.stream).or_default() += 1;
            self.urgent = true;
        }
    }

    /// A receipt holds the message's own text, with its quotes escaped, and goes to who sent that.
    fn receipt(&mut self, client: i64, payload: &[u8], now: u64) {
        let Some(quoted) = payload.strip_prefix(b"{\"content\":\"\\") else {
            self.stray += 1;
            return;
        };
        let Some(stamp) = Stamp::read(quoted) else {
            self.stray += 1;
            return;
        };
        if stamp.sender != client {
            self.misdelivered += 1;
            return;
        }
        if payload.ends_with(b"\"status\":\"sent\"}") {
            self.status.receipts_sent += 1;
        } else if payload.ends_with(b"\"status\":\"acknowledged\"}") {
            self.status.receipts_acknowledged += 1;
        } else {
            self.status.receipts_offline += 1;
        }
        self.receipt.record(now.saturating_sub(stamp.due));
        self.changes += 1;
    }

    pub fn collect(&mut self) -> LatencyNote {
        let note = LatencyNote {
            connect: self.connect.recorded(),
            direct: self.direct.recorded(),
            room: self.room.recorded(),
            receipt: self.receipt.recorded(),
            away: self.away.recorded(),
        };
        let Tally { connect, direct, room, receipt, away, .. } = self;
        [connect, direct, room, receipt, away].into_iter().for_each(Latencies::clear);
        note
    }

    /// What arrived, and what arrived wrongly; the audit adds what did not arrive.
    pub fn arrived(&self) -> Account {
        Account {
            delivered: self.status.delivered,
            misdelivered: self.misdelivered,
            duplicates: self.duplicates,
            misordered: self.misordered,
            damaged: self.damaged,
            stray: self.stray,
            ..Account::default()
        }
    }
}
