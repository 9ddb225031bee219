//! The one way into an event loop: a bounded lock-free queue and a wake-up.
//!
//! Any thread pushes, one loop pops. While the loop is known to be awake a push costs no system call.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use mio::{Poll, Token, Waker};

use super::{heartbeat, message::Command, transport::Transport};
use crate::id::ClientId;

/// Sending end; cheap to clone.
#[derive(Debug)]
pub(crate) struct InboxSender<T> {
    queue: SyncSender<T>,
    wake_up: Arc<WakeUp>,
}

/// Receiving end, owned by the loop.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    queue: Receiver<T>,
    wake_up: Arc<WakeUp>,
}

#[derive(Debug)]
struct WakeUp {
    waker: Waker,
    /// Set by the first push after the loop last looked; later pushes need not wake it again.
    is_due: AtomicBool,
    depth: Arc<Depth>,
}

/// How many items wait. Each side counts for itself, so that they never write the same cache line.
#[derive(Debug, Default)]
pub(crate) struct Depth {
    pushed: Counted,
    popped: Counted,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Counted(AtomicU64);

impl Depth {
    /// Items that wait now, give or take those on their way in.
    pub(crate) fn get(&self) -> u64 {
        let popped = self.popped.0.load(Ordering::Relaxed);
        self.pushed.0.load(Ordering::Relaxed).saturating_sub(popped)
    }
}

impl WakeUp {
    fn wake(&self) {
        if !self.is_due.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            // The loop still sees the item at its next sweep.
            log::error!("cannot wake an event loop: {error}");
        }
    }
}

/// An inbox of `capacity` items whose wake-ups reach `poll` as `token`.
pub(crate) fn inbox<T>(
    poll: &Poll,
    token: Token,
    capacity: usize,
) -> io::Result<(InboxSender<T>, Inbox<T>)> {
    let (sender, receiver) = sync_channel(capacity);
    let waker = Waker::new(poll.registry(), token)?;
    let wake_up = Arc::new(WakeUp { waker, is_due: AtomicBool::new(false), depth: Arc::default() });
    Ok((
        InboxSender { queue: sender, wake_up: Arc::clone(&wake_up) },
        Inbox { queue: receiver, wake_up },
    ))
}

impl<T> Clone for InboxSender<T> {
    fn clone(&self) -> Self {
        InboxSender { queue: self.queue.clone(), wake_up: Arc::clone(&self.wake_up) }
    }
}

impl<T> InboxSender<T> {
    /// Where to read how many items wait.
    pub(crate) fn depth(&self) -> Arc<Depth> {
        Arc::clone(&self.wake_up.depth)
    }

    /// Pushes unless the loop is so far behind that its inbox is full, and then waits a moment for room:
    /// the loop may be stuck.
    pub(crate) fn push_within(&self, mut item: T, patience: Duration) -> Result<(), T> {
        let deadline = Instant::now() + patience;
        loop {
            match self.queue.try_send(item) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => item = back,
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
                    return Err(back);
                }
            }
            self.wake_up.wake();
            thread::sleep(Duration::from_millis(5));
        }
        self.wake_up.depth.pushed.0.fetch_add(1, Ordering::Relaxed);
        self.wake_up.wake();
        Ok(())
    }

    /// Pushes, waiting while the inbox is full. Of the loops only the acceptor calls it, towards reactors, which never
    /// wait for it: two full loops would wait for each other. Gives the item back when the loop has ended.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let result = match self.queue.try_send(item) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(item)) => {
                self.wake_up.wake();
                let result = self.queue.send(item).map_err(|error| error.0);
                // The loop is behind and turns, so this thread does too, however many items it has.
                heartbeat::progress();
                result
            }
            Err(TrySendError::Disconnected(item)) => Err(item),
        };
        if result.is_ok() {
            self.wake_up.depth.pushed.0.fetch_add(1, Ordering::Relaxed);
        }
        self.wake_up.wake();
        result
    }
}

impl<T> Inbox<T> {
    /// Begins a round of [`pop`](Self::pop): pushes from here on wake the loop again.
    pub(crate) fn open(&self) {
        self.wake_up.is_due.swap(false, Ordering::AcqRel);
    }

    /// The next item; `None` when there is none now.
    pub(crate) fn pop(&self) -> Option<T> {
        let item = self.queue.try_recv().ok()?;
        let popped = &self.wake_up.depth.popped.0;
        // The loop is the only writer, so this needs no locked instruction.
        popped.store(popped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Some(item)
    }
}

/// The inboxes of all reactors, and which of them a client belongs to.
#[derive(Debug)]
pub(crate) struct Reactors<S = Transport>(Arc<[InboxSender<Command<S>>]>);

impl<S> Clone for Reactors<S> {
    fn clone(&self) -> Self {
        Reactors(Arc::clone(&self.0))
    }
}

impl<S> Reactors<S> {
    pub(crate) fn new(inboxes: Vec<InboxSender<Command<S>>>) -> Self {
        Reactors(inboxes.into())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn all(&self) -> &[InboxSender<Command<S>>] {
        &self.0
    }

    /// Place of the reactor that holds all connections of `client`.
    ///
    /// Independent of the node rule, by which all clients of a node share a remainder.
    pub(crate) fn index_of(&self, client: &ClientId) -> usize {
        let bits = match client {
            ClientId::Int(id) => *id as u64,
            ClientId::Guid(guid) => {
                let [a, b, c, d, e, f, g, h, rest @ ..] = *guid;
                u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_le_bytes(rest)
            }
            ClientId::Text(text) => text.place(),
        };
        // Fibonacci hashing: the high bits of the product depend on all bits of the id.
        let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((mixed * self.0.len() as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use mio::Events;

    use super::*;

    #[test]
    fn no_item_is_left_asleep() {
        const ITEMS: usize = 20_000;
        let mut poll = Poll::new().unwrap();
        let (sender, inbox) = inbox(&poll, Token(0), 16).unwrap();
        let pushers: Vec<_> = (0..4)
            .map(|_| {
                let sender = sender.clone();
                thread::spawn(move || (0..ITEMS).for_each(|item| sender.push(item).unwrap()))
            })
            .collect();
        let mut events = Events::with_capacity(4);
        let mut seen = 0;
        while seen < 4 * ITEMS {
            poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
            assert!(!events.is_empty(), "a push did not wake the loop");
            inbox.open();
            seen += std::iter::from_fn(|| inbox.pop()).count();
        }
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        assert_eq!(sender.depth().get(), 0);
        sender.push(1).unwrap();
        assert_eq!(sender.depth().get(), 1);
    }

    #[test]
    fn an_ended_loop_gives_the_item_back() {
        let poll = Poll::new().unwrap();
        let (sender, inbox) = inbox(&poll, Token(0), 1).unwrap();
        assert_eq!(sender.push(1), Ok(()));
        drop(inbox);
        assert_eq!(sender.push(3), Err(3));
    }
}
