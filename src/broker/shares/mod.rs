//! Several independent Redis, or a Redis Cluster, as one broker: each holds a share of the nodes, with all that is of their clients.
//!
//! Opened by [`open`]; called as every broker is. Knows the contract, and of Redis only how one is opened. The rule: with n Redis,
//! the share of a node is its place in the servers list modulo n, and as there are a multiple of n nodes, that of a client is its
//! slot among n. So it stays where it is when the list of nodes changes.
//!
//! In a cluster a share is what lies in one hash slot, and is called a Redis here too: which master has it changes nothing.
//!
//! What is of one client or node is one call to its Redis. What is of several goes to theirs at the same time, one call each.
//! A Redis that is away takes its own nodes along and no others: whoever clears away after the dead leaves it alone for a while.

mod absent;
mod crew;
mod events;
mod spread;
mod verbs;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use self::{
    crew::Crew,
    spread::{Part, joined, parts},
};
use super::{
    contract::{Broker, Page, Session},
    redis::{At, Cluster, RedisBroker, RedisOptions, Share, read_cluster, split},
};
use crate::{
    error::{Error, ErrorKind, Result},
    id::ClientId,
    slots::slot,
    throttle::Throttle,
    wire::tag,
};

/// How long a Redis that failed is not asked for what is left of the dead, nor given receipts of nodes that are not its own.
const LEFT_ALONE: Duration = Duration::from_secs(10);
/// How long a node waits for a Redis that is not its own: meanwhile it does nothing for its clients.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long somebody waits who asks for all nodes.
const LONG_PATIENCE: Duration = Duration::from_secs(10);
/// Once it is back: how long its nodes have to renew their leases, before any of them is looked for as dead.
const RETURN: Duration = Duration::from_secs(10);

/// Opens the broker that `urls` name: one URL, see [`RedisBroker::open`], or several with commas between them,
/// `redis://a:6379,redis://b:6379`, among which the nodes are shared, or that of a Redis Cluster (7.0 or newer),
/// `redis+cluster://user:password@host:6379,host,host` (`rediss+cluster://`), which names some of its servers.
///
/// In a cluster there are as many shares as nodes, or as many as the URL says, `?shares=6`, of which the number of nodes is a multiple;
/// each share lies in one hash slot, wherever that is served. With several Redis each node is wholly on one Redis, by its place in [`RedisOptions::nodes`], and so are its clients. All processes have
/// to name the same URLs in the same order, or number of shares. In either case .NET processes cannot take part, and there are no slots, no kept events, no webhooks
/// and no rosters.
///
/// # Errors
/// [`Config`](crate::ErrorKind::Config) for a URL or option that cannot work, and with several Redis for what they cannot do.
/// Connects to nothing.
///
/// ```
/// use imcore::broker::{self, RedisOptions};
///
/// let nodes = ["10.0.0.1:6001", "10.0.0.2:6001"].map(String::from).to_vec();
/// let options = RedisOptions { nodes, ..RedisOptions::default() };
/// let broker = broker::open("redis://10.0.0.5,redis://10.0.0.6", options)?;
/// assert_eq!(broker.describe(), "redis://10.0.0.5:6379/0,redis://10.0.0.6:6379/0");
/// # Ok::<(), imcore::Error>(())
/// ```
pub fn open(urls: &str, options: RedisOptions) -> Result<Arc<dyn Broker>> {
    let urls = split(urls);
    let [url] = urls[..] else { return Ok(Arc::new(Shares::open(&urls, options)?)) };
    Ok(match read_cluster(url)? {
        Some((cluster, shares)) => Arc::new(Shares::in_cluster(cluster, shares, options)?),
        None => Arc::new(RedisBroker::open(url, options)?),
    })
}

struct Shares {
    all: Vec<Arc<Held>>,
    /// Names of all nodes, in the order of the list.
    nodes: Vec<String>,
    /// Who calls several at the same time.
    crew: Crew,
}

/// A Redis with its share.
struct Held {
    broker: RedisBroker,
    health: Mutex<Health>,
}

/// How a Redis was found by those who can do without it.
#[derive(Clone, Copy)]
enum Health {
    /// Nobody has missed anything.
    Good,
    /// It failed, and is left alone until then.
    Bad(Instant),
    /// It is back, and leases that are missing say nothing until then.
    Back(Instant),
}

impl Held {
    fn new(broker: RedisBroker) -> Self {
        Held { broker, health: Mutex::new(Health::Good) }
    }

    fn health(&self) -> Health {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_health(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    fn is_left_alone(&self) -> bool {
        matches!(self.health(), Health::Bad(until) if Instant::now() < until)
    }

    /// Whether who has no lease there has had the time to renew it.
    fn is_trusted(&self) -> bool {
        match self.health() {
            Health::Good => true,
            Health::Bad(_) => false,
            Health::Back(until) => Instant::now() >= until,
        }
    }

    /// What it answered to somebody who can do without it.
    fn seen<T>(&self, what: &str, answer: Result<T>) -> Result<T> {
        match &answer {
            Ok(_) => self.works(),
            Err(error) => self.fails(what, error),
        }
        answer
    }

    fn is_late(&self, patience: Duration) -> Error {
        let detail = format!("{} has not answered within {patience:?}", self.broker.describe());
        Error::new(ErrorKind::Timeout, detail)
    }

    /// It did what was asked.
    fn works(&self) {
        if matches!(self.health(), Health::Bad(_)) {
            self.set_health(Health::Back(Instant::now() + RETURN));
        }
    }

    /// It failed for somebody who can do without it.
    fn fails(&self, what: &str, error: &Error) {
        self.set_health(Health::Bad(Instant::now() + LEFT_ALONE));
        static FAILS: Throttle = Throttle::new();
        let address = self.broker.describe();
        if let Some(more) = FAILS.admit(&format!("{address} {what}")) {
            log::warn!(reason:% = error; "{what} at {address}, of which the other Redis are not concerned: {error}{more}");
        }
    }
}

impl Shares {
    fn open(urls: &[&str], options: RedisOptions) -> Result<Self> {
        let (count, nodes) = (urls.len(), options.nodes.clone());
        check(count, &options, &format!("{count} Redis"))?;
        let mut all: Vec<Arc<Held>> = Vec::with_capacity(count);
        for (number, url) in urls.iter().enumerate() {
            let share = Share { number, of: count, in_cluster: false };
            let broker = RedisBroker::open_share(At::Url(url), options.clone(), share)?;
            let address = broker.describe();
            if all.iter().any(|held| held.broker.describe() == address) {
                return Err(Error::config("redis", format!("{address} is in the list twice")));
            }
            all.push(Arc::new(Held::new(broker)));
        }
        Ok(Shares { all, nodes, crew: Crew::default() })
    }

    fn in_cluster(cluster: Cluster, shares: Option<usize>, options: RedisOptions) -> Result<Self> {
        let (cluster, nodes) = (Arc::new(cluster), options.nodes.clone());
        let of = shares.unwrap_or(nodes.len());
        check(of, &options, &format!("{of} shares of a Redis Cluster"))?;
        let open = |number| {
            let share = Share { number, of, in_cluster: true };
            let broker = RedisBroker::open_share(At::Cluster(&cluster), options.clone(), share)?;
            Ok(Arc::new(Held::new(broker)))
        };
        let all = (0..of).map(open).collect::<Result<_>>()?;
        Ok(Shares { all, nodes, crew: Crew::default() })
    }

    fn of_client(&self, client: &ClientId) -> &RedisBroker {
        &self.all[slot(client, self.all.len())].broker
    }

    fn share_of_node(&self, node: &str) -> Result<usize> {
        let place = self.nodes.iter().position(|name| name == node);
        place.map(|place| place % self.all.len()).ok_or_else(|| {
            let detail = format!("{node:?} is not in the list, by which nodes share several Redis");
            Error::config("servers", detail)
        })
    }

    fn of_node(&self, node: &str) -> Result<&RedisBroker> {
        self.share_of_node(node).map(|share| &self.all[share].broker)
    }

    fn of_session(&self, session: &Session) -> Result<&RedisBroker> {
        self.of_node(node_of(&session.id))
    }

    fn of_request(&self, key: &str) -> &RedisBroker {
        &self.all[(tag(key) % self.all.len() as u64) as usize].broker
    }

    /// What each of all says.
    fn all<T: Send + 'static>(
        &self,
        call: impl Fn(&RedisBroker) -> Result<T> + Send + Sync + 'static,
    ) -> Vec<Result<T>> {
        self.crew.at_once(self.all.clone(), move |held| call(&held.broker))
    }

    /// What those say that can be reached within `patience`, each with its number: for what the others are asked for again later. Fails
    /// if none can.
    fn reached<T: Send + 'static>(
        &self,
        what: &'static str,
        patience: Duration,
        call: impl Fn(usize, &RedisBroker) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Vec<(usize, T)>> {
        let jobs = self.all.iter().cloned().enumerate().map(|(share, held)| (held, share));
        let answers = self.each_reached(what, patience, jobs.collect(), move |held, share| {
            Ok((share, call(share, &held.broker)?))
        });
        let (reached, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        match failed.into_iter().find_map(Result::err) {
            Some(error) if reached.is_empty() => Err(error),
            _ => Ok(reached.into_iter().flatten().collect()),
        }
    }

    /// What those say that are not left alone, each called with its part; one that takes longer than `patience` has failed.
    fn each_reached<I: Send + 'static, T: Send + 'static>(
        &self,
        what: &'static str,
        patience: Duration,
        mut jobs: Vec<(Arc<Held>, I)>,
        call: impl Fn(&Held, I) -> Result<T> + Send + Sync + 'static,
    ) -> Vec<Result<T>> {
        jobs.retain(|(held, _)| !held.is_left_alone());
        let asked: Vec<_> = jobs.iter().map(|(held, _)| Arc::clone(held)).collect();
        let answers = self
            .crew
            .within(patience, jobs, move |(held, part)| held.seen(what, call(&held, part)));
        let late = |held: &Held| held.seen(what, Err(held.is_late(patience)));
        let heard = asked.iter().zip(answers);
        heard.map(|(held, answer)| answer.unwrap_or_else(|| late(held))).collect()
    }

    /// Calls with each part, all at the same time.
    fn each_part<I: Send + 'static, T: Send + 'static>(
        &self,
        parts: Vec<Part<I>>,
        call: impl Fn(&Held, Vec<I>) -> T + Send + Sync + 'static,
    ) -> Vec<T> {
        let jobs = parts.into_iter().map(|part| (Arc::clone(&self.all[part.share]), part.items));
        self.crew.at_once(jobs.collect(), move |(held, items)| call(&held, items))
    }

    /// Answers for each of `clients`, in their order.
    fn of_each<T: Default + Send + 'static>(
        &self,
        clients: &[ClientId],
        call: impl Fn(&RedisBroker, &[ClientId]) -> Result<Vec<T>> + Send + Sync + 'static,
    ) -> Result<Vec<T>> {
        let count = self.all.len();
        let parts = parts(clients, count, |client| Ok(slot(client, count)), Clone::clone)?;
        let places: Vec<_> = parts.iter().map(|part| part.places.clone()).collect();
        let answers = self.each_part(parts, move |held, clients| call(&held.broker, &clients));
        Ok(joined(&places, answers.into_iter().collect::<Result<_>>()?))
    }

    /// Memberships, each with those of the same Redis.
    fn of_members(
        &self,
        memberships: &[(ClientId, &str)],
    ) -> Result<Vec<Part<(ClientId, String)>>> {
        let count = self.all.len();
        let own = |(client, channel): &(ClientId, &str)| (client.clone(), (*channel).to_owned());
        parts(memberships, count, |(client, _)| Ok(slot(client, count)), own)
    }

    /// A page of a list that goes through one Redis after the other.
    fn page<T: Send + 'static>(
        &self,
        after: Option<&str>,
        limit: usize,
        read: impl Fn(&RedisBroker, Option<&str>, usize) -> Result<Page<T>> + Send + Sync + 'static,
    ) -> Result<Page<T>> {
        let (share, inner) = match after {
            None => (0, None),
            Some(after) => self.place(after).ok_or_else(|| {
                Error::argument(format!(
                    "after: {after:?} was not given as the next page by a list like this"
                ))
            })?,
        };
        let inner = inner.map(str::to_owned);
        let jobs = self.all.iter().cloned().enumerate().collect();
        let pages = self.crew.at_once(jobs, move |(number, held)| match number == share {
            true => read(&held.broker, inner.as_deref(), limit),
            // For its total.
            false => read(&held.broker, None, 1),
        });
        let mut pages = pages.into_iter().collect::<Result<Vec<_>>>()?;
        let total = pages.iter().map(|page| page.total).sum();
        let Page { items, next, .. } = pages.swap_remove(share);
        let next = match next {
            Some(next) => Some(format!("{share}.{next}")),
            None if share + 1 < self.all.len() => Some(format!("{}.", share + 1)),
            None => None,
        };
        Ok(Page { items, next, total })
    }

    /// Which Redis a page is on, and what it is called there.
    fn place<'a>(&self, after: &'a str) -> Option<(usize, Option<&'a str>)> {
        let (share, inner) = after.split_once('.')?;
        let share = share.parse().ok().filter(|share| *share < self.all.len())?;
        Some((share, Some(inner).filter(|inner| !inner.is_empty())))
    }
}

/// What several Redis, or shares of a cluster, cannot do, or cannot share; `what` they are.
fn check(count: usize, options: &RedisOptions, what: &str) -> Result<()> {
    let nodes = options.nodes.len();
    if nodes == 0 {
        return Err(Error::config(
            "servers",
            "Redis Cluster, and several Redis, share the nodes of a fixed list; name all nodes (servers), or, where nodes come \
                 and go (slots), one Redis",
        ));
    }
    if !nodes.is_multiple_of(count) {
        return Err(Error::config(
            "servers",
            format!(
                "{what} cannot share {nodes} nodes evenly; take {count} nodes, {}, and so on, or fewer of them",
                2 * count
            ),
        ));
    }
    if options.events > 0 {
        return Err(Error::config(
            "events",
            "no events are kept where several Redis, or a Redis Cluster, share the nodes; set events to 0, or name one Redis",
        ));
    }
    for (name, text) in
        [("prefix", &options.prefix), ("path", &options.path), ("key_prefix", &options.key_prefix)]
    {
        if text.contains(['{', '}']) {
            return Err(Error::config(
                name,
                "holds a brace, by which shares are told apart; leave it out",
            ));
        }
    }
    Ok(())
}

/// The node of a session by its id.
fn node_of(session: &str) -> &str {
    session.rsplit_once('#').map_or(session, |(node, _)| node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{contract::Directory, shares::absent::no_slots};

    const TWO: &str = "redis://a,redis://b";

    fn options(nodes: &[&str]) -> RedisOptions {
        let nodes = nodes.iter().map(|name| (*name).to_owned()).collect();
        RedisOptions { nodes, ..RedisOptions::default() }
    }

    fn refusal(urls: &str, options: RedisOptions) -> String {
        open(urls, options).err().expect("it is refused").to_string()
    }

    #[test]
    fn what_several_cannot_do_is_refused() {
        let four = options(&["0", "1", "2", "3"]);
        assert!(open(TWO, four.clone()).is_ok() && open("redis://a", options(&[])).is_ok());
        assert!(refusal(TWO, options(&[])).contains("name all nodes (servers)"));
        let uneven = refusal("redis://a,redis://b,redis://c", four.clone());
        assert!(
            uneven.contains("3 Redis cannot share 4 nodes evenly; take 3 nodes, 6"),
            "{uneven}"
        );
        assert!(open("redis+cluster://a?shares=2", four.clone()).is_ok());
        let uneven = refusal("redis+cluster://a?shares=3", four.clone());
        assert!(uneven.contains("3 shares of a Redis Cluster cannot share 4 nodes"), "{uneven}");
        assert!(refusal("redis+cluster://a", options(&[])).contains("name all nodes (servers)"));
        assert!(refusal("redis://b,redis+cluster://a", four.clone()).contains("stands alone"));
        assert!(refusal("redis://a,redis://a:6379/0", four.clone()).contains("twice"));
        assert!(refusal("redis://a,b", four.clone()).contains("so many whole URLs"));
        assert!(refusal("redis://a,redis://", four.clone()).contains("expected redis://"));
        let with_events = RedisOptions { events: 1, ..four.clone() };
        assert!(refusal(TWO, with_events).contains("set events to 0"));
        let prefix = String::from("im{1}");
        assert!(refusal(TWO, RedisOptions { prefix, ..four }).contains("leave it out"));
    }

    #[test]
    fn a_client_is_where_its_node_is_however_many_there_are() {
        for count in [2, 4, 6, 10] {
            let nodes: Vec<_> = (0..count).map(|place| format!("n{place}")).collect();
            let nodes: Vec<_> = nodes.iter().map(String::as_str).collect();
            let shares = Shares::open(&["redis://a", "redis://b"], options(&nodes)).unwrap();
            let guid = "8f14e45f-ceea-467f-a9b1-0000000003e9".parse().unwrap();
            for client in [1.into(), 2.into(), (-3).into(), i64::MAX.into(), i64::MIN.into(), guid]
            {
                let node = shares.of_node(nodes[slot(&client, nodes.len())]).unwrap();
                assert!(std::ptr::eq(node, shares.of_client(&client)), "{client} of {count}");
            }
            assert!(shares.of_node("n99").is_err());
        }
    }

    #[test]
    fn who_is_back_is_trusted_later() {
        let shares = Shares::open(&["redis://a", "redis://b"], options(&["0", "1"])).unwrap();
        let held = &shares.all[0];
        let error = no_slots();
        held.works();
        assert!(held.is_trusted() && !held.is_left_alone());
        held.fails("nothing is done", &error);
        assert!(!held.is_trusted() && held.is_left_alone());
        held.works();
        assert!(
            !held.is_trusted() && !held.is_left_alone(),
            "its nodes have to renew their leases"
        );
        held.set_health(Health::Back(Instant::now()));
        held.works();
        assert!(held.is_trusted() && shares.all[1].is_trusted());
    }

    #[test]
    fn a_page_names_its_redis() {
        let shares = Shares::open(&["redis://a", "redis://b"], options(&["0", "1"])).unwrap();
        assert_eq!(shares.place("1."), Some((1, None)));
        assert_eq!(shares.place("0.17"), Some((0, Some("17"))));
        for odd in ["", "17", "2.", "x.1", "-1.", "."] {
            assert_eq!(shares.place(odd), None, "{odd}");
        }
        assert!(shares.online_page(Some("2."), 10).unwrap_err().to_string().contains("next page"));
    }
}
