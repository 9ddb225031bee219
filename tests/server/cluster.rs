//! Three nodes in a Redis Cluster: a slot that moves under traffic, and a master whose replica takes its place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use imcore::{
    ErrorKind, ImClient, Message, Result,
    broker::{self, Broker, RedisOptions},
    server::{Limits, Server, ServerConfig, ServerHandle},
};
use testkit::{Cluster, PATIENCE, eventually, ws::Client};

use crate::{shares::impatient, world::fresh_prefix};

/// What the names of share 0 begin with behind the prefix.
const FIRST: &str = "_ws{0.781}";

/// Nodes `node-0` to `node-2`, of which each has a share, with the log.
struct Scene {
    nodes: Vec<ServerHandle>,
    im: ImClient,
    prefix: String,
}

impl Scene {
    fn on(cluster: &Cluster) -> Scene {
        let prefix = fresh_prefix();
        let servers: Vec<_> = (0..3).map(|number| format!("node-{number}")).collect();
        let open = || -> Arc<dyn Broker> {
            let options = RedisOptions { prefix: prefix.clone(), log: true, ..impatient(&servers) };
            broker::open(&cluster.url(), options).unwrap()
        };
        let start = |name: &String| {
            let config = ServerConfig {
                listen: ([127, 0, 0, 1], 0).into(),
                server: Some(name.clone()),
                servers: servers.clone(),
                reactors: 1,
                limits: Limits {
                    lease: Duration::from_secs(2),
                    linger: Duration::from_millis(200),
                    ..Limits::default()
                },
                ..ServerConfig::default()
            };
            let node = Server::start(config, open()).unwrap();
            assert!(node.wait_ready(PATIENCE));
            node
        };
        let nodes = servers.iter().map(start).collect();
        let im = ImClient::builder().servers(servers.clone()).broker(open()).build().unwrap();
        Scene { nodes, im, prefix }
    }

    fn connect(&self, client: i64) -> Client {
        let url = self.im.connect_url(client, None).unwrap();
        let node = &self.nodes[(client % 3) as usize];
        let connection = Client::connect(node.local_addr(), &url).unwrap();
        eventually("online", || self.im.is_online(client).unwrap());
        connection
    }

    fn end(self) {
        for node in self.nodes {
            node.shutdown();
        }
    }
}

/// Does it again as long as nothing was done.
fn surely<T>(mut call: impl FnMut() -> Result<T>) -> T {
    loop {
        match call() {
            Ok(done) => return done,
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// What is under way while a slot moves.
#[derive(Default)]
struct Traffic {
    turns: AtomicUsize,
    is_over: AtomicBool,
}

impl Traffic {
    /// Sends to a client, directly and in a channel that it has joined a moment ago, until it is over; what it must hear.
    fn send(&self, im: &ImClient, client: i64) -> Vec<String> {
        let mut heard = Vec::new();
        for turn in 0.. {
            let channel = channel(client, turn);
            let (direct, joined) = (format!("direct {turn}"), format!("joined {turn}"));
            surely(|| im.send(Message::to([client]), &direct));
            surely(|| im.join([client], [channel.as_str()]));
            surely(|| im.send(Message::to_channel(&channel), &joined));
            heard.extend([direct, joined]);
            self.turns.fetch_add(1, Ordering::Relaxed);
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
        }
        heard
    }

    /// Waits for so many turns.
    fn goes_on(&self, turns: usize) {
        let until = self.turns.load(Ordering::Relaxed) + turns;
        eventually("traffic goes on", || self.turns.load(Ordering::Relaxed) >= until);
    }
}

fn channel(client: i64, turn: usize) -> String {
    format!("{turn} of {client}")
}

#[test]
fn a_slot_that_moves_under_traffic_loses_doubles_and_reorders_nothing() {
    let cluster = Cluster::start(3);
    let scene = Scene::on(&cluster);
    let clients: Vec<i64> = (3..9).collect();
    let mut connections: Vec<_> = clients.iter().map(|client| scene.connect(*client)).collect();
    // Keys that take a while to move.
    let many: Vec<i64> = (0..600).map(|number| 3 * number + 30).collect();
    scene.im.join(many.iter().copied(), ["many"]).unwrap();
    let traffic = Traffic::default();
    let key = format!("{}{FIRST}", scene.prefix);
    let expected: Vec<_> = thread::scope(|scope| {
        let send = |client: &i64| {
            let (traffic, im, client) = (&traffic, &scene.im, *client);
            scope.spawn(move || traffic.send(im, client))
        };
        let senders: Vec<_> = clients.iter().map(send).collect();
        let first = cluster.owner(&key);
        for to in [(first + 1) % 3, (first + 2) % 3, first] {
            traffic.goes_on(200);
            cluster.move_slot(&key, to);
        }
        traffic.goes_on(200);
        traffic.is_over.store(true, Ordering::Relaxed);
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    for ((client, connection), expected) in clients.iter().zip(&mut connections).zip(expected) {
        // So many turns, each with a channel.
        let own: Vec<_> = (0..expected.len() / 2).map(|turn| channel(*client, turn)).collect();
        for text in expected {
            assert_eq!(connection.text(), format!("{text:?}"), "to {client}");
        }
        let sorted = |mut channels: Vec<String>| {
            channels.sort();
            channels
        };
        let joined = scene.im.channels_of(*client).unwrap();
        assert_eq!(sorted(joined), sorted(own.clone()));
        scene.im.leave([*client], own.iter().map(String::as_str)).unwrap();
        scene.im.send(Message::to_channel(&own[0]), "left").unwrap();
    }
    assert_eq!(scene.im.channel_size("many").unwrap(), 600);
    for (client, connection) in clients.iter().zip(&mut connections) {
        scene.im.send(Message::to([*client]), "end").unwrap();
        assert_eq!(connection.text(), "\"end\"");
    }
    scene.end();
}

#[test]
fn a_master_that_dies_takes_its_own_node_along_until_a_replica_takes_over() {
    let mut cluster = Cluster::start_with(3, 1, &["--cluster-require-full-coverage", "no"]);
    let scene = Scene::on(&cluster);
    let mut connections: Vec<_> = (3..6).map(|client| scene.connect(client)).collect();
    scene.im.join(3..6, ["room"]).unwrap();
    let key = format!("{}{FIRST}", scene.prefix);
    let former = cluster.owner(&key);
    let asked = (former + 1) % 3;
    assert_eq!(scene.im.channel_size("room").unwrap(), 3);
    // What a replica has not got yet nobody promises.
    cluster.in_step(&key);

    cluster.servers[former].stop();
    let until_then = AtomicBool::new(true);
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            while until_then.load(Ordering::Relaxed) {
                for (client, node) in [(4, 1), (5, 2)] {
                    assert!(scene.nodes[node].is_ready(), "node {node}");
                    assert!(scene.im.is_online(client).unwrap(), "client {client}");
                    scene.im.send(Message::to([client]), "still").unwrap();
                }
            }
        });
        eventually("its node notices", || !scene.nodes[0].is_ready());
        assert!(scene.im.send(Message::to([3]), "lost").unwrap_err().is_retryable());
        cluster.failed_over(&key, former, asked);
        eventually("its node is back", || scene.nodes[0].is_ready());
        until_then.store(false, Ordering::Relaxed);
        others.join().unwrap();
    });
    eventually("its client is online and in its channel", || {
        scene.im.is_online(3).unwrap_or(false)
            && scene.im.channel_size("room").is_ok_and(|size| size == 3)
    });
    scene.im.send(Message::to_channel("room"), "again").unwrap();
    for connection in &mut connections {
        while connection.text() != "\"again\"" {}
    }
    scene.end();
}
