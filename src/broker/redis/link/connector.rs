//! `Connector`: opens connections to the Redis of a URL, or to the master of a share in a cluster, within the times of the options.

use std::time::{Duration, Instant};

use super::{
    connection::Link,
    dial::dial,
    error,
    mark::Mark,
    options::RedisOptions,
    url::{Route, Target},
};
use crate::error::{Error, ErrorKind, Result};

/// Opens connections to one Redis, or to whichever Redis Sentinels or a cluster name at the moment.
pub(crate) struct Connector {
    route: Route,
    /// Whether TLS is spoken.
    tls: bool,
    /// For people: the URL without secrets.
    pub(crate) address: String,
    mark: Mark,
    connect_timeout: Duration,
    call_timeout: Duration,
}

impl Connector {
    /// Connects to nothing.
    pub(crate) fn new(target: Target, options: &RedisOptions, mark: Mark) -> Self {
        let Target { route, tls, address } = target;
        let &RedisOptions { connect_timeout, call_timeout, .. } = options;
        Connector { route, tls, address, mark, connect_timeout, call_timeout }
    }

    /// When a connection that is asked for now must stand.
    pub(crate) fn connect_deadline(&self) -> Instant {
        Instant::now() + self.connect_timeout
    }

    /// When the replies to what is sent now must be there.
    pub(crate) fn call_deadline(&self) -> Instant {
        Instant::now() + self.call_timeout
    }

    /// Whether a new connection may lead elsewhere than those that are open.
    pub(crate) fn may_move(&self) -> bool {
        !matches!(self.route, Route::Redis(_))
    }

    /// The number of the database.
    pub(crate) fn db(&self) -> i64 {
        match &self.route {
            Route::Redis(place) => place.redis_settings().db(),
            Route::Sentinels(sentinels) => sentinels.db(),
            // A cluster has no other.
            Route::Cluster(_) => 0,
        }
    }

    /// The number of the server that new connections lead to: another after each failover. A [`Link`] has that of its
    /// own.
    pub(crate) fn term(&self) -> u64 {
        match &self.route {
            Route::Redis(_) => 0,
            Route::Sentinels(sentinels) => sentinels.term(),
            Route::Cluster(master) => master.term(),
        }
    }

    /// Fails if a connection of `term` leads to a former primary.
    pub(crate) fn check_term(&self, term: u64) -> Result<()> {
        if term == self.term() {
            return Ok(());
        }
        let detail = format!("{} has another primary now", self.address);
        Err(Error::new(ErrorKind::Unavailable, detail))
    }

    /// Does something that is to leave no mark.
    pub(crate) fn looking<T>(&self, look: impl FnOnce() -> T) -> T {
        self.mark.only_look(true);
        let seen = look();
        self.mark.only_look(false);
        seen
    }

    /// Sees to it that a Redis that is to have a mark has it, also if it has lost all since its connections were made.
    pub(crate) fn mark_again(&self) -> Result<()> {
        if self.mark.says.is_some() {
            self.connect(self.call_deadline())?;
        }
        Ok(())
    }

    /// An authenticated connection to a Redis that is laid out as it is to be.
    pub(crate) fn connect(&self, deadline: Instant) -> Result<Link> {
        loop {
            let mut link = match &self.route {
                Route::Redis(place) => dial(place, self.tls, deadline)
                    .map_err(|error| error::connect_failed(&self.address, error))?,
                Route::Sentinels(sentinels) => sentinels.connect(deadline)?,
                Route::Cluster(master) => master.connect(deadline)?,
            };
            let checked = self.mark.check(&mut link, &self.address, self.call_deadline());
            // What it leads to may have moved a moment ago.
            if checked.is_err() && self.check_term(link.term).is_err() && Instant::now() < deadline
            {
                continue;
            }
            return checked.map(|()| link);
        }
    }
}
