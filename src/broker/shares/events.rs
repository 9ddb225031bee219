//! The presence events of several Redis, as one subscription.
//!
//! Read on a thread of the business. Each Redis is heard on a thread of its own, which ends with the subscription: one that is
//! away keeps nobody from hearing the others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    backoff::Backoff,
    broker::contract::{EventSubscription, PresenceEvent},
    error::{Error, ErrorKind, Result},
};

/// Events that wait for the subscriber; who does not fetch them is cut off by Redis, and told.
const WAITING: usize = 1024;
/// How long a thread may overlook that nobody listens any more.
const CHECK: Duration = Duration::from_millis(500);

/// What one of them said.
type Said = (usize, Result<PresenceEvent>);

pub(super) struct SharesEvents {
    /// Until they are listened to.
    idle: Vec<Box<dyn EventSubscription>>,
    heard: Option<Receiver<Said>>,
    /// To which of them the subscription stands.
    stands: Vec<bool>,
    ended: Arc<AtomicBool>,
}

impl SharesEvents {
    pub(super) fn new(all: Vec<Box<dyn EventSubscription>>) -> Self {
        SharesEvents {
            stands: vec![false; all.len()],
            idle: all,
            heard: None,
            ended: Arc::default(),
        }
    }

    fn listen(&mut self) -> Result<Receiver<Said>> {
        let (says, heard) = sync_channel(WAITING);
        for (share, subscription) in self.idle.drain(..).enumerate() {
            let (says, ended) = (says.clone(), Arc::clone(&self.ended));
            let thread = thread::Builder::new().name("im-share-events".into());
            let spawned = thread.spawn(move || hear(share, subscription, &says, &ended));
            spawned.map_err(|error| {
                let detail = "no thread for the events of one of several Redis";
                Error::new(ErrorKind::Io, detail).with_source(error)
            })?;
        }
        Ok(heard)
    }
}

impl EventSubscription for SharesEvents {
    fn next(&mut self, timeout: Duration) -> Result<Option<PresenceEvent>> {
        let deadline = Instant::now() + timeout;
        if self.heard.is_none() {
            self.heard = Some(self.listen()?);
        }
        let Some(heard) = &self.heard else { return Ok(None) };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (share, said) = match heard.recv_timeout(left) {
                Ok(said) => said,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(ErrorKind::Io, "nobody hears the events any more"));
                }
            };
            match &said {
                Ok(PresenceEvent::Listening) => self.stands[share] = true,
                Ok(_) => return said.map(Some),
                Err(_) => self.stands[share] = false,
            }
            // It listens once it does so to all.
            if said.is_err() || self.stands.iter().all(|stands| *stands) {
                return said.map(Some);
            }
        }
    }
}

impl Drop for SharesEvents {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// Hands on what one Redis says until nobody listens any more.
fn hear(
    share: usize,
    mut subscription: Box<dyn EventSubscription>,
    says: &SyncSender<Said>,
    ended: &AtomicBool,
) {
    let mut backoff = Backoff::default();
    while !ended.load(Ordering::Acquire) {
        let said = match subscription.next(CHECK) {
            Ok(None) => continue,
            Ok(Some(event)) => {
                backoff.reset();
                Ok(event)
            }
            Err(error) => Err(error),
        };
        let has_failed = said.is_err();
        if says.send((share, said)).is_err() {
            return;
        }
        if has_failed {
            backoff.sleep(|| ended.load(Ordering::Acquire));
        }
    }
}
