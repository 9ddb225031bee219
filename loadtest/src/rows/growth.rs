//! How cost grows: with the size of a room, with the number of reactors.

use std::time::Duration;

use imcore::Message;

use super::Bench;
use crate::{
    clock,
    cluster::{Cluster, NodeOptions},
    orders::{Reconnect, Sent, SentRoom},
    report::{Curves, Row},
    setups::{self, Room, Slice, TURNS, everybody, room_name, slice},
    stamp::Stamp,
    swarms::Swarms,
};

/// Members of each room that are on the measured node.
const HERE: usize = 100;
/// Messages and joins in one measured stretch.
const STEPS: u32 = 100;

/// CPU on the node per join and per room message, for rooms of which 100 members are here.
pub fn room_cost(bench: &Bench, quick: bool) -> Result<Row, String> {
    let sizes: &[usize] = if quick { &[1000, 10_000] } else { &[1000, 10_000, 100_000] };
    // Two names, one of which nobody serves: it owns the members that are elsewhere.
    let options = NodeOptions { phantoms: 1, ..NodeOptions::default() };
    let cluster = Cluster::start(&bench.common.deployment, &options)?;
    let pins = bench.common.deployment.pins();
    // Even clients belong to the first node, odd ones to the name that nobody serves.
    let mut here = EvenClients::connect(&cluster, pins.clients)?;
    let mut row = Row::new("cost of a room as it grows");
    row.set("members here", HERE);
    let mut curves: [Vec<(f64, f64)>; 3] = Default::default();
    for (index, size) in sizes.iter().enumerate() {
        let stream = index as u32 + 1;
        let room = room_name(stream);
        for client in &here.clients {
            cluster.im.join([*client], [&room]).map_err(|error| format!("joining: {error}"))?;
        }
        here.swarms.members(stream, Some(&room), setups::first_client(), HERE * 2)?;
        join_elsewhere(&cluster, &room, size - HERE)?;
        here.message(&cluster, stream)?;
        let mut figures: [Vec<f64>; 3] = Default::default();
        for _ in 0..bench.runs {
            let meter = cluster.meter();
            let messages = slice(&meter, || {
                (0..STEPS).try_for_each(|_| here.message(&cluster, stream))?;
                Ok(u64::from(STEPS))
            })?;
            let local = slice(&meter, || here.rejoin(&cluster, &room, stream))?;
            let foreign = slice(&meter, || rejoin_elsewhere(&cluster, &mut here, &room, stream))?;
            let message = messages.each();
            figures[0].push(message);
            // Each step there ends with a message that proves that the change has arrived.
            figures[1].push((local.each() - message) / 2.0);
            figures[2].push((foreign.each() - message) / 2.0);
        }
        let names = ["per room message", "per join or leave here", "per join or leave elsewhere"];
        for ((name, values), curve) in names.iter().zip(figures).zip(&mut curves) {
            let target = (*name == names[0] && *size == 10_000).then_some(1000.0);
            row.figure(&format!("{name}, room of {size}"), "us", target, values);
            curve.push((*size as f64, row.figures[row.figures.len() - 1].median));
        }
        bench.progress.say(&format!("room of {size} measured"));
    }
    for (curve, name) in curves.into_iter().zip(["message", "join here", "join elsewhere"]) {
        let flat = curve[curve.len() - 1].1 / curve[0].1.max(0.01);
        row.note(format!("{name}: largest room / smallest = {flat:.2}"));
        let title = format!("Node CPU per {name}, us, over members");
        row.curves.push(Curves { title, lines: vec![(String::new(), curve)] });
    }
    row.add_account(&here.audit()?);
    Ok(row)
}

/// Members on the measured node, over one range of clients.
struct EvenClients {
    swarms: Swarms,
    clients: Vec<i64>,
    sent: Vec<u32>,
}

impl EvenClients {
    fn connect(cluster: &Cluster, core: Option<usize>) -> Result<Self, String> {
        let range = HERE * 2;
        let mut swarms =
            Swarms::start(Some(&cluster.deployment), setups::first_client(), range, core)?;
        let clients: Vec<i64> =
            (0..HERE as i64).map(|index| setups::first_client() + 2 * index).collect();
        for client in &clients {
            swarms.dial_all(&everybody(*client, 1))?;
        }
        Ok(EvenClients { swarms, clients, sent: Vec::new() })
    }

    /// One room message, until all members here have it.
    fn message(&mut self, cluster: &Cluster, stream: u32) -> Result<(), String> {
        let index = stream as usize - 1;
        if self.sent.len() <= index {
            self.sent.resize(index + 1, 0);
        }
        self.sent[index] += 1;
        let number = self.sent[index];
        let text = Stamp::of_room(stream, number, clock::now()).json(128);
        let text = serde_json::value::RawValue::from_string(text).map_err(|e| e.to_string())?;
        let before = self.swarms.look(|state| state.delivered());
        cluster
            .im
            .send(Message::to_channel(room_name(stream)), &text)
            .map_err(|error| format!("sending: {error}"))?;
        let goal = before + HERE as u64;
        self.swarms.wait("a room message", Duration::from_secs(20), |s| s.delivered() >= goal)
    }

    /// A member here leaves and joins again; the message after it proves that the node knows.
    fn rejoin(&mut self, cluster: &Cluster, room: &str, stream: u32) -> Result<u64, String> {
        for step in 0..STEPS as usize {
            let client = self.clients[step % HERE];
            let changed =
                cluster.im.leave([client], [room]).and_then(|()| cluster.im.join([client], [room]));
            changed.map_err(|error| format!("joining: {error}"))?;
            self.message(cluster, stream)?;
        }
        Ok(u64::from(STEPS))
    }

    fn audit(&mut self) -> Result<crate::account::Account, String> {
        let mut rooms = Vec::new();
        for (index, messages) in self.sent.iter().enumerate() {
            let stream = index as u32 + 1;
            rooms.extend(self.clients.iter().map(|first| SentRoom {
                stream,
                first: *first,
                count: 1,
                messages: *messages,
                schedule: None,
            }));
        }
        self.swarms.audit(&Sent { direct: Vec::new(), rooms })
    }
}

/// Odd clients belong to the node that does not exist.
fn elsewhere(index: usize) -> i64 {
    50_000_001 + 2 * index as i64
}

fn join_elsewhere(cluster: &Cluster, room: &str, count: usize) -> Result<(), String> {
    let clients: Vec<i64> = (0..count).map(elsewhere).collect();
    for chunk in clients.chunks(1000) {
        cluster
            .im
            .join(chunk.iter().copied(), [room])
            .map_err(|error| format!("joining: {error}"))?;
    }
    Ok(())
}

fn rejoin_elsewhere(
    cluster: &Cluster,
    here: &mut EvenClients,
    room: &str,
    stream: u32,
) -> Result<u64, String> {
    for step in 0..STEPS as usize {
        let client = elsewhere(step);
        let left = cluster.im.leave([client], [room]);
        let changed = left.and_then(|()| cluster.im.join([client], [room]));
        changed.map_err(|error| format!("joining: {error}"))?;
        here.message(cluster, stream)?;
    }
    Ok(u64::from(STEPS))
}

/// CPU per delivery with several reactors beside one, in turns.
pub fn reactors(bench: &Bench, members: usize) -> Result<Row, String> {
    // On one core the reactors would not meet; what they cost each other shows on all cores.
    let mut args = bench.common.deployment.clone();
    args.pin = false;
    let room = |count| {
        let options = NodeOptions { reactors: Some(count), ..NodeOptions::default() };
        Room::on_server(&args, &options, members, 128, Reconnect::Never)
    };
    let counts = [1, 2, 4];
    let mut rooms = counts.iter().map(|count| room(*count)).collect::<Result<Vec<_>, _>>()?;
    let mut row = Row::new("fan-out with several reactors");
    row.set("members", members);
    let mut costs: [Vec<f64>; 3] = Default::default();
    for room in &mut rooms {
        room.run(3, 1)?;
    }
    for run in 0..bench.runs {
        let mut slices = [Slice::default(); 3];
        for _ in 0..TURNS {
            for (room, slice) in rooms.iter_mut().zip(&mut slices) {
                *slice += room.run(5, 1)?;
            }
        }
        for (slice, costs) in slices.iter().zip(&mut costs) {
            costs.push(slice.each());
        }
        bench.progress.say(&format!("reactors run {}", run + 1));
    }
    for (index, count) in counts.iter().enumerate().skip(1) {
        let ratios = costs[index].iter().zip(&costs[0]).map(|(many, one)| many / one).collect();
        row.figure(&format!("CPU per delivery, {count} reactors / 1"), "", Some(1.1), ratios);
    }
    for (count, costs) in counts.iter().zip(costs) {
        row.figure(&format!("CPU per delivery, {count} reactors"), "us", None, costs);
    }
    for room in &mut rooms {
        row.add_account(&room.audit()?);
    }
    Ok(row)
}
