//! What is told to the business: presence events as they happen, and events that are kept. Read by threads of helpers.

use std::time::{Duration, SystemTime};

use crate::{
    error::Result,
    wire::{Event, Ticket},
};

/// Presence events for the business.
pub trait EventSubscription: Send {
    /// Waits up to `timeout` for the next event; `None` if there was none. After an error the next
    /// call connects anew and starts with [`Listening`](PresenceEvent::Listening); the caller paces
    /// the attempts. `Listening` in between means that this subscriber lagged and lost events.
    fn next(&mut self, timeout: Duration) -> Result<Option<PresenceEvent>>;
}

/// A connection opened or ended somewhere.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum PresenceEvent {
    /// The subscription stands; events published before this may have been missed.
    Listening,
    /// A connection opened.
    Online(Ticket),
    /// A connection ended.
    Offline(Ticket),
}

/// Events that nobody misses: kept for a day, handed to each group of readers, and again until one of them has
/// acknowledged them. Whoever reads is named in each call, so that no state is kept between two.
pub trait Events: Send + Sync {
    /// Up to `limit` events that the group was not given yet, in order; waits up to `wait` for the first. What this reader
    /// was given and has not acknowledged comes again instead, and what others have not acknowledged for
    /// [`take_over`](EventReader::take_over). Makes the group if there is none of that name.
    fn read_events(&self, reader: &EventReader, limit: usize, wait: Duration)
    -> Result<EventBatch>;

    /// The reader has done with these events, by their ids, and with so many that were [missed](EventBatch::missed). Whether
    /// there is such a group.
    fn acknowledge_events(&self, reader: &EventReader, missed: u64, ids: &[String])
    -> Result<bool>;

    /// The reader reads no more. What it has not acknowledged is given to others, in time.
    fn leave_events(&self, reader: &EventReader) -> Result<()>;

    /// All groups that there are, by name: how far each is, and who reads in its name.
    fn event_groups(&self) -> Result<Vec<EventGroup>>;

    /// Ends a group: nothing is kept for it any more. Whether there was one. Who reads in its name makes it anew.
    fn forget_event_group(&self, group: &str) -> Result<bool>;
}

/// One of those who read events in the name of a group.
#[derive(Debug, Clone)]
pub struct EventReader {
    /// Each event is given to one reader of a group.
    pub group: String,
    /// Its name, which no other reader of the group has.
    pub consumer: String,
    /// Where the group begins, if this reader is its first.
    pub start: EventStart,
    /// What another reader has not acknowledged for so long, this one takes over.
    pub take_over: Duration,
    /// `None`: what it was given and has not acknowledged comes again with each call, and before that nothing else. The id of
    /// an event: nothing comes again that it was given up to there, but for what it has itself left for
    /// [`take_over`](Self::take_over); and what is new comes while fewer than the limit are not acknowledged.
    pub after: Option<String>,
}

/// Where a group of readers begins that is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EventStart {
    /// With what happens from now on.
    #[default]
    New,
    /// With the oldest that is kept.
    All,
    /// With the first that happened then, or after; what was told in one step begins as a whole.
    At(SystemTime),
}

impl EventStart {
    /// The least number of an event to begin with; `None`: a number that is still to come.
    pub(crate) fn number(self) -> Option<u64> {
        match self {
            EventStart::New => None,
            EventStart::All => Some(0),
            EventStart::At(time) => {
                let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Some(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
            }
        }
    }
}

/// What a reader is given at once.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct EventBatch {
    /// The group was made by this call: what happened before its [start](EventReader::start) it is not given.
    pub created: bool,
    /// How many were trimmed before the group was given them. Said again until it is acknowledged, to one reader.
    pub missed: u64,
    /// The events, oldest first.
    pub events: Vec<Event>,
}

/// How far a group of readers is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EventGroup {
    /// Its name.
    pub name: String,
    /// Events that it was not given yet.
    pub waiting: u64,
    /// Events that it was given and has not acknowledged.
    pub unacknowledged: u64,
    /// Events that were trimmed before it was given or had acknowledged them, and of which it has not taken notice yet.
    pub missed: u64,
    /// When the oldest of those that wait or are not acknowledged happened, in milliseconds since 1970.
    pub oldest: Option<u64>,
    /// Who reads in its name, by name.
    pub readers: Vec<EventConsumer>,
}

/// One of those who read in the name of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EventConsumer {
    /// Its [name](EventReader::consumer).
    pub name: String,
    /// Events that it was given and has not acknowledged.
    pub unacknowledged: u64,
    /// How long ago it asked last.
    pub idle: Duration,
}
