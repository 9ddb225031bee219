//! Random histories of a Redis and a feed that follows its log: never a hole that nobody is told of.
//!
//! The model does what the scripts do, and remembers every message that was sent. What was not handed on must have
//! been told of later than it was sent; what was handed on came once, in order, and above the number that was told.

use testkit::seeded::{Replay, Seeded, seeds};

use super::cursor::{ALL, Cursor, Entry, Head, Live, OWN, Reading, Told, Verdict};

/// What Redis takes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mode {
    Writes,
    /// Nothing new, but it deletes.
    Full,
    Nothing,
}

/// A message, by its place among all that were sent.
type Sent = usize;

#[derive(Clone, Default)]
struct Redis {
    head: Head,
    run: u64,
    known_run: Option<u64>,
    streams: [Vec<Entry<Sent>>; 2],
}

/// What a subscriber hears.
enum Heard {
    Logged(usize, u64, Sent),
    Refused(Sent),
    Probe(Head),
}

struct World {
    random: Seeded,
    clock: u64,
    mode: Mode,
    redis: Redis,
    /// With the number of breaks before it.
    snapshots: Vec<Redis>,
    epochs: u64,
    /// Whether the sender knows of something that the log does not.
    unnoted: bool,
    sent: usize,
    subscribed: bool,
    pipe: Vec<Heard>,
    cursor: Option<Cursor>,
    reading: Option<Reading<Sent>>,
    /// Number of messages sent when it was told, and from where.
    told: Vec<usize>,
    from: u64,
    handed: Vec<Option<u64>>,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        World {
            random: Seeded::new(seed),
            clock: 1000,
            mode: Mode::Writes,
            redis: Redis::default(),
            snapshots: Vec::new(),
            epochs: 0,
            unnoted: false,
            sent: 0,
            subscribed: false,
            pipe: Vec::new(),
            cursor: None,
            reading: None,
            told: Vec::new(),
            from: 0,
            handed: Vec::new(),
            log: Vec::new(),
        }
    }

    fn epoch(&mut self) -> String {
        self.epochs += 1;
        format!("e{}", self.epochs)
    }

    // --- Redis -----------------------------------------------------------------------------------

    /// As `append.lua`.
    fn send(&mut self) {
        let count = 1 + self.random.below(4);
        let messages: Vec<_> =
            (0..count).map(|place| (self.random.below(2), self.sent + place)).collect();
        self.sent += count;
        self.handed.resize(self.sent, None);
        if self.mode != Mode::Writes {
            self.log.push(format!("refused {messages:?} {:?}", self.mode));
            match self.mode {
                Mode::Full => self.redis.head.whole = None,
                _ => self.unnoted = true,
            }
            if self.subscribed {
                self.pipe.extend(messages.into_iter().map(|(_, sent)| Heard::Refused(sent)));
            }
            return;
        }
        let epoch = self.epoch();
        let Redis { head, streams, .. } = &mut self.redis;
        let mut first = head.last.max(self.clock);
        head.epoch.get_or_insert(epoch);
        if self.unnoted || head.whole.is_none() {
            first += 1;
            head.whole = Some(first);
        }
        if std::mem::take(&mut self.unnoted) {
            head.noted = first;
        }
        let mut number = first;
        let mut entries = [const { Vec::new() }; 2];
        for (stream, sent) in messages {
            number += 1;
            entries[stream].push((number, sent));
            if self.subscribed {
                self.pipe.push(Heard::Logged(stream, number, sent));
            }
        }
        head.last = number;
        for (stream, messages) in entries.into_iter().enumerate() {
            let Some((id, _)) = messages.last() else { continue };
            let prev = std::mem::replace(&mut head.ends[stream], *id);
            self.log.push(format!("sent {stream} {messages:?} behind {prev}"));
            // As Redis refuses an id below the last, whose stream is then begun anew.
            if streams[stream].last().is_some_and(|last| last.id >= *id) {
                streams[stream].clear();
            }
            streams[stream].push(Entry { id: *id, prev, bytes: 0, messages });
        }
    }

    /// As `enter.lua`.
    fn enter(&mut self, wrong: Option<&str>) -> Head {
        let epoch = self.epoch();
        let Redis { head, run, known_run, .. } = &mut self.redis;
        let stale = head.epoch.is_none() || head.epoch.as_deref() == wrong;
        let moved = *known_run != Some(*run);
        if (stale || moved) && self.mode == Mode::Writes {
            (head.epoch, head.whole) = (Some(epoch), Some(head.last));
            *known_run = Some(*run);
        }
        let mut head = head.clone();
        if self.mode != Mode::Writes {
            head.whole = None;
        }
        head
    }

    fn probe(&mut self) {
        if self.mode == Mode::Writes {
            *self.redis.head.witness.get_or_insert(0) += 1;
        }
        let mut head = self.redis.head.clone();
        if self.mode != Mode::Writes {
            head.witness = None;
        }
        self.pipe.push(Heard::Probe(head));
    }

    fn trim(&mut self) {
        let stream = self.random.below(2);
        let entries = &mut self.redis.streams[stream];
        let gone = entries.len().saturating_sub(1).min(1 + self.random.below(6));
        entries.drain(..gone);
        self.log.push(format!("trimmed {stream} by {gone}"));
    }

    /// Emptied, or gone back to a snapshot; with a failover the clock may be behind, too.
    fn lose(&mut self) {
        let restarts = self.random.once_in(2);
        if self.random.once_in(3) {
            let run = self.redis.run;
            // Numbers that were given away while the clock was behind do not come again while they are read.
            self.clock = self.clock.max(self.redis.head.last);
            self.redis = Redis { run, ..Redis::default() };
            self.log.push("emptied".into());
            if restarts {
                self.restart();
            }
            return;
        }
        // One that goes back and stays the same process (`DEBUG RELOAD NOSAVE`) is found by whoever has heard
        // everything. Whoever has not cannot know.
        let hears = self.subscribed && self.reading.is_none() && self.pipe.is_empty();
        let restarts = restarts || !hears;
        let Some(index) = self.snapshots.len().checked_sub(1) else { return };
        let index = self.random.below(index + 1);
        let run = self.redis.run;
        self.redis = Redis { run, ..self.snapshots[index].clone() };
        // Forward again it does not go where no epoch can be written meanwhile.
        self.snapshots.truncate(index + 1);
        self.log.push(format!("back to {:?}", self.redis.head));
        if restarts {
            self.restart();
            self.clock -= self.random.below(30) as u64;
        }
    }

    fn restart(&mut self) {
        self.redis.run += 1_000_000 + self.random.below(1000) as u64;
        self.log.push("restarted".into());
        self.cut();
    }

    // --- The feed --------------------------------------------------------------------------------

    fn cut(&mut self) {
        self.subscribed = false;
        // Some of what was on its way comes still; nothing is heard before all is read.
        let left = match self.reading.take() {
            None => self.random.below(self.pipe.len() + 1),
            Some(_) => 0,
        };
        for heard in self.pipe.drain(..).take(left).collect::<Vec<_>>() {
            if !matches!(heard, Heard::Probe(_)) {
                self.hear(heard);
            }
        }
        self.pipe.clear();
        self.log.push("cut".into());
    }

    fn connect(&mut self) {
        self.subscribed = true;
        // Published behind the subscription and in front of the look.
        if self.random.once_in(3) {
            self.send();
        }
        self.log.push("connects".into());
        self.enter_log(None);
    }

    fn enter_log(&mut self, wrong: Option<String>) {
        self.pipe.retain(|heard| !matches!(heard, Heard::Probe(_)));
        let mut head = self.enter(wrong.as_deref());
        if let Some(wrong) = self.cursor.as_ref().and_then(|cursor| cursor.wrong(&head)) {
            head = self.enter(Some(&wrong));
        }
        match &mut self.cursor {
            Some(cursor) => {
                let (tell, reading) = cursor.resume(&head, false);
                self.reading = Some(reading);
                if tell {
                    self.tell();
                }
            }
            None => {
                self.cursor = Cursor::begin(&head);
                self.tell();
            }
        }
    }

    fn tell(&mut self) {
        let told = self.cursor.as_ref().map(Cursor::told::<Sent>);
        if let Some(Told::Log { from, .. }) = told {
            self.told.push(self.sent);
            self.from = from;
            self.log.push(format!("told from {from}"));
        }
    }

    /// Reads one page, hands on what it can.
    fn read(&mut self) {
        let (Some(reading), Some(cursor)) = (&mut self.reading, &mut self.cursor) else { return };
        if let Some((stream, after)) = reading.wants() {
            let entries = self.redis.streams[stream].iter().filter(|entry| entry.id > after);
            let page: Vec<_> = entries.take(3).cloned().collect();
            let more = page.len() == 3;
            reading.read(stream, page, more);
        }
        let mut all = Vec::new();
        while let Some(told) = reading.next(cursor) {
            all.push(told);
        }
        if reading.is_done() {
            cursor.finish(reading);
            self.reading = None;
        }
        for told in all {
            match told {
                Told::Message { number, message } => self.hand(message, Some(number)),
                Told::Log { from, .. } => {
                    self.told.push(self.sent);
                    self.from = from;
                    self.log.push(format!("a hole up to {from}"));
                }
            }
        }
    }

    fn hand(&mut self, sent: Sent, number: Option<u64>) {
        self.log.push(format!("handed {sent} {number:?}"));
        assert_eq!(self.handed[sent], None, "handed on twice: {}", self.log.join("\n"));
        self.handed[sent] = Some(number.unwrap_or(0));
        if let Some(number) = number {
            let above = number > self.from;
            assert!(above, "{number} is not above {}: {}", self.from, self.log.join("\n"));
            self.from = number;
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Refused(sent) => {
                if let Some(cursor) = &mut self.cursor {
                    cursor.heard_refused();
                }
                self.hand(sent, None);
            }
            Heard::Logged(stream, number, sent) => match &mut self.cursor {
                None => self.hand(sent, None),
                Some(cursor) => match cursor.hear(stream, number) {
                    Live::New => self.hand(sent, Some(number)),
                    Live::Early => self.hand(sent, None),
                    Live::Known => self.log.push(format!("known {sent}")),
                    Live::Fallen => {
                        let wrong = cursor.theirs().to_owned();
                        self.hand(sent, None);
                        if self.subscribed {
                            self.enter_log(Some(wrong));
                        }
                    }
                },
            },
            Heard::Probe(head) => {
                let verdict = match &mut self.cursor {
                    None => Verdict::Behind,
                    Some(cursor) => cursor.check(&head),
                };
                self.log.push(format!("{verdict:?} by {head:?}"));
                let wrong = self.cursor.as_ref().map(|cursor| cursor.theirs().to_owned());
                match verdict {
                    Verdict::Fine => {}
                    Verdict::Behind => self.enter_log(None),
                    Verdict::Lost => self.enter_log(wrong),
                }
            }
        }
    }

    fn step(&mut self) {
        self.clock += self.random.below(5) as u64;
        match self.random.below(20) {
            0..7 => self.send(),
            7 => self.trim(),
            8 => self.snapshots.push(self.redis.clone()),
            9 if self.random.once_in(4) => self.lose(),
            10 if self.random.once_in(3) => {
                self.mode = [Mode::Writes, Mode::Full, Mode::Nothing][self.random.below(3)];
            }
            11 => self.mode = Mode::Writes,
            12 if self.subscribed && self.random.once_in(2) => self.cut(),
            _ if !self.subscribed => self.connect(),
            _ if self.reading.is_some() => self.read(),
            13 => self.probe(),
            _ if !self.pipe.is_empty() => {
                let heard = self.pipe.remove(0);
                self.hear(heard);
            }
            _ => {}
        }
    }

    /// Everything comes to rest.
    fn settle(&mut self) {
        self.mode = Mode::Writes;
        self.send();
        for _ in 0..8 {
            if !self.subscribed {
                self.connect();
            }
            while self.reading.is_some() || !self.pipe.is_empty() {
                if self.reading.is_some() {
                    self.read();
                } else {
                    let heard = self.pipe.remove(0);
                    self.hear(heard);
                }
            }
            self.probe();
        }
    }
}

#[test]
fn whatever_happens_nothing_is_missing_that_nobody_is_told_of() {
    let (mut lost, mut handed) = (0, 0);
    for seed in seeds("IMCORE_LOG_SEED", 3000) {
        let _replay = Replay { variable: "IMCORE_LOG_SEED", seed };
        let mut world = World::new(seed);
        world.connect();
        let steps = 20 + world.random.below(200);
        (0..steps).for_each(|_| world.step());
        world.settle();
        let last = world.told.last().copied().unwrap_or(0);
        for (sent, place) in world.handed.iter().enumerate() {
            let told = sent < last;
            if place.is_none() && !told {
                world.log.iter().for_each(|line| println!("{line}"));
                panic!("message {sent} is missing, and nobody was told");
            }
            lost += usize::from(place.is_none());
            handed += usize::from(place.is_some());
        }
    }
    println!("{handed} handed on, {lost} lost and told");
    assert!(lost * 3 < handed && lost > 0);
}

/// While Redis keeps its data and takes what it gets, breaks alone lose nothing and tell of nothing.
#[test]
fn breaks_alone_are_never_told() {
    for seed in seeds("IMCORE_LOG_SEED", 1000) {
        let _replay = Replay { variable: "IMCORE_LOG_SEED", seed };
        let mut world = World::new(seed);
        world.connect();
        for _ in 0..200 {
            world.clock += 1;
            match world.random.below(6) {
                0 | 1 => world.send(),
                2 if world.subscribed => world.cut(),
                _ if !world.subscribed => world.connect(),
                _ if world.reading.is_some() => world.read(),
                3 => world.probe(),
                _ if !world.pipe.is_empty() => {
                    let heard = world.pipe.remove(0);
                    world.hear(heard);
                }
                _ => {}
            }
        }
        world.settle();
        // What was sent before the place that was begun at is not promised.
        assert_eq!(world.told.len(), 1, "{}", world.log.join("\n"));
        let promised = &world.handed[world.told[0]..];
        assert!(promised.iter().all(Option::is_some), "{}", world.log.join("\n"));
    }
}

const _: () = assert!(OWN == 0 && ALL == 1);
