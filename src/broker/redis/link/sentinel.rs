//! `Sentinels`: asks who the primary is, and believes the primary alone.
//!
//! Asked for every connection anew, so that one that is opened after a failover leads to the primary of the moment. A
//! Sentinel may know less than the others, or be cut off from them: the server that it names must say itself that it is a
//! primary (`ROLE`), or the next Sentinel is asked.
//!
//! A former primary may serve for seconds after the failover, and what it is told then is lost. So a thread listens to what
//! Sentinels say of a new one, and the connections of the term before are given up.

use std::{
    sync::{
        Arc, Once, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use redis::{ConnectionAddr, ConnectionInfo, Msg, RedisError, RedisResult, Value, cmd};

use super::{
    connection::Link,
    dial::{dial, written},
    error, reply,
    term::Term,
};
use crate::error::{Error, ErrorKind, Result};

/// Between two looks of the thread that listens at whether it is still needed, and after a Sentinel that is of no use.
const PAUSE: Duration = Duration::from_millis(500);

/// Longest wait of that thread for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Sentinels {
    /// Where they are, with user and password there.
    places: Vec<ConnectionInfo>,
    /// What they call the primary.
    name: String,
    /// User, password and database of the primary, wherever it is.
    primary: ConnectionInfo,
    /// Whether all speak TLS.
    tls: bool,
    /// Which of them was of use last.
    first: AtomicUsize,
    /// Which server was found to be the primary last.
    term: Term,
    listening: Once,
}

/// How far an attempt came before it failed. The failure that came furthest says most.
#[derive(PartialEq, PartialOrd)]
enum Reached {
    Nobody,
    Sentinel,
    Server,
}

/// Why an attempt failed.
type Failure = (Reached, Error);

impl Sentinels {
    /// `primary`: any address, with user, password and database of the primary.
    pub(crate) fn new(
        places: Vec<ConnectionInfo>,
        name: &str,
        primary: ConnectionInfo,
        tls: bool,
    ) -> Self {
        let (name, first) = (name.to_owned(), AtomicUsize::new(0));
        let (term, listening) = (Term::default(), Once::new());
        Sentinels { places, name, primary, tls, first, term, listening }
    }

    /// The number of the database.
    pub(crate) fn db(&self) -> i64 {
        self.primary.redis_settings().db()
    }

    /// The number of the primary of now, among those that were found one after the other.
    pub(crate) fn term(&self) -> u64 {
        self.term.number()
    }

    /// A connection to the primary. Each Sentinel has its share of the time that is left, and so has the server that
    /// it names.
    pub(crate) fn connect(self: &Arc<Self>, deadline: Instant) -> Result<Link> {
        let count = self.places.len();
        let first = self.first.load(Ordering::Relaxed);
        let mut failure: Option<Failure> = None;
        let mut tried = Vec::new();
        for turn in 0..count {
            let index = (first + turn) % count;
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / (count - turn) as u32;
            match self.follow(&self.places[index], now + share, &mut tried) {
                Ok(Some(link)) => {
                    self.first.store(index, Ordering::Relaxed);
                    self.listening.call_once(|| listen(Arc::downgrade(self)));
                    return Ok(link);
                }
                Ok(None) => {}
                Err(next) if failure.as_ref().is_some_and(|(most, _)| next.0 <= *most) => {}
                Err(next) => failure = Some(next),
            }
        }
        Err(failure.map_or_else(|| error::unexpected(&self.name), |(_, error)| error))
    }

    /// Goes where one Sentinel leads; `None` if others have led there in vain.
    fn follow(
        &self,
        sentinel: &ConnectionInfo,
        deadline: Instant,
        tried: &mut Vec<ConnectionAddr>,
    ) -> Result<Option<Link>, Failure> {
        let at = written(sentinel.addr());
        let place = self.ask(sentinel, deadline).map_err(|error| self.misled(&at, error));
        let Some(place) = place? else {
            let detail = format!(
                "the Sentinel at {at} knows no primary called {:?}: check the name in the URL, which is that of \
                 `sentinel monitor`",
                self.name
            );
            return Err((Reached::Sentinel, Error::new(ErrorKind::Config, detail)));
        };
        if tried.contains(&place) {
            return Ok(None);
        }
        tried.push(place.clone());
        let target = self.primary.clone().set_addr(place.clone());
        match open_primary(&target, self.tls, deadline) {
            Ok(mut link) => {
                link.term = self.term.found(place);
                Ok(Some(link))
            }
            Err(useless) => {
                let (url, name) = (self.url(&written(&place)), &self.name);
                let server = format!("{url}, which the Sentinel at {at} names {name:?}");
                Err((Reached::Server, useless.of(&server)))
            }
        }
    }

    fn url(&self, at: &str) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://{at}")
    }

    /// Where the primary is, as one Sentinel knows it; `None` if it knows none of that name.
    fn ask(
        &self,
        sentinel: &ConnectionInfo,
        deadline: Instant,
    ) -> RedisResult<Option<ConnectionAddr>> {
        let mut link = dial(sentinel, self.tls, deadline)?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let mut place = match link.ask(&question, deadline)? {
            Value::Nil => return Ok(None),
            Value::ServerError(error) => return Err(error.into()),
            place => reply::texts(place).into_iter(),
        };
        let host = place.next().filter(|host| !host.is_empty());
        let port = place.next().and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        match host.zip(port) {
            Some((host, port)) => Ok(Some(ConnectionAddr::Tcp(host, port))),
            None => Err((redis::ErrorKind::UnexpectedReturnType, "no address").into()),
        }
    }

    /// What it means that the Sentinel `at` an address did not say where the primary is.
    fn misled(&self, at: &str, error: RedisError) -> Failure {
        let (kind, advice) = error::advise(&self.url(at), &error);
        let text = error.to_string();
        let (kind, advice) = match kind {
            _ if text.contains("without any password") => {
                (ErrorKind::Config, "it has no password; leave sentinel_password out of the URL")
            }
            ErrorKind::Config if error.code().is_some() => {
                (ErrorKind::Config, SENTINEL_AUTH_ADVICE)
            }
            ErrorKind::Rejected if text.contains("nknown command") => {
                (ErrorKind::Config, NO_SENTINEL_ADVICE)
            }
            _ if error.kind() == redis::ErrorKind::UnexpectedReturnType => {
                (ErrorKind::Config, NO_SENTINEL_ADVICE)
            }
            kind => (kind, advice),
        };
        let reached = match error.is_io_error() {
            true => Reached::Nobody,
            false => Reached::Sentinel,
        };
        let whom = match (&reached, self.places.len()) {
            (Reached::Nobody, 2..) => "no Sentinel can be asked; the first, ",
            _ => "the Sentinel at ",
        };
        (reached, error::refused(kind, format!("{whom}{at}: {advice}"), error))
    }

    /// User and password of a Sentinel, and of the primary.
    #[cfg(test)]
    pub(super) fn logins(&self) -> [(Option<&str>, Option<&str>); 2] {
        [&self.places[0], &self.primary].map(|place| {
            let settings = place.redis_settings();
            (settings.username(), settings.password())
        })
    }
}

const SENTINEL_AUTH_ADVICE: &str = "it asks for a user or password of its own; add \
                                    ?sentinel_username=..&sentinel_password=.. to the URL, or correct them";

const NO_SENTINEL_ADVICE: &str = "it is no Sentinel; check the port, which for Sentinels is mostly 26379 (without \
                                  Sentinels the URL begins with redis://)";

/// Why a server that a Sentinel named is of no use.
enum Useless {
    Failed(RedisError),
    /// What it says it is.
    Is(String),
}

impl Useless {
    /// The error, about `server`.
    fn of(self, server: &str) -> Error {
        match self {
            Useless::Failed(failed) => {
                let (kind, advice) = error::advise(server, &failed);
                let hint = match failed.is_io_error() {
                    true => {
                        "; a Sentinel names the address that it knows, which must be valid here too"
                    }
                    false => "",
                };
                error::refused(kind, format!("Redis at {server}: {advice}{hint}"), failed)
            }
            Useless::Is(role) => {
                let detail = format!(
                    "Redis at {server}, is no primary but a {role}: a failover is under way, or that Sentinel is \
                     cut off from the others"
                );
                Error::new(ErrorKind::Unavailable, detail)
            }
        }
    }
}

impl From<RedisError> for Useless {
    fn from(error: RedisError) -> Self {
        Useless::Failed(error)
    }
}

/// Connects to a server that must say that it is a primary.
fn open_primary(place: &ConnectionInfo, tls: bool, deadline: Instant) -> Result<Link, Useless> {
    let mut link = dial(place, tls, deadline)?;
    let role = match link.ask(&cmd("ROLE"), deadline)? {
        Value::ServerError(error) => return Err(RedisError::from(error).into()),
        role => reply::texts(role).into_iter().next().unwrap_or_default(),
    };
    match &*role {
        "master" => Ok(link),
        "slave" => Err(Useless::Is("replica".into())),
        other => Err(Useless::Is(format!("{other:?}"))),
    }
}

/// Has a thread follow what Sentinels say of a new primary, for as long as anybody connects.
fn listen(sentinels: Weak<Sentinels>) {
    let run = move || {
        let mut turn = 0;
        while let Some(alive) = sentinels.upgrade() {
            let index = turn % alive.places.len();
            let sentinel = alive.places[index].clone();
            let heard = alive.subscribe(&sentinel);
            drop(alive);
            let end = heard.and_then(|link| hear(link, index, &sentinels));
            if let Err(error) = end {
                log::debug!("the Sentinel at {} is not heard: {error}", written(sentinel.addr()));
            }
            turn += 1;
            thread::sleep(PAUSE);
        }
    };
    if let Err(error) = thread::Builder::new().name("im-sentinel".into()).spawn(run) {
        log::warn!("a failover will be noticed late: no thread can be started ({error})");
    }
}

/// Takes note of every change of which the Sentinel of that index tells, until the connection breaks, or nobody connects
/// any more.
fn hear(mut link: Link, index: usize, sentinels: &Weak<Sentinels>) -> RedisResult<()> {
    loop {
        // Nothing is sent, and one reply is waited for.
        let heard = link.exchange(&[], 1, Instant::now() + PAUSE);
        let Some(sentinels) = sentinels.upgrade() else { return Ok(()) };
        let heard = match heard {
            Ok(mut replies) => replies.pop(),
            Err(error) if error.is_timeout() => None,
            Err(error) => return Err(error),
        };
        let Some(message) = heard.and_then(Msg::from_owned_value) else { continue };
        let text = String::from_utf8_lossy(message.get_payload_bytes());
        // The name, and address and port of before and of now.
        let words: Vec<_> = text.split(' ').collect();
        if let [name, _, _, host, port] = words[..]
            && name == sentinels.name
            && let Ok(port) = port.parse()
        {
            // Others may hear of it later, and the former primary may still say that it is one.
            sentinels.first.store(index, Ordering::Relaxed);
            sentinels.term.found(ConnectionAddr::Tcp(host.to_owned(), port));
        }
    }
}

impl Sentinels {
    /// A connection that hears of every change from here on; one of before is noted.
    fn subscribe(&self, sentinel: &ConnectionInfo) -> RedisResult<Link> {
        let deadline = Instant::now() + PATIENCE;
        let mut link = dial(sentinel, self.tls, deadline)?;
        let reply = link.ask(cmd("SUBSCRIBE").arg("+switch-master"), deadline)?;
        if let Value::ServerError(error) = reply {
            return Err(error.into());
        }
        let now = self.ask(sentinel, deadline)?;
        if let Some(place) = now {
            self.term.found(place);
        }
        Ok(link)
    }
}
