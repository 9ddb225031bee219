//! What a call answers is true: "nothing was done" only if nothing was.
//!
//! The oracle subscribes to Redis itself and knows nothing of connections or pools.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use imcore::{
    ErrorKind, Ticket,
    broker::{Bus, Directory, Envelope, MemoryBroker, NodeBroker, RedisBroker, RedisOptions},
};
use redis::cmd;
use testkit::{
    Redis, eventually,
    proxy::{Mode, Proxy},
};

use crate::{
    feed::{NODE, Node, direct},
    redis_only::calls,
    world::{fresh_options, id},
};

/// A message of one batch.
fn part(batch: usize) -> Envelope {
    direct(batch as i64)
}

/// Messages heard of each batch, up to the end.
fn heard(node: &mut Node) -> HashMap<String, usize> {
    let mut heard = HashMap::new();
    while let Envelope::Direct { content, .. } = node.message() {
        *heard.entry(content).or_default() += 1;
    }
    heard
}

fn content(envelope: Envelope) -> String {
    match envelope {
        Envelope::Direct { content, .. } => content,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_that_found_no_connection_has_sent_nothing() {
    const SIZE: usize = 3_000;
    let server = Redis::shared();
    let options = RedisOptions {
        pool_size: 1,
        connect_timeout: Duration::from_millis(40),
        ..fresh_options()
    };
    let broker = RedisBroker::open(&server.url(), options.clone()).unwrap();
    // Sees everything, over connections of its own.
    let mut node = Node::listen(&RedisBroker::open(&server.url(), options).unwrap());
    let outcomes: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8usize)
            .map(|thread| {
                let broker = &broker;
                scope.spawn(move || {
                    let send = |round: usize| {
                        let batch = thread * 100 + round;
                        let outgoing: Vec<_> = (0..SIZE).map(|_| (NODE, part(batch))).collect();
                        (batch, broker.publish(&outgoing).map_err(|error| error.kind()))
                    };
                    (0..6).map(send).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let end = Envelope::ForceOffline { client: id(1) };
    while broker.publish(&[(NODE, end.clone())]).is_err() {}
    let heard = heard(&mut node);
    let count = |batch| heard.get(&content(part(batch))).copied().unwrap_or(0);
    let refused = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).count();
    println!("{refused} of {} batches were refused", outcomes.len());
    for (batch, outcome) in outcomes {
        match outcome {
            Ok(()) => assert_eq!(count(batch), SIZE),
            Err(kind) => {
                assert_eq!(kind, ErrorKind::Overloaded);
                assert_eq!(count(batch), 0, "nothing was sent");
            }
        }
    }
}

#[test]
fn a_batch_that_breaks_off_says_so() {
    let server = Redis::start();
    let link = Proxy::start(server.port);
    let options = fresh_options();
    let mut node = Node::listen(&RedisBroker::open(&server.url(), options.clone()).unwrap());
    let broker = RedisBroker::open(&link.url(), options).unwrap();
    broker.publish(&[(NODE, part(0))]).unwrap();
    node.message();
    link.set(Mode::Throttle(1_000_000));
    let outgoing: Vec<_> = (0..50_000).map(|_| (NODE, part(1))).collect();
    let kind = thread::scope(|scope| {
        let sending = scope.spawn(|| broker.publish(&outgoing).unwrap_err().kind());
        // More than one pipeline has gone out.
        (0..3_000).for_each(|_| assert_eq!(node.message(), part(1)));
        link.set(Mode::Cut);
        // Nobody listens from here on: another connection for the rest could not be had.
        sending.join().unwrap()
    });
    assert_eq!(kind, ErrorKind::Interrupted);
}

#[test]
fn a_call_that_is_refused_in_part_says_so() {
    let server = Redis::start();
    let mut admin = server.connect();
    let options = fresh_options();
    let prefix = format!("{}_ws", options.prefix);
    let rules = ["on", ">secret", "resetkeys", "resetchannels", "allkeys", "+@all"];
    let mut user = cmd("ACL");
    user.arg("SETUSER").arg("half").arg(&rules[..]).arg(format!("&{prefix}Server{NODE}"));
    user.exec(&mut admin).unwrap();
    let url = server.url().replace("redis://", "redis://half:secret@");
    let broker = RedisBroker::open(&url, options.clone()).unwrap();
    let mut node = Node::listen(&RedisBroker::open(&server.url(), options).unwrap());
    let denied = broker.publish(&[("other", part(1)), ("another", part(1))]).unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Rejected, "{denied}");
    let half = broker.publish(&[("other", part(2)), (NODE, part(2))]).unwrap_err();
    assert_eq!(half.kind(), ErrorKind::Interrupted, "{half}");
    assert!(half.to_string().contains("1 of 2"), "{half}");
    assert_eq!(node.message(), part(2));
}

#[test]
fn a_foreign_key_costs_its_own_ticket_only() {
    let server = Redis::shared();
    let options = fresh_options();
    let foreign = format!("{}_wsTokenforeign", options.prefix);
    cmd("HSET").arg(foreign).arg("a").arg("b").exec(&mut server.connect()).unwrap();
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let ticket = Ticket::new(id(1), None);
    broker.put_ticket("own", &ticket, Duration::from_secs(60)).unwrap();
    let taken = broker.take_tickets("n1", &["foreign".into(), "own".into()]).unwrap();
    assert!(taken[0].is_none() && taken[1].is_some());
}

/// An idle connection is used as it is: asking Redis first whether it answers would cost a wait of its own.
#[test]
fn a_hanging_redis_costs_one_wait_also_after_a_pause() {
    let server = Redis::start();
    let link = Proxy::start(server.port);
    let options =
        RedisOptions { call_timeout: Duration::from_millis(300), ..RedisOptions::default() };
    let broker = RedisBroker::open(&link.url(), options).unwrap();
    broker.online_clients().unwrap();
    broker.publish(&[(NODE, part(0))]).unwrap();
    let before = link.connections();
    // Longer than a connection is trusted without a look.
    thread::sleep(Duration::from_millis(1_100));
    link.set(Mode::Stall);
    assert_eq!(broker.publish(&[(NODE, part(1))]).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(broker.online_clients().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(link.connections(), before, "no second connection was tried");
}

/// A connection that Redis has closed while it was idle is noticed before anything is sent over it.
#[test]
fn a_connection_that_was_cut_while_idle_costs_no_call() {
    let mut server = Redis::start();
    let broker = RedisBroker::open(&server.url(), fresh_options()).unwrap();
    for _ in 0..3 {
        broker.publish(&[(NODE, part(0))]).unwrap();
        server.stop();
        server.start_again();
        thread::sleep(Duration::from_millis(20));
        broker.publish(&[(NODE, part(0))]).unwrap();
    }
}

#[test]
fn lists_leave_the_connections_of_sends_alone() {
    let server = Redis::shared();
    let options = RedisOptions { pool_size: 2, ..fresh_options() };
    let online = format!("{}_wsOnline", options.prefix);
    let mut fill = redis::pipe();
    for number in 1..=20_000 {
        fill.cmd("HSET").arg(&online).arg(number).arg(1).ignore();
    }
    fill.exec(&mut server.connect()).unwrap();
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let lists: Vec<_> = (0..150)
            .map(|_| {
                scope.spawn(|| {
                    let mut pages = 0;
                    while !done.load(Ordering::Acquire) {
                        let mut after = None;
                        loop {
                            // A list may have to wait too long for a place, and says so.
                            let Ok(page) = broker.online_page(after.as_deref(), 1000) else {
                                break;
                            };
                            pages += 1;
                            after = page.next;
                            if after.is_none() || done.load(Ordering::Acquire) {
                                break;
                            }
                        }
                    }
                    pages
                })
            })
            .collect();
        for number in 0..500 {
            broker.publish(&[(NODE, part(number))]).unwrap();
            broker.join(&[(id(1), "room")]).unwrap();
        }
        done.store(true, Ordering::Release);
        let pages: usize = lists.into_iter().map(|list| list.join().unwrap()).sum();
        assert!(pages > 0);
    });
}

/// What many threads send at one moment goes out together: one count, and fewer round trips than sends.
#[test]
fn sends_of_many_threads_share_round_trips_and_keep_their_order() {
    const THREADS: i64 = 16;
    const SENDS: i64 = 300;
    let server = Redis::start();
    let mut admin = server.connect();
    let options = RedisOptions { pool_size: 4, ..fresh_options() };
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let mut node = Node::listen(&broker);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let broker = &broker;
            scope.spawn(move || {
                for number in 0..SENDS {
                    broker.publish(&[(NODE, direct(thread * 1_000 + number))]).unwrap();
                }
            });
        }
        let mut next = [0; THREADS as usize];
        for _ in 0..THREADS * SENDS {
            let message = node.message();
            let thread = (0..THREADS)
                .find(|thread| message == direct(thread * 1_000 + next[*thread as usize]));
            next[thread.expect("the next of a thread") as usize] += 1;
        }
    });
    eventually("all were counted", || calls(&mut admin, "hincrby") > 0);
    let counted = calls(&mut admin, "hincrby");
    println!("{} sends in {counted} round trips", THREADS * SENDS);
    assert!(counted < (THREADS * SENDS) as u64, "{counted}");
}

/// Keeps what the library logs.
struct Log(Mutex<Vec<String>>);

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// A list of servers that differs from the nodes' own sends into the void, and every call is fine.
#[test]
fn a_node_that_nobody_serves_is_named_once() {
    static LOG: Log = Log(Mutex::new(Vec::new()));
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let said = |about: &str| {
        let log = LOG.0.lock().unwrap();
        log.iter().filter(|line| line.contains("nobody serves") && line.contains(about)).count()
    };
    let server = Redis::shared();
    let broker = RedisBroker::open(&server.url(), fresh_options()).unwrap();
    for name in ["served", "down for now"] {
        broker.begin_session(name, Duration::from_secs(60), true).unwrap();
    }
    let _node = Node::listen(&broker);
    for number in 0..3 {
        broker
            .publish(&[
                (NODE, part(number)),
                ("misspelled", part(number)),
                ("down for now", part(number)),
            ])
            .unwrap();
    }
    assert_eq!(said("\"misspelled\""), 1);
    assert_eq!(said("\"down for now\""), 1, "as one of those that are served");
    assert_eq!(said("node \"down for now\""), 0);
    // Other tests, under their own prefixes, have such nodes too.
    let of_ours =
        |line: &&String| line.contains(&format!("node {NODE:?}")) && line.contains("\"served\"");
    assert_eq!(LOG.0.lock().unwrap().iter().find(of_ours), None);

    // Within one process.
    let broker = MemoryBroker::new();
    broker.publish(&[("nobody yet", part(1))]).unwrap();
    let _node = Node::listen(&broker);
    for number in 0..3 {
        broker.publish(&[(NODE, part(number)), ("misspelled too", part(number))]).unwrap();
    }
    assert_eq!((said("misspelled too"), said("nobody yet")), (1, 0));
}
