//! Point to point: CPU per message beside the Redis-fed floor's, receipts, latency, and a busy room.

use imcore::Receipt;

use super::{Bench, threads_note};
use crate::{
    args::P2pArgs,
    cluster::{Cluster, NodeOptions},
    histogram::Latencies,
    orders::Reconnect,
    perf::Profile,
    report::Row,
    setups::{Direct, Slice, TURNS, first_client},
    traffic::{self, RoomLoad},
};

/// Clients that get the receipts.
const SENDERS: usize = 100;
/// Messages a second to the busy room.
const ROOM_RATE: f64 = 5.0;

pub fn p2p(bench: &Bench, args: &P2pArgs) -> Result<Row, String> {
    match (args.rate, args.receipts) {
        (Some(rate), receipts) => latency(bench, args, rate, receipts),
        (None, true) => receipts(bench, args, &WITH_OR_WITHOUT),
        (None, false) => saturated(bench, args),
    }
}

fn describe(row: &mut Row, args: &P2pArgs) {
    row.set("receivers", args.receivers);
    row.set("bytes", args.size);
}

/// With one message per receiver under way nothing can merge, and the plain floor is the measure; with more the
/// server may write together what is under way to one receiver, and so must the floor.
fn saturated(bench: &Bench, args: &P2pArgs) -> Result<Row, String> {
    let pins = bench.common.deployment.pins();
    let cluster = Cluster::start(&bench.common.deployment, &NodeOptions::default())?;
    let redis = cluster.redis_meter();
    let window = window(args);
    let merging = window > args.receivers as u64;
    let mut server =
        Direct::on_server(&cluster, pins, args.receivers, 0, args.size, Reconnect::Never)?;
    let mut floor = Direct::on_floor(&cluster, pins, merging, args.receivers, args.size)?;
    let (name, floor_name, target) = match merging {
        false => ("point to point from Redis, one per receiver", "Redis-fed floor", Some(1.35)),
        true => {
            ("point to point from Redis, several per receiver", "merging Redis-fed floor", None)
        }
    };
    let mut row = Row::new(name);
    describe(&mut row, args);
    row.set("messages", args.messages);
    row.set("window", window);
    server.saturate(args.receivers as u64 * 2, window, Receipt::None)?;
    floor.saturate(args.receivers as u64 * 2, window, Receipt::None)?;
    let threads = server.meter.threads();
    let mut figures: [Vec<f64>; 7] = Default::default();
    for run in 0..bench.runs {
        let redis_cpu = redis.cpu();
        let [mut a, mut b] = [Slice::default(); 2];
        for _ in 0..TURNS {
            a += server.saturate(args.messages / u64::from(TURNS), window, Receipt::None)?;
            b += floor.saturate(args.messages / u64::from(TURNS), window, Receipt::None)?;
        }
        let both = (a.units + b.units) as f64;
        let redis_cpu = (redis.cpu() - redis_cpu) / 1e3 / both;
        let (ours, theirs) = (a.each(), b.each());
        let values = [ours / theirs, ours, theirs, a.rate(), a.load(), b.load(), redis_cpu];
        figures.iter_mut().zip(values).for_each(|(figure, value)| figure.push(value));
        bench.progress.say(&format!(
            "p2p run {}: server {ours:.2} us, floor {theirs:.2} us per message",
            run + 1
        ));
    }
    let [ratio, cpu, floor_cpu, rate, load, floor_load, redis_cpu] = figures;
    row.figure(&format!("CPU per message / {floor_name}"), "", target, ratio);
    row.figure("server CPU per message", "us", None, cpu);
    row.figure("floor CPU per message", "us", None, floor_cpu);
    row.figure("messages a second", "/s", None, rate);
    row.figure("cores that the server used", "", None, load);
    row.figure("cores that the floor used", "", None, floor_load);
    row.figure("Redis CPU per message", "us", None, redis_cpu);
    threads_note(&mut row, &server.meter, &threads);
    if let Some(file) = &bench.perf {
        let _profile = Profile::start(&server.meter, file)?;
        server.saturate(args.messages * 3, window, Receipt::None)?;
    }
    row.add_account(&server.audit()?);
    row.add_account(&floor.audit()?);
    Ok(row)
}

fn window(args: &P2pArgs) -> u64 {
    args.window.unwrap_or(args.receivers as u64)
}

/// Messages with receipts of one level beside those of another.
pub struct Levels {
    row: &'static str,
    level: (&'static str, Receipt),
    beside: (&'static str, Receipt),
    target: f64,
}

pub const WITH_OR_WITHOUT: Levels = Levels {
    row: "point to point with receipts",
    level: ("with receipts", Receipt::Sent),
    beside: ("without", Receipt::None),
    target: 2.2,
};

/// Clients that cannot acknowledge: each message is followed by a ping, which they answer.
pub const ACKNOWLEDGED: Levels = Levels {
    row: "point to point with receipts that are acknowledged",
    level: ("acknowledged", Receipt::Acknowledged),
    beside: ("sent", Receipt::Sent),
    target: 1.5,
};

/// Both levels in turns on the same connections.
pub fn receipts(bench: &Bench, args: &P2pArgs, levels: &Levels) -> Result<Row, String> {
    let &Levels { row, level: (name, level), beside: (other_name, other), target } = levels;
    let pins = bench.common.deployment.pins();
    let cluster = Cluster::start(&bench.common.deployment, &NodeOptions::default())?;
    let mut server =
        Direct::on_server(&cluster, pins, args.receivers, SENDERS, args.size, Reconnect::Never)?;
    let mut row = Row::new(row);
    describe(&mut row, args);
    row.set("messages", args.messages);
    row.set("senders", SENDERS);
    let half = args.messages / 2;
    server.saturate(args.receivers as u64 * 2, window(args), level)?;
    let mut figures: [Vec<f64>; 3] = Default::default();
    for run in 0..bench.runs {
        let [mut a, mut b] = [Slice::default(); 2];
        for _ in 0..TURNS {
            b += server.saturate(half / u64::from(TURNS), window(args), other)?;
            a += server.saturate(half / u64::from(TURNS), window(args), level)?;
        }
        let (a, b) = (a.each(), b.each());
        figures.iter_mut().zip([a / b, a, b]).for_each(|(figure, value)| figure.push(value));
        bench.progress.say(&format!("receipts run {}: {a:.2} / {b:.2} us", run + 1));
    }
    let [ratio, a, b] = figures;
    row.figure(&format!("CPU per message {name} / {other_name}"), "", Some(target), ratio);
    row.figure(&format!("server CPU per message {name}"), "us", None, a);
    row.figure(&format!("server CPU per message {other_name}"), "us", None, b);
    if let Some(file) = &bench.perf {
        let _profile = Profile::start(&server.meter, file)?;
        server.saturate(args.messages, window(args), level)?;
    }
    let offline = server.swarms.look(|state| state.receipts_offline());
    row.note(format!("receipts that said offline: {offline} (all receivers stay connected)"));
    row.add_account(&server.audit()?);
    Ok(row)
}

/// Latency at a rate, on the server and on the floor in turns.
fn latency(bench: &Bench, args: &P2pArgs, rate: f64, receipts: bool) -> Result<Row, String> {
    let pins = bench.common.deployment.pins();
    let cluster = Cluster::start(&bench.common.deployment, &NodeOptions::default())?;
    let senders = if receipts { SENDERS } else { 0 };
    let mut server =
        Direct::on_server(&cluster, pins, args.receivers, senders, args.size, Reconnect::Never)?;
    let mut floor = Direct::on_floor(&cluster, pins, false, args.receivers, args.size)?;
    let mut row = Row::new("point to point, latency at a rate");
    describe(&mut row, args);
    row.set("rate", rate);
    row.set("seconds", args.seconds);
    let (mut ours, mut theirs) = (Latencies::default(), Latencies::default());
    let mut figures: [Vec<f64>; 8] = Default::default();
    traffic::direct(&mut server, rate, 1.0, receipts)?;
    traffic::direct(&mut floor, rate, 1.0, false)?;
    let mut paces = Vec::new();
    for run in 0..bench.runs {
        let before = [server.meter.cpu(), floor.meter.cpu()];
        let (a, pace) = traffic::direct(&mut server, rate, args.seconds, receipts)?;
        let (b, floor_pace) = traffic::direct(&mut floor, rate, args.seconds, false)?;
        paces.extend([pace, floor_pace]);
        for (index, (meter, before)) in [&server.meter, &floor.meter].iter().zip(before).enumerate()
        {
            figures[6 + index].push((meter.cpu() - before) / 1e3 / pace.sent as f64);
        }
        for (index, share) in [(0, 0.5), (1, 0.99)] {
            figures[index].push(a.quantile(share) / b.quantile(share));
            figures[2 + index].push(a.quantile(share));
            figures[4 + index].push(b.quantile(share));
        }
        ours.merge(&a.recorded());
        theirs.merge(&b.recorded());
        bench.progress.say(&format!("latency run {}", run + 1));
    }
    let [p50, p99, server_p50, server_p99, floor_p50, floor_p99, cpu, floor_cpu] = figures;
    row.figure("p50 / Redis-fed floor", "", Some(1.2), p50);
    row.figure("p99 / Redis-fed floor", "", Some(1.5), p99);
    row.figure("server p50", "us", None, server_p50);
    row.figure("floor p50", "us", None, floor_p50);
    row.figure("server p99", "us", None, server_p99);
    row.figure("floor p99", "us", None, floor_p99);
    // Mostly wake-ups: far from saturation hardly two messages share one.
    row.figure("server CPU per message at this rate", "us", None, cpu);
    row.figure("floor CPU per message at this rate", "us", None, floor_cpu);
    row.latency("server", &ours);
    row.latency("Redis-fed floor", &theirs);
    row.judge_pace(&paces);
    row.add_account(&server.audit()?);
    row.add_account(&floor.audit()?);
    Ok(row)
}

/// Latency of single messages with and without a busy room on the same node, in turns.
pub fn under_room(bench: &Bench, members: usize, seconds: f64) -> Result<Row, String> {
    const RECEIVERS: usize = 1000;
    const RATE: f64 = 1000.0;
    let pins = bench.common.deployment.pins();
    let cluster = Cluster::start(&bench.common.deployment, &NodeOptions::default())?;
    let mut server = Direct::on_server(&cluster, pins, RECEIVERS, 0, 128, Reconnect::Never)?;
    let first = first_client() + 1_000_000;
    let mut room = RoomLoad::fill(&cluster, pins, 1, first, members, 128, Reconnect::Never)?;
    let mut row = Row::new("point to point under a busy room");
    row.set("receivers", RECEIVERS);
    row.set("rate", RATE);
    row.set("room members", members);
    row.set("room messages a second", ROOM_RATE);
    let (mut quiet, mut busy) = (Latencies::default(), Latencies::default());
    let mut figures: [Vec<f64>; 4] = Default::default();
    let mut paces = Vec::new();
    traffic::direct(&mut server, RATE, 1.0, false)?;
    for run in 0..bench.runs {
        let (a, quiet_pace) = traffic::direct(&mut server, RATE, seconds, false)?;
        let background = room.in_background(&cluster, ROOM_RATE, seconds)?;
        let (b, busy_pace) = traffic::direct(&mut server, RATE, seconds, false)?;
        paces.extend([quiet_pace, busy_pace, room.settle(background)?]);
        figures[0].push(b.quantile(0.99) / a.quantile(0.99));
        figures[1].push(a.quantile(0.99));
        figures[2].push(b.quantile(0.99));
        figures[3].push(b.quantile(0.99) - a.quantile(0.99));
        quiet.merge(&a.recorded());
        busy.merge(&b.recorded());
        bench.progress.say(&format!("under room run {}", run + 1));
    }
    let [ratio, without, with, added] = figures;
    row.figure("p99 with the room / without", "", None, ratio);
    row.figure("p99 without the room", "us", None, without);
    row.figure("p99 with the room", "us", None, with);
    row.figure("p99 that the room adds", "us", None, added);
    row.latency("without the room", &quiet);
    row.latency("with the room", &busy);
    row.latency("room message to its members", &room.swarms.collect()?.room);
    row.judge_pace(&paces);
    row.note("the clients of the room share their core with the receivers and Redis");
    row.add_account(&server.audit()?);
    row.add_account(&room.audit()?);
    Ok(row)
}
