//! Who owns whom, as this client of ours knows it: a list that was given, or the broker's table of slots, which is followed.
//!
//! Asked by every call that names clients. What is followed is read again when it is older than [`FRESH`], and when the
//! broker says that it has changed.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    broker::Broker,
    error::{Error, ErrorKind, Result},
    placement::Placement,
};

/// For how long a table is good without asking. Nodes forward what comes later to where it belongs, and wait longer than this
/// before they own anything.
const FRESH: Duration = Duration::from_secs(1);

/// Cheap to clone.
#[derive(Clone)]
pub(super) enum Routes {
    Fixed(Placement),
    Followed(Arc<Followed>),
}

/// The table, and when it was read; `None` before the first time.
#[derive(Default)]
pub(super) struct Followed {
    known: Mutex<Option<(Placement, Instant)>>,
}

impl Routes {
    /// Who owns whom now. Asks the broker if that is not known well enough.
    pub(super) fn now(&self, broker: &dyn Broker) -> Result<Placement> {
        match self {
            Routes::Fixed(placement) => Ok(placement.clone()),
            Routes::Followed(followed) => followed.now(broker, Some(FRESH)),
        }
    }

    /// Who owns whom at this moment, which the broker is asked for: a client that was sent on asks where to before others know.
    pub(super) fn certain(&self, broker: &dyn Broker) -> Result<Placement> {
        match self {
            Routes::Fixed(placement) => Ok(placement.clone()),
            Routes::Followed(followed) => followed.now(broker, None),
        }
    }
}

impl Followed {
    fn now(&self, broker: &dyn Broker, fresh: Option<Duration>) -> Result<Placement> {
        // Several threads at once may ask: better than that one waits for another's call.
        let known = self.lock().clone();
        let asked = Instant::now();
        if let Some((placement, read)) = known {
            if fresh.is_some_and(|fresh| asked.duration_since(read) < fresh) {
                return Ok(placement);
            }
            if placement.version() == Some(broker.slot_version()?) {
                self.keep(&placement, asked);
                return Ok(placement);
            }
        }
        let table = broker.slot_table()?.ok_or_else(|| {
            let detail = "no node stands in the table of slots; start one with the setting slots";
            Error::new(ErrorKind::Unavailable, detail)
        })?;
        let placement = Placement::slots(table);
        self.keep(&placement, asked);
        Ok(placement)
    }

    /// A slow answer does not take the place of a later one.
    fn keep(&self, placement: &Placement, asked: Instant) {
        let mut known = self.lock();
        if known.as_ref().is_none_or(|(_, read)| *read < asked) {
            *known = Some((placement.clone(), asked));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Placement, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Routes::Fixed(placement) => placement.fmt(f),
            Routes::Followed(_) => f.write_str("Slots"),
        }
    }
}
