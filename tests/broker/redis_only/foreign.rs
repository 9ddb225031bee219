//! Foreign writers: .NET helpers, newer versions, and whatever else writes into our keys and topics.

use std::{thread, time::Duration};

use imcore::broker::{Bus, ChangesBy, Directory, FeedEvent, RedisBroker, RedisOptions};
use redis::{Connection, cmd, pipe};
use testkit::{Redis, eventually};

use super::{calls, kill, open};
use crate::{
    feed::{NODE, Node, direct, to_channel},
    world::{fresh_options, id, notifying},
};

/// The effect of the .NET helper's join.
pub(super) const NET_JOIN: &str = "if redis.call('HSETNX',KEYS[1],ARGV[1],'0')==1 then \
                        redis.call('HSET',KEYS[2],ARGV[2],'0') \
                        redis.call('HINCRBY',KEYS[3],ARGV[2],1) end return 1";

#[test]
fn a_message_never_overtakes_a_join_by_a_net_helper() {
    joins_by_net_helpers_are_never_overtaken(Redis::shared(), fresh_options());
}

#[test]
fn nor_does_it_where_keyspace_notifications_tell_of_joins() {
    let options = RedisOptions { changes: ChangesBy::Keyspace, ..fresh_options() };
    joins_by_net_helpers_are_never_overtaken(notifying(), options);
}

fn joins_by_net_helpers_are_never_overtaken(server: &Redis, options: RedisOptions) {
    const PAIRS: i64 = 4000;
    let names = format!("{}_ws", options.prefix);
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let mut node = Node::listen(&broker);
    (0..PAIRS).for_each(|number| node.watchlist.watch(id(number + 1)));
    let (mut first, mut second) = (server.connect(), server.connect());
    let sending = thread::spawn(move || {
        for number in 0..PAIRS {
            join_and_send(&names, number, &mut first, &mut second);
        }
    });
    let mut overtaken = [0; 4];
    for number in 0..PAIRS {
        assert_eq!(node.channel_message(), number.to_string());
        let missing = !node.is_in(id(number + 1), &number.to_string());
        overtaken[number as usize % 4] += u32::from(missing);
    }
    sending.join().unwrap();
    assert_eq!(overtaken, [0; 4], "in one pipeline, two connections, MULTI, GUID dialect");
}

/// Client `number + 1` joins channel `number`, which then gets a message, in one of four ways.
fn join_and_send(names: &str, number: i64, first: &mut Connection, second: &mut Connection) {
    let (channel, client) = (number.to_string(), number + 1);
    let chan_key = format!("{names}Chan{channel}");
    let client_key = format!("{names}Client{client}");
    let list_key = format!("{names}ListChan");
    let topic = format!("{names}Server{NODE}");
    let payload =
        format!(r#"__FreeIM__(ChanMessage){{"Item1":0,"Item2":"{channel}","Item3":"\"x\""}}"#);
    let mut join = cmd("EVAL");
    join.arg(NET_JOIN).arg(3).arg(&chan_key).arg(&client_key).arg(&list_key);
    join.arg(client).arg(&channel);
    let mut publish = cmd("PUBLISH");
    publish.arg(topic).arg(payload);
    let mut pipeline = pipe();
    match number % 4 {
        0 => pipeline.add_command(join).add_command(publish).exec(first).unwrap(),
        1 => {
            join.exec(first).unwrap();
            publish.exec(second).unwrap();
        }
        2 => pipeline.atomic().add_command(join).add_command(publish).exec(first).unwrap(),
        _ => {
            pipeline.cmd("HSET").arg(&chan_key).arg(client).arg(0);
            pipeline.cmd("HSET").arg(&client_key).arg(&channel).arg(0);
            pipeline.cmd("HINCRBY").arg(&list_key).arg(&channel).arg(1);
            pipeline.add_command(publish).exec(first).unwrap();
        }
    }
}

#[test]
fn foreign_payloads_are_skipped() {
    let server = Redis::shared();
    let (broker, names) = open(server);
    let mut node = Node::listen(&broker);
    let mut admin = server.connect();
    let junk: [&[u8]; 4] = [b"hello", b"\xff\xfe", b"__FreeIM__(New)1", b"0\r\n"];
    for payload in junk {
        cmd("PUBLISH").arg(format!("{names}Server{NODE}")).arg(payload).exec(&mut admin).unwrap();
    }
    broker.publish(&[(NODE, direct(1))]).unwrap();
    for _ in junk {
        node.until("malformed", |event| matches!(event, FeedEvent::Malformed(_)));
    }
    assert_eq!(node.message(), direct(1));
}

/// A notice without keys says that everything is gone, and costs a look at every client. Redis sends none with a text.
#[test]
fn a_forged_notice_is_ignored() {
    let server = Redis::shared();
    let (broker, _) = open(server);
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    broker.join(&[(id(1), "room")]).unwrap();
    broker.publish(&[(NODE, to_channel("room"))]).unwrap();
    node.channel_message();
    let reports = node.reports[&id(1)];
    for number in 0..20 {
        cmd("PUBLISH").arg("__redis__:invalidate").arg("x").exec(&mut server.connect()).unwrap();
        broker.publish(&[(NODE, to_channel("room")), (NODE, direct(number))]).unwrap();
        assert_eq!((node.channel_message(), node.message()), ("room".into(), direct(number)));
    }
    assert_eq!(node.reports[&id(1)], reports, "nothing was read again");
}

/// A newer version counts what it sends, also what this one does not know.
#[test]
fn an_unknown_control_word_is_not_taken_for_lost() {
    let server = Redis::start();
    let mut admin = server.connect();
    let options = RedisOptions { probe_interval: Duration::from_millis(20), ..fresh_options() };
    let names = format!("{}_ws", options.prefix);
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let mut node = Node::listen(&broker);
    broker.publish(&[(NODE, direct(1))]).unwrap();
    node.message();
    for _ in 0..7 {
        let mut newer = pipe();
        newer.cmd("HINCRBY").arg(format!("{names}Published")).arg(NODE).arg(1);
        newer.cmd("PUBLISH").arg(format!("{names}Server{NODE}")).arg("__FreeIM__(New)1");
        newer.exec(&mut admin).unwrap();
        node.until("skipped", |event| matches!(event, FeedEvent::Malformed(_)));
    }
    kill(&mut admin, 'P');
    node.until("listening again", |event| *event == FeedEvent::Listening);
    // What was lost would be told with the first probe that returns; a probe is a message of the node to itself.
    let before = calls(&mut admin, "publish");
    eventually("probes", || {
        let event = node.next();
        assert!(!matches!(event, Some(FeedEvent::Lost(_))), "{event:?}");
        calls(&mut admin, "publish") > before + 5
    });
}

#[test]
fn foreign_keys_do_not_deafen_a_feed() {
    let server = Redis::shared();
    let (broker, names) = open(server);
    let mut node = Node::listen(&broker);
    let mut admin = server.connect();
    node.watchlist.watch(id(1));
    node.watchlist.watch(id(2));
    for key in ["Client1", "Clientjunk", "Client"] {
        cmd("SET").arg(format!("{names}{key}")).arg("x").exec(&mut admin).unwrap();
    }
    broker.join(&[(id(2), "a")]).unwrap();
    broker.publish(&[(NODE, to_channel("a"))]).unwrap();
    assert_eq!(node.channel_message(), "a");
    assert!(node.is_in(id(2), "a"));
    assert_eq!(node.errors, 0);
}
