//! The thread that delivers: takes the turn, reads events as one more group of readers, posts them one message after the other, and
//! acknowledges what was taken. Everything that must outlive it is in the broker, so another node goes on where it ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use imcore::{
    Error, Event, EventStart,
    broker::{Broker, DeadLetter, EventReader},
};

use super::{
    GROUP, Hook, Shared,
    message::Message,
    post::{Outcome, Poster},
    retry::Retry,
};

/// Events in one message.
const EVENTS: usize = 100;
/// How long the broker is asked to wait for the first.
const WAIT: Duration = Duration::from_millis(500);
/// The longest time between two looks at whose turn it is, and the pause when there is nothing to do.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is noted at most that all is well.
const NOTE: Duration = Duration::from_secs(5);
/// What is taken over from other readers: there are none.
const TAKE_OVER: Duration = Duration::from_secs(3600);

pub(super) struct Delivery {
    broker: Arc<dyn Broker>,
    shared: Arc<Shared>,
    /// Who it is among those that may deliver.
    holder: String,
    reader: EventReader,
    poster: Option<Poster>,
    turn: Option<Turn>,
    retry: Retry,
    /// When the next attempt may be made.
    not_before: Instant,
    /// The message that was tried last in vain, by its first event, and how often.
    tried: (String, u64),
    /// What the last failure was.
    why: String,
    /// An attempt has failed, and what was too old then is not put aside yet.
    has_failed: bool,
    /// That message is to be tried again.
    is_behind: bool,
    /// The group was there, or made, when it was read last.
    is_known: bool,
    /// All was lost, and the target is not told yet.
    lost: Option<u64>,
    /// How many were missed when that was first seen, and when.
    missed: Option<(u64, u64)>,
    /// When it was noted last that an attempt had succeeded.
    noted: Option<Instant>,
    /// Of the broker, one after the other.
    failed: bool,
    /// When the next letter may be tried: after one that took long, events have as much time.
    replay_after: Instant,
}

/// What is to be told.
enum Next {
    /// So many were lost, or all, as was seen at that time.
    Missed(Option<u64>, u64),
    Events(Vec<Event>),
}

impl Next {
    /// As the target gets it; `None` if it wants nothing of it.
    fn message(&self, hook: &Hook) -> Option<Message> {
        let is_sent = |event: &&Event| {
            hook.types.is_empty() || hook.types.iter().any(|word| word == event.kind.word())
        };
        match self {
            Next::Missed(count, at) => Some(Message::missed(*count, *at)),
            Next::Events(events) => Message::of(events.iter().filter(is_sent)),
        }
    }
}

/// What was said when the turn was asked for last.
#[derive(Clone, Copy)]
struct Turn {
    asked: Instant,
    /// Milliseconds since 1970 then.
    now: u64,
    held: bool,
    is_off: bool,
    has_replay: bool,
}

impl Turn {
    fn now(&self) -> u64 {
        self.now + u64::try_from(self.asked.elapsed().as_millis()).unwrap_or_default()
    }
}

impl Delivery {
    pub(super) fn new(
        node: &str,
        broker: Arc<dyn Broker>,
        shared: Arc<Shared>,
    ) -> std::io::Result<Delivery> {
        let random = getrandom::u64().map_err(std::io::Error::other)?;
        Ok(Delivery {
            broker,
            shared,
            holder: format!("{node}#{random:016x}"),
            reader: EventReader {
                group: GROUP.to_owned(),
                // Whoever has the turn is the same reader: what was given to the last one comes again first, in the same pieces.
                consumer: GROUP.to_owned(),
                start: EventStart::New,
                take_over: TAKE_OVER,
                after: None,
            },
            poster: None,
            turn: None,
            retry: Retry::default(),
            not_before: Instant::now(),
            tried: (String::new(), 0),
            why: String::new(),
            has_failed: false,
            is_behind: false,
            is_known: false,
            lost: None,
            missed: None,
            noted: None,
            failed: false,
            replay_after: Instant::now(),
        })
    }

    pub(super) fn run(mut self) {
        while !self.shared.lock().stop {
            match self.round() {
                Ok(pause) => {
                    self.failed = false;
                    if !pause.is_zero() {
                        self.shared.wait(pause);
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failed, true) {
                        log::warn!("webhook: events wait in the broker: {error}");
                    }
                    self.turn = None;
                    self.shared.wait(LOOK / 4);
                }
            }
        }
        self.leave();
    }

    /// One step; how long there is nothing to do then.
    fn round(&mut self) -> Result<Duration, Error> {
        let Some(hook) = self.shared.lock().hook.clone() else {
            self.leave();
            return Ok(LOOK);
        };
        if !self.poster.as_ref().is_some_and(|poster| Arc::ptr_eq(poster.hook(), &hook)) {
            self.poster = Some(Poster::new(&hook)?);
            (self.retry, self.not_before) = (Retry::default(), Instant::now());
        }
        let look = look(&hook);
        let turn = self.take_turn(&hook)?;
        if !turn.held && !self.is_known && self.is_read()? {
            // Should the group be gone when this node has the turn, all was lost.
            (self.is_known, self.reader.start) = (true, EventStart::All);
        }
        if !turn.held || turn.is_off {
            return Ok(look);
        }
        let pause = self.not_before.saturating_duration_since(Instant::now());
        if self.has_failed || !pause.is_zero() {
            self.has_failed = self.put_aside(&hook)?;
            return Ok(if self.has_failed { Duration::ZERO } else { pause.min(look) });
        }
        if turn.has_replay && !self.is_behind && Instant::now() >= self.replay_after {
            return self.replay(&hook).map(|()| Duration::ZERO);
        }
        self.deliver(&hook)?;
        Ok(Duration::ZERO)
    }

    /// Takes or prolongs the turn, so that it outlasts an attempt that begins now.
    fn take_turn(&mut self, hook: &Hook) -> Result<Turn, Error> {
        let known = self.turn.take().filter(|turn| turn.asked.elapsed() < look(hook));
        let turn = match known {
            Some(turn) => turn,
            None => {
                let asked = Instant::now();
                let told = self.broker.hold_webhook(&self.holder, life(hook))?;
                let (held, is_off) = (told.held, told.is_off);
                Turn { asked, now: told.now, held, is_off, has_replay: told.has_replay }
            }
        };
        Ok(*self.turn.insert(turn))
    }

    /// Gives the turn to others, if it is held.
    fn leave(&mut self) {
        if self.turn.take().is_some_and(|turn| turn.held)
            && let Err(error) = self.broker.release_webhook(&self.holder)
        {
            log::debug!("webhook: others wait for its turn to end: {error}");
        }
    }

    /// Whether somebody has read in the name of the group: who has the turn may be about to, or delivery may be off since before.
    fn is_read(&self) -> Result<bool, Error> {
        Ok(self.broker.event_groups()?.iter().any(|group| group.name == GROUP))
    }

    /// What is to be told next; what was not taken comes again.
    fn read(&mut self) -> Result<Next, Error> {
        let batch = self.broker.read_events(&self.reader, EVENTS, WAIT)?;
        let now = self.now();
        if batch.created && self.is_known {
            self.lost = Some(now);
        }
        // Should the broker lose the group, all that is there then is new.
        (self.is_known, self.reader.start) = (true, EventStart::All);
        if let Some(at) = self.lost {
            return Ok(Next::Missed(None, at));
        }
        if batch.missed > 0 {
            let (count, at) = *self.missed.get_or_insert((batch.missed, now));
            return Ok(Next::Missed(Some(count), at));
        }
        Ok(Next::Events(batch.events))
    }

    /// This was told, or put aside.
    fn settle(&mut self, next: &Next) -> Result<(), Error> {
        match next {
            Next::Missed(None, _) => self.lost = None,
            Next::Missed(Some(count), _) => {
                self.broker.acknowledge_events(&self.reader, *count, &[])?;
                self.missed = None;
            }
            Next::Events(events) if events.is_empty() => {}
            Next::Events(events) => {
                let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
                self.broker.acknowledge_events(&self.reader, 0, &ids)?;
            }
        }
        Ok(())
    }

    /// The next message of the stream.
    fn deliver(&mut self, hook: &Hook) -> Result<(), Error> {
        let next = self.read()?;
        let is_done = match next.message(hook) {
            Some(message) => self.attempt(hook, &message)?,
            None => true,
        };
        self.is_behind = !is_done;
        if is_done { self.settle(&next) } else { Ok(()) }
    }

    /// As attempts fail, what is too old by now waits for no other. Whether there was something.
    fn put_aside(&mut self, hook: &Hook) -> Result<bool, Error> {
        let mut next = self.read()?;
        let now = self.now();
        let is_old = |ms: u64| Duration::from_millis(now.saturating_sub(ms)) >= hook.give_up;
        match &mut next {
            Next::Missed(_, at) if !is_old(*at) => return Ok(false),
            Next::Missed(..) => {}
            Next::Events(events) => {
                events.retain(|event| is_old(event.ms));
                if events.is_empty() {
                    return Ok(false);
                }
            }
        }
        if let Some(message) = next.message(hook) {
            self.bury(hook, message)?;
        }
        self.is_behind = false;
        self.settle(&next)?;
        Ok(true)
    }

    fn bury(&mut self, hook: &Hook, message: Message) -> Result<(), Error> {
        let attempts = if self.tried.0 == message.first() { self.tried.1 } else { 0 };
        let Message { id, body, count, ends, .. } = message;
        let failure = self.why.clone();
        log::error!(
            "webhook: {}: message {id} with {count} events is put aside: {failure}",
            hook.target
        );
        let letter = DeadLetter { id, count, ends, attempts, body, ..DeadLetter::default() };
        self.broker.bury(&DeadLetter { failure, ..letter })
    }

    fn now(&self) -> u64 {
        self.turn.as_ref().map_or(0, Turn::now)
    }

    /// One attempt; whether the message was taken.
    fn attempt(&mut self, hook: &Hook, message: &Message) -> Result<bool, Error> {
        let why = match self.post(message)? {
            Outcome::Delivered => {
                self.succeed()?;
                return Ok(true);
            }
            Outcome::Gone => return self.switch_off(hook).map(|()| false),
            Outcome::Failed(why) => why,
        };
        if self.tried.0 != message.first() {
            self.tried = (message.first().to_owned(), 0);
        }
        self.tried.1 += 1;
        let pause = self.retry.pause(hook.retry, getrandom::u64().unwrap_or_default());
        self.not_before = Instant::now() + pause;
        let waits = pause.as_secs_f64();
        match self.retry.failures() {
            1 => log::warn!(
                "webhook: {}: {why}; events wait, the next attempt is in {waits:.1} s",
                hook.target
            ),
            count => log::debug!(
                "webhook: {}: {why}; {count} failures, the next attempt is in {waits:.1} s",
                hook.target
            ),
        }
        self.broker.note_webhook(&self.holder, Some(&why))?;
        (self.why, self.has_failed) = (why, true);
        Ok(false)
    }

    fn post(&self, message: &Message) -> Result<Outcome, Error> {
        let now = self.now();
        let Some(poster) = &self.poster else {
            return Ok(Outcome::Failed(String::from("there is no target")));
        };
        let began = Instant::now();
        let outcome = poster.post(message, now);
        self.shared.counts.count(&outcome, message.count, began.elapsed());
        Ok(outcome)
    }

    fn succeed(&mut self) -> Result<(), Error> {
        let failures = self.retry.failures();
        if failures > 0 {
            log::info!("webhook: events are taken again, after {failures} failures");
        }
        if failures > 0 || self.noted.is_none_or(|at| at.elapsed() >= NOTE) {
            self.broker.note_webhook(&self.holder, None)?;
            self.noted = Some(Instant::now());
        }
        self.retry.succeed();
        Ok(())
    }

    fn switch_off(&mut self, hook: &Hook) -> Result<(), Error> {
        self.broker.note_webhook(&self.holder, Some("status 410"))?;
        self.broker.switch_webhook(Some("it answered 410"))?;
        // Behind it: who reads this line finds it switched off.
        log::error!(
            "webhook: {} answers 410: it wants no more events. Delivery is OFF on all nodes until it is switched on again, by \
             imserver --webhook on; without Redis, by another start",
            hook.target
        );
        self.turn = None;
        Ok(())
    }

    /// A letter that an operator wants to be tried once more: once, whatever comes of it.
    fn replay(&mut self, hook: &Hook) -> Result<(), Error> {
        let letter = self.broker.next_replay()?;
        let Some(DeadLetter { id, body, count, ends, .. }) = letter else {
            self.turn = None;
            return Ok(());
        };
        let message = Message { id, body, count, ends };
        let began = Instant::now();
        let outcome = self.post(&message)?;
        if began.elapsed() >= WAIT {
            self.replay_after = Instant::now() + began.elapsed();
        }
        let is_delivered = outcome == Outcome::Delivered;
        match outcome {
            Outcome::Delivered => self.succeed()?,
            Outcome::Gone => self.switch_off(hook)?,
            Outcome::Failed(why) => {
                log::warn!("webhook: letter {} is not delivered: {why}", message.id);
                self.broker.note_webhook(&self.holder, Some(&why))?;
            }
        }
        self.broker.settle_replay(&message.id, is_delivered)
    }
}

/// For how long the turn is taken: longer than an attempt and a look together.
fn life(hook: &Hook) -> Duration {
    hook.timeout * 2 + Duration::from_secs(1)
}

/// How often is looked whose turn it is.
fn look(hook: &Hook) -> Duration {
    (hook.timeout / 4).min(LOOK)
}
