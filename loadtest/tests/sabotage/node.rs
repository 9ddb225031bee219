//! A running deployment to measure: a Redis and a node, and the tool as a process.

use std::{
    io::Read,
    net::SocketAddr,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use testkit::{Imserver, Redis, eventually, imserver::program, tls::Identity};

use crate::proxy::{Proxy, Sabotage};

/// What a run of the tool came to.
pub struct Run {
    pub success: bool,
    /// Standard output and standard error.
    pub output: String,
}

/// The one fault that a run may have because this machine has other work.
pub const BUSY: &str = "FAULT: not a result: the generator was late";

impl Run {
    fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the tool runs");
        let text = [output.stdout, output.stderr].concat();
        Run {
            success: output.status.success(),
            output: String::from_utf8_lossy(&text).into_owned(),
        }
    }

    /// Whether everything is accounted for and nothing else went wrong.
    pub fn is_sound(&self) -> bool {
        let mut faults = self.output.lines().filter(|line| line.contains("FAULT"));
        self.output.contains(": balanced")
            && (self.success || self.output.contains(BUSY))
            && faults.all(|line| line.contains(BUSY))
    }
}

pub struct Deployment {
    node: Imserver,
    redis: Redis,
    pub server: SocketAddr,
}

/// Key of the node's API.
const KEY: &str = "key-of-the-load-tools-tests";

/// Enough traffic for a fault in its middle, little enough for a debug build on a busy machine.
const SECONDS: &str = "2.0";
const MIXED: [&str; 15] = [
    "mixed",
    "--clients",
    "60",
    "--direct-rate",
    "100",
    "--rooms",
    "2",
    "--room-rate",
    "5",
    "--churn-rate",
    "0",
    "--seconds",
    SECONDS,
    "--first-client",
    "4000000000000",
];

impl Deployment {
    pub fn start() -> Self {
        let redis = Redis::start();
        // The tool connects to a node by its name.
        let server = SocketAddr::from(([127, 0, 0, 1], testkit::port()));
        let node = start_node(server, &redis);
        node.wait_ready();
        Deployment { node, redis, server }
    }

    /// Runs the tool against this deployment, its clients connecting through a proxy that does `sabotage`.
    pub fn mixed_through(&self, sabotage: Sabotage) -> Run {
        let proxy = Proxy::start(self.server, sabotage);
        let url = format!("ws://{}{{path}}", proxy.address);
        self.run(&[&MIXED[..], &["--public-url", &url]].concat())
    }

    /// The same with clients that come back.
    pub fn mixed_through_coming_back(&self, sabotage: Sabotage) -> Run {
        let proxy = Proxy::start(self.server, sabotage);
        let url = format!("ws://{}{{path}}", proxy.address);
        // Longer than the longest first pause, so that whoever is cut off is back and sent to again.
        let longer = MIXED.map(|argument| if argument == SECONDS { "5" } else { argument });
        self.run(&[&longer[..], &["--public-url", &url, "--reconnect"]].concat())
    }

    /// Runs the tool with these further arguments, and `strike` once its traffic flows.
    pub fn mixed_while(&mut self, more: &[&str], strike: impl FnOnce(&mut Self)) -> Run {
        self.run_while(&[&MIXED[..], more].concat(), strike)
    }

    /// The same with clients that come and go, and come back.
    pub fn churn_while(&mut self, strike: impl FnOnce(&mut Self)) -> Run {
        let churn = ["churn", "--clients", "40", "--direct-rate", "50", "--rooms", "2"];
        let rates = ["--room-rate", "5", "--churn-rate", "40", "--seconds", "3", "--reconnect"];
        let first = ["--first-client", "4000000000000"];
        self.run_while(&[&churn[..], &rates, &first].concat(), strike)
    }

    fn run_while(&mut self, arguments: &[&str], strike: impl FnOnce(&mut Self)) -> Run {
        let mut tool = self.command(arguments);
        let mut tool =
            tool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool starts");
        self.wait_for_traffic();
        strike(self);
        let mut output = String::new();
        tool.stdout.take().expect("piped").read_to_string(&mut output).expect("text");
        tool.stderr.take().expect("piped").read_to_string(&mut output).expect("text");
        Run { success: tool.wait().expect("waiting").success(), output }
    }

    /// The tool sends through the node's HTTP API.
    pub fn mixed_by_api(&self) -> Run {
        let api = format!("http://{}", self.node.api());
        self.run(&[&MIXED[..], &["--api", &api, "--api-key", KEY]].concat())
    }

    pub fn loadtest(&self, arguments: &[&str]) -> Run {
        self.run(&[arguments, &["--first-client", "4000000000000"]].concat())
    }

    pub fn without_first_client(&self, arguments: &[&str]) -> Run {
        self.run(arguments)
    }

    /// With another list of nodes than there are.
    pub fn of_servers(&self, servers: &str, arguments: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args(arguments).args(["--redis", &self.redis.url()]);
        Run::of(command.args(["--servers", servers]))
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args(arguments);
        command.args(["--redis", &self.redis.url()]);
        command.args(["--servers", &self.server.to_string()]);
        command
    }

    pub fn kill_node(&mut self) {
        self.node.kill();
    }

    /// Without a word to anybody, as a machine that loses power and comes up again.
    pub fn restart_node(&mut self) {
        self.node.kill();
        self.node = start_node(self.server, &self.redis);
    }

    /// As a debugger, a freezer or job control does.
    pub fn pause_node(&mut self) {
        for _ in 0..3 {
            self.node.signal("STOP");
            thread::sleep(Duration::from_millis(150));
            self.node.signal("CONT");
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn flush_redis(&mut self) {
        redis::cmd("FLUSHALL").exec(&mut self.redis.connect()).expect("Redis");
    }

    /// Room and direct messages are counted as they are sent; a few have been when this returns.
    fn wait_for_traffic(&self) {
        let mut count = redis::cmd("HGET");
        count.arg("im_v2_wsPublished").arg(self.server.to_string());
        let mut redis = self.redis.connect();
        eventually("traffic", || {
            count.query::<Option<u32>>(&mut redis).expect("Redis").is_some_and(|sent| sent > 9)
        });
    }
}

fn start_node(server: SocketAddr, redis: &Redis) -> Imserver {
    let name = server.to_string();
    let place = ["--listen", &name, "--server", &name, "--servers", &name, "--redis", &redis.url()];
    Imserver::start(&[&place[..], &["--api", "127.0.0.1:0", "--api-key", KEY]].concat())
}

/// The tool starts a node of its own that speaks TLS.
pub fn mixed_by_tls() -> Run {
    let folder = std::env::temp_dir().join(format!("imcore-loadtest-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let identity = Identity::new();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    std::fs::write(&certificate, identity.cert).expect("writing");
    std::fs::write(&key, identity.key).expect("writing");
    let run = Run::of(
        Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(MIXED)
            .args(["--ca".as_ref(), certificate.as_os_str()])
            .arg(format!("--node-arg=--tls-cert={}", certificate.display()))
            .arg(format!("--node-arg=--tls-key={}", key.display()))
            .arg("--imserver")
            .arg(program()),
    );
    let _ = std::fs::remove_dir_all(folder);
    run
}
