//! What several Redis cost beside one that does the same: how evenly the work is spread, and the sum.

use imcore::{ClientId, Message};

use super::Bench;
use crate::{
    cluster::{Cluster, NodeOptions},
    report::Row,
    setups::{everybody, first_client, room_name},
    swarms::Swarms,
};

/// Nodes, on one Redis and shared among several.
const NODES: usize = 8;
/// How many these are.
const SEVERAL: usize = 4;
/// Bytes of a message.
const SIZE: usize = 128;
/// Messages in a call where there is one Redis; where there are several also so many for each of them.
const BATCH: usize = 250;

/// What is done on either side, in the order in which it is done.
const STEPS: [&str; 6] = [
    "connect",
    "join",
    "direct",
    "direct, as many a call for each Redis",
    "room",
    "room, as many a call for each Redis",
];

/// Microseconds that each Redis spent on each step.
type Spent = [Vec<f64>; STEPS.len()];

/// Connects, joins of a large room, messages to single clients and to the room.
pub fn shares(
    bench: &Bench,
    clients: usize,
    members: usize,
    messages: usize,
) -> Result<Row, String> {
    let mut row = Row::new("several Redis");
    for (name, value) in [("clients", clients), ("members", members), ("messages", messages)] {
        row.set(name, value);
    }
    let mut figures: [[Vec<f64>; 2]; STEPS.len()] = Default::default();
    for run in 0..bench.runs {
        let one = side(bench, 1, (clients, members, messages))?;
        let several = side(bench, SEVERAL, (clients, members, messages))?;
        for (step, [uneven, sum]) in figures.iter_mut().enumerate() {
            let total: f64 = several[step].iter().sum();
            let most = several[step].iter().copied().fold(0.0, f64::max);
            uneven.push(most * SEVERAL as f64 / total);
            sum.push(total / one[step].iter().sum::<f64>());
        }
        bench.progress.say(&format!("several Redis, run {}", run + 1));
    }
    for (step, [uneven, sum]) in STEPS.iter().zip(figures) {
        row.figure(&format!("{step}: busiest / mean"), "", Some(1.3), uneven);
        row.figure(&format!("{step}: CPU of all / of the one"), "", Some(1.15), sum);
    }
    Ok(row)
}

fn side(
    bench: &Bench,
    redis: usize,
    (clients, members, messages): (usize, usize, usize),
) -> Result<Spent, String> {
    let args = &bench.common.deployment;
    let options = NodeOptions { nodes: NODES, redis, ..NodeOptions::default() };
    let cluster = Cluster::start(args, &options)?;
    let (im, first) = (&cluster.im, first_client());
    let text = |error: imcore::Error| error.to_string();
    let mut spent = Spent::default();
    let mut step = 0;
    let mut spend = |what: &mut dyn FnMut() -> Result<(), String>| -> Result<(), String> {
        let meters = cluster.redis_meters();
        let before: Vec<_> = meters.iter().map(|meter| meter.cpu()).collect();
        what()?;
        let each = meters.iter().zip(before).map(|(meter, before)| (meter.cpu() - before) / 1e3);
        spent[step] = each.collect();
        step += 1;
        Ok(())
    };
    let core = args.pins().clients;
    let mut swarms = Swarms::start(Some(&cluster.deployment), first, clients, core)?;
    spend(&mut || swarms.dial_all(&everybody(first, clients)).map(drop))?;
    // Most of the members are not connected: to Redis they are as all others.
    let all: Vec<_> = (0..members).map(|index| ClientId::Int(first + index as i64)).collect();
    spend(&mut || {
        all.chunks(1000).try_for_each(|some| im.join(some, [room_name(0)]).map(drop).map_err(text))
    })?;
    let content = "x".repeat(SIZE);
    let to_one = |index: usize| Message::to([first + (index % clients) as i64]);
    let to_room = |_: usize| Message::to_channel(room_name(0));
    let of: [(usize, &dyn Fn(usize) -> Message); 4] =
        [(1, &to_one), (redis, &to_one), (1, &to_room), (redis, &to_room)];
    for (times, message) in of {
        spend(&mut || {
            let indices: Vec<_> = (0..messages).collect();
            indices.chunks(BATCH * times).try_for_each(|some| {
                let mut batch = im.batch();
                for index in some {
                    batch.add(message(*index), content.as_str()).map_err(text)?;
                }
                batch.send().map(drop).map_err(text)
            })
        })?;
    }
    cluster.check()?;
    Ok(spent)
}
