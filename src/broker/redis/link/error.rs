//! Turns failures of the Redis client into `Error`: what to expect, and what to change.
//!
//! Pure. Every text names the address without secrets; the password is in no error.

use redis::{RedisError, Value};

use crate::error::{Error, ErrorKind, Result};

/// A call failed on an established connection to `address`.
pub(crate) fn call_failed(address: &str, error: RedisError) -> Error {
    if error.is_timeout() {
        let detail = format!(
            "Redis at {address} did not answer in time; it hangs, or is too busy: look at its load and its \
             slow log"
        );
        // The system's own words for this are of no help to anybody.
        return Error::new(ErrorKind::Timeout, detail);
    }
    if error.is_io_error() {
        let detail = format!("the connection to Redis at {address} broke");
        return Error::new(ErrorKind::Interrupted, detail).with_source(error);
    }
    connect_failed(address, error)
}

/// No connection to `address` could be opened; the call certainly had no effect.
pub(crate) fn connect_failed(address: &str, error: RedisError) -> Error {
    let (kind, advice) = advise(address, &error);
    refused(kind, format!("Redis at {address}: {advice}"), error)
}

/// The error with which whoever was asked refused, or did not answer.
pub(crate) fn refused(kind: ErrorKind, detail: String, error: RedisError) -> Error {
    let failure = Error::new(kind, detail);
    // The system's own words for a wait that ran out are of no help to anybody.
    if error.is_timeout() { failure } else { failure.with_source(error) }
}

/// What an error of the server at `address` means, and what to do about it.
pub(crate) fn advise(address: &str, error: &RedisError) -> (ErrorKind, &'static str) {
    let text =
        format!("{} {}", error.code().unwrap_or_default(), error.detail().unwrap_or_default());
    let code = code(error.code(), error.detail());
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed => (ErrorKind::Config, AUTH_ADVICE),
        redis::ErrorKind::InvalidClientConfig => (ErrorKind::Config, "correct the URL"),
        redis::ErrorKind::Io if error.to_string().contains("certificate") => {
            (ErrorKind::Config, "its certificate is not trusted; name its issuer in SSL_CERT_FILE")
        }
        redis::ErrorKind::Io | redis::ErrorKind::Parse => {
            (ErrorKind::Unavailable, unreachable_advice(address, error))
        }
        _ if text.contains("Authentication required") => (ErrorKind::Config, AUTH_ADVICE),
        _ if text.contains("DB index") => {
            (ErrorKind::Config, "the server has no such database; change the number in the URL")
        }
        _ if text.contains("redirect to does not exist") => {
            (ErrorKind::Unavailable, "the connection that is to hear of changes is gone")
        }
        _ if text.contains("max number of clients") => {
            (ErrorKind::Unavailable, "raise its maxclients or lower the pool sizes")
        }
        _ if text.contains("nknown command") || text.contains("nknown subcommand") => {
            (ErrorKind::Rejected, UNKNOWN_ADVICE)
        }
        _ if CLUSTER_CODES.contains(&code) => in_cluster(address, code),
        _ => by_code(code),
    }
}

/// What only servers of a cluster answer.
const CLUSTER_CODES: [&str; 5] = ["MOVED", "ASK", "TRYAGAIN", "CROSSSLOT", "CLUSTERDOWN"];

fn in_cluster(address: &str, code: &str) -> (ErrorKind, &'static str) {
    let is_known = address.split("://").next().is_some_and(|scheme| scheme.ends_with("+cluster"));
    match code {
        _ if !is_known => (
            ErrorKind::Config,
            "it is part of a Redis Cluster, whose URL begins with redis+cluster:// (docs/redis.md)",
        ),
        "CLUSTERDOWN" => (
            ErrorKind::Unavailable,
            "its cluster is down: slots are not covered, or most masters cannot be reached (see redis-cli --cluster check, and cluster-require-full-coverage)",
        ),
        "CROSSSLOT" => (ErrorKind::Rejected, "it takes no names of several slots together"),
        _ => (ErrorKind::Unavailable, "what it is about is being moved to another master"),
    }
}

/// What to look at when nothing that speaks Redis answers. The two ends may differ in whether they speak TLS.
fn unreachable_advice(address: &str, error: &RedisError) -> &'static str {
    let refused = error.is_connection_refusal() || error.to_string().contains("lookup");
    let tls = ["rediss", "valkeys"].iter().any(|scheme| address.starts_with(scheme));
    match tls {
        _ if refused => "check that it runs and can be reached from here",
        true => {
            "check that it runs, can be reached from here, and speaks TLS at this port (without TLS the URL \
             begins with redis://)"
        }
        false if error.is_timeout() => {
            "it did not answer in time; check that it runs and can be reached from here"
        }
        false => {
            "check that it runs and can be reached from here, and does not expect TLS at this port (with TLS \
             the URL begins with rediss://)"
        }
    }
}

const UNKNOWN_ADVICE: &str = "Redis 6.2 or newer is needed, with no command renamed (if this is a Sentinel, \
                              the URL begins with redis+sentinel://)";

const AUTH_ADVICE: &str = "user or password is missing or wrong; set both in the URL, \
                           redis://user:password@host:port/db";

/// The code of an error. Before version 7 that of a command in a script stands in the text of the script's own:
/// `ERR Error running script (call to f_..): @user_script:11: @user_script: 11: -READONLY You can't ..`.
fn code<'a>(code: Option<&'a str>, detail: Option<&'a str>) -> &'a str {
    let inner = detail.filter(|text| text.contains("@user_script"));
    let inner = inner.and_then(|text| text.split_once(": -"));
    let inner = inner.and_then(|(_, error)| error.split(' ').next());
    let inner = inner.filter(|word| word.bytes().all(|byte| byte.is_ascii_uppercase()));
    inner.or(code).unwrap_or_default()
}

fn by_code(code: &str) -> (ErrorKind, &'static str) {
    match code {
        "NOAUTH" | "WRONGPASS" => (ErrorKind::Config, AUTH_ADVICE),
        "DENIED" => {
            (ErrorKind::Config, "protected mode: set a password or bind it to this network")
        }
        "LOADING" => (ErrorKind::Unavailable, "it is still loading its data"),
        "READONLY" | "MASTERDOWN" => (
            ErrorKind::Unavailable,
            "it is a replica; the URL must lead to the primary of the moment",
        ),
        "BUSY" => (ErrorKind::Unavailable, "a slow script blocks it"),
        "OOM" => (ErrorKind::Unavailable, "it is out of memory; raise its maxmemory"),
        "NOPERM" => (ErrorKind::Rejected, "the user lacks permission; extend its ACL"),
        "WRONGTYPE" => (ErrorKind::Rejected, "a key has a foreign type; is the prefix shared?"),
        "MISCONF" => (ErrorKind::Unavailable, "it cannot save to disk and refuses writes"),
        "NOREPLICAS" => (ErrorKind::Unavailable, "it has too few replicas and refuses writes"),
        _ => (ErrorKind::Rejected, "it refused the command"),
    }
}

/// The error that a reply is, if it is one.
pub(crate) fn of_reply(address: &str, reply: &Value) -> Option<Error> {
    match reply {
        Value::ServerError(error) => Some(connect_failed(address, error.clone().into())),
        _ => None,
    }
}

/// What the replies to the steps of one call come to. An error as it is if it is that of all steps;
/// [`Interrupted`](ErrorKind::Interrupted) if others were carried out.
pub(crate) fn check_steps(address: &str, replies: &[Value]) -> Result<()> {
    let mut failed = replies.iter().filter_map(|reply| of_reply(address, reply));
    let Some(first) = failed.next() else { return Ok(()) };
    let done = replies.len() - 1 - failed.count();
    if done == 0 {
        return Err(first);
    }
    let detail = format!("{done} of {} steps were carried out", replies.len());
    Err(Error::new(ErrorKind::Interrupted, detail).with_source(first))
}

/// A call of several round trips failed after `done` of its steps.
pub(crate) fn broke_off(done: usize, error: Error) -> Error {
    if done == 0 {
        return error;
    }
    let detail = format!("it broke off after {done} steps");
    Error::new(ErrorKind::Interrupted, detail).with_source(error)
}

/// The key of the command holds something else than the wire contract says.
pub(crate) fn is_wrong_type(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "WRONGTYPE")
}

/// The server takes no writes: it is the replica of another.
pub(crate) fn is_replica(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if code(Some(error.code()), error.details()) == "READONLY")
}

/// The slot that it is about has moved, moves, or is not served: nothing was carried out.
pub(crate) fn is_elsewhere(reply: &Value) -> bool {
    const CODES: [&str; 4] = ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"];
    matches!(reply, Value::ServerError(error) if CODES.contains(&error.code()))
}

/// What only a server of a cluster says to who speaks as to one Redis.
pub(crate) fn is_of_cluster(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if CLUSTER_CODES.contains(&error.code()))
}

/// The slot that it is about has moved to another master.
pub(crate) fn is_moved(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "MOVED")
}

/// A reply of a form that Redis does not send to this command.
pub(crate) fn unexpected(address: &str) -> Error {
    Error::new(ErrorKind::Rejected, format!("Redis at {address} sent an unexpected reply"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_ran_into_is_found_in_the_words_of_any_version() {
        let old = "Error running script (call to f_fd0a): @user_script:11: @user_script: 11: -READONLY You can't write.";
        let new = "You can't write against a read only replica. script: fd0a, on @user_script:11.";
        let bug =
            "Error running script (call to f_1): @user_script:3: attempt to index a nil value: -1";
        for (given, detail, found) in [
            ("ResponseError", old, "READONLY"),
            ("READONLY", new, "READONLY"),
            ("ERR", bug, "ERR"),
            ("ERR", "a value: -OOM of a user", "ERR"),
        ] {
            assert_eq!(code(Some(given), Some(detail)), found, "{detail}");
        }
        assert_eq!(code(Some("OOM"), None), "OOM");
    }
}
