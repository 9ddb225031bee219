//! What only the Redis broker has to stand: foreign writers, cuts, restarts, settings.
//!
//! A test that cuts connections or stops the server starts one of its own.

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
    Error, ErrorKind, NodeStatus, Ticket,
    broker::{
        Broker, Bus, Directory, FeedEvent, NodeBroker, PresenceEvent, RedisBroker, RedisOptions,
    },
};
use redis::{Connection, cmd, pipe};
use testkit::{PATIENCE, Redis, eventually};

use crate::{
    feed::{NODE, Node, direct, to_channel},
    world::{Events, closed, fresh_options, id, opened},
};

/// The effect of the .NET helper's join.
const NET_JOIN: &str = "if redis.call('HSETNX',KEYS[1],ARGV[1],'0')==1 then \
                        redis.call('HSET',KEYS[2],ARGV[2],'0') \
                        redis.call('HINCRBY',KEYS[3],ARGV[2],1) end return 1";

fn open(server: &Redis) -> (RedisBroker, String) {
    let options = fresh_options();
    let names = format!("{}_ws", options.prefix);
    (RedisBroker::open(&server.url(), options).unwrap(), names)
}

/// How often Redis has run a command.
pub(crate) fn calls(admin: &mut Connection, command: &str) -> u64 {
    let stats: String = cmd("INFO").arg("commandstats").query(admin).unwrap();
    let start = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn a_message_never_overtakes_a_join_by_a_net_helper() {
    const PAIRS: i64 = 4000;
    let server = Redis::shared();
    let (broker, names) = open(server);
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

/// Ids of the connections whose flags in `CLIENT LIST` hold `flag`.
fn connections(admin: &mut Connection, flag: char) -> Vec<String> {
    let list: String = cmd("CLIENT").arg("LIST").query(admin).unwrap();
    let field = |line: &str, name: &str| {
        let word = line.split(' ').find_map(|word| word.strip_prefix(name));
        word.unwrap_or_default().to_string()
    };
    let flagged = list.lines().filter(|line| field(line, "flags=").contains(flag));
    flagged.map(|line| field(line, "id=")).collect()
}

fn kill(admin: &mut Connection, flag: char) {
    let ids = connections(admin, flag);
    assert!(!ids.is_empty(), "no connection with flag {flag}");
    for id in ids {
        let killed: i64 = cmd("CLIENT").arg("KILL").arg("ID").arg(id).query(admin).unwrap();
        assert_eq!(killed, 1);
    }
}

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
        let mut feed = broker.subscribe(NODE, Default::default());
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
    let server = Redis::start_with(&["--enable-debug-command", "yes"]);
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
    let server = Redis::start_with(&["--enable-debug-command", "yes"]);
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
    let server = Redis::start_with(&["--enable-debug-command", "yes"]);
    let options =
        RedisOptions { call_timeout: Duration::from_millis(200), ..RedisOptions::default() };
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let mut session = broker.begin_session("n1", Duration::from_secs(60), true).unwrap();
    let mut heard = server.connect();
    let mut heard = heard.as_pubsub();
    heard.subscribe(&["evt_im_v2_wsOnline", "evt_im_v2_wsOffline"][..]).unwrap();
    let mut admin = server.connect();
    let stall = thread::spawn(move || {
        cmd("DEBUG").arg("SLEEP").arg(2).exec(&mut admin).unwrap();
        admin
    });
    let brief = |number| [opened(number, id(number as i64)), closed(number)];
    let unanswered = (1..).find(|number| broker.report(&mut session, &brief(*number)).is_err());
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
