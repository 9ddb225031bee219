//! A small bounded pool of connections for calls.
//!
//! Used by every verb of `RedisBroker`, from many threads. Written here because a pool library
//! retries in the background: errors arrive late and healing waits for its schedule, while a caller of
//! ours wants to hear at once that nobody listens, and to be served by the first call that can be.
//! Who waits for a place is served in the order of asking. Never repeats a call: only the caller knows
//! whether that is harmless.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use redis::{Pipeline, Value};

use super::{connection::Link, connector::Connector, error, moving::Again};
use crate::error::{Error, ErrorKind, Result};

/// A connection that lay idle for longer is looked at before use: Redis or a firewall may have cut it.
const TRUST_IDLE: Duration = Duration::from_millis(5);

pub(crate) struct Pool {
    state: Mutex<State>,
    size: usize,
}

/// A connection with the time of its last use.
type Idle = (Link, Instant);

#[derive(Default)]
struct State {
    /// The most recently used last. Empty while anybody waits.
    idle: Vec<Idle>,
    /// Idle ones and those in use.
    open: usize,
    /// Those who wait, with their numbers, in the order of asking.
    waiting: VecDeque<(u64, SyncSender<Option<Idle>>)>,
    asked: u64,
}

impl Pool {
    /// At most `size` connections.
    pub(crate) fn new(size: usize) -> Self {
        Pool { state: Mutex::default(), size }
    }

    /// A connection for the steps of one call, within the time that connecting may take.
    pub(crate) fn take<'a>(&'a self, connector: &'a Connector) -> Result<InUse<'a>> {
        self.take_by(connector, connector.connect_deadline())
    }

    /// As [`take`](Self::take), for a call that has waited for something else before.
    pub(crate) fn take_by<'a>(
        &'a self,
        connector: &'a Connector,
        deadline: Instant,
    ) -> Result<InUse<'a>> {
        let idle = self.take_place(&connector.address, deadline)?;
        let mut in_use = InUse { pool: self, connector, link: None };
        if let Some((mut link, used)) = idle {
            let is_current = link.term == connector.term();
            if is_current && (used.elapsed() < TRUST_IDLE || link.is_quiet()) {
                in_use.link = Some(link);
                return Ok(in_use);
            }
            // What cut this connection has most likely cut the others too.
            self.forget_idle();
        }
        in_use.link = Some(connector.connect(deadline)?);
        Ok(in_use)
    }

    /// Sends all commands at once and returns their replies in order, errors among them.
    pub(crate) fn run(&self, connector: &Connector, pipeline: &Pipeline) -> Result<Vec<Value>> {
        self.take(connector)?.run(pipeline)
    }

    /// Waits for the right to one open connection, with an idle one if there is any.
    fn take_place(&self, address: &str, deadline: Instant) -> Result<Option<Idle>> {
        let mut state = self.lock();
        if let Some(idle) = state.idle.pop() {
            return Ok(Some(idle));
        }
        if state.open < self.size {
            state.open += 1;
            return Ok(None);
        }
        let (grant, granted) = sync_channel(1);
        state.asked += 1;
        let number = state.asked;
        state.waiting.push_back((number, grant));
        drop(state);
        let left = deadline.saturating_duration_since(Instant::now());
        granted.recv_timeout(left).or_else(|_| {
            let mut state = self.lock();
            state.waiting.retain(|(other, _)| *other != number);
            // It may have come between the end of the wait and the lock.
            granted.try_recv().map_err(|_| {
                let detail = format!(
                    "all {} connections to Redis at {address} are busy; raise the pool size",
                    self.size
                );
                Error::new(ErrorKind::Overloaded, detail)
            })
        })
    }

    /// Hands a place on, with its connection if that is in order.
    fn release(&self, idle: Option<Idle>) {
        let mut state = self.lock();
        match (state.waiting.pop_front(), idle) {
            // Never blocks: a channel holds one grant, and its waiter is off the list.
            (Some((_, grant)), idle) => drop(grant.try_send(idle)),
            (None, Some(idle)) => state.idle.push(idle),
            (None, None) => state.open -= 1,
        }
    }

    fn forget_idle(&self) {
        let mut state = self.lock();
        let dropped = std::mem::take(&mut state.idle);
        state.open -= dropped.len();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use, given back when dropped.
pub(crate) struct InUse<'a> {
    pool: &'a Pool,
    connector: &'a Connector,
    /// `None` once it has failed, or has turned out to lead to a replica.
    link: Option<Link>,
}

impl InUse<'_> {
    /// Sends all commands at once and returns their replies in order, errors among them. After a failure
    /// nothing more can be sent.
    pub(crate) fn run(&mut self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        self.run_packed(&pipeline.get_packed_pipeline(), pipeline.len())
    }

    /// As [`run`](Self::run), for `count` commands that are packed already.
    pub(crate) fn run_packed(&mut self, packed: &[u8], count: usize) -> Result<Vec<Value>> {
        let deadline = self.connector.call_deadline();
        let mut replies = self.exchange(packed, count, deadline)?;
        // In a cluster: none of what was refused was carried out, and another server will.
        while let Some(again) = Again::elsewhere(packed, &replies) {
            self.pool.forget_idle();
            self.link = None;
            let Ok(link) = self.connector.connect(deadline) else { break };
            self.link = Some(link);
            let next = self.exchange(&again.packed, again.count(), deadline)?;
            again.put(&mut replies, next);
        }
        Ok(replies)
    }

    fn exchange(&mut self, packed: &[u8], count: usize, deadline: Instant) -> Result<Vec<Value>> {
        let address = &self.connector.address;
        let Some(mut link) = self.link.take() else { return Err(error::unexpected(address)) };
        match link.exchange(packed, count, deadline) {
            Ok(replies) if replies.iter().any(error::is_replica) => {
                // It was the primary once: a new connection may lead to that of now.
                self.pool.forget_idle();
                Ok(replies)
            }
            Ok(replies) => {
                self.link = Some(link);
                Ok(replies)
            }
            Err(error) => {
                // A server that hangs is not helped by new connections; another one may have taken its place.
                if !error.is_timeout() || self.connector.may_move() {
                    self.pool.forget_idle();
                }
                Err(error::call_failed(address, error))
            }
        }
    }

    /// The [term](Connector::term) of the server that it leads to.
    pub(crate) fn term(&self) -> u64 {
        self.link.as_ref().map_or(0, |link| link.term)
    }

    /// Sends one pipeline after the other; the replies to each. If one fails after others were carried out,
    /// the call is [`Interrupted`](ErrorKind::Interrupted): something was done.
    pub(crate) fn run_all(
        &mut self,
        pipelines: impl Iterator<Item = Pipeline>,
    ) -> Result<Vec<Vec<Value>>> {
        let mut replies = Vec::new();
        for pipeline in pipelines {
            match self.run(&pipeline) {
                Ok(next) => replies.push(next),
                Err(error) => {
                    let done = replies.iter().map(Vec::len).sum();
                    return Err(error::broke_off(done, error));
                }
            }
        }
        Ok(replies)
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.pool.release(self.link.take().map(|link| (link, Instant::now())));
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, thread};

    use super::*;

    #[test]
    fn places_are_given_in_the_order_of_asking() {
        let pool = Pool::new(1);
        let soon = || Instant::now() + Duration::from_secs(60);
        assert!(pool.take_place("x", soon()).unwrap().is_none());
        let (served, order) = channel();
        thread::scope(|scope| {
            for number in 0..4 {
                let (pool, served) = (&pool, served.clone());
                scope.spawn(move || {
                    pool.take_place("x", soon()).unwrap();
                    served.send(number).unwrap();
                });
                while pool.lock().waiting.len() <= number {
                    thread::yield_now();
                }
            }
            for number in 0..4 {
                pool.release(None);
                // A newcomer does not get what others wait for.
                let late = pool.take_place("x", Instant::now()).map(drop);
                assert_eq!(late.unwrap_err().kind(), ErrorKind::Overloaded);
                assert_eq!(order.recv().unwrap(), number);
            }
        });
        pool.release(None);
        assert_eq!(pool.lock().open, 0);
    }
}
