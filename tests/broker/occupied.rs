//! Channels that get their first member and lose their last: told once each, in turn, in the step that does it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use imcore::{
    Event, EventKind, EventStart,
    broker::{Broker, EventReader, PresenceChange},
};
use testkit::{
    eventually,
    seeded::{Replay, Seeded, seeds},
};

use crate::world::{LONG, closed, id, opened};

/// What a reader of events knows of channels.
struct Reader {
    reader: EventReader,
    occupied: BTreeSet<String>,
    last: u64,
}

impl Reader {
    fn new(broker: &dyn Broker) -> Self {
        let (group, consumer) = ("g".into(), "a".into());
        let reader =
            EventReader { group, consumer, start: EventStart::All, take_over: LONG, after: None };
        // Nodes say with each renewal that events are kept.
        broker.leave_overdue().unwrap();
        Reader { reader, occupied: BTreeSet::new(), last: 0 }
    }

    /// The events about channels that were told since.
    fn next(&mut self, broker: &dyn Broker) -> Vec<Event> {
        let mut told = Vec::new();
        loop {
            let events = broker.read_events(&self.reader, 100, Duration::ZERO).unwrap().events;
            let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
            if ids.is_empty() {
                return told;
            }
            broker.acknowledge_events(&self.reader, 0, &ids).unwrap();
            for event in events.into_iter().filter(|event| event.channel.is_some()) {
                self.take(&event);
                told.push(event);
            }
        }
    }

    /// Every other event of a channel is of the other kind, and has a higher number.
    fn take(&mut self, event: &Event) {
        let channel = event.channel.clone().unwrap();
        assert!(event.n > self.last, "{event:?}");
        self.last = event.n;
        let is_turn = match event.kind {
            EventKind::Occupied => self.occupied.insert(channel),
            EventKind::Vacated => self.occupied.remove(&channel),
            _ => panic!("{event:?}"),
        };
        assert!(is_turn, "told twice: {event:?}");
    }
}

fn about(events: &[Event]) -> Vec<(&str, &str, String)> {
    let of =
        |event: &Event| event.client.as_ref().map_or(String::new(), |client| client.to_string());
    events
        .iter()
        .map(|event| (event.kind.word(), event.channel.as_deref().unwrap(), of(event)))
        .collect()
}

told_event_behaviour!(the_first_member_and_the_last_are_told, |world| {
    let broker = world.broker();
    let mut reader = Reader::new(&*broker);
    let odd = "a b + {\"Item1\":1}\n \u{1f600}";
    broker.join(&[(id(1), "a"), (id(2), "a"), (id(2), odd), (id(1), "a")]).unwrap();
    broker.leave(&[(id(1), "a"), (id(1), "a"), (id(3), "a")]).unwrap();
    let told = reader.next(&*broker);
    assert_eq!(about(&told), [("occupied", "a", "1".into()), ("occupied", odd, "2".into())]);
    assert!(told.iter().all(|event| event.ticket.is_none() && event.connection.is_none()));
    broker.clear_channel(odd).unwrap();
    broker.leave(&[(id(2), "a")]).unwrap();
    broker.join(&[(id(3), "a")]).unwrap();
    let told = reader.next(&*broker);
    let expected = [("vacated", odd, "2"), ("vacated", "a", "2"), ("occupied", "a", "3")];
    assert_eq!(about(&told), expected.map(|(word, name, client)| (word, name, client.into())));
});

told_event_behaviour!(whoever_ends_the_last_membership_tells_it, |world| {
    let broker = world.broker();
    let mut reader = Reader::new(&*broker);
    let mut dying = broker.begin_session("n1", Duration::from_millis(1), true).unwrap();
    let mut living = broker.begin_session("n2", LONG, true).unwrap();
    broker.report(&mut dying, &[opened(1, id(1)), opened(2, id(2))]).unwrap();
    broker.report(&mut living, &[opened(1, id(1)), opened(3, id(3))]).unwrap();
    let many: Vec<_> = (0..3000).map(|number| format!("c{number}")).collect();
    broker.join(&many.iter().map(|name| (id(3), name.as_str())).collect::<Vec<_>>()).unwrap();
    broker.join(&[(id(1), "both"), (id(2), "dead")]).unwrap();
    assert_eq!(reader.next(&*broker).len(), 3002);
    eventually("the dead node is reaped", || {
        broker.end_lapsed(&broker.lapsed().unwrap()).unwrap();
        broker.reap(10).unwrap();
        !broker.are_online(&[id(2)]).unwrap()[0]
    });
    assert_eq!(about(&reader.next(&*broker)), [("vacated", "dead", "2".into())]);
    // More than one step may end.
    broker.report(&mut living, &[closed(1), closed(3)]).unwrap();
    while broker.leave_overdue().unwrap() {}
    assert_eq!(reader.next(&*broker).len(), 3001);
    assert_eq!(reader.occupied, BTreeSet::new());
    // It was not dead.
    let mut again = broker.begin_session("n1", LONG, false).unwrap();
    let ticket = imcore::Ticket::new(id(2), Some("m"));
    let back = PresenceChange::Reopened { connection: 2, ticket, resumable: false };
    broker.report(&mut again, &[back]).unwrap();
    broker.rejoin(&[id(2)]).unwrap();
    assert_eq!(about(&reader.next(&*broker)), [("occupied", "dead", "2".into())]);
});

told_event_behaviour!(channels_are_occupied_and_vacated_in_turn, |world| {
    let broker = world.broker();
    let mut reader = Reader::new(&*broker);
    for seed in seeds("OCCUPIED", 4) {
        let _replay = Replay { variable: "OCCUPIED", seed };
        let mut random = Seeded::new(seed);
        let mut session = broker.begin_session(&format!("n{seed}"), LONG, true).unwrap();
        let (mut open, mut next) = (BTreeMap::new(), 0);
        for _ in 0..60 {
            let client = id(1 + random.below(4) as i64);
            let channel = format!("c{}", random.below(3));
            match random.below(8) {
                0..3 => broker.join(&[(client, &channel)]).unwrap(),
                3..5 => broker.leave(&[(client, &channel)]).unwrap(),
                5 => broker.clear_channel(&channel).unwrap(),
                6 => {
                    next += 1;
                    open.insert(next, client.clone());
                    broker.report(&mut session, &[opened(next, client)]).unwrap();
                }
                _ => {
                    let Some((connection, _)) = open.pop_first() else { continue };
                    broker.report(&mut session, &[closed(connection)]).unwrap();
                }
            }
            if random.once_in(5) {
                broker.leave_overdue().unwrap();
            }
            reader.next(&*broker);
            let listed = broker.channels().unwrap().into_iter().map(|(name, _)| name);
            assert_eq!(reader.occupied, listed.collect());
        }
        let closes: Vec<_> = open.keys().map(|connection| closed(*connection)).collect();
        broker.report(&mut session, &closes).unwrap();
        broker.end_session(&session).unwrap();
    }
});
