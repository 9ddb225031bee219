//! What is done to the nodes and the Redis of the run.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use imcore::SlotTable;
use rustix::process::Signal;
use testkit::proxy::Mode;

use super::args::{Fault, HolesArgs};
use crate::cluster::{Cluster, NodeOptions};

/// How long a node is away that is killed, and one that is stopped.
const KILLED: Duration = Duration::from_secs(2);
const STOPPED: Duration = Duration::from_secs(10);
/// The same of one that is to be taken for dead.
const PAUSED: Duration = Duration::from_secs(20);
/// Longest wait until slots have moved, and how long a table that does not change is looked at.
const SETTLES: Duration = Duration::from_secs(180);
const STILL: Duration = Duration::from_secs(4);

pub struct Lab {
    pub cluster: Cluster,
    cut: Duration,
    slots: usize,
    /// What was seen of nodes that came and went.
    pub moves: Vec<String>,
}

impl Lab {
    pub fn start(args: &HolesArgs) -> Result<Self, String> {
        let mut deployment = args.common.deployment.clone();
        deployment.message_log = true;
        deployment.node_args.insert(0, format!("--keep={}", args.keep));
        if args.slots > 0 {
            deployment.node_args.insert(0, "--drain=120".into());
        }
        let options = NodeOptions {
            nodes: args.nodes,
            slots: args.slots,
            breakable: true,
            ..NodeOptions::default()
        };
        let cluster = Cluster::start(&deployment, &options)?;
        let lab = Lab {
            cluster,
            cut: Duration::from_secs(args.cut),
            slots: args.slots,
            moves: Vec::new(),
        };
        lab.settles()?;
        Ok(lab)
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
            Fault::Die => self.die(),
            Fault::Stop => {
                self.cluster.signal(index, Signal::STOP)?;
                thread::sleep(STOPPED);
                self.cluster.signal(index, Signal::CONT)
            }
            Fault::Pause => self.pause(),
            Fault::Cut => self.link(Mode::Cut),
            Fault::Stall => self.link(Mode::Stall),
            Fault::ClientKill => {
                let kinds = ["normal", "pubsub"];
                kinds.iter().try_for_each(|kind| {
                    self.ask(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).map(drop)
                })
            }
            Fault::Join => self.join(),
            Fault::Drain => self.drain(),
            Fault::Flush => self.ask(&["FLUSHALL"]).map(drop),
            Fault::Empty => self.cluster.restart_redis(),
            Fault::Rollback => self.roll_back(),
        }
    }

    fn join(&mut self) -> Result<(), String> {
        let (before, begun) = (self.table()?, Instant::now());
        let index = self.cluster.add()?;
        let name = self.cluster.deployment.servers[index].clone();
        let deadline = Instant::now() + SETTLES;
        while self.table()?.slots_of(&name).next().is_none() {
            if Instant::now() > deadline {
                return Err(format!("{name} is given nothing"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        self.settles()?;
        self.note("join", &before, begun)
    }

    fn drain(&mut self) -> Result<(), String> {
        let (before, begun) = (self.table()?, Instant::now());
        self.cluster.drain(self.last_owner(&before)?)?;
        self.settles()?;
        self.note("drain", &before, begun)
    }

    /// Whoever sends and connects learns of it by the table alone.
    fn die(&mut self) -> Result<(), String> {
        let (before, begun) = (self.table()?, Instant::now());
        let index = self.last_owner(&before)?;
        self.cluster.kill(index);
        self.taken_from(index, begun)?;
        self.settles()?;
        self.note("die", &before, begun)
    }

    fn pause(&mut self) -> Result<(), String> {
        let (before, begun) = (self.table()?, Instant::now());
        let index = self.last_owner(&before)?;
        self.cluster.signal(index, Signal::STOP)?;
        self.taken_from(index, begun)?;
        thread::sleep(PAUSED.saturating_sub(begun.elapsed()));
        self.cluster.signal(index, Signal::CONT)?;
        thread::sleep(STILL);
        self.settles()?;
        self.note("pause", &before, begun)
    }

    /// Waits until a node owns nothing any more.
    fn taken_from(&mut self, index: usize, begun: Instant) -> Result<(), String> {
        let name = self.cluster.deployment.servers[index].clone();
        while self.table()?.slots_of(&name).next().is_some() {
            if begun.elapsed() > SETTLES {
                return Err(format!("nobody takes what {name} had"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.moves
            .push(format!("its slots were taken after {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(())
    }

    fn last_owner(&self, table: &SlotTable) -> Result<usize, String> {
        let owners = self.cluster.deployment.servers.iter().enumerate();
        let last = owners.rev().find(|(_, name)| table.slots_of(name).next().is_some());
        Ok(last.ok_or("nobody owns anything")?.0)
    }

    fn note(&mut self, what: &str, before: &SlotTable, begun: Instant) -> Result<(), String> {
        let after = self.table()?;
        let moved =
            (0..self.slots).filter(|slot| before.owner(*slot) != after.owner(*slot)).count();
        let share = moved as f64 * 100.0 / self.slots as f64;
        let seconds = begun.elapsed().as_secs_f64();
        self.moves.push(format!("{what}: {moved} slots, {share:.1} %, in {seconds:.1} s"));
        Ok(())
    }

    fn table(&self) -> Result<SlotTable, String> {
        let table = self.cluster.im.broker().slot_table().map_err(|error| error.to_string())?;
        Ok(table.unwrap_or_default())
    }

    /// Waits until every slot has an owner and none moves.
    fn settles(&self) -> Result<(), String> {
        let (deadline, mut same) = (Instant::now() + SETTLES, (0, Instant::now()));
        if self.slots == 0 {
            return Ok(());
        }
        loop {
            let table = self.table()?;
            let is_still = |slot| table.owner(slot).is_some() && table.moving_from(slot).is_none();
            if table.version != same.0 || !(0..self.slots).all(is_still) {
                same = (table.version, Instant::now());
            } else if same.1.elapsed() > STILL {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err("slots do not come to rest".into());
            }
            thread::sleep(Duration::from_millis(50));
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
