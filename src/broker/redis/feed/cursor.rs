//! How far a feed has got in the log, and whether what it heard and read is all there was.
//!
//! Pure; owned by one feed, which asks and reads. A node reads two streams: its own, and that for all nodes. Each
//! entry names the one before it, so a reader who knows where it stood sees whether anything is missing in between:
//! trimmed, deleted, or gone with a Redis that went back. What cannot be seen in the streams shows in the head: a new
//! epoch (Redis was emptied, or is another process and may have lost what came last), a witness that fell, messages
//! that Redis refused to log.

use std::collections::VecDeque;

/// The node's own stream, and that for all.
pub(super) const OWN: usize = 0;
pub(super) const ALL: usize = 1;

/// What the head of the log says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// `None`: there is no log.
    pub(super) epoch: Option<String>,
    /// The last number over all streams.
    pub(super) last: u64,
    /// Everything above it is logged; `None`: Redis refuses just now.
    pub(super) whole: Option<u64>,
    /// Ids of the last entries.
    pub(super) ends: [u64; 2],
    /// `None`: none yet, or it could not be raised.
    pub(super) witness: Option<u64>,
    /// Up to this number something was published that no log has, of which the log was told later.
    pub(super) noted: u64,
}

/// What was logged in one step; its id is the number of its last message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry<T> {
    pub(super) id: u64,
    /// The entry before it.
    pub(super) prev: u64,
    /// How long it is.
    pub(super) bytes: usize,
    pub(super) messages: Vec<(u64, T)>,
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told<T> {
    /// Something may be missing up to `from`; all above it follows.
    Log {
        epoch: String,
        from: u64,
    },
    Message {
        number: u64,
        message: T,
    },
}

/// What a look at the head, taken while everything before it was heard, means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// Redis has lost data, and its epoch must not be trusted any more.
    Lost,
    /// There is more in the streams than was heard, or another epoch.
    Behind,
}

/// What a live message is, judged by its number.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Live {
    New,
    /// It is of before the place that was begun at.
    Early,
    /// It was read from the log before.
    Known,
    /// Numbers do not fall but in a Redis that went back.
    Fallen,
}

/// Where a feed stands in the log.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The epoch that was told, and that of Redis when it was.
    epoch: String,
    theirs: String,
    /// All logged messages up to this number were handed on, or told of.
    seen: u64,
    /// The highest that ever was: what a Redis that went back has up to there may have been handed on before.
    high: u64,
    /// Number of the last message of each stream.
    /// `None`: not known, all that comes above `seen` is new.
    streams: [Option<u64>; 2],
    witness: Option<u64>,
    noted: u64,
    /// Live messages up to this number are older than the place that was begun at, or were read from the log; until
    /// one comes that is not.
    past: Option<u64>,
    /// Whether they were read.
    read: bool,
    /// A message was heard that Redis refused to log.
    torn: bool,
}

impl Cursor {
    /// At the end of what `head` says; `None` without a log.
    pub(super) fn begin(head: &Head) -> Option<Self> {
        let epoch = head.epoch.clone()?;
        Some(Cursor {
            theirs: epoch.clone(),
            epoch,
            seen: head.last,
            high: head.last,
            streams: head.ends.map(Some),
            witness: head.witness,
            noted: head.noted,
            past: Some(head.last),
            read: false,
            torn: false,
        })
    }

    /// Before all that the streams hold: `floors` are the entries before their first. Also what is to be read.
    pub(super) fn from_start<T>(head: &Head, floors: [u64; 2]) -> Option<(Self, Reading<T>)> {
        let mut cursor = Cursor::begin(head)?;
        let whole = head.whole.unwrap_or(head.last);
        cursor.seen = floors[OWN].max(floors[ALL]).max(whole).min(head.last);
        cursor.streams = [None; 2];
        let reading = Reading::new([None; 2], cursor.seen, head);
        Some((cursor, reading))
    }

    /// What says that from here on nothing is missing.
    pub(super) fn told<T>(&self) -> Told<T> {
        Told::Log { epoch: self.epoch.clone(), from: self.seen }
    }

    /// A live message of a stream was heard.
    pub(super) fn hear(&mut self, stream: usize, number: u64) -> Live {
        if self.past.is_some_and(|past| number <= past) {
            return if self.read { Live::Known } else { Live::Early };
        }
        self.past = None;
        if number <= self.streams[stream].unwrap_or(0) || number <= self.seen {
            return Live::Fallen;
        }
        self.torn = false;
        self.gave(stream, number);
        Live::New
    }

    /// Whether what is heard just now may be older than what was read already.
    pub(super) fn is_ahead(&self) -> bool {
        self.read && self.past.is_some()
    }

    /// A message was heard that Redis refused to log: whoever breaks off now may miss such. True if that is news.
    pub(super) fn heard_refused(&mut self) -> bool {
        !std::mem::replace(&mut self.torn, true)
    }

    /// All up to this number, the last of `stream`, was handed on.
    pub(super) fn gave(&mut self, stream: usize, number: u64) {
        self.streams[stream] = Some(number);
        self.seen = self.seen.max(number);
    }

    /// All that published before `head` was looked at has been heard.
    pub(super) fn check(&mut self, head: &Head) -> Verdict {
        if head.epoch.as_deref().unwrap_or_default() != self.theirs {
            return Verdict::Behind;
        }
        if self.has_fallen(head) {
            return Verdict::Lost;
        }
        self.witness = head.witness.or(self.witness);
        let behind = |(at, end): (&Option<u64>, &u64)| at.is_some_and(|at| *end > at);
        if head.noted > self.noted || self.streams.iter().zip(&head.ends).any(behind) {
            return Verdict::Behind;
        }
        self.stands(head);
        self.past = None;
        Verdict::Fine
    }

    /// All that `head` tells of was handed on.
    fn stands(&mut self, head: &Head) {
        self.seen = self.seen.max(head.last);
        self.streams = head.ends.map(Some);
    }

    /// Whether Redis has gone back behind what was seen.
    fn has_fallen(&self, head: &Head) -> bool {
        let witness = self.witness.zip(head.witness);
        let fallen = |(at, end): (&Option<u64>, &u64)| at.is_some_and(|at| *end < at);
        witness.is_some_and(|(seen, now)| now < seen)
            || head.last < self.seen
            || self.streams.iter().zip(&head.ends).any(fallen)
    }

    /// The epoch of Redis that must not go on, if it has lost what was seen there.
    pub(super) fn wrong(&self, head: &Head) -> Option<String> {
        let same = head.epoch.as_deref() == Some(&self.theirs);
        (same && self.has_fallen(head)).then(|| self.theirs.clone())
    }

    /// The epoch of Redis, which turned out to be wrong.
    pub(super) fn theirs(&self) -> &str {
        &self.theirs
    }

    /// Goes on after a break: whether that is to be [told](Self::told), as something may be missing, and what is to
    /// be read. `suspicious`: messages that no log has may have been missed.
    pub(super) fn resume<T>(&mut self, head: &Head, suspicious: bool) -> (bool, Reading<T>) {
        let epoch = head.epoch.clone().unwrap_or_default();
        let anew = epoch != self.theirs || self.has_fallen(head);
        // Refused while it was away, or still; or heard to be refused before it broke off.
        let refused = head.whole.is_none_or(|whole| whole > self.seen);
        let torn = std::mem::take(&mut self.torn) || refused || head.noted > self.noted;
        self.noted = head.noted;
        if anew {
            // What is there was sent; what it comes behind is not known.
            self.streams = [None; 2];
            self.high = self.high.max(self.seen);
            self.seen = self.high.min(head.last);
            if !epoch.is_empty() {
                self.epoch.clone_from(&epoch);
            }
            self.theirs = epoch;
        }
        self.witness = head.witness;
        (anew || torn || suspicious, Reading::new(self.streams, self.seen, head))
    }

    /// Everything was read; live messages go on from there.
    pub(super) fn finish<T>(&mut self, reading: &Reading<T>) {
        self.streams = reading.head.ends.map(Some);
        self.seen = self.seen.max(reading.head.last);
        (self.past, self.read) = (Some(reading.head.last), true);
    }
}

/// Reads both streams up to where live messages go on, merged by number.
#[derive(Debug)]
pub(super) struct Reading<T> {
    /// Up to where.
    head: Head,
    /// Nothing up to it is handed on.
    from: u64,
    streams: [Stream<T>; 2],
}

#[derive(Debug)]
struct Stream<T> {
    /// Where it was left; `None`: unknown, and told.
    at: Option<u64>,
    /// Above which the next page is to be read.
    next: u64,
    done: bool,
    items: VecDeque<Item<T>>,
}

#[derive(Debug)]
enum Item<T> {
    Message(u64, T),
    /// What comes before it is missing up to this number.
    Hole(u64),
}

impl<T> Reading<T> {
    fn new(at: [Option<u64>; 2], from: u64, head: &Head) -> Self {
        let stream = |index: usize| {
            let next = at[index].unwrap_or(from);
            Stream { at: at[index], next, done: next >= head.ends[index], items: VecDeque::new() }
        };
        let streams = [stream(OWN), stream(ALL)];
        Reading { head: head.clone(), from, streams }
    }

    /// The next page that is needed: of which stream, above which number.
    pub(super) fn wants(&self) -> Option<(usize, u64)> {
        (0..2).find_map(|index| {
            let stream = &self.streams[index];
            (!stream.done && stream.items.is_empty()).then_some((index, stream.next))
        })
    }

    /// What was [wanted](Self::wants); `more` if that is not all there is.
    pub(super) fn read(&mut self, index: usize, entries: Vec<Entry<T>>, more: bool) {
        let (upto, from, end) = (self.head.last, self.from, self.head.ends[index]);
        let stream = &mut self.streams[index];
        stream.done = !more;
        for entry in entries {
            if entry.id > upto {
                stream.done = true;
                break;
            }
            let at = stream.at.unwrap_or(from);
            let goes_on = match stream.at {
                None => entry.prev <= from,
                Some(at) => {
                    entry.prev == at || entry.messages.iter().any(|(number, _)| *number == at)
                }
            };
            if !goes_on {
                stream.items.push_back(Item::Hole(entry.prev));
            }
            let at = at.max(from);
            let new = entry.messages.into_iter().filter(|(number, _)| *number > at);
            stream.items.extend(new.map(|(number, message)| Item::Message(number, message)));
            stream.at = Some(entry.id);
            stream.next = entry.id;
        }
        stream.done |= stream.next >= end;
        if stream.done && stream.next < end {
            stream.items.push_back(Item::Hole(end));
        }
    }

    /// The next in the order of numbers, of which `cursor` takes note; `None` if more must be read first, or all is.
    pub(super) fn next(&mut self, cursor: &mut Cursor) -> Option<Told<T>> {
        while self.wants().is_none() {
            let number = |index: usize| match self.streams[index].items.front() {
                Some(Item::Message(number, _) | Item::Hole(number)) => Some(*number),
                None => None,
            };
            let first = match (number(OWN), number(ALL)) {
                (Some(own), Some(all)) => usize::from(all < own),
                (Some(_), None) => OWN,
                (None, Some(_)) => ALL,
                (None, None) => return None,
            };
            match self.streams[first].items.pop_front()? {
                // In a stream that changed while it was read; it is told that this may be missing.
                Item::Message(number, _) if number <= cursor.seen => {}
                Item::Message(number, message) => {
                    cursor.gave(first, number);
                    return Some(Told::Message { number, message });
                }
                Item::Hole(number) => {
                    cursor.gave(first, number);
                    return Some(cursor.told());
                }
            }
        }
        None
    }

    pub(super) fn is_done(&self) -> bool {
        self.streams.iter().all(|stream| stream.done && stream.items.is_empty())
    }
}
