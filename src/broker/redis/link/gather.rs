//! Sends that come at the same moment go out together.
//!
//! Used by `RedisBroker::publish` on many threads. A send goes out at once while one of a few lanes is
//! free; those that come while all are busy wait, and whoever finishes hands its lane to the first of
//! them, who sends for all: one round trip, one count per node. Nobody waits longer for company than for
//! a lane, each caller gets the replies to its own messages, and the order of one thread is kept because
//! a thread waits for its replies.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Instant,
};

use redis::Value;

use super::PIPELINE;
use crate::error::{Error, ErrorKind, Result};

/// Bytes that go out together, beyond those of a single send.
const BYTES: usize = 1 << 20;

/// What one caller sends.
pub(crate) struct Load {
    /// How many messages go to each node.
    pub(crate) counts: Vec<(String, u64)>,
    /// A `PUBLISH` for each message; with a log the arguments that stand for them.
    pub(crate) packed: Vec<u8>,
    /// How many arguments those are.
    pub(crate) arguments: usize,
    pub(crate) messages: usize,
    /// When a connection for it must be found.
    pub(crate) deadline: Instant,
}

impl Load {
    /// Nothing yet.
    pub(crate) fn empty(deadline: Instant) -> Self {
        Load { counts: Vec::new(), packed: Vec::new(), arguments: 0, messages: 0, deadline }
    }
}

/// What a caller who waits is told.
enum Turn {
    /// To send for these, the first of whom it is.
    Lead(Vec<Waiting>),
    /// The replies to its own messages.
    Done(Result<Vec<Value>>),
}

struct Waiting {
    number: u64,
    load: Load,
    turn: SyncSender<Turn>,
}

#[derive(Default)]
struct State {
    busy: usize,
    waiting: VecDeque<Waiting>,
    asked: u64,
}

pub(crate) struct Gather {
    lanes: usize,
    state: Mutex<State>,
}

impl Gather {
    pub(crate) fn new(lanes: usize) -> Self {
        Gather { lanes, state: Mutex::default() }
    }

    /// Has `load` sent, alone or with others, by `send`; the replies to its messages.
    ///
    /// `send` gets loads, the earliest first, and returns a reply for each of their messages.
    pub(crate) fn send(
        &self,
        load: Load,
        send: impl Fn(&[&Load]) -> Result<Vec<Value>>,
    ) -> Result<Vec<Value>> {
        let mut state = self.lock();
        if state.busy < self.lanes {
            state.busy += 1;
            drop(state);
            let _lane = Lane(self);
            return send(&[&load]);
        }
        let (turn, told) = sync_channel(1);
        state.asked += 1;
        let number = state.asked;
        let left = load.deadline.saturating_duration_since(Instant::now());
        state.waiting.push_back(Waiting { number, load, turn });
        drop(state);
        let turn = match told.recv_timeout(left) {
            Ok(turn) => Ok(turn),
            Err(RecvTimeoutError::Timeout) if self.withdraw(number) => return Err(overloaded()),
            // It is being sent by another caller, whose own deadlines end the wait.
            Err(_) => told.recv(),
        };
        match turn {
            Ok(Turn::Lead(batch)) => self.lead(batch, send),
            Ok(Turn::Done(result)) => result,
            // The caller who sent for us panicked.
            Err(_) => Err(Error::new(ErrorKind::Interrupted, "the sending thread has ended")),
        }
    }

    /// Sends for all of `batch` and tells the others; the own result is that of the first.
    fn lead(
        &self,
        batch: Vec<Waiting>,
        send: impl Fn(&[&Load]) -> Result<Vec<Value>>,
    ) -> Result<Vec<Value>> {
        let lane = Lane(self);
        let loads: Vec<_> = batch.iter().map(|waiting| &waiting.load).collect();
        let replies = send(&loads);
        // The next go out while the replies to these are handed out.
        drop(lane);
        let mut replies = replies.map(Vec::into_iter);
        let mut own = None;
        for Waiting { load, turn, .. } in batch {
            let result = match &mut replies {
                Ok(replies) => Ok(replies.by_ref().take(load.messages).collect()),
                Err(error) => Err(error.copy()),
            };
            match own {
                None => own = Some(result),
                Some(_) => drop(turn.try_send(Turn::Done(result))),
            }
        }
        own.unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Takes a caller off the list; false if its turn has come meanwhile.
    fn withdraw(&self, number: u64) -> bool {
        let mut state = self.lock();
        let before = state.waiting.len();
        state.waiting.retain(|waiting| waiting.number != number);
        state.waiting.len() < before
    }

    fn hand_on(&self) {
        let mut state = self.lock();
        let mut batch = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        while let Some(next) = state.waiting.front() {
            messages += next.load.messages;
            bytes += next.load.packed.len();
            if !batch.is_empty() && (messages > PIPELINE || bytes > BYTES) {
                break;
            }
            batch.extend(state.waiting.pop_front());
        }
        match batch.first().map(|first: &Waiting| first.turn.clone()) {
            // Never blocks: a channel holds one turn, and its waiter is off the list.
            Some(turn) => drop(turn.try_send(Turn::Lead(batch))),
            None => state.busy -= 1,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to send, handed on when dropped.
struct Lane<'a>(&'a Gather);

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        self.0.hand_on();
    }
}

fn overloaded() -> Error {
    Error::new(ErrorKind::Overloaded, "too many are sending; raise the pool size or send slower")
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc, Barrier,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use super::*;

    fn load(text: &str, wait: Duration) -> Load {
        let deadline = Instant::now() + wait;
        Load { packed: text.into(), messages: 1, ..Load::empty(deadline) }
    }

    /// Each message is answered by its own text.
    fn echo(loads: &[&Load]) -> Result<Vec<Value>> {
        Ok(loads.iter().map(|load| Value::BulkString(load.packed.clone())).collect())
    }

    #[test]
    fn everybody_gets_the_replies_to_the_own_messages() {
        let gather = Gather::new(2);
        let rounds = AtomicUsize::new(0);
        thread::scope(|scope| {
            for thread in 0..8 {
                let (gather, rounds) = (&gather, &rounds);
                scope.spawn(move || {
                    for number in 0..500 {
                        let text = format!("{thread} {number}");
                        let replies = gather.send(load(&text, Duration::from_secs(60)), |loads| {
                            rounds.fetch_add(1, Ordering::Relaxed);
                            thread::yield_now();
                            echo(loads)
                        });
                        assert_eq!(replies.unwrap(), [Value::BulkString(text.into())]);
                    }
                });
            }
        });
        assert!(rounds.into_inner() <= 8 * 500);
        assert_eq!(gather.lock().busy, 0);
    }

    #[test]
    fn who_comes_while_all_lanes_are_busy_goes_out_together_or_gives_up_unsent() {
        let gather = Arc::new(Gather::new(1));
        let (begun, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let first = thread::spawn({
            let (gather, begun, go_on) =
                (Arc::clone(&gather), Arc::clone(&begun), Arc::clone(&go_on));
            move || {
                gather.send(load("first", Duration::from_secs(60)), |loads| {
                    begun.wait();
                    go_on.wait();
                    echo(loads)
                })
            }
        });
        begun.wait();
        let late = gather.send(load("impatient", Duration::ZERO), |_| panic!("not sent"));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Overloaded);
        let together = Arc::new(AtomicUsize::new(0));
        let others: Vec<_> = (0..5)
            .map(|number| {
                let (gather, together) = (Arc::clone(&gather), Arc::clone(&together));
                thread::spawn(move || {
                    gather.send(load(&number.to_string(), Duration::from_secs(60)), |loads| {
                        together.fetch_max(loads.len(), Ordering::Relaxed);
                        Err::<Vec<Value>, _>(Error::new(ErrorKind::Timeout, "no answer"))
                    })
                })
            })
            .collect();
        while gather.lock().waiting.len() < 5 {
            thread::yield_now();
        }
        go_on.wait();
        assert!(first.join().unwrap().is_ok());
        for other in others {
            assert_eq!(other.join().unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        }
        assert_eq!(together.load(Ordering::Relaxed), 5);
    }
}
