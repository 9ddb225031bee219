//! A cluster for a test: several nodes in this process, a helper, clients over real sockets.

use std::{sync::Arc, time::Duration};

#[cfg(feature = "redis")]
use imcore::broker::RedisOptions;
use imcore::{
    ClientId, IdKind, ImClient,
    broker::{Broker, MemoryBroker},
    server::{CloseReason, Limits, Server, ServerConfig, ServerHandle},
};
use testkit::{PATIENCE, eventually, tls::forget, ws::Client};

/// Which broker stands between helper and nodes.
#[derive(Clone, Copy, Debug)]
pub enum Backend {
    Memory,
    #[cfg(feature = "redis")]
    Redis,
    /// A Redis for each node.
    #[cfg(feature = "redis")]
    Several,
    /// A Redis Cluster, of which each node has a share.
    #[cfg(feature = "redis")]
    InCluster,
    /// The memory broker, and TLS between clients and nodes.
    #[cfg(feature = "tls")]
    Tls,
}

/// Nodes named `node-0`, `node-1`, ... and a helper for them.
pub struct World {
    pub nodes: Vec<ServerHandle>,
    pub im: ImClient,
    pub broker: Arc<dyn Broker>,
    /// Redis names of this world start with it.
    #[cfg(feature = "redis")]
    pub prefix: String,
}

impl World {
    pub fn new(backend: Backend, nodes: usize) -> World {
        World::with(backend, nodes, |_| {})
    }

    /// A world whose nodes have changed settings.
    pub fn with(backend: Backend, nodes: usize, change: impl Fn(&mut ServerConfig)) -> World {
        #[cfg(feature = "redis")]
        let prefix = fresh_prefix();
        #[cfg(feature = "redis")]
        let events = events_kept(&change);
        let memory = Arc::new(MemoryBroker::new());
        let servers: Vec<_> = (0..nodes).map(|index| format!("node-{index}")).collect();
        let open = || -> Arc<dyn Broker> {
            match backend {
                #[cfg(feature = "tls")]
                Backend::Tls => Arc::clone(&memory) as _,
                Backend::Memory => Arc::clone(&memory) as _,
                #[cfg(feature = "redis")]
                Backend::Redis => open_redis_keeping(&prefix, events),
                #[cfg(feature = "redis")]
                Backend::Several | Backend::InCluster => open_shares(&prefix, &servers, backend),
            }
        };
        let started = servers
            .iter()
            .map(|name| {
                let mut config = ServerConfig {
                    listen: ([127, 0, 0, 1], 0).into(),
                    server: Some(name.clone()),
                    servers: servers.clone(),
                    reactors: 2,
                    limits: Limits {
                        linger: Duration::from_millis(200),
                        sweep: Duration::from_millis(200),
                        ..Limits::default()
                    },
                    ..ServerConfig::default()
                };
                #[cfg(feature = "tls")]
                if matches!(backend, Backend::Tls) {
                    config.tls = Some(crate::tls::config());
                }
                change(&mut config);
                let node = Server::start(config, open()).unwrap();
                #[cfg(feature = "tls")]
                if matches!(backend, Backend::Tls) {
                    testkit::tls::secure(node.local_addr(), crate::tls::clients());
                }
                node
            })
            .collect::<Vec<_>>();
        for node in &started {
            assert!(node.wait_ready(PATIENCE), "{} does not get ready", node.server());
        }
        let broker = open();
        // Nodes take larger messages than helpers send without being told.
        let im = ImClient::builder().servers(servers).broker(Arc::clone(&broker));
        let im = im.id_kind(helpers_ids(&change)).message_bytes(16 << 20).build().unwrap();
        World {
            nodes: started,
            im,
            broker,
            #[cfg(feature = "redis")]
            prefix,
        }
    }

    /// Hands out a node, to be stopped: its port may then be given to a node of another test.
    pub fn take(&mut self, index: usize) -> ServerHandle {
        let node = self.nodes.remove(index);
        forget(node.local_addr());
        node
    }

    /// Stops the only node and starts it again under its name.
    pub fn restart(&mut self, change: impl Fn(&mut ServerConfig)) {
        let former = self.take(0);
        let name = former.server().to_owned();
        assert!(former.shutdown().stuck.is_empty());
        let mut config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            server: Some(name.clone()),
            servers: vec![name],
            ..ServerConfig::default()
        };
        change(&mut config);
        let node = Server::start(config, Arc::clone(&self.broker)).unwrap();
        assert!(node.wait_ready(PATIENCE), "the node does not get ready again");
        self.nodes.push(node);
    }

    /// The node that owns `client`.
    pub fn node_of(&self, client: impl Into<ClientId>) -> &ServerHandle {
        let owner = self.im.node_of(client).unwrap();
        self.nodes.iter().find(|node| node.server() == owner).unwrap()
    }

    /// Redis keys of this world that are the original's or belong to a session.
    #[cfg(feature = "redis")]
    pub fn redis_keys(&self) -> Vec<String> {
        let mut redis = testkit::Redis::shared().connect();
        redis::cmd("KEYS").arg(format!("{}*", self.prefix)).query(&mut redis).unwrap()
    }

    /// Connects `client` with a fresh token and waits until it counts as online.
    pub fn connect(&self, client: impl Into<ClientId>) -> Client {
        let client = client.into();
        let connection = self.try_connect(&client).unwrap();
        eventually("online", || self.im.is_online(&client).unwrap());
        connection
    }

    /// Waits until all nodes together hold `count` connections.
    pub fn wait_for_connections(&self, count: u64) {
        eventually("the number of connections", || {
            self.nodes.iter().map(|node| node.vitals().stats().connections).sum::<u64>() == count
        });
    }

    /// Connections that ended for `reason`, over all nodes.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        let all = self.nodes.iter().flat_map(|node| node.vitals().stats().closed);
        all.filter(|(other, _)| *other == reason).map(|(_, count)| count).sum()
    }

    /// Connects `client` with a fresh token; the status if it is refused.
    pub fn try_connect(&self, client: impl Into<ClientId>) -> Result<Client, u16> {
        let client = client.into();
        let url = self.im.connect_url(&client, Some("meta")).unwrap();
        Client::connect(self.node_of(&client).local_addr(), &url)
    }
}

/// Nodes take a moment to stop; nobody waits for it here, as `life` is about that.
impl Drop for World {
    fn drop(&mut self) {
        while !self.nodes.is_empty() {
            let node = self.take(0);
            std::thread::spawn(|| node.shutdown());
        }
    }
}

/// A Redis prefix, or part of a name, that no other test has.
pub fn fresh_prefix() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};

    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("t{}x", NUMBER.fetch_add(1, Ordering::Relaxed))
}

#[cfg(feature = "redis")]
pub fn open_redis(prefix: &str) -> Arc<dyn Broker> {
    open_redis_keeping(prefix, 0)
}

/// With so many events that are kept.
#[cfg(feature = "redis")]
fn open_redis_keeping(prefix: &str, events: u64) -> Arc<dyn Broker> {
    open_redis_with(RedisOptions { prefix: prefix.into(), events, ..RedisOptions::default() })
}

/// Helpers have other texts for ids where nodes do; else both of .NET's kinds, whatever nodes take.
fn helpers_ids(change: impl Fn(&mut ServerConfig)) -> IdKind {
    let mut config = ServerConfig::default();
    change(&mut config);
    config.ids.filter(|kind| *kind == IdKind::Text).unwrap_or(IdKind::Any)
}

/// Who asks for what is told by events has some kept.
#[cfg(feature = "redis")]
fn events_kept(change: impl Fn(&mut ServerConfig)) -> u64 {
    let mut config = ServerConfig::default();
    change(&mut config);
    if config.undelivered { 10_000 } else { 0 }
}

/// In the common cluster, or on so many databases of the common server as there are nodes.
#[cfg(feature = "redis")]
fn open_shares(prefix: &str, servers: &[String], backend: Backend) -> Arc<dyn Broker> {
    let url = testkit::Redis::shared().url();
    let databases = (0..servers.len()).map(|number| format!("{url}/{number}"));
    let urls = match backend {
        Backend::InCluster => testkit::Cluster::shared().url(),
        _ => databases.collect::<Vec<_>>().join(","),
    };
    let nodes = servers.to_vec();
    let options = RedisOptions { prefix: prefix.into(), nodes, ..RedisOptions::default() };
    imcore::broker::open(&urls, options).unwrap()
}

#[cfg(feature = "redis")]
pub fn open_redis_with(options: RedisOptions) -> Arc<dyn Broker> {
    let url = testkit::Redis::shared().url();
    Arc::new(imcore::broker::RedisBroker::open(&url, options).unwrap())
}
