//! Reads Redis URLs, and says what is wrong with one: forms that the client library would take and not obey, or refuse
//! without saying what to write instead. Pure; no text repeats the URL, which holds the password.

use std::sync::Arc;

use redis::{ConnectionInfo, IntoConnectionInfo};

use super::{
    cluster::{Cluster, Master},
    dial::written,
    sentinel::Sentinels,
};
use crate::error::{Error, Result};

/// What a URL looks like.
const FORM: &str = "expected redis://user:password@host:6379/0, rediss://... or \
                    redis+unix:///path?db=0&user=..&pass=..; with Sentinels \
                    redis+sentinel://user:password@host:26379,host,host/name/0; of a Redis Cluster \
                    redis+cluster://user:password@host:6379,host,host";
/// Parameters of the query of a URL with a socket's path, which has no other place for them.
const UNIX: [&str; 3] = ["db", "user", "pass"];
/// Those of a URL with Sentinels: user and password stand for those of Redis.
const SENTINEL: [&str; 2] = ["sentinel_username", "sentinel_password"];
/// The one of the URL of a cluster.
const CLUSTER: [&str; 1] = ["shares"];
/// Where Sentinels listen if nothing else is said.
const SENTINEL_PORT: u16 = 26379;
/// Where a server listens.
const PORT: u16 = 6379;

/// What a URL says.
pub(crate) struct Target {
    pub(crate) route: Route,
    /// Whether TLS is spoken.
    pub(crate) tls: bool,
    /// For people: the URL without secrets.
    pub(crate) address: String,
}

/// How a Redis is found.
pub(crate) enum Route {
    Redis(Box<ConnectionInfo>),
    Sentinels(Arc<Sentinels>),
    Cluster(Arc<Master>),
}

impl Target {
    /// Whichever server of a cluster serves the slot of `key`, which never exists.
    pub(crate) fn in_cluster(cluster: &Arc<Cluster>, key: String) -> Self {
        let (tls, address) = (cluster.tls, cluster.address.clone());
        let master = Master::new(Arc::clone(cluster), key);
        Target { route: Route::Cluster(Arc::new(master)), tls, address }
    }
}

/// The URLs of a list: a comma separates two where a scheme follows, as hosts of Sentinels are separated by commas too.
pub(in crate::broker) fn split(list: &str) -> Vec<&str> {
    let mut urls = Vec::new();
    let mut rest = list;
    let is_scheme = |text: &str| {
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    while let Some((at, _)) = rest.match_indices(',').find(|(at, _)| is_scheme(&rest[at + 1..])) {
        urls.push(&rest[..at]);
        rest = &rest[at + 1..];
    }
    urls.push(rest);
    urls
}

/// Reads a URL, or says what is wrong with it.
pub(crate) fn read(url: &str) -> Result<Target> {
    check(url)?;
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if scheme.ends_with("+cluster") {
        return refuse(
            "is one of a Redis Cluster, which stands alone, and is shared by the nodes (broker::open)",
        );
    }
    let (kind, with_sentinels) = match scheme.strip_suffix("+sentinel") {
        Some(kind) => (kind, true),
        None => (scheme, false),
    };
    let tls = matches!(kind, "rediss" | "valkeys");
    if tls {
        check_tls()?;
    }
    if with_sentinels {
        let (sentinels, what) = read_sentinels(rest, tls)?;
        let address = format!("{scheme}://{what}");
        return Ok(Target { route: Route::Sentinels(Arc::new(sentinels)), tls, address });
    }
    // TLS is ours: to the client library the address is a plain one.
    let plain = if tls { format!("redis://{rest}") } else { url.to_owned() };
    let info = parse(plain)?;
    let address = format!("{scheme}://{}/{}", written(info.addr()), info.redis_settings().db());
    Ok(Target { route: Route::Redis(Box::new(info)), tls, address })
}

/// What is wrong with several hosts in one URL that is of one Redis.
fn several_hosts(hosts: &str) -> &'static str {
    match hosts.split(',').any(|part| part.is_empty() || part.starts_with(' ')) {
        true => {
            "has a comma with a blank or nothing behind it: several Redis are redis://a,redis://b"
        }
        false => {
            "names several hosts, which only Sentinels and the servers of a cluster may be: several Redis are so many whole URLs"
        }
    }
}

/// Refuses a URL that would not do what it says.
fn check(url: &str) -> Result<()> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url.contains(',') || url.contains("password=") {
            true => refuse("is a .NET connection string"),
            false => refuse("has no scheme"),
        };
    };
    if scheme.ends_with("-cluster")
        || scheme == "cluster"
        || scheme.ends_with("-sentinel")
        || scheme == "sentinel"
    {
        return refuse("has a scheme of another library");
    }
    let is_path = scheme.contains("unix");
    if let Some(at) = rest.rfind('@')
        && let Some(sign) = rest[..at].chars().find(|sign| "/?#".contains(*sign))
        && !is_path
    {
        if rest[..at].contains("?sentinel_") {
            return refuse("has the sign @ in a parameter, where it must be written %40");
        }
        let escaped = format!("%{:02X}", u32::from(sign));
        return refuse(format!(
            "has the sign {sign} in its user or password, where it must be written {escaped}"
        ));
    }
    if url.ends_with("#insecure") {
        return refuse(
            "ends with #insecure, which is not supported: add the server's certificate authority to the \
             system's store, or name it in SSL_CERT_FILE",
        );
    }
    if rest.contains('#') {
        return refuse("has a # in it, which must be written %23");
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let with_sentinels = scheme.ends_with("+sentinel");
    let in_cluster = scheme.ends_with("+cluster");
    let host = place.rsplit('@').next().unwrap_or_default();
    if host.contains(',') && !is_path && !with_sentinels && !in_cluster {
        return refuse(several_hosts(host));
    }
    let known: &[&str] = match (is_path, with_sentinels, in_cluster) {
        (true, ..) => &UNIX,
        (_, true, _) => &SENTINEL,
        (.., true) => &CLUSTER,
        _ => &[],
    };
    for name in query.split('&').map(|pair| pair.split('=').next().unwrap_or_default()) {
        if !known.contains(&name) && !name.is_empty() {
            return refuse(format!(
                "has the parameter {name:?}, which would have no effect: user, password and database have \
                 places of their own"
            ));
        }
    }
    Ok(())
}

/// Reads what comes after the scheme of a URL with Sentinels. Also gives what people may see of it.
fn read_sentinels(rest: &str, tls: bool) -> Result<(Sentinels, String)> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let mut path = rest.trim_end_matches('/').split('/');
    let hosts = path.next().unwrap_or_default();
    let (name, db) = (path.next().unwrap_or_default(), path.next().unwrap_or("0"));
    if path.next().is_some() {
        return refuse("has more in its path than a primary's name and a database");
    }
    // What Sentinel itself allows in a name.
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return refuse("does not say behind its hosts what the Sentinels call the primary");
    }
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        // Where a user and a password stand in a URL, these separate.
        let value = pairs.find(|(other, _)| *other == name)?.1;
        Some(value.replace('/', "%2F").replace('?', "%3F").replace(':', "%3A"))
    };
    let [user, password] = SENTINEL.map(parameter);
    let sentinel_login = match (user, password) {
        (user, Some(password)) => format!("{}:{password}@", user.unwrap_or_default()),
        (Some(_), None) => return refuse("has a sentinel_username without a sentinel_password"),
        (None, None) => String::new(),
    };
    let mut sentinels = Vec::new();
    for host in hosts.split(',') {
        sentinels
            .push(parse(format!("redis://{sentinel_login}{}", with_port(host, SENTINEL_PORT)))?);
    }
    let login = if login.is_empty() { String::new() } else { format!("{login}@") };
    let primary = parse(format!("redis://{login}primary/{db}"))?;
    let hosts: Vec<_> = sentinels.iter().map(|place| written(place.addr())).collect();
    let db = primary.redis_settings().db();
    let what = format!("{}/{name}/{db}", hosts.join(","));
    Ok((Sentinels::new(sentinels, name, primary, tls), what))
}

/// The cluster of a URL and, if that says so, among how many shares its slots are divided; `None` for a URL of another kind.
pub(in crate::broker) fn read_cluster(url: &str) -> Result<Option<(Cluster, Option<usize>)>> {
    let Some((scheme, rest)) = url.split_once("://") else { return Ok(None) };
    let Some(kind) = scheme.strip_suffix("+cluster") else { return Ok(None) };
    check(url)?;
    let tls = matches!(kind, "rediss" | "valkeys");
    if tls {
        check_tls()?;
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (hosts, db) = rest.split_once('/').unwrap_or((rest, ""));
    if !matches!(db, "" | "0" | "0/") {
        return refuse("names a database, of which a cluster has none but 0");
    }
    let login = if login.is_empty() { String::new() } else { format!("{login}@") };
    let read = |host| parse(format!("redis://{login}{}", with_port(host, PORT)));
    let places = hosts.split(',').map(read).collect::<Result<Vec<_>>>()?;
    let written: Vec<_> = places.iter().map(|place| written(place.addr())).collect();
    let shares = match query.split_once('=').map(|(_, count)| count.parse()) {
        None if query.is_empty() => None,
        Some(Ok(count)) if count > 0 => Some(count),
        _ => return refuse("has shares that are no number from 1 on"),
    };
    let cluster = Cluster::new(&places, tls, format!("{scheme}://{}", written.join(",")));
    Ok(cluster.map(|cluster| (cluster, shares)))
}

/// A host with the port that is meant if it names none.
fn with_port(host: &str, port: u16) -> String {
    let has_port = host.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
    if has_port || host.is_empty() { host.to_owned() } else { format!("{host}:{port}") }
}

/// Has the client library read a URL.
fn parse(url: String) -> Result<ConnectionInfo> {
    url.into_connection_info().map_err(|error| {
        Error::config("redis", format!("the URL cannot be read; {FORM}")).with_source(error)
    })
}

fn refuse<T>(why: impl std::fmt::Display) -> Result<T> {
    Err(Error::config("redis", format!("the URL {why}; {FORM}")))
}

#[cfg(feature = "tls")]
fn check_tls() -> Result<()> {
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn check_tls() -> Result<()> {
    Err(Error::config("redis", "rediss:// needs imcore built with the feature `tls`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_would_not_do_what_they_say_are_refused() {
        for url in [
            "redis://127.0.0.1",
            "redis://127.0.0.1:6379/2",
            "redis://user:p%23%2F%3F@h:1/0",
            "rediss://:p@ss@h/0",
            "redis+unix:///run/redis?db=1&user=u&pass=p",
            "redis://h:1/0?",
        ] {
            assert!(check(url).is_ok(), "{url}: {:?}", check(url));
        }
        for (url, why) in [
            ("redis://h:6379?password=secret", "the parameter \"password\""),
            ("redis://h:6379/0?db=3", "the parameter \"db\""),
            ("redis+unix:///run/redis?password=secret", "the parameter \"password\""),
            ("redis://:sec#ret@h:6379/0", "written %23"),
            ("redis://:sec/ret@h:6379/0", "written %2F"),
            ("redis://:sec?ret@h:6379/0", "written %3F"),
            ("redis://h:6379/0#secret", "written %23"),
            ("rediss://h:6379/0#insecure", "SSL_CERT_FILE"),
            ("127.0.0.1:6379,password=secret,defaultDatabase=3", ".NET connection string"),
            ("127.0.0.1:6379", "has no scheme"),
            ("", "has no scheme"),
        ] {
            let text = check(url).err().unwrap_or_else(|| panic!("{url} is taken")).to_string();
            assert!(text.contains(why) && text.contains("redis://user:password@host"), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn addresses_have_brackets_where_they_need_them() {
        let described = |url: &str| read(url).unwrap().address;
        assert_eq!(described("redis://[::1]:6379/1"), "redis://[::1]:6379/1");
        assert_eq!(described("redis://u:p@h"), "redis://h:6379/0");
    }

    #[test]
    fn sentinels_are_read_without_showing_secrets() {
        for (url, address) in [
            ("redis+sentinel://h/m", "redis+sentinel://h:26379/m/0"),
            ("redis+sentinel://h/m/", "redis+sentinel://h:26379/m/0"),
            (
                "valkey+sentinel://u:p%2F@h:1,[::1],[::2]:3/my-master.1/4",
                "valkey+sentinel://h:1,[::1]:26379,[::2]:3/my-master.1/4",
            ),
            (
                "redis+sentinel://h/m/1?sentinel_username=s&sentinel_password=a:b/c%40",
                "redis+sentinel://h:26379/m/1",
            ),
        ] {
            assert_eq!(read(url).map(|target| target.address).unwrap(), address);
        }
        let target = read("redis+sentinel://u:p%2F@h,k/m?sentinel_password=a:b/c%40").unwrap();
        let Route::Sentinels(sentinels) = target.route else { panic!("a Redis") };
        assert_eq!(sentinels.logins(), [(None, Some("a:b/c@")), (Some("u"), Some("p/"))]);
        let tls = read("rediss+sentinel://h/m");
        assert_eq!(tls.is_ok_and(|target| target.tls), cfg!(feature = "tls"));
    }

    #[test]
    fn clusters_are_read_without_showing_secrets() {
        for (url, address, shares) in [
            ("redis+cluster://h", "redis+cluster://h:6379", None),
            ("redis+cluster://h/", "redis+cluster://h:6379", None),
            (
                "valkey+cluster://u:p%2F@h:1,[::1],k/0?shares=6",
                "valkey+cluster://h:1,[::1]:6379,k:6379",
                Some(6),
            ),
        ] {
            let (cluster, count) = read_cluster(url).unwrap().unwrap();
            assert_eq!((&*cluster.address, count), (address, shares));
        }
        assert!(
            read_cluster("redis://h").unwrap().is_none() && read_cluster("").unwrap().is_none()
        );
        for (url, why) in [
            ("redis+cluster://h/1", "names a database"),
            ("redis+cluster://h,k?shares=0", "no number from 1 on"),
            ("redis+cluster://h,k?shares=", "no number from 1 on"),
            ("redis+cluster://h,k?share=2", "the parameter \"share\""),
            ("redis+cluster://:sec/ret@h", "written %2F"),
            ("redis+cluster://h,,k", "cannot be read"),
            ("redis+cluster://", "cannot be read"),
            ("redis+cluster://h:x", "cannot be read"),
        ] {
            let text = read_cluster(url).map(|_| ()).unwrap_err().to_string();
            assert!(text.contains(why) && !text.contains("ret"), "{url}: {text}");
        }
    }

    #[test]
    fn a_list_is_split_where_a_scheme_follows() {
        for (list, urls) in [
            ("redis://a", &["redis://a"][..]),
            ("redis://a,redis://b/1", &["redis://a", "redis://b/1"]),
            ("redis://a,b", &["redis://a,b"]),
            (
                "redis+sentinel://a,b/m,rediss+sentinel://c,d/m",
                &["redis+sentinel://a,b/m", "rediss+sentinel://c,d/m"],
            ),
            ("redis://a,,redis://b,", &["redis://a,", "redis://b,"]),
            ("redis://:x,://y@a", &["redis://:x,://y@a"]),
            ("", &[""]),
        ] {
            assert_eq!(split(list), urls, "{list}");
        }
    }

    #[test]
    fn odd_forms_of_sentinels_are_refused() {
        for (url, why) in [
            ("redis+sentinel://h:26379", "what the Sentinels call the primary"),
            ("redis+sentinel://h//0", "what the Sentinels call the primary"),
            ("redis+sentinel://h/my%20master", "what the Sentinels call the primary"),
            ("redis+sentinel://h/m/0/1", "more in its path"),
            ("redis+sentinel://h/m/secret", "cannot be read"),
            ("redis+sentinel:///m/0", "cannot be read"),
            ("redis+sentinel://h,,k/m", "cannot be read"),
            ("redis+sentinel://h,/m", "cannot be read"),
            ("redis+sentinel://h:x/m", "cannot be read"),
            ("redis+sentinel://::1/m", "cannot be read"),
            ("redis+sentinel://h/m?db=1", "the parameter \"db\""),
            ("redis+sentinel://h/m?sentinel_username=u", "without a sentinel_password"),
            ("redis+sentinel://h/m?sentinel_password=sec@ret", "written %40"),
            ("redis+sentinel://:sec/ret@h/m", "written %2F"),
            ("redis-sentinel://h:26379/0?sentinelMasterId=m", "of another library"),
            ("redis+cluster://h:6379,k:6379", "stands alone"),
            ("redis-cluster://h:6379", "of another library"),
            ("sentinel://h:26379", "of another library"),
            ("redis://h1:6379,h2:6379/0", "several hosts"),
            ("redis://h1:6379, redis://h2:6379", "redis://a,redis://b"),
            ("redis://h1:6379,", "redis://a,redis://b"),
            ("redis://:secret@h1,h2", "several hosts"),
        ] {
            let text = read(url).map(|_| ()).unwrap_err().to_string();
            assert!(text.contains(why) && text.contains("redis+sentinel://user"), "{url}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
