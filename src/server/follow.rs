//! Following one client, channel or message live: what the threads of a node tell of it, and the bounded queue that it is read from.
//!
//! The feed asks once a message, and a reactor once a turn, whether anybody follows: one relaxed load while nobody does. Threads
//! never wait for a follower; what it does not take in time is counted and told.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use crate::{
    error::{Error, ErrorKind, Result},
    id::ClientId,
    wire::Position,
};

/// Followers of a node at a time.
const FOLLOWERS: usize = 8;
/// Sightings that wait for one follower, and that it is told in a second.
const QUEUE: usize = 1000;
/// Bytes of what waits for one follower: room for all of them as long as they show no texts.
const BYTES: usize = 1024 * 1024;
const PER_SECOND: u32 = 500;
/// Messages of a channel, or by an id, that are known by their positions: the newest.
const MESSAGES: usize = 1000;
/// Bytes of a text that are shown.
const TEXT: usize = 2000;

/// What is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A client: its connections, its channels, its messages.
    Client(ClientId),
    /// A channel: who comes and goes, its messages.
    Channel(String),
    /// The messages to clients that come with this [id](crate::Message::id) from now on.
    Message(String),
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum What {
    /// A connection opened; `reason` says why it goes on from no former one that its client named.
    Connected,
    /// A connection goes on from a former one of its client.
    Resumed,
    /// A connection ended, and its client is waited for.
    Parked,
    /// A connection ended, or its client is waited for no longer.
    Closed,
    /// A client came into a channel, as this node knows it.
    Joined,
    /// A client left a channel.
    Left,
    /// A message came from the broker.
    Received,
    /// The operating system has the last byte of a message.
    Written,
    /// A client says, or its answer to a ping proves, that it has all messages up to this.
    Acknowledged,
    /// A message will not be written to a connection, or there is none.
    Dropped,
    /// So many sightings were left out: more came than are told in a second, or than the follower took.
    Skipped,
}

impl What {
    /// One word, the same in every version.
    pub fn as_str(self) -> &'static str {
        match self {
            What::Connected => "connected",
            What::Resumed => "resumed",
            What::Parked => "parked",
            What::Closed => "closed",
            What::Joined => "joined",
            What::Left => "left",
            What::Received => "received",
            What::Written => "written",
            What::Acknowledged => "acknowledged",
            What::Dropped => "dropped",
            What::Skipped => "skipped",
        }
    }
}

/// One thing that a node saw of what is followed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sighting {
    /// When.
    pub at: SystemTime,
    /// What.
    pub what: What,
    /// Of which client; of a message for several, none.
    pub client: Option<ClientId>,
    /// Of which of its connections, by [number](crate::ConnectionInfo::number).
    pub connection: Option<u64>,
    /// In which channel.
    pub channel: Option<Arc<str>>,
    /// Which message, by its sender's id.
    pub id: Option<Arc<str>>,
    /// The W3C `traceparent` that the message came with.
    pub traceparent: Option<Arc<str>>,
    /// Which message, by its place in the order of this node; with a log, its number there.
    pub(crate) position: Option<Position>,
    /// Bytes of the message, for a socket with its frame.
    pub bytes: Option<usize>,
    /// The close code that the client was sent, if any.
    pub code: Option<u16>,
    /// Why, in one word as in metrics.
    pub reason: Option<&'static str>,
    /// Receivers of the message on this node, or how many sightings were skipped.
    pub count: Option<u64>,
    /// The beginning of the message, if the node is set to show it.
    pub text: Option<String>,
}

impl Sighting {
    pub(crate) fn new(what: What) -> Self {
        Sighting {
            at: SystemTime::now(),
            what,
            client: None,
            connection: None,
            channel: None,
            id: None,
            traceparent: None,
            position: None,
            bytes: None,
            code: None,
            reason: None,
            count: None,
            text: None,
        }
    }

    /// Of a client, and one of its connections if it is about that.
    pub(crate) fn of(what: What, client: &ClientId, connection: Option<u64>) -> Self {
        Sighting { client: Some(client.clone()), connection, ..Sighting::new(what) }
    }

    /// What became of a message.
    pub(crate) fn at_position(self, position: Position) -> Self {
        Sighting { position: Some(position), ..self }
    }

    /// Bytes that it holds while it waits. What it shares with others counts in full, as it may be the last to let go of it.
    fn weight(&self) -> usize {
        let shared = [&self.channel, &self.id, &self.traceparent];
        let shared: usize = shared.into_iter().flatten().map(|text| text.len()).sum();
        size_of::<Self>() + shared + self.text.as_ref().map_or(0, String::len)
    }

    /// Which message, by its place in the order of this node: `7`, or `7.2` for the second behind it that no log has.
    pub fn position(&self) -> Option<String> {
        let Position { number, sub } = self.position?;
        Some(if sub == 0 { number.to_string() } else { format!("{number}.{sub}") })
    }
}

/// All who follow something on a node.
#[derive(Debug, Default)]
pub(crate) struct Follows {
    /// Whether there is anybody.
    any: AtomicBool,
    all: Mutex<Vec<Arc<Follow>>>,
}

impl Follows {
    /// Those who follow now; without a lock if that is nobody.
    pub(crate) fn now(&self) -> Option<Followers> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let all = lock(&self.all);
        (!all.is_empty()).then(|| Followers(all.as_slice().into()))
    }

    /// Begins to follow, for `time`; `texts`: what messages say is shown.
    pub(crate) fn begin(
        self: &Arc<Self>,
        target: Target,
        time: Duration,
        texts: bool,
    ) -> Result<Following> {
        let mut all = lock(&self.all);
        if all.len() >= FOLLOWERS {
            let why = format!("{FOLLOWERS} follow something on this node already; try again later");
            return Err(Error::new(ErrorKind::Overloaded, why));
        }
        let until = Instant::now() + time;
        let follow = Arc::new(Follow {
            target,
            texts,
            until,
            state: Mutex::default(),
            more: Condvar::new(),
        });
        all.push(Arc::clone(&follow));
        self.any.store(true, Ordering::Relaxed);
        Ok(Following { follow, follows: Arc::clone(self) })
    }

    fn end(&self, follow: &Arc<Follow>) {
        let mut all = lock(&self.all);
        all.retain(|other| !Arc::ptr_eq(other, follow));
        self.any.store(!all.is_empty(), Ordering::Relaxed);
    }
}

/// Those who follow something at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Followers(Arc<[Arc<Follow>]>);

impl Followers {
    /// Tells those whom it concerns.
    pub(crate) fn tell(&self, sighting: &Sighting) {
        self.0.iter().for_each(|follow| follow.hear(sighting, None));
    }

    /// A message came that says `text`: what becomes of it concerns them from now on.
    pub(crate) fn came(&self, sighting: &Sighting, receivers: &[ClientId], text: &str) {
        for follow in self.0.iter() {
            match &follow.target {
                Target::Client(client) if receivers.contains(client) => {
                    let sighting = Sighting { client: Some(client.clone()), ..sighting.clone() };
                    follow.hear(&sighting, Some(text));
                }
                Target::Client(_) => {}
                _ => follow.hear(sighting, Some(text)),
            }
        }
    }

    /// A message came for members of a channel, or for everybody, that says `text`; `is_for` says for which clients here.
    pub(crate) fn came_for(
        &self,
        sighting: &Sighting,
        text: &str,
        is_for: impl Fn(&ClientId) -> bool,
    ) {
        for follow in self.0.iter() {
            if let Target::Client(client) = &follow.target
                && is_for(client)
            {
                let sighting = Sighting { client: Some(client.clone()), ..sighting.clone() };
                follow.hear(&sighting, Some(text));
            }
        }
    }

    /// Whether a change of the channels of this client concerns anybody.
    pub(crate) fn mind_channels_of(&self, client: &ClientId) -> bool {
        self.0.iter().any(|follow| match &follow.target {
            Target::Client(other) => other == client,
            Target::Channel(_) => true,
            Target::Message(_) => false,
        })
    }
}

/// One who follows.
#[derive(Debug)]
struct Follow {
    target: Target,
    texts: bool,
    /// Nothing is told from then on.
    until: Instant,
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Sighting>,
    /// What they weigh.
    bytes: usize,
    /// Sightings that were left out since the last that was put there.
    skipped: u64,
    /// Since when `told` are counted.
    since: Option<Instant>,
    told: u32,
    /// Where the messages are that it follows, in order.
    messages: VecDeque<Position>,
    /// Connections that were written one of them and have not acknowledged it.
    owed: VecDeque<(u64, Position)>,
}

impl Follow {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    fn hear(&self, sighting: &Sighting, text: Option<&str>) {
        let mut state = lock(&self.state);
        if self.is_over() || !self.concerns(&mut state, sighting) {
            return;
        }
        let text = text.filter(|_| self.texts).map(beginning);
        let sighting = Sighting { text, ..sighting.clone() };
        if !state.has_room(&sighting) {
            state.skipped += 1;
            return;
        }
        if let Some(skipped) = state.skipped() {
            state.push(skipped);
        }
        state.told += 1;
        state.push(sighting);
        self.more.notify_one();
    }

    /// Whether it is told this; what follows from it is known from here on.
    fn concerns(&self, state: &mut State, sighting: &Sighting) -> bool {
        let is_named = match &self.target {
            Target::Client(client) => return sighting.client.as_ref() == Some(client),
            Target::Channel(name) => sighting.channel.as_deref() == Some(name),
            Target::Message(id) => sighting.id.as_deref() == Some(id),
        };
        match (sighting.what, sighting.position) {
            (What::Received, Some(position)) if is_named => state.comes(position),
            (What::Acknowledged, position) => return state.is_acknowledged(sighting, position),
            (_, Some(position)) if state.messages.binary_search(&position).is_ok() => {
                if let (What::Written, Some(connection)) = (sighting.what, sighting.connection) {
                    state.is_owed(connection, position);
                }
                return true;
            }
            _ => {}
        }
        is_named
    }
}

impl State {
    /// Follows what becomes of a message.
    fn comes(&mut self, position: Position) {
        if self.messages.back().is_none_or(|last| *last < position) {
            keep(&mut self.messages, position);
        }
    }

    /// A connection was written a message that is followed.
    fn is_owed(&mut self, connection: u64, position: Position) {
        keep(&mut self.owed, (connection, position));
    }

    /// Whether a connection was written something that it acknowledges up to there, or all of it.
    fn is_acknowledged(&mut self, sighting: &Sighting, upto: Option<Position>) -> bool {
        let before = self.owed.len();
        self.owed.retain(|(connection, position)| {
            sighting.connection != Some(*connection) || upto.is_some_and(|upto| *position > upto)
        });
        self.owed.len() < before
    }

    /// Whether one more may be told now. That a connection came or went is never one too many.
    fn has_room(&mut self, next: &Sighting) -> bool {
        let now = Instant::now();
        if self.since.is_none_or(|since| now - since >= Duration::from_secs(1)) {
            (self.since, self.told) = (Some(now), 0);
        }
        let is_rare =
            matches!(next.what, What::Connected | What::Resumed | What::Parked | What::Closed);
        let is_light = self.waiting.len() < QUEUE && self.bytes + next.weight() <= BYTES;
        is_light && (is_rare || self.told < PER_SECOND)
    }

    fn push(&mut self, sighting: Sighting) {
        self.bytes += sighting.weight();
        self.waiting.push_back(sighting);
    }

    fn pop(&mut self) -> Option<Sighting> {
        let sighting = self.waiting.pop_front()?;
        self.bytes -= sighting.weight();
        Some(sighting)
    }

    /// What was left out, once.
    fn skipped(&mut self) -> Option<Sighting> {
        let count = std::mem::take(&mut self.skipped);
        (count > 0).then(|| Sighting { count: Some(count), ..Sighting::new(What::Skipped) })
    }
}

/// Adds to a list that holds the newest alone.
fn keep<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == MESSAGES {
        list.pop_front();
    }
    list.push_back(item);
}

/// The beginning of a text, which may be of any length.
fn beginning(text: &str) -> String {
    match text.char_indices().find(|(at, c)| at + c.len_utf8() > TEXT) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

/// Somebody who follows; dropped, it ends.
#[derive(Debug)]
pub struct Following {
    follow: Arc<Follow>,
    follows: Arc<Follows>,
}

impl Following {
    /// The next sighting, if one comes within `time`.
    pub fn next(&self, time: Duration) -> Option<Sighting> {
        let is_empty = |state: &mut State| state.waiting.is_empty();
        let waited = self.follow.more.wait_timeout_while(lock(&self.follow.state), time, is_empty);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let next = state.pop();
        next.or_else(|| state.skipped())
    }

    /// Whether its time is over: what waits can be [read](Following::next) to its end, and nothing is added.
    pub fn is_over(&self) -> bool {
        self.follow.is_over()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.follows.end(&self.follow);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn at(number: u64) -> Position {
        Position { number, sub: 0 }
    }

    fn channel(number: u64) -> Sighting {
        let channel = Some("lobby".into());
        Sighting { channel, ..Sighting::new(What::Received) }.at_position(at(number))
    }

    fn told(following: &Following) -> Vec<(&'static str, Option<String>)> {
        let mut told = Vec::new();
        while let Some(sighting) = following.next(Duration::ZERO) {
            told.push((sighting.what.as_str(), sighting.position()));
        }
        told
    }

    #[test]
    fn nobody_is_asked_while_nobody_follows() {
        let follows = Arc::<Follows>::default();
        assert!(follows.now().is_none());
        let begin = || follows.begin(Target::Client(7.into()), LONG, false);
        let all: Vec<_> = (0..FOLLOWERS).map(|_| begin().unwrap()).collect();
        assert_eq!(begin().unwrap_err().kind(), ErrorKind::Overloaded);
        assert!(follows.now().is_some() && !all[0].is_over());
        drop(all);
        assert!(follows.now().is_none());
        let late = follows.begin(Target::Client(7.into()), Duration::ZERO, false).unwrap();
        follows.now().unwrap().tell(&Sighting::of(What::Connected, &7.into(), Some(1)));
        assert!(late.is_over() && late.next(Duration::ZERO).is_none(), "busy clients end as well");
    }

    #[test]
    fn a_channel_is_followed_to_those_who_get_its_messages() {
        let follows = Arc::<Follows>::default();
        let following = follows.begin(Target::Channel("lobby".into()), LONG, true).unwrap();
        let now = follows.now().unwrap();
        now.came(&channel(5), &[], "hello");
        now.came(&Sighting { channel: Some("else".into()), ..channel(6) }, &[], "hello");
        let of = |what, number| Sighting::of(what, &1.into(), Some(10)).at_position(at(number));
        now.tell(&of(What::Written, 6));
        now.tell(&of(What::Acknowledged, 9));
        now.tell(&of(What::Written, 5));
        now.tell(&of(What::Acknowledged, 4));
        now.tell(&Sighting { connection: Some(11), ..of(What::Acknowledged, 9) });
        now.tell(&of(What::Acknowledged, 9));
        now.tell(&of(What::Acknowledged, 10));
        assert_eq!(following.next(Duration::ZERO).unwrap().text.as_deref(), Some("hello"));
        let rest = [("written", Some("5".into())), ("acknowledged", Some("9".into()))];
        assert_eq!(told(&following), rest);
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let follows = Arc::<Follows>::default();
        let following = follows.begin(Target::Client(7.into()), LONG, false).unwrap();
        let now = follows.now().unwrap();
        for _ in 0..PER_SECOND + 3 {
            now.tell(&Sighting::of(What::Written, &7.into(), Some(1)));
        }
        now.tell(&Sighting::of(What::Written, &8.into(), Some(2)));
        now.tell(&Sighting::of(What::Closed, &7.into(), Some(1)));
        let all: Vec<_> = std::iter::from_fn(|| following.next(Duration::ZERO)).collect();
        let told = all.iter().filter(|sighting| sighting.what == What::Written).count();
        let skipped: u64 =
            all.iter().filter(|s| s.what == What::Skipped).filter_map(|s| s.count).sum();
        assert_eq!(told as u64 + skipped, u64::from(PER_SECOND) + 3);
        assert!(skipped > 0 && told >= PER_SECOND as usize);
        assert_eq!(
            all.last().map(|last| last.what),
            Some(What::Closed),
            "that is told all the same"
        );
    }

    #[test]
    fn who_does_not_read_holds_bytes_up_to_a_bound() {
        let follows = Arc::<Follows>::default();
        let following = follows.begin(Target::Channel("lobby".into()), LONG, true).unwrap();
        let now = follows.now().unwrap();
        let held = || lock(&following.follow.state).bytes;
        // Ids come as long as their senders make them.
        let long = Sighting { id: Some("x".repeat(BYTES / 10).into()), ..channel(1) };
        (0..20).for_each(|_| now.came(&long, &[], "hello"));
        assert!((BYTES / 2..=BYTES).contains(&held()), "{}", held());
        let told: Vec<_> = std::iter::from_fn(|| following.next(Duration::ZERO)).collect();
        let received = told.iter().filter(|sighting| sighting.what == What::Received).count();
        let skipped = told.iter().find(|sighting| sighting.what == What::Skipped);
        assert_eq!(received as u64 + skipped.and_then(|s| s.count).unwrap(), 20);
        assert_eq!(held(), 0, "who reads it has room again");
        (0..400).for_each(|_| now.came(&channel(2), &[], &"x".repeat(10 * TEXT)));
        assert!((400 * TEXT..=BYTES).contains(&held()), "{}", held());
        assert!(QUEUE * (size_of::<Sighting>() + 256 + 64) < BYTES, "sightings without texts fit");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(beginning("短"), "短");
        let cut = beginning(&"短".repeat(TEXT));
        assert!(cut.len() <= TEXT + 4 && cut.ends_with(" …"));
    }
}
