//! Settings, and what a caller is told while Redis is away or hangs.

use std::{thread, time::Duration};

use imcore::{
    ErrorKind, Ticket,
    broker::{Broker, Bus, Directory, NodeBroker, RedisBroker, RedisOptions},
};
use redis::cmd;
use testkit::{Redis, eventually};

use super::kind;
use crate::{
    feed::{NODE, Node, direct, to_channel},
    world::{fresh_options, id, opened},
};

#[test]
fn the_key_prefix_applies_to_keys_and_not_to_topics() {
    let server = Redis::shared();
    let options = RedisOptions { key_prefix: "app1:".into(), ..fresh_options() };
    let names = format!("{}_ws", options.prefix);
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    broker.join(&[(id(1), "a")]).unwrap();
    let mut session = broker.begin_session("n1", Duration::from_secs(60), true).unwrap();
    broker.report(&mut session, &[opened(1, id(1))]).unwrap();
    broker.put_ticket("t", &Ticket::new(id(1), None), Duration::from_secs(10)).unwrap();
    let mut admin = server.connect();
    let keys: Vec<String> = cmd("KEYS").arg(format!("*{names}*")).query(&mut admin).unwrap();
    assert_eq!(keys.len(), 10, "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("app1:")), "{keys:?}");
    let payload = r#"__FreeIM__(ChanMessage){"Item1":0,"Item2":"a","Item3":"1"}"#;
    let topic = format!("{names}Server{NODE}");
    let heard: i64 = cmd("PUBLISH").arg(topic).arg(payload).query(&mut admin).unwrap();
    assert_eq!(heard, 1);
    assert_eq!(node.channel_message(), "a");
    assert!(node.is_in(id(1), "a"));
}

#[test]
fn passwords_are_used_and_never_shown() {
    let server = Redis::start_with(&["--requirepass", "s3cret"]);
    let url = |credentials: &str| format!("redis://{credentials}127.0.0.1:{}/0", server.port);
    for (credentials, right) in [
        (":s3cret@", true),
        ("default:s3cret@", true),
        ("", false),
        (":wr0ng@", false),
        ("nobody:wr0ng@", false),
    ] {
        let broker = RedisBroker::open(&url(credentials), RedisOptions::default()).unwrap();
        assert_eq!(broker.describe(), url(""));
        if right {
            assert_eq!(broker.online_clients().unwrap(), []);
            Node::listen(&broker);
            continue;
        }
        let error = broker.online_clients().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{credentials} {error}");
        assert!(!format!("{error} {error:?}").contains("wr0ng"), "{error:?}");
        let mut feed = broker.subscribe(NODE, Default::default(), imcore::broker::FeedStart::Now);
        assert_eq!(kind(feed.next(Duration::ZERO)), ErrorKind::Config);
    }
}

#[test]
fn sockets_and_databases_follow_from_the_url() {
    let server = Redis::start();
    let socket = server.socket().display().to_string();
    let urls = [format!("redis+unix://{socket}?db=2"), format!("unix://{socket}?db=3"), {
        format!("{}/4", server.url())
    }];
    let mut admin = server.connect();
    for (url, database) in urls.iter().zip(2..) {
        let broker = RedisBroker::open(url, RedisOptions::default()).unwrap();
        let mut node = Node::listen(&broker);
        node.watchlist.watch(id(1));
        broker.join(&[(id(1), "a")]).unwrap();
        broker.publish(&[(NODE, to_channel("a"))]).unwrap();
        node.channel_message();
        assert!(node.is_in(id(1), "a"));
        cmd("SELECT").arg(database).exec(&mut admin).unwrap();
        let keys: i64 = cmd("DBSIZE").query(&mut admin).unwrap();
        // Channel, client, list of channels, count of messages.
        assert_eq!(keys, 4, "{url}");
    }
    let nosuch = RedisBroker::open(&format!("{}/99", server.url()), RedisOptions::default());
    assert_eq!(kind(nosuch.unwrap().online_clients()), ErrorKind::Config);
}

#[test]
fn opening_needs_no_redis_but_a_url() {
    let broker = RedisBroker::open("redis://127.0.0.1:1/", RedisOptions::default()).unwrap();
    assert_eq!(kind(broker.online_clients()), ErrorKind::Unavailable);
    for url in ["", "localhost", "http://localhost", "redis://", "redis://h/x", "redis://0.0.0.0"] {
        let error = RedisBroker::open(url, RedisOptions::default()).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url} {error}");
    }
    let secret = "redis://:pa55word@h:x";
    let error = RedisBroker::open(secret, RedisOptions::default()).map(drop).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("pa55word"), "{error:?}");
    let options = RedisOptions { pool_size: 0, ..RedisOptions::default() };
    assert_eq!(kind(RedisBroker::open("redis://h", options).map(drop)), ErrorKind::Config);
    let tls = RedisBroker::open("rediss://localhost:6380", RedisOptions::default()).map(drop);
    assert_eq!(tls.is_ok(), cfg!(feature = "tls"));
}

#[test]
fn a_stalled_redis_costs_one_timeout() {
    let server = Redis::start_with_debug();
    let options =
        RedisOptions { call_timeout: Duration::from_millis(200), ..RedisOptions::default() };
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    broker.online_clients().unwrap();
    let mut admin = server.connect();
    let (started, sleeping) = std::sync::mpsc::channel();
    let stall = thread::spawn(move || {
        started.send(()).unwrap();
        cmd("DEBUG").arg("SLEEP").arg(3).exec(&mut admin).unwrap();
    });
    sleeping.recv().unwrap();
    // Whichever call meets the stall fails once, however many commands it sends.
    let many: Vec<_> = (0..1000).map(|number| (NODE, direct(number))).collect();
    eventually("a timeout", || match broker.publish(&many) {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(!stall.is_finished(), "it waited for every reply");
            true
        }
    });
    stall.join().unwrap();
    broker.publish(&many).unwrap();
}

#[test]
fn a_busy_pool_says_so() {
    let server = Redis::start_with_debug();
    let options = RedisOptions {
        pool_size: 1,
        connect_timeout: Duration::from_millis(50),
        call_timeout: Duration::from_secs(20),
        ..RedisOptions::default()
    };
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    broker.online_clients().unwrap();
    let mut admin = server.connect();
    let stall = thread::spawn(move || cmd("DEBUG").arg("SLEEP").arg(2).exec(&mut admin).unwrap());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stall.is_finished() {
                    if let Err(error) = broker.online_clients() {
                        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
                    }
                }
            });
        }
    });
    stall.join().unwrap();
    broker.online_clients().unwrap();
}
