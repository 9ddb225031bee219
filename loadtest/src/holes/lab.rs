//! What is done to the nodes and the Redis of the run.

use std::{fs, thread, time::Duration};

use rustix::process::Signal;
use testkit::proxy::Mode;

use super::args::{Fault, HolesArgs};
use crate::cluster::{Cluster, NodeOptions};

/// How long a node is away that is killed, and one that is stopped.
const KILLED: Duration = Duration::from_secs(2);
const STOPPED: Duration = Duration::from_secs(10);

pub struct Lab {
    pub cluster: Cluster,
    cut: Duration,
}

impl Lab {
    pub fn start(args: &HolesArgs) -> Result<Self, String> {
        let mut deployment = args.common.deployment.clone();
        deployment.message_log = true;
        deployment.node_args.insert(0, format!("--keep={}", args.keep));
        let options = NodeOptions { nodes: args.nodes, breakable: true, ..NodeOptions::default() };
        let cluster = Cluster::start(&deployment, &options)?;
        Ok(Lab { cluster, cut: Duration::from_secs(args.cut) })
    }

    fn ask(&self, words: &[&str]) -> Result<redis::Value, String> {
        let text = |error: redis::RedisError| error.to_string();
        let client = redis::Client::open(&*self.cluster.deployment.redis).map_err(text)?;
        let mut connection =
            client.get_connection_with_timeout(Duration::from_secs(2)).map_err(text)?;
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        command.query(&mut connection).map_err(text)
    }

    /// Does it, and undoes what is meant to end; `round` chooses among nodes.
    pub fn inflict(&mut self, fault: Fault, round: usize) -> Result<(), String> {
        let index = round % self.cluster.deployment.servers.len();
        match fault {
            Fault::Kill => self.kill(index, || Ok(())),
            Fault::Trim => self.kill(index, || self.trim()),
            Fault::Stop => {
                self.cluster.signal(index, Signal::STOP)?;
                thread::sleep(STOPPED);
                self.cluster.signal(index, Signal::CONT)
            }
            Fault::Cut => self.link(Mode::Cut),
            Fault::Stall => self.link(Mode::Stall),
            Fault::ClientKill => {
                let kinds = ["normal", "pubsub"];
                kinds.iter().try_for_each(|kind| {
                    self.ask(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).map(drop)
                })
            }
            Fault::Flush => self.ask(&["FLUSHALL"]).map(drop),
            Fault::Empty => self.cluster.restart_redis(),
            Fault::Rollback => self.roll_back(),
        }
    }

    /// Another process takes the node's place, after `meanwhile`.
    fn kill(
        &self,
        index: usize,
        meanwhile: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        self.cluster.kill(index);
        thread::sleep(KILLED);
        meanwhile()?;
        self.cluster.start_again(index)
    }

    fn link(&self, mode: Mode) -> Result<(), String> {
        self.cluster.link(mode);
        thread::sleep(self.cut);
        self.cluster.link(Mode::Pass);
        Ok(())
    }

    /// What was saved is there for this one start.
    fn roll_back(&mut self) -> Result<(), String> {
        self.ask(&["SAVE"])?;
        thread::sleep(Duration::from_secs(1));
        self.cluster.restart_redis()?;
        let dump = self.cluster.dump().ok_or("no Redis of our own")?;
        fs::remove_file(&dump).map_err(|error| format!("{}: {error}", dump.display()))
    }

    /// All streams but for their last entry.
    fn trim(&self) -> Result<(), String> {
        let script = "for _, k in ipairs(redis.call('KEYS', '*')) do \
                      if redis.call('TYPE', k).ok == 'stream' then \
                      redis.call('XTRIM', k, 'MAXLEN', 1) end end";
        self.ask(&["EVAL", script, "0"]).map(drop)
    }
}
