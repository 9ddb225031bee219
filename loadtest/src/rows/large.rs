//! Large numbers: everybody gone at once, with events that are kept and without, and a cluster of many nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use imcore::Message;

use super::Bench;
use crate::{
    args::DeploymentArgs,
    clock,
    cluster::{Cluster, NodeOptions},
    orders::{Dial, Sent, SentDirect, SentRoom},
    report::Row,
    setups::{everybody, first_client, join, room_name},
    stamp::{DIRECT, Stamp},
    swarms::Swarms,
};

/// New connects a second while the others go.
const CONNECT_RATE: f64 = 200.0;
/// Time of each phase.
const PHASE: Duration = Duration::from_secs(5);

/// p99 of new connects while `clients` sockets go away at once, beside a quiet time.
pub fn mass_disconnect(bench: &Bench, clients: usize) -> Result<Row, String> {
    let mut row = Row::new("mass disconnect");
    row.set("clients", clients);
    row.set("new connects a second", CONNECT_RATE);
    let mut figures: [Vec<f64>; 4] = Default::default();
    for run in 0..bench.runs {
        let [quiet, storm, gone] = disconnect_once(&bench.common.deployment, &mut row, clients)?;
        figures[0].push(storm / quiet);
        figures[1].push(quiet);
        figures[2].push(storm);
        figures[3].push(gone);
        bench.progress.say(&format!("mass disconnect run {}: {storm:.0} / {quiet:.0} us", run + 1));
    }
    let [ratio, quiet, storm, gone] = figures;
    row.figure("p99 of new connects during it / quiet", "", Some(5.0), ratio);
    row.figure("p99 of connects, quiet", "us", None, quiet);
    row.figure("p99 of connects, during it", "us", None, storm);
    row.figure("seconds until the last client was shown offline", "s", None, gone);
    Ok(row)
}

/// The same with events that are kept and without, in turn.
pub fn mass_disconnect_events(bench: &Bench, clients: usize) -> Result<Row, String> {
    let without = &bench.common.deployment;
    let mut with = without.clone();
    with.node_args.push("--events=1000000".to_owned());
    let mut row = Row::new("mass disconnect, events kept");
    row.set("clients", clients);
    row.set("new connects a second", CONNECT_RATE);
    let mut figures: [Vec<f64>; 5] = Default::default();
    for run in 0..bench.runs {
        let mut side = |deployment| disconnect_once(deployment, &mut row, clients);
        // Whoever is second finds what the first one has left to do.
        let (with, without) = match run % 2 {
            0 => {
                let with = side(&with)?;
                (with, side(without)?)
            }
            _ => {
                let without = side(without)?;
                (side(&with)?, without)
            }
        };
        let values = [with[1] / without[1], with[1], without[1], with[2], without[2]];
        figures.iter_mut().zip(values).for_each(|(figure, value)| figure.push(value));
        let (with, without) = (with[1], without[1]);
        bench.progress.say(&format!("with events run {}: {with:.0} / {without:.0} us", run + 1));
    }
    let [ratio, with, without, gone_with, gone_without] = figures;
    row.latencies.clear();
    row.figure("p99 of new connects during it with events / without", "", Some(1.25), ratio);
    row.figure("p99 of connects during it, with events", "us", None, with);
    row.figure("p99 of connects during it, without", "us", None, without);
    row.figure("seconds until the last was shown offline, with events", "s", None, gone_with);
    row.figure("seconds until the last was shown offline, without", "s", None, gone_without);
    Ok(row)
}

fn disconnect_once(
    args: &DeploymentArgs,
    row: &mut Row,
    clients: usize,
) -> Result<[f64; 3], String> {
    let cluster = Cluster::start(args, &NodeOptions::default())?;
    let core = args.pins().clients;
    let mut crowd = Swarms::start(Some(&cluster.deployment), first_client(), clients, core)?;
    crowd.dial_all(&everybody(first_client(), clients))?;
    let count = (CONNECT_RATE * PHASE.as_secs_f64()) as usize;
    let first = first_client() + 5_000_000;
    let mut new = Swarms::start(Some(&cluster.deployment), first, 3 * count, core)?;
    let phase = |new: &mut Swarms, number: usize| -> Result<(), String> {
        let rate = Some(CONNECT_RATE);
        let dial = Dial { rate, ..everybody(first + (number * count) as i64, count) };
        new.dial(&dial)
    };
    phase(&mut new, 0)?;
    settle(&new, count)?;
    new.collect()?;
    phase(&mut new, 1)?;
    settle(&new, 2 * count)?;
    let quiet = new.collect()?.connect;
    phase(&mut new, 2)?;
    thread::sleep(PHASE / 10);
    let gone = Gone::watch(&cluster)?;
    (0..crowd.pids().len()).try_for_each(|index| crowd.kill(index))?;
    settle(&new, 3 * count)?;
    let storm = new.collect()?.connect;
    let gone = gone.all(clients as u64)?;
    row.latencies.clear();
    row.latency("connect, quiet (last run)", &quiet);
    row.latency("connect, during it (last run)", &storm);
    cluster.check()?;
    Ok([quiet.quantile(0.99), storm.quantile(0.99), gone])
}

/// Counts offline events and notes when the last one came.
struct Gone {
    start: u64,
    count: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
    _bus: imcore::PresenceWatch,
}

impl Gone {
    fn watch(cluster: &Cluster) -> Result<Self, String> {
        let (count, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counter, latest) = (Arc::clone(&count), Arc::clone(&last));
        let offline = move |_client, _meta| {
            latest.store(clock::now(), Ordering::Relaxed);
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let bus = cluster.im.on_presence(|_, _| (), offline).map_err(|error| error.to_string())?;
        Ok(Gone { start: clock::now(), count, last, _bus: bus })
    }

    /// Seconds until all of `clients` were reported, each exactly once.
    fn all(&self, clients: u64) -> Result<f64, String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.count.load(Ordering::Relaxed) < clients && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        match self.count.load(Ordering::Relaxed) {
            seen if seen == clients => {
                Ok((self.last.load(Ordering::Relaxed) - self.start) as f64 / 1e9)
            }
            seen => Err(format!("{clients} clients went away, {seen} offline events came")),
        }
    }
}

fn settle(swarms: &Swarms, count: usize) -> Result<(), String> {
    swarms.wait("new connects", Duration::from_secs(60), |state| {
        (state.opened() + state.refused()) as usize >= count
    })?;
    swarms.look(|state| match state.refused() {
        0 => Ok(()),
        refused => Err(format!("{refused} new connects failed: {}", state.troubles())),
    })
}

/// Streams: everybody, and the members of the room.
const EVERYONE: u32 = 1;
const ROOM: u32 = 2;
/// Broadcasts, and as many messages to the room.
const MESSAGES: u32 = 3;

/// Many connections over many nodes: broadcasts, a room over all nodes, direct messages.
pub fn cluster(bench: &Bench, clients: usize, nodes: usize) -> Result<Row, String> {
    let mut args = bench.common.deployment.clone();
    // So many processes use every core.
    args.pin = false;
    let options = NodeOptions { nodes, reactors: Some(1), ..NodeOptions::default() };
    let cluster = Cluster::start(&args, &options)?;
    let mut row = Row::new("cluster");
    row.set("connections", clients);
    row.set("nodes", nodes);
    let empty = cluster.meter().memory().pss;
    let deployment = Some(&cluster.deployment);
    let mut swarms = Swarms::start(deployment, first_client(), clients, None)?;
    let (start, cpu) = (clock::now(), cluster.meter().cpu());
    swarms.dial_all(&everybody(first_client(), clients))?;
    let wall = (clock::now() - start) as f64 / 1e9;
    let cpu = (cluster.meter().cpu() - cpu) / 1e3;
    row.figure("connections a second, all nodes", "/s", None, vec![clients as f64 / wall]);
    row.figure("server CPU per connection", "us", None, vec![cpu / clients as f64]);
    let pss = (cluster.meter().memory().pss - empty) / clients as f64;
    row.figure("Pss per connection, from none", "B", None, vec![pss]);
    let sent = send_to_all(&cluster, &mut swarms, clients)?;
    row.add_account(&swarms.audit(&sent)?);
    let latencies = swarms.collect()?;
    row.latency("connect", &latencies.connect);
    row.latency("direct", &latencies.direct);
    cluster.check()?;
    Ok(row)
}

/// Sends messages of each kind, and waits for them.
fn send_to_all(cluster: &Cluster, swarms: &mut Swarms, clients: usize) -> Result<Sent, String> {
    const DIRECT_EACH: usize = 20_000;
    const MEMBERS: usize = 20_000;
    let failed = |error: imcore::Error| error.to_string();
    let (first, members) = (first_client(), MEMBERS.min(clients));
    swarms.members(EVERYONE, None, first, clients)?;
    swarms.members(ROOM, Some(&room_name(ROOM)), first, members)?;
    for number in 1..=MESSAGES {
        let text = raw(EVERYONE, number)?;
        cluster.im.send(Message::to_everyone(), &text).map_err(failed)?;
    }
    join(&cluster.im, &room_name(ROOM), first, members)?;
    for number in 1..=MESSAGES {
        let text = raw(ROOM, number)?;
        cluster.im.send(Message::to_channel(room_name(ROOM)), &text).map_err(failed)?;
    }
    let direct = DIRECT_EACH.min(clients);
    let receivers = (0..direct).map(|index| first + (index * (clients / direct)) as i64);
    for receiver in receivers.clone() {
        let due = clock::now();
        let text = finished(Stamp { stream: DIRECT, number: 1, due, sender: 0, receiver })?;
        cluster.im.send(Message::to([receiver]), &text).map_err(failed)?;
    }
    let goal = u64::from(MESSAGES) * (clients + members) as u64 + direct as u64;
    let _ = swarms.wait("everything", Duration::from_secs(120), |s| s.delivered() >= goal);
    let room =
        |stream, count| SentRoom { stream, first, count, messages: MESSAGES, schedule: None };
    let direct =
        receivers.map(|client| SentDirect { client, messages: 1, schedule: None }).collect();
    Ok(Sent { direct, rooms: vec![room(EVERYONE, clients), room(ROOM, members)] })
}

fn raw(stream: u32, number: u32) -> Result<Box<serde_json::value::RawValue>, String> {
    finished(Stamp::of_room(stream, number, clock::now()))
}

fn finished(stamp: Stamp) -> Result<Box<serde_json::value::RawValue>, String> {
    let text = stamp.json(128);
    serde_json::value::RawValue::from_string(text).map_err(|error| error.to_string())
}
