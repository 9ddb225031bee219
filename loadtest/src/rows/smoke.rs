//! The smoke run: a little of everything, for continuous integration.

use super::{Bench, direct, resumable, room, scenario};
use crate::{
    args::{FanoutArgs, P2pArgs, ProfileArgs},
    events::{
        self,
        args::{Break, EventsArgs},
    },
    report::Row,
};

/// A small run of everything: a floor, a room, single messages with receipts and with the log, clients that resume,
/// churn, events that are kept; well below 30 s.
pub fn run(bench: &Bench) -> Result<Vec<Row>, String> {
    let fanout = FanoutArgs {
        members: 300,
        rooms: 1,
        in_flight: 8,
        messages: 40,
        size: 128,
        rate: None,
        seconds: 0.0,
    };
    let p2p = P2pArgs {
        receivers: 100,
        messages: 4000,
        window: Some(1000),
        size: 128,
        receipts: true,
        rate: None,
        seconds: 0.0,
    };
    let profile = ProfileArgs {
        nodes: 2,
        clients: 400,
        direct_rate: 200.0,
        rooms: 4,
        room_rate: 20.0,
        churn_rate: 60.0,
        size: 200,
        seconds: 4.0,
        reconnect: false,
        resume: false,
    };
    let events = EventsArgs {
        common: bench.common.clone(),
        opens: 600,
        clients: 300,
        seconds: 3.0,
        away: 1.0,
        // What a consumer had that was killed, others are given after 30 s.
        faults: vec![Break::Target, Break::Nodes, Break::Redis],
    };
    let mut rows = vec![
        room::fanout(bench, &fanout)?,
        direct::p2p(bench, &p2p)?,
        direct::p2p(bench, &P2pArgs { receipts: false, ..p2p.clone() })?,
        direct::receipts(bench, &p2p, &direct::ACKNOWLEDGED)?,
        resumable::log(bench, 300, 4000)?,
        resumable::fanout(bench, 300, 40, None)?,
        resumable::storm(bench, 300)?,
        scenario::mixed(bench, &profile)?,
        events::run(&events, &bench.progress)?,
    ];
    // So little work is mostly the cost of starting it.
    rows.iter_mut().for_each(Row::drop_targets);
    Ok(rows)
}
