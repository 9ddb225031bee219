//! The mark that says how what lies on a Redis is laid out: looked at by each new connection, before anything else; where there
//! is to be none, by the first.
//!
//! Called by the connector. One Redis alone has no mark, as .NET processes leave none; each of several has one, so that a
//! list of other length or order, or one URL where there are several, is refused and not served by halves.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use redis::{Value, cmd};

use super::{connection::Link, error, reply};
use crate::error::{Error, ErrorKind, Result};

/// What stands, or must not stand, on the Redis of a connection.
pub(crate) struct Mark {
    /// The key of the mark.
    pub(crate) key: String,
    /// What it says; `None` if there is to be none.
    pub(crate) says: Option<String>,
    /// Keys of those who leave no mark; none in a cluster, where nobody can be without.
    pub(crate) unmarked: Vec<String>,
    /// There is none, and is to be none.
    is_absent: AtomicBool,
    /// It is only looked at.
    is_looked_at: AtomicBool,
}

impl Mark {
    pub(crate) fn new(key: String, says: Option<String>, unmarked: Vec<String>) -> Self {
        let [is_absent, is_looked_at] = [(); 2].map(|()| AtomicBool::new(false));
        Mark { key, says, unmarked, is_absent, is_looked_at }
    }

    /// From here on, whether it is only looked at and not set.
    pub(crate) fn only_look(&self, only: bool) {
        self.is_looked_at.store(only, Ordering::Relaxed);
    }

    /// Fails if the Redis at `address` is marked otherwise, or used without a mark that it is to have; else sets that.
    pub(crate) fn check(&self, link: &mut Link, address: &str, deadline: Instant) -> Result<()> {
        if self.is_absent.load(Ordering::Relaxed) {
            return Ok(());
        }
        let found = self.found(link, address, deadline)?;
        let Some(says) = &self.says else {
            self.is_absent.store(found.is_none(), Ordering::Relaxed);
            return found.map_or(Ok(()), |found| Err(self.is_shared(address, &found)));
        };
        if found.is_none() {
            self.set(says, link, address, deadline)?;
        }
        match found.map_or_else(|| self.found(link, address, deadline), |found| Ok(Some(found)))? {
            Some(found) if found != *says => Err(self.is_other(address, says, &found)),
            _ => Ok(()),
        }
    }

    fn found(&self, link: &mut Link, address: &str, deadline: Instant) -> Result<Option<String>> {
        match self.ask(cmd("GET").arg(&self.key), link, address, deadline) {
            Ok(Value::Nil) => Ok(None),
            Ok(found) => Ok(Some(reply::text(found))),
            // Who may not look has no part in several.
            Err(error) if self.says.is_none() && error.kind() == ErrorKind::Rejected => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn set(&self, says: &str, link: &mut Link, address: &str, deadline: Instant) -> Result<()> {
        if self.is_used(link, address, deadline)? {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "Redis at {address} is in use as one that holds all of this prefix and path, and cannot become one \
                     of several: take another prefix, or stop all its processes and delete its keys ({}*)",
                    self.base()
                ),
            ));
        }
        if self.is_looked_at.load(Ordering::Relaxed) {
            return Ok(());
        }
        let set = &mut cmd("SET");
        self.ask(set.arg(&self.key).arg(says).arg("NX"), link, address, deadline).map(drop)
    }

    /// Whether somebody is there who leaves no mark.
    fn is_used(&self, link: &mut Link, address: &str, deadline: Instant) -> Result<bool> {
        if self.unmarked.is_empty() {
            return Ok(false);
        }
        let used = self.ask(cmd("EXISTS").arg(&self.unmarked), link, address, deadline)?;
        Ok(reply::number(used) > 0)
    }

    /// What all keys of the prefix and path begin with.
    fn base(&self) -> &str {
        self.key.trim_end_matches("Layout")
    }

    fn ask(
        &self,
        command: &redis::Cmd,
        link: &mut Link,
        address: &str,
        deadline: Instant,
    ) -> Result<Value> {
        let reply = link.ask(command, deadline);
        let reply = reply.map_err(|error| match error.is_timeout() {
            true => error::call_failed(address, error),
            false => error::connect_failed(address, error),
        })?;
        error::of_reply(address, &reply).map_or(Ok(reply), Err)
    }

    fn is_shared(&self, address: &str, found: &str) -> Error {
        let detail = format!(
            "Redis at {address} holds {found} of this prefix and path (key {}): name all of them, or take another prefix",
            self.key
        );
        Error::new(ErrorKind::Config, detail)
    }

    fn is_other(&self, address: &str, says: &str, found: &str) -> Error {
        if self.unmarked.is_empty() {
            let detail = format!(
                "the Redis Cluster at {address} holds {found} of this prefix and path, and would hold {says} as it is given here: \
                 the number of shares must be the same everywhere, that of the nodes (servers) or shares=.. in the URL; to \
                 change it, stop all processes and delete their keys on all masters"
            );
            return Error::new(ErrorKind::Config, detail);
        }
        let detail = format!(
            "Redis at {address} holds {found} of this prefix and path, and is {says} in the list given here: the list must \
             be the same, in the same order, everywhere, and name each Redis once; to change it, stop all processes and \
             delete their keys ({}*) on each",
            self.base()
        );
        Error::new(ErrorKind::Config, detail)
    }
}
