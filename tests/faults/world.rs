//! Nodes behind proxies, one Redis that can be broken, and a log of every presence event.
//!
//! Each node reaches Redis through a proxy of its own; helper, log and checks go there directly. A test
//! that breaks Redis itself keeps the proxies cut until the log listens again, so that it misses nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use imcore::{
    ImClient, Ticket,
    broker::{NodeBroker, PresenceChange, RedisBroker, RedisOptions},
    server::{Limits, Server, ServerConfig, ServerHandle},
};
use redis::cmd;
use testkit::{
    Imserver, PATIENCE, Redis, eventually,
    proxy::{Mode, Proxy},
    ws::Client,
};

pub const LEASE: Duration = Duration::from_secs(2);

pub struct World {
    pub nodes: Vec<ServerHandle>,
    pub im: ImClient,
    pub broker: RedisBroker,
    pub log: EventLog,
    /// The way of each node to Redis.
    pub links: Vec<Proxy>,
    pub redis: Redis,
}

/// A client's connection. Its ticket is like no other, so that its events can be told apart.
pub struct Peer {
    pub client: i64,
    pub ticket: String,
    pub socket: Client,
}

/// Options that find faults out quickly.
pub fn impatient() -> RedisOptions {
    RedisOptions {
        connect_timeout: Duration::from_millis(500),
        call_timeout: Duration::from_secs(1),
        probe_interval: Duration::from_millis(300),
        probe_timeout: Duration::from_millis(1500),
        ..RedisOptions::default()
    }
}

impl World {
    pub fn new(nodes: usize) -> World {
        World::on(Redis::start_with_debug(), nodes)
    }

    pub fn on(redis: Redis, nodes: usize) -> World {
        World::with(redis, nodes, |_| {})
    }

    /// A world whose nodes have changed settings.
    pub fn with(redis: Redis, nodes: usize, change: fn(&mut ServerConfig)) -> World {
        World::build(redis, nodes, change, impatient())
    }

    /// A world with a log.
    pub fn with_log(nodes: usize) -> World {
        let options = RedisOptions { log: true, ..impatient() };
        World::build(Redis::start(), nodes, |_| {}, options)
    }

    fn build(
        redis: Redis,
        nodes: usize,
        change: fn(&mut ServerConfig),
        options: RedisOptions,
    ) -> World {
        let links: Vec<_> = (0..nodes).map(|_| Proxy::start(redis.port)).collect();
        let log = EventLog::start(&redis);
        let servers = names(nodes);
        let started: Vec<_> = (0..nodes)
            .map(|index| start_node(&servers, index, &links[index].url(), change, &options))
            .collect();
        let broker = RedisBroker::open(&redis.url(), impatient()).unwrap();
        let im = ImClient::builder().servers(servers).redis(redis.url()).log(options.log);
        let im = im.build().unwrap();
        let world = World { nodes: started, im, broker, log, links, redis };
        world.nodes.iter().for_each(|node| assert!(node.wait_ready(PATIENCE)));
        world
    }

    pub fn connect(&self, client: i64) -> Peer {
        let owner = self.im.node_of(client).unwrap();
        let node = self.nodes.iter().find(|node| node.server() == owner).unwrap();
        let address = node.local_addr();
        let peer = connect(&self.im, address, client).unwrap();
        eventually("online", || self.log.count(true, &peer.ticket) == 1);
        peer
    }

    /// What a newcomer without a token is told.
    pub fn refusal(&self, node: usize) -> u16 {
        Client::connect(self.nodes[node].local_addr(), "ws://x/ws?token=none").err().unwrap()
    }

    pub fn set_links(&self, mode: Mode) {
        self.links.iter().for_each(|link| link.set(mode));
    }

    /// Waits until the nodes of `peers` and their books say what is true, and until nothing can change
    /// that any more: a witness that dies now is reaped only after every other lapsed session.
    pub fn settles(&self, open: &[&Peer], closed: &[&Peer]) {
        eventually("the books are right", || self.is_right(open, closed));
        self.witness();
        assert!(self.is_right(open, closed), "{:#?}", self.log.all());
    }

    pub fn is_right(&self, open: &[&Peer], closed: &[&Peer]) -> bool {
        let mut counts = BTreeMap::new();
        for peer in open {
            *counts.entry(peer.client.to_string()).or_insert(0i64) += 1;
        }
        let balanced = |peer: &Peer, more: usize| {
            let (online, offline) =
                (self.log.count(true, &peer.ticket), self.log.count(false, &peer.ticket));
            online == offline + more
        };
        open.iter().all(|peer| balanced(peer, 1))
            && closed.iter().all(|peer| balanced(peer, 0))
            && self.hash("im_v2_wsOnline") == counts
    }

    /// Asserts that each closed connection had one offline event, and each open one none.
    pub fn told_once(&self, open: &[&Peer], closed: &[&Peer]) {
        for (peers, expected) in [(open, 0), (closed, 1)] {
            for peer in peers {
                let told =
                    (self.log.count(true, &peer.ticket), self.log.count(false, &peer.ticket));
                assert_eq!(told, (1, expected), "{}: {:#?}", peer.ticket, self.log.all());
            }
        }
    }

    /// Members of a channel by all three keys.
    pub fn has_members(&self, channel: &str, members: &[&Peer]) -> bool {
        let ids: Vec<_> = members.iter().map(|peer| peer.client.to_string()).collect();
        let listed = self.hash("im_v2_wsListChan").get(channel).copied().unwrap_or_default();
        let found: Vec<_> = self.hash(&format!("im_v2_wsChan{channel}")).into_keys().collect();
        let own = ids
            .iter()
            .all(|id| self.hash(&format!("im_v2_wsClient{id}")).keys().any(|name| name == channel));
        let mut sorted = ids.clone();
        sorted.sort();
        own && found == sorted && listed == ids.len() as i64
    }

    pub fn hash(&self, key: &str) -> BTreeMap<String, i64> {
        cmd("HGETALL").arg(key).query(&mut self.redis.connect()).unwrap()
    }

    pub fn keys(&self, pattern: &str) -> Vec<String> {
        cmd("KEYS").arg(pattern).query(&mut self.redis.connect()).unwrap()
    }

    pub fn witness(&self) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let meta = format!("witness {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let ticket = Ticket::new(1_000_000.into(), Some(&meta));
        let text = ticket.text().to_owned();
        let mut session = patiently(|| self.broker.begin_session("witness", LEASE, true));
        let opened = PresenceChange::Opened { connection: 1, ticket, resumable: false };
        patiently(|| self.broker.report(&mut session, std::slice::from_ref(&opened)));
        eventually("the witness is reaped", || self.log.count(false, &text) == 1);
    }
}

pub fn names(nodes: usize) -> Vec<String> {
    (0..nodes).map(|index| format!("node-{index}")).collect()
}

/// A node as a process of its own, with default settings.
pub fn process(name: &str, servers: &[String], redis: &str) -> Imserver {
    let place = ["--listen", "127.0.0.1:0", "--server", name, "--servers", &servers.join(",")];
    Imserver::start(&[&place[..], &["--redis", redis, "--reactors", "1"]].concat())
}

/// A node in this process.
pub fn start_node(
    servers: &[String],
    index: usize,
    url: &str,
    change: impl FnOnce(&mut ServerConfig),
    options: &RedisOptions,
) -> ServerHandle {
    let mut config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        server: Some(servers[index].clone()),
        servers: servers.to_vec(),
        reactors: 2,
        limits: Limits {
            lease: LEASE,
            linger: Duration::from_millis(200),
            drain_grace: Duration::from_secs(1),
            ..Limits::default()
        },
        ..ServerConfig::default()
    };
    change(&mut config);
    Server::start(config, Arc::new(RedisBroker::open(url, options.clone()).unwrap())).unwrap()
}

/// Connects with a ticket that names the connection; the status if it is refused.
pub fn connect(im: &ImClient, address: std::net::SocketAddr, client: i64) -> Result<Peer, u16> {
    static NUMBER: AtomicI64 = AtomicI64::new(0);
    let meta = format!("connection {}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let url = patiently(|| im.connect_url(client, Some(&meta)));
    let ticket = Ticket::new(client.into(), Some(&meta)).text().to_owned();
    Ok(Peer { client, ticket, socket: Client::connect(address, &url)? })
}

/// Connects as soon as it is not refused: while a node is not ready, it refuses everybody.
pub fn connect_once_ready(im: &ImClient, address: std::net::SocketAddr, client: i64) -> Peer {
    let mut connected = None;
    eventually("a client is served", || match connect(im, address, client) {
        Ok(peer) => {
            connected = Some(peer);
            true
        }
        Err(status) => {
            assert_eq!(status, 503);
            false
        }
    });
    connected.unwrap()
}

/// Repeats a call as business code would: for as long as its error may pass.
pub fn patiently<T>(mut call: impl FnMut() -> Result<T, imcore::Error>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call() {
            Ok(value) => return value,
            Err(error) => assert!(error.is_retryable() && Instant::now() < deadline, "{error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Every presence event, in order, with a count per connection.
pub struct EventLog {
    shared: Arc<Mutex<Events>>,
}

#[derive(Default)]
struct Events {
    all: Vec<(bool, String)>,
    counts: BTreeMap<(bool, String), usize>,
    /// Id of the subscribed connection; 0 while there is none.
    listener: i64,
    stopped: bool,
}

impl EventLog {
    pub fn start(redis: &Redis) -> Self {
        let log = EventLog { shared: Arc::default() };
        let (shared, url) = (Arc::clone(&log.shared), redis.url());
        thread::spawn(move || {
            while !shared.lock().unwrap().stopped {
                let _ = listen(&url, &shared);
                shared.lock().unwrap().listener = 0;
                thread::sleep(Duration::from_millis(5));
            }
        });
        log.listens();
        log
    }

    /// Waits until no event can be missed; the number of the connection.
    pub fn listens(&self) -> i64 {
        let mut listener = 0;
        eventually("the log listens", || {
            listener = self.shared.lock().unwrap().listener;
            listener > 0
        });
        listener
    }

    /// How often a connection came online (or went offline).
    pub fn count(&self, online: bool, ticket: &str) -> usize {
        let events = self.shared.lock().unwrap();
        events.counts.get(&(online, ticket.to_owned())).copied().unwrap_or_default()
    }

    /// How many connections had how many events of that kind.
    pub fn histogram(&self, online: bool) -> BTreeMap<usize, usize> {
        let mut histogram = BTreeMap::new();
        for ((kind, _), count) in &self.shared.lock().unwrap().counts {
            if *kind == online {
                *histogram.entry(*count).or_default() += 1;
            }
        }
        histogram
    }

    pub fn all(&self) -> Vec<(bool, String)> {
        self.shared.lock().unwrap().all.clone()
    }

    /// Whether the last event of a connection says online.
    pub fn last(&self, ticket: &str) -> Option<bool> {
        let events = self.shared.lock().unwrap();
        events.all.iter().rfind(|(_, text)| text == ticket).map(|(online, _)| *online)
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.shared.lock().unwrap().stopped = true;
    }
}

fn listen(url: &str, shared: &Mutex<Events>) -> redis::RedisResult<()> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let id: i64 = cmd("CLIENT").arg("ID").query(&mut connection)?;
    connection.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut subscriber = connection.as_pubsub();
    subscriber.subscribe(&["evt_im_v2_wsOnline", "evt_im_v2_wsOffline"][..])?;
    shared.lock().unwrap().listener = id;
    loop {
        match subscriber.get_message() {
            Ok(message) => {
                let online = message.get_channel_name().ends_with("Online");
                let text: String = message.get_payload()?;
                let mut events = shared.lock().unwrap();
                events.all.push((online, text.clone()));
                *events.counts.entry((online, text)).or_default() += 1;
            }
            Err(error) if error.is_timeout() => {
                if shared.lock().unwrap().stopped {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}
