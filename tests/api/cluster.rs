//! Three nodes on one Redis, each with its API.

use std::net::SocketAddr;

use serde_json::Value;
use testkit::{Imserver, Redis, eventually, ws::Client};

use crate::http::{self, Answer};

pub const KEY: &str = "0123456789abcdef-key";

pub struct Cluster {
    pub redis: Redis,
    nodes: Vec<Imserver>,
    pub apis: Vec<SocketAddr>,
}

impl Cluster {
    /// Started and ready for clients.
    pub fn start() -> Cluster {
        Cluster::start_with(&[])
    }

    /// As [`start`](Self::start), each node with these flags as well.
    pub fn start_with(flags: &[&str]) -> Cluster {
        let redis = Redis::start();
        let url = redis.url();
        let node = |name: &&str| {
            let args = ["--listen", "127.0.0.1:0", "--server", name, "--servers", "a,b,c"];
            let api = ["--redis", &url, "--api", "127.0.0.1:0", "--api-key", KEY];
            Imserver::start(&[&args[..], &api, flags].concat())
        };
        let nodes: Vec<_> = ["a", "b", "c"].iter().map(node).collect();
        let apis = nodes.iter().map(Imserver::api).collect();
        nodes.iter().for_each(Imserver::wait_ready);
        Cluster { redis, nodes, apis }
    }

    /// Asks one of the nodes, with the key.
    pub fn ask(&self, node: usize, request: &str, body: Option<&Value>) -> Answer {
        self.ask_with(node, request, "", body)
    }

    pub fn ask_with(
        &self,
        node: usize,
        request: &str,
        headers: &str,
        body: Option<&Value>,
    ) -> Answer {
        let headers = format!("Authorization: Bearer {KEY}\r\n{headers}");
        let body = body.map(Value::to_string);
        http::ask(self.apis[node], request, &headers, body.as_deref())
    }

    /// Waits until a node has said something in its log.
    pub fn says(&self, node: usize, what: &str) {
        self.nodes[node].says(what);
    }

    /// As [`ask`](Self::ask), and expects this status.
    pub fn expect(&self, node: usize, request: &str, body: Option<&Value>, status: u16) -> Answer {
        let answer = self.ask(node, request, body);
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        answer
    }

    /// Connects to the node whose name is in the address.
    pub fn open(&self, url: &str) -> Client {
        let name = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next());
        let node = ["a", "b", "c"].iter().position(|node| name == Some(*node)).expect(url);
        Client::connect(self.nodes[node].address(), url).unwrap()
    }

    /// A client that is connected by an address of one of the APIs, and seen by all.
    pub fn connect(&self, client: i64) -> Client {
        let body = serde_json::json!({ "client": client, "meta": "test" });
        let url = self.expect(0, "POST /v1/connections", Some(&body), 201).json()["url"].clone();
        let socket = self.open(url.as_str().unwrap());
        eventually("online", || self.is_online(client));
        socket
    }

    pub fn is_online(&self, client: i64) -> bool {
        self.expect(1, &format!("GET /v1/clients/{client}"), None, 200).json()["online"] == true
    }
}
