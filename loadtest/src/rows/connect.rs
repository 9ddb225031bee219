//! Connects with ticket, presence and event: CPU and memory of each, rate, latency.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::Bench;
use crate::{
    args::{ConnectArgs, DeploymentArgs},
    clock,
    cluster::{Cluster, NodeOptions},
    histogram::Latencies,
    orders::{Dial, Reconnect},
    perf::Profile,
    report::Row,
    setups::{Slice, first_client},
    swarms::Swarms,
};

/// Connects everybody once per run, on a fresh deployment each time.
pub fn ramp(bench: &Bench, args: &ConnectArgs) -> Result<Row, String> {
    let mut row = Row::new("connect");
    row.set("clients", args.clients);
    row.set("window", args.window);
    if let Some(rate) = args.rate {
        row.set("rate", rate);
    }
    let mut figures: [Vec<f64>; 5] = Default::default();
    let mut latencies = Latencies::default();
    for run in 0..bench.runs {
        let one = once(bench, &bench.common.deployment, args, &mut latencies, false)?;
        figures[0].push(one.slice.each());
        figures[1].push(one.rate);
        figures[2].push(one.redis_cpu);
        figures[3].push(one.memory);
        figures[4].push(one.slice.load());
        bench.progress.say(&format!("connect run {}: {:.1} us", run + 1, one.slice.each()));
    }
    let [cpu, rate, redis, memory, load] = figures;
    row.figure("server CPU per connection", "us", Some(50.0), cpu);
    let target = args.rate.is_none().then_some(12_000.0);
    row.figure("connections a second, to the last online event", "/s", target, rate);
    row.more_is_better();
    row.figure("Redis CPU per connection", "us", None, redis);
    row.figure("Pss per connection, from none", "B", None, memory);
    row.figure("cores that the server used", "", None, load);
    row.latency("connect", &latencies);
    row.note("every connect raised exactly one online event");
    if bench.perf.is_some() {
        once(bench, &bench.common.deployment, args, &mut latencies, true)?;
    }
    Ok(row)
}

/// Connects everybody with events that are kept, and without, in turn.
pub fn events(bench: &Bench, args: &ConnectArgs) -> Result<Row, String> {
    let without = &bench.common.deployment;
    let mut with = without.clone();
    with.node_args.push("--events=1000000".to_owned());
    let mut row = Row::new("connect, events kept");
    row.set("clients", args.clients);
    row.set("window", args.window);
    let mut figures: [Vec<f64>; 5] = Default::default();
    for run in 0..bench.runs {
        let mut latencies = Latencies::default();
        let mut side = |deployment| once(bench, deployment, args, &mut latencies, false);
        let (with, without) = (side(&with)?, side(without)?);
        let ratio = with.redis_cpu / without.redis_cpu;
        let values =
            [ratio, with.redis_cpu, without.redis_cpu, with.slice.each(), without.slice.each()];
        figures.iter_mut().zip(values).for_each(|(figure, value)| figure.push(value));
        bench.progress.say(&format!("connect with events run {}: {ratio:.2}", run + 1));
    }
    let [ratio, redis_with, redis_without, node_with, node_without] = figures;
    row.figure("Redis CPU per connection with events / without", "", Some(1.25), ratio);
    row.figure("Redis CPU per connection with events", "us", None, redis_with);
    row.figure("Redis CPU per connection without", "us", None, redis_without);
    row.figure("server CPU per connection with events", "us", None, node_with);
    row.figure("server CPU per connection without", "us", None, node_without);
    Ok(row)
}

struct Once {
    slice: Slice,
    rate: f64,
    redis_cpu: f64,
    memory: f64,
}

fn once(
    bench: &Bench,
    deployment: &DeploymentArgs,
    args: &ConnectArgs,
    latencies: &mut Latencies,
    profiled: bool,
) -> Result<Once, String> {
    let cluster = Cluster::start(deployment, &NodeOptions::default())?;
    let clients = deployment.pins().clients;
    let mut swarms =
        Swarms::start(Some(&cluster.deployment), first_client(), args.clients, clients)?;
    let online = OnlineEvents::watch(&cluster, args.clients)?;
    let (meter, redis) = (cluster.meter(), cluster.redis_meter());
    let memory = meter.memory().pss;
    let profile = bench.perf.as_ref().filter(|_| profiled);
    let profile = profile.map(|file| Profile::start(&meter, file)).transpose()?;
    // Issuing tickets costs the nodes nothing, so their clock may start before.
    let cpu = meter.cpu();
    let count = args.clients as u64;
    let dial = order(args);
    swarms.dial(&dial)?;
    // Issuing the tickets is the business's work and not measured.
    swarms.wait("the first connect", Duration::from_secs(60), |state| {
        state.opened() + state.refused() > 0 || dial.prepared && state.prepared() >= args.clients
    })?;
    let (start, redis_cpu) = (clock::now(), redis.cpu());
    let early = swarms.look(|state| state.opened());
    let patience = Duration::from_secs(60 + (count as f64 / args.rate.unwrap_or(500.0)) as u64);
    swarms.wait("connections", patience, |state| state.opened() + state.refused() >= count)?;
    online.wait_for(count);
    let wall = clock::now() - start;
    let slice = Slice { cpu: meter.cpu() - cpu, wall, units: count };
    let rate = (count - early) as f64 * 1e9 / wall as f64;
    let redis_cpu = (redis.cpu() - redis_cpu) / 1e3 / count as f64;
    drop(profile);
    swarms.look(|state| match state.refused() {
        0 => Ok(()),
        refused => Err(format!("{refused} connects failed: {}", state.troubles())),
    })?;
    // One event too many may still be on its way.
    thread::sleep(Duration::from_millis(500));
    match online.seen() {
        seen if seen == count => {}
        seen => return Err(format!("{count} connects raised {seen} online events")),
    }
    latencies.merge(&swarms.collect()?.connect.recorded());
    let memory = (meter.memory().pss - memory) / count as f64;
    Ok(Once { slice, rate, redis_cpu, memory })
}

fn order(args: &ConnectArgs) -> Dial {
    Dial {
        first: first_client(),
        count: args.clients,
        rate: args.rate,
        window: args.window,
        // Tickets live for ten seconds: with a slow rate they must be issued along the way.
        prepared: args.rate.is_none() && args.clients <= 20_000,
        floor: None,
        reconnect: Reconnect::Never,
        again: false,
    }
}

/// Counts the online events of this run's clients.
struct OnlineEvents {
    seen: Arc<AtomicU64>,
    _bus: imcore::PresenceWatch,
}

impl OnlineEvents {
    fn watch(cluster: &Cluster, clients: usize) -> Result<Self, String> {
        let seen = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&seen);
        let own = first_client()..first_client() + clients as i64;
        let online = move |client, _meta| {
            if matches!(client, imcore::ClientId::Int(id) if own.contains(&id)) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        };
        let bus = cluster.im.on_presence(online, |_, _| ()).map_err(|error| error.to_string())?;
        Ok(OnlineEvents { seen, _bus: bus })
    }

    fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Returns once there are so many, or after 30 s.
    fn wait_for(&self, count: u64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.seen() < count && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
