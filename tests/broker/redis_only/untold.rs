//! A Redis on which no script may publish: what is to be told is told once, whoever ends between change and telling.

use std::{thread, time::Duration};

use imcore::{
    ErrorKind, Ticket,
    broker::{
        Broker, Bus, ChangesBy, Directory, NodeBroker, PresenceEvent, RedisBroker, RedisOptions,
    },
};
use redis::cmd;
use testkit::{
    Redis,
    poor::{Poor, Rule, without_publish},
};

use super::kind;
use crate::{
    feed::{NODE, Node, to_channel},
    world::{Events, LONG, closed, fresh_options, id, opened},
};

/// A broker on such a Redis, which refuses also what `rule` says.
fn open(server: &Redis, options: &RedisOptions, rule: Rule) -> RedisBroker {
    let poor = Poor::start_with(server.port, rule, without_publish);
    RedisBroker::open(&poor.url(), options.clone()).unwrap()
}

#[test]
fn what_a_process_leaves_untold_the_next_one_tells_once() {
    let server = Redis::start();
    let options = fresh_options();
    let mut events = Events::of(&open(&server, &options, |_| None));
    // As if it ended at once after its change, or a step later.
    for (number, rule) in [
        (1, (|words| (words[0] == "WATCH").then_some("ERR no")) as Rule),
        (2, |words| (words[0] == "LRANGE").then_some("ERR no")),
    ] {
        let (online, offline) = (id(number), id(number + 10));
        let first = open(&server, &options, |_| None);
        let mut session = first.begin_session("n", LONG, true).unwrap();
        first.report(&mut session, &[opened(1, offline.clone())]).unwrap();
        assert_eq!(events.online(), Ticket::new(offline.clone(), Some("m")).text());
        let dying = open(&server, &options, rule);
        let refused = dying.report(&mut session, &[opened(2, online.clone()), closed(1)]);
        assert_eq!(kind(refused), ErrorKind::Rejected);
        assert_eq!(dying.are_online(&[online.clone(), offline.clone()]).unwrap(), [true, false]);
        let mut heard = events.into_inner();
        let silence = Duration::from_millis(50);
        assert_eq!(heard.next(silence).unwrap(), None, "it is not told yet");
        // Its own repetition, if it lives; another node, if it does not.
        match number {
            1 => first.report(&mut session, &[opened(2, online.clone()), closed(1)]).unwrap(),
            _ => drop(first.leave_overdue().unwrap()),
        }
        let mut next = || heard.next(LONG).unwrap();
        assert_eq!(next(), Some(PresenceEvent::Online(Ticket::new(online, Some("m")))));
        assert_eq!(next(), Some(PresenceEvent::Offline(Ticket::new(offline, Some("m")))));
        first.leave_overdue().unwrap();
        assert_eq!(heard.next(silence).unwrap(), None, "it is told once");
        events = Events::of(&first);
    }
    let mut keys: Vec<String> = cmd("KEYS").arg("*Untold").query(&mut server.connect()).unwrap();
    assert_eq!(keys.pop(), None, "nothing is left");
}

#[test]
fn several_nodes_tell_each_event_once_and_in_order() {
    const ROUNDS: u64 = 150;
    let server = Redis::start();
    let options = fresh_options();
    let mut events = Events::of(&open(&server, &options, |_| None));
    thread::scope(|scope| {
        for node in 1..=4 {
            let (server, options) = (&server, &options);
            scope.spawn(move || {
                let broker = open(server, options, |_| None);
                let mut session = broker.begin_session(&format!("n{node}"), LONG, true).unwrap();
                for round in 0..ROUNDS {
                    broker.report(&mut session, &[opened(round, id(node))]).unwrap();
                    broker.report(&mut session, &[closed(round)]).unwrap();
                }
            });
        }
        let mut is_online = [false; 4];
        let mut counts = [0; 4];
        for _ in 0..4 * 2 * ROUNDS {
            let (ticket, online) = match events.next() {
                PresenceEvent::Online(ticket) => (ticket, true),
                PresenceEvent::Offline(ticket) => (ticket, false),
                other => panic!("{other:?}"),
            };
            let node = (1..=4).position(|node| *ticket.client() == id(node)).unwrap();
            assert_ne!(std::mem::replace(&mut is_online[node], online), online);
            counts[node] += 1;
        }
        assert_eq!(counts, [2 * ROUNDS; 4]);
    });
}

/// Joins are told by the helper behind its script; nothing but that is needed for the order.
#[test]
fn a_helper_tells_its_joins_itself() {
    const PAIRS: i64 = 500;
    let server = Redis::start();
    let options = RedisOptions { changes: ChangesBy::Notice, ..fresh_options() };
    let broker = open(&server, &options, |_| None);
    assert!(broker.examine().is_ok());
    let mut node = Node::listen(&broker);
    (1..=PAIRS).for_each(|client| node.watchlist.watch(id(client)));
    let mut overtaken = 0;
    for client in 1..=PAIRS {
        broker.join(&[(id(client), "a")]).unwrap();
        broker.publish(&[(NODE, to_channel("a"))]).unwrap();
        node.channel_message();
        overtaken += u32::from(!node.is_in(id(client), "a"));
    }
    broker.leave(&[(id(1), "a")]).unwrap();
    broker.publish(&[(NODE, to_channel("a"))]).unwrap();
    node.channel_message();
    assert!(!node.is_in(id(1), "a"));
    broker.clear_channel("a").unwrap();
    broker.publish(&[(NODE, to_channel("a"))]).unwrap();
    node.channel_message();
    let left = (1..=PAIRS).filter(|client| node.is_in(id(*client), "a")).count();
    assert_eq!((overtaken, left), (0, 0));
    let log = RedisOptions { log: true, ..options };
    let refusal = open(&server, &log, |_| None).examine().unwrap_err().to_string();
    assert!(refusal.contains("PUBLISH in a script") && refusal.contains("leave the log off"));
}
