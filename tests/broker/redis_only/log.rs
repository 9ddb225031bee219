//! The log on Redis: what a feed that could not hear makes of it, and what it says when it cannot.

use std::time::Duration;

use imcore::broker::{Bus, Directory, Envelope, FeedEvent, FeedStart, RedisBroker, RedisOptions};
use redis::{Connection, cmd};
use testkit::{Redis, eventually};

use super::kill;
use crate::{
    feed::{NODE, Node, direct, to_channel},
    log::OTHER,
    world::{fresh_options, id, serve},
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

#[test]
fn what_was_sent_to_a_deaf_node_follows_in_order_and_once() {
    let mut scene = Scene::new();
    scene.send(1..=3);
    scene.expect(1..=3);
    for round in 1..4 {
        scene.cut();
        let first = round * 1000;
        // More entries than one page has, of which some hold several.
        for number in 0..100 {
            scene.send([first + 2 * number, first + 2 * number + 1]);
        }
        scene.expect(first..first + 200);
        scene.send([first + 500]);
        scene.expect([first + 500]);
    }
}

#[test]
fn a_break_within_a_batch_repeats_nothing() {
    let mut scene = Scene::new();
    scene.send(1..=10);
    scene.expect(1..=4);
    scene.cut();
    scene.send(11..=12);
    scene.expect(5..=12);
}

#[test]
fn streams_are_merged_and_channels_read_before() {
    let mut scene = Scene::new();
    scene.node.watchlist.watch(id(1));
    scene.send([1]);
    scene.expect([1]);
    scene.cut();
    scene.broker.join(&[(id(1), "a")]).unwrap();
    for number in 0..40 {
        scene.send([number]);
        let envelope = to_channel("a");
        scene.broker.publish(&[(NODE, envelope.clone()), (OTHER, envelope)]).unwrap();
    }
    for number in 0..40 {
        scene.expect([number]);
        assert_eq!(scene.node.channel_message(), "a");
        assert!(scene.node.is_in(id(1), "a"));
    }
    assert_eq!(scene.entries("LogAll"), 40, "once for both nodes");
    assert_eq!(scene.entries(&format!("LogOf{OTHER}")), 0);
}

#[test]
fn what_is_volatile_is_in_no_log() {
    let mut scene = Scene::new();
    let volatile = |number| Envelope::Volatile(Box::new(direct(number)));
    scene.broker.publish(&[(NODE, volatile(1)), (NODE, direct(2))]).unwrap();
    let event = scene.node.until("it", |event| matches!(event, FeedEvent::Message { .. }));
    assert_eq!(event, FeedEvent::Message { envelope: direct(1), number: None });
    scene.expect([2]);
    scene.cut();
    scene.broker.publish(&[(NODE, volatile(3)), (NODE, direct(4))]).unwrap();
    scene.expect([4]);
}

#[test]
fn a_node_that_comes_back_begins_with_the_log() {
    let mut scene = Scene::new();
    scene.send(1..=2);
    scene.expect(1..=2);
    scene.node = Node::quiet(&scene.broker);
    scene.send(3..=4);
    scene.node = Node::starting(&scene.broker, FeedStart::Log);
    scene.node.watchlist.watch(id(1));
    scene.expect_log();
    scene.expect(1..=4);
    scene.node.until("it listens", |event| {
        assert!(!matches!(event, FeedEvent::Message { .. }), "{event:?}");
        *event == FeedEvent::Listening
    });
    scene.send([5]);
    scene.expect([5]);
}

#[test]
fn what_was_trimmed_is_told() {
    let age = Duration::from_millis(300);
    let mut scene = Scene::with(RedisOptions { log_age: age, ..options() });
    scene.send([1]);
    scene.expect([1]);
    let epoch = scene.epoch.clone();
    scene.cut();
    scene.send([2]);
    scene.grow_older(age);
    scene.send([3]);
    scene.expect_log();
    assert_eq!(scene.epoch, epoch);
    scene.expect([3]);
    // A quiet stream keeps its last message.
    scene.grow_older(age);
    scene.cut();
    scene.send([4]);
    scene.expect([4]);
}

#[test]
fn bytes_are_bounded() {
    let scene = Scene::with(RedisOptions { log_bytes: 1 << 20, ..options() });
    let mut admin = scene.admin();
    for _ in 0..400 {
        let content = format!("\"{}\"", "x".repeat(10_000));
        let message = Envelope::Channel { sender: id(0), channel: None, content };
        scene.broker.publish(&[(NODE, message)]).unwrap();
        let used: Option<u64> =
            cmd("MEMORY").arg("USAGE").arg(scene.key("LogAll")).query(&mut admin).unwrap();
        assert!(used.unwrap() < (1 << 20) + 100_000);
    }
    let left = scene.entries("LogAll");
    assert!((90..=104).contains(&left), "{left}");
}

#[test]
fn an_emptied_redis_begins_another_epoch() {
    let mut scene = Scene::new();
    scene.send([1]);
    scene.expect([1]);
    for broken in [false, true] {
        let epoch = scene.epoch.clone();
        if broken {
            scene.cut();
        }
        cmd("FLUSHALL").exec(&mut scene.admin()).unwrap();
        serve(&scene.server, &scene.options.prefix, NODE);
        if broken {
            scene.send([2]);
        }
        scene.expect_log();
        assert_ne!(scene.epoch, epoch);
        if broken {
            scene.expect([2]);
        }
        scene.send([3]);
        scene.expect([3]);
    }
}

#[test]
fn a_redis_of_yesterday_begins_another_epoch() {
    let mut scene = Scene::new();
    scene.send([1]);
    scene.expect([1]);
    let snapshot = scene.server.snapshot();
    scene.cut();
    // Lost, and the node has not even heard of it.
    scene.send([2]);
    scene.server.stop();
    scene.server.start_again_from(&snapshot);
    scene.send([3]);
    let epoch = scene.epoch.clone();
    scene.expect_log();
    assert_ne!(scene.epoch, epoch);
    scene.expect([3]);
    scene.cut();
    scene.send([4]);
    scene.expect([4]);
}

#[test]
fn a_redis_that_goes_back_on_a_living_connection_is_found() {
    let server_options = ["--enable-debug-command", "yes"];
    let mut scene = Scene::new();
    scene.server = Redis::start_with(&server_options);
    serve(&scene.server, &scene.options.prefix, NODE);
    scene.broker = RedisBroker::open(&scene.server.url(), scene.options.clone()).unwrap();
    scene.node = Node::quiet(&scene.broker);
    scene.expect_log();
    scene.send([1]);
    scene.expect([1]);
    scene.server.snapshot();
    scene.send([2]);
    scene.expect([2]);
    let epoch = scene.epoch.clone();
    cmd("DEBUG").arg("RELOAD").arg("NOSAVE").exec(&mut scene.admin()).unwrap();
    scene.expect_log();
    assert_ne!(scene.epoch, epoch);
    scene.send([3]);
    scene.expect([3]);
    scene.cut();
    scene.send([4]);
    scene.expect([4]);
}

#[test]
fn a_full_redis_still_carries_and_whoever_breaks_off_is_told() {
    let mut scene = Scene::new();
    let mut admin = scene.admin();
    scene.send([1]);
    scene.expect([1]);
    let mut memory = |bytes: &str| {
        cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(&mut admin).unwrap();
    };
    memory("1");
    scene.send([2]);
    let event = scene.node.until("it", |event| matches!(event, FeedEvent::Message { .. }));
    assert_eq!(event, FeedEvent::Message { envelope: direct(2), number: None });
    memory("0");
    // Nothing was missed, and nothing is told.
    scene.send([3]);
    scene.expect([3]);
    // This is missed, and no log has it.
    scene.cut();
    memory("1");
    scene.send([4]);
    memory("0");
    scene.send([5]);
    scene.expect_log();
    scene.expect([5]);
    scene.cut();
    scene.send([6]);
    scene.expect([6]);
}

#[test]
fn a_sender_without_a_log_is_noticed_when_its_messages_are_missed() {
    let mut scene = Scene::new();
    let plain = RedisOptions { log: false, ..scene.options.clone() };
    let plain = RedisBroker::open(&scene.server.url(), plain).unwrap();
    scene.send([1]);
    scene.expect([1]);
    scene.cut();
    plain.publish(&[(NODE, direct(2))]).unwrap();
    scene.send([3]);
    scene.expect([3]);
    scene.node.until("lost", |event| *event == FeedEvent::Lost(1));
    scene.expect_log();
    scene.cut();
    scene.send([4]);
    scene.expect([4]);
}

#[test]
fn strangers_who_do_not_count_make_every_break_a_hole() {
    let mut scene = Scene::new();
    scene.compare();
    let topic = scene.key(&format!("Server{NODE}"));
    let payload = r#"{"Item1":0,"Item2":[9],"Item3":"9","Item4":false}"#;
    cmd("PUBLISH").arg(topic).arg(payload).exec(&mut scene.admin()).unwrap();
    scene.node.message();
    scene.compare();
    scene.cut();
    scene.send([1]);
    scene.expect_log();
    scene.expect([1]);
}

#[test]
fn a_node_of_another_make_gets_what_it_can_read() {
    let scene = Scene::new();
    let mut old = scene.admin();
    let mut old = old.as_pubsub();
    old.subscribe(scene.key("Serverold")).unwrap();
    let all = Envelope::Channel { sender: id(0), channel: None, content: "1".into() };
    scene.broker.publish(&[(NODE, all.clone()), ("old", all), ("old", direct(2))]).unwrap();
    for _ in 0..2 {
        let payload: String = old.get_message().unwrap().get_payload().unwrap();
        assert!(payload.starts_with(['{', '_']), "{payload}");
    }
    assert_eq!(scene.entries("LogAll"), 0);
}

#[test]
fn an_idle_stream_is_trimmed_down_to_its_last_message() {
    let age = Duration::from_millis(200);
    let mut scene = Scene::with(RedisOptions { log_age: age, ..options() });
    (1..=5).for_each(|number| scene.send([number]));
    scene.expect(1..=5);
    let own = format!("LogOf{NODE}");
    eventually("trimmed", || {
        scene.node.next();
        scene.entries(&own) == 1
    });
    scene.cut();
    scene.send([6]);
    scene.expect([6]);
}

/// The words of the `ACL SETUSER` of one user in the documents.
fn documented(user: &str) -> Vec<String> {
    let text = std::fs::read_to_string(testkit::root().join("docs/operating.md")).unwrap();
    let (_, after) = text.split_once(&format!("\nACL SETUSER {user} ")).expect("documented");
    let (rights, _) = after.split_once("\n```").unwrap();
    ["SETUSER", user].into_iter().chain(rights.split_whitespace()).map(str::to_owned).collect()
}

#[test]
fn the_documented_rights_suffice_for_the_log() {
    let mut scene = Scene::with(RedisOptions { prefix: "im_v2".into(), ..options() });
    let mut admin = scene.admin();
    for user in ["imcore", "imhelper"] {
        cmd("ACL").arg(documented(user)).exec(&mut admin).unwrap();
    }
    let open = |user: &str| {
        let url = format!("redis://{user}@127.0.0.1:{}", scene.server.port);
        RedisBroker::open(&url, scene.options.clone()).unwrap()
    };
    let node = Node::quiet(&open("imcore:secret"));
    scene.broker = open("imhelper:other");
    scene.node = node;
    scene.expect_log();
    scene.send([1]);
    scene.expect([1]);
    // Neither the node nor the helper is taken for one that may have lost something.
    scene.cut();
    scene.send([2]);
    scene.expect([2]);
}
