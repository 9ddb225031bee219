//! Events that are kept: of nodes that run, end and die, over real sockets, for services that come and go.

use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use imcore::{Event, EventKind, EventStream, ImClient};
use testkit::{Imserver, PATIENCE, Redis, eventually, ws::Client};

struct Cluster {
    redis: Redis,
    im: ImClient,
}

impl Cluster {
    fn start() -> Cluster {
        let redis = Redis::start();
        let im = ImClient::builder().servers(["a", "b"]).redis(redis.url()).build().unwrap();
        Cluster { redis, im }
    }

    fn node(&self, name: &str) -> Imserver {
        let url = self.redis.url();
        let args =
            ["--listen", "127.0.0.1:0", "--servers", "a,b", "--redis", &url, "--server", name];
        let node = Imserver::start(&[&args[..], &["--events", "1000", "--keep", "0"]].concat());
        let _address = node.address();
        node.wait_ready();
        node
    }

    fn connect(&self, client: i64, node: &Imserver) -> Client {
        let url = self.im.connect_url(client, Some("note")).unwrap();
        Client::connect(node.address(), &url).unwrap()
    }

    /// A service, and what it is told.
    fn service(&self) -> (EventStream, Receiver<Event>) {
        let (told, heard) = channel();
        let stream = self
            .im
            .events("billing", move |event| told.send(event.clone()).map_err(|_| "nobody listens"));
        let stream = stream.unwrap();
        (stream, heard)
    }
}

/// What it is told next of `client`: the word, and the reason if there is one.
fn next(heard: &Receiver<Event>, client: i64) -> String {
    let event = heard.recv_timeout(PATIENCE).expect("an event");
    assert_eq!(event.client, Some(client.into()), "{event:?}");
    assert_eq!(event.ticket.as_ref().unwrap().meta().as_deref(), Some("note"));
    format!("{} {}", event.kind.word(), event.reason)
}

#[test]
fn a_service_is_told_all_that_happened_while_it_was_away() {
    let cluster = Cluster::start();
    let (a, mut b) = (cluster.node("a"), cluster.node("b"));
    let (service, heard) = cluster.service();
    let mut phone = cluster.connect(2, &a);
    assert_eq!((&*next(&heard, 2), &*next(&heard, 2)), ("opened ", "online "));
    let tab = cluster.connect(2, &a);
    assert_eq!(next(&heard, 2), "opened ");
    service.stop();
    drop(tab);
    eventually("one connection is left", || cluster.im.connections_of(2).unwrap().len() == 1);
    cluster.im.kick(2).unwrap();
    assert_eq!(phone.closed(), Some(4001));
    eventually("offline", || !cluster.im.is_online(2).unwrap());
    let _other = cluster.connect(1, &b);
    eventually("online", || cluster.im.is_online(1).unwrap());
    b.kill();
    eventually("reaped", || !cluster.im.is_online(1).unwrap());
    let (service, heard) = cluster.service();
    assert_eq!(next(&heard, 2), "ended connection_lost");
    assert_eq!((&*next(&heard, 2), &*next(&heard, 2)), ("ended kicked", "offline kicked"));
    assert_eq!((&*next(&heard, 1), &*next(&heard, 1)), ("opened ", "online "));
    let died = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!((died.kind, &*died.node), (EventKind::NodeDied, "b"));
    assert_eq!((&*next(&heard, 1), &*next(&heard, 1)), ("ended node_gone", "offline node_gone"));
    service.stop();
    assert!(heard.recv_timeout(Duration::ZERO).is_err(), "nothing twice");
}

#[test]
fn a_redis_that_has_lost_its_data_is_told() {
    let cluster = Cluster::start();
    let node = cluster.node("a");
    let (_service, heard) = cluster.service();
    redis::cmd("FLUSHALL").exec(&mut cluster.redis.connect()).unwrap();
    let lost = heard.recv_timeout(PATIENCE).expect("an event");
    assert_eq!(lost.kind, EventKind::Missed(None));
    eventually("the node has a session again", || !cluster.im.nodes().unwrap().is_empty());
    let _client = cluster.connect(2, &node);
    assert_eq!((&*next(&heard, 2), &*next(&heard, 2)), ("opened ", "online "));
}
