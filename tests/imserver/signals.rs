//! Signals, and a Redis that is not there yet.

use std::{thread, time::Duration};

use imcore::Message;
use testkit::{Imserver, Redis, eventually, ws::Client};

use crate::cluster::{Cluster, ticket};

#[test]
fn both_signals_end_a_node_in_good_order() {
    for signal in ["TERM", "INT"] {
        let mut cluster = Cluster::new(1, &[]);
        let mut clients =
            [cluster.connect_and_see(1, "first"), cluster.connect_and_see(1, "second")];
        cluster.im.join([1], ["room"]).unwrap();
        cluster.nodes[0].signal(signal);
        for client in &mut clients {
            assert_eq!(client.closed(), Some(1001), "{signal}");
        }
        drop(clients);
        assert_eq!(cluster.offline_events(2), [ticket(1, "first"), ticket(1, "second")]);
        assert_eq!(cluster.nodes[0].ends().code(), Some(0), "{signal}");
        cluster.no_more_events();
        let mut redis = cluster.redis.connect();
        let mut left: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).unwrap();
        left.sort();
        // How many messages were sent to the node is counted for ever, and a clock has no end.
        assert_eq!(left, ["im_v2_wsGrace", "im_v2_wsPublished"], "{signal}");
        assert!(cluster.nodes[0].log().contains("stopped"));
    }
}

#[test]
fn a_spread_stop_serves_those_who_wait_and_a_second_signal_ends_it() {
    let mut cluster = Cluster::new(1, &["--drain", "600"]);
    let mut clients: Vec<_> = (1..=8).map(|id| cluster.connect(id, "")).collect();
    cluster.nodes[0].signal("TERM");
    cluster.nodes[0].says("stopping");
    // New ones go elsewhere, old ones are served until it is their turn.
    let address = cluster.nodes[0].address();
    eventually("closed to the public", || std::net::TcpStream::connect(address).is_err());
    cluster.im.send(Message::to([8]), "still here").unwrap();
    assert_eq!(clients[7].text(), "\"still here\"");
    assert!(cluster.nodes[0].is_running());
    // One within half a second of the first is still the first.
    eventually("ends", || {
        cluster.nodes[0].signal("INT");
        thread::sleep(Duration::from_millis(100));
        !cluster.nodes[0].is_running()
    });
    assert_eq!(cluster.nodes[0].ends().code(), Some(130));
}

#[test]
fn redis_may_come_later() {
    let mut redis = Redis::start();
    let url = redis.url();
    redis.stop();
    let mut node = Imserver::start(&["--listen", "127.0.0.1:0", "--server", "n", "--redis", &url]);
    let address = node.address();
    node.says("until the broker is back");
    assert_eq!(Client::connect(address, "ws://x/ws?token=x").err(), Some(503));
    assert!(node.is_running());
    redis.start_again();
    let im = imcore::ImClient::builder().servers(["n"]).redis(&url).build().unwrap();
    let mut client = None;
    eventually("it serves", || {
        client = im.connect_url(1, None).ok().and_then(|at| Client::connect(address, &at).ok());
        client.is_some()
    });
    im.send(Message::to([1]), "hello").unwrap();
    assert_eq!(client.unwrap().text(), "\"hello\"");
    node.signal("TERM");
    assert_eq!(node.ends().code(), Some(0));
}

#[test]
fn a_node_stops_though_redis_is_gone() {
    let mut cluster = Cluster::new(1, &[]);
    let mut client = cluster.connect_and_see(1, "");
    cluster.redis.stop();
    cluster.nodes[0].signal("TERM");
    assert_eq!(client.closed(), Some(1001));
    assert_eq!(cluster.nodes[0].ends().code(), Some(0));
    assert!(cluster.nodes[0].log().contains("left to other nodes"), "what was lost is said");
}
