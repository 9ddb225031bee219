//! Behaviours of every broker: connections go from one node's session to another's, and nobody hears of it.

use std::time::Duration;

use imcore::{
    ErrorKind, NodeStatus, Ticket,
    broker::{Broker, HandOver, PresenceChange, Session},
};
use testkit::eventually;

use crate::world::{Events, LONG, closed, id, opened, sorted};

const KEY: [u8; 16] = [7; 16];

fn session(broker: &dyn Broker, node: &str, lease: Duration) -> Session {
    let session = broker.begin_session(node, lease, true).unwrap();
    broker.keep_session(&session, &KEY, LONG).unwrap();
    session
}

fn resumable(connection: u64) -> PresenceChange {
    let ticket = Ticket::new(id(connection as i64), Some("m"));
    PresenceChange::Opened { connection, ticket, resumable: true }
}

/// Numbers of the connections of these clients at a node.
fn at(broker: &dyn Broker, node: &str, clients: &[i64]) -> Vec<u64> {
    let of = |client: &i64| broker.connections_of(id(*client), node).unwrap();
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
