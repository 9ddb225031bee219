//! Killed, paused and restarted node processes with a thousand clients each: every event exactly once.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use imcore::ImClient;
use testkit::{
    Imserver, Redis, eventually,
    proxy::{Mode, Proxy},
};

use crate::world::{EventLog, Peer, connect, names, process};

const PER_NODE: i64 = 1000;
/// Every client of this remainder is in the room.
const IN_ROOM: i64 = 5;

/// Processes on one Redis, and what has been told.
struct Cluster {
    nodes: Vec<Imserver>,
    im: ImClient,
    log: EventLog,
    links: Vec<Proxy>,
    redis: Redis,
}

impl Cluster {
    fn new(nodes: usize) -> Cluster {
        let redis = Redis::start();
        let links: Vec<_> = (0..nodes).map(|_| Proxy::start(redis.port)).collect();
        let im = ImClient::builder().servers(names(nodes)).redis(redis.url()).build().unwrap();
        let log = EventLog::start(&redis);
        let mut cluster = Cluster { nodes: Vec::new(), im, log, links, redis };
        cluster.nodes = (0..nodes).map(|index| cluster.start(index)).collect();
        cluster
    }

    fn start(&self, index: usize) -> Imserver {
        let (names, url) = (names(self.links.len()), self.links[index].url());
        let node = process(&names[index], &names, &url);
        node.wait_ready();
        node
    }

    /// Connects the clients of one node, some of them to the room.
    fn connect(&self, node: usize, count: i64) -> Vec<Peer> {
        let nodes = self.links.len() as i64;
        let ids: Vec<_> = (1..=count).map(|number| number * nodes + node as i64).collect();
        let owner = self.im.node_of(node as i64).unwrap();
        assert!(ids.iter().all(|id| self.im.node_of(*id).unwrap() == owner));
        let address = self.nodes[node].address();
        let peers = ids.iter().map(|id| connect(&self.im, address, *id).unwrap()).collect();
        let members = ids.iter().copied().filter(|id| id % IN_ROOM == 0);
        self.im.join(members, ["room"]).unwrap();
        peers
    }

    fn hash(&self, key: &str) -> BTreeMap<String, i64> {
        redis::cmd("HGETALL").arg(key).query(&mut self.redis.connect()).unwrap()
    }

    /// How long each node's lease holds if it is not renewed.
    fn leases_left(&self) -> Vec<Duration> {
        let mut redis = self.redis.connect();
        let leases: Vec<String> =
            redis::cmd("KEYS").arg("im_v2_wsLease*").query(&mut redis).unwrap();
        assert_eq!(leases.len(), self.nodes.len());
        let left = |lease| redis::cmd("PTTL").arg(lease).query(&mut redis).unwrap();
        leases.iter().map(left).map(Duration::from_millis).collect()
    }

    fn online(&self) -> usize {
        self.hash("im_v2_wsOnline").len()
    }

    fn told(&self, peers: &[Peer], online: usize, offline: usize) -> bool {
        peers.iter().all(|peer| {
            self.log.count(true, &peer.ticket) == online
                && self.log.count(false, &peer.ticket) == offline
        })
    }

    /// Counts and the room are those of exactly these clients.
    fn is_true_of(&self, peers: &[&[Peer]]) -> bool {
        let ids = || peers.iter().flat_map(|part| part.iter().map(|peer| peer.client));
        let online: BTreeMap<_, _> = ids().map(|id| (id.to_string(), 1)).collect();
        let room: BTreeMap<_, _> =
            ids().filter(|id| id % IN_ROOM == 0).map(|id| (id.to_string(), 0)).collect();
        let size = room.len() as i64;
        self.hash("im_v2_wsOnline") == online
            && self.hash("im_v2_wsChanroom") == room
            && self.hash("im_v2_wsListChan").get("room").copied().unwrap_or(0) == size
    }
}

#[test]
fn a_killed_node_is_healed_by_two_survivors() {
    let mut cluster = Cluster::new(3);
    let peers: Vec<_> = thread::scope(|scope| {
        let cluster = &cluster;
        let parts: Vec<_> =
            (0..3).map(|node| scope.spawn(move || cluster.connect(node, PER_NODE))).collect();
        parts.into_iter().map(|part| part.join().unwrap()).collect()
    });
    eventually("all online", || peers.iter().all(|part| cluster.told(part, 1, 0)));
    assert!(cluster.is_true_of(&[&peers[0], &peers[1], &peers[2]]));

    let killed = Instant::now();
    cluster.nodes[1].kill();
    // From then on it is taken for dead.
    assert!(cluster.leases_left().iter().all(|left| *left <= Duration::from_secs(10)));
    eventually("all offline", || cluster.told(&peers[1], 1, 1));
    let healed = killed.elapsed();
    eventually("the books are right", || cluster.is_true_of(&[&peers[0], &peers[2]]));
    println!(
        "3 nodes x {PER_NODE} clients, one killed: healed after {:.1} s; offline events {:?}",
        healed.as_secs_f64(),
        cluster.log.histogram(false)
    );

    // It comes back, and its clients with it; nobody is told twice.
    cluster.nodes[1] = cluster.start(1);
    let again = cluster.connect(1, 50);
    eventually("online again", || cluster.told(&again, 1, 0));
    assert!(cluster.told(&peers[0], 1, 0) && cluster.told(&peers[2], 1, 0));
    assert_eq!(cluster.log.histogram(false), BTreeMap::from([(1, PER_NODE as usize)]));
    assert!(cluster.is_true_of(&[&peers[0], &again, &peers[2]]));
}

#[test]
fn a_paused_node_comes_back_as_what_it_is() {
    let cluster = Cluster::new(2);
    let mut stay = cluster.connect(1, PER_NODE);
    let other = cluster.connect(0, 10);
    eventually("all online", || cluster.told(&stay, 1, 0) && cluster.told(&other, 1, 0));
    let leave = stay.split_off(stay.len() - 200);
    cluster.nodes[1].signal("STOP");
    eventually("taken for dead", || cluster.told(&stay, 1, 1) && cluster.told(&leave, 1, 1));
    eventually("the books are right", || cluster.is_true_of(&[&other]));
    let leave = crate::outages::close(leave);
    cluster.nodes[1].signal("CONT");
    // Some of those that left may be online for a moment; whoever stays must be in the end.
    eventually("back", || {
        stay.iter().all(|peer| cluster.log.last(&peer.ticket) == Some(true))
            && leave.iter().all(|peer| cluster.log.last(&peer.ticket) == Some(false))
            && cluster.online() == stay.len() + other.len()
    });
    assert!(cluster.told(&stay, 2, 1), "{:?}", cluster.log.histogram(true));
    for peer in &leave {
        let (online, offline) =
            (cluster.log.count(true, &peer.ticket), cluster.log.count(false, &peer.ticket));
        assert!(online == offline && online <= 2, "{online} {offline}");
    }
    assert!(cluster.told(&other, 1, 0));
}

#[test]
fn a_node_that_restarts_while_it_is_reaped_is_reaped_once() {
    let mut cluster = Cluster::new(2);
    let peers = cluster.connect(1, PER_NODE);
    let other = cluster.connect(0, 10);
    eventually("all online", || cluster.told(&peers, 1, 0) && cluster.told(&other, 1, 0));
    // A survivor on a slow link needs a while, so that the restart falls into it.
    cluster.links[0].set(Mode::Delay(Duration::from_millis(150)));
    cluster.nodes[1].kill();
    eventually("the reaping has begun", || !cluster.log.histogram(false).is_empty());
    let begun = cluster.log.histogram(false)[&1];
    cluster.nodes[1] = cluster.start(1);
    eventually("all offline", || cluster.told(&peers, 1, 1));
    cluster.links[0].heal();
    eventually("the books are right", || cluster.is_true_of(&[&other]));
    let again = cluster.connect(1, 50);
    eventually("online again", || cluster.told(&again, 1, 0));
    assert!(cluster.told(&other, 1, 0));
    println!("restarted after {begun} of {PER_NODE} offline events");
    assert_eq!(cluster.log.histogram(false), BTreeMap::from([(1, PER_NODE as usize)]));
    assert!(cluster.is_true_of(&[&other, &again]));
}
