//! Several Redis that share the nodes: what is of all of them is of each, and what one of them takes along when it goes.

use std::{sync::Arc, time::Duration};

use imcore::{
    ErrorKind, Ticket,
    broker::{self, Broker, Envelope, FeedStart, JoinLimits, PresenceEvent, RedisOptions, Telling},
};
use redis::cmd;
use testkit::{Redis, eventually, poor::Poor};

use crate::{
    feed::{Node, direct},
    lists::all_pages,
    world::{Events, LONG, closed, fresh_options, id, opened, sorted},
};

/// Nodes `a` and `b` on a Redis each: `a` has the clients of even ids.
struct Scene {
    urls: String,
    options: RedisOptions,
    broker: Arc<dyn Broker>,
}

impl Scene {
    fn on(urls: String) -> Scene {
        let nodes = vec!["a".to_owned(), "b".to_owned()];
        let mut options = RedisOptions { nodes, ..fresh_options() };
        options.connect_timeout = Duration::from_millis(500);
        let broker = broker::open(&urls, options.clone()).unwrap();
        Scene { urls, options, broker }
    }

    /// On databases of the common server.
    fn shared() -> Scene {
        let url = Redis::shared().url();
        Scene::on(format!("{url}/0,{url}/1"))
    }

    fn elsewhere(&self) -> Arc<dyn Broker> {
        broker::open(&self.urls, self.options.clone()).unwrap()
    }
}

#[test]
fn what_is_of_all_is_of_each() {
    let scene = Scene::shared();
    let broker = &*scene.broker;
    let [mut a, mut b] = ["a", "b"].map(|node| broker.begin_session(node, LONG, true).unwrap());
    broker.report(&mut a, &[opened(1, id(2)), opened(2, id(4))]).unwrap();
    broker.report(&mut b, &[opened(1, id(3))]).unwrap();
    let joins: Vec<_> = (1..=8).map(|client| (id(client), "room")).collect();
    broker.join(&joins).unwrap();
    broker.join(&[(id(3), "odd")]).unwrap();

    let broker = &*scene.elsewhere();
    assert_eq!(sorted(broker.online_clients().unwrap()), [id(2), id(3), id(4)]);
    let asked = [3, 1, 2, 9, 4].map(id);
    assert_eq!(broker.are_online(&asked).unwrap(), [true, false, true, false, true]);
    let mut of = broker.channels_of(&[id(4), id(3), id(9)]).unwrap();
    of[1].sort();
    assert_eq!(of, [vec!["room"], vec!["odd", "room"], vec![]]);
    let all: Vec<_> = (1..=8).map(id).collect();
    assert_eq!(sorted(broker.channel_members("room").unwrap()), sorted(all));
    assert_eq!(broker.channel_sizes(&["odd", "room", "no", ""]).unwrap(), [1, 8, 0, 0]);
    let channels = [("odd".to_owned(), 1), ("room".to_owned(), 8)];
    assert_eq!(sorted(broker.channels().unwrap()), channels);
    let mut nodes =
        broker.statuses().unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    nodes.sort();
    assert_eq!(nodes, ["a", "b"]);

    // Page by page, one Redis after the other; a channel comes once for each.
    assert_eq!(broker.members_page("room", None, 3).unwrap().total, 8);
    let mut members = all_pages(|after| broker.members_page("room", after, 3).unwrap());
    members.sort();
    members.dedup();
    assert_eq!(members.len(), 8);
    let named = all_pages(|after| broker.channels_page(after, 10).unwrap());
    assert_eq!(sorted(named), [channels[0].clone(), channels[1].clone(), channels[1].clone()]);

    broker.clear_channel("room").unwrap();
    assert_eq!(sorted(broker.channel_members("room").unwrap()), [id(2), id(3), id(4)]);
    broker.leave(&[(id(2), "room"), (id(3), "room"), (id(3), "odd")]).unwrap();
    assert_eq!(broker.channels().unwrap(), [("room".to_owned(), 1)]);
    let limits = {
        let mut limits = JoinLimits::default();
        limits.channels_per_client = 1;
        limits
    };
    let error = broker.join_within(&[(id(4), "x"), (id(5), "x")], &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert!(error.to_string().contains("1 of 2 Redis have done their part: client 4"), "{error}");
    assert_eq!(broker.channel_members("x").unwrap(), [id(5)]);
    assert_eq!(broker.rejoin(&[id(2), id(4), id(3)]).unwrap(), 3);
}

#[test]
fn each_thing_is_where_its_node_is_and_nowhere_else() {
    let scene = Scene::shared();
    let broker = &*scene.broker;
    for client in [6, 7] {
        broker.put_ticket(&client.to_string(), &Ticket::new(id(client), None), LONG).unwrap();
    }
    let take = |node, token: &str| broker.take_tickets(node, &[token.into()]).unwrap().remove(0);
    assert!(take("a", "7").is_none() && take("b", "6").is_none(), "it is the other's");
    let taken = take("a", "6").unwrap();
    broker.return_tickets("a", &[("6", &taken)]).unwrap();
    broker.void_tickets(&id(7)).unwrap();
    assert!(take("a", "6").is_some() && take("b", "7").is_none());

    let first = broker.claim("order 7", "one", LONG).unwrap();
    let second = scene.elsewhere().claim("order 7", "two", LONG).unwrap();
    assert_eq!((first, second.as_deref()), (None, Some("one")));
    assert!(broker.complete("order 7", "one", "done", LONG).unwrap());

    // Messages of one call to several nodes, receipts among them.
    let [mut a, mut b] = ["a", "b"].map(|node| Node::on(broker, node, FeedStart::Now));
    for node in [&mut a, &mut b] {
        node.until("listening", |event| *event == imcore::broker::FeedEvent::Listening);
    }
    broker.publish(&[("b", direct(1)), ("a", direct(2)), ("b", direct(3))]).unwrap();
    assert_eq!((b.message(), b.message(), a.message()), (direct(1), direct(3), direct(2)));
    let receipts = [("a", direct(4)), ("b", direct(5)), ("a", direct(6))];
    let telling = Telling { by: "x", number: 1, receipts: &receipts, settled: &[] };
    broker.tell("b", &telling).unwrap();
    assert_eq!((a.message(), a.message(), b.message()), (direct(4), direct(6), direct(5)));
    let unknown = broker.publish(&[("c", direct(1))]).unwrap_err();
    assert!(unknown.to_string().contains("\"c\" is not in the list"), "{unknown}");

    // A join comes before a message that follows it, on each.
    for (node, feed, client) in [("a", &mut a, 8), ("b", &mut b, 9)] {
        feed.watchlist.watch(id(client));
        broker.join(&[(id(8), "room"), (id(9), "room")]).unwrap();
        broker.publish(&[(node, crate::feed::to_channel("room"))]).unwrap();
        feed.channel_message();
        assert!(feed.is_in(id(client), "room"));
    }
}

#[test]
fn who_stands_on_another_redis_clears_away_after_a_dead_node() {
    let scene = Scene::shared();
    let broker = &*scene.broker;
    let mut events = Events::of(broker);
    let mut dead = broker.begin_session("b", Duration::from_millis(50), true).unwrap();
    broker.report(&mut dead, &[opened(1, id(1)), opened(2, id(3))]).unwrap();
    broker.join(&[(id(1), "room")]).unwrap();
    let mut alive = broker.begin_session("a", LONG, true).unwrap();
    broker.report(&mut alive, &[opened(1, id(2)), closed(1)]).unwrap();
    // The order of two Redis is nobody's.
    let mut heard: Vec<_> = (0..4).map(|_| events.next()).collect();
    eventually("it is found dead", || {
        let ended = broker.end_lapsed(&broker.lapsed().unwrap()).unwrap();
        ended == [dead.id.clone()]
    });
    let mut reaped = 0;
    eventually("what it has left is closed", || {
        reaped += broker.reap(10).unwrap();
        reaped == 2
    });
    heard.extend((0..2).map(|_| events.next()));
    let of = |client| {
        let is_of = |ticket: &Ticket| *ticket.client() == id(client);
        let (online, offline): (Vec<_>, Vec<_>) = heard
            .iter()
            .partition(|event| matches!(event, PresenceEvent::Online(ticket) if is_of(ticket)));
        let offline = offline
            .iter()
            .filter(|event| matches!(event, PresenceEvent::Offline(ticket) if is_of(ticket)));
        (online.len(), offline.count())
    };
    assert_eq!([of(1), of(2), of(3)], [(1, 1); 3]);
    assert_eq!(broker.online_clients().unwrap(), []);
}

#[test]
fn a_redis_that_goes_takes_its_own_nodes_along() {
    let (first, mut second) = (Redis::start(), Redis::start());
    let scene = Scene::on(format!("{},{}", first.url(), second.url()));
    let broker = &*scene.broker;
    let mut events = Events::of(broker);
    let [mut a, mut b] = ["a", "b"].map(|node| broker.begin_session(node, LONG, true).unwrap());
    broker.report(&mut a, &[opened(1, id(2))]).unwrap();
    assert!(matches!(events.next(), PresenceEvent::Online(_)));
    second.stop();

    // What is of the other goes on.
    broker.renew(&a, &Default::default()).unwrap();
    broker.report(&mut a, &[opened(2, id(4))]).unwrap();
    let mut events = events.into_inner();
    eventually("the other is heard", || {
        matches!(events.next(Duration::from_millis(100)), Ok(Some(PresenceEvent::Online(_))))
    });
    broker.join(&[(id(2), "room")]).unwrap();
    broker.publish(&[("a", direct(2))]).unwrap();
    assert_eq!(broker.are_online(&[id(2)]).unwrap(), [true]);
    let receipts = [("b", direct(3)), ("a", direct(2))];
    let telling = Telling { by: "x", number: 1, receipts: &receipts, settled: &[] };
    broker.tell("a", &telling).unwrap();
    assert_eq!((broker.lapsed().unwrap(), broker.reap(10).unwrap()), (vec![], 0));
    broker.leave_overdue().unwrap();
    assert_eq!(broker.statuses().unwrap().len(), 1);

    // What is of both says so: done in part, or, where nothing was to be done, not at all.
    let kind = |result: imcore::Result<()>| result.unwrap_err().kind();
    eventually("no connection is left", || {
        kind(broker.renew(&b, &Default::default())) == ErrorKind::Unavailable
    });
    assert_eq!(kind(broker.report(&mut b, &[opened(1, id(1))])), ErrorKind::Unavailable);
    assert_eq!(kind(broker.join(&[(id(1), "room")])), ErrorKind::Unavailable);
    assert_eq!(kind(broker.join(&[(id(1), "r"), (id(4), "r")])), ErrorKind::Interrupted);
    assert_eq!(kind(broker.publish(&[("a", direct(2)), ("b", direct(1))])), ErrorKind::Interrupted);
    assert!(broker.channel_members("room").unwrap_err().is_retryable());
    let all = Envelope::Channel { sender: id(0), channel: None, content: "1".into(), trace: None };
    assert_eq!(kind(broker.publish(&[("b", all)])), ErrorKind::Unavailable);

    // Who begins to listen now listens to half of them, and says so.
    let mut half = scene.elsewhere().subscribe_events();
    eventually("it is said", || half.next(Duration::from_millis(100)).is_err());
    let mut number = 10;
    eventually("the half is heard", || {
        number += 1;
        broker.report(&mut a, &[opened(number, id(4)), closed(number)]).unwrap();
        match half.next(Duration::from_millis(100)) {
            Ok(Some(PresenceEvent::Listening)) => panic!("it does not listen to all"),
            heard => matches!(heard, Ok(Some(PresenceEvent::Offline(_)))),
        }
    });

    second.start_again();
    eventually("it listens to all", || {
        matches!(half.next(Duration::from_millis(100)), Ok(Some(PresenceEvent::Listening)))
    });
    eventually("it is back", || broker.channel_members("r").is_ok_and(|all| all == [id(4)]));
}

#[test]
fn a_redis_that_hangs_is_not_waited_for() {
    let (first, second) = (Redis::start(), Redis::start());
    let mut scene = Scene::on(format!("{},{}", first.url(), second.url()));
    // Who waits for it waits for ever.
    scene.options.call_timeout = Duration::from_secs(3600);
    let broker = &*scene.elsewhere();
    let mut a = broker.begin_session("a", LONG, true).unwrap();
    broker.join(&[(id(1), "room"), (id(2), "room")]).unwrap();
    let paused = second.pause();
    assert_eq!((broker.lapsed().unwrap(), broker.reap(10).unwrap()), (vec![], 0));
    broker.leave_overdue().unwrap();
    broker.report(&mut a, &[opened(1, id(2))]).unwrap();
    // One that has not found it out yet.
    let other = &*scene.elsewhere();
    let receipts = [("b", direct(3)), ("a", direct(2))];
    let telling = Telling { by: "x", number: 1, receipts: &receipts, settled: &[] };
    other.tell("a", &telling).unwrap();
    assert_eq!(other.are_online(&[id(2)]).unwrap(), [true]);
    drop(paused);
    assert_eq!(sorted(broker.channel_members("room").unwrap()), [id(1), id(2)]);
}

#[test]
fn a_list_that_differs_is_refused_in_one_sentence() {
    let (first, second) = (Redis::start(), Redis::start());
    let (one, two) = (first.url(), second.url());
    let scene = Scene::on(format!("{one},{two}"));
    let mark = format!("{}_wsLayout", scene.options.prefix);
    let marks = || [&first, &second].map(|redis| cmd("GET").arg(&mark).query(&mut redis.connect()));
    scene.broker.examine().unwrap();
    assert_eq!(marks(), [Ok(None::<String>), Ok(None)], "who only looks leaves nothing");
    scene.broker.join(&[(id(1), "room"), (id(2), "room")]).unwrap();
    assert_eq!(marks(), [Ok(Some("share 1 of 2".to_owned())), Ok(Some("share 2 of 2".into()))]);
    // One that has lost all has its mark again before anything of a node.
    cmd("FLUSHALL").exec(&mut second.connect()).unwrap();
    assert_eq!(marks()[1], Ok(None));
    scene.broker.begin_session("b", LONG, false).unwrap();
    assert_eq!(marks()[1], Ok(Some("share 2 of 2".into())));
    scene.broker.join(&[(id(1), "room"), (id(2), "room")]).unwrap();
    let refusal = |urls: &str, options: &RedisOptions| {
        let broker = broker::open(urls, options.clone()).unwrap();
        let error = broker.channel_members("room").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert_eq!(broker.examine().unwrap_err().to_string(), error.to_string());
        error.to_string()
    };
    let alone = refusal(&one, &scene.options);
    assert!(alone.contains("holds share 1 of 2") && alone.contains("name all of them"), "{alone}");
    let turned = refusal(&format!("{two},{one}"), &scene.options);
    assert!(
        turned.contains("holds share 2 of 2") && turned.contains("delete their keys"),
        "{turned}"
    );
    // The same Redis under two names.
    let alias = one.replace("127.0.0.1", "localhost");
    let other = RedisOptions { nodes: scene.options.nodes.clone(), ..fresh_options() };
    let twice = refusal_of_either(&format!("{one},{alias}"), &other);
    assert!(twice.contains("name each Redis once"), "{twice}");
    // One that holds all, with or without a mark: .NET processes leave none.
    let alone = RedisOptions { nodes: scene.options.nodes.clone(), ..fresh_options() };
    broker::open(&one, alone.clone()).unwrap().join(&[(id(2), "room")]).unwrap();
    let mixed = refusal(&format!("{one},{two}"), &alone);
    assert!(mixed.contains("holds all of this prefix") && mixed.contains("_ws*"), "{mixed}");
    // Nothing of that has changed what there is.
    assert_eq!(scene.elsewhere().channel_size("room").unwrap(), 2);
    assert_eq!(broker::open(&one, alone).unwrap().channel_size("room").unwrap(), 1);
}

/// Where it is chance which of two is the first.
fn refusal_of_either(urls: &str, options: &RedisOptions) -> String {
    let broker = broker::open(urls, options.clone()).unwrap();
    broker.channel_members("room").unwrap_err().to_string()
}

#[test]
fn what_needs_one_redis_is_refused_or_empty() {
    let broker = &*Scene::shared().broker;
    let refused = [
        broker.set_roster("room", true).unwrap_err(),
        broker.common_key(&[0; 16]).unwrap_err(),
        broker.hold_webhook("x", LONG).unwrap_err(),
        broker.publish_by(1, &[("a", direct(2))]).unwrap_err(),
    ];
    for error in refused {
        assert!(!error.is_retryable() && error.to_string().contains("one Redis"), "{error}");
    }
    assert_eq!(broker.slot_table().unwrap(), None);
    assert_eq!(
        (broker.event_groups().unwrap(), broker.rosters(&Default::default()).unwrap().changed),
        (vec![], vec![])
    );
}

#[test]
fn a_part_of_a_cluster_is_refused() {
    let moved = |words: &[String]| (words[0] == "GET").then_some("MOVED 1 10.0.0.9:6379");
    let server = Poor::start(Redis::shared().port, moved);
    let broker = broker::open(&server.url(), fresh_options()).unwrap();
    let error = broker.channel_size("room").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("part of a Redis Cluster"), "{error}");
}
