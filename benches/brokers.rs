//! The brokers through their public contract: one hop, pipelines, the ordered feed.
//!
//! `cargo bench --bench brokers`; the Redis half starts a `redis-server` of its own. Wall time: compare
//! runs on a quiet machine only. Reading and writing envelopes is not public by itself; `publish` on
//! Redis includes the writing and the feed the reading.
#![allow(missing_docs)]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use imcore::{
    ClientId, Ticket,
    broker::{
        Broker, Envelope, FeedEvent, FeedStart, MemoryBroker, NodeBroker, PresenceChange,
        RedisBroker, RedisOptions, Subscription, Watchlist,
    },
};
use testkit::Redis;

const NODE: &str = "bench:1";
const PATIENCE: Duration = Duration::from_secs(10);

fn direct(receiver: i64) -> Envelope {
    Envelope::Direct {
        sender: 0.into(),
        receivers: vec![receiver.into()],
        content: format!("\"{}\"", "x".repeat(126)),
        receipt: false,
        id: None,
        acknowledge: false,
        about: false,
        trace: None,
    }
}

fn to_channel() -> Envelope {
    Envelope::Channel {
        sender: 0.into(),
        channel: Some("room".into()),
        content: format!("\"{}\"", "x".repeat(126)),
        trace: None,
    }
}

/// A subscription that hears, and the list of the clients it watches.
fn listening(broker: &dyn Broker) -> (Box<dyn Subscription>, Arc<Watchlist>) {
    let watchlist = Arc::new(Watchlist::default());
    let mut feed = broker.subscribe(NODE, Arc::clone(&watchlist), FeedStart::Now);
    loop {
        if feed.next(PATIENCE).expect("the broker is there") == Some(FeedEvent::Listening) {
            return (feed, watchlist);
        }
    }
}

/// Reads until `count` messages have come.
fn hear(feed: &mut dyn Subscription, count: usize) {
    let mut heard = 0;
    while heard < count {
        let event = feed.next(PATIENCE).expect("the broker is there").expect("a message");
        heard += usize::from(matches!(event, FeedEvent::Message { .. }));
    }
}

/// One hop, a burst in one call, and a join that a channel message must not overtake.
fn hops(criterion: &mut Criterion, name: &str, broker: &dyn Broker) {
    let mut group = criterion.benchmark_group(name);
    let (mut feed, watchlist) = listening(broker);
    for burst in [1usize, 64, 512] {
        group.throughput(Throughput::Elements(burst as u64));
        group.bench_function(format!("publish and hear {burst}"), |bencher| {
            bencher.iter_batched(
                || (0..burst as i64).map(|id| (NODE, direct(id))).collect::<Vec<_>>(),
                |batch| {
                    broker.publish(&batch).expect("the broker is there");
                    hear(&mut *feed, burst);
                },
                BatchSize::SmallInput,
            );
        });
    }
    let client = ClientId::Int(7);
    watchlist.watch(client.clone());
    group.throughput(Throughput::Elements(1));
    group.bench_function("ordered feed: join, message, leave", |bencher| {
        bencher.iter(|| {
            broker.join(&[(client.clone(), "room")]).expect("the broker is there");
            broker.publish(&[(NODE, to_channel())]).expect("the broker is there");
            hear(&mut *feed, 1);
            broker.leave(&[(client.clone(), "room")]).expect("the broker is there");
        });
    });
    group.finish();
}

/// The connection of a client of its own.
fn opened(connection: u64) -> PresenceChange {
    let ticket = Ticket::new((connection as i64).into(), None);
    PresenceChange::Opened { connection, ticket, resumable: false }
}

fn closed(connection: u64) -> PresenceChange {
    PresenceChange::Closed { connection, reason: "peer" }
}

/// What a connect costs at the broker: a ticket put and taken, a connection opened and closed.
fn connects(criterion: &mut Criterion, name: &str, broker: &dyn Broker) {
    const BATCH: u64 = 64;
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(BATCH));
    let tokens: Vec<_> = (0..BATCH).map(|number| format!("token{number}")).collect();
    let ticket = Ticket::new(7.into(), Some("bench"));
    group.bench_function("take 64 tickets", |bencher| {
        bencher.iter_batched(
            || {
                for token in &tokens {
                    broker.put_ticket(token, &ticket, PATIENCE).expect("the broker is there");
                }
            },
            |()| black_box(broker.take_tickets("n1", &tokens).expect("the broker is there")),
            BatchSize::PerIteration,
        );
    });
    let mut session =
        broker.begin_session(NODE, Duration::from_secs(600), true).expect("a session");
    let mut next = 0;
    group.bench_function("report 64 opened and closed", |bencher| {
        bencher.iter(|| {
            let numbers = next..next + BATCH;
            next += BATCH;
            let opened: Vec<_> = numbers.clone().map(opened).collect();
            let closed: Vec<_> = numbers.map(closed).collect();
            broker.report(&mut session, &opened).expect("the broker is there");
            broker.report(&mut session, &closed).expect("the broker is there");
        });
    });
    group.finish();
}

fn memory(criterion: &mut Criterion) {
    let broker = MemoryBroker::new();
    hops(criterion, "memory", &broker);
    connects(criterion, "memory", &broker);
}

fn redis(criterion: &mut Criterion) {
    let server = Redis::start();
    let broker =
        RedisBroker::open(&server.url(), RedisOptions::default()).expect("a usable address");
    hops(criterion, "redis", &broker);
    connects(criterion, "redis", &broker);
    let logging = with_log(&server, "logged");
    hops(criterion, "redis, log", &logging);
    for (name, broker) in [("without", broker), ("with", with_log(&server, "measured"))] {
        println!("CPU of Redis per message, {name} a log: {:.2} us", redis_cpu(&server, &broker));
    }
    for (name, events) in [("without", 0), ("with", 1_000_000)] {
        let options = RedisOptions { prefix: name.into(), events, ..RedisOptions::default() };
        let broker = RedisBroker::open(&server.url(), options).expect("a usable address");
        for at_once in [1, 64] {
            let cpu = presence_cpu(&server, &broker, at_once);
            println!(
                "CPU of Redis to open and close, {at_once} at once, {name} events: {cpu:.2} us"
            );
        }
    }
}

/// A broker with a log, under a prefix of its own, where a session serves the node.
fn with_log(server: &Redis, prefix: &str) -> RedisBroker {
    let options = RedisOptions { prefix: prefix.into(), log: true, ..RedisOptions::default() };
    let broker = RedisBroker::open(&server.url(), options).expect("a usable address");
    broker.begin_session(NODE, Duration::from_secs(600), true).expect("a session");
    broker
}

/// Microseconds of Redis's CPU for each of many messages that are sent in batches of 100 and heard by one feed.
fn redis_cpu(server: &Redis, broker: &dyn Broker) -> f64 {
    const BATCHES: usize = 2000;
    let (mut feed, _) = listening(broker);
    let batch: Vec<_> = (0..100).map(|id| (NODE, direct(id))).collect();
    let before = used_cpu(server);
    for _ in 0..BATCHES {
        broker.publish(&batch).expect("the broker is there");
        hear(&mut *feed, batch.len());
    }
    (used_cpu(server) - before) * 1e6 / (BATCHES * batch.len()) as f64
}

/// The same for each client that connects, so many of them reported at once, and goes again.
fn presence_cpu(server: &Redis, broker: &dyn Broker, at_once: u64) -> f64 {
    const CLIENTS: u64 = 64_000;
    let mut session =
        broker.begin_session(NODE, Duration::from_secs(600), true).expect("a session");
    let before = used_cpu(server);
    for first in (0..CLIENTS).step_by(at_once as usize) {
        let numbers = first..first + at_once;
        let opened: Vec<_> = numbers.clone().map(opened).collect();
        let closed: Vec<_> = numbers.map(closed).collect();
        broker.report(&mut session, &opened).expect("the broker is there");
        broker.report(&mut session, &closed).expect("the broker is there");
    }
    (used_cpu(server) - before) * 1e6 / CLIENTS as f64
}

/// Seconds of CPU that Redis has used for commands.
fn used_cpu(server: &Redis) -> f64 {
    let mut ask = redis::cmd("INFO");
    let info: String = ask.arg("cpu").query(&mut server.connect()).expect("Redis is there");
    let fields = info.lines().filter_map(|line| line.split_once(':'));
    let main = fields.filter(|(name, _)| name.ends_with("_main_thread"));
    main.filter_map(|(_, value)| value.trim().parse::<f64>().ok()).sum()
}

criterion_group!(benches, memory, redis);
criterion_main!(benches);
