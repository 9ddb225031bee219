//! How much the log keeps, for whom, and with which rights.

use std::{cell::Cell, time::Duration};

use imcore::broker::{Bus, Envelope, NodeBroker, RedisBroker, RedisOptions, Telling};
use redis::cmd;
use testkit::eventually;

use super::{Scene, options};
use crate::{
    feed::{NODE, Node, direct},
    world::id,
};

#[test]
fn bytes_are_bounded() {
    let scene = Scene::with(RedisOptions { log_bytes: 1 << 20, ..options() });
    let mut admin = scene.admin();
    for _ in 0..400 {
        let content = format!("\"{}\"", "x".repeat(10_000));
        let message = Envelope::Channel { sender: id(0), channel: None, content, trace: None };
        scene.broker.publish(&[(NODE, message)]).unwrap();
        let used: Option<u64> =
            cmd("MEMORY").arg("USAGE").arg(scene.key("LogAll")).query(&mut admin).unwrap();
        assert!(used.unwrap() < (1 << 20) + 100_000);
    }
    let left = scene.entries("LogAll");
    assert!((90..=104).contains(&left), "{left}");
}

#[test]
fn a_node_of_another_make_gets_what_it_can_read() {
    let scene = Scene::new();
    let mut old = scene.admin();
    let mut old = old.as_pubsub();
    old.subscribe(scene.key("Serverold")).unwrap();
    let all = Envelope::Channel { sender: id(0), channel: None, content: "1".into(), trace: None };
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

/// The sender of the message knows what became of it at the client.
fn settle(broker: &RedisBroker, number: u64, (message, client): (u64, i64)) {
    let settled = [(message, id(client))];
    broker.tell(NODE, &Telling { by: "x", number, receipts: &[], settled: &settled }).unwrap();
}

#[test]
fn what_is_settled_goes_with_its_message() {
    let age = Duration::from_millis(200);
    let mut scene = Scene::with(RedisOptions { log_age: age, ..options() });
    let settled = |scene: &Scene| scene.broker.settled(NODE).unwrap().len();
    let tellings = Cell::new(0);
    let settle = |scene: &Scene, number: u64, client: i64| {
        tellings.set(tellings.get() + 1);
        settle(&scene.broker, tellings.get(), (number, client));
    };
    scene.send([1]);
    scene.expect([1]);
    let first = scene.from;
    (0..50).for_each(|client| settle(&scene, first, client));
    assert_eq!(settled(&scene), 50);
    scene.send([2]);
    scene.expect([2]);
    let last = scene.from;
    eventually("trimmed", || {
        scene.node.next();
        scene.entries(&format!("LogOf{NODE}")) == 1
    });
    (0..100).for_each(|client| settle(&scene, last, client));
    assert_eq!(settled(&scene), 100);
    // Without the log nothing of it is of use.
    cmd("DEL").arg(scene.key(&format!("LogOf{NODE}"))).exec(&mut scene.admin()).unwrap();
    (0..100).for_each(|client| settle(&scene, last, client));
    assert!(settled(&scene) < 70);
    // What is foreign there costs nobody anything.
    let key = scene.key(&format!("Settled{NODE}"));
    cmd("SET").arg(&key).arg("x").exec(&mut scene.admin()).unwrap();
    assert_eq!(settled(&scene), 0);
    settle(&scene, last, 1);
}

#[test]
fn what_was_told_is_not_told_again() {
    let mut scene = Scene::with(options());
    let tell = |scene: &Scene, by: &str, number: u64, receipt: i64| {
        let receipts = [(NODE, direct(receipt))];
        let settled = [(number, id(receipt))];
        let telling = Telling { by, number, receipts: &receipts, settled: &settled };
        scene.broker.tell(NODE, &telling).unwrap();
    };
    tell(&scene, "a", 1, 1);
    tell(&scene, "a", 1, 1);
    tell(&scene, "a", 2, 2);
    // One that was given up, and arrives now.
    tell(&scene, "a", 1, 1);
    // Another process, of the same name, counts by itself.
    tell(&scene, "b", 1, 3);
    scene.expect([1, 2, 3]);
    assert_eq!(scene.broker.settled(NODE).unwrap().len(), 3);
}

/// The words of the `ACL SETUSER` of one user in the documents.
fn documented(user: &str) -> Vec<String> {
    let text = std::fs::read_to_string(testkit::root().join("docs/redis.md")).unwrap();
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
    let (broker, helper) = (open("imcore:secret"), open("imhelper:other"));
    scene.node = Node::quiet(&broker);
    scene.broker = helper;
    scene.expect_log();
    scene.send([1]);
    scene.expect([1]);
    (1..=65).for_each(|client| settle(&broker, client as u64, (scene.from, client)));
    settle(&broker, 65, (scene.from, 65));
    assert_eq!(broker.settled(NODE).unwrap().len(), 65);
    assert_eq!(scene.entries(&format!("Settled{NODE}")), 65, "what came again is known");
    // Neither the node nor the helper is taken for one that may have lost something.
    scene.cut();
    scene.send([2]);
    scene.expect([2]);
}

#[test]
fn what_the_nodes_say_bounds_it() {
    let age = Duration::from_millis(200);
    let mut scene = Scene::with(RedisOptions { log_age: age, ..options() });
    // A helper that was not told how long.
    scene.broker = RedisBroker::open(
        &scene.server.url(),
        RedisOptions { prefix: scene.options.prefix.clone(), log: true, ..Default::default() },
    )
    .unwrap();
    scene.cut();
    scene.send([1]);
    scene.grow_older(age);
    scene.send([2]);
    assert_eq!(scene.entries(&format!("LogOf{NODE}")), 1);
}
