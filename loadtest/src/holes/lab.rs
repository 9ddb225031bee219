//! The nodes and the Redis of the run, and what is done to them.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use imcore::ImClient;
use rustix::process::{Pid, Signal, kill_process};

use super::args::{Fault, HolesArgs};
use crate::{
    args::DeploymentArgs,
    child::{Tethered, tail},
    cluster::{find_imserver, free_address, fresh_folder},
    link::Link,
};

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Lab {
    folder: PathBuf,
    imserver: PathBuf,
    arguments: Vec<Vec<String>>,
    servers: Vec<String>,
    nodes: Vec<Option<Tethered>>,
    redis: Option<Tethered>,
    /// `host:port` of Redis itself.
    redis_address: String,
    link: Link,
    cut: Duration,
}

impl Lab {
    pub fn start(deployment: &DeploymentArgs, args: &HolesArgs) -> Result<Self, String> {
        let imserver = find_imserver(deployment)?;
        let folder = fresh_folder()?;
        let redis_address = free_address()?;
        let link = Link::to(&format!("redis://{redis_address}"))?;
        let servers: Vec<_> = (0..args.nodes).map(|_| free_address()).collect::<Result<_, _>>()?;
        let list = servers.join(",");
        let arguments = servers.iter().map(|server| {
            let own = [
                format!("--listen={server}"),
                format!("--server={server}"),
                format!("--servers={list}"),
                format!("--redis={}", link.url),
                format!("--prefix={}", deployment.prefix),
                format!("--keep={}", args.keep),
                "--message-log=on".to_owned(),
                "--log=info".to_owned(),
            ];
            own.into_iter().chain(deployment.node_args.iter().cloned()).collect()
        });
        let arguments = arguments.collect();
        let nodes = servers.iter().map(|_| None).collect();
        let cut = Duration::from_secs(args.cut);
        let mut lab = Lab {
            folder,
            imserver,
            arguments,
            servers,
            nodes,
            redis: None,
            redis_address,
            link,
            cut,
        };
        lab.start_redis()?;
        (0..lab.nodes.len()).try_for_each(|index| lab.start_node(index))?;
        Ok(lab)
    }

    /// Who sends and issues addresses: its Redis is not behind the proxy.
    pub fn helper(&self, prefix: &str) -> Result<ImClient, String> {
        let im = ImClient::builder().servers(self.servers.iter()).redis(self.redis_url());
        im.prefix(prefix).log(true).build().map_err(|error| error.to_string())
    }

    pub fn logs(&self) -> Vec<String> {
        let each = (0..self.nodes.len()).map(|index| {
            let log = self.folder.join(format!("node-{index}.log"));
            format!("node {index}: {}", tail(&log))
        });
        each.collect()
    }

    pub fn is_running(&self) -> bool {
        self.nodes.iter().flatten().all(Tethered::is_running)
    }

    fn redis_url(&self) -> String {
        format!("redis://{}", self.redis_address)
    }

    fn start_redis(&mut self) -> Result<(), String> {
        let port = self.redis_address.rsplit(':').next().unwrap_or_default();
        let folder = self.folder.display().to_string();
        let arguments = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", &folder];
        let limit = ["--client-output-buffer-limit", "pubsub 1gb 1gb 60"];
        let arguments: Vec<_> = arguments.into_iter().chain(limit).map(str::to_owned).collect();
        let log = self.folder.join("redis.log");
        self.redis = Some(Tethered::start("redis-server", &arguments, &log, None)?);
        let deadline = Instant::now() + PATIENCE;
        while self.ask(&["PING"]).is_err() {
            if Instant::now() > deadline {
                return Err(format!("redis-server does not start: {}", tail(&log)));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn start_node(&mut self, index: usize) -> Result<(), String> {
        let log = self.folder.join(format!("node-{index}.log"));
        let node = Tethered::start(&self.imserver, &self.arguments[index], &log, None)?;
        self.nodes[index] = Some(node);
        Ok(())
    }

    fn ask(&self, words: &[&str]) -> Result<redis::Value, String> {
        let text = |error: redis::RedisError| error.to_string();
        let client = redis::Client::open(self.redis_url()).map_err(text)?;
        let mut connection =
            client.get_connection_with_timeout(Duration::from_secs(2)).map_err(text)?;
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        command.query(&mut connection).map_err(text)
    }

    fn signal(&self, index: usize, signal: Signal) -> Result<(), String> {
        let pid = self.nodes[index].as_ref().and_then(|node| Pid::from_raw(node.pid as i32));
        let pid = pid.ok_or("the node does not run")?;
        kill_process(pid, signal).map_err(|error| format!("{signal:?}: {error}"))
    }

    /// Does it, and undoes what is meant to end; `round` chooses among nodes.
    pub fn inflict(&mut self, fault: Fault, round: usize) -> Result<(), String> {
        let index = round % self.nodes.len();
        match fault {
            Fault::Kill => {
                self.nodes[index] = None;
                thread::sleep(Duration::from_secs(2));
                self.start_node(index)
            }
            Fault::Stop => {
                self.signal(index, Signal::STOP)?;
                thread::sleep(Duration::from_secs(10));
                self.signal(index, Signal::CONT)
            }
            Fault::Cut => {
                self.link.cut(true);
                thread::sleep(self.cut);
                self.link.cut(false);
                Ok(())
            }
            Fault::Stall => {
                self.link.hold(true);
                thread::sleep(self.cut);
                self.link.hold(false);
                Ok(())
            }
            Fault::ClientKill => {
                let kinds = ["normal", "pubsub"];
                kinds.iter().try_for_each(|kind| {
                    self.ask(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).map(drop)
                })
            }
            Fault::Flush => self.ask(&["FLUSHALL"]).map(drop),
            Fault::Empty => {
                let _ = fs::remove_file(self.folder.join("dump.rdb"));
                self.restart_redis()
            }
            Fault::Rollback => {
                self.ask(&["SAVE"])?;
                thread::sleep(Duration::from_secs(1));
                self.restart_redis()?;
                fs::remove_file(self.folder.join("dump.rdb")).map_err(|error| error.to_string())
            }
            Fault::Trim => {
                self.nodes[index] = None;
                thread::sleep(Duration::from_secs(2));
                self.trim()?;
                self.start_node(index)
            }
        }
    }

    fn restart_redis(&mut self) -> Result<(), String> {
        self.redis = None;
        self.start_redis()
    }

    /// All streams but for their last entry.
    fn trim(&self) -> Result<(), String> {
        let script = "for _, k in ipairs(redis.call('KEYS', '*')) do \
                      if redis.call('TYPE', k).ok == 'stream' then \
                      redis.call('XTRIM', k, 'MAXLEN', 1) end end";
        self.ask(&["EVAL", script, "0"]).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.nodes.clear();
        self.redis = None;
        let _ = fs::remove_dir_all(&self.folder);
    }
}
