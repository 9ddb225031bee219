//! The thread that hands presence events to the business's callback.
//!
//! Started by `ImClient::watch_presence`. A callback that panics is reported and costs one event.

use std::{
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
    broker::{EventSubscription, PresenceEvent},
    error::{Error, ErrorKind, Result},
};

/// How long the thread may overlook that it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(200);

/// A running event subscription; dropping it stops the callbacks.
///
/// ```
/// # let im = imcore::example_client()?;
/// use std::sync::mpsc::channel;
///
/// // Callbacks run one at a time on the thread of the watch; work that takes longer goes elsewhere.
/// let (queue, work) = channel();
/// let events = im.on_presence(move |client, _| drop(queue.send(client)), |_, _| {})?;
/// events.stop();
/// assert_eq!(work.iter().count(), 0);
/// # Ok::<(), imcore::Error>(())
/// ```
#[must_use = "dropping the handle stops the events; keep it, or call detach()"]
#[derive(Debug)]
pub struct PresenceWatch {
    signals: Arc<Signals>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Signals {
    stop: AtomicBool,
    listening: AtomicBool,
}

impl PresenceWatch {
    pub(super) fn start(
        mut subscription: Box<dyn EventSubscription>,
        callback: impl Fn(PresenceEvent) + Send + 'static,
    ) -> Result<Self> {
        let signals = Arc::new(Signals::default());
        let first = subscription.next(STOP_CHECK);
        let listens = matches!(first, Ok(Some(PresenceEvent::Listening)));
        signals.listening.store(listens, Ordering::Release);
        let thread = thread::Builder::new()
            .name("im-events".into())
            .spawn({
                let signals = Arc::clone(&signals);
                move || run(subscription, first, &signals, &callback)
            })
            .map_err(|error| {
                Error::new(ErrorKind::Io, "cannot start the event thread").with_source(error)
            })?;
        Ok(PresenceWatch { signals, thread: Some(thread) })
    }

    /// Whether the subscription stands at this moment.
    pub fn is_listening(&self) -> bool {
        self.signals.listening.load(Ordering::Acquire)
    }

    /// Stops the thread and waits for a callback that is running. No callback starts afterwards.
    pub fn stop(self) {
        drop(self);
    }

    /// Lets the events go on until the process ends.
    pub fn detach(mut self) {
        self.thread = None;
    }
}

impl Drop for PresenceWatch {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.signals.stop.store(true, Ordering::Release);
        // A callback may drop its own handle; a thread cannot wait for itself.
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}

fn run(
    mut subscription: Box<dyn EventSubscription>,
    first: Result<Option<PresenceEvent>>,
    signals: &Signals,
    callback: &dyn Fn(PresenceEvent),
) {
    let mut backoff = Backoff::default();
    let mut next = first;
    while !signals.stop.load(Ordering::Acquire) {
        match next {
            Ok(event) => {
                backoff.works(Instant::now());
                if event == Some(PresenceEvent::Listening) {
                    signals.listening.store(true, Ordering::Release);
                }
                if let Some(event) = event {
                    call(callback, event);
                }
            }
            Err(error) => {
                signals.listening.store(false, Ordering::Release);
                if backoff.is_news(&error) {
                    log::warn!("presence events are missed until the broker is back: {error}");
                }
                backoff.sleep(|| signals.stop.load(Ordering::Acquire));
            }
        }
        next = subscription.next(STOP_CHECK);
    }
}

fn call(callback: &dyn Fn(PresenceEvent), event: PresenceEvent) {
    let what = format!("{event:?}");
    if catch_unwind(AssertUnwindSafe(|| callback(event))).is_err() {
        log::error!("a presence callback panicked at {what}");
    }
}
