//! Rosters: what is said of a channel is who of its members is online, whoever asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use imcore::{
    ClientId,
    broker::{Broker, PresenceChange, ROSTER_NAMES, Roster, RosterMark},
};
use testkit::{
    eventually,
    seeded::{Replay, Seeded, seeds},
};

use crate::world::{LONG, closed, id, opened};

/// What somebody knows who asks now and then, as a node does.
struct Reader {
    broker: Arc<dyn Broker>,
    mark: RosterMark,
    known: BTreeMap<String, Roster>,
    /// How often something was told.
    told: usize,
}

impl Reader {
    fn new(broker: Arc<dyn Broker>) -> Self {
        Reader { broker, mark: RosterMark::default(), known: BTreeMap::new(), told: 0 }
    }

    fn ask(&mut self) {
        loop {
            let news = self.broker.rosters(&self.mark).unwrap();
            self.mark = news.mark;
            self.told += news.changed.len();
            for (channel, roster) in news.changed {
                match roster {
                    Some(roster) => drop(self.known.insert(channel, roster)),
                    None => drop(self.known.remove(&channel)),
                }
            }
            if !news.more {
                return;
            }
        }
    }

    /// Who is there, if anything is known of the channel.
    fn members(&self, channel: &str) -> Option<Vec<ClientId>> {
        let roster = self.known.get(channel)?;
        let members = roster.members.as_ref()?;
        assert_eq!(roster.online, members.len() as u64);
        assert!(members.is_sorted() && members.len() < ROSTER_NAMES);
        Some(members.to_vec())
    }

    fn await_members(&mut self, channel: &str, expected: &[i64]) {
        let expected: Vec<_> = expected.iter().map(|number| id(*number)).collect();
        eventually("those who are online", || {
            self.ask();
            self.members(channel).is_some_and(|members| members == expected)
        });
    }
}

behaviour!(a_roster_is_who_of_the_members_is_online, |world| {
    let broker = world.broker();
    let mut reader = Reader::new(world.broker());
    let mut session = broker.begin_session("n", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(1)), opened(2, id(2)), opened(3, id(2))]).unwrap();
    broker.join(&[(id(1), "other"), (id(2), "other")]).unwrap();
    reader.ask();
    assert_eq!(
        (reader.told, reader.mark.clone()),
        (0, RosterMark::default()),
        "nobody asked for it"
    );
    let odd = ["s", "Due", "a b\n + \u{1f600} \"", "r"];
    for channel in odd {
        broker.set_roster(channel, true).unwrap();
        broker.set_roster(channel, true).unwrap();
        reader.await_members(channel, &[]);
    }
    for channel in odd {
        broker.join(&[(id(1), channel), (id(9), channel), (id(2), channel)]).unwrap();
    }
    for channel in odd {
        reader.await_members(channel, &[1, 2]);
    }
    // Another knows the same, all at once.
    let mut late = Reader::new(world.broker());
    late.ask();
    assert_eq!((&late.known, late.told), (&reader.known, odd.len()));
    broker.report(&mut session, &[closed(2), opened(9, id(9))]).unwrap();
    reader.await_members("r", &[1, 2, 9]);
    broker.report(&mut session, &[closed(3)]).unwrap();
    broker.leave(&[(id(1), "r")]).unwrap();
    reader.await_members("r", &[9]);
    reader.await_members("s", &[1, 9]);
    // One that is switched off is known to be, and goes on as if new.
    broker.set_roster("r", false).unwrap();
    broker.set_roster("never on", false).unwrap();
    reader.ask();
    assert!(!reader.known.contains_key("r"));
    broker.join(&[(id(1), "r")]).unwrap();
    broker.set_roster("r", true).unwrap();
    reader.await_members("r", &[1, 9]);
    let told = reader.told;
    reader.ask();
    assert_eq!(reader.told, told, "nothing has changed");
});

behaviour!(members_of_a_dead_node_and_of_one_that_is_back_are_told, |world| {
    let broker = world.broker();
    let mut reader = Reader::new(world.broker());
    broker.set_roster("r", true).unwrap();
    let mut dying = broker.begin_session("n1", Duration::from_millis(1), true).unwrap();
    broker.report(&mut dying, &[opened(1, id(1)), opened(2, id(2))]).unwrap();
    broker.join(&[(id(1), "r"), (id(2), "r")]).unwrap();
    reader.await_members("r", &[1, 2]);
    eventually("the dead node is reaped", || {
        broker.end_lapsed(&broker.lapsed().unwrap()).unwrap();
        broker.reap(10).unwrap();
        !broker.are_online(&[id(2)]).unwrap()[0]
    });
    reader.await_members("r", &[]);
    let mut again = broker.begin_session("n1", LONG, false).unwrap();
    let ticket = imcore::Ticket::new(id(2), Some("m"));
    let back = PresenceChange::Reopened { connection: 2, ticket, resumable: false };
    broker.report(&mut again, &[back]).unwrap();
    broker.rejoin(&[id(2)]).unwrap();
    reader.await_members("r", &[2]);
});

behaviour!(many_are_counted_and_not_named, |world| {
    let broker = world.broker();
    let mut reader = Reader::new(world.broker());
    broker.set_roster("r", true).unwrap();
    let mut session = broker.begin_session("n", LONG, true).unwrap();
    let all: Vec<_> = (1..=2001).map(id).collect();
    let number = |client: ClientId| client.to_string().parse::<u64>().unwrap();
    let open: Vec<_> =
        all.iter().map(|client| opened(number(client.clone()), client.clone())).collect();
    broker.join(&all.iter().map(|client| (client.clone(), "r")).collect::<Vec<_>>()).unwrap();
    for (range, online) in [(0..199, 199), (199..200, 200), (200..2001, 2001)] {
        broker.report(&mut session, &open[range]).unwrap();
        eventually("counted", || {
            reader.ask();
            reader.known.get("r").is_some_and(|roster| roster.online == online)
        });
        assert_eq!(reader.members("r").is_some(), online < 200);
    }
    let close: Vec<_> = (200..=2001).map(closed).collect();
    broker.report(&mut session, &close).unwrap();
    while broker.leave_overdue().unwrap() {}
    reader.await_members("r", &(1..200).collect::<Vec<_>>());
});

behaviour!(whatever_happens_the_roster_becomes_the_members_that_are_online, |world| {
    let broker = world.broker();
    let mut reader = Reader::new(world.broker());
    let channels = ["a", "b", "c"];
    channels.iter().for_each(|channel| broker.set_roster(channel, true).unwrap());
    for seed in seeds("ROSTERS", 2) {
        let _replay = Replay { variable: "ROSTERS", seed };
        let mut random = Seeded::new(seed);
        let mut session = broker.begin_session(&format!("n{seed}"), LONG, true).unwrap();
        let (mut open, mut next) = (BTreeMap::new(), 0);
        for _ in 0..100 {
            let client = id(1 + random.below(6) as i64);
            let channel = channels[random.below(3)];
            match random.below(8) {
                0..3 => broker.join(&[(client, channel)]).unwrap(),
                3 => broker.leave(&[(client, channel)]).unwrap(),
                4 => broker.clear_channel(channel).unwrap(),
                5..7 => {
                    next += 1;
                    open.insert(next, client.clone());
                    broker.report(&mut session, &[opened(next, client)]).unwrap();
                }
                _ => {
                    let Some((connection, _)) = open.pop_first() else { continue };
                    broker.report(&mut session, &[closed(connection)]).unwrap();
                }
            }
            if random.once_in(4) {
                reader.ask();
            }
        }
        let online: BTreeSet<ClientId> = open.values().cloned().collect();
        eventually("what is told is so", || {
            reader.ask();
            channels.iter().all(|channel| {
                let members: BTreeSet<_> =
                    broker.channel_members(channel).unwrap().into_iter().collect();
                let here: Vec<_> = members.intersection(&online).cloned().collect();
                reader.members(channel) == Some(here)
            })
        });
        let close: Vec<_> = open.keys().map(|connection| closed(*connection)).collect();
        broker.report(&mut session, &close).unwrap();
    }
});

/// Without a mark it would be found as well, but later.
#[cfg(feature = "redis")]
#[test]
fn what_a_script_changes_it_marks() {
    let world = crate::world::World::redis();
    let broker = world.broker();
    let mut admin = testkit::Redis::shared().connect();
    let pattern = "t*x_wsRostersDue";
    let mut session = broker.begin_session("n", LONG, true).unwrap();
    let channel = "what a script changes";
    broker.join(&[(id(1), channel), (id(1), "another")]).unwrap();
    broker.set_roster(channel, true).unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut admin).unwrap();
    let mut is_marked = || {
        let removed = |key| redis::cmd("ZREM").arg(key).arg(channel).query(&mut admin).unwrap();
        keys.iter().any(removed)
    };
    assert!(is_marked() && !is_marked());
    broker.report(&mut session, &[opened(1, id(1))]).unwrap();
    assert!(is_marked(), "online");
    broker.report(&mut session, &[opened(2, id(1)), closed(2)]).unwrap();
    broker.join(&[(id(1), channel), (id(1), "a third")]).unwrap();
    assert!(!is_marked(), "nothing has changed");
    broker.leave(&[(id(1), channel)]).unwrap();
    assert!(is_marked(), "left");
    broker.join(&[(id(1), channel)]).unwrap();
    assert!(is_marked(), "joined");
    broker.report(&mut session, &[closed(1)]).unwrap();
    assert!(is_marked(), "offline");
}

#[cfg(feature = "redis")]
#[test]
fn who_joins_without_a_word_is_found() {
    use imcore::broker::{RedisBroker, RedisOptions, Rosters as _};

    let server = testkit::Redis::start();
    let open = || Arc::new(RedisBroker::open(&server.url(), RedisOptions::default()).unwrap());
    let (broker, mut reader) = (open(), Reader::new(open()));
    broker.set_roster("r", true).unwrap();
    let plain = |command: &[&str]| {
        redis::cmd(command[0]).arg(&command[1..]).exec(&mut server.connect()).unwrap();
    };
    // As a helper and a node of another make write it.
    plain(&["HSET", "im_v2_wsOnline", "7", "1", "8", "0", "9", "x"]);
    for member in ["7", "8", "9", "junk", "0"] {
        plain(&["HSET", "im_v2_wsChanr", member, "0"]);
        plain(&["HSET", &format!("im_v2_wsClient{member}"), "r", "0"]);
    }
    reader.await_members("r", &[7]);
    plain(&["HSET", "im_v2_wsOnline", "8", "2"]);
    reader.await_members("r", &[7, 8]);
    // A key of another type is nobody, and what is lost is known to be.
    plain(&["DEL", "im_v2_wsChanr"]);
    plain(&["SET", "im_v2_wsChanr", "x"]);
    reader.await_members("r", &[]);
    plain(&["FLUSHALL"]);
    let mark = reader.mark.clone();
    reader.ask();
    assert!(reader.mark.epoch.is_empty() && !mark.epoch.is_empty());
    broker.set_roster("r", true).unwrap();
    reader.ask();
    assert!(reader.mark.epoch != mark.epoch && reader.mark.version > mark.version);
}
