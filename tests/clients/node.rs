//! The program `imserver` as a process of its own, and a helper that reaches it through Redis.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use imcore::{
    ImClient,
    broker::{RedisBroker, RedisOptions},
};
use testkit::{Imserver, Redis, tls};

use crate::certificate::certificate;

pub(crate) struct Node {
    pub(crate) process: Imserver,
    pub(crate) im: ImClient,
}

impl Node {
    /// Starts a node with Redis names of its own, that speaks TLS if it is to be `secure`; `others` stand
    /// behind it in the list of nodes.
    pub(crate) fn start(others: &[&str], secure: bool) -> Node {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("clients{}x", NUMBER.fetch_add(1, Ordering::Relaxed));
        let redis = Redis::shared().url();
        let servers = [&["here"], others].concat();
        let servers_text = servers.join(",");
        let mut args = vec!["--listen", "127.0.0.1:0", "--server", "here", "--redis", &redis];
        args.extend(["--servers", &servers_text, "--prefix", &prefix]);
        let files = [certificate().cert_file(), certificate().key_file()];
        if secure {
            args.extend([
                "--tls-cert",
                files[0].to_str().unwrap(),
                "--tls-key",
                files[1].to_str().unwrap(),
            ]);
        }
        let process = Imserver::start(&args);
        let address = process.address();
        if secure {
            tls::secure(address, &Arc::new(certificate().identity.trust()));
        }
        process.wait_ready();
        tls::forget(address);
        let options = RedisOptions { prefix, ..RedisOptions::default() };
        let broker = Arc::new(RedisBroker::open(&redis, options).expect("a broker"));
        let scheme = if secure { "wss" } else { "ws" };
        // One address for all nodes: it refuses clients of the others.
        let url = format!("{scheme}://{address}{{path}}?node={{index}}");
        Node { process, im: helper(&servers, url, broker) }
    }
}

fn helper(servers: &[&str], url: String, broker: Arc<RedisBroker>) -> ImClient {
    ImClient::builder()
        .servers(servers.iter().copied())
        .public_url(url)
        .broker(broker)
        .build()
        .expect("a helper")
}
