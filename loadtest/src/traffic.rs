//! Open-loop traffic: direct messages and room messages at a rate, through the helper.

use std::{
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::value::RawValue;

use crate::{
    account::Account,
    args::Pins,
    cluster::Cluster,
    histogram::Latencies,
    orders::{Dial, Reconnect, Sent, SentRoom},
    pace::{self, Pace},
    setups::{Direct, everybody, join, room_name},
    stamp::Stamp,
    swarms::Swarms,
};

/// A stamped text as the helper takes it: JSON that is finished.
fn raw(text: String) -> Result<Box<RawValue>, String> {
    RawValue::from_string(text).map_err(|error| error.to_string())
}

/// Sends direct messages at `rate` for `seconds`, waits for the last, and returns their latencies and how
/// well the rate was held.
pub fn direct(
    setup: &mut Direct,
    rate: f64,
    seconds: f64,
    receipts: bool,
) -> Result<(Latencies, Pace), String> {
    setup.swarms.collect()?;
    let pace = setup.send_at(rate, seconds, receipts)?;
    setup.settle()?;
    Ok((setup.swarms.collect()?.direct, pace))
}

/// Rooms with their members connected, for load at a rate.
pub struct RoomLoad {
    pub swarms: Swarms,
    first: i64,
    rooms: usize,
    /// Members of each room.
    members: usize,
    size: usize,
    sent: u64,
    /// When it was sent, if all of it went out in one stretch.
    pace: Option<Pace>,
}

/// Room messages on their way out on a thread of their own.
pub struct Background(JoinHandle<Result<Pace, String>>);

impl RoomLoad {
    /// Connects `rooms * members` clients and joins each to one room; with `reconnect` they come back, and join
    /// again, when they are cut.
    pub fn fill(
        cluster: &Cluster,
        pins: Pins,
        rooms: usize,
        first: i64,
        members: usize,
        size: usize,
        reconnect: Reconnect,
    ) -> Result<Self, String> {
        let count = rooms * members;
        let mut swarms = Swarms::start(Some(&cluster.deployment), first, count, pins.clients)?;
        swarms.dial_all(&Dial { reconnect, ..everybody(first, count) })?;
        for room in 0..rooms {
            let (stream, first) = (room as u32 + 1, first + (room * members) as i64);
            let name = room_name(stream);
            swarms.members(stream, Some(&name), first, members)?;
            join(&cluster.im, &name, first, members)?;
        }
        Ok(RoomLoad { swarms, first, rooms, members, size, sent: 0, pace: None })
    }

    /// Sends at `rate` over all rooms for `seconds`.
    pub fn in_background(
        &self,
        cluster: &Cluster,
        rate: f64,
        seconds: f64,
    ) -> Result<Background, String> {
        let (rooms, size, sent) = (self.rooms as u64, self.size, self.sent);
        let mut sender = cluster.sender()?;
        Ok(Background(thread::spawn(move || {
            pace::open_loop(rate, seconds, |index, due| {
                let index = sent + index;
                let stream = (index % rooms) as u32 + 1;
                let number = (index / rooms) as u32 + 1;
                let text = raw(Stamp::of_room(stream, number, due).json(size))?;
                sender.channel(&room_name(stream), &text)
            })
        })))
    }

    /// Waits until all is sent and delivered.
    pub fn settle(&mut self, background: Background) -> Result<Pace, String> {
        let pace = background.0.join().map_err(|_| "a sending thread panicked")??;
        self.pace = (self.sent == 0).then_some(pace);
        self.sent += pace.sent;
        let goal = self.sent * self.members as u64;
        // What does not come is found by the audit.
        let _ = self.swarms.wait("the last room messages", Duration::from_secs(10), |state| {
            state.delivered() >= goal || state.interrupted() > 0
        });
        Ok(pace)
    }

    /// Deliveries that were offered so far.
    pub fn audit(&mut self) -> Result<Account, String> {
        let (rooms, count) = (self.rooms as u64, self.members);
        let sent = (0..rooms)
            .map(|room| SentRoom {
                stream: room as u32 + 1,
                first: self.first + (room * count as u64) as i64,
                count,
                messages: (self.sent / rooms + u64::from(room < self.sent % rooms)) as u32,
                schedule: self.pace.map(|pace| pace.schedule(room, rooms)),
            })
            .collect();
        self.swarms.audit(&Sent { direct: Vec::new(), rooms: sent })
    }
}

impl Direct {
    /// Sends at `rate` for `seconds`.
    pub fn send_at(&mut self, rate: f64, seconds: f64, receipts: bool) -> Result<Pace, String> {
        let is_first = self.sent == 0;
        let pace = pace::open_loop(rate, seconds, |_, due| self.send_one(due, receipts))?;
        self.pace = is_first.then_some(pace);
        Ok(pace)
    }

    /// Sends the next message through the helper.
    fn send_one(&mut self, due: u64, receipt: bool) -> Result<(), String> {
        let (receiver, text) = self.message(self.sent, due, receipt);
        let author = self.author(self.sent, receipt);
        self.sender.direct(author, receiver, &raw(text)?, receipt)?;
        self.sent += 1;
        self.receipts += u64::from(receipt);
        Ok(())
    }
}
