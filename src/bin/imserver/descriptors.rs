//! The operating system's limit on open files, which bounds the connections of a process.

use imcore::{Error, ErrorKind, server::Limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors besides those of clients: polls, queues, the broker, standard streams, the admin listener.
const OWN: u64 = 256;

/// Fewest that are left for clients: a node with less would refuse nearly everybody, and look well.
const FEWEST: u64 = 32;

/// Raises the soft limit as far as it goes, and lowers the caps on connections and handshakes to what fits:
/// a refusal with 503 is better than an `accept` that fails. So many `others` are set apart. Gives what an
/// operator should know of it.
pub(crate) fn clamp_to_rlimit(limits: &mut Limits, others: u64) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        warnings.push(format!("cannot raise the limit of open files: {error}"));
    }
    let Some(current) = getrlimit(Resource::Nofile).current else { return Ok(warnings) };
    let raise = "raise it (ulimit -n, or LimitNOFILE in a systemd unit)";
    let clients = current.saturating_sub(OWN + others);
    if clients < FEWEST {
        let needed = OWN + others + FEWEST;
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "the limit of open files is {current}, and a node needs {needed} at least; {raise}"
            ),
        ));
    }
    if divide(limits, usize::try_from(clients).unwrap_or(usize::MAX)) {
        let fitting = limits.connections;
        warnings.push(format!(
            "up to {fitting} connections: the limit of open files is {current}; {raise} for more"
        ));
    }
    Ok(warnings)
}

/// Shares the descriptors of clients out: what handshakes may take, a twentieth at most where there are many, and
/// connections the rest. Whether there are fewer connections than before.
fn divide(limits: &mut Limits, clients: usize) -> bool {
    // One more for the newcomer that has to be told that there is no room.
    limits.handshakes = limits.handshakes.min((clients / 20).max(clients.min(80) / 5)).max(1);
    let fitting = clients.saturating_sub(limits.handshakes + 1).max(1);
    let fewer = fitting < limits.connections;
    limits.connections = limits.connections.min(fitting);
    fewer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_handshakes_fit_together() {
        for clients in [0, 1, 5, 44, 768, 20_000, 254_096, 300_000, usize::MAX] {
            let mut limits = Limits::default();
            let fewer = divide(&mut limits, clients);
            assert!(limits.handshakes >= 1 && limits.connections >= 1, "{clients}");
            assert!(clients < 5 || limits.handshakes + limits.connections < clients, "{clients}");
            assert_eq!(fewer, clients <= 254_096, "{clients}");
            assert_eq!(limits.handshakes == 4096, clients >= 20 * 4096, "{clients}");
        }
    }
}
