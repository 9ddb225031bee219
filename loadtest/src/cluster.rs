//! The deployment under test: nodes and a Redis of our own, or a running one by URL.

use std::{
    env, fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use imcore::ImClient;
use rustix::process::{Pid, Signal, kill_process};
use testkit::proxy::{Mode, Proxy};

use crate::{
    args::DeploymentArgs,
    child::{Tethered, tail},
    meter::Meter,
    orders::Deployment,
    readers,
    sender::Sender,
    swarm::{helper, parse},
};

/// Longest wait for a node to give its slots away.
const DRAIN: Duration = Duration::from_secs(180);
/// Longest wait for a node or a Redis to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What nodes are started with.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    pub nodes: usize,
    /// Among how many Redis they are shared.
    pub redis: usize,
    /// Entries of the servers list that nobody serves: they own clients without costing anything.
    pub phantoms: usize,
    pub reactors: Option<usize>,
    /// Whether what lies between nodes and Redis can be cut.
    pub breakable: bool,
    /// Slots that the nodes share, so that they may come and go; 0: they are a list.
    pub slots: usize,
    /// Whether Redis writes down what it answers before it answers.
    pub durable: bool,
}

impl Default for NodeOptions {
    fn default() -> Self {
        NodeOptions {
            nodes: 1,
            redis: 1,
            phantoms: 0,
            reactors: None,
            breakable: false,
            slots: 0,
            durable: false,
        }
    }
}

/// How a node of our own is started.
struct Start {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    core: Option<usize>,
}

impl Start {
    fn start(&self) -> Result<Tethered, String> {
        Tethered::start(&self.program, &self.arguments, &self.log, self.core)
    }
}

/// A deployment, reachable through its helper. Dropped: own children are killed.
pub struct Cluster {
    args: DeploymentArgs,
    pub deployment: Deployment,
    pub im: ImClient,
    /// Our own; none where one is killed and not yet started again.
    nodes: Mutex<Vec<Option<Tethered>>>,
    /// How each of them was started.
    starts: Vec<Start>,
    /// Those of our own, in the order of the URLs.
    redis: Vec<Tethered>,
    is_durable: bool,
    /// Between our own nodes and Redis, if it is to break.
    link: Option<Proxy>,
    folder: Option<PathBuf>,
    foreign: Vec<u32>,
}

impl Cluster {
    /// Starts what `args` ask for, and waits until clients can connect to every node.
    pub fn start(args: &DeploymentArgs, options: &NodeOptions) -> Result<Self, String> {
        let mut cluster = match &args.redis {
            Some(redis) => Cluster::running(args, redis)?,
            None => Cluster::own(args, options)?,
        };
        let real = cluster.deployment.servers.len() - options.phantoms;
        for index in 0..real {
            cluster.wait_ready(index)?;
        }
        if args.redis.is_some() {
            cluster.foreign = args.pids.clone();
        }
        Ok(cluster)
    }

    fn running(args: &DeploymentArgs, redis: &str) -> Result<Self, String> {
        let deployment = Deployment {
            redis: redis.to_owned(),
            servers: args.servers.clone(),
            prefix: args.prefix.clone(),
            path: args.path.clone(),
            public_url: args.public_url(),
            ca: args.ca.clone(),
            log: args.message_log,
        };
        let im = helper(&deployment)?;
        readers::check(&deployment, &im.broker().describe())?;
        let args = args.clone();
        Ok(Cluster {
            args,
            deployment,
            im,
            nodes: Mutex::default(),
            starts: vec![],
            redis: vec![],
            is_durable: false,
            link: None,
            folder: None,
            foreign: vec![],
        })
    }

    fn own(args: &DeploymentArgs, options: &NodeOptions) -> Result<Self, String> {
        let imserver = find_imserver(args)?;
        let folder = fresh_folder()?;
        let pins = args.pins();
        let addresses: Vec<_> = (0..options.redis).map(|_| free_address()).collect();
        let start = |address: &String| start_redis(&folder, address, pins.clients, options.durable);
        let redis = addresses.iter().map(start).collect::<Result<Vec<_>, _>>()?;
        let urls: Vec<_> = addresses.iter().map(|address| format!("redis://{address}")).collect();
        let servers: Vec<_> = (0..options.nodes).map(|_| free_address()).collect();
        let phantoms = (0..options.phantoms).map(|index| format!("nobody-{index}:1"));
        let deployment = Deployment {
            redis: urls.join(","),
            servers: servers.iter().cloned().chain(phantoms).collect(),
            prefix: args.prefix.clone(),
            path: args.path.clone(),
            public_url: args.public_url(),
            ca: args.ca.clone(),
            log: args.message_log,
        };
        let who = match options.slots {
            0 => format!("--servers={}", deployment.servers.join(",")),
            count => format!("--slots={count}"),
        };
        let link = options.breakable.then(|| Proxy::start(port_of(&addresses[0])));
        let redis_url = link.as_ref().map_or(deployment.redis.clone(), Proxy::url);
        let (mut nodes, mut starts) = (Vec::new(), Vec::new());
        for (index, server) in servers.iter().enumerate() {
            let mut arguments = vec![
                format!("--listen={server}"),
                format!("--server={server}"),
                who.clone(),
                format!("--redis={redis_url}"),
                format!("--prefix={}", args.prefix),
                format!("--path={}", args.path),
                "--log=warn".to_owned(),
            ];
            arguments.extend(options.reactors.map(|count| format!("--reactors={count}")));
            if args.message_log {
                arguments.push("--message-log=on".into());
            }
            arguments.extend(args.node_args.iter().cloned());
            let log = folder.join(format!("node-{index}.log"));
            let start = Start { program: imserver.clone(), arguments, log, core: pins.server };
            nodes.push(Some(start.start()?));
            starts.push(start);
        }
        let im = if options.slots > 0 { following(&deployment) } else { helper(&deployment) }?;
        Ok(Cluster {
            args: args.clone(),
            deployment,
            im,
            nodes: nodes.into(),
            starts,
            redis,
            is_durable: options.durable,
            link,
            folder: Some(folder),
            foreign: vec![],
        })
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Option<Tethered>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills a node of our own.
    pub fn kill(&self, index: usize) {
        self.nodes()[index] = None;
    }

    /// Starts a node that was killed, as it was.
    pub fn start_again(&self, index: usize) -> Result<(), String> {
        let node = self.starts[index].start()?;
        self.nodes()[index] = Some(node);
        Ok(())
    }

    /// One more node beside those that share slots; its place.
    pub fn add(&mut self) -> Result<usize, String> {
        let address = free_address();
        let (index, first) = (self.starts.len(), &self.starts[0]);
        let mut arguments = first.arguments.clone();
        arguments[0] = format!("--listen={address}");
        arguments[1] = format!("--server={address}");
        let log = first.log.with_file_name(format!("node-{index}.log"));
        let start = Start { program: first.program.clone(), arguments, log, core: first.core };
        self.nodes().push(Some(start.start()?));
        self.starts.push(start);
        self.deployment.servers.push(address);
        Ok(index)
    }

    /// Has a node give its slots away and end.
    pub fn drain(&self, index: usize) -> Result<(), String> {
        self.signal(index, Signal::TERM)?;
        let deadline = Instant::now() + DRAIN;
        while !self.nodes().get(index).is_some_and(has_ended) {
            if Instant::now() > deadline {
                return Err(format!("node {index} does not end: {}", self.log_of(index)));
            }
            thread::sleep(Duration::from_millis(100));
        }
        self.kill(index);
        Ok(())
    }

    /// Sends a signal to a node of our own.
    pub fn signal(&self, index: usize, signal: Signal) -> Result<(), String> {
        let pid = self.nodes()[index].as_ref().and_then(|node| Pid::from_raw(node.pid as i32));
        let pid = pid.ok_or_else(|| format!("node {index} does not run"))?;
        kill_process(pid, signal).map_err(|error| format!("node {index}: {error}"))
    }

    /// What the link between our own nodes and Redis does from now on, if it can break.
    pub fn link(&self, mode: Mode) {
        if let Some(link) = &self.link {
            link.set(mode);
        }
    }

    /// Kills the Redis of our own and starts it again, with what it has saved if anything.
    pub fn restart_redis(&mut self) -> Result<(), String> {
        let folder = self.folder.as_ref().ok_or("no Redis of our own")?;
        let address = self.deployment.redis.trim_start_matches("redis://");
        self.redis.clear();
        let core = self.args.pins().clients;
        self.redis = vec![start_redis(folder, address, core, self.is_durable)?];
        Ok(())
    }

    /// Where the Redis of our own saves to.
    pub fn dump(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join("dump.rdb"))
    }

    /// What each node of our own has logged last.
    pub fn logs(&self) -> Vec<String> {
        (0..self.starts.len())
            .map(|index| format!("node {index}: {}", self.log_of(index)))
            .collect()
    }

    fn log_of(&self, index: usize) -> String {
        let log = self.folder.as_ref().map(|folder| folder.join(format!("node-{index}.log")));
        log.map(|log| tail(&log)).unwrap_or_default()
    }

    /// A node takes clients once it hears the broker: try until one gets in.
    fn wait_ready(&self, index: usize) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        // A client that no scenario uses, owned by this node.
        let client = (i64::MAX / 2) / self.deployment.servers.len() as i64
            * self.deployment.servers.len() as i64
            + index as i64;
        let server = &self.deployment.servers[index];
        let mut last = String::new();
        while Instant::now() < deadline {
            match self.try_connect(client) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            if self.nodes().get(index).is_some_and(has_ended) {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(format!("node {server} does not take clients: {last}\n  {}", self.log_of(index)))
    }

    fn try_connect(&self, client: i64) -> Result<(), String> {
        let url = self.im.connect_url(client, None).map_err(|error| error.to_string())?;
        let way = parse(&url, self.deployment.ca.as_deref())?;
        let address = way.address;
        let io = |error: std::io::Error| format!("{address}: {error}");
        let mut stream =
            TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(io)?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(io)?;
        let mut status = [0; 12];
        match way.tls {
            None => exchange(&mut stream, &way.request, &mut status),
            Some((config, name)) => {
                let tls = rustls::ClientConnection::new(config, name);
                let tls = tls.map_err(|error| format!("{address}: {error}"))?;
                let mut stream = rustls::StreamOwned::new(tls, stream);
                exchange(&mut stream, &way.request, &mut status)
            }
        }
        .map_err(io)?;
        match &status[9..] {
            b"101" => Ok(()),
            other => Err(format!("{address}: HTTP {}", String::from_utf8_lossy(other))),
        }
    }

    /// Who sends at a rate to it.
    pub fn sender(&self) -> Result<Sender, String> {
        Sender::choose(&self.args, &self.im)
    }

    /// Measures all nodes together.
    pub fn meter(&self) -> Meter {
        let own: Vec<_> = self.nodes().iter().flatten().map(|node| node.pid).collect();
        Meter::of(if own.is_empty() { self.foreign.clone() } else { own })
    }

    /// Measures the Redis of our own, all together; nothing for a running deployment.
    pub fn redis_meter(&self) -> Meter {
        Meter::of(self.redis.iter().map(|redis| redis.pid).collect())
    }

    /// Each of them by itself, in the order of the URLs.
    pub fn redis_meters(&self) -> Vec<Meter> {
        self.redis.iter().map(|redis| Meter::of(vec![redis.pid])).collect()
    }

    /// Fails when a node has ended that was not killed.
    pub fn check(&self) -> Result<(), String> {
        let dead = self.nodes().iter().position(has_ended);
        match dead {
            None => Ok(()),
            Some(index) => Err(format!("node {index} has ended:\n  {}", self.log_of(index))),
        }
    }
}

/// A helper that follows nodes which share slots.
fn following(deployment: &Deployment) -> Result<ImClient, String> {
    let im = ImClient::builder().slots().redis(&deployment.redis).prefix(&deployment.prefix);
    let im = im.path(&deployment.path).log(deployment.log).build();
    im.map_err(|error| error.to_string())
}

/// By itself: one that was killed is not there.
fn has_ended(node: &Option<Tethered>) -> bool {
    node.as_ref().is_some_and(|node| !node.is_running())
}

fn exchange(
    stream: &mut (impl Read + Write),
    request: &[u8],
    answer: &mut [u8],
) -> std::io::Result<()> {
    stream.write_all(request)?;
    stream.read_exact(answer)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes().clear();
        self.redis.clear();
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn find_imserver(args: &DeploymentArgs) -> Result<PathBuf, String> {
    if let Some(path) = &args.imserver {
        return path
            .canonicalize()
            .map_err(|error| format!("--imserver {}: {error}", path.display()));
    }
    let own = env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let beside = own.with_file_name("imserver");
    if beside.exists() {
        return Ok(beside);
    }
    Err(format!(
        "there is no {}; build it with `cargo build --release --bin imserver`, or name one with \
         --imserver PATH",
        beside.display()
    ))
}

/// A folder of this run's own below the system's temporary one.
fn fresh_folder() -> Result<PathBuf, String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = env::temp_dir().join(format!("imcore-loadtest-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn free_address() -> String {
    format!("127.0.0.1:{}", testkit::port())
}

fn port_of(address: &str) -> u16 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default()
}

/// A Redis of our own: nothing goes to disk by itself, or all of it at once, and there is room for bursts to subscribers.
fn start_redis(
    folder: &Path,
    address: &str,
    core: Option<usize>,
    is_durable: bool,
) -> Result<Tethered, String> {
    let port = port_of(address).to_string();
    let log = folder.join(format!("redis-{port}.log"));
    let where_to = ["--port", &port, "--bind", "127.0.0.1", "--save", ""];
    let appends = if is_durable { "yes" } else { "no" };
    let disk = ["--appendonly", appends, "--appendfsync", "always"];
    let limit = ["--client-output-buffer-limit", "pubsub 1gb 1gb 60"];
    let arguments =
        where_to.into_iter().chain(disk).chain(limit).map(str::to_owned).collect::<Vec<_>>();
    let redis = Tethered::start("redis-server", &arguments, &log, core)?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && redis.is_running() {
        if let Ok(mut stream) = TcpStream::connect(address) {
            let mut answer = [0; 5];
            if stream.write_all(b"PING\r\n").is_ok()
                && stream.read_exact(&mut answer).is_ok()
                && &answer == b"+PONG"
            {
                return Ok(redis);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    let log = tail(&log);
    Err(format!("redis-server does not start; is it installed (6.2 or newer)?\n  {log}"))
}
