//! Free scenarios: traffic of all kinds at rates, for as long as wanted.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{
    Bench,
    churn::Churn,
    look::{LOOK, Look, Watchers},
};
use crate::{
    args::{Pins, ProfileArgs},
    clock,
    cluster::{Cluster, NodeOptions},
    histogram::Latencies,
    meter::Holding,
    orders::Reconnect,
    pace::{self, Pace},
    report::{Row, Sample, number},
    setups::{Direct, first_client},
    stamp::SHORTEST,
    swarms::{Cutter, State, Swarms, reasons},
    traffic::RoomLoad,
};

/// What a soak may hold in the end: memory beside its middle, descriptors beside its start (connections to
/// Redis are opened as they are needed).
const GROWTH: f64 = 1.1;
const LEAK: f64 = 1.01;

/// Connects and disconnects are the point: the rest of the profile is light.
pub fn churn(bench: &Bench, mut profile: ProfileArgs) -> Result<Row, String> {
    profile.churn_rate = profile.churn_rate.max(1.0);
    let mut row = mixed(bench, &profile)?;
    row.name = "churn".into();
    Ok(row)
}

/// A scenario from a file; what it leaves out has the defaults of `mixed`.
pub fn from_file(bench: &Bench, file: &Path) -> Result<Row, String> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let profile = serde_json::from_str(&text)
        .map_err(|error| format!("{name}: {error}; for example {{\"clients\": 1000}}"))?;
    let mut row = mixed(bench, &profile)?;
    row.name = format!("scenario {name}");
    Ok(row)
}

/// Like `mixed`, and what the nodes hold must not grow once everything is warm. The first look is before the
/// traffic and the last one after it, with the same clients: descriptors must be the same again.
pub fn soak(bench: &Bench, profile: &ProfileArgs) -> Result<Row, String> {
    let mut row = mixed(bench, profile)?;
    row.name = "soak".into();
    // Before the traffic, within, and after it: there always are these looks.
    let end = row.series.len() - 1;
    let [before, within, after] = [0, end / 2, end].map(|at| row.series[at].nodes.clone());
    for (index, ((a, b), c)) in before.iter().zip(&within).zip(&after).enumerate() {
        let [a_mib, b_mib, c_mib] = [a, b, c].map(|node| number(node.rss_mib));
        row.note(format!(
            "node {index} before, in the middle, after: {a_mib}, {b_mib}, {c_mib} MiB; {}, {}, {} \
             descriptors; {}, {}, {} threads",
            a.descriptors, b.descriptors, c.descriptors, a.threads, b.threads, c.threads
        ));
    }
    // The worst node counts.
    let mut growth = |name: &str, target, from: &[Holding], of: fn(&Holding) -> f64| {
        let ratios = after.iter().zip(from).map(|(end, start)| of(end) / of(start).max(1.0));
        row.figure(name, "", Some(target), ratios.reduce(f64::max).into_iter().collect());
    };
    growth("memory of a node after / in the middle", GROWTH, &within, |node| node.rss_mib);
    let descriptors = |node: &Holding| node.descriptors as f64;
    growth("descriptors of a node after / before", LEAK, &before, descriptors);
    growth("threads of a node after / before", 1.0, &before, |node| node.threads as f64);
    Ok(row)
}

/// Everything at once, each part at its rate.
pub fn mixed(bench: &Bench, profile: &ProfileArgs) -> Result<Row, String> {
    with_faults(bench, profile, false, |_, _| Ok(Box::new(|_| Ok(()))))
}

/// What happens beside the traffic, which began so many seconds ago.
pub type Happen<'a> = Box<dyn FnMut(f64) -> Result<(), String> + 'a>;

/// The same, and `faults` makes what happens meanwhile of the deployment and of who can cut connections; `breakable` if
/// the link to Redis may.
pub fn with_faults(
    bench: &Bench,
    profile: &ProfileArgs,
    breakable: bool,
    faults: impl for<'a> FnOnce(&'a Cluster, Vec<Cutter>) -> Result<Happen<'a>, String>,
) -> Result<Row, String> {
    if profile.clients == 0 || profile.nodes == 0 || profile.seconds <= 0.0 {
        return Err("clients, nodes and seconds: 1 or more".into());
    }
    if profile.size < SHORTEST {
        return Err(format!("size: {SHORTEST} bytes or more"));
    }
    let args = &bench.common.deployment;
    let options = NodeOptions { nodes: profile.nodes, breakable, ..NodeOptions::default() };
    let cluster = Cluster::start(args, &options)?;
    let mut row = Row::new("mixed");
    describe(&mut row, profile);
    let mut mix = Mix::start(&cluster, args.pins(), profile)?;
    let (cpu, wall) = (cluster.meter().cpu(), clock::now());
    let mut look = Look::new(&cluster, Watchers::of(mix.swarms()));
    row.series.push(look.sample());
    let mut happen = faults(&cluster, mix.swarms().map(Swarms::cutter).collect())?;
    let began = Instant::now();
    let paces = mix.flow(&cluster, profile, || {
        let sample = look.sample();
        bench.progress.live(&progress(&sample));
        row.series.push(sample);
        happen(began.elapsed().as_secs_f64())
    })?;
    // What has not ended yet does now.
    happen(f64::INFINITY)?;
    drop(happen);
    mix.swarms().for_each(Swarms::wait_until_back);
    let deliveries = mix.account(&mut row)?;
    let spent = cluster.meter().cpu() - cpu;
    totals(&mut row, spent, (clock::now() - wall) as f64, deliveries);
    mix.tell_returns(&mut row, profile)?;
    if let Some(churn) = mix.churn {
        churn.finish(&mut row)?;
    }
    row.series.push(look.sample());
    row.judge_pace(&paces);
    if let Err(fault) = cluster.check() {
        row.fault(fault);
    }
    Ok(row)
}

/// The parts of a profile that its rates ask for, with their clients connected.
struct Mix {
    direct: Option<Direct>,
    room: Option<RoomLoad>,
    churn: Option<Churn>,
}

impl Mix {
    fn start(cluster: &Cluster, pins: Pins, profile: &ProfileArgs) -> Result<Self, String> {
        let &ProfileArgs { clients, size, .. } = profile;
        let reconnect = profile.coming();
        let receivers = if profile.direct_rate > 0.0 { (clients / 5).max(1) } else { 0 };
        let in_rooms = clients - receivers;
        let rooms =
            if profile.room_rate > 0.0 { profile.rooms.clamp(1, in_rooms.max(1)) } else { 0 };
        let direct = (receivers > 0)
            .then(|| Direct::on_server(cluster, pins, receivers, 0, size, reconnect));
        let first = first_client() + 10_000_000;
        let room = (rooms > 0).then(|| {
            RoomLoad::fill(cluster, pins, rooms, first, in_rooms / rooms, size, reconnect)
        });
        let churn = (profile.churn_rate > 0.0)
            .then(|| Churn::start(cluster, pins.clients, profile.churn_rate, reconnect));
        Ok(Mix { direct: direct.transpose()?, room: room.transpose()?, churn: churn.transpose()? })
    }

    fn swarms(&self) -> impl Iterator<Item = &Swarms> {
        let direct = self.direct.iter().map(|direct| &direct.swarms);
        let room = self.room.iter().map(|room| &room.swarms);
        direct.chain(room).chain(self.churn.iter().map(|churn| &churn.swarms))
    }

    fn sum(&self, count: fn(&State) -> u64) -> u64 {
        self.swarms().map(|swarms| swarms.look(count)).sum()
    }

    /// Has everything flow, calling `look` every now and then, until all is sent and has arrived or will not; how
    /// well each rate was held.
    fn flow(
        &mut self,
        cluster: &Cluster,
        profile: &ProfileArgs,
        mut look: impl FnMut() -> Result<(), String>,
    ) -> Result<Vec<Pace>, String> {
        let Mix { direct, room, churn } = self;
        let &ProfileArgs { seconds, direct_rate, room_rate, .. } = profile;
        let background = room
            .as_ref()
            .map(|room| room.in_background(cluster, room_rate, seconds))
            .transpose()?;
        let mut paces = Vec::new();
        thread::scope(|scope| -> Result<(), String> {
            let sending = direct
                .as_mut()
                .map(|direct| scope.spawn(move || direct.send_at(direct_rate, seconds, false)));
            let deadline = Instant::now() + Duration::from_secs_f64(seconds);
            pace::until(deadline, LOOK, || {
                if let Some(churn) = churn {
                    churn.turn()?;
                }
                look()
            })?;
            if let Some(sending) = sending {
                paces.push(sending.join().map_err(|_| "the sending thread panicked")??);
            }
            Ok(())
        })?;
        if let Some((room, background)) = room.as_mut().zip(background) {
            paces.push(room.settle(background)?);
        }
        if let Some(direct) = direct {
            direct.settle()?;
        }
        self.swarms().for_each(Swarms::wait_until_back);
        Ok(paces)
    }

    /// Adds what became of all messages; how many were offered.
    fn account(&mut self, row: &mut Row) -> Result<u64, String> {
        let direct = self.direct.as_mut().map(Direct::audit).transpose()?;
        let room = self.room.as_mut().map(RoomLoad::audit).transpose()?;
        let accounts = direct.iter().chain(&room);
        Ok(accounts
            .map(|account| {
                row.add_account(account);
                account.offered
            })
            .sum())
    }

    /// Adds the latencies, and how those came back that were cut.
    fn tell_returns(&mut self, row: &mut Row, profile: &ProfileArgs) -> Result<(), String> {
        let mut away = Latencies::default();
        if let Some(direct) = &mut self.direct {
            let collected = direct.swarms.collect()?;
            row.latency("direct", &collected.direct);
            away.merge(&collected.away.recorded());
        }
        if let Some(room) = &mut self.room {
            let collected = room.swarms.collect()?;
            row.latency("room", &collected.room);
            away.merge(&collected.away.recorded());
        }
        let (interrupted, returned) = (self.sum(State::interrupted), self.sum(State::returned));
        if profile.coming() != Reconnect::Never && interrupted > 0 {
            row.latency("away, from a connection's end to the next one", &away);
            if profile.resume {
                let resyncs =
                    reasons(self.swarms().flat_map(|swarms| swarms.look(State::resyncs)), "none");
                row.note(format!(
                    "{} clients went on from where they were; told to load anew: {resyncs}",
                    self.sum(State::resumed)
                ));
            }
            let tried = self.swarms().flat_map(|swarms| swarms.look(State::tried));
            row.note(format!(
                "{interrupted} connections ended without an order, {returned} were followed by another; attempts \
                 that failed meanwhile: {}",
                reasons(tried, "none")
            ));
        }
        Ok(())
    }
}

fn totals(row: &mut Row, cpu: f64, wall: f64, deliveries: u64) {
    row.figure("cores that the nodes used", "", None, vec![cpu / wall]);
    row.figure("deliveries a second", "/s", None, vec![deliveries as f64 * 1e9 / wall]);
}

fn describe(row: &mut Row, profile: &ProfileArgs) {
    row.set("nodes", profile.nodes);
    row.set("clients", profile.clients);
    row.set("direct/s", profile.direct_rate);
    row.set("rooms", profile.rooms);
    row.set("room/s", profile.room_rate);
    row.set("churn/s", profile.churn_rate);
    row.set("bytes", profile.size);
    row.set("seconds", profile.seconds);
    if profile.reconnect {
        row.set("reconnect", "yes");
    }
}

/// What is measured of a look, in one line.
fn progress(now: &Sample) -> String {
    let Sample { second, connections, deliveries_per_second, .. } = now;
    let deliveries = number(*deliveries_per_second);
    let mut line =
        format!("{second:>6.0} s  {connections:>7} connected  {deliveries:>9} deliveries/s");
    for (name, value, unit) in [
        ("nodes", now.server_cores, "cores"),
        ("nodes", now.rss_mib, "MiB"),
        ("Redis", now.redis_cores, "cores"),
    ] {
        if !value.is_nan() {
            line += &format!("  {name} {} {unit}", number(value));
        }
    }
    line
}
