//! `loadtest events`: connections open and close while consumers of their events, a webhook's target, nodes and Redis break,
//! and what the receivers were told is compared with what the clients did. Reading order: `account`, `visits`, `consumer`.

mod account;
pub mod args;
mod consumer;
mod visits;

pub use consumer::run as consume;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use imcore::ImClient;
use serde::Deserialize;
use serde_json::Value;
use testkit::proxy::{Mode, Proxy};

use self::{
    account::{Heard, Verdict},
    args::{Break, EventsArgs},
    consumer::{Consumer, GROUP, Word},
    visits::{Plan, Visits},
};
use crate::{
    cluster::{Cluster, NodeOptions},
    pace::wait,
    progress::Progress,
    report::Row,
    target::{self, Target},
};

/// The group of nodes that post.
const WEBHOOK: &str = "@webhook";
const CONSUMERS: usize = 3;
/// How often one of them is killed.
const KILLS: usize = 12;
const NODES: usize = 2;
/// How long a node is away that is killed, in a run that is long enough.
const KILLED: f64 = 2.0;
/// Until everything is told in the end: what a dead consumer had is given to others after 30 s, and a webhook pauses up to
/// six minutes.
const PATIENCE: Duration = Duration::from_secs(600);
/// What is not told though nobody has anything to do will never be.
const QUIET: Duration = Duration::from_secs(20);

/// What the receivers of a group have.
type Shared = Arc<Mutex<Heard>>;

/// The run, from the first connect to the verdict.
pub fn run(args: &EventsArgs, progress: &Progress) -> Result<Row, String> {
    args.common.deployment.own_nodes_only("events")?;
    if args.opens == 0 || args.clients == 0 || args.seconds <= 0.0 {
        return Err("opens, clients and seconds: more than 0".into());
    }
    let mut row = describe(args);
    let target = Target::start()?;
    let way = Proxy::start(target.port);
    let mut lab = Lab::start(args, way)?;
    let (told, words) = channel();
    lab.consumers = (0..CONSUMERS)
        .map(|_| Consumer::start(&lab.cluster.deployment, told.clone()).map(Some))
        .collect::<Result<_, _>>()?;
    let groups = [
        ("consumers", GROUP, listen(Heard::in_any_order(), words)),
        ("webhook", WEBHOOK, listen(Heard::in_order(), posted(target.bodies))),
    ];
    let im = lab.cluster.im.clone();
    let are_there = || groups.iter().all(|(_, name, _)| lag(&im, name).is_some());
    wait("both groups are there", PATIENCE, are_there)?;
    let begun = Instant::now();
    let visits = Visits::default();
    let plan = Plan { opens: args.opens, clients: args.clients, seconds: args.seconds };
    thread::scope(|scope| -> Result<(), String> {
        let visiting = scope.spawn(|| visits.run(&im, plan));
        let mut acts = schedule(args).into_iter().peekable();
        while acts.peek().is_some() || !visiting.is_finished() {
            let now = begun.elapsed().as_secs_f64();
            if let Some((_, act)) = acts.next_if(|(at, _)| now >= *at) {
                progress.say(&format!("{now:.0} s: {act:?}"));
                lab.inflict(act, &visits, &told).map_err(|error| format!("{act:?}: {error}"))?;
            }
            let opened = visits.opened.load(Ordering::Relaxed);
            let [consumers, webhook] = [0, 1].map(|index| lock(&groups[index].2).count());
            progress.live(&format!("{opened} opened; told {consumers} and {webhook}"));
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    })?;
    row.figure("seconds of traffic", "s", None, vec![begun.elapsed().as_secs_f64()]);
    let attempts = visits.attempts();
    progress.say("waiting until everything is told");
    settle(&im, &groups, |heard| heard.judge(&attempts).missing == 0)?;
    row.figure("seconds until all was told", "s", None, vec![begun.elapsed().as_secs_f64()]);
    let opened = visits.opened.load(Ordering::Relaxed);
    let count = |fate| attempts.iter().filter(|attempt| attempt.fate == fate).count();
    row.note(format!(
        "{opened} connections opened and closed, of which {} may be unknown; {} connects were refused",
        count(account::Fate::Unknown),
        count(account::Fate::Refused)
    ));
    for (title, _, heard) in &groups {
        judge(title, &lock(heard).judge(&attempts), &mut row);
    }
    if let Err(error) = lab.cluster.check() {
        row.fault(error);
    }
    if !row.is_sound() {
        lab.cluster.logs().into_iter().for_each(|log| row.note(log));
    }
    Ok(row)
}

fn describe(args: &EventsArgs) -> Row {
    let mut row = Row::new("events");
    row.set("opens", args.opens);
    row.set("clients", args.clients);
    row.set("seconds", args.seconds);
    row.set("target away", args.away);
    row.set("faults", format!("{:?}", args.faults).to_lowercase());
    row
}

fn lock(heard: &Shared) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds what comes to an account, on a thread of its own.
fn listen(heard: Heard, words: Receiver<Word>) -> Shared {
    let shared = Arc::new(Mutex::new(heard));
    let heard = Arc::clone(&shared);
    thread::spawn(move || {
        for word in words {
            match word {
                Word::Missed(count) => lock(&heard).verdict.missed += count.unwrap_or(1),
                word => {
                    // Others are of the connects by which it is seen that the nodes are ready.
                    if let Some(told) = word.told() {
                        lock(&heard).hear(told);
                    }
                }
            }
        }
    });
    shared
}

#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    events: Vec<Posted>,
    missed: Option<Value>,
}

#[derive(Deserialize)]
struct Posted {
    r#type: String,
    id: String,
    client: Option<String>,
    meta: Option<String>,
    n: u64,
}

/// What messages say, in their order.
fn posted(bodies: Receiver<Vec<u8>>) -> Receiver<Word> {
    let (said, words) = channel();
    thread::spawn(move || {
        for body in bodies {
            let data = serde_json::from_slice::<Body>(&body).map(|body| body.data);
            let Ok(Data { events, missed }) = data else {
                let _ = said.send(Word::Missed(None));
                continue;
            };
            if events.is_empty() {
                let _ = said.send(Word::Missed(missed.and_then(|count| count.as_u64())));
            }
            for Posted { r#type, id, client, meta, n } in events {
                let (client, note) = (client.unwrap_or_default(), meta.unwrap_or_default());
                let _ = said.send(Word::Event { n, id, kind: r#type, client, note });
            }
        }
    });
    words
}

/// What is done at some time.
#[derive(Debug, Clone, Copy)]
enum Act {
    KillConsumer(usize),
    TargetAway,
    TargetBack,
    KillNode(usize),
    RestartRedis,
    Link(Mode),
}

/// With the second of each, in order.
fn schedule(args: &EventsArgs) -> Vec<(f64, Act)> {
    let mut acts = Vec::new();
    let part = |share: f64| share * args.seconds;
    for fault in &args.faults {
        match fault {
            Break::Consumers => acts.extend((0..KILLS).map(|index| {
                (
                    part((index + 1) as f64 / (KILLS + 1) as f64),
                    Act::KillConsumer(index % CONSUMERS),
                )
            })),
            Break::Target => acts
                .extend([(part(0.05), Act::TargetAway), (part(0.05) + args.away, Act::TargetBack)]),
            Break::Nodes => {
                acts.extend([(part(0.25), Act::KillNode(0)), (part(0.65), Act::KillNode(1))]);
            }
            Break::Redis => {
                acts.extend([(part(0.4), Act::RestartRedis), (part(0.85), Act::RestartRedis)]);
            }
            Break::Link => {
                let modes = [(0.1, Mode::Cut), (0.55, Mode::Stall), (0.75, Mode::Cut)];
                acts.extend(modes.map(|(share, mode)| (part(share), Act::Link(mode))));
            }
        }
    }
    acts.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    acts
}

struct Lab {
    cluster: Cluster,
    consumers: Vec<Option<Consumer>>,
    /// To the target.
    way: Proxy,
    /// How long a node is away that is killed; links are broken for twice as long.
    killed: Duration,
}

impl Lab {
    fn start(args: &EventsArgs, way: Proxy) -> Result<Lab, String> {
        let mut deployment = args.common.deployment.clone();
        let mut more = target::arguments(way.port);
        more.push("--events=1000000".to_owned());
        // As long as they are by default, where the target is away for ten minutes.
        more.push(format!("--webhook-retry={}", (args.away / 600.0).min(1.0)));
        more.push(format!("--webhook-timeout={}", (args.away / 40.0).clamp(0.5, 15.0)));
        deployment.node_args.splice(0..0, more);
        let options =
            NodeOptions { nodes: NODES, durable: true, breakable: true, ..NodeOptions::default() };
        let cluster = Cluster::start(&deployment, &options)?;
        let killed = Duration::from_secs_f64((args.seconds / 10.0).min(KILLED));
        Ok(Lab { cluster, consumers: Vec::new(), way, killed })
    }

    fn inflict(&mut self, act: Act, visits: &Visits, told: &Sender<Word>) -> Result<(), String> {
        match act {
            Act::KillConsumer(index) => {
                self.consumers[index] = None;
                let next = Consumer::start(&self.cluster.deployment, told.clone())?;
                self.consumers[index] = Some(next);
                Ok(())
            }
            Act::TargetAway => {
                self.way.set(Mode::Cut);
                Ok(())
            }
            Act::TargetBack => {
                self.way.heal();
                Ok(())
            }
            Act::KillNode(index) => {
                self.cluster.kill(index);
                visits.killed(&self.cluster.deployment.servers[index]);
                thread::sleep(self.killed);
                self.cluster.start_again(index)
            }
            Act::RestartRedis => self.cluster.restart_redis(),
            Act::Link(mode) => {
                self.cluster.link(mode);
                thread::sleep(self.killed * 2);
                self.cluster.link(Mode::Pass);
                Ok(())
            }
        }
    }
}

/// How many events a group has not done with; `None` while nobody knows.
fn lag(im: &ImClient, name: &str) -> Option<u64> {
    let groups = im.event_groups().ok()?;
    let group = groups.into_iter().find(|group| group.name == name)?;
    Some(group.waiting + group.unacknowledged + group.missed)
}

/// Waits until all groups have done with everything, and nothing is missing or will come.
fn settle(
    im: &ImClient,
    groups: &[(&str, &str, Shared)],
    is_complete: impl Fn(&Heard) -> bool,
) -> Result<(), String> {
    let mut quiet = None;
    wait("everything is told", PATIENCE, || {
        if groups.iter().any(|(_, name, _)| lag(im, name) != Some(0)) {
            quiet = None;
            return false;
        }
        let since = quiet.get_or_insert_with(Instant::now);
        since.elapsed() > QUIET || groups.iter().all(|(.., heard)| is_complete(&lock(heard)))
    })
}

fn judge(title: &str, verdict: &Verdict, row: &mut Row) {
    let Verdict { told, missing, doubles, renamed, invented, misordered, missed } = *verdict;
    row.figure(&format!("{title}: events"), "", None, vec![told as f64]);
    let share = doubles as f64 * 100.0 / told.max(1) as f64;
    row.figure(&format!("{title}: came again, with the same id"), "%", Some(0.1), vec![share]);
    for (what, count) in [
        ("missing", missing),
        ("told twice, with another id", renamed),
        ("told, and never was", invented),
        ("order errors per client", misordered),
        ("told as missed", missed),
    ] {
        let what = format!("{title}: {what}");
        row.figure(&what, "", Some(0.0), vec![count as f64]);
        if count > 0 {
            row.fault(format!("{what}: {count}"));
        }
    }
}
