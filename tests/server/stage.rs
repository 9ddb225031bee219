//! The scene of recorded scenarios: nodes under the recorded names, and Redis as a .NET process sees
//! it, spoken to with raw commands.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use imcore::{
    ClientId, Ticket,
    server::{Limits, Server, ServerConfig, ServerHandle},
};
use redis::Connection;
use testkit::{PATIENCE, Redis, eventually, ws::Client};

use crate::world::fresh_prefix;

/// Names of the nodes in the records.
pub const NAMES: [&str; 2] = ["127.0.0.1:16001", "127.0.0.1:16002"];
/// Never online.
const NOBODY: &str = "8f14e45f-ceea-467f-a9b1-0000000fffff";

/// Hashes of Redis.
pub type Keys = BTreeMap<String, BTreeMap<String, String>>;

/// Nodes with the recorded names, and Redis as a .NET process sees it.
pub struct Stage {
    pub nodes: Vec<ServerHandle>,
    pub redis: Connection,
    pub recorded: &'static str,
    pub prefix: String,
    /// Who asks for the receipt that ends a scenario, one id per node.
    probes: Vec<Client>,
    probe_ids: Vec<ClientId>,
}

impl Stage {
    pub fn new(dialect: &str, nodes: usize) -> Stage {
        let prefix = fresh_prefix();
        let servers: Vec<String> = NAMES[..nodes].iter().map(|name| name.to_string()).collect();
        let started = NAMES[..nodes].iter().map(|name| {
            let config = ServerConfig {
                listen: ([127, 0, 0, 1], 0).into(),
                server: Some(name.to_string()),
                servers: servers.clone(),
                // One, so that receipts of all clients keep their order.
                reactors: 1,
                limits: Limits { linger: Duration::from_millis(100), ..Limits::default() },
                ..ServerConfig::default()
            };
            let node = Server::start(config, crate::world::open_redis(&prefix)).unwrap();
            assert!(node.wait_ready(PATIENCE));
            node
        });
        let mut stage = Stage {
            nodes: started.collect(),
            redis: Redis::shared().connect(),
            recorded: if dialect == "long" { "im_v2_ws" } else { "wsim_ws" },
            prefix: format!("{prefix}_ws"),
            probes: Vec::new(),
            probe_ids: Vec::new(),
        };
        for node in 0..nodes {
            let number = (1000 + node) as i64;
            let id: ClientId = match dialect {
                "long" => number.into(),
                _ => format!("8f14e45f-ceea-467f-a9b1-{number:012x}").parse().unwrap(),
            };
            let ticket = Ticket::new(id.clone(), None);
            let probe = stage.enter(node, ticket.text()).unwrap();
            let key = format!("{}Online", stage.prefix);
            eventually("the probe is online", || {
                let mut count = redis::cmd("HGET");
                count.arg(&key).arg(id.to_string());
                let count: Option<u32> = count.query(&mut stage.redis).unwrap();
                count == Some(1)
            });
            stage.probes.push(probe);
            stage.probe_ids.push(id);
        }
        stage
    }

    /// Stores a token as a .NET helper does and connects with it.
    pub fn enter(&mut self, node: usize, ticket: &str) -> Result<Client, u16> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let token = format!("tok{:05}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let key = format!("{}Token{token}", self.prefix);
        redis::cmd("SET").arg(key).arg(ticket).arg("EX").arg(10).exec(&mut self.redis).unwrap();
        let url = format!("ws://{}/ws?token={token}", NAMES[node]);
        Client::connect(self.nodes[node].local_addr(), &url)
    }

    pub fn run(&mut self, command: &[String]) {
        let ours = command.iter().map(|word| word.replace(self.recorded, &self.prefix));
        let ours: Vec<_> = ours.collect();
        redis::cmd(&ours[0]).arg(&ours[1..]).exec(&mut self.redis).unwrap();
    }

    pub fn publish(&mut self, node: usize, payload: &str) {
        let topic = format!("{}Server{}", self.prefix, NAMES[node]);
        redis::cmd("PUBLISH").arg(topic).arg(payload).exec(&mut self.redis).unwrap();
    }

    /// A message to one client of a node that marks how far the node is.
    pub fn mark(&mut self, node: usize, receiver: ClientId, text: &str) {
        let payload = serde_json::json!({ "Item1": NOBODY, "Item2": [receiver], "Item3": text });
        self.publish(node, &payload.to_string());
    }

    /// Waits until all receipts that are due by now have come to their senders' nodes. A node sends
    /// them in order, except that within one turn "not online" overtakes "sent": hence two rounds.
    pub fn await_receipts(&mut self) {
        for (of, to) in [(0, 0), (0, 1), (1, 0), (1, 1)].repeat(2) {
            if of.max(to) < self.nodes.len() {
                let payload = serde_json::json!({
                    "Item1": self.probe_ids[to], "Item2": [NOBODY], "Item3": "?", "Item4": true,
                });
                self.publish(of, &payload.to_string());
                while !self.probes[to].text().contains("\"content\":\"?\"") {}
            }
        }
    }

    /// The keys that the original has, without the probes' own.
    pub fn keys(&mut self) -> Keys {
        let own: Vec<String> = self.probe_ids.iter().map(ToString::to_string).collect();
        let pattern = format!("{}*", self.prefix);
        let names: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut self.redis).unwrap();
        let mut keys = Keys::new();
        for name in names {
            let short = name.strip_prefix(&self.prefix).unwrap();
            let is_ours = [
                "Sessions",
                "Lease",
                "Connections",
                "Closed",
                "Ended",
                "Published",
                "Token",
                "Coming",
                "Leaving",
                "Absent",
                "Kept",
                "Left",
                "Grace",
                "Aside",
                "Away",
                "Resumable",
                "Resume",
                "Log",
            ];
            if is_ours.iter().any(|start| short.starts_with(start)) {
                continue;
            }
            let mut fields: BTreeMap<String, String> =
                redis::cmd("HGETALL").arg(&name).query(&mut self.redis).unwrap();
            fields.retain(|field, _| !own.contains(field));
            if !fields.is_empty() {
                keys.insert(format!("{}{short}", self.recorded), fields);
            }
        }
        keys
    }

    /// Removes what scenarios leave behind.
    pub fn clear(&mut self) {
        eventually("everybody is gone", || self.keys().keys().all(|key| !key.ends_with("Online")));
        for name in self.keys().into_keys() {
            self.run(&["DEL".into(), name]);
        }
    }
}
