//! What it costs that nothing is lost: the log, fan-out to clients that can resume, and a storm of them.

use std::{path::Path, time::Duration};

use imcore::{Message, Receipt};
use serde_json::value::RawValue;

use super::Bench;
use crate::{
    args::DeploymentArgs,
    clock,
    cluster::{Cluster, NodeOptions},
    histogram::Latencies,
    orders::{Dial, Reconnect, Sent, SentRoom},
    report::Row,
    setups::{Direct, Room, Slice, TURNS, everybody, first_client},
    stamp::Stamp,
    swarms::Swarms,
};

/// Bytes of a message.
const SIZE: usize = 128;
/// Messages in flight to the room.
const IN_FLIGHT: u32 = 8;
/// Longest wait for everybody.
const PATIENCE: Duration = Duration::from_secs(60);
/// The stream of what everybody is sent.
const EVERYONE: u32 = 1;

/// Point to point from Redis with the log and without, each on a node and a Redis of its own.
pub fn log(bench: &Bench, receivers: usize, messages: u64) -> Result<Row, String> {
    let pins = bench.common.deployment.pins();
    let start = |message_log| -> Result<(Cluster, Direct), String> {
        let args = DeploymentArgs { message_log, ..bench.common.deployment.clone() };
        let cluster = Cluster::start(&args, &NodeOptions::default())?;
        let direct = Direct::on_server(&cluster, pins, receivers, 0, SIZE, Reconnect::Never)?;
        Ok((cluster, direct))
    };
    let mut sides = [start(true)?, start(false)?];
    let mut row = Row::new("point to point from Redis, with the log");
    row.set("receivers", receivers);
    row.set("messages", messages);
    row.set("bytes", SIZE);
    let window = receivers as u64;
    for (_, direct) in &mut sides {
        direct.saturate(window * 2, window, Receipt::None)?;
    }
    let mut figures: [Vec<f64>; 6] = Default::default();
    for run in 0..bench.runs {
        let (mut node, mut redis) = ([Slice::default(); 2], [0.0; 2]);
        for _ in 0..TURNS {
            for (side, (cluster, direct)) in sides.iter_mut().enumerate() {
                let before = cluster.redis_meter().cpu();
                node[side] +=
                    direct.saturate(messages / u64::from(TURNS), window, Receipt::None)?;
                redis[side] += cluster.redis_meter().cpu() - before;
            }
        }
        let [with, without] = node.map(|slice| slice.each());
        let [redis_with, redis_without] = redis.map(|cpu| cpu / 1e3 / node[0].units as f64);
        let values =
            [with / without, redis_with, with, without, redis_without, redis_with - redis_without];
        figures.iter_mut().zip(values).for_each(|(figure, value)| figure.push(value));
        bench.progress.say(&format!("log run {}: {with:.2} / {without:.2} us", run + 1));
    }
    let [ratio, redis_with, with, without, redis_without, added] = figures;
    row.figure("node CPU per message with the log / without", "", Some(1.15), ratio);
    row.figure("Redis CPU per message with the log, in batches", "us", Some(4.0), redis_with);
    row.figure("Redis CPU per message without", "us", None, redis_without);
    row.figure("Redis CPU per message that the log adds", "us", None, added);
    row.figure("node CPU per message with the log", "us", None, with);
    row.figure("node CPU per message without", "us", None, without);
    for (_, direct) in &mut sides {
        row.add_account(&direct.audit()?);
    }
    Ok(row)
}

/// A room of clients that can resume beside one of clients that cannot; and one on the node `before`, if it is given.
pub fn fanout(
    bench: &Bench,
    members: usize,
    messages: u32,
    before: Option<&Path>,
) -> Result<Row, String> {
    let args = &bench.common.deployment;
    let room = |args: &DeploymentArgs, reconnect| {
        Room::on_server(args, &NodeOptions::default(), members, SIZE, reconnect)
    };
    let mut rooms = vec![room(args, Reconnect::Resuming)?, room(args, Reconnect::Never)?];
    if let Some(imserver) = before {
        let args = DeploymentArgs { imserver: Some(imserver.to_owned()), ..args.clone() };
        rooms.push(room(&args, Reconnect::Never)?);
    }
    let mut row = Row::new("fan-out to clients that can resume, 8 in flight");
    row.set("members", members);
    row.set("bytes", SIZE);
    row.set("messages", messages);
    for room in &mut rooms {
        room.run(IN_FLIGHT, IN_FLIGHT)?;
    }
    // Whoever comes next pays for what a room leaves in the caches: each follows each of the others equally often.
    let turns = 4 * rooms.len();
    let windows = messages.div_ceil(turns as u32).next_multiple_of(IN_FLIGHT);
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); rooms.len()];
    for run in 0..bench.runs {
        let mut slices = vec![Slice::default(); rooms.len()];
        for turn in 0..turns {
            for place in 0..rooms.len() {
                let place = if turn % 2 == 0 { place } else { rooms.len() - 1 - place };
                let side = (turn / 2 + place) % rooms.len();
                slices[side] += rooms[side].run(windows, IN_FLIGHT)?;
            }
        }
        let each: Vec<_> = slices.iter().map(Slice::each).collect();
        bench.progress.say(&format!("fan-out run {}: {each:.2?} us per delivery", run + 1));
        costs.iter_mut().zip(each).for_each(|(costs, each)| costs.push(each));
    }
    let ratio =
        |above: &[f64], below: &[f64]| above.iter().zip(below).map(|(a, b)| a / b).collect();
    let (resuming, legacy) = (&costs[0], &costs[1]);
    row.figure("CPU per delivery, all resumable / legacy", "", Some(1.1), ratio(resuming, legacy));
    if let Some(before) = costs.get(2) {
        row.figure(
            "all resumable / legacy on the node before",
            "",
            Some(1.1),
            ratio(resuming, before),
        );
        row.figure("legacy / legacy on the node before", "", Some(1.01), ratio(legacy, before));
    }
    let names = ["all resumable", "legacy", "legacy on the node before"];
    for (name, costs) in names.iter().zip(&costs) {
        row.figure(&format!("CPU per delivery, {name}"), "us", None, costs.clone());
    }
    for room in &mut rooms {
        row.add_account(&room.audit()?);
    }
    Ok(row)
}

/// Everybody is cut off and comes back as fast as the node takes them: those who can resume, beside those who connect
/// anew.
pub fn storm(bench: &Bench, clients: usize) -> Result<Row, String> {
    let mut row = Row::new("everybody comes back");
    row.set("clients", clients);
    let mut figures: [Vec<f64>; 5] = Default::default();
    for run in 0..bench.runs {
        let resuming = come_back(bench, clients, Reconnect::Resuming, &mut row)?;
        let plain = come_back(bench, clients, Reconnect::Anew, &mut row)?;
        let [a, b] = [&resuming, &plain].map(|latencies| latencies.quantile(0.99));
        let [a50, b50] = [&resuming, &plain].map(|latencies| latencies.quantile(0.5));
        let values = [a / b, a, b, a50, b50];
        figures.iter_mut().zip(values).for_each(|(figure, value)| figure.push(value));
        bench.progress.say(&format!("storm run {}: p99 {a:.0} / {b:.0} us", run + 1));
        row.latencies.clear();
        row.latency("resuming, until told what was missed (last run)", &resuming);
        row.latency("connecting anew (last run)", &plain);
    }
    let [ratio, resuming, plain, resuming_p50, plain_p50] = figures;
    row.figure("p99 of resuming / connecting anew", "", Some(1.5), ratio);
    row.figure("p99 of resuming", "us", None, resuming);
    row.figure("p99 of connecting anew", "us", None, plain);
    row.figure("p50 of resuming", "us", None, resuming_p50);
    row.figure("p50 of connecting anew", "us", None, plain_p50);
    Ok(row)
}

/// How long each connect took when all came back, on a fresh node. Those who can resume have missed a message.
fn come_back(
    bench: &Bench,
    clients: usize,
    reconnect: Reconnect,
    row: &mut Row,
) -> Result<Latencies, String> {
    let args = &bench.common.deployment;
    let cluster = Cluster::start(args, &NodeOptions::default())?;
    let (first, core) = (first_client(), args.pins().clients);
    let mut swarms = Swarms::start(Some(&cluster.deployment), first, clients, core)?;
    let dial = Dial { reconnect, prepared: true, ..everybody(first, clients) };
    swarms.dial_all(&dial)?;
    swarms.members(EVERYONE, None, first, clients)?;
    swarms.collect()?;
    let (all, resume) = (clients as u64, reconnect == Reconnect::Resuming);
    swarms.cut_off()?;
    swarms.wait("everybody to be cut off", PATIENCE, |state| state.away() == all)?;
    if resume {
        to_everyone(&cluster)?;
    }
    swarms.dial(&Dial { again: true, ..dial })?;
    swarms.wait("everybody to be back", PATIENCE, |state| {
        state.returned() >= all && state.away() == 0
    })?;
    let connects = swarms.collect()?.connect;
    if !resume {
        to_everyone(&cluster)?;
    }
    swarms.wait("the message", PATIENCE, |state| state.complete(EVERYONE) == 1)?;
    let room = SentRoom { stream: EVERYONE, first, count: clients, messages: 1, schedule: None };
    row.add_account(&swarms.audit(&Sent { direct: Vec::new(), rooms: vec![room] })?);
    let resumed = swarms.look(|state| state.resumed());
    if resume && resumed != all {
        row.fault(format!("of {all} clients {resumed} went on from where they were"));
    }
    cluster.check()?;
    Ok(connects)
}

fn to_everyone(cluster: &Cluster) -> Result<(), String> {
    let text = Stamp::of_room(EVERYONE, 1, clock::now()).json(SIZE);
    let text = RawValue::from_string(text).map_err(|error| error.to_string())?;
    cluster.im.send(Message::to_everyone(), &text).map(drop).map_err(|error| error.to_string())
}
