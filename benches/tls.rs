//! What TLS costs a node: CPU per handshake and per delivery, memory per idle connection; beside a node in
//! the clear.
//!
//! `cargo bench --bench tls`. Nodes and clients run in this process; what is counted is the CPU time of the
//! node's own threads, so that clients and other programs do not show. Both nodes take turns.
#![allow(missing_docs)]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use imcore::{
    ImClient, Message,
    broker::MemoryBroker,
    server::{Server, ServerConfig, ServerHandle, TlsConfig},
};
use rustls::{ClientConfig, client::Resumption};
use testkit::tls::{Identity, Stream};

const PATIENCE: Duration = Duration::from_secs(20);
const ROUNDS: usize = 5;
const CONNECTS: usize = 1000;
const MEMBERS: usize = 500;
const IDLE: [usize; 2] = [500, 4500];
/// A payload of 128 bytes as JSON, and its frame with a header of four.
const PAYLOAD: usize = 128;
const FRAME: usize = PAYLOAD + 4;

/// A node and its helper, with what its clients need to speak TLS.
struct Node {
    handle: ServerHandle,
    im: ImClient,
    trust: Option<Arc<ClientConfig>>,
    /// Threads of the process before this node's.
    before: Vec<String>,
}

impl Node {
    fn start(identity: Option<&Identity>) -> Node {
        let before = threads();
        let broker = Arc::new(MemoryBroker::new());
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            reactors: 1,
            tls: identity.map(|made| TlsConfig::from_pem(made.cert.as_str(), made.key.as_str())),
            ..ServerConfig::default()
        };
        let handle = Server::start(config, broker.clone()).expect("a node");
        assert!(handle.wait_ready(PATIENCE));
        let im = ImClient::builder().servers([handle.server()]).broker(broker).build();
        let trust = identity.map(|identity| Arc::new(identity.trust()));
        Node { handle, im: im.expect("a helper"), trust, before }
    }

    /// A connected client; what it reads from here on are frames.
    fn connect(&self, client: i64, trust: Option<&Arc<ClientConfig>>) -> Stream {
        let url = self.im.connect_url(client, None).expect("an address");
        let path = &url[url.rfind("/ws").expect("the default path")..];
        let socket = TcpStream::connect(self.handle.local_addr()).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut stream = match trust {
            None => Stream::Plain(socket),
            Some(trust) => Stream::over(socket, Arc::clone(trust)),
        };
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("a request");
        let mut answer = [0; 129];
        stream.read_exact(&mut answer).expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 101") && answer.ends_with(b"\r\n\r\n"));
        stream
    }

    /// Nanoseconds of CPU that this node's thread of that name has used.
    fn cpu(&self, name: &str) -> u64 {
        let own = |thread: &String| !self.before.contains(thread) && name_of(thread) == name;
        let used = |thread: &String| {
            let text = fs::read_to_string(format!("{thread}/schedstat")).expect("Linux");
            text.split(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a count")
        };
        threads().iter().filter(|thread| own(thread)).map(used).sum()
    }

    fn wait_for(&self, connections: u64) {
        while self.handle.vitals().stats().connections != connections {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// CPU of the acceptor per connect, in microseconds.
    fn connects(&self, trust: Option<&Arc<ClientConfig>>) -> f64 {
        let from = self.cpu("im-acceptor");
        for client in 1..=CONNECTS as i64 {
            drop(self.connect(client, trust));
        }
        let cost = (self.cpu("im-acceptor") - from) as f64 / CONNECTS as f64 / 1000.0;
        self.wait_for(0);
        cost
    }

    /// CPU of the reactor per message and member of a channel, in microseconds, `burst` messages at a time.
    fn fan_out(&self, members: &mut [Stream], burst: usize) -> f64 {
        let bursts = 160 / burst;
        let text = "x".repeat(PAYLOAD - 2);
        let mut frames = vec![0; FRAME * burst];
        let from = self.cpu("im-reactor-0");
        for _ in 0..bursts {
            for _ in 0..burst {
                self.im.send(Message::to_channel("room"), &text).expect("sent");
            }
            for member in &mut *members {
                member.read_exact(&mut frames).expect("frames");
            }
        }
        let deliveries = bursts * burst * members.len();
        (self.cpu("im-reactor-0") - from) as f64 / deliveries as f64 / 1000.0
    }

    /// Bytes of this process per idle connection. Its clients keep their sockets and nothing else.
    fn idle(&self) -> f64 {
        let mut sockets = Vec::new();
        let [few, many] = IDLE.map(|count| {
            while sockets.len() < count {
                let stream = self.connect(sockets.len() as i64, self.trust.as_ref());
                sockets.push(stream.socket().try_clone().expect("a descriptor"));
            }
            self.wait_for(count as u64);
            thread::sleep(Duration::from_secs(2));
            resident()
        });
        drop(sockets);
        self.wait_for(0);
        (many as f64 - few as f64) / (IDLE[1] - IDLE[0]) as f64
    }
}

/// A certificate with a larger key of the older kind, if `openssl` is there to make it.
fn rsa() -> Option<Identity> {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "-"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .output();
    let text = String::from_utf8(made.ok()?.stdout).ok()?;
    Some(Identity { cert: text.clone(), key: text })
}

/// A client that never comes back, as far as the node can tell.
fn stranger(identity: &Identity) -> Arc<ClientConfig> {
    let mut trust = identity.trust();
    trust.resumption = Resumption::disabled();
    Arc::new(trust)
}

/// The folders of all threads of this process.
fn threads() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

fn name_of(thread: &str) -> String {
    fs::read_to_string(format!("{thread}/comm")).unwrap_or_default().trim().to_owned()
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}

/// A row of the result: minimum, median and maximum.
fn show(what: &str, unit: &str, mut figures: Vec<f64>) {
    figures.sort_by(f64::total_cmp);
    let [first, middle, last] = [0, figures.len() / 2, figures.len() - 1].map(|at| figures[at]);
    println!("{what:<58} {first:>8.2} {middle:>8.2} {last:>8.2} {unit}");
}

fn main() {
    let identity = Identity::new();
    // First of all, while the process is small and its heap has no room to fill.
    let memory = [None, Some(&identity)].map(|identity| {
        let node = Node::start(identity);
        let bytes = node.idle();
        node.handle.shutdown();
        bytes
    });
    let plain = Node::start(None);
    let secure = Node::start(Some(&identity));
    let rsa = rsa().map(|identity| (Node::start(Some(&identity)), stranger(&identity)));
    let fresh = stranger(&identity);
    let mut figures: [Vec<f64>; 7] = Default::default();
    let mut with_rsa = Vec::new();
    for _ in 0..ROUNDS {
        figures[0].push(plain.connects(None));
        figures[1].push(secure.connects(Some(&fresh)));
        figures[2].push(secure.connects(secure.trust.as_ref()));
        with_rsa.extend(rsa.as_ref().map(|(node, trust)| node.connects(Some(trust))));
    }
    for (index, node) in [&plain, &secure].into_iter().enumerate() {
        let ids = 1..=MEMBERS as i64;
        let mut members: Vec<_> =
            ids.clone().map(|client| node.connect(client, node.trust.as_ref())).collect();
        node.im.join(ids, ["room"]).expect("joined");
        for _ in 0..ROUNDS {
            figures[3 + index].push(node.fan_out(&mut members, 1));
            figures[5 + index].push(node.fan_out(&mut members, 8));
        }
    }
    let [bare, full, resumed, one, secure_one, eight, secure_eight] = figures;
    println!("{:<58} {:>8} {:>8} {:>8}", "", "min", "median", "max");
    show("acceptor CPU per connect, in the clear", "us", bare);
    show("acceptor CPU per connect, TLS 1.3, ECDSA P-256", "us", full);
    show("acceptor CPU per connect, TLS 1.3, resumed", "us", resumed);
    if !with_rsa.is_empty() {
        show("acceptor CPU per connect, TLS 1.3, RSA 2048", "us", with_rsa);
    }
    show("reactor CPU per delivery of 128 bytes, in the clear", "us", one);
    show("reactor CPU per delivery of 128 bytes, TLS", "us", secure_one);
    show("the same, eight at a time, in the clear", "us", eight);
    show("the same, eight at a time, TLS", "us", secure_eight);
    show("process memory per idle connection, in the clear", "B", vec![memory[0]]);
    show("process memory per idle connection, TLS", "B", vec![memory[1]]);
}
