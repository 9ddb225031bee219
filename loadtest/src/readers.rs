//! Who reads a Redis: looked up before a running deployment is measured, so that a wrong prefix or list of servers is
//! said at once, beside what is there.

use std::{
    thread,
    time::{Duration, Instant},
};

use redis::Connection;

use crate::orders::Deployment;

/// Longest wait for the connection, and for nodes that are just starting.
const PATIENCE: Duration = Duration::from_secs(2);

/// Fails if one of the nodes of `deployment` does not read its Redis; `described` is that Redis without secrets.
pub fn check(deployment: &Deployment, described: &str) -> Result<(), String> {
    let redis = redis::Client::open(&*deployment.redis)
        .and_then(|client| client.get_connection_with_timeout(PATIENCE));
    let mut redis = redis.map_err(|error| format!("{described}: {error}"))?;
    let topics: Vec<_> = deployment.servers.iter().map(|node| deployment.topic(node)).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Who may not ask is not told; then it shows at the first connect.
        let Ok(missing) = unread(&mut redis, &topics) else { return Ok(()) };
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(complaint(&missing, topics.len(), described, &there(&mut redis)));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Which of the topics nobody subscribes to.
fn unread(redis: &mut Connection, topics: &[String]) -> redis::RedisResult<Vec<String>> {
    let readers: Vec<(String, u64)> =
        redis::cmd("PUBSUB").arg("NUMSUB").arg(topics).query(redis)?;
    Ok(readers.into_iter().filter(|(_, count)| *count == 0).map(|(topic, _)| topic).collect())
}

/// All topics of nodes.
fn there(redis: &mut Connection) -> Vec<String> {
    let found = redis::cmd("PUBSUB").arg("CHANNELS").arg("*Server*").query(redis);
    let mut found: Vec<String> = found.unwrap_or_default();
    found.sort();
    found
}

fn complaint(missing: &[String], nodes: usize, described: &str, there: &[String]) -> String {
    const SHOWN: usize = 5;
    let list = |topics: &[String]| {
        let more = topics.len().saturating_sub(SHOWN);
        let shown = topics[..topics.len() - more].join(", ");
        if more > 0 { format!("{shown} and {more} more") } else { shown }
    };
    let who = match missing.len() == nodes {
        true => format!("no node of this prefix reads this Redis ({described})"),
        false => format!("{} of {nodes} nodes do not read this Redis ({described})", missing.len()),
    };
    let there = match there.is_empty() {
        true => "there is no node at all".to_owned(),
        false => format!("what nodes read there: {}", list(there)),
    };
    format!(
        "{who}: looked for {} (--prefix, --path with _ for /, then Server and a name of --servers); {there}",
        list(missing)
    )
}
