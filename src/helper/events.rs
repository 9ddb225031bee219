//! Events that nobody misses: the thread that reads them in the name of a group, and the calls of `ImClient` for it.
//!
//! Started on any business thread. The broker keeps what was not acknowledged; here is only what is under way.

use std::{
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    backoff::Backoff,
    broker::{Broker, EventBatch, EventGroup, EventReader, EventStart},
    error::{Error, ErrorKind, Result},
    helper::client::ImClient,
    token::random_u64,
    wire::{Event, EventKind},
};

/// How long the thread may overlook that it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(500);

/// Events that are read at once.
const BATCH: usize = 256;

/// What was given to a reader so long ago, and is not acknowledged, another takes over.
const TAKE_OVER: Duration = Duration::from_secs(30);

/// How long a batch is worked on before it is asked for again: what others have not taken over by then is still ours.
const HOLD: Duration = Duration::from_secs(15);

/// What was handled for so long is acknowledged before more is handled: no more than that comes twice if the process dies.
const ACKNOWLEDGE: Duration = Duration::from_millis(100);

/// Longest name of a group.
const GROUP_BYTES: usize = 128;

impl ImClient {
    /// Calls `handler` with each event about connections, clients and nodes, until it has returned `Ok`: also with those that
    /// happened while no process of the group ran, for a day. Processes that name the same `group` share the events, each
    /// is handled by one of them. A group begins with what happens from now on; see [`events_from`](Self::events_from).
    ///
    /// On Redis nodes write them if their setting `events` says how many to keep.
    ///
    /// - **At least once.** What a process that died had not acknowledged, another handles 30 s later. So an event may come
    ///   twice, and among several processes in another order: of two events of one client that with the higher
    ///   [`n`](Event::n) is the newer.
    /// - An event whose handler returns `Err`, or panics, comes again, here after a pause; those behind it wait. After 15 s
    ///   they are left to another process of the group, if there is one. Return `Ok` for what you can do nothing about.
    /// - What was trimmed before the group was given it comes as [`EventKind::Missed`]: ask who is online.
    ///
    /// Runs on a thread of its own, one call at a time, reconnects for ever, and ends when the returned handle is dropped or
    /// [stopped](EventStream::stop).
    ///
    /// # Errors
    /// [`Argument`](ErrorKind::Argument) for a group without a name or with one above 128 bytes; [`Io`](ErrorKind::Io) if
    /// the thread cannot be started.
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// use imcore::EventKind;
    ///
    /// let events = im.events("billing", |event| {
    ///     match &event.kind {
    ///         EventKind::Online => println!("{:?} is here", event.client),
    ///         EventKind::Offline => println!("{:?} is gone: {}", event.client, event.reason),
    ///         EventKind::Missed(count) => println!("{count:?} events are lost: ask who is online"),
    ///         _ => {}
    ///     }
    ///     std::io::Result::Ok(()) // an error of your own: it comes again
    /// })?;
    /// events.stop(); // or keep it, or detach()
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn events<E: Display>(
        &self,
        group: &str,
        handler: impl FnMut(&Event) -> std::result::Result<(), E> + Send + 'static,
    ) -> Result<EventStream> {
        self.events_from(group, EventStart::New, handler)
    }

    /// As [`events`](Self::events), and a group that is not known yet begins there.
    ///
    /// # Errors
    /// As of [`events`](Self::events).
    pub fn events_from<E: Display>(
        &self,
        group: &str,
        start: EventStart,
        handler: impl FnMut(&Event) -> std::result::Result<(), E> + Send + 'static,
    ) -> Result<EventStream> {
        if group.is_empty() || group.len() > GROUP_BYTES {
            let detail = format!("the name of a group of readers has 1 to {GROUP_BYTES} bytes");
            return Err(Error::argument(detail));
        }
        let reader = EventReader {
            group: group.to_owned(),
            consumer: format!("{:016x}", random_u64()?),
            start,
            take_over: TAKE_OVER,
            after: None,
        };
        EventStream::start(Arc::clone(self.broker()), reader, handler)
    }

    /// All groups of readers that there are, by name: how far each is, and who reads in its name.
    ///
    /// # Errors
    /// The broker's.
    pub fn event_groups(&self) -> Result<Vec<EventGroup>> {
        self.broker().event_groups()
    }

    /// Ends a group of readers: nothing is kept for it any more, and its lag is nobody's. Whether there was one. Who still reads
    /// in its name makes it anew.
    ///
    /// # Errors
    /// The broker's.
    pub fn forget_event_group(&self, group: &str) -> Result<bool> {
        self.broker().forget_event_group(group)
    }
}

/// Events that are being read; dropping it stops the calls.
#[must_use = "dropping the handle stops the events; keep it, or call detach()"]
#[derive(Debug)]
pub struct EventStream {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EventStream {
    fn start<E: Display>(
        broker: Arc<dyn Broker>,
        reader: EventReader,
        handler: impl FnMut(&Event) -> std::result::Result<(), E> + Send + 'static,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut reading = Reading {
            broker,
            reader,
            handler,
            stop: Arc::clone(&stop),
            known: false,
            backoff: Backoff::default(),
        };
        // What happens once this has returned belongs to the group.
        let first = reading.read(Duration::ZERO);
        let thread = thread::Builder::new()
            .name("im-events".into())
            .spawn(move || reading.run(first))
            .map_err(|error| {
                Error::new(ErrorKind::Io, "cannot start the event thread").with_source(error)
            })?;
        Ok(EventStream { stop, thread: Some(thread) })
    }

    /// Stops the thread and waits for a call of the handler that is running. What it has not handled is kept for the group.
    pub fn stop(self) {
        drop(self);
    }

    /// Lets the events go on until the process ends.
    pub fn detach(mut self) {
        self.thread = None;
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stop.store(true, Ordering::Release);
        // A handler may drop its own handle; a thread cannot wait for itself.
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Reading<H> {
    broker: Arc<dyn Broker>,
    reader: EventReader,
    handler: H,
    stop: Arc<AtomicBool>,
    /// The group was there, or made, when it was read last.
    known: bool,
    backoff: Backoff,
}

impl<E: Display, H: FnMut(&Event) -> std::result::Result<(), E>> Reading<H> {
    fn run(mut self, first: Result<EventBatch>) {
        let mut next = first;
        while !self.is_stopped() {
            match next {
                Ok(batch) => {
                    self.backoff.works(Instant::now());
                    self.handle(batch);
                }
                Err(error) => {
                    if self.backoff.is_news(&error) {
                        log::warn!("events wait in the broker until they can be read: {error}");
                    }
                    self.backoff.sleep(|| self.stop.load(Ordering::Acquire));
                }
            }
            if self.is_stopped() {
                break;
            }
            next = self.read(STOP_CHECK);
        }
        if let Err(error) = self.broker.leave_events(&self.reader) {
            log::debug!("the group {} keeps a reader that is gone: {error}", self.reader.group);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn read(&mut self, wait: Duration) -> Result<EventBatch> {
        let mut batch = self.broker.read_events(&self.reader, BATCH, wait)?;
        batch.created &= self.known;
        // Should the broker lose the group, all that is there then is new.
        (self.known, self.reader.start) = (true, EventStart::All);
        Ok(batch)
    }

    fn handle(&mut self, batch: EventBatch) {
        let since = Instant::now();
        let lost = batch.created.then(|| Event::missed(None));
        let missed = (batch.missed > 0).then(|| Event::missed(Some(batch.missed)));
        let (mut done, mut acknowledged) = (Done::default(), since);
        for event in lost.iter().chain(&missed).chain(&batch.events) {
            if !self.succeed(event, since, &mut done) {
                break;
            }
            done.add(event);
            if acknowledged.elapsed() >= ACKNOWLEDGE {
                self.acknowledge(&mut done);
                acknowledged = Instant::now();
            }
            // What others take over meanwhile must not be handled here too.
            if since.elapsed() >= HOLD {
                break;
            }
        }
        self.acknowledge(&mut done);
    }

    /// Calls the handler until it succeeds; false when this is to be left to others, or to be asked for again.
    fn succeed(&mut self, event: &Event, since: Instant, done: &mut Done) -> bool {
        let mut pauses = Backoff::default();
        loop {
            if self.is_stopped() {
                return false;
            }
            let called = catch_unwind(AssertUnwindSafe(|| (self.handler)(event)));
            let why = match called {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => error.to_string(),
                Err(_) => String::from("it panicked"),
            };
            if pauses.is_first() {
                let (group, word) = (&self.reader.group, event.kind.word());
                log::warn!("handler of {group}: event {word:?} {} comes again: {why}", event.id);
            }
            // Those before it are not to come again with it.
            self.acknowledge(done);
            pauses.sleep(|| self.stop.load(Ordering::Acquire));
            if since.elapsed() >= HOLD {
                // If any other reader is there, it gets them now.
                while since.elapsed() < TAKE_OVER + HOLD && !self.is_stopped() {
                    thread::sleep(STOP_CHECK);
                }
                return false;
            }
        }
    }

    /// What is not acknowledged would come again, so this is tried as long as it is worth it.
    fn acknowledge(&mut self, done: &mut Done) {
        let Done { ids, missed } = std::mem::take(done);
        if ids.is_empty() && missed == 0 {
            return;
        }
        let until = Instant::now() + TAKE_OVER;
        while let Err(error) = self.broker.acknowledge_events(&self.reader, missed, &ids) {
            if !error.is_retryable() || self.is_stopped() || Instant::now() >= until {
                log::warn!("{} events that were handled may come again: {error}", ids.len());
                return;
            }
            self.backoff.sleep(|| self.stop.load(Ordering::Acquire));
        }
    }
}

/// What was handled and is not acknowledged yet.
#[derive(Default)]
struct Done {
    ids: Vec<String>,
    missed: u64,
}

impl Done {
    fn add(&mut self, event: &Event) {
        match event.kind {
            EventKind::Missed(count) => self.missed = count.unwrap_or_default(),
            _ => self.ids.push(event.id.clone()),
        }
    }
}
