//! A Redis that fails over: a primary, a replica, and three Sentinels that watch them.

use std::{cell::RefCell, collections::BTreeMap};

use redis::{Connection, cmd};

use crate::{Redis, eventually};

/// What the Sentinels call the primary.
const NAME: &str = "main";

pub struct Failover {
    /// The primary of the beginning, and its replica.
    pub servers: [Redis; 2],
    sentinels: Vec<Redis>,
    /// Where the Sentinels say that the servers are.
    ports: [u16; 2],
    admin: RefCell<Connection>,
}

impl Failover {
    pub fn start() -> Self {
        let primary = Redis::start();
        let port = primary.port.to_string();
        let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port]);
        let ports = [primary.port, replica.port];
        Self::watch([primary, replica], ports, [const { Vec::new() }; 3], "")
    }

    /// Has three Sentinels with further settings watch two servers, which they find at `ports`; the first is the primary
    /// of the other.
    pub fn watch(
        servers: [Redis; 2],
        ports: [u16; 2],
        settings: [Vec<String>; 3],
        lines: &str,
    ) -> Self {
        // A Sentinel that does not see the replica at once looks again after ten seconds.
        let mut admin = servers[1].connect();
        eventually("the replica is in step", || {
            let info: String = cmd("INFO").arg("replication").query(&mut admin).unwrap();
            info.contains("master_link_status:up")
        });
        let lines = format!(
            "sentinel monitor {NAME} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {NAME} 500\n\
             sentinel failover-timeout {NAME} 3000\n{lines}",
            ports[0]
        );
        let start = |settings: Vec<String>| {
            let words: Vec<_> = settings.iter().map(String::as_str).collect();
            Redis::start_sentinel(&words, &lines)
        };
        let sentinels: Vec<_> = settings.into_iter().map(start).collect();
        // In versions that let a test do that, what takes seconds in production takes less.
        for sentinel in &sentinels {
            let mut hurry = cmd("SENTINEL");
            hurry.arg("DEBUG").arg("INFO-PERIOD").arg(500).arg("PUBLISH-PERIOD").arg(300);
            let _ = hurry.exec(&mut sentinel.connect());
        }
        let admin = RefCell::new(sentinels[0].connect());
        let failover = Failover { servers, sentinels, ports, admin };
        failover.settles();
        failover
    }

    /// Waits until a failover is possible: the Sentinels know each other, and a replica that can take over.
    pub fn settles(&self) {
        for sentinel in &self.sentinels {
            let mut admin = sentinel.connect();
            eventually("the Sentinels agree", || {
                let quorum = cmd("SENTINEL").arg("CKQUORUM").arg(NAME).exec(&mut admin);
                let replicas: Vec<BTreeMap<String, String>> =
                    cmd("SENTINEL").arg("REPLICAS").arg(NAME).query(&mut admin).unwrap();
                let ready = |replica: &BTreeMap<String, String>| {
                    replica["flags"] == "slave" && replica["master-link-status"] == "ok"
                };
                quorum.is_ok() && replicas.iter().any(ready)
            });
        }
    }

    /// How a client finds the primary.
    pub fn url(&self) -> String {
        let places: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{NAME}", places.join(","))
    }

    /// Which of the servers the Sentinels call the primary.
    pub fn primary(&self) -> usize {
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(NAME);
        let (_, port): (String, u16) = question.query(&mut self.admin.borrow_mut()).unwrap();
        self.ports.iter().position(|other| *other == port).expect("one of the two")
    }

    /// A plain connection to the primary.
    pub fn connect(&self) -> Connection {
        self.servers[self.primary()].connect()
    }

    /// Kills the primary; the other takes over.
    pub fn kill_primary(&mut self) {
        let primary = self.primary();
        self.servers[primary].stop();
        eventually("a failover", || self.primary() != primary);
    }

    /// Has the servers change places, as an operator does for an upgrade.
    pub fn switch(&self) {
        let primary = self.primary();
        let mut order = cmd("SENTINEL");
        order.arg("FAILOVER").arg(NAME).exec(&mut self.admin.borrow_mut()).unwrap();
        eventually("a switch", || self.primary() != primary);
    }

    /// Starts the server that was killed: without data, and in the belief that it is what it was.
    pub fn revive(&mut self) {
        let dead = 1 - self.primary();
        self.servers[dead].start_again();
    }
}
