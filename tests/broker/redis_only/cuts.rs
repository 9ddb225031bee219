//! Cuts, restarts and lost data: what feeds and subscriptions make of them.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use imcore::{
    ErrorKind, NodeStatus, Ticket,
    broker::{Bus, Directory, FeedEvent, NodeBroker, PresenceEvent, RedisBroker, RedisOptions},
};
use redis::cmd;
use testkit::{PATIENCE, Redis, eventually};

use super::{calls, connections, kill, kind, open};
use crate::{
    feed::{NODE, Node, direct, to_channel},
    world::{Events, closed, fresh_options, id, opened},
};

#[test]
fn a_feed_survives_the_loss_of_its_listener() {
    let server = Redis::start();
    let mut admin = server.connect();
    let (broker, _) = open(&server);
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    broker.join(&[(id(1), "a")]).unwrap();
    kill(&mut admin, 'P');
    broker.join(&[(id(1), "b")]).unwrap();
    node.until("listening again", |event| *event == FeedEvent::Listening);
    assert!(node.errors > 0);
    broker.publish(&[(NODE, to_channel("b"))]).unwrap();
    assert_eq!(node.channel_message(), "b");
    assert!(node.is_in(id(1), "a") && node.is_in(id(1), "b"));
}

#[test]
fn a_feed_survives_the_loss_of_its_tracking_without_losing_a_message() {
    let server = Redis::start();
    let mut admin = server.connect();
    let (broker, _) = open(&server);
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    for round in 0..5 {
        // With tracking gone nothing tells of this join; the message must not be handed on before.
        kill(&mut admin, 't');
        let channel = format!("c{round}");
        broker.join(&[(id(1), &channel)]).unwrap();
        broker.publish(&[(NODE, to_channel(&channel)), (NODE, direct(round))]).unwrap();
        assert_eq!(node.channel_message(), channel);
        assert!(node.is_in(id(1), &channel), "{round}");
        assert_eq!(node.message(), direct(round));
    }
    assert_eq!(node.errors, 0);
}

#[test]
fn a_quiet_feed_notices_the_loss_of_its_tracking() {
    let server = Redis::start();
    let mut admin = server.connect();
    let options =
        RedisOptions { probe_interval: Duration::from_millis(50), ..RedisOptions::default() };
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let mut node = Node::listen(&broker);
    kill(&mut admin, 't');
    eventually("tracking again", || {
        assert_eq!(node.next(), None);
        !connections(&mut admin, 't').is_empty()
    });
}

#[test]
fn everything_survives_a_restart_of_redis() {
    let mut server = Redis::start();
    let (broker, _) = open(&server);
    let mut events = broker.subscribe_events();
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    broker.join(&[(id(1), "a")]).unwrap();
    node.until(
        "the join",
        |event| matches!(event, FeedEvent::Channels { channels, .. } if channels.len() == 1),
    );
    let session = broker.begin_session("n1", Duration::from_secs(60), true).unwrap();
    eventually("events", || events.next(Duration::from_millis(50)).unwrap().is_some());

    server.stop();
    eventually("errors", || {
        node.next();
        node.errors >= 3
    });
    let refused = broker.publish(&[(NODE, direct(1))]).unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    assert_eq!(kind(broker.online_clients()), ErrorKind::Unavailable);
    assert_eq!(kind(events.next(Duration::from_millis(50))), ErrorKind::Unavailable);

    server.start_again();
    node.until("listening again", |event| *event == FeedEvent::Listening);
    // Redis forgot the channel, and the node is told so without any message.
    node.until("no channels", |event| {
        *event == FeedEvent::Channels { client: id(1), channels: vec![] }
    });
    broker.publish(&[(NODE, direct(2))]).unwrap();
    assert_eq!(node.message(), direct(2));
    assert_eq!(kind(broker.renew(&session, &NodeStatus::default())), ErrorKind::SessionForgotten);
    let deadline = Instant::now() + PATIENCE;
    while !matches!(events.next(Duration::from_millis(50)), Ok(Some(PresenceEvent::Listening))) {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn an_event_subscription_survives_a_cut_and_foreign_payloads() {
    let server = Redis::start();
    let mut admin = server.connect();
    let (broker, names) = open(&server);
    let mut session = broker.begin_session("n1", Duration::from_secs(60), true).unwrap();
    let mut events = Events::of(&broker);
    for junk in ["hello", "", "null", "5", "7|{\"Item1\":5}"] {
        cmd("PUBLISH").arg(format!("evt_{names}Online")).arg(junk).exec(&mut admin).unwrap();
    }
    broker.report(&mut session, &[opened(1, id(1))]).unwrap();
    assert_eq!(events.online(), Ticket::new(id(1), Some("m")).text());
    kill(&mut admin, 'P');
    let mut events = events.into_inner();
    eventually("listening again", || {
        matches!(events.next(Duration::from_millis(50)), Ok(Some(PresenceEvent::Listening)))
    });
    broker.report(&mut session, &[closed(1)]).unwrap();
    eventually("the event", || {
        matches!(events.next(Duration::from_millis(50)), Ok(Some(PresenceEvent::Offline(_))))
    });
}

#[test]
fn a_silent_event_subscription_proves_itself_by_itself() {
    let server = Redis::start();
    let mut admin = server.connect();
    let options =
        RedisOptions { probe_interval: Duration::from_millis(20), ..RedisOptions::default() };
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let mut events = broker.subscribe_events();
    assert_eq!(events.next(Duration::ZERO).unwrap(), Some(PresenceEvent::Listening));
    // No call gets a connection from here on. The subscription needs none.
    cmd("CONFIG").arg("SET").arg("maxclients").arg(1).exec(&mut admin).unwrap();
    assert_eq!(kind(broker.online_clients()), ErrorKind::Unavailable);
    let before = calls(&mut admin, "ping");
    eventually("it asked a few times", || {
        assert_eq!(events.next(Duration::from_millis(10)).unwrap(), None);
        calls(&mut admin, "ping") > before + 5
    });
}

#[test]
fn flushing_redis_empties_the_channels() {
    let server = Redis::start();
    let (broker, _) = open(&server);
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    broker.join(&[(id(1), "a")]).unwrap();
    broker.publish(&[(NODE, to_channel("a"))]).unwrap();
    node.channel_message();
    assert!(node.is_in(id(1), "a"));
    cmd("FLUSHALL").exec(&mut server.connect()).unwrap();
    broker.publish(&[(NODE, to_channel("a"))]).unwrap();
    node.channel_message();
    assert!(!node.is_in(id(1), "a"));
}

/// Whether data was lost before the channels of client 1 are told, which `channels` are to be.
fn is_forgotten_before(node: &mut Node, channels: &[&str]) -> bool {
    let mut forgotten = false;
    node.until("the channels", |event| {
        forgotten |= *event == FeedEvent::Forgotten;
        matches!(event, FeedEvent::Channels { client, channels: told } if *client == id(1) && told == channels)
    });
    forgotten
}

#[test]
fn lost_data_is_told_before_channels_are_read_again() {
    let mut server = Redis::start();
    let (broker, _) = open(&server);
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    broker.join(&[(id(1), "a")]).unwrap();
    assert!(!is_forgotten_before(&mut node, &["a"]));
    kill(&mut server.connect(), 'P');
    assert!(!is_forgotten_before(&mut node, &["a"]), "it was only a break");

    // Gone back to before the last join that was heard.
    let snapshot = server.snapshot();
    broker.join(&[(id(1), "b")]).unwrap();
    node.until(
        "the join",
        |event| matches!(event, FeedEvent::Channels { channels, .. } if channels.len() == 2),
    );
    server.stop();
    server.start_again_from(&snapshot);
    assert!(is_forgotten_before(&mut node, &["a"]));

    // Emptied while the connections live; then a break, which has lost nothing more.
    cmd("FLUSHALL").exec(&mut server.connect()).unwrap();
    assert!(is_forgotten_before(&mut node, &[]));
    broker.join(&[(id(1), "c")]).unwrap();
    assert!(!is_forgotten_before(&mut node, &["c"]));
    kill(&mut server.connect(), 'P');
    assert!(!is_forgotten_before(&mut node, &["c"]));
}

/// Forwards bytes to the server; once deaf, what the server sends on the first connection is lost.
fn deafening_proxy(server: &Redis) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (target, deaf) = (server.port, Arc::new(AtomicBool::new(false)));
    let switch = Arc::clone(&deaf);
    thread::spawn(move || {
        for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
            let Ok(upstream) = TcpStream::connect(("127.0.0.1", target)) else { return };
            let pairs = [
                (client.try_clone().unwrap(), upstream.try_clone().unwrap(), false),
                (upstream, client, number == 0),
            ];
            for (mut from, mut to, may_deafen) in pairs {
                let deaf = Arc::clone(&switch);
                thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = from.read(&mut buffer) {
                        let lost = may_deafen && deaf.load(Ordering::Relaxed);
                        if !lost && to.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    (port, deaf)
}

fn impatient(server: &Redis) -> (RedisBroker, Arc<AtomicBool>) {
    let (port, deaf) = deafening_proxy(server);
    let options = RedisOptions {
        probe_interval: Duration::from_millis(20),
        probe_timeout: Duration::from_millis(300),
        ..fresh_options()
    };
    (RedisBroker::open(&format!("redis://127.0.0.1:{port}"), options).unwrap(), deaf)
}

#[test]
fn a_deaf_feed_is_rebuilt() {
    let server = Redis::shared();
    let (broker, deaf) = impatient(server);
    let mut node = Node::listen(&broker);
    broker.publish(&[(NODE, direct(1))]).unwrap();
    assert_eq!(node.message(), direct(1));
    deaf.store(true, Ordering::Relaxed);
    node.until("listening again", |event| *event == FeedEvent::Listening);
    assert!(node.errors > 0);
    broker.publish(&[(NODE, direct(2))]).unwrap();
    assert_eq!(node.message(), direct(2));
}

#[test]
fn a_deaf_event_subscription_is_rebuilt() {
    let server = Redis::shared();
    let (broker, deaf) = impatient(server);
    let mut events = broker.subscribe_events();
    assert_eq!(events.next(Duration::ZERO).unwrap(), Some(PresenceEvent::Listening));
    deaf.store(true, Ordering::Relaxed);
    let mut errors = 0;
    eventually("listening again", || match events.next(Duration::from_millis(50)) {
        Ok(event) => event == Some(PresenceEvent::Listening),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            errors += 1;
            false
        }
    });
    assert_eq!(errors, 1);
    let mut session = broker.begin_session("n1", Duration::from_secs(60), true).unwrap();
    broker.report(&mut session, &[opened(1, id(1))]).unwrap();
    eventually("the event", || {
        matches!(events.next(Duration::from_millis(50)), Ok(Some(PresenceEvent::Online(_))))
    });
}

/// The reply is lost, and what Redis remembers of brief connections for a minute is gone when it is repeated.
#[test]
fn a_report_is_told_once_however_late_it_is_repeated() {
    let server = Redis::start_with_debug();
    let options =
        RedisOptions { call_timeout: Duration::from_millis(200), ..RedisOptions::default() };
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let mut session = broker.begin_session("n1", Duration::from_secs(60), true).unwrap();
    let mut heard = server.connect();
    let mut heard = heard.as_pubsub();
    heard.subscribe(&["evt_im_v2_wsOnline", "evt_im_v2_wsOffline"][..]).unwrap();
    let brief = |number| [opened(number, id(number as i64)), closed(number)];
    // The first asks Redis a question of its own before.
    broker.report(&mut session, &brief(1)).unwrap();
    let mut admin = server.connect();
    let stall = thread::spawn(move || {
        cmd("DEBUG").arg("SLEEP").arg(2).exec(&mut admin).unwrap();
        admin
    });
    let unanswered = (2..).find(|number| broker.report(&mut session, &brief(*number)).is_err());
    let number = unanswered.unwrap();
    let mut admin = stall.join().unwrap();
    eventually("it was carried out", || {
        let mut known = cmd("HGET");
        known.arg("im_v2_wsSessions").arg(&session.id);
        known.query::<String>(&mut admin).unwrap() == format!("{number} n1")
    });
    let _: i64 = cmd("DEL").arg(format!("im_v2_wsClosed{}", session.id)).query(&mut admin).unwrap();
    let again = [&brief(number)[..], &[opened(1_000_000, id(1_000_000))]].concat();
    broker.report(&mut session, &again).unwrap();
    let last = Ticket::new(id(1_000_000), Some("m"));
    let mut counts = std::collections::HashMap::new();
    while !counts.keys().any(|(_, text)| *text == last.text()) {
        let message = heard.get_message().unwrap();
        let text: String = message.get_payload().unwrap();
        *counts.entry((message.get_channel_name().to_owned(), text)).or_insert(0) += 1;
    }
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}
