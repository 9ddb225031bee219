//! Events that are kept: written where connections are counted, read in groups.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
    time::{Duration, SystemTime},
};

use imcore::{
    Event, EventKind, EventStart, ImClient,
    broker::{Broker, EventBatch, EventReader},
};
use testkit::{PATIENCE, eventually};

use crate::world::{LONG, World, closed, id, opened, serial_of};

const NOW: Duration = Duration::ZERO;

fn reader(group: &str, consumer: &str, start: EventStart) -> EventReader {
    EventReader {
        group: group.into(),
        consumer: consumer.into(),
        start,
        take_over: LONG,
        after: None,
    }
}

fn read(broker: &dyn Broker, reader: &EventReader) -> EventBatch {
    broker.read_events(reader, 100, NOW).unwrap()
}

fn acknowledge(broker: &dyn Broker, reader: &EventReader, batch: &EventBatch) {
    let ids: Vec<_> = batch.events.iter().map(|event| event.id.clone()).collect();
    broker.acknowledge_events(reader, batch.missed, &ids).unwrap();
}

fn words(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.word()).collect()
}

fn ids(batch: &EventBatch) -> Vec<&str> {
    batch.events.iter().map(|event| &*event.id).collect()
}

/// Opens and closes so many connections of one client each, four events each.
fn come_and_go(broker: &dyn Broker, count: u64) {
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    let changes: Vec<_> = (0..count).flat_map(|n| [opened(n, id(n as i64)), closed(n)]).collect();
    changes.chunks(4096).for_each(|part| broker.report(&mut session, part).unwrap());
}

event_behaviour!(what_happens_is_told_in_order_with_all_that_is_known, |world| {
    let broker = world.broker();
    let all = reader("g", "a", EventStart::All);
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(7)), opened(2, id(7)), closed(1)]).unwrap();
    broker.report(&mut session, &[closed(2), closed(2)]).unwrap();
    let batch = read(&*broker, &all);
    assert!(batch.created && batch.missed == 0);
    let told = ["opened", "online", "opened", "ended", "ended", "offline"];
    assert_eq!(words(&batch.events), told);
    let connections: Vec<_> = batch.events.iter().map(|event| event.connection).collect();
    assert_eq!(connections, [1, 1, 2, 1, 2, 2].map(Some));
    for event in &batch.events {
        assert_eq!((event.client.clone(), &*event.node), (Some(id(7)), "n1"));
        assert_eq!(event.ticket.as_ref().unwrap().meta().as_deref(), Some("m"));
        let ended = matches!(event.kind, EventKind::Ended | EventKind::Offline);
        assert_eq!(event.reason, if ended { "peer" } else { "" });
        let age = SystemTime::UNIX_EPOCH + Duration::from_millis(event.ms);
        assert!(age.elapsed().unwrap_or_default() < LONG);
    }
    assert!(batch.events.is_sorted_by(|one, next| one.n < next.n));
});

event_behaviour!(a_node_that_died_is_told_and_each_of_its_connections, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", Duration::from_millis(1), true).unwrap();
    broker.report(&mut session, &[opened(1, id(7)), opened(2, id(7))]).unwrap();
    eventually("it has lapsed", || {
        broker.end_lapsed(&broker.lapsed().unwrap()).unwrap();
        broker.reap(10).unwrap() == 2
    });
    let events = read(&*broker, &reader("g", "a", EventStart::All)).events;
    assert_eq!(words(&events[3..]), ["node_died", "ended", "ended", "offline"]);
    assert_eq!((events[3].client.clone(), &*events[3].node), (None, "n1"));
    assert!(events[4..].iter().all(|event| event.reason == "node_gone" && event.node == "n1"));
});

event_behaviour!(a_session_that_goes_quietly_tells_nothing, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(7))]).unwrap();
    broker.discard_session(&session).unwrap();
    assert_eq!(broker.reap(10).unwrap(), 1);
    let events = read(&*broker, &reader("g", "a", EventStart::All)).events;
    assert_eq!(words(&events), ["opened", "online"]);
});

event_behaviour!(each_event_is_given_to_one_of_a_group_and_to_every_group, |world| {
    let broker = world.broker();
    let one = reader("g", "one", EventStart::New);
    let (two, other) = (reader("g", "two", EventStart::New), reader("h", "one", EventStart::New));
    for reader in [&one, &other] {
        assert!(read(&*broker, reader).created);
    }
    // What one report tells together goes to one reader.
    (0..2).for_each(|_| come_and_go(&*broker, 1));
    let first = broker.read_events(&one, 4, NOW).unwrap();
    let rest = broker.read_events(&two, 100, NOW).unwrap();
    assert_eq!(words(&first.events), ["opened", "online", "ended", "offline"]);
    assert_eq!((words(&rest.events), rest.created), (words(&first.events), false));
    assert_eq!(read(&*broker, &other).events.len(), 8);
    // What is not acknowledged comes again, to whom it was given.
    assert_eq!(ids(&read(&*broker, &two)), ids(&rest));
    acknowledge(&*broker, &two, &rest);
    assert_eq!(ids(&read(&*broker, &two)), [""; 0]);
    assert_eq!(ids(&read(&*broker, &one)), ids(&first));
});

event_behaviour!(what_was_told_together_is_acknowledged_one_by_one, |world| {
    let broker = world.broker();
    let one = reader("g", "one", EventStart::All);
    (0..2).for_each(|_| come_and_go(&*broker, 1));
    let all = read(&*broker, &one).events;
    let ids: Vec<_> = all.iter().map(|event| event.id.clone()).collect();
    let left = |reader| -> Vec<_> {
        read(&*broker, reader).events.iter().map(|event| event.id.clone()).collect()
    };
    assert!(ids.is_sorted() && ids.len() == 8);
    broker.acknowledge_events(&one, 0, &[ids[6].clone(), ids[1].clone()]).unwrap();
    broker.acknowledge_events(&one, 0, &[ids[1].clone(), "x".into(), "9-9".into()]).unwrap();
    assert_eq!(left(&one), [0, 2, 3, 4, 5, 7].map(|place| ids[place].clone()));
    let some = broker.read_events(&one, 4, NOW).unwrap().events;
    assert_eq!(some, [0, 2, 3, 4].map(|place| all[place].clone()));
    broker.acknowledge_events(&one, 0, &ids[2..6]).unwrap();
    let mut heir = reader("g", "heir", EventStart::All);
    heir.take_over = Duration::from_millis(1);
    eventually("the rest is taken over", || left(&heir) == [&*ids[0], &*ids[7]]);
    broker.acknowledge_events(&heir, 0, &ids).unwrap();
    assert_eq!((left(&heir).len(), left(&one).len()), (0, 0));
});

event_behaviour!(a_reader_can_go_on_behind_what_it_has_not_acknowledged, |world| {
    let broker = world.broker();
    (0..3).for_each(|_| come_and_go(&*broker, 1));
    let all = read(&*broker, &reader("h", "a", EventStart::All)).events;
    let mut one = reader("g", "one", EventStart::All);
    let next = |one: &mut EventReader| {
        let events = broker.read_events(one, 8, NOW).unwrap().events;
        one.after = events.last().map(|event| event.id.clone()).or(one.after.take());
        events
    };
    assert_eq!(broker.read_events(&one, 4, NOW).unwrap().events, all[..4]);
    one.after = Some(all[1].id.clone());
    assert_eq!(next(&mut one), all[2..4], "what it has not seen of that");
    assert_eq!(next(&mut one), all[4..8]);
    assert_eq!(next(&mut one), [], "so many are not acknowledged");
    let ids: Vec<_> = all.iter().map(|event| event.id.clone()).collect();
    assert!(broker.acknowledge_events(&one, 0, &ids[..4]).unwrap());
    assert_eq!(next(&mut one), all[8..]);
    assert_eq!(next(&mut one), []);
    one.take_over = Duration::from_millis(1);
    eventually("what it has left comes again", || {
        broker.read_events(&one, 8, NOW).unwrap().events == all[4..]
    });
});

event_behaviour!(how_far_a_group_is_can_be_asked, |world| {
    let broker = world.broker();
    assert_eq!(broker.event_groups().unwrap(), []);
    let one = reader("g", "one", EventStart::All);
    (0..3).for_each(|_| come_and_go(&*broker, 1));
    let given = broker.read_events(&one, 4, NOW).unwrap().events;
    let look = || {
        let groups = broker.event_groups().unwrap();
        let [group] = &groups[..] else { panic!("{groups:?}") };
        assert_eq!((&*group.name, group.readers.len()), ("g", 1));
        let one = &group.readers[0];
        assert_eq!((&*one.name, one.unacknowledged), ("one", group.unacknowledged));
        assert!(one.idle < LONG);
        (group.waiting, group.unacknowledged, group.missed, group.oldest)
    };
    assert_eq!(look(), (8, 4, 0, Some(given[0].ms)));
    let ids: Vec<_> = given.iter().map(|event| event.id.clone()).collect();
    broker.acknowledge_events(&one, 0, &ids[..3]).unwrap();
    assert_eq!(look(), (8, 1, 0, Some(given[3].ms)));
    broker.acknowledge_events(&one, 0, &ids[3..]).unwrap();
    let (waiting, open, _, oldest) = look();
    assert!((waiting, open) == (8, 0) && oldest >= Some(given[0].ms));
    come_and_go(&*broker, 12_000);
    let (waiting, _, missed, _) = look();
    assert!(missed > 0 && waiting + missed == 48_008, "{waiting} and {missed}");
    assert_eq!(read(&*broker, &one).missed, missed);
    assert!(broker.forget_event_group("g").unwrap());
    assert_eq!(broker.event_groups().unwrap(), []);
    assert!(!broker.forget_event_group("g").unwrap());
    assert!(!broker.acknowledge_events(&one, 0, &ids).unwrap());
    assert!(read(&*broker, &one).created);
});

event_behaviour!(what_was_trimmed_in_the_hands_of_the_dead_is_missed, |world| {
    let broker = world.broker();
    (0..3).for_each(|_| come_and_go(&*broker, 1));
    let dead = broker.read_events(&reader("g", "dead", EventStart::All), 12, NOW).unwrap();
    assert_eq!(dead.events.len(), 12);
    come_and_go(&*broker, 12_000);
    let mut heir = reader("g", "heir", EventStart::All);
    heir.take_over = Duration::from_millis(1);
    eventually("all up to the first that is there is missed", || {
        let batch = read(&*broker, &heir);
        batch.events.first().is_some_and(|first| batch.missed == serial_of(first) - 1)
    });
});

event_behaviour!(what_a_reader_leaves_is_taken_over, |world| {
    let broker = world.broker();
    let dead = reader("g", "dead", EventStart::All);
    come_and_go(&*broker, 1);
    let given = read(&*broker, &dead);
    broker.leave_events(&dead).unwrap();
    let patient = reader("g", "patient", EventStart::All);
    assert_eq!(ids(&read(&*broker, &patient)), [""; 0]);
    let heir =
        EventReader { take_over: Duration::from_millis(1), ..reader("g", "heir", EventStart::All) };
    eventually("they are taken over", || ids(&read(&*broker, &heir)) == ids(&given));
    assert_eq!(ids(&read(&*broker, &dead)), [""; 0]);
    acknowledge(&*broker, &heir, &given);
    assert_eq!(ids(&read(&*broker, &heir)), [""; 0]);
});

event_behaviour!(a_group_begins_where_it_was_told, |world| {
    let broker = world.broker();
    (0..2).for_each(|_| come_and_go(&*broker, 1));
    let all = read(&*broker, &reader("all", "a", EventStart::All)).events;
    assert_eq!(all.len(), 8);
    assert_eq!(read(&*broker, &reader("new", "a", EventStart::New)).events.len(), 0);
    let second = SystemTime::UNIX_EPOCH + Duration::from_micros(all[4].n);
    let since = read(&*broker, &reader("since", "a", EventStart::At(second)));
    assert_eq!((since.missed, &since.events[..]), (0, &all[4..]));
});

event_behaviour!(who_waits_is_given_the_next_event, |world| {
    let broker = world.broker();
    let waiting = reader("g", "a", EventStart::New);
    read(&*broker, &waiting);
    std::thread::scope(|scope| {
        let found = scope.spawn(|| {
            let mut found = EventBatch::default();
            while found.events.is_empty() {
                found = broker.read_events(&waiting, 1, PATIENCE).unwrap();
            }
            found
        });
        come_and_go(&*world.broker(), 1);
        assert_eq!(words(&found.join().unwrap().events), ["opened"]);
    });
});

event_behaviour!(what_was_trimmed_unread_is_counted_and_told_until_it_is_acknowledged, |world| {
    let broker = world.broker();
    let (one, two) = (reader("g", "one", EventStart::New), reader("g", "two", EventStart::New));
    read(&*broker, &one);
    come_and_go(&*broker, 10);
    // Given, never acknowledged, and then trimmed as well.
    assert_eq!(broker.read_events(&two, 3, NOW).unwrap().events.len(), 3);
    come_and_go(&*broker, 12_000);
    let batch = read(&*broker, &two);
    let told = batch.missed;
    assert_eq!(told, serial_of(&batch.events[0]) - 1, "all up to the first that is there");
    assert!(told >= 48_040 - (1 << 15), "no more are kept than were asked for");
    assert_eq!(read(&*broker, &one).missed, 0, "one of a group tells");
    assert_eq!(read(&*broker, &two).missed, told, "until it is acknowledged");
    broker.acknowledge_events(&two, told, &[]).unwrap();
    assert_eq!((read(&*broker, &two).missed, read(&*broker, &one).missed), (0, 0));
    // A group that begins later has missed nothing.
    assert_eq!(read(&*broker, &reader("late", "a", EventStart::All)).missed, 0);
});

fn helper(world: &World) -> ImClient {
    ImClient::builder().servers(["n1"]).broker(world.broker()).build().unwrap()
}

event_behaviour!(an_event_comes_again_until_its_handler_succeeds, |world| {
    let (told, heard) = channel();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let events = helper(world).events("g", move |event: &Event| {
        match counted.fetch_add(1, Ordering::Relaxed) {
            0 => Err("not now"),
            1 => panic!("a fault of the business"),
            _ => told.send(event.clone()).map_err(|_| "nobody listens"),
        }
    });
    let events = events.unwrap();
    come_and_go(&*world.broker(), 1);
    let all: Vec<_> = (0..4).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(words(&all), ["opened", "online", "ended", "offline"]);
    events.stop();
    assert_eq!(tries.load(Ordering::Relaxed), 6);
    // What was handled is done.
    let mut heir = reader("g", "heir", EventStart::All);
    heir.take_over = Duration::from_millis(1);
    assert_eq!(ids(&read(&*world.broker(), &heir)), [""; 0]);
});

event_behaviour!(processes_of_a_group_share_the_events, |world| {
    let (told, heard) = channel();
    let start = || {
        let told = told.clone();
        helper(world).events("g", move |event| told.send(event.id.clone())).unwrap()
    };
    let readers = [start(), start(), start()];
    come_and_go(&*world.broker(), 500);
    let mut all: Vec<_> = (0..2000).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 2000);
    readers.into_iter().for_each(imcore::EventStream::stop);
    assert!(heard.try_recv().is_err(), "one more than there are");
});

/// How many events the group was given and has not acknowledged.
fn open(im: &ImClient) -> u64 {
    im.event_groups().unwrap()[0].unacknowledged
}

event_behaviour!(what_was_handled_does_not_wait_for_what_fails, |world| {
    let (told, heard) = channel();
    let (im, tries) = (helper(world), AtomicUsize::new(0));
    let events = helper(world).events("g", move |_: &Event| {
        match tries.fetch_add(1, Ordering::Relaxed) {
            1 => return Err("not now"),
            2 => told.send(open(&im)).unwrap(),
            _ => {}
        }
        Ok(())
    });
    come_and_go(&*world.broker(), 1);
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(3));
    events.unwrap().stop();
});

event_behaviour!(what_takes_long_is_acknowledged_one_by_one, |world| {
    let (told, heard) = channel();
    let im = helper(world);
    let events = helper(world).events("g", move |_: &Event| {
        told.send(open(&im)).map_err(|_| "nobody listens")?;
        // As a store that is far away.
        thread::sleep(Duration::from_millis(120));
        Ok::<_, &str>(())
    });
    come_and_go(&*world.broker(), 1);
    let left: Vec<_> = (0..4).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(left, [4, 3, 2, 1]);
    events.unwrap().stop();
});

#[test]
fn a_group_has_a_name() {
    let im = helper(&World::memory());
    for name in [String::new(), "g".repeat(129)] {
        let refused = im.events(&name, |_| std::io::Result::Ok(()));
        assert_eq!(refused.unwrap_err().kind(), imcore::ErrorKind::Argument);
    }
}
