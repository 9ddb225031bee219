//! A Redis that tells nobody of anything: what scripts of this library say themselves, and what becomes of joins by others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use imcore::broker::{
    Broker, Bus, ChangesBy, Directory, FeedEvent, FeedStart, JoinLimits, NodeBroker, RedisBroker,
    RedisOptions,
};
use redis::{Connection, cmd};
use testkit::{PATIENCE, Redis, eventually};

use super::{calls, foreign::NET_JOIN};
use crate::{
    channels::overdue,
    feed::{NODE, Node, to_channel},
    world::{LONG, closed, fresh_options, id, opened, serve},
};

fn options() -> RedisOptions {
    let probe_interval = Duration::from_millis(50);
    RedisOptions { changes: ChangesBy::Notice, probe_interval, ..fresh_options() }
}

/// Waits for an event that says that client 1 is in the channel, or is not. No message comes meanwhile.
fn hears(node: &mut Node, what: &str, channel: &str, is_in: bool) {
    let deadline = Instant::now() + PATIENCE;
    while node.is_in(id(1), channel) != is_in {
        assert!(Instant::now() < deadline, "{what}");
        let event = node.next();
        assert!(!matches!(event, Some(FeedEvent::Members { .. })), "{what}");
    }
}

#[test]
fn whatever_changes_channels_says_so() {
    let server = Redis::shared();
    let broker = RedisBroker::open(&server.url(), options()).unwrap();
    assert!(broker.examine().unwrap().ends_with("become known by notices of helpers"));
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    node.until("all is known", |event| matches!(event, FeedEvent::Channels { .. }));

    let join = |channel| broker.join(&[(id(1), channel)]).unwrap();
    join("a");
    hears(&mut node, "join", "a", true);
    broker.leave(&[(id(1), "a")]).unwrap();
    hears(&mut node, "leave", "a", false);
    join("a");
    hears(&mut node, "join", "a", true);
    broker.clear_channel("a").unwrap();
    hears(&mut node, "clear", "a", false);

    let mut session = broker.begin_session("n", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(1))]).unwrap();
    join("a");
    hears(&mut node, "join", "a", true);
    broker.report(&mut session, &[closed(1)]).unwrap();
    hears(&mut node, "the last close", "a", false);

    let mut life = JoinLimits::default();
    life.offline_life = Some(Duration::from_millis(50));
    broker.join_within(&[(id(1), "b")], &life).unwrap();
    hears(&mut node, "join of nobody", "b", true);
    overdue(&broker, "it did not come", || broker.channel_members("b").unwrap().is_empty());
    hears(&mut node, "it did not come", "b", false);

    let mut short = broker.begin_session("m", Duration::from_millis(50), true).unwrap();
    broker.report(&mut short, &[opened(2, id(1))]).unwrap();
    join("c");
    hears(&mut node, "join", "c", true);
    eventually("reaped", || {
        broker.end_lapsed(&broker.lapsed().unwrap()).unwrap();
        broker.reap(10).unwrap() == 1
    });
    hears(&mut node, "its node was taken for dead", "c", false);
}

#[test]
fn what_is_brought_back_is_told() {
    let broker = RedisBroker::open(&Redis::shared().url(), options()).unwrap();
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    let lease = Duration::from_millis(50);
    let mut session = broker.begin_session("n", lease, true).unwrap();
    broker.report(&mut session, &[opened(1, id(1))]).unwrap();
    broker.join(&[(id(1), "a")]).unwrap();
    hears(&mut node, "join", "a", true);
    eventually("reaped", || {
        broker.end_lapsed(&broker.lapsed().unwrap()).unwrap();
        broker.reap(10).unwrap() == 1
    });
    hears(&mut node, "its node was taken for dead", "a", false);
    let mut session = broker.begin_session("n", LONG, true).unwrap();
    let ticket = imcore::Ticket::new(id(1), None);
    let again =
        imcore::broker::PresenceChange::Reopened { connection: 1, ticket, resumable: false };
    broker.report(&mut session, &[again]).unwrap();
    assert_eq!(broker.rejoin(&[id(1)]).unwrap(), 1);
    hears(&mut node, "it was not", "a", true);
}

/// Within the time in which the members of a channel are read once.
#[test]
fn nothing_but_notices_is_needed_for_the_order() {
    const PAIRS: i64 = 3000;
    let server = Redis::shared();
    for log in [false, true] {
        let options = RedisOptions { log, ..options() };
        serve(server, &options.prefix, NODE);
        let broker = RedisBroker::open(&server.url(), options.clone()).unwrap();
        let helper = RedisBroker::open(&server.url(), options).unwrap();
        let mut node = Node::listen(&broker);
        (1..=PAIRS).for_each(|client| node.watchlist.watch(id(client)));
        let sending = thread::spawn(move || {
            for client in 1..=PAIRS {
                helper.join(&[(id(client), "a")]).unwrap();
                helper.publish(&[(NODE, to_channel("a"))]).unwrap();
            }
            for client in 1..=PAIRS {
                helper.leave(&[(id(client), "a")]).unwrap();
                helper.publish(&[(NODE, to_channel("a"))]).unwrap();
            }
        });
        let mut overtaken = [0, 0];
        for number in 0..2 * PAIRS {
            assert_eq!(node.channel_message(), "a");
            let (client, leaves) = (id(number % PAIRS + 1), number >= PAIRS);
            overtaken[usize::from(leaves)] += u32::from(node.is_in(client, "a") == leaves);
        }
        sending.join().unwrap();
        assert_eq!(overtaken, [0, 0], "joins, leaves; log {log}");
    }
}

/// The script of a .NET helper, and its plain commands.
fn net_join(names: &str, client: i64, channel: &str, admin: &mut Connection) {
    let keys = [
        format!("{names}Chan{channel}"),
        format!("{names}Client{client}"),
        format!("{names}ListChan"),
    ];
    let mut join = cmd("EVAL");
    join.arg(NET_JOIN).arg(3).arg(&keys).arg(client).arg(channel).exec(admin).unwrap();
}

#[test]
fn joins_and_leaves_of_net_helpers_are_found_at_a_message() {
    let server = Redis::start();
    let mut admin = server.connect();
    let options = options();
    let names = format!("{}_ws", options.prefix);
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let mut node = Node::listen(&broker);
    (1..=3).for_each(|client| node.watchlist.watch(id(client)));
    broker.join(&[(id(2), "a")]).unwrap();
    let send = |node: &mut Node| {
        broker.publish(&[(NODE, to_channel("a"))]).unwrap();
        assert_eq!(node.channel_message(), "a");
    };
    // The first message to a channel, so nothing that was before it is missing.
    net_join(&names, 1, "a", &mut admin);
    send(&mut node);
    assert!(node.is_in(id(1), "a") && node.is_in(id(2), "a") && !node.is_in(id(3), "a"));
    net_join(&names, 3, "a", &mut admin);
    eventually("the join is known", || {
        send(&mut node);
        node.is_in(id(3), "a")
    });
    cmd("HDEL").arg(format!("{names}Chana")).arg(1).exec(&mut admin).unwrap();
    cmd("HDEL").arg(format!("{names}Client1")).arg("a").exec(&mut admin).unwrap();
    eventually("the leave is known", || {
        send(&mut node);
        !node.is_in(id(1), "a")
    });
    assert!(node.is_in(id(2), "a") && node.is_in(id(3), "a"));

    // Not at each message.
    let before = calls(&mut admin, "hkeys");
    let began = Instant::now();
    (0..2000).for_each(|_| send(&mut node));
    let readings = calls(&mut admin, "hkeys") - before;
    let most = began.elapsed().as_millis() as u64 / 200 + 1;
    println!("{readings} readings for 2000 messages in {:?}", began.elapsed());
    assert!(readings <= most, "{readings} > {most}");
}

#[test]
fn an_emptied_redis_is_noticed() {
    let server = Redis::start();
    let broker = RedisBroker::open(&server.url(), options()).unwrap();
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    broker.join(&[(id(1), "a")]).unwrap();
    hears(&mut node, "join", "a", true);
    cmd("FLUSHALL").exec(&mut server.connect()).unwrap();
    node.until("the loss", |event| matches!(event, FeedEvent::Forgotten));
    hears(&mut node, "the channel is gone", "a", false);
}

/// What is read of a channel before the loss is known must not cost the memberships that only the node knows any more.
#[test]
fn a_loss_is_told_before_the_members_that_are_left() {
    let server = Redis::start();
    let options = RedisOptions { probe_interval: Duration::from_secs(600), ..options() };
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    broker.join(&[(id(1), "a")]).unwrap();
    hears(&mut node, "join", "a", true);
    cmd("FLUSHALL").exec(&mut server.connect()).unwrap();
    broker.publish(&[(NODE, to_channel("a"))]).unwrap();
    node.until("the loss", |event| {
        assert!(!matches!(event, FeedEvent::Message { .. }), "the members were read before");
        matches!(event, FeedEvent::Forgotten)
    });
    assert!(node.is_in(id(1), "a"));
    assert_eq!(node.channel_message(), "a");
    assert!(!node.is_in(id(1), "a"));
}

#[test]
fn rights_are_asked_for_where_they_are_needed() {
    let server = Redis::start();
    let mut admin = server.connect();
    let options = options();
    let names = format!("{}_ws", options.prefix);
    let broker = RedisBroker::open(&server.url(), options.clone()).unwrap();
    let mut node = Node::listen(&broker);
    node.watchlist.watch(id(1));
    // A helper that may not say it joins all the same.
    let mut user = cmd("ACL");
    user.arg("SETUSER").arg("mute").arg("on").arg(">secret").arg("allkeys").arg("+@all");
    user.arg("resetchannels").arg(format!("&{names}Server{NODE}")).exec(&mut admin).unwrap();
    let url = server.url().replace("redis://", "redis://mute:secret@");
    let mute = RedisBroker::open(&url, options).unwrap();
    mute.join(&[(id(1), "b")]).unwrap();
    broker.publish(&[(NODE, to_channel("b"))]).unwrap();
    assert_eq!(node.channel_message(), "b");
    assert!(node.is_in(id(1), "b"));
    let mut feed = mute.subscribe("x", Default::default(), FeedStart::Now);
    assert!(feed.next(Duration::ZERO).is_err(), "a node must hear it");
}

#[test]
fn the_order_holds_while_the_log_is_read() {
    const CLIENTS: i64 = 6000;
    for changes in [ChangesBy::Tracking, ChangesBy::Notice] {
        let server = Redis::start();
        let options = RedisOptions { log: true, changes, ..options() };
        serve(&server, &options.prefix, NODE);
        let broker = RedisBroker::open(&server.url(), options.clone()).unwrap();
        let helper = RedisBroker::open(&server.url(), options).unwrap();
        let mut node = Node::listen(&broker);
        (1..=CLIENTS).for_each(|client| node.watchlist.watch(id(client)));
        let mut admin = server.connect();
        let sent = Arc::new(AtomicI64::new(0));
        let counting = Arc::clone(&sent);
        let sending = thread::spawn(move || {
            for client in 1..=CLIENTS {
                helper.join(&[(id(client), "a")]).unwrap();
                helper.publish(&[(NODE, to_channel("a"))]).unwrap();
                if client == 500 {
                    cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").exec(&mut admin).unwrap();
                }
                counting.store(client, Ordering::Release);
            }
        });
        let mut overtaken = 0;
        for client in 1..=CLIENTS {
            if client == 400 {
                // From here on there is much to read, and more comes meanwhile.
                eventually("many", || sent.load(Ordering::Acquire) >= CLIENTS / 2);
            }
            assert_eq!(node.channel_message(), "a");
            overtaken += u32::from(!node.is_in(id(client), "a"));
        }
        sending.join().unwrap();
        assert_eq!(overtaken, 0, "{changes:?}");
        assert!(node.errors > 0);
    }
}
