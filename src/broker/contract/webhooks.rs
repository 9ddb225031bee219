//! Delivery of kept events to an address of the business: whose turn it is, how it goes, and what could not be delivered.

use std::time::Duration;

use super::directory::Page;
use crate::error::Result;

/// What nodes that deliver events by HTTP have in common. One of them at a time has the turn; the events themselves it reads as
/// one more group of [`Events`](super::Events).
///
/// A turn is a lease, so two may think for a moment that they have it. That does no harm: events are acknowledged, and letters
/// settled, by whoever delivered them, once or twice.
pub trait Webhooks: Send + Sync {
    /// Takes the turn for `life`, or prolongs it, unless another holds it.
    fn hold_webhook(&self, holder: &str, life: Duration) -> Result<WebhookTurn>;

    /// Gives the turn to whoever asks next; of no effect if another has it.
    fn release_webhook(&self, holder: &str) -> Result<()>;

    /// What came of the last attempt: the reason of a failure, in one line without secrets, or `None` if it succeeded.
    /// Counts failures from the last success on. Of no effect if another has the turn.
    fn note_webhook(&self, holder: &str, failure: Option<&str>) -> Result<()>;

    /// Switches delivery off, for this reason, until it is switched on again: `None`.
    fn switch_webhook(&self, off: Option<&str>) -> Result<()>;

    /// How it goes; `None` if nobody ever held the turn.
    fn webhook_state(&self) -> Result<Option<WebhookState>>;

    /// Puts what could not be delivered aside, with the time of now. One of the same id is there once. Beyond [`DEAD_LETTERS`] the
    /// oldest are dropped, and counted.
    fn bury(&self, letter: &DeadLetter) -> Result<()>;

    /// Up to `limit` letters with ids behind `after`, in the order of ids. Without their bodies.
    fn dead_letters(&self, after: Option<&str>, limit: usize) -> Result<Page<DeadLetter>>;

    /// One letter, whole.
    fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>>;

    /// Has these letters delivered once more, all of them if none is named. How many of them there are.
    fn replay_dead_letters(&self, ids: &[String]) -> Result<usize>;

    /// The letter that is to be delivered next.
    fn next_replay(&self) -> Result<Option<DeadLetter>>;

    /// The letter was tried: it is gone if it was delivered, else it stays until it is to be replayed again.
    fn settle_replay(&self, id: &str, delivered: bool) -> Result<()>;

    /// Throws these letters away, all of them if none is named. How many there were.
    fn discard_dead_letters(&self, ids: &[String]) -> Result<usize>;
}

/// Letters that are kept.
pub const DEAD_LETTERS: usize = 1000;

/// What a node is told that wants to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WebhookTurn {
    /// Whether it has the turn.
    pub held: bool,
    /// Whether delivery is switched off.
    pub is_off: bool,
    /// Whether a letter is to be delivered once more.
    pub has_replay: bool,
    /// The time by the clock of the broker, in milliseconds since 1970.
    pub now: u64,
}

/// How delivery goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WebhookState {
    /// Who has the turn; `None` if nobody has.
    pub holder: Option<String>,
    /// Why and when it was switched off, in milliseconds since 1970.
    pub off: Option<(String, u64)>,
    /// Attempts that have failed since the last success.
    pub failures: u64,
    /// When the first of them failed, in milliseconds since 1970.
    pub failing_since: Option<u64>,
    /// What the last failure was, also if attempts have succeeded since.
    pub last_failure: Option<(String, u64)>,
    /// When an attempt succeeded last.
    pub last_success: Option<u64>,
    /// Letters that are kept.
    pub dead_letters: u64,
    /// Those of them that are to be delivered once more.
    pub replaying: u64,
    /// Letters that were dropped because there were too many.
    pub dropped: u64,
}

/// Events that could not be delivered in time, as they were to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadLetter {
    /// The name of the message, which it had at each attempt; later events have higher ones.
    pub id: String,
    /// How many events are in it.
    pub count: u64,
    /// The ids of the first and the last of them; `None` if it says that some were missed.
    pub ends: Option<(String, String)>,
    /// How often it was tried in vain by whoever put it aside.
    pub attempts: u64,
    /// What the last attempt came to.
    pub failure: String,
    /// When it was put aside, in milliseconds since 1970, by the clock of the broker.
    pub ms: u64,
    /// What is sent.
    pub body: String,
    /// Whether it is to be delivered once more.
    pub replaying: bool,
}
