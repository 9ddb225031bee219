//! The node under test: imcore's acceptor and reactors in this process, echoing every message.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
};

use imcore::{
    ImClient,
    broker::MemoryBroker,
    server::{Limits, Server, ServerConfig, ServerHandle},
};
use testkit::PATIENCE;

pub(crate) struct Node {
    server: ServerHandle,
    im: ImClient,
}

impl Node {
    /// One node for all groups.
    pub(crate) fn shared() -> &'static Node {
        static NODE: OnceLock<Node> = OnceLock::new();
        NODE.get_or_init(Node::start)
    }

    fn start() -> Node {
        let broker = Arc::new(MemoryBroker::new());
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            reactors: 2,
            echo: true,
            limits: Limits {
                inbound_message_bytes: LARGEST,
                inbound_rate: 1 << 30,
                outbox_bytes: 1 << 30,
                outbox_age: PATIENCE,
                // A case that needs the linger to end would fail by its patience.
                linger: 2 * PATIENCE,
                ..Limits::default()
            },
            ..ServerConfig::default()
        };
        let server = Server::start(config, broker.clone()).unwrap();
        assert!(server.wait_ready(PATIENCE));
        let im = ImClient::builder().servers([server.server()]).broker(broker).build().unwrap();
        Node { server, im }
    }

    /// A good request, with a token of its own.
    pub(crate) fn head(&self) -> String {
        static CLIENT: AtomicI64 = AtomicI64::new(1);
        let client = CLIENT.fetch_add(1, Ordering::Relaxed);
        let url = self.im.connect_url(client, None).unwrap();
        let target = url.strip_prefix("ws://").unwrap().split_once('/').unwrap().1;
        format!(
            "GET /{target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    }

    /// The head of the answer to a request head.
    pub(crate) fn ask(&self, head: &str) -> String {
        read_head(&mut self.send(head.as_bytes()))
    }

    /// A fresh WebSocket, its handshake done; `early` is sent in one write with the request head.
    pub(crate) fn connect(&self, early: &[u8]) -> TcpStream {
        let mut stream = self.send(&[self.head().as_bytes(), early].concat());
        let answer = read_head(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        stream
    }

    fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.server.local_addr()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }
}

/// An HTTP head, and no byte of what follows.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Largest message that the node takes.
pub(crate) const LARGEST: usize = 16 << 20;
