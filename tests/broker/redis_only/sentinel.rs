//! Sentinels: which are asked, what is believed of what they say, and what is said about those that lead nowhere.

use std::{
    io::{BufReader, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::Duration,
};

use imcore::{
    Error, ErrorKind,
    broker::{Bus, Directory, FeedEvent, RedisBroker, RedisOptions},
};
use redis::{Parser, Value, cmd};
use testkit::{Redis, eventually};

use crate::{
    feed::{NODE, Node, direct},
    world::{fresh_options, serve},
};

/// Lines for a Sentinel that watches `server`.
fn watching(server: &Redis, more: &str) -> String {
    format!("sentinel monitor main 127.0.0.1 {} 1\n{more}", server.port)
}

/// A Sentinel that answers everything with these bytes; its port.
fn fake(answer: &str) -> u16 {
    let answer = answer.to_owned();
    fake_with(move || answer.clone())
}

fn fake_with(answer: impl Fn() -> String + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (answer, mut out) = (answer.clone(), stream.try_clone().unwrap());
            thread::spawn(move || {
                let (mut parser, mut questions) = (Parser::new(), BufReader::new(stream));
                while parser.parse_value(&mut questions).is_ok() {
                    if out.write_all(answer().as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// A Sentinel that names this port of this machine.
fn naming(port: u16) -> u16 {
    fake(&place(port))
}

fn place(port: u16) -> String {
    let port = port.to_string();
    format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len())
}

fn url(login: &str, sentinels: &[u16], rest: &str) -> String {
    let places: Vec<_> = sentinels.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("redis+sentinel://{login}{}/main{rest}", places.join(","))
}

fn ask(url: &str) -> Result<(), Error> {
    let options =
        RedisOptions { connect_timeout: Duration::from_millis(600), ..RedisOptions::default() };
    RedisBroker::open(url, options)?.online_clients().map(drop)
}

fn refusal(url: &str) -> (ErrorKind, String) {
    let error = ask(url).unwrap_err();
    let text = error.to_string();
    assert!(!format!("{text} {error:?}").contains("secret"), "{error:?}");
    (error.kind(), text)
}

#[test]
fn the_database_is_that_of_the_primary() {
    let server = Redis::start();
    let sentinel = Redis::start_sentinel(&[], &watching(&server, ""));
    let url = url("", &[sentinel.port], "/3");
    let broker = RedisBroker::open(&url, RedisOptions::default()).unwrap();
    broker.join_within(&[(1.into(), "a")], &Default::default()).unwrap();
    let mut admin = server.connect();
    cmd("SELECT").arg(3).exec(&mut admin).unwrap();
    assert_ne!(cmd("DBSIZE").query::<i64>(&mut admin).unwrap(), 0);
}

#[test]
fn one_that_is_of_use_is_enough() {
    let server = Redis::start();
    let port = server.port.to_string();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port]);
    let sentinel = Redis::start_sentinel(&[], &watching(&server, ""));
    // Gone; leads nowhere; of yesterday; knows nothing; says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let of_no_use = [1, naming(1), naming(replica.port), fake("$-1\r\n"), {
        mute.local_addr().unwrap().port()
    }];
    for useless in of_no_use {
        for order in [[useless, sentinel.port], [sentinel.port, useless]] {
            ask(&url("", &order, "")).unwrap();
        }
    }
}

#[test]
fn who_leads_nowhere_is_named_with_what_to_do() {
    let server = Redis::start();
    let port = server.port.to_string();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port]);
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = mute.local_addr().unwrap().port();
    let unknown = Redis::start_sentinel(&[], "sentinel monitor other 127.0.0.1 1 1\n");
    for (sentinel, kind, parts) in [
        (unknown.port, ErrorKind::Config, ["no primary called \"main\"", "sentinel monitor"]),
        (naming(replica.port), ErrorKind::Unavailable, ["a replica", "a failover is under way"]),
        (naming(1), ErrorKind::Unavailable, ["names \"main\": check", "must be valid here too"]),
        (naming(mute), ErrorKind::Unavailable, ["did not answer in time", "valid here too"]),
        (mute, ErrorKind::Unavailable, ["the Sentinel at ", "did not answer in time"]),
        (1, ErrorKind::Unavailable, ["the Sentinel at 127.0.0.1:1", "check that it runs"]),
        (server.port, ErrorKind::Config, ["it is no Sentinel", "26379"]),
        (naming(unknown.port), ErrorKind::Unavailable, ["a \"sentinel\"", "127.0.0.1"]),
        (fake("+OK\r\n"), ErrorKind::Config, ["it is no Sentinel", "redis://"]),
        (fake(":5\r\n"), ErrorKind::Config, ["it is no Sentinel", "26379"]),
        (fake("*2\r\n$1\r\nh\r\n$1\r\n0\r\n"), ErrorKind::Config, ["no Sentinel", "26379"]),
        (fake("*2\r\n$0\r\n\r\n$1\r\n1\r\n"), ErrorKind::Config, ["no Sentinel", "26379"]),
        (fake("HTTP/1.1 400 Bad\r\n"), ErrorKind::Unavailable, ["the Sentinel at ", "check"]),
    ] {
        let (found, text) = refusal(&url("", &[sentinel], ""));
        assert_eq!(found, kind, "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} is not in {text}");
    }
    // Of several failures the one that came furthest is told.
    let (_, text) = refusal(&url("", &[1, unknown.port, naming(replica.port), 1], ""));
    assert!(text.contains("a replica"), "{text}");
    let (_, text) = refusal(&url("", &[1, 2], ""));
    assert!(text.contains("no Sentinel can be asked; the first, 127.0.0.1:1"), "{text}");
    // The reverse: a URL without Sentinels that leads to one.
    let (kind, text) = refusal(&unknown.url());
    assert_eq!(kind, ErrorKind::Rejected);
    assert!(text.contains("begins with redis+sentinel://"), "{text}");
}

#[test]
fn each_has_a_password_of_its_own() {
    let server = Redis::start_with(&["--requirepass", "secret-1"]);
    let lines = watching(&server, "sentinel auth-pass main secret-1\nrequirepass secret-2\n");
    let sentinel = Redis::start_sentinel(&[], &lines);
    let open = Redis::start_sentinel(&[], &watching(&server, ""));
    let theirs = "?sentinel_password=secret-2";
    ask(&url(":secret-1@", &[sentinel.port], theirs)).unwrap();
    let named = "?sentinel_username=default&sentinel_password=secret-2";
    ask(&url("default:secret-1@", &[sentinel.port], named)).unwrap();
    ask(&url(":secret-1@", &[open.port], "")).unwrap();
    for (login, sentinel, rest, part) in [
        ("", &sentinel, theirs, "redis://user:password@host"),
        (":secret-2@", &sentinel, theirs, "redis://user:password@host"),
        (":secret-1@", &sentinel, "", "sentinel_password=.."),
        (":secret-1@", &sentinel, "?sentinel_password=secret-1", "sentinel_password=.."),
        (":secret-1@", &open, theirs, "leave sentinel_password out"),
    ] {
        let (kind, text) = refusal(&url(login, &[sentinel.port], rest));
        assert_eq!(kind, ErrorKind::Config, "{text}");
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

/// A primary that becomes a replica without cutting its connections: those that are open are of no use any more.
#[test]
fn connections_to_a_former_primary_are_left() {
    let servers = [Redis::start(), Redis::start()];
    let sentinels = servers.each_ref().map(|server| naming(server.port));
    for (url, moves) in [(url("", &sentinels, ""), true), (servers[0].url(), false)] {
        let broker = RedisBroker::open(&url, RedisOptions::default()).unwrap();
        let join = || broker.join_within(&[(1.into(), "a")], &Default::default());
        join().unwrap();
        let mut admin = servers[0].connect();
        let port = servers[1].port.to_string();
        cmd("REPLICAOF").arg("127.0.0.1").arg(&port).exec(&mut admin).unwrap();
        eventually("a replica", || {
            let role: Vec<Value> = cmd("ROLE").query(&mut admin).unwrap();
            role[0] == Value::BulkString("slave".into())
        });
        let error = join().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(join().is_ok(), moves);
        cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut admin).unwrap();
        join().unwrap();
    }
}

/// A former primary goes on serving those who are connected to it. What they log there is lost, and the nodes, which are
/// elsewhere already, are told as soon as the sender has followed.
#[test]
fn what_was_logged_with_a_former_primary_is_told() {
    let former = Redis::start();
    let options =
        RedisOptions { log: true, probe_interval: Duration::from_millis(50), ..fresh_options() };
    serve(&former, &options.prefix, NODE);
    let named = Arc::new(AtomicU16::new(former.port));
    let open = |named: &Arc<AtomicU16>| {
        let named = Arc::clone(named);
        let sentinel = fake_with(move || place(named.load(Ordering::Acquire)));
        RedisBroker::open(&url("", &[sentinel], ""), options.clone()).unwrap()
    };
    let helper = open(&named);
    helper.publish(&[(NODE, direct(1))]).unwrap();
    let port = former.port.to_string();
    let primary = Redis::start_with(&["--replicaof", "127.0.0.1", &port]);
    let mut admin = primary.connect();
    let head = format!("{}_wsLogHead", options.prefix);
    eventually("all is there", || cmd("EXISTS").arg(&head).query(&mut admin).unwrap());
    cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut admin).unwrap();
    // The node is the first to follow.
    let broker = open(&Arc::new(AtomicU16::new(primary.port)));
    let mut node = Node::quiet(&broker);
    let log = |event: &FeedEvent| matches!(event, FeedEvent::Log { .. });
    let FeedEvent::Log { epoch, from } = node.until("the log", log) else { unreachable!() };
    helper.publish(&[(NODE, direct(2))]).unwrap();
    // The sender follows, too, and does not tell again.
    named.store(primary.port, Ordering::Release);
    cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut former.connect()).unwrap();
    for number in [3, 4] {
        eventually("sent", || helper.publish(&[(NODE, direct(number))]).is_ok());
        let message = |event: &FeedEvent| matches!(event, FeedEvent::Message { .. });
        let event = node.until("a message", message);
        assert!(matches!(event, FeedEvent::Message { envelope, .. } if envelope == direct(number)));
        if number == 3 {
            let FeedEvent::Log { epoch: same, from: later } = node.until("a word", log) else {
                unreachable!()
            };
            assert!(same == epoch && later > from);
        }
    }
}
