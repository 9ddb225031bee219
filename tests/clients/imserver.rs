//! The program `imserver` as a process of its own, and a helper that reaches it through Redis.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use imcore::{
    ImClient,
    broker::{RedisBroker, RedisOptions},
};

use crate::{certificate::certificate, redis_server::RedisServer, tls::Stream};

pub(crate) struct Imserver {
    child: Child,
    pub(crate) address: SocketAddr,
    secure: bool,
    pub(crate) im: ImClient,
}

impl Imserver {
    /// Starts a node with Redis names of its own, that speaks TLS if it is to be `secure`; `others` stand
    /// behind it in the list of nodes.
    pub(crate) fn start(others: &[&str], secure: bool) -> Imserver {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("clients{}x", NUMBER.fetch_add(1, Ordering::Relaxed));
        let redis = RedisServer::shared().url();
        let servers = [&["here"], others].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_imserver"));
        if secure {
            command.arg("--tls-cert").arg(certificate().cert_file());
            command.arg("--tls-key").arg(certificate().key_file());
        }
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--server", "here", "--reactors", "2"])
            .args(["--servers", &servers.join(","), "--redis", &redis, "--prefix", &prefix])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("imserver starts");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let address = log
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listens on ")?.1.split(',').next()?.parse().ok())
            .expect("imserver says where it listens");
        // It must never wait for a full pipe.
        thread::spawn(move || log.for_each(drop));
        let options = RedisOptions { prefix, ..RedisOptions::default() };
        let broker = Arc::new(RedisBroker::open(&redis, options).expect("a broker"));
        let scheme = if secure { "wss" } else { "ws" };
        // The same place for all nodes: clients of others are refused there.
        let url = format!("{scheme}://{address}{{path}}?node={{index}}");
        let node = Imserver { child, address, secure, im: helper(&servers, url, broker) };
        crate::eventually("ready", || node.is_ready());
        node
    }

    /// Ready nodes ask for tickets, and refuse a bad one; before that everything is 503.
    fn is_ready(&self) -> bool {
        use std::io::{Read, Write};

        let Ok(socket) = TcpStream::connect(self.address) else { return false };
        let mut stream = match self.secure {
            true => Stream::over(socket, Arc::new(certificate().identity.trust())),
            false => Stream::Plain(socket),
        };
        let head = "GET /ws?token=none HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut answer = String::new();
        stream.write_all(head.as_bytes()).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 401 ")
    }

    /// Asks it to stop, as a service manager does.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status();
        assert!(killed.is_ok_and(|status| status.success()));
    }
}

impl Drop for Imserver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
