//! `Cluster`: the address book of a Redis Cluster; `Master`: whichever server of it serves one slot at the moment.
//!
//! Any server of a cluster that can be reached is asked for every connection anew (`CLUSTER SLOTS`), so that one that is opened
//! after a failover, or after the slot has moved, leads to the master of now. Who is asked may know less than others: the
//! server that it names must serve the slot itself, or says who does (`MOVED`).
//!
//! One book is shared by all shares of the nodes, each of which has a `Master` of its own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use redis::{ConnectionAddr, ConnectionInfo, RedisError, RedisResult, Value, cmd};

use super::{
    connection::Link,
    dial::{dial, written},
    error, reply,
    tags::slot,
    term::Term,
};
use crate::error::{Error, ErrorKind, Result};

/// How often a server that was named may name another: a slot that moves on and on is looked for anew.
const HOPS: usize = 3;

pub(in crate::broker) struct Cluster {
    /// Servers that are known, whoever answered last first.
    known: Mutex<Vec<ConnectionAddr>>,
    /// User and password, which are the same everywhere.
    login: ConnectionInfo,
    /// Whether all speak TLS.
    pub(super) tls: bool,
    /// For people: the URL without secrets.
    pub(in crate::broker) address: String,
}

/// Who serves a slot.
pub(crate) struct Master {
    cluster: Arc<Cluster>,
    /// A key of that slot that never exists.
    pub(super) key: String,
    slot: u16,
    term: Term,
}

/// How far an attempt came before it failed. The failure that came furthest says most.
#[derive(PartialEq, PartialOrd)]
enum Reached {
    Nobody,
    Member,
    Master,
}

/// Why an attempt failed.
type Failure = (Reached, Error);

impl Cluster {
    /// `places`: some servers, with user and password.
    pub(super) fn new(places: &[ConnectionInfo], tls: bool, address: String) -> Option<Self> {
        let login = places.first()?.clone();
        let known = Mutex::new(places.iter().map(|place| place.addr().clone()).collect());
        Some(Cluster { known, login, tls, address })
    }

    fn known(&self) -> Vec<ConnectionAddr> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Servers that were named become known, and who `answered` is asked first from here on.
    fn learn(&self, answered: &ConnectionAddr, named: Vec<ConnectionAddr>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *known);
        for place in [answered.clone()].into_iter().chain(named).chain(before) {
            if !known.contains(&place) && known.len() < 1000 {
                known.push(place);
            }
        }
    }

    fn dial(&self, place: &ConnectionAddr, deadline: Instant) -> RedisResult<Link> {
        dial(&self.login.clone().set_addr(place.clone()), self.tls, deadline)
    }

    fn url(&self, place: &ConnectionAddr) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://{}", written(place))
    }

    /// Who serves `slot`, as the server at `place` knows it.
    fn ask(
        &self,
        place: &ConnectionAddr,
        slot: u16,
        deadline: Instant,
    ) -> RedisResult<Option<ConnectionAddr>> {
        let mut link = self.dial(place, deadline)?;
        let ranges = match link.ask(cmd("CLUSTER").arg("SLOTS"), deadline)? {
            Value::ServerError(error) => return Err(error.into()),
            ranges => reply::items(ranges),
        };
        let (mut master, mut named) = (None, Vec::new());
        for range in ranges {
            let mut range = reply::items(range).into_iter();
            let mut bound = || range.next().map_or(-1, reply::number);
            let is_ours = (bound()..=bound()).contains(&i64::from(slot));
            let servers: Vec<_> = range.map(|server| named_at(server, place)).collect();
            if is_ours {
                master = servers.first().cloned().flatten();
            }
            named.extend(servers.into_iter().flatten());
        }
        self.learn(place, named);
        Ok(master)
    }

    /// What it means that the server at `place` did not say who serves a slot.
    fn unasked(&self, place: &ConnectionAddr, error: RedisError) -> Failure {
        let at = self.url(place);
        if error.is_io_error() {
            let (kind, advice) = error::advise(&at, &error);
            let detail =
                format!("no server of the cluster {} can be asked; {at}: {advice}", self.address);
            return (Reached::Nobody, error::refused(kind, detail, error));
        }
        let text = error.to_string();
        let refusal = |why| {
            let detail = format!("Redis at {at} {why}");
            (Reached::Member, error::refused(ErrorKind::Config, detail, error.clone()))
        };
        match error.code() {
            _ if text.contains("cluster support disabled") || text.contains("nknown command") => {
                refusal(
                    "is no part of a Redis Cluster: the URL of one Redis begins with redis://, and several are so many such URLs",
                )
            }
            Some("NOPERM") => refusal(
                "lets the user of the URL not ask for CLUSTER SLOTS, by which masters are found: allow it (ACL SETUSER .. \
                 +cluster|slots)",
            ),
            _ => {
                let (kind, advice) = error::advise(&at, &error);
                let detail = format!("Redis at {at}: {advice}");
                (Reached::Member, error::refused(kind, detail, error))
            }
        }
    }
}

/// Where a server is that another at `place` names; `None` if that does not know.
fn named_at(server: Value, place: &ConnectionAddr) -> Option<ConnectionAddr> {
    let mut server = reply::items(server).into_iter();
    let host = reply::text(server.next()?);
    let port = u16::try_from(reply::number(server.next()?)).ok().filter(|port| *port != 0)?;
    at(&host, port, place)
}

/// A host that is not named is that of who names it.
fn at(host: &str, port: u16, place: &ConnectionAddr) -> Option<ConnectionAddr> {
    match (host, place) {
        ("?", _) => None,
        ("", ConnectionAddr::Tcp(host, _)) => Some(ConnectionAddr::Tcp(host.clone(), port)),
        (host, _) => Some(ConnectionAddr::Tcp(host.to_owned(), port)),
    }
}

/// Where a server is that another at `place` names in `MOVED slot host:port`.
fn moved_to(error: &RedisError, place: &ConnectionAddr) -> Option<ConnectionAddr> {
    let (_, target) = error.detail()?.split_once(' ')?;
    let (host, port) = target.rsplit_once(':')?;
    at(host.trim_matches(['[', ']']), port.trim().parse().ok()?, place)
}

impl Master {
    /// Whoever serves the slot of `key`, which never exists.
    pub(super) fn new(cluster: Arc<Cluster>, key: String) -> Self {
        Master { cluster, slot: slot(key.as_bytes()), key, term: Term::default() }
    }

    /// The number of the master of now, among those that were found one after the other.
    pub(super) fn term(&self) -> u64 {
        self.term.number()
    }

    /// The server of which a connection has this term serves the slot no more.
    pub(super) fn has_moved(&self, to: &RedisError) {
        let place = self.cluster.login.addr();
        if let Some(place) = moved_to(to, place) {
            self.cluster.learn(&place, Vec::new());
            self.term.found(place);
        }
    }

    /// A connection to the master. Each server that can be asked has its share of the time that is left, and so has the one
    /// that it names.
    pub(super) fn connect(self: &Arc<Self>, deadline: Instant) -> Result<Link> {
        let known = self.cluster.known();
        let mut failure: Option<Failure> = None;
        let mut tried = Vec::new();
        for (turn, place) in known.iter().enumerate() {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / (known.len() - turn) as u32;
            match self.follow(place, now + share, &mut tried) {
                Ok(Some(link)) => return Ok(link),
                Ok(None) => {}
                Err(next) if failure.as_ref().is_some_and(|(most, _)| next.0 <= *most) => {}
                Err(next) => failure = Some(next),
            }
        }
        Err(failure.map_or_else(|| error::unexpected(&self.cluster.address), |(_, error)| error))
    }

    /// Goes where one server leads; `None` if others have led there in vain.
    fn follow(
        self: &Arc<Self>,
        asked: &ConnectionAddr,
        deadline: Instant,
        tried: &mut Vec<ConnectionAddr>,
    ) -> Result<Option<Link>, Failure> {
        let named = self.cluster.ask(asked, self.slot, deadline);
        let Some(mut place) = named.map_err(|error| self.cluster.unasked(asked, error))? else {
            let detail = format!(
                "nobody in the Redis Cluster that {} belongs to serves slot {}: look at what redis-cli --cluster check says",
                self.cluster.url(asked),
                self.slot
            );
            return Err((Reached::Member, Error::new(ErrorKind::Unavailable, detail)));
        };
        for _ in 0..HOPS {
            if tried.contains(&place) {
                return Ok(None);
            }
            tried.push(place.clone());
            match self.enter(&place, deadline) {
                Ok(link) => return Ok(Some(link)),
                Err(error) => {
                    match moved_to(&error, &place).filter(|_| error.code() == Some("MOVED")) {
                        Some(next) => place = next,
                        None => return Err((Reached::Master, self.useless(&place, asked, error))),
                    }
                }
            }
        }
        Ok(None)
    }

    /// Connects to a server that must serve the slot.
    fn enter(self: &Arc<Self>, place: &ConnectionAddr, deadline: Instant) -> RedisResult<Link> {
        let mut link = self.cluster.dial(place, deadline)?;
        match link.ask(cmd("EXISTS").arg(&self.key), deadline)? {
            // Serves it until it has moved as a whole.
            Value::ServerError(error) if error.code() != "ASK" => return Err(error.into()),
            _ => {}
        }
        link.term = self.term.found(place.clone());
        link.master = Some(Arc::clone(self));
        Ok(link)
    }

    /// Why the server at `place`, which was named at another, is of no use.
    fn useless(&self, place: &ConnectionAddr, asked: &ConnectionAddr, error: RedisError) -> Error {
        let at = self.cluster.url(place);
        let (kind, advice) = error::advise(&self.cluster.address, &error);
        let hint = match error.is_io_error() {
            true => "; unless a replica takes its place, its nodes wait for it",
            false => "",
        };
        let detail = format!(
            "Redis at {at}, which serves slot {} of the cluster as {} knows it: {advice}{hint}",
            self.slot,
            self.cluster.url(asked)
        );
        error::refused(kind, detail, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp(host.into(), port)
    }

    #[test]
    fn a_server_without_a_name_is_where_it_was_asked() {
        let server = |host: &str, port| {
            Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), Value::Nil])
        };
        let asked = tcp("asked", 1);
        assert_eq!(named_at(server("h", 7000), &asked), Some(tcp("h", 7000)));
        assert_eq!(named_at(server("", 7000), &asked), Some(tcp("asked", 7000)));
        for (host, port) in [("?", 7000), ("h", 0), ("h", 70_000), ("h", -1)] {
            assert_eq!(named_at(server(host, port), &asked), None, "{host}:{port}");
        }
        let moved = |detail: &'static str| {
            let error = RedisError::from((redis::ErrorKind::Parse, "", detail.to_owned()));
            moved_to(&error, &asked)
        };
        assert_eq!(moved("3999 10.0.0.1:6381"), Some(tcp("10.0.0.1", 6381)));
        assert_eq!(moved("3999 fe80::1:6381"), Some(tcp("fe80::1", 6381)));
        assert_eq!(moved("3999 :6381"), Some(tcp("asked", 6381)));
        for odd in ["", "3999", "3999 h", "3999 h:x", "3999 ?:1"] {
            assert_eq!(moved(odd), None, "{odd}");
        }
    }
}
