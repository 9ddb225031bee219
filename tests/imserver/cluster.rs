//! Several `imserver` processes on one Redis, and what crosses from one to another.

use std::sync::{Mutex, mpsc::channel};

use imcore::{ClientId, ImClient, Message, Receipt};
use testkit::{Imserver, PATIENCE, Redis, eventually, ws::Client};

const NAMES: [&str; 3] = ["node-0", "node-1", "node-2"];

/// Processes, their Redis, a helper, and the presence events as they were published.
pub struct Cluster {
    pub nodes: Vec<Imserver>,
    pub redis: Redis,
    pub im: ImClient,
    names: Vec<&'static str>,
    extra: Vec<String>,
    events: Mutex<redis::Connection>,
}

impl Cluster {
    pub fn new(nodes: usize, extra: &[&str]) -> Cluster {
        Cluster::on(Redis::start(), nodes, extra)
    }

    fn on(redis: Redis, nodes: usize, extra: &[&str]) -> Cluster {
        let names = NAMES[..nodes].to_vec();
        let im = ImClient::builder().servers(names.clone()).redis(redis.url()).build().unwrap();
        let mut events = redis.connect();
        events.set_read_timeout(Some(PATIENCE)).unwrap();
        for topic in ["evt_im_v2_wsOnline", "evt_im_v2_wsOffline"] {
            events
                .send_packed_command(&redis::cmd("SUBSCRIBE").arg(topic).get_packed_command())
                .unwrap();
            events.recv_response().unwrap();
        }
        let mut cluster = Cluster {
            nodes: Vec::new(),
            redis,
            im,
            names,
            extra: extra.iter().map(|word| word.to_string()).collect(),
            events: Mutex::new(events),
        };
        for index in 0..nodes {
            let node = cluster.start(index);
            cluster.nodes.push(node);
        }
        cluster
    }

    /// Starts the process of a node; clients can connect once it is ready.
    pub fn start(&self, index: usize) -> Imserver {
        let (url, servers) = (self.redis.url(), self.names.join(","));
        let mut args = vec!["--listen", "127.0.0.1:0", "--redis", &url, "--servers", &servers];
        args.extend(["--server", self.names[index]]);
        args.extend(self.extra.iter().map(String::as_str));
        let process = Imserver::start(&args);
        process.wait_ready();
        process
    }

    pub fn connect(&self, client: i64, meta: &str) -> Client {
        let url = self.im.connect_url(client, Some(meta)).unwrap();
        let owner = self.im.node_of(client).unwrap();
        let index = self.names.iter().position(|name| *name == owner).unwrap();
        Client::connect(self.nodes[index].address(), &url).unwrap()
    }

    /// Connects and takes the online event out of the events.
    pub fn connect_and_see(&self, client: i64, meta: &str) -> Client {
        let connection = self.connect(client, meta);
        assert_eq!(self.event(), ("Online".to_owned(), ticket(client, meta)));
        connection
    }

    /// The next presence event: which, and its payload as published.
    pub fn event(&self) -> (String, String) {
        let value = self.events.lock().unwrap().recv_response().expect("a presence event");
        let (_, topic, payload): (String, String, String) = redis::from_redis_value(value).unwrap();
        (topic.strip_prefix("evt_im_v2_ws").unwrap().to_owned(), payload)
    }

    /// The next events, which must all be offline events, in the order of their payloads.
    pub fn offline_events(&self, count: usize) -> Vec<String> {
        let mut payloads: Vec<_> = (0..count)
            .map(|_| {
                let (which, payload) = self.event();
                assert_eq!(which, "Offline", "{payload}");
                payload
            })
            .collect();
        payloads.sort();
        payloads
    }

    /// Asserts that no event has been published which nobody looked for.
    pub fn no_more_events(&self) {
        let topic = "evt_im_v2_wsOnline";
        redis::cmd("PUBLISH").arg(topic).arg("mark").exec(&mut self.redis.connect()).unwrap();
        assert_eq!(self.event(), ("Online".to_owned(), "mark".to_owned()));
    }

    pub fn hash(&self, key: &str) -> std::collections::BTreeMap<String, String> {
        redis::cmd("HGETALL").arg(key).query(&mut self.redis.connect()).unwrap()
    }
}

/// The text of a ticket, which is also what its events say.
pub fn ticket(client: i64, meta: &str) -> String {
    format!("{{\"Item1\":{client},\"Item2\":\"{meta}\"}}")
}

#[test]
fn everything_crosses_nodes() {
    let cluster = Cluster::new(3, &[]);
    let (sender, online) = channel();
    let (other, offline) = channel();
    let im = &cluster.im;
    let bus = im
        .on_presence(
            move |client, meta| sender.send((client, meta)).unwrap(),
            move |client, meta| other.send((client, meta)).unwrap(),
        )
        .unwrap();
    eventually("listening", || bus.is_listening());
    let mut clients: Vec<_> = (0..6).map(|id| cluster.connect(id + 1, "元")).collect();
    let mut came: Vec<_> = (0..6).map(|_| online.recv_timeout(PATIENCE).unwrap()).collect();
    came.sort();
    let everybody = (1..=6).map(|id| (ClientId::from(id), Some("元".to_owned())));
    assert_eq!(came, everybody.collect::<Vec<_>>());
    // Message and receipts: the sender's node is another than the receivers'.
    im.send(Message::to([2, 3, 9]).from(1).receipt(Receipt::Sent), "hi").unwrap();
    assert_eq!((clients[1].text(), clients[2].text()), ("\"hi\"".into(), "\"hi\"".into()));
    let mut told: Vec<_> = (0..3)
        .map(|_| clients[0].json())
        .map(|receipt| {
            (receipt["to"].as_i64().unwrap(), receipt["receipt"].as_str().unwrap() == "发送成功")
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told, [(2, true), (3, true), (9, false)]);
    // Room and broadcast.
    im.join([1, 2, 3], ["room"]).unwrap();
    im.send(Message::to_channel("room").from(1), "to the room").unwrap();
    im.send(Message::to_everyone(), "to all").unwrap();
    for (index, client) in clients.iter_mut().enumerate() {
        if matches!(index, 1 | 2) {
            assert_eq!(client.text(), "\"to the room\"");
        }
        assert_eq!(client.text(), "\"to all\"");
    }
    // Kick.
    im.kick(6).unwrap();
    assert_eq!(clients[5].closed(), Some(4001));
    assert_eq!(offline.recv_timeout(PATIENCE).unwrap().0, 6.into());
    assert_eq!(im.are_online([5, 6]).unwrap(), [true, false]);
}

/// The client that reads nothing costs its own connection, not the node's memory.
#[test]
fn a_client_that_never_reads_costs_no_memory() {
    let cluster = Cluster::new(1, &[]);
    let mut reader = cluster.connect(1, "");
    let stuck: Vec<_> = (2..8).map(|id| cluster.connect(id, "")).collect();
    cluster.im.join(1..8, ["busy"]).unwrap();
    let text = "x".repeat(128 << 10);
    let send = |reader: &mut Client, count| {
        for _ in 0..count {
            cluster.im.send(Message::to_channel("busy"), &text).unwrap();
            assert_eq!(reader.text().len(), text.len() + 2);
        }
    };
    send(&mut reader, 20);
    let before = cluster.nodes[0].memory();
    send(&mut reader, 400);
    eventually("cut", || cluster.im.online_clients().unwrap().len() == 1);
    let after = cluster.nodes[0].memory();
    // 300 MiB were offered to the six. What waits for them, until they have taken nothing for three seconds, is
    // held once: at most the 50 MiB that were sent.
    assert!(after < before + (56 << 20), "{before} bytes before, {after} bytes after");
    drop(stuck);
}
