//! Whether the threads of a node turn: each says when it waits and when it works, and a watch thread
//! looks at all of them every second.
//!
//! Threads are given their [`Beat`] when they are spawned and say what they do through [`wait`] and [`call`];
//! those that were given none (tests of a part) say it to nobody. Counted is by looks of the watch
//! thread and not by a clock: a process or machine that was suspended has no stuck threads when it goes on.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Looks at which a thread is seen in the same piece of work before it counts as stuck. No turn of a loop
/// takes that long, and health has to say it within 10 s.
const WORK_LOOKS: u32 = 8;
/// Looks at which a thread is seen in the same call to the broker before it counts as stuck. The call's own
/// deadlines end it much sooner, but looking up the name of a broker can take as long as the resolver likes, and restarting a node does not mend that.
const CALL_LOOKS: u32 = 60;

/// States of a beat, in its low bits; the rest counts changes.
const WAITS: u64 = 0;
const WORKS: u64 = 1;
const CALLS: u64 = 2;
const STATES: u64 = 4;

thread_local! {
    static OWN: RefCell<Option<Beat>> = const { RefCell::new(None) };
}

/// What one thread says of itself. Written by that thread alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beat(Arc<AtomicU64>);

impl Beat {
    fn say(&self, state: u64) {
        let count = self.0.load(Ordering::Relaxed) / STATES;
        self.0.store(count.wrapping_add(1) * STATES + state, Ordering::Relaxed);
    }

    /// Makes this the beat of the calling thread while `run` runs.
    pub(crate) fn during<T>(self, run: impl FnOnce() -> T) -> T {
        self.say(WORKS);
        OWN.set(Some(self));
        let result = run();
        say(WAITS);
        OWN.set(None);
        result
    }
}

fn say(state: u64) {
    OWN.with_borrow(|beat| {
        if let Some(beat) = beat {
            beat.say(state);
        }
    });
}

/// Runs something that may take any time because there is nothing to do.
pub(crate) fn wait<T>(waiting: impl FnOnce() -> T) -> T {
    say(WAITS);
    let result = waiting();
    say(WORKS);
    result
}

/// Runs a call to the broker.
pub(crate) fn call<T>(calling: impl FnOnce() -> T) -> T {
    say(CALLS);
    let result = calling();
    say(WORKS);
    result
}

/// Says that a long piece of work goes on.
pub(crate) fn progress() {
    say(WORKS);
}

/// The beats of all threads of a node, and which of them are stuck.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    threads: Mutex<Vec<Thread>>,
    stuck: Mutex<Vec<String>>,
    started: Instant,
    /// Milliseconds from `started` to the last look.
    looked: AtomicU64,
}

#[derive(Debug)]
struct Thread {
    name: String,
    beat: Beat,
    seen: u64,
    /// Looks since then at which nothing had changed.
    looks: u32,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Heartbeats {
            threads: Mutex::default(),
            stuck: Mutex::default(),
            started: Instant::now(),
            looked: AtomicU64::new(0),
        }
    }
}

impl Heartbeats {
    /// The beat of a new thread called `name`.
    pub(crate) fn add(&self, name: &str) -> Beat {
        let beat = Beat::default();
        let thread = Thread { name: name.to_owned(), beat: beat.clone(), seen: 0, looks: 0 };
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        beat
    }

    /// Looks every second until `stop` has no sender any more. Tells `looked` at each whether any thread is
    /// stuck, before anything is logged: whatever the threads are stuck in may be the log.
    pub(crate) fn watch(&self, stop: &Receiver<()>, mut looked: impl FnMut(bool)) {
        while stop.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            let at = self.started.elapsed().as_millis() as u64;
            self.looked.store(at, Ordering::Relaxed);
            let now = self.look();
            let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::replace(&mut *stuck, now.clone());
            drop(stuck);
            looked(!now.is_empty());
            for name in now.iter().filter(|name| !before.contains(name)) {
                log::error!(
                    "{name} is stuck: it has not turned for {WORK_LOOKS} s or more; restart this node"
                );
            }
            for name in before.iter().filter(|name| !now.contains(name)) {
                log::warn!("{name} turns again");
            }
        }
        // From here on nobody looks, and nobody is to conclude that this thread is stuck.
        self.looked.store(u64::MAX, Ordering::Relaxed);
    }

    fn look(&self) -> Vec<String> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.iter_mut().filter_map(|thread| thread.look().then(|| thread.name.clone())).collect()
    }

    /// Which threads do not turn, if any: one sentence.
    pub(crate) fn stalled(&self) -> Option<String> {
        let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner).join(", ");
        let looked = Duration::from_millis(self.looked.load(Ordering::Relaxed));
        let unwatched = self.started.elapsed().saturating_sub(looked);
        match stuck.is_empty() {
            false => Some(format!("{stuck}: not turning; restart this node")),
            // The watch thread itself, which stops with the node.
            true if unwatched > LOOK * (WORK_LOOKS + 1) => {
                Some("im-watch: not turning; restart this node".into())
            }
            true => None,
        }
    }
}

impl Thread {
    /// Looks once; true if the thread is stuck.
    fn look(&mut self) -> bool {
        let now = self.beat.0.load(Ordering::Relaxed);
        let bound = match now % STATES {
            WORKS => WORK_LOOKS,
            CALLS => CALL_LOOKS,
            _ => u32::MAX,
        };
        self.looks = if now == self.seen { self.looks.saturating_add(1) } else { 0 };
        self.seen = now;
        self.looks >= bound && bound != u32::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many looks the thread counts as stuck.
    fn looks_until_stuck(heartbeats: &Heartbeats) -> Option<u32> {
        (1..=100).find(|_| !heartbeats.look().is_empty())
    }

    #[test]
    fn work_that_does_not_end_is_stuck_and_waiting_is_not() {
        let heartbeats = Heartbeats::default();
        let beat = heartbeats.add("t");
        assert_eq!(looks_until_stuck(&heartbeats), None, "not started");
        beat.during(|| {
            assert_eq!(looks_until_stuck(&heartbeats), Some(WORK_LOOKS + 1));
            wait(|| assert_eq!(looks_until_stuck(&heartbeats), None));
            call(|| assert_eq!(looks_until_stuck(&heartbeats), Some(CALL_LOOKS + 1)));
            for _ in 0..100 {
                assert!(heartbeats.look().is_empty(), "a thread that turns is not stuck");
                wait(|| ());
            }
            for _ in 0..100 {
                assert!(heartbeats.look().is_empty(), "nor is one whose work goes on");
                progress();
            }
        });
        assert_eq!(looks_until_stuck(&heartbeats), None, "ended");
    }
}
