//! A Redis Cluster: where things are there, and what is said of one that cannot be used.

use std::sync::Arc;

use imcore::{
    ErrorKind,
    broker::{self, Broker, ChangesBy, FeedEvent, FeedStart, RedisOptions},
};
use redis::cmd;
use testkit::{Cluster, Redis, eventually};

use super::calls;
use crate::{
    feed::{Node, direct, to_channel},
    world::{Events, LONG, closed, fresh_options, id, opened},
};

/// Nodes `a`, `b` and `c`, of which each has a share.
fn options() -> RedisOptions {
    let nodes = ["a", "b", "c"].map(str::to_owned).to_vec();
    RedisOptions { nodes, ..fresh_options() }
}

fn open(url: &str, options: &RedisOptions) -> Arc<dyn Broker> {
    broker::open(url, options.clone()).unwrap()
}

/// What is said of a Redis that cannot be used; the same before a node starts as when it begins to work.
fn refusal(url: &str, options: &RedisOptions) -> (ErrorKind, String) {
    let broker = open(url, options);
    let error = broker.examine().unwrap_err();
    let begun = broker.begin_session("a", LONG, true).unwrap_err();
    assert_eq!(error.kind(), begun.kind(), "{error}: {begun}");
    (error.kind(), error.to_string())
}

/// The keys that begin so on each server.
fn keys(cluster: &Cluster, prefix: &str) -> Vec<Vec<String>> {
    let of = |server: &Redis| {
        cmd("KEYS").arg(format!("{prefix}*")).query(&mut server.connect()).unwrap()
    };
    cluster.servers.iter().map(of).collect()
}

#[test]
fn each_share_is_on_a_master_and_no_other_hears_of_it() {
    let cluster = Cluster::start(3);
    for changes in [ChangesBy::Tracking, ChangesBy::Keyspace, ChangesBy::Notice] {
        if changes == ChangesBy::Keyspace {
            for server in &cluster.servers {
                let mut set = cmd("CONFIG");
                set.arg("SET").arg("notify-keyspace-events").arg("Kgh");
                set.exec(&mut server.connect()).unwrap();
            }
        }
        let options = RedisOptions { changes, log: changes == ChangesBy::Notice, ..options() };
        let broker = open(&cluster.url(), &options);
        broker.examine().unwrap();
        let mut events = Events::of(&*broker);
        for (node, client) in [("a", 3), ("b", 4), ("c", 5)] {
            let mut session = broker.begin_session(node, LONG, true).unwrap();
            let mut feed = Node::on(&*broker, node, FeedStart::Now);
            feed.until("listening", |event| *event == FeedEvent::Listening);
            feed.watchlist.watch(id(client));
            broker.report(&mut session, &[opened(1, id(client))]).unwrap();
            assert!(events.online().contains(&client.to_string()));
            broker.join(&[(id(client), "room")]).unwrap();
            broker.publish(&[(node, direct(client)), (node, to_channel("room"))]).unwrap();
            assert_eq!(feed.message(), direct(client));
            feed.channel_message();
            assert!(feed.is_in(id(client), "room"));
            broker.report(&mut session, &[closed(1)]).unwrap();
            events.offline();
        }
        for (number, keys) in keys(&cluster, &options.prefix).into_iter().enumerate() {
            assert!(keys.iter().any(|key| key.ends_with("Layout")), "{number}: {keys:?}");
            let shares = keys.iter().map(|key| key.split('}').next().unwrap());
            let mut shares: Vec<_> = shares.collect();
            shares.dedup();
            assert_eq!(shares.len(), 1, "{number}: {keys:?}");
        }
    }
    for server in &cluster.servers {
        let mut admin = server.connect();
        assert!(calls(&mut admin, "spublish") > 0);
        assert_eq!(calls(&mut admin, "publish"), 0, "it would go to every server");
    }
}

#[test]
fn what_is_no_cluster_and_what_is_one_are_told_apart() {
    let (cluster, alone) = (Cluster::shared(), Redis::shared());
    let (kind, text) = refusal(&format!("redis+cluster://127.0.0.1:{}", alone.port), &options());
    assert_eq!(kind, ErrorKind::Config);
    assert!(text.contains("is no part of a Redis Cluster: the URL of one Redis begins"), "{text}");
    for server in &cluster.servers {
        let (kind, text) = refusal(&server.url(), &fresh_options());
        assert_eq!(kind, ErrorKind::Config);
        assert!(text.contains("part of a Redis Cluster, whose URL begins with"), "{text}");
    }
    // One server of it is enough to find all.
    let one = format!("redis+cluster://127.0.0.1:1,127.0.0.1:{}", cluster.servers[1].port);
    open(&one, &options()).examine().unwrap();
}

#[test]
fn another_number_of_shares_is_refused() {
    let url = Cluster::shared().url();
    let options = options();
    open(&url, &options).begin_session("a", LONG, true).unwrap();
    let (kind, text) = refusal(&format!("{url}?shares=1"), &options);
    assert_eq!(kind, ErrorKind::Config);
    assert!(
        text.contains("holds share 1 of 3") && text.contains("would hold share 1 of 1"),
        "{text}"
    );
    open(&url, &options).examine().unwrap();
}

#[test]
fn a_user_needs_the_right_to_ask_where_things_are() {
    let cluster = Cluster::start_with(1, 0, &[]);
    let admin = &mut cluster.servers[0].connect();
    let user = "SETUSER im on >secret ~* &* +@all -cluster";
    cmd("ACL").arg(user.split(' ').collect::<Vec<_>>()).exec(admin).unwrap();
    let url = cluster.url().replace("://", "://im:secret@");
    let (kind, text) = refusal(&url, &options());
    assert_eq!(kind, ErrorKind::Config);
    assert!(text.contains("CLUSTER SLOTS") && text.contains("+cluster|slots"), "{text}");
    let wrong = cluster.url().replace("://", "://im:no@");
    let (kind, text) = refusal(&wrong, &options());
    assert_eq!(kind, ErrorKind::Config);
    assert!(text.contains("user or password is missing or wrong"), "{text}");
    assert!(!text.contains("no@"));
    cmd("ACL").arg("SETUSER").arg("im").arg("+cluster|slots").exec(admin).unwrap();
    open(&url, &options()).examine().unwrap();
}

#[test]
fn a_cluster_with_holes_is_named() {
    let mut cluster = Cluster::start_with(3, 0, &["--cluster-require-full-coverage", "no"]);
    let options = options();
    let url = cluster.url();
    // That of the first share.
    let key = format!("{}_ws{}", options.prefix, crate::world::FIRST_SHARE);
    let owner = cluster.owner(&key);
    let slot: u16 =
        cmd("CLUSTER").arg("KEYSLOT").arg(&key).query(&mut cluster.connect(&key)).unwrap();
    for server in &cluster.servers {
        cmd("CLUSTER").arg("DELSLOTS").arg(slot).exec(&mut server.connect()).unwrap();
    }
    let (kind, text) = refusal(&url, &options);
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains(&format!("serves slot {slot}: look at")), "{text}");
    for server in &cluster.servers {
        let owner: String =
            cmd("CLUSTER").arg("MYID").query(&mut cluster.servers[owner].connect()).unwrap();
        let set = &mut cmd("CLUSTER");
        set.arg("SETSLOT").arg(slot).arg("NODE").arg(owner).exec(&mut server.connect()).unwrap();
    }
    let broker = open(&url, &options);
    eventually("it is whole again", || broker.examine().is_ok());

    // Its master is gone, and others go on.
    cluster.servers[owner].stop();
    let (kind, text) = refusal(&url, &options);
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains(&format!("which serves slot {slot} of the cluster")), "{text}");
    assert!(text.contains("check that it runs"), "{text}");
    broker.begin_session("b", LONG, true).unwrap();

    // Most are gone: nobody can take their place.
    let other = (0..3).find(|number| {
        *number != owner && *number != cluster_owner_of_b(&cluster, owner, &options)
    });
    cluster.servers[other.unwrap()].stop();
    let b = (0..3).find(|number| *number != owner && Some(*number) != other).unwrap();
    let mut admin = cluster.servers[b].connect();
    eventually("it knows", || {
        let info: String = cmd("CLUSTER").arg("INFO").query(&mut admin).unwrap();
        info.contains("cluster_state:fail")
    });
    let error = broker.begin_session("b", LONG, true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("its cluster is down"), "{error}");
}

/// The number of the server that has the share of `b`, asked at one that is not `gone`.
fn cluster_owner_of_b(cluster: &Cluster, gone: usize, options: &RedisOptions) -> usize {
    let asked = (0..3).find(|number| *number != gone).unwrap();
    cluster.owner_by(asked, &format!("{}_ws{{1.55}}", options.prefix))
}
