//! A room with its members connected, on a server or on a floor.

use std::ops::Range;

use imcore::{ClientId, ImClient, broker::Envelope};

use super::{PATIENCE, Slice, everybody, first_client, room_name, slice};
use crate::{
    account::Account,
    args::{DeploymentArgs, Pins},
    clock,
    cluster::{Cluster, NodeOptions},
    floor::Floor,
    meter::Meter,
    orders::{Dial, Reconnect, Sent, SentRoom},
    stamp::Stamp,
    swarms::Swarms,
};

/// The room that a [`Room`] sends to.
const STREAM: u32 = 1;

/// Who writes to the members of a room.
pub enum Writer {
    Server(Box<Cluster>),
    Plain(Floor),
    /// The same floor, told to merge.
    Merging(Floor),
}

/// A room with its members connected.
pub struct Room {
    pub writer: Writer,
    pub swarms: Swarms,
    pub meter: Meter,
    members: usize,
    size: usize,
    sent: u32,
}

impl Room {
    /// Starts a server and fills a room on it.
    pub fn on_server(
        args: &DeploymentArgs,
        options: &NodeOptions,
        members: usize,
        size: usize,
        reconnect: Reconnect,
    ) -> Result<Self, String> {
        let cluster = Cluster::start(args, options)?;
        let clients = args.pins().clients;
        let mut swarms =
            Swarms::start(Some(&cluster.deployment), first_client(), members, clients)?;
        swarms.dial_all(&Dial { reconnect, ..everybody(first_client(), members) })?;
        join(&cluster.im, &room_name(STREAM), first_client(), members)?;
        swarms.members(STREAM, Some(&room_name(STREAM)), first_client(), members)?;
        let meter = cluster.meter();
        let writer = Writer::Server(Box::new(cluster));
        Ok(Room { writer, swarms, meter, members, size, sent: 0 })
    }

    /// Starts a floor with as many clients.
    pub fn on_floor(
        pins: Pins,
        merging: bool,
        members: usize,
        size: usize,
    ) -> Result<Self, String> {
        let mut floor = Floor::start(None, false, pins.server)?;
        let mut swarms = Swarms::start(None, first_client(), members, pins.clients)?;
        let dial =
            Dial { floor: Some(floor.address.clone()), ..everybody(first_client(), members) };
        swarms.dial_all(&dial)?;
        floor.accepted(members)?;
        swarms.members(STREAM, None, first_client(), members)?;
        let meter = floor.meter();
        let writer = if merging { Writer::Merging(floor) } else { Writer::Plain(floor) };
        Ok(Room { writer, swarms, meter, members, size, sent: 0 })
    }

    /// Sends `messages`, `in_flight` at a time: the next goes out when all deliveries of an earlier one
    /// are in.
    pub fn run(&mut self, messages: u32, in_flight: u32) -> Result<Slice, String> {
        let goal = self.sent + messages;
        let meter = self.meter.clone();
        let members = self.members as u64;
        slice(&meter, || {
            loop {
                let complete = self.swarms.look(|state| state.complete(STREAM));
                let allowed = (complete as u32 + in_flight).min(goal);
                if complete >= u64::from(goal) {
                    return Ok(u64::from(messages) * members);
                }
                if allowed > self.sent {
                    self.send(self.sent + 1..allowed + 1)?;
                    self.sent = allowed;
                }
                self.swarms.wait_unbroken(
                    "a room message to reach all members",
                    PATIENCE,
                    |state| state.complete(STREAM) > complete,
                )?;
            }
        })
    }

    fn send(&mut self, numbers: Range<u32>) -> Result<(), String> {
        let (due, size) = (clock::now(), self.size);
        let texts = numbers.map(|number| Stamp::of_room(STREAM, number, due).json(size));
        match &mut self.writer {
            Writer::Plain(floor) => floor.send(texts, false),
            Writer::Merging(floor) => floor.send(texts, true),
            Writer::Server(cluster) => {
                let texts: Vec<_> = texts.collect();
                publish_room(&cluster.im, &cluster.deployment.servers, &room_name(STREAM), &texts)
            }
        }
    }

    /// What became of everything that was sent.
    pub fn audit(&mut self) -> Result<Account, String> {
        let (first, count) = (first_client(), self.members);
        let room = SentRoom { stream: STREAM, first, count, messages: self.sent, schedule: None };
        self.swarms.audit(&Sent { direct: Vec::new(), rooms: vec![room] })
    }
}

/// Joins clients to a room in batches, each one round trip.
pub fn join(im: &ImClient, room: &str, first: i64, count: usize) -> Result<(), String> {
    let clients: Vec<i64> = (first..first + count as i64).collect();
    for chunk in clients.chunks(1000) {
        im.join(chunk.iter().copied(), [room])
            .map_err(|error| format!("joining {room}: {error}"))?;
    }
    Ok(())
}

/// Publishes room messages to all nodes in one pipeline, as `ImClient::send` does one by one.
fn publish_room(
    im: &ImClient,
    servers: &[String],
    room: &str,
    texts: &[String],
) -> Result<(), String> {
    let envelope = |text: &String| Envelope::Channel {
        sender: ClientId::Int(0),
        channel: Some(room.to_owned()),
        content: text.clone(),
        trace: None,
    };
    let outgoing: Vec<_> = texts
        .iter()
        .flat_map(|text| servers.iter().map(move |server| (&**server, envelope(text))))
        .collect();
    im.broker().publish(&outgoing).map_err(|error| format!("publishing: {error}"))
}
