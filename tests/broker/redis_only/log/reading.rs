//! What a feed that could not hear reads in the log.

use imcore::broker::{Bus, Directory, Envelope, FeedEvent, FeedStart};
use redis::cmd;

use super::Scene;
use crate::{
    feed::{NODE, Node, direct, to_channel},
    log::OTHER,
    world::id,
};

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
fn a_feed_that_redis_cuts_for_its_backlog_misses_nothing() {
    let mut scene = Scene::new();
    let mut admin = scene.admin();
    cmd("CONFIG")
        .arg("SET")
        .arg("client-output-buffer-limit")
        .arg("pubsub 65536 65536 0")
        .exec(&mut admin)
        .unwrap();
    let before = scene.node.errors;
    // Not heard meanwhile, and more than the system's buffers hold.
    let text = format!("\"{}\"", "x".repeat(50_000));
    for number in 0..300 {
        let Envelope::Direct { sender, receivers, receipt, acknowledge, about, .. } =
            direct(number)
        else {
            unreachable!()
        };
        let (content, id) = (text.clone(), Some(number.to_string()));
        let message = Envelope::Direct {
            sender,
            receivers,
            content,
            receipt,
            id,
            acknowledge,
            about,
            trace: None,
        };
        scene.broker.publish(&[(NODE, message)]).unwrap();
    }
    for number in 0..300 {
        match scene.node.message() {
            Envelope::Direct { id, .. } => assert_eq!(id, Some(number.to_string())),
            other => panic!("{other:?}"),
        }
    }
    assert!(scene.node.errors > before, "it was not cut");
}
