//! Webhooks: how fast what has gathered is posted, by a node on one core.

use std::{sync::mpsc::RecvTimeoutError, thread, time::Duration};

use super::Bench;
use crate::{
    clock,
    cluster::{Cluster, NodeOptions},
    report::Row,
    setups::{everybody, first_client},
    swarms::Swarms,
    target::{self, Target},
};

/// What each connection tells while it comes and goes.
const EACH: u64 = 4;
/// Longest wait for what comes next: the node tries again after pauses that double.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everybody comes and goes while the target is away; then it takes all there is.
pub fn throughput(bench: &Bench, clients: usize) -> Result<Row, String> {
    let mut row = Row::new("webhook");
    row.set("events", clients as u64 * EACH);
    let mut figures: [Vec<f64>; 4] = Default::default();
    for run in 0..bench.runs {
        let one = once(bench, clients)?;
        figures.iter_mut().zip(one).for_each(|(figure, value)| figure.push(value));
        bench.progress.say(&format!("webhook run {}: {:.0} events/s", run + 1, one[0]));
    }
    let [rate, cpu, redis, size] = figures;
    row.figure("events a second that the target took", "/s", Some(10_000.0), rate);
    row.more_is_better();
    row.figure("server CPU per event", "us", None, cpu);
    row.figure("Redis CPU per event", "us", None, redis);
    row.figure("events in a message", "", None, size);
    Ok(row)
}

fn once(bench: &Bench, clients: usize) -> Result<[f64; 4], String> {
    let mut args = bench.common.deployment.clone();
    let port = testkit::port();
    args.node_args.splice(0..0, target::arguments(port));
    args.node_args.extend(["--events=1000000", "--webhook-retry=0.2"].map(str::to_owned));
    let cluster = Cluster::start(&args, &NodeOptions::default())?;
    let core = args.pins().clients;
    let mut crowd = Swarms::start(Some(&cluster.deployment), first_client(), clients, core)?;
    crowd.dial_all(&everybody(first_client(), clients))?;
    crowd.hang_up(first_client(), clients)?;
    let all = clients as u64 * EACH;
    let group = || -> Result<u64, String> {
        let groups = cluster.im.event_groups().map_err(|error| error.to_string())?;
        Ok(groups.iter().map(|group| group.waiting + group.unacknowledged).sum())
    };
    let deadline = clock::now() + PATIENCE.as_nanos() as u64;
    while group()? < all {
        if clock::now() > deadline {
            return Err(format!("{clients} clients came and went, and told {} events", group()?));
        }
        thread::sleep(Duration::from_millis(50));
    }
    let waiting = group()?;
    let (node, redis) = (cluster.meter(), cluster.redis_meter());
    let target = Target::start_at(port)?;
    let mut bodies = Vec::new();
    let (mut begun, mut cpu) = (0, [0.0; 2]);
    let mut took = 0;
    while took < waiting {
        let body = target.bodies.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("{took} of {waiting} events came"),
            RecvTimeoutError::Disconnected => "the target is gone".to_owned(),
        })?;
        if bodies.is_empty() {
            (begun, cpu) = (clock::now(), [node.cpu(), redis.cpu()]);
        }
        took += events_in(&body);
        bodies.push(body.len());
    }
    let wall = (clock::now() - begun) as f64 / 1e9;
    let cpu = [node.cpu() - cpu[0], redis.cpu() - cpu[1]];
    let each = cpu.map(|cpu| cpu / 1e3 / took as f64);
    cluster.check()?;
    Ok([took as f64 / wall, each[0], each[1], took as f64 / bodies.len() as f64])
}

/// Without reading it as JSON: what is measured shares two cores with this.
fn events_in(body: &[u8]) -> u64 {
    const FIELD: &[u8] = b"\"n\":";
    body.windows(FIELD.len()).filter(|window| *window == FIELD).count() as u64
}
