//! Nodes that share slots, one of which dies or is paused: who comes back elsewhere in time was never away and misses nothing,
//! and who does not is offline once.

use std::{net::SocketAddr, time::Duration};

use imcore::{ClientId, ImClient, Message, SlotTable, Ticket, broker::Slots};
use serde_json::Value;
use testkit::{Imserver, Redis, eventually, ws::Client};

use crate::world::{EventLog, patiently};

pub(crate) const SLOTS: usize = 16;
/// Clients of each kind.
const MANY: i64 = 32;

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Imserver>,
    log: bool,
    /// What is set of each node besides.
    settings: Vec<String>,
    pub(crate) im: ImClient,
    pub(crate) events: EventLog,
    broker: imcore::broker::RedisBroker,
    pub(crate) redis: Redis,
}

/// A client, and where it is.
struct Peer {
    client: i64,
    meta: String,
    speaks: bool,
    socket: Option<Client>,
    hello: Value,
}

impl Cluster {
    /// Two nodes with half of the slots each.
    fn new(log: bool) -> Cluster {
        Cluster::with(log, &[])
    }

    /// The same, with more settings.
    pub(crate) fn with(log: bool, settings: &[&str]) -> Cluster {
        let redis = Redis::start();
        let im = ImClient::builder().slots().redis(redis.url()).log(log).build().unwrap();
        let events = EventLog::start(&redis);
        let broker = imcore::broker::RedisBroker::open(&redis.url(), Default::default()).unwrap();
        let settings = settings.iter().map(|word| word.to_string()).collect();
        let mut cluster = Cluster { nodes: Vec::new(), log, settings, im, events, broker, redis };
        for _ in 0..2 {
            cluster.start();
        }
        eventually("shares", || {
            let table = cluster.table();
            let is_still = (0..SLOTS).all(|slot| table.moving_from(slot).is_none());
            is_still && ["node-0", "node-1"].iter().all(|node| table.slots_of(node).count() == 8)
        });
        cluster
    }

    /// One node more.
    pub(crate) fn start(&mut self) {
        let (name, url) = (format!("node-{}", self.nodes.len()), self.redis.url());
        let slots = SLOTS.to_string();
        let log = if self.log { "on" } else { "off" };
        let mut words = vec![
            "--listen",
            "127.0.0.1:0",
            "--server",
            &name,
            "--slots",
            &slots,
            "--redis",
            &url,
            "--keep",
            "60",
            "--grace",
            "60",
            "--message-log",
            log,
        ];
        words.extend(self.settings.iter().map(String::as_str));
        let node = Imserver::start(&words);
        node.wait_ready();
        self.nodes.push(node);
    }

    pub(crate) fn table(&self) -> SlotTable {
        self.broker.slot_table().unwrap().unwrap_or_default()
    }

    /// Where the owner of a client listens, as its address says.
    pub(crate) fn address(&self, url: &str) -> SocketAddr {
        let name = url.trim_start_matches("ws://").split('/').next().unwrap();
        let index: usize = name.strip_prefix("node-").unwrap().parse().unwrap();
        self.nodes[index].address()
    }

    /// Clients of a node that can resume, as many of the original's kind, and as many as the first who will be late.
    fn connect(&self, node: usize) -> [Vec<Peer>; 3] {
        let table = self.table();
        let owner = format!("node-{node}");
        let ids = (1..).filter(|id| table.owner(*id as usize % SLOTS) == Some(&owner));
        let mut ids = ids.take(3 * MANY as usize);
        [(true, "keeps"), (false, "place"), (true, "late")].map(|(speaks, kind)| {
            let peers = ids.by_ref().take(MANY as usize).map(|client| {
                let (meta, hello) = (format!("{kind} {client}"), Value::Null);
                let mut peer = Peer { client, meta, speaks, socket: None, hello };
                peer.open(self);
                peer
            });
            let peers: Vec<_> = peers.collect();
            eventually("online", || self.told(&peers, 1, 0));
            self.im.join(peers.iter().map(|peer| ClientId::from(peer.client)), ["room"]).unwrap();
            peers
        })
    }

    /// How often each of them was told online and offline.
    fn told(&self, peers: &[Peer], online: usize, offline: usize) -> bool {
        peers.iter().all(|peer| {
            let ticket = peer.ticket();
            self.events.count(true, ticket.text()) == online
                && self.events.count(false, ticket.text()) == offline
        })
    }

    pub(crate) fn taken_from(&self, node: &str) {
        eventually("its slots are taken", || {
            let table = self.table();
            (0..SLOTS).all(|slot| table.owner(slot).is_some_and(|owner| owner != node))
        });
    }

    fn say(&self, to: &[&[Peer]], text: &str) {
        let clients = to.iter().flat_map(|peers| peers.iter().map(|peer| peer.client));
        let message = Message::to(clients.collect::<Vec<_>>());
        patiently(|| self.im.send(message.clone(), text));
        patiently(|| self.im.send(Message::to_channel("room"), text));
    }
}

impl Peer {
    fn open(&mut self, cluster: &Cluster) {
        let known = match self.hello["c"].as_str() {
            Some(c) => format!("&since={}&c={c}", self.hello["p"].as_str().unwrap()),
            None => String::new(),
        };
        eventually("served", || {
            let meta = Some(&*self.meta);
            let url = patiently(|| match self.keep() {
                Some(keep) => cluster.im.connect_url_keeping(self.client, meta, keep),
                None => cluster.im.connect_url(self.client, meta),
            });
            let url = url + &known;
            let socket = match self.speaks {
                true => Client::speak(cluster.address(&url), &url, "imcore.1"),
                false => Client::connect(cluster.address(&url), &url),
            };
            let Ok(mut socket) = socket else { return false };
            if self.speaks {
                let mut first = socket.json();
                self.hello = first["hello"].take();
            }
            self.socket = Some(socket);
            true
        });
    }

    /// Who is late has a short time, of its ticket.
    fn keep(&self) -> Option<Duration> {
        self.meta.starts_with("late").then(|| Duration::from_secs(12))
    }

    fn ticket(&self) -> Ticket {
        let ticket = Ticket::new(self.client.into(), Some(&self.meta));
        match self.keep() {
            Some(keep) => ticket.kept_for(keep),
            None => ticket,
        }
    }

    /// The texts that it gets up to this one, which each of its messages is.
    fn hears(&mut self, last: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let mut frame = self.socket.as_mut().unwrap().json();
            if self.speaks {
                self.hello["p"] = frame["p"].take();
                frame = frame["m"].take();
            }
            let Some(text) = frame.as_str() else { continue };
            all.push(text.to_owned());
            if text == last {
                return all;
            }
        }
    }

    /// Comes back, and is given these and nothing else.
    fn resumes(&mut self, cluster: &Cluster, missed: &[&str]) {
        self.open(cluster);
        let (resumed, channels) = (&self.hello["resumed"], &self.hello["channels"]);
        assert_eq!((resumed, channels), (&true.into(), &true.into()), "{}", self.hello);
        let count = self.hello["missed"].as_u64().unwrap();
        let given: Vec<_> = (0..count).map(|_| self.frame()["m"].take()).collect();
        assert_eq!(given, missed, "{}", self.hello);
    }

    /// The next message.
    fn frame(&mut self) -> Value {
        loop {
            let frame = self.socket.as_mut().unwrap().json();
            self.hello["p"] = frame["p"].clone();
            if frame.get("m").is_some() {
                return frame;
            }
        }
    }
}

#[test]
fn who_loses_its_node_goes_on_at_another() {
    let mut cluster = Cluster::new(true);
    let [mut phones, mut others, mut late] = cluster.connect(1);
    // Two of one client, which are resumed each by itself.
    let mut twin = Peer { hello: Value::Null, meta: "twin".into(), socket: None, ..phones[0] };
    twin.open(&cluster);
    cluster.say(&[&phones, &others], "one");
    for peer in phones.iter_mut().chain(&mut others).chain([&mut twin]) {
        assert_eq!(peer.hears("one"), ["one"]);
        assert_eq!(peer.hears("one"), ["one"]);
    }
    cluster.say(&[&phones, &others], "unheard");
    cluster.nodes[1].kill();
    cluster.say(&[&phones, &others], "two");
    cluster.taken_from("node-1");
    cluster.say(&[&phones, &others], "three");
    let missed = ["unheard", "unheard", "two", "two", "three", "three"];
    for peer in phones.iter_mut().chain([&mut twin]) {
        peer.resumes(&cluster, &missed);
    }
    others.iter_mut().for_each(|peer| peer.open(&cluster));
    cluster.say(&[&phones, &others], "end");
    for peer in phones.iter_mut().chain([&mut twin]) {
        assert_eq!(
            (peer.hears("end"), peer.hears("end")),
            (vec!["end".into()], vec!["end".into()])
        );
    }
    others.iter_mut().for_each(|peer| assert_eq!(peer.hears("end"), ["end"]));
    eventually("who is late is offline once", || cluster.told(&late, 1, 1));
    late.iter_mut().for_each(|peer| peer.open(&cluster));
    eventually("and online once more", || cluster.told(&late, 2, 1));
    assert!(late.iter().all(|peer| peer.hello["resumed"] == false));
    assert!(cluster.told(&phones, 1, 0) && cluster.told(&others, 1, 0));
}

#[test]
fn without_a_log_nobody_is_told_offline_who_comes_back() {
    let mut cluster = Cluster::new(false);
    let [mut phones, mut others, _late] = cluster.connect(1);
    cluster.nodes[1].kill();
    cluster.taken_from("node-1");
    for peer in phones.iter_mut().chain(&mut others) {
        peer.open(&cluster);
    }
    for peer in &phones {
        let (resumed, channels) = (&peer.hello["resumed"], &peer.hello["channels"]);
        assert_eq!((resumed, channels), (&false.into(), &true.into()), "{}", peer.hello);
    }
    cluster.say(&[&phones, &others], "here");
    for peer in phones.iter_mut().chain(&mut others) {
        assert_eq!((peer.hears("here").len(), peer.hears("here").len()), (1, 1));
    }
    assert!(cluster.told(&phones, 1, 0) && cluster.told(&others, 1, 0));
}

#[test]
fn what_the_log_has_trimmed_is_not_given_half() {
    let mut cluster = Cluster::new(true);
    let [mut phones, ..] = cluster.connect(1);
    cluster.nodes[1].kill();
    ["one", "two", "three"].iter().for_each(|text| cluster.say(&[&phones], text));
    for key in ["LogOfnode-1", "LogAll"] {
        let mut trim = redis::cmd("XTRIM");
        trim.arg(format!("im_v2_ws{key}")).arg("MAXLEN").arg(1);
        let trimmed: i64 = trim.query(&mut cluster.redis.connect()).unwrap();
        assert!(trimmed > 0, "{key}");
    }
    cluster.taken_from("node-1");
    for peer in &mut phones {
        peer.open(&cluster);
        let (resumed, channels) = (&peer.hello["resumed"], &peer.hello["channels"]);
        assert_eq!((resumed, channels), (&false.into(), &true.into()), "{}", peer.hello);
    }
    cluster.say(&[&phones], "here");
    for peer in &mut phones {
        assert_eq!(
            (peer.frame()["m"].take(), peer.frame()["m"].take()),
            ("here".into(), "here".into())
        );
    }
    assert!(cluster.told(&phones, 1, 0));
}

#[test]
fn a_former_owner_that_wakes_up_gives_way() {
    let cluster = Cluster::new(true);
    let [mut phones, mut others, _late] = cluster.connect(1);
    cluster.nodes[1].signal("STOP");
    cluster.say(&[&phones, &others], "one");
    cluster.taken_from("node-1");
    cluster.say(&[&phones, &others], "two");
    // Some come back before it wakes up; the others hear from it where to go.
    let (back, rest) = phones.split_at_mut(MANY as usize / 2);
    let mut former: Vec<_> = back.iter_mut().map(|peer| peer.socket.take().unwrap()).collect();
    let missed = ["one", "one", "two", "two"];
    back.iter_mut().for_each(|peer| peer.resumes(&cluster, &missed));
    cluster.nodes[1].signal("CONT");
    for socket in &mut former {
        let mut positions: Vec<_> = until_closed(socket).into_iter().map(|(p, _)| p).collect();
        let count = positions.len();
        positions.dedup();
        assert_eq!(positions.len(), count, "one came twice");
    }
    for peer in rest {
        let heard = until_closed(peer.socket.as_mut().unwrap());
        if let Some((p, _)) = heard.last() {
            peer.hello["p"] = p.clone().into();
        }
        assert!(heard.iter().map(|(_, text)| text).eq(&missed[..heard.len()]), "{heard:?}");
        peer.resumes(&cluster, &missed[heard.len()..]);
    }
    for peer in &mut others {
        assert_eq!(peer.socket.as_mut().unwrap().closed(), Some(4302));
        peer.open(&cluster);
    }
    // It is a node like any other, and has its share again.
    eventually("shares", || {
        let table = cluster.table();
        let is_still = (0..SLOTS).all(|slot| table.moving_from(slot).is_none());
        is_still && ["node-0", "node-1"].iter().all(|node| table.slots_of(node).count() == 8)
    });
    assert!(cluster.told(&phones, 1, 0) && cluster.told(&others, 1, 0));
}

/// Positions and messages up to the close.
fn until_closed(socket: &mut Client) -> Vec<(String, String)> {
    let mut heard = Vec::new();
    while let Ok(tungstenite::Message::Text(text)) = socket.0.read() {
        let frame: Value = serde_json::from_str(&text).unwrap();
        if let (Some(p), Some(text)) = (frame["p"].as_str(), frame["m"].as_str()) {
            heard.push((p.to_owned(), text.to_owned()));
        }
    }
    heard
}
