//! A Redis that tells of changed keys by keyspace notifications: what it says itself, what it says by .NET helpers, and what
//! becomes of a node when it is told to be silent.

use std::time::Duration;

use imcore::{
    ErrorKind,
    broker::{
        Broker, ChangesBy, Directory, FeedEvent, FeedStart, NodeBroker, RedisBroker, RedisOptions,
    },
};
use redis::cmd;
use testkit::{Redis, eventually};

use super::kind;
use crate::{
    feed::{NODE, Node},
    world::{fresh_options, id},
};

fn options() -> RedisOptions {
    let probe_interval = Duration::from_millis(50);
    RedisOptions { changes: ChangesBy::Keyspace, probe_interval, ..fresh_options() }
}

fn set_events(server: &Redis, events: &str) {
    let mut set = cmd("CONFIG");
    set.arg("SET").arg("notify-keyspace-events").arg(events);
    set.exec(&mut server.connect()).unwrap();
}

#[test]
fn a_redis_that_is_told_to_be_silent_is_noticed() {
    let server = Redis::start();
    let broker = RedisBroker::open(&server.url(), options()).unwrap();
    let refusal = broker.examine().unwrap_err();
    assert!(refusal.to_string().contains("notify-keyspace-events to Kgh"), "{refusal}");
    // Each of these is not enough: hashes are changed, and deleted.
    for events in ["Kh", "Kg", "Egh"] {
        set_events(&server, events);
        let mut feed = broker.subscribe(NODE, Default::default(), FeedStart::Now);
        assert_eq!(kind(feed.next(Duration::ZERO)), ErrorKind::Rejected, "{events}");
    }
    set_events(&server, "Kgh");
    assert!(broker.examine().unwrap().contains("keyspace notifications"));
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    set_events(&server, "");
    eventually("the node knows that it is not told", || {
        node.next();
        node.errors > 0
    });
    broker.join_within(&[(id(1), "a")], &Default::default()).unwrap();
    set_events(&server, "KA");
    node.until("it listens again", |event| matches!(event, FeedEvent::Listening));
    eventually("what changed meanwhile is known", || {
        node.next();
        node.is_in(id(1), "a")
    });
}

#[test]
fn an_emptied_redis_is_noticed_although_it_says_nothing() {
    let server = Redis::start_with(&["--notify-keyspace-events", "Kgh"]);
    let broker = RedisBroker::open(&server.url(), options()).unwrap();
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    broker.join_within(&[(id(1), "a")], &Default::default()).unwrap();
    eventually("in the channel", || {
        node.next();
        node.is_in(id(1), "a")
    });
    cmd("FLUSHALL").exec(&mut server.connect()).unwrap();
    node.until("the loss", |event| matches!(event, FeedEvent::Forgotten));
    eventually("not in the channel", || {
        node.next();
        !node.is_in(id(1), "a")
    });
}

/// Prefixes with signs that mean something in a pattern, and databases other than the first.
#[test]
fn any_prefix_and_database_will_do() {
    let server = Redis::start_with(&["--notify-keyspace-events", "Kgh"]);
    for (prefix, key_prefix) in [("a*b", ""), ("p[x]?", "k\\^-"), ("ü", "é:")] {
        let (prefix, key_prefix) = (prefix.into(), key_prefix.into());
        let options = RedisOptions { prefix, key_prefix, ..options() };
        let broker = RedisBroker::open(&format!("{}/7", server.url()), options).unwrap();
        let mut node = Node::listen(&broker);
        node.watchlist.watch(id(1));
        for channel in ["a", "b"] {
            broker.join_within(&[(id(1), channel)], &Default::default()).unwrap();
            eventually("in the channel", || {
                node.next();
                node.is_in(id(1), channel)
            });
        }
    }
}
