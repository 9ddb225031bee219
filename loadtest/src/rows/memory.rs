//! Memory per idle connection: the slope between two numbers of connections on one node, then after
//! a large broadcast to all.

use std::{thread, time::Duration};

use imcore::Message;

use super::Bench;
use crate::{
    clock,
    cluster::{Cluster, NodeOptions},
    meter::Memory,
    orders::{Sent, SentRoom},
    report::Row,
    setups::{everybody, first_client},
    stamp::Stamp,
    swarms::Swarms,
};

/// Size of the broadcast.
const BROADCAST: usize = 64 << 10;
const STREAM: u32 = 1;

/// Bytes per connection between `few` and `many`, and after the broadcast and `settle` seconds.
pub fn idle(bench: &Bench, few: usize, many: usize, settle: u64) -> Result<Row, String> {
    let mut row = Row::new("memory per idle connection");
    row.set("connections", format!("{few}..{many}"));
    row.set("broadcast", BROADCAST);
    row.set("settle", format!("{settle}s"));
    let mut figures: [Vec<f64>; 5] = Default::default();
    for run in 0..bench.runs {
        let [before, full, after] = one(bench, &mut row, few, many, settle)?;
        let slope = |to: f64, from: f64| (to - from) / (many - few) as f64;
        let pss = slope(full.pss, before.pss);
        figures[0].push(pss);
        figures[1].push(slope(full.rss, before.rss));
        figures[2].push(slope(full.anonymous, before.anonymous));
        figures[3].push(slope(after.pss, before.pss));
        figures[4].push(after.pss / full.pss);
        bench.progress.say(&format!("memory run {}: {pss:.0} B per connection", run + 1));
    }
    let [pss, rss, anonymous, after, growth] = figures;
    row.figure("Pss per connection", "B", Some(600.0), pss);
    row.figure("RSS per connection", "B", None, rss);
    row.figure("anonymous Pss per connection", "B", None, anonymous);
    row.figure("Pss per connection after the broadcast", "B", None, after);
    row.figure("Pss of the node after / before the broadcast", "", Some(1.1), growth);
    Ok(row)
}

fn one(
    bench: &Bench,
    row: &mut Row,
    few: usize,
    many: usize,
    settle: u64,
) -> Result<[Memory; 3], String> {
    let args = &bench.common.deployment;
    // Default settings, also of the node's threads; only the clients keep out of its way.
    let cluster = Cluster::start(args, &NodeOptions::default())?;
    let mut swarms =
        Swarms::start(Some(&cluster.deployment), first_client(), many, args.pins().clients)?;
    swarms.members(STREAM, None, first_client(), many)?;
    swarms.dial_all(&everybody(first_client(), few))?;
    quiet();
    let before = cluster.meter().memory();
    swarms.dial_all(&everybody(first_client() + few as i64, many - few))?;
    quiet();
    let full = cluster.meter().memory();
    let stamp = Stamp::of_room(STREAM, 1, clock::now());
    let text = serde_json::value::RawValue::from_string(stamp.json(BROADCAST));
    let text = text.map_err(|error| error.to_string())?;
    cluster.im.send(Message::to_everyone(), &text).map_err(|error| error.to_string())?;
    swarms.wait("the broadcast", Duration::from_secs(120), |state| {
        state.delivered() + state.ended() >= many as u64
    })?;
    thread::sleep(Duration::from_secs(settle));
    let after = cluster.meter().memory();
    let room = SentRoom {
        stream: STREAM,
        first: first_client(),
        count: many,
        messages: 1,
        schedule: None,
    };
    row.add_account(&swarms.audit(&Sent { direct: vec![], rooms: vec![room] })?);
    cluster.check()?;
    Ok([before, full, after])
}

/// Presence reports and buffers of the connects themselves are over after this.
fn quiet() {
    thread::sleep(Duration::from_secs(3));
}
