//! What each group must have been told, knowing only what the clients did and what docs/events.md promises. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a client knows of one of its connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was open, and is not any more.
    Was,
    /// The node said no.
    Refused,
    /// Nobody knows, because no answer came or its node was killed right after it: told whole, or not at all.
    Unknown,
}

/// One connect; its place among all is what its ticket notes.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    pub client: i64,
    pub fate: Fate,
}

/// The types of which this run has events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Opened,
    Online,
    Ended,
    Offline,
}

impl Kind {
    pub fn of(word: &str) -> Option<Kind> {
        match word {
            "opened" => Some(Kind::Opened),
            "online" => Some(Kind::Online),
            "ended" => Some(Kind::Ended),
            "offline" => Some(Kind::Offline),
            _ => None,
        }
    }
}

/// An event as a receiver has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub n: u64,
    pub id: String,
    pub kind: Kind,
    pub client: i64,
    pub attempt: usize,
}

/// All that the receivers of one group have got.
#[derive(Debug, Default)]
pub struct Heard {
    events: BTreeMap<u64, Told>,
    /// By client, where messages are to come in order: the last `n`.
    last: Option<HashMap<i64, u64>>,
    pub verdict: Verdict,
}

/// What became of the events of one group.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Each counted once.
    pub told: u64,
    pub missing: u64,
    /// Came again, as they may.
    pub doubles: u64,
    /// The same told under another id.
    pub renamed: u64,
    /// Told, and never was.
    pub invented: u64,
    /// By `n`, or by the order in which they came, if that is promised.
    pub misordered: u64,
    /// The group was told that it missed some.
    pub missed: u64,
}

impl Heard {
    /// Of receivers who are told in any order.
    pub fn in_any_order() -> Self {
        Heard::default()
    }

    /// Of one who is told all in order.
    pub fn in_order() -> Self {
        Heard { last: Some(HashMap::new()), ..Heard::default() }
    }

    pub fn hear(&mut self, told: Told) {
        if let Some(known) = self.events.get(&told.n) {
            match *known == told {
                true => self.verdict.doubles += 1,
                false => self.verdict.invented += 1,
            }
            return;
        }
        if let Some(last) = &mut self.last {
            let last = last.entry(told.client).or_default();
            self.verdict.misordered += u64::from(told.n < *last);
            *last = told.n.max(*last);
        }
        self.events.insert(told.n, told);
    }

    /// How many different ones there are.
    pub fn count(&self) -> usize {
        self.events.len()
    }

    /// Nothing comes any more; `attempts` is what the clients did, of each in order.
    pub fn judge(&self, attempts: &[Attempt]) -> Verdict {
        let mut verdict = Verdict { told: self.events.len() as u64, ..self.verdict.clone() };
        let mut lives = vec![Life::default(); attempts.len()];
        let mut clients: HashMap<i64, Client> = HashMap::new();
        for told in self.events.values() {
            let is_known = attempts.get(told.attempt).is_some_and(|own| own.client == told.client);
            if !is_known {
                verdict.invented += 1;
                continue;
            }
            let times = lives[told.attempt].times(told.kind);
            *times += 1;
            if *times > 1 {
                verdict.renamed += 1;
                continue;
            }
            let is_certain = attempts[told.attempt].fate == Fate::Was;
            clients.entry(told.client).or_default().see(told, is_certain, &mut verdict);
        }
        for client in clients.values() {
            verdict.missing += u64::from(client.due.is_some());
        }
        for (life, attempt) in lives.iter().zip(attempts) {
            let [opened, ended] = [life.opened, life.ended].map(|times| times > 0);
            match attempt.fate {
                Fate::Was => verdict.missing += u64::from(!opened) + u64::from(!ended),
                Fate::Refused => verdict.invented += u64::from(opened) + u64::from(ended),
                Fate::Unknown => verdict.missing += u64::from(opened != ended),
            }
        }
        verdict
    }
}

/// How often each event of a connect was told.
#[derive(Debug, Default, Clone)]
struct Life {
    opened: u64,
    online: u64,
    ended: u64,
    offline: u64,
}

impl Life {
    fn times(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Opened => &mut self.opened,
            Kind::Online => &mut self.online,
            Kind::Ended => &mut self.ended,
            Kind::Offline => &mut self.offline,
        }
    }
}

/// A client by its events, in the order of `n`.
#[derive(Debug, Default)]
struct Client {
    open: BTreeSet<usize>,
    /// The last connect that is known to have opened.
    latest: usize,
    /// What its next event must be: the first connection is followed by `online`, the last by `offline`.
    due: Option<(Kind, usize)>,
}

impl Client {
    fn see(&mut self, told: &Told, is_certain: bool, verdict: &mut Verdict) {
        let place = (told.kind, told.attempt);
        if let Some(due) = self.due.take() {
            if due == place {
                return;
            }
            verdict.missing += 1;
        }
        match told.kind {
            Kind::Opened => {
                // Connects of a client follow on each other, so they are told in that order.
                verdict.misordered += u64::from(is_certain && told.attempt < self.latest);
                if is_certain {
                    self.latest = told.attempt;
                }
                self.open.insert(told.attempt);
                self.due = (self.open.len() == 1).then_some((Kind::Online, told.attempt));
            }
            Kind::Ended => {
                // An end before its beginning.
                verdict.misordered += u64::from(!self.open.remove(&told.attempt));
                self.due = self.open.is_empty().then_some((Kind::Offline, told.attempt));
            }
            Kind::Online | Kind::Offline => verdict.invented += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAS: Attempt = Attempt { client: 7, fate: Fate::Was };
    const HONEST: [(Kind, usize); 8] = [
        (Kind::Opened, 0),
        (Kind::Online, 0),
        (Kind::Opened, 1),
        (Kind::Ended, 0),
        (Kind::Ended, 1),
        (Kind::Offline, 1),
        (Kind::Opened, 2),
        (Kind::Online, 2),
    ];

    fn told(n: u64, kind: Kind, attempt: usize) -> Told {
        Told { n, id: format!("{n}-{n}"), kind, client: 7, attempt }
    }

    /// What is said of events that are told in this order, the last connect being open for ever.
    fn verdict(fates: [Fate; 3], events: &[(Kind, usize)]) -> Verdict {
        let mut heard = Heard::in_order();
        for (n, (kind, attempt)) in (1..).zip(events) {
            heard.hear(told(n, *kind, *attempt));
        }
        let attempts = fates.map(|fate| Attempt { fate, ..WAS });
        heard.judge(&attempts)
    }

    const ALL: [Fate; 3] = [Fate::Was; 3];

    fn whole() -> Vec<(Kind, usize)> {
        [&HONEST[..], &[(Kind::Ended, 2), (Kind::Offline, 2)]].concat()
    }

    #[test]
    fn an_honest_server_is_believed() {
        assert_eq!(verdict(ALL, &whole()), Verdict { told: 10, ..Verdict::default() });
        let unknown = [Fate::Was, Fate::Was, Fate::Unknown];
        assert_eq!(verdict(unknown, &whole()), Verdict { told: 10, ..Verdict::default() });
        assert_eq!(verdict(unknown, &HONEST[..6]), Verdict { told: 6, ..Verdict::default() });
    }

    #[test]
    fn each_lie_is_found() {
        for left_out in 0..whole().len() {
            let mut events = whole();
            events.remove(left_out);
            let verdict = verdict(ALL, &events);
            assert!(verdict.missing > 0, "without {left_out}: {verdict:?}");
        }
        let half = verdict([Fate::Was, Fate::Was, Fate::Unknown], &HONEST);
        assert_eq!(half.missing, 1);
        let refused = verdict([Fate::Was, Fate::Was, Fate::Refused], &whole());
        assert_eq!(refused.invented, 2);
        let again = verdict(ALL, &[whole(), vec![(Kind::Ended, 2)]].concat());
        assert_eq!((again.renamed, again.doubles), (1, 0));
        let stray = verdict(ALL, &[whole(), vec![(Kind::Opened, 9)]].concat());
        assert_eq!(stray.invented, 1);
        let mut swapped = whole();
        swapped.swap(6, 8);
        assert!(verdict(ALL, &swapped).misordered > 0);
        let early = verdict(
            ALL,
            &[&[(Kind::Opened, 1), (Kind::Online, 1), (Kind::Opened, 0)], &whole()[3..]].concat(),
        );
        assert_eq!(early.misordered, 1);
    }

    #[test]
    fn what_comes_again_is_a_double_and_what_comes_late_is_out_of_order() {
        let mut heard = Heard::in_order();
        heard.hear(told(1, Kind::Opened, 0));
        heard.hear(told(3, Kind::Ended, 0));
        heard.hear(told(1, Kind::Opened, 0));
        assert_eq!((heard.verdict.doubles, heard.verdict.misordered), (1, 0));
        heard.hear(told(2, Kind::Online, 0));
        assert_eq!((heard.verdict.doubles, heard.verdict.misordered), (1, 1));
        heard.hear(Told { id: String::from("other"), ..told(1, Kind::Opened, 0) });
        assert_eq!(heard.verdict.invented, 1);
    }
}
