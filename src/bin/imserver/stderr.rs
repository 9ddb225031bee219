//! Standard error, written to by a thread of its own: a thread that logs never waits for the program that reads the
//! lines.
//!
//! What waits is bounded. Lines that find no room, or that cannot be written, are counted, and once lines go
//! through again one of them says how many are missing. Called by `logging` alone; knows nothing of levels
//! and formats.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Condvar, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Bytes that may wait: some thousand lines, a few seconds of the worst noise.
const MOST: usize = 1 << 20;
/// What a waiting line takes besides its bytes.
const OVERHEAD: usize = 64;
/// Pause before the next try where standard error does not block, and is full.
const PAUSE: Duration = Duration::from_millis(10);

/// A line with its line break.
type Line = Vec<u8>;

/// The one standard error of the process.
pub(crate) static STDERR: Stderr = Stderr {
    queue: Mutex::new(Queue {
        entries: VecDeque::new(),
        bytes: 0,
        unreported: 0,
        writing: false,
        report: |_| Vec::new(),
    }),
    more: Condvar::new(),
    written: Condvar::new(),
    dropped: AtomicU64::new(0),
    started: Once::new(),
    runs: AtomicBool::new(false),
};

pub(crate) struct Stderr {
    queue: Mutex<Queue>,
    /// There is something to write.
    more: Condvar,
    /// All is written.
    written: Condvar,
    dropped: AtomicU64,
    started: Once,
    runs: AtomicBool,
}

struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Lines that were dropped since the last [`Entry::Dropped`].
    unreported: u64,
    /// The thread has taken an entry and is not done with it.
    writing: bool,
    /// Makes the line that says how many are missing.
    report: fn(u64) -> Line,
}

enum Entry {
    Line(Line),
    /// In the place of so many lines.
    Dropped(u64),
}

impl Stderr {
    /// Queues a line, or counts it as dropped. Never waits.
    pub(crate) fn write_line(&'static self, line: Line) {
        self.push(line, MOST);
    }

    /// Queues a line that must not be dropped, however many wait: there are few of its kind.
    pub(crate) fn write_line_always(&'static self, line: Line) {
        self.push(line, usize::MAX);
    }

    /// Waits until all is written, for `patience` at most.
    pub(crate) fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut queue = self.lock();
        while self.runs.load(Ordering::Relaxed) && (queue.writing || !queue.entries.is_empty()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue =
                self.written.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lines that were dropped: there was no room, or they could not be written.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How to say that lines are missing.
    pub(crate) fn report_with(&self, report: fn(u64) -> Line) {
        self.lock().report = report;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&'static self, line: Line, most: usize) {
        self.started.call_once(|| {
            let thread = thread::Builder::new().name("log".into()).spawn(|| self.run());
            self.runs.store(thread.is_ok(), Ordering::Relaxed);
        });
        if !self.runs.load(Ordering::Relaxed) {
            // Without a thread there is no better way, and hardly a process either.
            let _ = io::stderr().write_all(&line);
            return;
        }
        let mut queue = self.lock();
        let size = line.len() + OVERHEAD;
        if queue.bytes + size > most {
            queue.unreported += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.report_dropped();
        queue.bytes += size;
        queue.entries.push_back(Entry::Line(line));
        drop(queue);
        self.more.notify_one();
    }

    /// Writes whatever comes, to the end of the process.
    fn run(&self) {
        let mut works = true;
        loop {
            let entry = self.next(works);
            let queue = self.lock();
            let report = queue.report;
            drop(queue);
            works = match &entry {
                Entry::Line(line) => write(line),
                Entry::Dropped(count) => write(&report(*count)),
            }
            .is_ok();
            if !works {
                let mut queue = self.lock();
                match entry {
                    Entry::Line(_) => {
                        queue.unreported += 1;
                        self.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                    Entry::Dropped(count) => queue.unreported += count,
                }
            }
        }
    }

    /// Waits for something to write. That lines are missing is said as soon as writing works again.
    fn next(&self, works: bool) -> Entry {
        let mut queue = self.lock();
        queue.writing = false;
        loop {
            if queue.entries.is_empty() && works {
                queue.report_dropped();
            }
            if let Some(entry) = queue.entries.pop_front() {
                if let Entry::Line(line) = &entry {
                    queue.bytes -= line.len() + OVERHEAD;
                }
                queue.writing = true;
                return entry;
            }
            self.written.notify_all();
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn report_dropped(&mut self) {
        if self.unreported > 0 {
            self.entries.push_back(Entry::Dropped(std::mem::take(&mut self.unreported)));
        }
    }
}

/// Writes a line to its end, however long that takes.
fn write(mut line: &[u8]) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    while !line.is_empty() {
        match stderr.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => line = &line[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The process that shares it may have made it non-blocking for both.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
