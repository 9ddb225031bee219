//! Three nodes on one Redis behind one proxy.

use std::{net::Ipv4Addr, sync::Arc};

use imcore::ImClient;
use rustls::ClientConfig;
use testkit::{Imserver, Redis, eventually};

use crate::{
    proxy::{Kind, Proxy},
    wss::{self, Client, Tls},
};

/// The identities, which are no addresses.
pub const NAMES: [&str; 3] = ["im-0", "im-1", "im-2"];
/// The templates that the files of `deploy/` are made for.
pub const BY_PATH: &str = "wss://im.example.com/{index}{path}";
pub const BY_HOST: &str = "wss://node-{index}.im.example.com{path}";

pub struct Edge {
    // Dropped in this order: clients of the nodes first.
    pub proxy: Proxy,
    pub nodes: [Imserver; 3],
    pub redis: Redis,
    trust: Arc<ClientConfig>,
}

impl Edge {
    /// Starts everything and waits until clients can connect.
    pub fn start(kind: Kind) -> Edge {
        kind.must_be_installed();
        let redis = Redis::start();
        let url = redis.url();
        let names = NAMES.join(",");
        let nodes = NAMES.map(|name| {
            let place = ["--listen", "127.0.0.1:0", "--server", name, "--servers", &names];
            let outside = ["--public-url", BY_PATH, "--peer-address", kind.peer_address()];
            let inside = ["--redis", &url, "--log", "debug"];
            Imserver::start(&[&place[..], &outside, &inside].concat())
        });
        let proxy = Proxy::start(kind, &nodes.each_ref().map(Imserver::address));
        let trust = wss::trust(proxy.folder());
        let edge = Edge { proxy, nodes, redis, trust };
        // 401 is what a node answers that could take a token.
        for index in 0..3 {
            let url = format!("wss://im.example.com/{index}/ws?token=none");
            eventually("ready", || edge.connect(&url).err() == Some(401));
        }
        edge
    }

    /// A helper that issues addresses by `template`.
    pub fn helper(&self, template: &str) -> ImClient {
        ImClient::builder()
            .servers(NAMES)
            .redis(self.redis.url())
            .public_url(template)
            .build()
            .unwrap()
    }

    pub fn connect(&self, url: &str) -> Result<Client, u16> {
        Client::open(self.dial(Ipv4Addr::LOCALHOST, url), url)
    }

    /// A connection to the proxy on which nothing has been asked yet.
    pub fn dial(&self, source: Ipv4Addr, url: &str) -> Tls {
        wss::dial(&self.trust, source, self.proxy.address, wss::host_of(url))
    }
}

/// The place of the node that a client belongs to.
pub fn node_of(client: i64) -> usize {
    client.rem_euclid(NAMES.len() as i64) as usize
}
