//! The stream of presence events.

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, KEY},
    http,
};

struct Events(BufReader<TcpStream>);

impl Events {
    fn watch(cluster: &Cluster, node: usize) -> Events {
        let key = format!("Authorization: Bearer {KEY}\r\n");
        let (stream, head) = http::begin(cluster.apis[node], "GET /v1/events", &key, None);
        assert!(head.contains("text/event-stream"), "{head}");
        Events(BufReader::new(stream))
    }

    /// Name and data of the next event; comments are passed over.
    fn next(&mut self) -> (String, Value) {
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
