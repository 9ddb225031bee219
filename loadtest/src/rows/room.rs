//! Fan-out: CPU per delivery on the server beside the floor's, or latency at a rate.

use super::{Bench, threads_note};
use crate::{
    args::{FanoutArgs, FloorArgs, ProfileArgs},
    cluster::NodeOptions,
    orders::Reconnect,
    perf::Profile,
    report::Row,
    setups::{Room, Slice, TURNS},
};

/// A room on the server and on both floors, in turns.
pub fn fanout(bench: &Bench, args: &FanoutArgs) -> Result<Row, String> {
    if let Some(rate) = args.rate {
        let profile = rooms_at(args, rate);
        return super::scenario::mixed(bench, &profile);
    }
    let (members, size, in_flight) = (args.members, args.size, args.in_flight);
    let pins = bench.common.deployment.pins();
    let options = NodeOptions::default();
    let mut server =
        Room::on_server(&bench.common.deployment, &options, members, size, Reconnect::Never)?;
    let mut plain = Room::on_floor(pins, false, members, size)?;
    let mut merging =
        (in_flight > 1).then(|| Room::on_floor(pins, true, members, size)).transpose()?;
    let mut row = Row::new(&format!("fan-out, {in_flight} in flight"));
    row.set("members", members);
    row.set("bytes", size);
    row.set("messages", args.messages);
    server.run(3, 1)?;
    let threads = server.meter.threads();
    plain.run(3, 1)?;
    let mut costs: [Vec<Slice>; 3] = Default::default();
    for run in 0..bench.runs {
        let slices = in_turns(args, &mut server, &mut plain, merging.as_mut())?;
        let [a, b, _] = slices.map(|slice| slice.each());
        bench.progress.say(&format!(
            "fan-out run {}: server {a:.2} us, floor {b:.2} us per delivery",
            run + 1
        ));
        costs.iter_mut().zip(slices).for_each(|(costs, slice)| costs.push(slice));
    }
    figures(&mut row, in_flight, &costs);
    threads_note(&mut row, &server.meter, &threads);
    if let Some(file) = &bench.perf {
        let _profile = Profile::start(&server.meter, file)?;
        server.run(args.messages * 2, in_flight)?;
    }
    row.add_account(&server.audit()?);
    row.add_account(&plain.audit()?);
    if let Some(merging) = &mut merging {
        row.add_account(&merging.audit()?);
    }
    Ok(row)
}

/// What one run cost the server, the plain floor and the merging one.
fn in_turns(
    args: &FanoutArgs,
    server: &mut Room,
    plain: &mut Room,
    mut merging: Option<&mut Room>,
) -> Result<[Slice; 3], String> {
    let mut slices = [Slice::default(); 3];
    let messages = args.messages.div_ceil(TURNS);
    // Whole windows, so that every turn of a merging floor is a full one.
    let windows = messages.div_ceil(args.in_flight) * args.in_flight;
    for _ in 0..TURNS {
        slices[0] += server.run(windows, args.in_flight)?;
        // The plain floor writes each message by itself whatever is in flight.
        slices[1] += plain.run(messages, 1)?;
        if let Some(merging) = &mut merging {
            slices[2] += merging.run(windows, args.in_flight)?;
        }
    }
    Ok(slices)
}

fn figures(row: &mut Row, in_flight: u32, [server, plain, merging]: &[Vec<Slice>; 3]) {
    let each = |costs: &[Slice]| costs.iter().map(Slice::each).collect::<Vec<_>>();
    let ratio = |above: &[Slice], below: &[Slice]| {
        above.iter().zip(below).map(|(a, b)| a.each() / b.each()).collect::<Vec<_>>()
    };
    row.figure("CPU per delivery / plain floor", "", target(in_flight), ratio(server, plain));
    row.figure("server CPU per delivery", "us", None, each(server));
    row.figure("plain floor CPU per delivery", "us", None, each(plain));
    row.figure("deliveries a second", "/s", None, server.iter().map(Slice::rate).collect());
    if in_flight > 1 {
        row.figure("merging floor / plain floor", "", None, ratio(merging, plain));
        row.figure("CPU per delivery / merging floor", "", None, ratio(server, merging));
    }
}

/// The targets stated for the row's own sizes.
fn target(in_flight: u32) -> Option<f64> {
    match in_flight {
        1 => Some(1.05),
        8 => Some(0.18),
        _ => None,
    }
}

/// Rooms and nothing else, at a rate.
fn rooms_at(args: &FanoutArgs, rate: f64) -> ProfileArgs {
    ProfileArgs {
        nodes: 1,
        clients: args.members * args.rooms,
        direct_rate: 0.0,
        rooms: args.rooms,
        room_rate: rate,
        churn_rate: 0.0,
        size: args.size,
        seconds: args.seconds,
        reconnect: false,
        resume: false,
    }
}

/// The floor alone, so that a machine can be judged before a server is.
pub fn floor(bench: &Bench, args: &FloorArgs) -> Result<Row, String> {
    let pins = bench.common.deployment.pins();
    let mut plain = Room::on_floor(pins, false, args.members, args.size)?;
    let mut merging = Room::on_floor(pins, true, args.members, args.size)?;
    let mut row = Row::new("floor");
    row.set("members", args.members);
    row.set("bytes", args.size);
    let mut figures: [Vec<f64>; 2] = Default::default();
    plain.run(3, 1)?;
    for _ in 0..bench.runs {
        figures[0].push(plain.run(args.messages, 1)?.each());
        figures[1].push(merging.run(args.messages, 8)?.each());
    }
    let [one, eight] = figures;
    row.figure("plain, CPU per delivery", "us", None, one);
    row.figure("merging, 8 in flight, CPU per delivery", "us", None, eight);
    row.add_account(&plain.audit()?);
    row.add_account(&merging.audit()?);
    Ok(row)
}
