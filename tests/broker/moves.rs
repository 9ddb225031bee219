//! Behaviours of every broker: connections go from one node's session to another's, and nobody hears of it.

use std::time::Duration;

use imcore::{
    ErrorKind, NodeStatus, Ticket,
    broker::{Abandoned, Broker, Envelope, FeedEvent, HandOver, PresenceChange, Session},
};
use testkit::eventually;

use crate::{
    feed::{NODE, Node, direct, to_channel},
    log::OTHER,
    world::{Events, LONG, closed, id, opened, sorted},
};

const KEY: [u8; 16] = [7; 16];

fn session(broker: &dyn Broker, node: &str, lease: Duration) -> Session {
    let session = broker.begin_session(node, lease, true).unwrap();
    broker.keep_session(&session, &KEY, LONG, Duration::ZERO).unwrap();
    session
}

/// The same of one that is dead, with clients of both kinds, for those of the original's of which it has a grace.
fn dead(broker: &dyn Broker, node: &str, changes: &[PresenceChange], grace: Duration) -> Session {
    let mut session = broker.begin_session(node, Duration::from_millis(100), true).unwrap();
    broker.keep_session(&session, &KEY, LONG, grace).unwrap();
    broker.report(&mut session, changes).unwrap();
    eventually("its lease lapses", || {
        broker.end_lapsed(&broker.lapsed().unwrap()).unwrap() == [session.id.clone()]
    });
    session
}

/// What is abandoned, if it is one session.
fn abandoned(broker: &dyn Broker) -> Abandoned {
    let mut all = broker.abandoned().unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn resumable(connection: u64) -> PresenceChange {
    let ticket = Ticket::new(id(connection as i64), Some("m"));
    PresenceChange::Opened { connection, ticket, resumable: true }
}

/// Numbers of the connections of these clients at a node.
fn at(broker: &dyn Broker, node: &str, clients: &[i64]) -> Vec<u64> {
    let of = |client: &i64| broker.connections_of(&id(*client), node).unwrap();
    sorted(clients.iter().flat_map(of).map(|(number, _)| number).collect())
}

told_behaviour!(connections_change_nodes_and_nobody_hears_of_it, |world| {
    let broker = world.broker();
    let mut a = session(&*broker, "a", LONG);
    let mut b = session(&*broker, "b", LONG);
    broker.report(&mut a, &[opened(1, id(1)), resumable(2), resumable(3)]).unwrap();
    broker.join(&[(id(1), "room"), (id(2), "room")]).unwrap();
    let mut events = Events::of(&*broker);
    let give =
        |a: &Session, parcel: &str| broker.hand_over(a, "b", 77, &[1, 2, 900], parcel).unwrap();
    assert_eq!(give(&a, "first"), HandOver::Done);
    assert_eq!(give(&a, "again"), HandOver::Done);
    assert_eq!(broker.hand_over(&a, "b", 77, &[], "bare").unwrap(), HandOver::Done);
    assert_eq!(broker.parcels(&b).unwrap(), ["first", "bare"]);
    broker.took(&b, 1).unwrap();
    assert_eq!(broker.parcels(&b).unwrap(), ["bare"]);
    assert_eq!(
        (at(&*broker, "a", &[1, 2, 3]), at(&*broker, "b", &[1, 2, 3])),
        (vec![3], vec![1, 2])
    );
    assert_eq!(broker.channel_members("room").unwrap().len(), 2);
    assert_eq!(sorted(broker.online_clients().unwrap()), [id(1), id(2), id(3)]);
    // What becomes of the former node concerns them no more; a report that it repeats neither.
    broker.report(&mut a, &[closed(1), closed(3)]).unwrap();
    broker.end_session(&a).unwrap();
    while broker.reap(10).unwrap() > 0 {}
    broker.report(&mut b, &[closed(1)]).unwrap();
    for client in [3, 1] {
        assert_eq!(events.offline(), Ticket::new(id(client), Some("m")).text());
    }
    // Who goes on from the new one knows from where on its log tells all.
    let former = broker.take_over_session("b", LONG, None).unwrap().unwrap();
    let known: Vec<_> =
        former.connections.iter().map(|c| (c.number, c.resumable, c.from)).collect();
    assert_eq!(known, [(2, true, 77)]);
    assert_eq!(broker.channels_of(&[id(2)]).unwrap(), [["room"]]);
});

told_behaviour!(who_is_not_there_is_given_nothing, |world| {
    let broker = world.broker();
    let mut a = session(&*broker, "a", LONG);
    let mut b = session(&*broker, "b", Duration::from_millis(200));
    broker.report(&mut a, &[resumable(1), resumable(2)]).unwrap();
    let give = |to: &str| broker.hand_over(&a, to, 0, &[1, 2], "parcel").unwrap();
    assert_eq!((give("c"), give("a")), (HandOver::Nobody, HandOver::Nobody));
    broker.report(&mut b, &[opened(2, id(9))]).unwrap();
    broker.renew(&b, &NodeStatus::default()).unwrap();
    assert_eq!(give("b"), HandOver::Taken(vec![2]));
    eventually("its lease runs out", || broker.lapsed().unwrap() == [b.id.clone()]);
    assert_eq!(give("b"), HandOver::Nobody);
    assert!(broker.parcels(&b).unwrap().is_empty());
    assert_eq!(at(&*broker, "a", &[1, 2]), [1, 2]);
    // Nor does one give anything who is dead itself.
    let other = session(&*broker, "b", LONG);
    broker.end_session(&a).unwrap();
    let lost = broker.hand_over(&a, "b", 0, &[1], "parcel").unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::SessionLost);
    assert!(broker.parcels(&other).unwrap().is_empty());
});

told_behaviour!(all_nodes_have_one_key, |world| {
    let (broker, elsewhere) = (world.broker(), world.broker());
    assert_eq!(broker.common_key(&[1; 16]).unwrap(), [1; 16]);
    assert_eq!(elsewhere.common_key(&[2; 16]).unwrap(), [1; 16]);
});

told_behaviour!(what_a_dead_node_has_left_is_taken_and_nobody_hears_of_it, |world| {
    let broker = world.broker();
    let changes = [opened(1, id(1)), resumable(2), resumable(3), opened(4, id(4))];
    let mut a = dead(&*broker, "a", &changes, LONG);
    let mut b = session(&*broker, "b", LONG);
    broker.join(&[(id(1), "room"), (id(2), "room")]).unwrap();
    let mut events = Events::of(&*broker);
    let left = abandoned(&*broker);
    assert_eq!((&*left.session, &*left.node, left.keep, left.grace), (&*a.id, "a", LONG, LONG));
    assert!(left.away < LONG);
    assert_eq!(broker.reap(10).unwrap(), 0, "all are held");
    let known = broker.abandoned_connections(&left.session).unwrap();
    let known: Vec<_> = known.iter().map(|c| (c.number, c.resumable, c.from)).collect();
    assert_eq!(sorted(known), [(1, false, 0), (2, true, 0), (3, true, 0), (4, false, 0)]);
    let take = |b: &Session, numbers: &[u64]| {
        sorted(broker.take_abandoned(b, &left.session, 77, numbers).unwrap())
    };
    assert_eq!(take(&b, &[1, 2, 900]), [1, 2]);
    let mut again = take(&b, &[1, 2, 900]);
    // On Redis the answer may have been lost.
    again.retain(|number| ![1, 2].contains(number));
    assert!(again.is_empty());
    assert_eq!(
        (at(&*broker, "a", &[1, 2, 3, 4]), at(&*broker, "b", &[1, 2, 3, 4])),
        (vec![3, 4], vec![1, 2])
    );
    assert_eq!(broker.channel_members("room").unwrap().len(), 2);
    // One whose number is taken stays with the dead.
    broker.report(&mut b, &[opened(3, id(9))]).unwrap();
    assert_eq!(events.online(), Ticket::new(id(9), Some("m")).text());
    assert!(take(&b, &[3]).is_empty());
    // The dead wakes up: what is not its own any more is not there.
    let lost = broker.report(&mut a, &[closed(1)]).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::SessionLost);
    let former = broker.take_over_session("a", LONG, Some(&a)).unwrap().unwrap();
    let known = former.connections.iter().map(|connection| connection.number);
    assert_eq!(sorted(known.collect()), [3, 4]);
    assert!(broker.abandoned().unwrap().is_empty() && take(&b, &[4]).is_empty());
    broker.report(&mut b, &[closed(1)]).unwrap();
    assert_eq!(events.offline(), Ticket::new(id(1), Some("m")).text());
    let next = broker.take_over_session("b", LONG, None).unwrap().unwrap();
    let known = next.connections.iter().find(|connection| connection.number == 2).unwrap();
    assert_eq!((known.resumable, known.from), (true, 77));
});

told_behaviour!(who_is_in_nobodys_slot_is_held_for_a_grace_and_no_longer, |world| {
    let broker = world.broker();
    let mut events = Events::of(&*broker);
    let grace = Duration::from_secs(2);
    let mut a = dead(&*broker, "a", &[opened(1, id(1)), resumable(2)], grace);
    for _ in 0..2 {
        events.online();
    }
    let b = session(&*broker, "b", LONG);
    assert_eq!(broker.reap(10).unwrap(), 0);
    eventually("its grace is over", || broker.reap(10).unwrap() == 1);
    assert_eq!(events.offline(), Ticket::new(id(1), Some("m")).text());
    assert!(abandoned(&*broker).away >= grace);
    assert_eq!(broker.take_abandoned(&b, &a.id, 0, &[1, 2]).unwrap(), [2]);
    while broker.reap(10).unwrap() > 0 {}
    assert!(broker.abandoned().unwrap().is_empty());
    let lost = broker.report(&mut a, &[closed(2)]).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::SessionLost);
    // One that begins anew has left its clients to be told.
    dead(&*broker, "c", &[opened(3, id(3)), resumable(4)], LONG);
    assert_eq!(abandoned(&*broker).node, "c");
    broker.begin_session("c", LONG, true).unwrap();
    assert!(broker.abandoned().unwrap().is_empty());
});

log_behaviour!(what_was_for_a_dead_node_is_read_to_its_end, |world| {
    let broker = world.broker();
    let mut node = Node::quiet(&*broker);
    node.until("the log", |event| matches!(event, FeedEvent::Log { .. }));
    drop(node);
    let all =
        || Envelope::Channel { sender: id(0), channel: None, content: "1".into(), trace: None };
    let volatile = Envelope::Volatile(Box::new(direct(9)));
    let sent = [direct(1), to_channel("a"), all(), direct(2)];
    let mut outgoing: Vec<_> = sent.iter().map(|envelope| (NODE, envelope.clone())).collect();
    outgoing.extend([(OTHER, direct(3)), (NODE, volatile)]);
    broker.publish(&outgoing).unwrap();
    let mut past = broker.past(NODE).unwrap().unwrap();
    broker.publish(&[(NODE, direct(4))]).unwrap();
    let mut events = Vec::new();
    while let Some(page) = past.next().unwrap() {
        assert!(!page.is_empty());
        events.extend(page);
    }
    assert_eq!(past.next().unwrap(), None);
    let mut events = events.into_iter();
    let Some(FeedEvent::Log { from, .. }) = events.next() else { panic!("where it begins") };
    let (mut last, mut messages) = (from, Vec::new());
    for event in events {
        let FeedEvent::Message { envelope, number: Some(number) } = event else {
            panic!("{event:?}")
        };
        assert!(number > last, "{number} after {last}");
        last = number;
        messages.push(envelope);
    }
    assert_eq!(messages, sent);
});
