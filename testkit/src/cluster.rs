//! A Redis Cluster for tests: masters that share the slots evenly, replicas of theirs, slots that move.

use std::sync::OnceLock;

use redis::{Connection, FromRedisValue, Value, cmd};

use crate::{PATIENCE, Redis, eventually};

const SLOTS: usize = 16384;

/// Servers of one cluster, the masters of its beginning first.
pub struct Cluster {
    pub servers: Vec<Redis>,
}

impl Cluster {
    /// So many masters, without replicas.
    pub fn start(masters: usize) -> Self {
        Self::start_with(masters, 0, &[])
    }

    /// So many masters, each with so many replicas, and further settings.
    pub fn start_with(masters: usize, replicas: usize, settings: &[&str]) -> Self {
        let begin = |_| {
            let bus = crate::port().to_string();
            let own = [
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1000",
                "--cluster-port",
                &bus,
                "--repl-ping-replica-period",
                "1",
                "--repl-diskless-sync-delay",
                "0",
            ];
            (Redis::start_with(&[&own, settings].concat()), bus)
        };
        let (servers, buses): (Vec<_>, Vec<_>) = (0..masters * (1 + replicas)).map(begin).unzip();
        let cluster = Cluster { servers };
        for (number, server) in cluster.servers.iter().enumerate() {
            let mut admin = server.connect();
            // Else two of them may have the same, and have to settle that first.
            ask(&mut admin, &["SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            if number < masters {
                let [first, next] = [number, number + 1].map(|part| part * SLOTS / masters);
                ask(&mut admin, &["ADDSLOTSRANGE", &first.to_string(), &(next - 1).to_string()]);
            }
            let first = cluster.servers[0].port.to_string();
            if number > 0 {
                ask(&mut admin, &["MEET", "127.0.0.1", &first, &buses[0]]);
            }
        }
        cluster.all_know(&format!("cluster_known_nodes:{}", cluster.servers.len()));
        for (number, server) in cluster.servers.iter().enumerate().skip(masters) {
            let master = cluster.id(number % masters);
            ask(&mut server.connect(), &["REPLICATE", &master]);
        }
        cluster.all_know("cluster_state:ok");
        eventually("all know who has which slots", || {
            cluster.servers.iter().all(|server| {
                let ranges: Vec<Value> = tell(&mut server.connect(), &["SLOTS"]);
                let whole = |range: &Value| {
                    Vec::<Value>::from_redis_value(range.clone()).unwrap().len() == 3 + replicas
                };
                ranges.len() == masters && ranges.iter().all(whole)
            })
        });
        cluster
    }

    /// One of three masters for all tests of a process; each test takes a prefix of its own.
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Cluster::start(3))
    }

    /// The URL, with all servers.
    pub fn url(&self) -> String {
        let places: Vec<_> =
            self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("redis+cluster://{}", places.join(","))
    }

    /// The number of the server that serves the slot of a key, as server `asked` knows it.
    pub fn owner_by(&self, asked: usize, key: &str) -> usize {
        let mut admin = self.servers[asked].connect();
        let slot = self.slot(key);
        let own = |value: &Value| usize::from_redis_value(value.clone()).unwrap();
        let ranges: Vec<Vec<Value>> = tell(&mut admin, &["SLOTS"]);
        let mut ranges = ranges.iter();
        let range = ranges.find(|range| (own(&range[0])..=own(&range[1])).contains(&slot));
        let master = Vec::<Value>::from_redis_value(range.unwrap()[2].clone()).unwrap();
        let port = own(&master[1]);
        self.servers.iter().position(|server| usize::from(server.port) == port).unwrap()
    }

    /// The number of the server that serves the slot of a key.
    pub fn owner(&self, key: &str) -> usize {
        self.owner_by(0, key)
    }

    /// A plain connection to the server that serves the slot of a key.
    pub fn connect(&self, key: &str) -> Connection {
        self.servers[self.owner(key)].connect()
    }

    /// Waits until a replica has all that was written so far where the slot of a key is.
    pub fn in_step(&self, key: &str) {
        let mut admin = self.connect(key);
        cmd("SET").arg(format!("{key}in step")).arg(1).exec(&mut admin).unwrap();
        let replicas: u8 = cmd("WAIT").arg(1).arg(0).query(&mut admin).unwrap();
        assert!(replicas > 0);
    }

    fn slot(&self, key: &str) -> usize {
        tell(&mut self.servers[0].connect(), &["KEYSLOT", key])
    }

    fn id(&self, server: usize) -> String {
        tell(&mut self.servers[server].connect(), &["MYID"])
    }

    /// Moves the slot of a key to another server, ten keys at a time, as `redis-cli --cluster reshard` does.
    pub fn move_slot(&self, key: &str, to: usize) {
        let from = self.owner(key);
        let slot = self.slot(key).to_string();
        let [mut source, mut target] = [from, to].map(|server| self.servers[server].connect());
        let (source_id, target_id) = (self.id(from), self.id(to));
        ask(&mut target, &["SETSLOT", &slot, "IMPORTING", &source_id]);
        ask(&mut source, &["SETSLOT", &slot, "MIGRATING", &target_id]);
        let keys = |source: &mut Connection, count: &str| -> Vec<String> {
            tell(source, &["GETKEYSINSLOT", &slot, count])
        };
        let port = self.servers[to].port;
        let migrate = |keys: &[String], source: &mut Connection| {
            let mut migrate = cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(port).arg("").arg(0).arg(5000).arg("KEYS").arg(keys);
            migrate.exec(source).unwrap();
        };
        loop {
            let left = keys(&mut source, "10");
            if left.is_empty() {
                break;
            }
            migrate(&left, &mut source);
        }
        for connection in [&mut target, &mut source] {
            ask(connection, &["SETSLOT", &slot, "NODE", &target_id]);
        }
        // The others learn of it by themselves; who asks them sooner is led on.
        eventually("all know where the slot is", || {
            (0..self.servers.len()).all(|asked| self.owner_by(asked, key) == to)
        });
    }

    /// Waits until every server says so of its cluster.
    pub fn all_know(&self, word: &str) {
        eventually(word, || {
            self.servers.iter().all(|server| {
                let info: String = tell(&mut server.connect(), &["INFO"]);
                info.lines().any(|line| line.trim() == word)
            })
        });
    }

    /// Waits until a server other than `former` serves the slot of a key, as those that are up know it.
    pub fn failed_over(&self, key: &str, former: usize, asked: usize) {
        let until = std::time::Instant::now() + PATIENCE;
        while self.owner_by(asked, key) == former {
            assert!(std::time::Instant::now() < until, "no replica takes over");
        }
    }
}

fn tell<T: FromRedisValue>(admin: &mut Connection, words: &[&str]) -> T {
    cmd("CLUSTER").arg(words).query(admin).unwrap()
}

fn ask(admin: &mut Connection, words: &[&str]) {
    cmd("CLUSTER").arg(words).exec(admin).unwrap_or_else(|error| panic!("{words:?}: {error}"));
}
