//! A small bounded pool of connections for calls.
//!
//! Used by every verb of `RedisBroker`, from many threads. Written here because a pool library
//! retries in the background: errors arrive late and healing waits for its schedule, while a caller of
//! ours wants to hear at once that nobody listens, and to be served by the first call that can be.
//! Never repeats a call: only the caller knows whether that is harmless.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{Connection, ConnectionLike, Pipeline, RedisResult, Value};

use super::{error, options::Connector};
use crate::error::{Error, ErrorKind, Result};

/// A connection that lay idle for longer is tried before use: Redis or a firewall may have cut it.
const TRUST_IDLE: Duration = Duration::from_secs(1);

pub(super) struct Pool {
    state: Mutex<State>,
    freed: Condvar,
    size: usize,
    wait: Duration,
}

/// Sends packed commands at once and reads `count` replies, errors of the server among them.
///
/// Unlike the client library's own, it stops at the first failure to read: a Redis that stalls costs
/// one timeout, not one per command. After a failure the connection must not be used again.
pub(super) fn exchange(
    connection: &mut Connection,
    packed: &[u8],
    count: usize,
) -> RedisResult<Vec<Value>> {
    connection.send_packed_command(packed)?;
    (0..count).map(|_| connection.recv_response()).collect()
}

/// A connection with the time of its last use.
type Idle = (Connection, Instant);

#[derive(Default)]
struct State {
    /// The most recently used last.
    idle: Vec<Idle>,
    /// Idle ones and those in use.
    open: usize,
}

impl Pool {
    /// At most `size` connections; a caller waits up to `wait` for a free one.
    pub(super) fn new(size: usize, wait: Duration) -> Self {
        Pool { state: Mutex::default(), freed: Condvar::new(), size, wait }
    }

    /// Sends all commands at once and returns their replies in order, errors among them.
    pub(super) fn run(&self, connector: &Connector, pipeline: &Pipeline) -> Result<Vec<Value>> {
        let packed = pipeline.get_packed_pipeline();
        let mut in_use = self.checkout(connector)?;
        match exchange(&mut in_use.connection, &packed, pipeline.len()) {
            Ok(replies) => {
                in_use.give_back();
                Ok(replies)
            }
            Err(error) => {
                if !error.is_timeout() {
                    // What cut this connection has most likely cut the others too.
                    self.forget_idle();
                }
                Err(error::call_failed(&connector.address, error))
            }
        }
    }

    fn checkout(&self, connector: &Connector) -> Result<InUse<'_>> {
        let (place, idle) = self.take_place(&connector.address)?;
        if let Some((mut connection, used)) = idle {
            if used.elapsed() < TRUST_IDLE || connection.check_connection() {
                return Ok(InUse { place, connection });
            }
            self.forget_idle();
        }
        let connection = connector.connect()?;
        Ok(InUse { place, connection })
    }

    /// Waits for the right to one open connection, with an idle one if there is any.
    fn take_place(&self, address: &str) -> Result<(Place<'_>, Option<Idle>)> {
        let deadline = Instant::now() + self.wait;
        let mut state = self.lock();
        loop {
            if let Some(idle) = state.idle.pop() {
                return Ok((Place { pool: self }, Some(idle)));
            }
            if state.open < self.size {
                state.open += 1;
                return Ok((Place { pool: self }, None));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let detail = format!(
                    "all {} connections to Redis at {address} are busy; raise the pool size",
                    self.size
                );
                return Err(Error::new(ErrorKind::Overloaded, detail));
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn forget_idle(&self) {
        let mut state = self.lock();
        let dropped = std::mem::take(&mut state.idle);
        state.open -= dropped.len();
        drop(state);
        self.freed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to have one connection open, returned on drop.
struct Place<'a> {
    pool: &'a Pool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pool.lock().open -= 1;
        self.pool.freed.notify_one();
    }
}

/// A connection in use; dropped unless [given back](Self::give_back).
struct InUse<'a> {
    place: Place<'a>,
    connection: Connection,
}

impl InUse<'_> {
    fn give_back(self) {
        let InUse { place, connection } = self;
        let pool = place.pool;
        // The place goes back into the pool together with its connection.
        std::mem::forget(place);
        pool.lock().idle.push((connection, Instant::now()));
        pool.freed.notify_one();
    }
}
