//! What only the Redis broker has to stand.
//!
//! A test that cuts connections or stops the server starts one of its own.

mod cluster;
mod cuts;
mod demoted;
mod foreign;
mod keyspace;
mod log;
mod notice;
mod occupied;
mod oracle;
mod sentinel;
mod settings;
mod several;
mod untold;

use imcore::{Error, ErrorKind, broker::RedisBroker};
use redis::{Connection, cmd};
use testkit::Redis;

use crate::world::fresh_options;

fn open(server: &Redis) -> (RedisBroker, String) {
    let options = fresh_options();
    let names = format!("{}_ws", options.prefix);
    (RedisBroker::open(&server.url(), options).unwrap(), names)
}

/// How often Redis has run a command.
pub(crate) fn calls(admin: &mut Connection, command: &str) -> u64 {
    let stats: String = cmd("INFO").arg("commandstats").query(admin).unwrap();
    let start = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Ids of the connections whose flags in `CLIENT LIST` hold `flag`.
fn connections(admin: &mut Connection, flag: char) -> Vec<String> {
    let list: String = cmd("CLIENT").arg("LIST").query(admin).unwrap();
    let field = |line: &str, name: &str| {
        let word = line.split(' ').find_map(|word| word.strip_prefix(name));
        word.unwrap_or_default().to_string()
    };
    let flagged = list.lines().filter(|line| field(line, "flags=").contains(flag));
    flagged.map(|line| field(line, "id=")).collect()
}

fn kill(admin: &mut Connection, flag: char) {
    let ids = connections(admin, flag);
    assert!(!ids.is_empty(), "no connection with flag {flag}");
    for id in ids {
        let killed: i64 = cmd("CLIENT").arg("KILL").arg("ID").arg(id).query(admin).unwrap();
        assert_eq!(killed, 1);
    }
}
