//! The log on Redis: what a feed that could not hear makes of it, and what it says when it cannot.

mod bounds;
mod losing;
mod reading;

use std::time::Duration;

use imcore::broker::{Bus, FeedEvent, RedisBroker, RedisOptions};
use redis::{Connection, cmd};
use testkit::{Redis, eventually};

use super::kill;
use crate::{
    feed::{NODE, Node, direct},
    log::OTHER,
    world::{fresh_options, serve},
};

/// A Redis of its own, a broker with a log there and a node that listens.
struct Scene {
    server: Redis,
    options: RedisOptions,
    broker: RedisBroker,
    node: Node,
    /// The epoch that was told last, and from where.
    epoch: String,
    from: u64,
}

fn options() -> RedisOptions {
    RedisOptions { log: true, probe_interval: Duration::from_millis(50), ..fresh_options() }
}

impl Scene {
    fn new() -> Self {
        Self::with(options())
    }

    fn with(options: RedisOptions) -> Self {
        let server = Redis::start();
        for node in [NODE, OTHER] {
            serve(&server, &options.prefix, node);
        }
        let broker = RedisBroker::open(&server.url(), options.clone()).unwrap();
        let node = Node::quiet(&broker);
        let mut scene = Scene { server, options, broker, node, epoch: String::new(), from: 0 };
        scene.expect_log();
        scene
    }

    fn admin(&self) -> Connection {
        self.server.connect()
    }

    fn key(&self, name: &str) -> String {
        format!("{}_ws{name}", self.options.prefix)
    }

    /// How long a stream is.
    fn entries(&self, name: &str) -> u64 {
        cmd("XLEN").arg(self.key(name)).query(&mut self.admin()).unwrap()
    }

    /// Waits until the node has compared what it heard with what is there: by the second probe from here.
    fn compare(&mut self) {
        let mut admin = self.admin();
        let head = self.key("LogHead");
        let mut probes = || {
            let mut get = cmd("HGET");
            get.arg(&head).arg(format!("Seen{NODE}"));
            get.query::<Option<u64>>(&mut admin).unwrap().unwrap_or(0)
        };
        let before = probes();
        while probes() < before + 3 {
            self.node.next();
        }
    }

    /// Waits until what was logged so far is older than `age` by the clock of Redis.
    fn grow_older(&self, age: Duration) {
        let mut admin = self.admin();
        let mut now = || {
            let (seconds, micros): (u64, u64) = cmd("TIME").query(&mut admin).unwrap();
            seconds * 1_000_000 + micros
        };
        let begin = now();
        eventually("older", || now() > begin + age.as_micros() as u64);
    }

    fn send(&self, numbers: impl IntoIterator<Item = i64>) {
        let outgoing: Vec<_> = numbers.into_iter().map(|number| (NODE, direct(number))).collect();
        self.broker.publish(&outgoing).unwrap();
    }

    /// The connection on which the node listens is gone; it does not know yet.
    fn cut(&self) {
        kill(&mut self.admin(), 'P');
    }

    fn expect_log(&mut self) {
        let event = self.node.until("the log", |event| {
            assert!(!matches!(event, FeedEvent::Message { .. }), "{event:?} before the log");
            matches!(event, FeedEvent::Log { .. })
        });
        let FeedEvent::Log { epoch, from } = event else { unreachable!() };
        (self.epoch, self.from) = (epoch, from);
    }

    /// The next messages are these, each once, numbered, and without a word of anything missing.
    fn expect(&mut self, numbers: impl IntoIterator<Item = i64>) {
        for expected in numbers {
            let event = self.node.until("a message", |event| {
                !matches!(event, FeedEvent::Listening | FeedEvent::Channels { .. })
            });
            let FeedEvent::Message { envelope, number: Some(number) } = event else {
                panic!("{event:?} instead of {expected}")
            };
            assert_eq!(envelope, direct(expected));
            assert!(number > self.from, "{number} after {}", self.from);
            self.from = number;
        }
    }
}
