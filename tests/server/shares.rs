//! Two nodes on a Redis each: one that goes takes its own node along, and no other.

use std::{sync::Arc, time::Duration};

use imcore::{
    ImClient, Message, Receipt,
    broker::{self, Broker, RedisOptions},
    server::{Limits, Server, ServerConfig},
};
use testkit::{PATIENCE, Redis, eventually, ws::Client};

/// Of a broker that notices soon when a Redis is away.
pub(crate) fn impatient(nodes: &[String]) -> RedisOptions {
    RedisOptions {
        nodes: nodes.to_vec(),
        connect_timeout: Duration::from_millis(500),
        probe_interval: Duration::from_millis(200),
        probe_timeout: Duration::from_secs(1),
        ..RedisOptions::default()
    }
}

#[test]
fn half_of_the_redis_down_is_half_of_the_nodes() {
    let (first, mut second) = (Redis::start(), Redis::start());
    let urls = format!("{},{}", first.url(), second.url());
    let servers = vec!["node-0".to_owned(), "node-1".to_owned()];
    let open = || -> Arc<dyn Broker> { broker::open(&urls, impatient(&servers)).unwrap() };
    let start = |name: &String| {
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            server: Some(name.clone()),
            servers: servers.clone(),
            reactors: 1,
            limits: Limits { lease: Duration::from_secs(2), ..Limits::default() },
            ..ServerConfig::default()
        };
        let node = Server::start(config, open()).unwrap();
        assert!(node.wait_ready(PATIENCE));
        node
    };
    let nodes: Vec<_> = servers.iter().map(start).collect();
    let im = ImClient::builder().servers(servers.clone()).broker(open()).build().unwrap();
    let connect = |client: i64| {
        let url = im.connect_url(client, None).unwrap();
        let node = &nodes[(client % 2) as usize];
        let connection = Client::connect(node.local_addr(), &url).unwrap();
        eventually("online", || im.is_online(client).unwrap());
        connection
    };
    let (mut even, mut odd) = (connect(2), connect(3));
    im.join([2, 3], ["room"]).unwrap();
    im.send(Message::to_channel("room"), "both").unwrap();
    assert_eq!((even.text(), odd.text()), ("\"both\"".into(), "\"both\"".into()));

    second.stop();
    eventually("the other node notices", || !nodes[1].is_ready());
    // Longer than a lease, in which nothing of that Redis holds this node up.
    let until = std::time::Instant::now() + Duration::from_secs(3);
    let mut another = connect(4);
    while std::time::Instant::now() < until {
        assert!(nodes[0].is_ready() && im.is_online(2).unwrap());
        im.send(Message::to([2]).from(4).receipt(Receipt::Sent), "still").unwrap();
        assert_eq!(even.text(), "\"still\"");
        assert_eq!(another.json()["to"], 2);
    }
    assert!(im.send(Message::to([3]), "lost").unwrap_err().is_retryable());
    assert!(im.channel_size("room").unwrap_err().is_retryable());

    second.start_again();
    eventually("the other node is back", || nodes[1].is_ready());
    eventually("its client is online and in its channel again", || {
        im.is_online(3).unwrap_or(false) && im.channel_size("room").is_ok_and(|size| size == 2)
    });
    im.send(Message::to_channel("room"), "again").unwrap();
    assert_eq!((even.text(), odd.text()), ("\"again\"".into(), "\"again\"".into()));
    assert!(im.is_online(2).unwrap());
    for node in nodes {
        node.shutdown();
    }
}
