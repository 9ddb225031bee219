//! Threads that wait for something to do: one call to several Redis goes to all of them at the same time.
//!
//! Kept by `Shares`, used by its verbs; knows neither them nor Redis. A thread is made when none is idle, and ends when it has
//! been for a while: to start one for each call would cost more than the call.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How long a thread without work is kept.
const IDLE: Duration = Duration::from_secs(10);

/// What is to be done; it says when nothing is left but to tell its answer.
type Job = Box<dyn FnOnce(&dyn Fn()) + Send>;

/// The way to a thread that is idle, by its number.
type Idle = (u64, Sender<Job>);

/// What a job came to.
type Answer<T> = Receiver<thread::Result<T>>;

#[derive(Default)]
pub(super) struct Crew(Arc<Hall>);

/// Where idle threads are found.
#[derive(Default)]
struct Hall(Mutex<State>);

#[derive(Default)]
struct State {
    idle: Vec<Idle>,
    /// How many threads were ever made.
    made: u64,
}

impl Hall {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crew {
    /// Calls with each of `jobs`, all at the same time, the first on this thread; the answers in their order.
    pub(super) fn at_once<J: Send + 'static, T: Send + 'static>(
        &self,
        jobs: Vec<J>,
        call: impl Fn(J) -> T + Send + Sync + 'static,
    ) -> Vec<T> {
        let call = Arc::new(call);
        let mut jobs = jobs.into_iter();
        let Some(first) = jobs.next() else { return Vec::new() };
        let others: Vec<_> = jobs.map(|job| self.begin(job, &call)).collect();
        let mut answers = vec![call(first)];
        for answer in others {
            match answer.recv() {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err(panic)) => resume_unwind(panic),
                Err(_) => unreachable!("a job always answers"),
            }
        }
        answers
    }

    /// As [`at_once`](Self::at_once), each on another thread; `None` of those that take longer than `patience`, and go on.
    pub(super) fn within<J: Send + 'static, T: Send + 'static>(
        &self,
        patience: Duration,
        jobs: Vec<J>,
        call: impl Fn(J) -> T + Send + Sync + 'static,
    ) -> Vec<Option<T>> {
        let call = Arc::new(call);
        let answers: Vec<_> = jobs.into_iter().map(|job| self.begin(job, &call)).collect();
        let deadline = Instant::now() + patience;
        let wait = |answer: Answer<T>| {
            let left = deadline.saturating_duration_since(Instant::now());
            match answer.recv_timeout(left) {
                Ok(Ok(answer)) => Some(answer),
                Ok(Err(panic)) => resume_unwind(panic),
                Err(_) => None,
            }
        };
        answers.into_iter().map(wait).collect()
    }

    /// Calls with `job` on another thread.
    fn begin<J: Send + 'static, T: Send + 'static>(
        &self,
        job: J,
        call: &Arc<impl Fn(J) -> T + Send + Sync + 'static>,
    ) -> Answer<T> {
        let (says, answer) = channel();
        let call = Arc::clone(call);
        self.give(Box::new(move |is_done| {
            let said = catch_unwind(AssertUnwindSafe(|| call(job)));
            is_done();
            // Nobody may wait any more.
            drop(says.send(said));
        }));
        answer
    }

    /// Has an idle thread do it, or a new one; this one, where there are no more threads.
    fn give(&self, job: Job) {
        let next = self.0.lock().idle.pop();
        let job = match next {
            Some((_, idle)) => match idle.send(job) {
                Ok(()) => return,
                Err(job) => job.0,
            },
            None => job,
        };
        let (way, jobs) = channel::<Job>();
        let hall = Arc::clone(&self.0);
        let number = {
            let mut state = hall.lock();
            state.made += 1;
            state.made
        };
        let thread = thread::Builder::new().name("im-share".into());
        let own = way.clone();
        match thread.spawn(move || work(&hall, number, &own, &jobs)) {
            Ok(_) => drop(way.send(job)),
            Err(_) => job(&|| {}),
        }
    }
}

/// Does what comes, until nothing has for a while.
fn work(hall: &Hall, number: u64, own: &Sender<Job>, jobs: &Receiver<Job>) {
    loop {
        let job = match jobs.recv_timeout(IDLE) {
            Ok(job) => job,
            Err(_) => {
                let mut state = hall.lock();
                let before = state.idle.len();
                state.idle.retain(|(other, _)| *other != number);
                if state.idle.len() < before {
                    return;
                }
                drop(state);
                // It was given something at this moment.
                let Ok(job) = jobs.recv() else { return };
                job
            }
        };
        job(&|| hall.lock().idle.push((number, own.clone())));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn all_are_under_way_at_the_same_time() {
        let crew = Crew::default();
        for _ in 0..100 {
            let meeting = Arc::new(Barrier::new(4));
            let jobs: Vec<_> = (0..4).map(|number| (number, Arc::clone(&meeting))).collect();
            let answers = crew.at_once(jobs, |(number, meeting)| {
                meeting.wait();
                number * 10
            });
            assert_eq!(answers, [0, 10, 20, 30]);
        }
        assert!(crew.at_once(Vec::<u8>::new(), |job| job).is_empty());
        assert!(crew.0.lock().made < 50, "threads are kept");
    }

    #[test]
    fn who_takes_too_long_is_not_waited_for() {
        let crew = Crew::default();
        let (let_go, held) = channel::<()>();
        let jobs = vec![(1, None), (2, Some(held)), (3, None)];
        let answers = crew.within(Duration::from_millis(50), jobs, |(number, held)| {
            held.map(|held: Receiver<()>| held.recv());
            number
        });
        assert_eq!(answers[1], None);
        drop(let_go);
        assert_eq!(crew.within(Duration::from_secs(30), vec![4], |job| job), [Some(4)]);
    }

    #[test]
    fn a_panic_comes_to_the_caller_and_costs_no_thread() {
        let crew = Crew::default();
        for _ in 0..3 {
            let panic = catch_unwind(AssertUnwindSafe(|| {
                crew.at_once(vec![1, 2], |job| assert!(job < 2, "two"));
            }));
            assert!(panic.is_err());
        }
        assert_eq!(crew.at_once(vec![1, 2], |job| job), [1, 2]);
    }
}
