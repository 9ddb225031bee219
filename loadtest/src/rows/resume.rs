//! Clients that resume while everything breaks: networks, nodes, Redis. Nothing may be missing, double or out of order,
//! and nobody may be told that they were away.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use testkit::proxy::Mode;

use super::{
    Bench,
    scenario::{self, Happen},
};
use crate::{
    args::{ProfileArgs, ResumeArgs},
    cluster::Cluster,
    progress::Progress,
    report::Row,
    swarms::Cutter,
};

/// Share of the connections that are cut each second.
const CUT: f64 = 0.02;
/// Length for which the times below are meant; a shorter run has them closer together.
const LENGTH: f64 = 130.0;

/// What breaks, or is whole again.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A node is killed and started again.
    Restart(usize),
    /// It stands still, and goes on.
    Stop(usize),
    Continue(usize),
    /// What the link between nodes and Redis does from now on.
    Link(Mode),
    /// Redis closes what is subscribed.
    KillClients,
}

const PLAN: &[(f64, Event)] = &[
    (15.0, Event::Restart(0)),
    (35.0, Event::Stop(1)),
    (45.0, Event::Continue(1)),
    (55.0, Event::Link(Mode::Cut)),
    (58.0, Event::Link(Mode::Pass)),
    (65.0, Event::Link(Mode::Stall)),
    (95.0, Event::Link(Mode::Pass)),
    (105.0, Event::KillClients),
    (115.0, Event::Restart(1)),
];

pub fn resume(bench: &Bench, args: &ResumeArgs) -> Result<Row, String> {
    if bench.common.deployment.redis.is_some() {
        return Err("resume: it kills nodes, so it starts its own; leave --redis out".into());
    }
    let mut common = bench.common.clone();
    let deployment = &mut common.deployment;
    deployment.message_log = true;
    // Everybody can be back in time, also after the longest fault.
    deployment.node_args.push("--keep=600".into());
    let profile = ProfileArgs {
        nodes: 2,
        clients: args.clients,
        direct_rate: args.direct_rate,
        room_rate: args.room_rate,
        churn_rate: 0.0,
        seconds: args.seconds,
        resume: true,
        ..ProfileArgs::default()
    };
    let bench = &Bench { common, runs: 1, perf: None, progress: Progress::new() };
    let events = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&events);
    let mut row = scenario::with_faults(bench, &profile, true, move |cluster, cutters| {
        begin(cluster, cutters, told, args)
    })?;
    row.name = "resume".into();
    let events = events.load(Ordering::Relaxed);
    row.figure(
        "presence events of clients that came back in time",
        "",
        Some(0.0),
        vec![events as f64],
    );
    Ok(row)
}

/// What happens in a run of so many seconds; presence events are counted meanwhile.
fn begin<'a>(
    cluster: &'a Cluster,
    cutters: Vec<Cutter>,
    events: Arc<AtomicU64>,
    args: &ResumeArgs,
) -> Result<Happen<'a>, String> {
    let count = |events: &Arc<AtomicU64>| {
        let events = Arc::clone(events);
        move |_, _| {
            events.fetch_add(1, Ordering::Relaxed);
        }
    };
    let watch = cluster
        .im
        .on_presence(count(&events), count(&events))
        .map_err(|error| format!("presence events: {error}"))?;
    while !watch.is_listening() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let scale = (args.seconds / LENGTH).min(1.0);
    let mut plan = PLAN.iter().peekable();
    let mut last_cut = 0.0;
    Ok(Box::new(move |now| {
        let _watch = &watch;
        while let Some((_, event)) = plan.next_if(|(due, _)| due * scale <= now) {
            carry_out(cluster, *event)?;
        }
        if now.is_finite() && now - last_cut >= 1.0 {
            let silently = (now as u64).is_multiple_of(2);
            cutters.iter().try_for_each(|cutter| cutter.cut(CUT, silently))?;
            last_cut = now;
        }
        Ok(())
    }))
}

fn carry_out(cluster: &Cluster, event: Event) -> Result<(), String> {
    match event {
        Event::Restart(node) => {
            cluster.kill(node);
            cluster.start_again(node)
        }
        Event::Stop(node) => cluster.signal(node, Signal::STOP),
        Event::Continue(node) => cluster.signal(node, Signal::CONT),
        Event::Link(mode) => {
            cluster.link(mode);
            Ok(())
        }
        Event::KillClients => kill_subscriptions(&cluster.deployment.redis),
    }
}

/// Not the connections of the helper that sends: an interrupted send is an error of the run.
fn kill_subscriptions(redis: &str) -> Result<(), String> {
    let address = redis.trim_start_matches("redis://");
    let io = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(io)?;
    stream.write_all(b"CLIENT KILL TYPE pubsub\r\nQUIT\r\n").map_err(io)?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(())
}
