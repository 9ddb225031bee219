//! Free scenarios: traffic of all kinds at rates, for as long as wanted.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::Bench;
use crate::{
    args::ProfileArgs,
    clock,
    cluster::{Cluster, NodeOptions},
    meter::Holding,
    orders::Dial,
    pace,
    report::{Row, Sample, number},
    setups::{Direct, everybody, first_client},
    swarms::{State, Swarms, Watcher},
    traffic::RoomLoad,
};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);
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
    if profile.clients == 0 || profile.nodes == 0 || profile.seconds <= 0.0 {
        return Err("clients, nodes and seconds: 1 or more".into());
    }
    let args = &bench.common.deployment;
    let pins = args.pins();
    let options = NodeOptions { nodes: profile.nodes, ..NodeOptions::default() };
    let cluster = Cluster::start(args, &options)?;
    let mut row = Row::new("mixed");
    describe(&mut row, profile);
    let receivers = if profile.direct_rate > 0.0 { (profile.clients / 5).max(1) } else { 0 };
    let in_rooms = profile.clients - receivers;
    let rooms = if profile.room_rate > 0.0 { profile.rooms.clamp(1, in_rooms.max(1)) } else { 0 };
    let mut direct = (receivers > 0)
        .then(|| Direct::on_server(&cluster, pins, receivers, 0, profile.size))
        .transpose()?;
    let first = first_client() + 10_000_000;
    let mut room = (rooms > 0)
        .then(|| RoomLoad::fill(&cluster, pins, rooms, first, in_rooms / rooms, profile.size))
        .transpose()?;
    let mut churn =
        (profile.churn_rate > 0.0).then(|| Churn::start(&cluster, pins.clients)).transpose()?;
    let (cpu, wall) = (cluster.meter().cpu(), clock::now());
    let background =
        room.as_ref().map(|room| room.in_background(&cluster, profile.room_rate, profile.seconds));
    let background = background.transpose()?;
    let mut look = Look::new(&cluster);
    let watchers = Watchers::of(&direct, &room, &churn);
    row.series.push(look.sample(&watchers));
    let mut paces = Vec::new();
    thread::scope(|scope| -> Result<(), String> {
        let sending = direct.as_mut().map(|direct| {
            let (rate, seconds) = (profile.direct_rate, profile.seconds);
            scope
                .spawn(move || pace::open_loop(rate, seconds, |_, due| direct.send_one(due, false)))
        });
        let deadline = Instant::now() + Duration::from_secs_f64(profile.seconds);
        pace::until(deadline, LOOK, || {
            if let Some(churn) = &mut churn {
                churn.turn(profile.churn_rate * LOOK.as_secs_f64())?;
            }
            row.series.push(look.sample(&watchers));
            show(bench, &row.series);
            Ok(())
        })?;
        if let Some(sending) = sending {
            paces.push(sending.join().map_err(|_| "the sending thread panicked")??);
        }
        Ok(())
    })?;
    if let (Some(room), Some(background)) = (&mut room, background) {
        paces.push(room.settle(background)?);
    }
    let mut deliveries = 0;
    if let Some(direct) = &mut direct {
        direct.settle()?;
        row.latency("direct", &direct.swarms.collect()?.direct);
        row.add_account(&direct.audit()?);
        deliveries += direct.sent;
    }
    if let Some(room) = &mut room {
        row.latency("room", &room.swarms.collect()?.room);
        let account = room.audit()?;
        deliveries += account.offered;
        row.add_account(&account);
    }
    let spent = cluster.meter().cpu() - cpu;
    totals(&mut row, spent, (clock::now() - wall) as f64, deliveries);
    if let Some(churn) = churn {
        churn.finish(&mut row)?;
    }
    row.series.push(look.sample(&watchers));
    row.judge_pace(&paces);
    if let Err(fault) = cluster.check() {
        row.fault(fault);
    }
    Ok(row)
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
}

fn show(bench: &Bench, series: &[Sample]) {
    let Some(now) = series.last() else { return };
    bench.progress.live(&format!(
        "{:>6.0} s  {:>9} deliveries/s  nodes {} cores, {} MiB  Redis {} cores",
        now.second,
        number(now.deliveries_per_second),
        number(now.server_cores),
        number(now.rss_mib),
        number(now.redis_cores)
    ));
}

/// Looks at the deployment at intervals.
struct Look<'a> {
    cluster: &'a Cluster,
    start: u64,
    /// Moment, CPU of the nodes and of Redis, deliveries.
    last: (u64, f64, f64, u64),
}

/// The counts of all clients, for a look while others work with them.
struct Watchers(Vec<Watcher>);

impl Watchers {
    fn of(direct: &Option<Direct>, room: &Option<RoomLoad>, churn: &Option<Churn>) -> Self {
        let direct = direct.iter().map(|direct| direct.swarms.watcher());
        let room = room.iter().map(|room| room.swarms.watcher());
        Watchers(direct.chain(room).chain(churn.iter().map(|c| c.swarms.watcher())).collect())
    }

    fn sum(&self, count: fn(&State) -> u64) -> u64 {
        self.0.iter().map(|watcher| watcher.look(count)).sum()
    }
}

impl<'a> Look<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let now = clock::now();
        let last = (now, cluster.meter().cpu(), cluster.redis_meter().cpu(), 0);
        Look { cluster, start: now, last }
    }

    fn sample(&mut self, watchers: &Watchers) -> Sample {
        let meter = self.cluster.meter();
        let delivered = watchers.sum(State::delivered);
        let gone = |state: &State| state.ended() + state.hung_up();
        let connections = watchers.sum(State::opened).saturating_sub(watchers.sum(gone));
        let now = (clock::now(), meter.cpu(), self.cluster.redis_meter().cpu(), delivered);
        let passed = (now.0 - self.last.0).max(1) as f64;
        let sample = Sample {
            second: (now.0 - self.start) as f64 / 1e9,
            server_cores: (now.1 - self.last.1) / passed,
            redis_cores: (now.2 - self.last.2) / passed,
            rss_mib: meter.memory().rss / 1048576.0,
            deliveries_per_second: now.3.saturating_sub(self.last.3) as f64 * 1e9 / passed,
            connections: connections as f64,
            nodes: meter.holdings(),
        };
        self.last = now;
        sample
    }
}

/// Clients that come and go; each must raise one online and one offline event.
struct Churn {
    swarms: Swarms,
    first: i64,
    next: i64,
    gone: i64,
    online: Arc<AtomicU64>,
    offline: Arc<AtomicU64>,
    _bus: imcore::PresenceWatch,
}

impl Churn {
    /// Clients over the whole run, all in one process: only the present ones hold a socket.
    const MOST: usize = 10_000_000;

    fn start(cluster: &Cluster, core: Option<usize>) -> Result<Self, String> {
        let deployment = Some(&cluster.deployment);
        let first = first_client() + 100_000_000;
        let swarms = Swarms::start_split(deployment, first, Self::MOST, Self::MOST, core)?;
        let (online, offline) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let count = |counter: &Arc<AtomicU64>| {
            let counter = Arc::clone(counter);
            move |client, _meta: Option<String>| {
                let own = first..first + Self::MOST as i64;
                if matches!(client, imcore::ClientId::Int(id) if own.contains(&id)) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let bus = cluster.im.on_presence(count(&online), count(&offline));
        let bus = bus.map_err(|error| error.to_string())?;
        Ok(Churn { swarms, first, next: first, gone: first, online, offline, _bus: bus })
    }

    /// `count` come, spread over the time until the next turn; those of the turn before last go.
    fn turn(&mut self, count: f64) -> Result<(), String> {
        let count = count.max(1.0) as usize;
        let rate = Some(count as f64 / LOOK.as_secs_f64());
        self.swarms.dial(&Dial { rate, ..everybody(self.next, count) })?;
        self.next += count as i64;
        let stay = 2 * count as i64;
        let leaving = (self.next - stay - self.gone).max(0);
        self.swarms.hang_up(self.gone, leaving as usize)?;
        self.gone += leaving;
        Ok(())
    }

    /// Everybody leaves; then the events must add up, and nobody may have been refused or cut.
    fn finish(mut self, row: &mut Row) -> Result<(), String> {
        let came = (self.next - self.first) as u64;
        let patience = Duration::from_secs(30);
        self.swarms
            .wait("churning clients", patience, |state| state.opened() + state.refused() >= came)?;
        self.swarms.hang_up(self.first, came as usize)?;
        self.swarms
            .wait("churning clients to go", patience, |s| s.hung_up() + s.ended() >= s.opened())?;
        let (opened, refused, troubles) =
            self.swarms.look(|state| (state.opened(), state.refused(), state.troubles()));
        let deadline = Instant::now() + patience;
        let seen = || (self.online.load(Ordering::Relaxed), self.offline.load(Ordering::Relaxed));
        while seen() != (opened, opened) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let (online, offline) = seen();
        row.latency("connect", &self.swarms.collect()?.connect);
        row.note(format!(
            "churn: {opened} came and went ({refused} refused), {online} online and {offline} offline \
             events"
        ));
        let ended = self.swarms.look(State::ended);
        if refused + ended > 0 {
            row.fault(format!(
                "churn: {refused} connects were refused and {ended} connections cut: {troubles}"
            ));
        }
        if (online, offline) != (opened, opened) {
            row.fault(format!(
                "churn: {opened} connections raised {online} online and {offline} offline events"
            ));
        }
        Ok(())
    }
}
