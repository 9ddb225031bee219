//! An oracle at the sender: whatever happens to Redis and to connections, no message is missing in silence.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use imcore::broker::{Bus, Envelope, FeedEvent, RedisBroker, RedisOptions};
use redis::cmd;
use testkit::{
    Redis,
    proxy::{Mode, Proxy},
    seeded::{Replay, Seeded, seeds},
};

use super::connections;
use crate::{
    feed::{NODE, Node, direct},
    log::OTHER,
    world::{fresh_options, id, serve},
};

/// Longer than anything here can take on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every fourth goes to all.
fn message(number: usize) -> Envelope {
    match number % 4 {
        0 => Envelope::Channel {
            sender: id(0),
            channel: None,
            content: number.to_string(),
            trace: None,
        },
        _ => direct(number as i64),
    }
}

fn number(envelope: &Envelope) -> usize {
    match envelope {
        Envelope::Channel { content, .. } | Envelope::Direct { content, .. } => {
            content.parse().unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// What one node made of everything that was sent.
#[derive(Default)]
struct Account {
    /// Message -> its number.
    heard: HashMap<usize, Option<u64>>,
    /// How many sends had begun when it was told that something may be missing.
    told: Vec<usize>,
    from: u64,
    /// The last of the sender that was heard.
    last: usize,
}

impl Account {
    fn take(&mut self, event: FeedEvent, begun: usize) {
        match event {
            FeedEvent::Log { from, .. } => {
                self.from = from;
                self.told.push(begun);
            }
            FeedEvent::Message { envelope, number: place } => {
                let message = number(&envelope);
                assert_eq!(self.heard.insert(message, place), None, "{message} came twice");
                // What no log has may come behind what was read there, if whoever is concerned loads its state.
                let is_late =
                    place.is_none() && self.told.last().is_some_and(|told| message < *told);
                assert!(
                    self.heard.len() == 1 || message > self.last || is_late,
                    "{message} (numbered {place:?}) after {}; told at {:?}, {begun} begun",
                    self.last,
                    self.told
                );
                self.last = self.last.max(message);
                if let Some(place) = place {
                    assert!(place > self.from, "{place} after {}", self.from);
                    self.from = place;
                }
            }
            _ => {}
        }
    }
}

struct Scene {
    redis: Redis,
    link: Proxy,
    prefix: String,
    snapshots: Vec<Vec<u8>>,
}

impl Scene {
    fn serve(&self) {
        [NODE, OTHER].iter().for_each(|node| serve(&self.redis, &self.prefix, node));
    }

    fn memory(&self, bytes: &str) {
        let mut set = cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(bytes).exec(&mut self.redis.connect()).unwrap();
    }

    /// The connections with that flag, if there are any just now.
    fn kill(&self, flag: char) {
        let mut admin = self.redis.connect();
        for id in connections(&mut admin, flag) {
            let _: i64 = cmd("CLIENT").arg("KILL").arg("ID").arg(id).query(&mut admin).unwrap();
        }
    }

    fn fault(&mut self, random: &mut Seeded) {
        match random.below(9) {
            0 | 1 => self.kill('P'),
            2 => self.kill('t'),
            3 | 4 => self.link.set(Mode::Cut),
            5 => {
                cmd("FLUSHALL").exec(&mut self.redis.connect()).unwrap();
                self.serve();
            }
            6 => self.snapshots.push(self.redis.snapshot()),
            7 if !self.snapshots.is_empty() => {
                let snapshot = self.snapshots[random.below(self.snapshots.len())].clone();
                self.redis.stop();
                self.redis.start_again_from(&snapshot);
                self.serve();
            }
            _ => self.memory("1"),
        }
    }

    /// How often the node has looked at the log, since Redis was emptied last.
    fn probes(&self) -> u64 {
        let mut get = cmd("HGET");
        get.arg(format!("{}_wsLogHead", self.prefix)).arg(format!("Seen{NODE}"));
        get.query::<Option<u64>>(&mut self.redis.connect()).unwrap().unwrap_or(0)
    }

    fn heal(&self) {
        self.link.heal();
        self.memory("0");
    }
}

#[test]
fn nothing_is_missing_in_silence() {
    for seed in seeds("IMCORE_ORACLE_SEED", 3) {
        let _replay = Replay { variable: "IMCORE_ORACLE_SEED", seed };
        let redis = Redis::start();
        let link = Proxy::start(redis.port);
        let options = RedisOptions {
            log: true,
            probe_interval: Duration::from_millis(30),
            call_timeout: Duration::from_millis(1000),
            ..fresh_options()
        };
        let prefix = options.prefix.clone();
        let mut scene = Scene { redis, link, prefix, snapshots: Vec::new() };
        scene.serve();
        let sender = RedisBroker::open(&scene.redis.url(), options.clone()).unwrap();
        let listener = RedisBroker::open(&scene.link.url(), options).unwrap();
        let account = run(&mut scene, sender, &listener, seed);
        let (begun, sure, account) = account;
        let last = account.told.iter().copied().max().unwrap_or(0);
        let silent: Vec<_> = sure
            .iter()
            .filter(|sent| !account.heard.contains_key(sent) && **sent >= last)
            .collect();
        println!(
            "seed {seed}: {begun} sent, {} heard, told {} times",
            account.heard.len(),
            account.told.len()
        );
        assert!(silent.is_empty(), "missing in silence: {silent:?}; told at {:?}", account.told);
    }
}

/// The node, and what it made of what was sent.
struct Listening {
    node: Node,
    account: Account,
    begun: Arc<AtomicUsize>,
}

impl Listening {
    fn step(&mut self) {
        if let Some(event) = self.node.next() {
            self.account.take(event, self.begun.load(Ordering::SeqCst));
        }
    }

    /// Hears until it is so; fails if that takes much longer than anything here can.
    fn until(&mut self, what: &str, mut done: impl FnMut(&Account) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.account) {
            self.step();
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}: {} begun, {} heard, the last {}, told at {:?}",
                self.begun.load(Ordering::SeqCst),
                self.account.heard.len(),
                self.account.last,
                self.account.told
            );
        }
    }
}

/// Sends until it is over, then once more; which of them succeeded.
fn send(sender: &RedisBroker, begun: &AtomicUsize, over: &AtomicBool) -> Vec<usize> {
    let mut sure = Vec::new();
    loop {
        // What nobody could note is told with the next.
        let last = over.load(Ordering::SeqCst);
        let number = begun.fetch_add(1, Ordering::SeqCst);
        let message = if last { direct(number as i64) } else { message(number) };
        let sent = match message {
            Envelope::Direct { .. } => sender.publish(&[(NODE, message)]),
            _ => sender.publish(&[(NODE, message.clone()), (OTHER, message)]),
        };
        if sent.is_ok() {
            sure.push(number);
        }
        if last {
            sent.unwrap();
            return sure;
        }
    }
}

/// How many sends began, which of them succeeded, and what the node made of it.
fn run(
    scene: &mut Scene,
    sender: RedisBroker,
    listener: &RedisBroker,
    seed: u64,
) -> (usize, Vec<usize>, Account) {
    let mut random = Seeded::new(seed);
    let (begun, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (node, account) = (Node::quiet(listener), Account::default());
    let mut listening = Listening { node, account, begun: Arc::clone(&begun) };
    listening.until("the log", |account| !account.told.is_empty());
    let sending = thread::spawn({
        let (begun, over) = (Arc::clone(&begun), Arc::clone(&over));
        move || send(&sender, &begun, &over)
    });
    // The sender knows by then that the nodes stand: what it sent before, no log would have.
    listening.until("the first", |account| !account.heard.is_empty());
    for _ in 0..15 {
        let before = begun.load(Ordering::SeqCst);
        scene.fault(&mut random);
        let sends = random.below(80);
        let deadline = Instant::now() + PATIENCE;
        while begun.load(Ordering::SeqCst) < before + sends {
            assert!(Instant::now() < deadline, "the sender hangs, {} begun", before + sends);
            thread::yield_now();
        }
        scene.heal();
        // Hears some, or much, or waits until all is well again.
        let heard = listening.account.heard.len() + random.below(120);
        listening.until("some more", |account| account.heard.len() >= heard);
    }
    over.store(true, Ordering::SeqCst);
    let sure = sending.join().unwrap();
    let last = *sure.last().unwrap();
    listening.until("the last", |account| account.last >= last);
    // Until it has compared what it heard with what is there.
    let before = scene.probes();
    listening.until("four looks at the log", |_| scene.probes() >= before + 4);
    (begun.load(Ordering::SeqCst), sure, listening.account)
}
