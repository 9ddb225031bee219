//! What a feed says when the log cannot have everything, and what it does not say when it has.

use std::time::Duration;

use imcore::broker::{Bus, FeedEvent, RedisBroker, RedisOptions};
use redis::cmd;
use testkit::Redis;

use super::{Scene, options};
use crate::{
    feed::{NODE, Node, direct},
    world::serve,
};

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
    let mut scene = Scene::new();
    scene.server = Redis::start_with_debug();
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

/// Not even that something is missing can be noted: the sender tells it with the next message that is logged.
#[test]
fn what_a_redis_that_refuses_every_write_has_carried_is_told_later() {
    let mut scene = Scene::new();
    let mut admin = scene.admin();
    let mut replicas = |wanted: &str| {
        let mut set = cmd("CONFIG");
        set.arg("SET").arg("min-replicas-to-write").arg(wanted).exec(&mut admin).unwrap();
    };
    scene.send([1]);
    scene.expect([1]);
    replicas("1");
    // Whoever hears it is told nothing.
    scene.send([2]);
    let event = scene.node.until("it", |event| matches!(event, FeedEvent::Message { .. }));
    assert_eq!(event, FeedEvent::Message { envelope: direct(2), number: None });
    scene.cut();
    scene.send([3]);
    replicas("0");
    scene.send([4]);
    scene.expect_log();
    scene.expect([4]);
    // So is whoever came back before the sender could say so.
    scene.compare();
    scene.cut();
    replicas("1");
    scene.send([5]);
    replicas("0");
    scene.node.until("it listens", |event| *event == FeedEvent::Listening);
    scene.compare();
    scene.send([6]);
    let from = scene.from;
    let event = scene.node.until("the log", |event| matches!(event, FeedEvent::Log { .. }));
    assert!(matches!(event, FeedEvent::Log { from: told, .. } if told > from));
}
