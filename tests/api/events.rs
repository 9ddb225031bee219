//! The stream of presence events.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
};

use serde_json::{Value, json};
use testkit::{Imserver, eventually};

use crate::{
    cluster::{Cluster, KEY},
    http,
};

pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    fn watch(cluster: &Cluster, node: usize) -> Events {
        Events::begin(cluster, node, "GET /v1/events")
    }

    pub(crate) fn begin(cluster: &Cluster, node: usize, request: &str) -> Events {
        let key = format!("Authorization: Bearer {KEY}\r\n");
        let (stream, head) = http::begin(cluster.apis[node], request, &key, None);
        assert!(head.contains("text/event-stream"), "{head}");
        Events(BufReader::new(stream))
    }

    /// Name and data of the next event; comments are passed over.
    pub(crate) fn next(&mut self) -> (String, Value) {
        let (mut name, mut data) = (String::new(), Value::Null);
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream has ended");
            match line.trim_end().split_once(": ") {
                Some(("event", text)) => name = text.to_owned(),
                Some(("data", text)) => data = serde_json::from_str(text).unwrap(),
                _ if !name.is_empty() => return (name, data),
                _ => {}
            }
        }
    }
}

#[test]
fn every_node_tells_of_every_connection() {
    let cluster = Cluster::start();
    let mut all: Vec<_> = (0..3).map(|node| Events::watch(&cluster, node)).collect();
    for events in &mut all {
        assert_eq!(events.next(), ("listening".into(), json!({})));
    }
    let about = |id: i64| json!({ "client": id.to_string(), "meta": "test" });
    for id in [1, 2, 9_007_199_254_740_993] {
        cluster.connect(id).leave();
        for events in &mut all {
            assert_eq!(events.next(), ("online".into(), about(id)));
            assert_eq!(events.next(), ("offline".into(), about(id)));
        }
    }
}

/// Other listeners cost Redis nothing: each event goes once to each node.
#[test]
fn the_listeners_of_a_node_share_one_subscription() {
    let cluster = Cluster::start();
    let mut all: Vec<_> = (0..20).map(|_| Events::watch(&cluster, 0)).collect();
    let mut redis = cluster.redis.connect();
    let mut count = || {
        let asked = redis::cmd("PUBSUB").arg("NUMSUB").arg("evt_im_v2_wsOnline").to_owned();
        asked.query::<(String, u64)>(&mut redis).unwrap().1
    };
    assert_eq!(count(), 1);
    cluster.connect(7).leave();
    for events in &mut all {
        let heard: Vec<_> = (0..3).map(|_| events.next().0).collect();
        assert_eq!(heard, ["listening", "online", "offline"]);
    }
    // The last one gone, nobody listens for nobody.
    drop(all);
    eventually("no subscription", || {
        cluster.connect(8).leave();
        count() == 0
    });
    assert_eq!(Events::watch(&cluster, 0).next().0, "listening");
}

#[test]
fn a_stream_ends_when_its_key_is_withdrawn() {
    let path = std::env::temp_dir().join(format!("imcore-key-{}.json", std::process::id()));
    let settings = |key: &str| {
        let text =
            format!(r#"{{"listen": "127.0.0.1:0", "api": "127.0.0.1:0", "api_key": "{key}"}}"#);
        std::fs::write(&path, text).unwrap();
    };
    settings(KEY);
    let process = Imserver::start(&["--config", path.to_str().unwrap()]);
    let api = process.api();
    let key = format!("Authorization: Bearer {KEY}\r\n");
    let (stream, head) = http::begin(api, "GET /v1/events", &key, None);
    // For nginx, which would keep events until it has many.
    assert!(head.contains("X-Accel-Buffering: no\r\n"), "{head}");
    let mut events = Events(BufReader::new(stream));
    assert_eq!(events.next().0, "listening");
    settings("another-key-0123456789");
    process.signal("HUP");
    let mut rest = String::new();
    events.0.read_to_string(&mut rest).expect("the stream ends in good order");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn an_outage_is_told_once_it_is_over() {
    let mut cluster = Cluster::start();
    let mut events = Events::watch(&cluster, 0);
    assert_eq!(events.next().0, "listening");
    cluster.redis.stop();
    cluster.redis.start_again();
    assert_eq!(events.next(), ("missed".into(), json!({})));
}

#[test]
fn without_redis_nobody_can_listen() {
    let mut cluster = Cluster::start();
    cluster.redis.stop();
    let answer = cluster.ask(0, "GET /v1/events", None);
    assert_eq!((answer.status, answer.code()), (503, "unavailable".into()));
}
