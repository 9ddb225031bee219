//! The operating system's limit on open files, which bounds the connections of a process.

use imcore::server::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors besides those of connections: polls, queues, the broker, standard streams, handshakes.
const OWN: u64 = 256;

/// Raises the soft limit as far as it goes, and lowers the cap on connections to what fits: a refusal
/// with 503 is better than an `accept` that fails. So many `others` are set apart.
pub(crate) fn fit(limits: &mut Limits, others: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        log::warn!("cannot raise the limit of open files: {error}");
    }
    let Some(current) = getrlimit(Resource::Nofile).current else { return };
    let fitting =
        usize::try_from(current.saturating_sub(OWN + others)).unwrap_or(usize::MAX).max(1);
    if fitting < limits.connections {
        log::warn!(
            "up to {fitting} connections: the limit of open files is {current}; raise it (ulimit -n, or \
             LimitNOFILE in a systemd unit) for more"
        );
        limits.connections = fitting;
    }
}
