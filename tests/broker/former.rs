//! Behaviours of every broker: a node that comes back takes over what its former session holds.

use std::{sync::Arc, time::Duration};

use imcore::{
    ClientId, ErrorKind, NodeStatus, Ticket,
    broker::{Broker, Former, PresenceChange, PresenceEvent, Session},
};
use testkit::eventually;

use crate::world::{Events, LONG, World, closed, even as id, opened, sorted};

const KEY: [u8; 16] = [7, 0, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
const HOUR: Duration = Duration::from_secs(3600);

fn resumable(connection: u64, client: ClientId, keep: Option<Duration>) -> PresenceChange {
    let ticket = Ticket::new(client, Some("m"));
    let ticket = keep.map_or(ticket.clone(), |keep| ticket.kept_for(keep));
    PresenceChange::Opened { connection, ticket, resumable: true }
}

/// A session of `n1` with these connections, which are held for an hour unless their tickets say otherwise.
fn session(broker: &dyn Broker, lease: Duration, changes: &[PresenceChange]) -> Session {
    let mut session = broker.begin_session("n1", lease, true).unwrap();
    broker.keep_session(&session, &KEY, HOUR, Duration::ZERO).unwrap();
    broker.report(&mut session, changes).unwrap();
    session
}

fn is_lost(broker: &dyn Broker, session: &mut Session) {
    let lost = broker.renew(session, &NodeStatus::default()).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::SessionLost);
    let lost = broker.report(session, &[opened(900, id(900))]).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::SessionLost);
}

/// Number, client and whether it can be resumed, of each connection.
fn left(former: &Former) -> Vec<(u64, i64, bool)> {
    let all = former.connections.iter().map(|connection| {
        let ClientId::Int(client) = *connection.ticket.client() else { unreachable!() };
        // Those of the tests are even.
        (connection.number, client / 2, connection.resumable)
    });
    sorted(all.collect())
}

told_shared_behaviour!(a_session_whose_lease_stands_is_taken_over_with_all_it_holds, |world| {
    let broker = world.broker();
    let changes = [opened(1, id(1)), resumable(2, id(2), None), resumable(3, id(3), None)];
    let mut former = session(&*broker, LONG, &changes);
    broker.report(&mut former, &[closed(3)]).unwrap();
    broker.join(&[(id(1), "a"), (id(2), "a")]).unwrap();
    let mut events = Events::of(&*broker);
    assert!(broker.take_over_session("n2", LONG, None).unwrap().is_none(), "another node");
    let mut now = broker.take_over_session("n1", LONG, None).unwrap().unwrap();
    assert_eq!((now.key, left(&now)), (KEY, vec![(1, 1, false), (2, 2, true)]));
    is_lost(&*broker, &mut former);
    broker.renew(&now.session, &NodeStatus::default()).unwrap();
    assert_eq!(broker.reap(10).unwrap(), 0);
    assert_eq!(sorted(broker.online_clients().unwrap()), [id(1), id(2)]);
    broker
        .report(&mut now.session, &[PresenceChange::ClosedLate { connection: 1, reason: "peer" }])
        .unwrap();
    assert_eq!(events.offline(), Ticket::new(id(1), Some("m")).text(), "and nothing before");
    // What goes on can be taken over again.
    let mut next = broker.take_over_session("n1", LONG, None).unwrap().unwrap();
    assert_eq!((next.key, left(&next)), (KEY, vec![(2, 2, true)]));
    is_lost(&*broker, &mut now.session);
    broker.report(&mut next.session, &[closed(2)]).unwrap();
    assert_eq!(events.offline(), Ticket::new(id(2), Some("m")).text());
    assert!(
        broker.take_over_session("n1", LONG, None).unwrap().is_none(),
        "nobody is left to resume"
    );
});

told_shared_behaviour!(each_connection_of_an_ended_session_is_held_for_its_own_time, |world| {
    let broker = world.broker();
    let keep = |seconds| Some(Duration::from_secs(seconds));
    let changes = [
        opened(1, id(1)),
        resumable(2, id(2), None),
        resumable(3, id(3), keep(0)),
        resumable(4, id(4), keep(2)),
        opened(5, id(5)),
        resumable(6, id(6), keep(86_400)),
    ];
    let ended = session(&*broker, LONG, &changes);
    broker.end_session(&ended).unwrap();
    let mut reaped = 0;
    eventually("those that are not held are told", || {
        reaped += broker.reap(10).unwrap();
        reaped == 3
    });
    assert_eq!(sorted(broker.online_clients().unwrap()), [id(2), id(4), id(6)]);
    eventually("the first has been held long enough", || {
        reaped += broker.reap(10).unwrap();
        reaped == 4
    });
    assert_eq!(broker.reap(10).unwrap(), 0);
    let former = broker.take_over_session("n1", LONG, None).unwrap().unwrap();
    assert_eq!(left(&former), [(2, 2, true), (6, 6, true)]);
    assert_eq!(broker.reap(10).unwrap(), 0);
});

told_shared_behaviour!(a_node_taken_for_dead_leaves_those_who_can_resume, |world| {
    let broker = world.broker();
    let changes = [opened(1, id(1)), resumable(2, id(2), None)];
    let mut dead = session(&*broker, Duration::from_millis(100), &changes);
    let mut events = Events::of(&*broker);
    eventually("its lease lapses", || {
        broker.end_lapsed(&broker.lapsed().unwrap()).unwrap() == [dead.id.clone()]
    });
    assert_eq!(broker.reap(10).unwrap(), 1);
    assert_eq!(events.offline(), Ticket::new(id(1), Some("m")).text());
    is_lost(&*broker, &mut dead);
    let mut now = broker.take_over_session("n1", LONG, None).unwrap().unwrap();
    assert_eq!(left(&now), [(2, 2, true)]);
    // One that opens under a new number, and one that goes: as in any session.
    broker.report(&mut now.session, &[resumable(7, id(7), None), closed(2)]).unwrap();
    assert_eq!(events.online(), Ticket::new(id(7), Some("m")).text());
    assert_eq!(events.offline(), Ticket::new(id(2), Some("m")).text());
});

told_shared_behaviour!(what_is_superseded_or_discarded_is_not_held, |world| {
    let broker = world.broker();
    let superseded = session(&*broker, LONG, &[resumable(1, id(1), None)]);
    let now = broker.begin_session("n1", LONG, true).unwrap();
    assert!(broker.take_over_session("n1", LONG, None).unwrap().is_none());
    assert_eq!(broker.reap(10).unwrap(), 1);
    broker.end_session(&superseded).unwrap();
    broker.end_session(&now).unwrap();
    let discarded = session(&*broker, LONG, &[resumable(1, id(1), None)]);
    broker.discard_session(&discarded).unwrap();
    assert!(broker.take_over_session("n1", LONG, None).unwrap().is_none());
    let mut events = Events::of(&*broker);
    assert_eq!(broker.reap(10).unwrap(), 1);
    let mut last = session(&*broker, LONG, &[opened(2, id(2))]);
    assert!(matches!(events.next(), PresenceEvent::Online(_)), "nothing was told of it");
    assert!(broker.take_over_session("n1", LONG, None).unwrap().is_none(), "nobody can resume");
    broker.report(&mut last, &[closed(2)]).unwrap();
});

told_shared_behaviour!(one_of_many_takes_a_session_over, |world| {
    const CONNECTIONS: u64 = 3000;
    let broker = world.broker();
    let changes: Vec<_> = (1..=CONNECTIONS)
        .map(|number| match number % 3 {
            0 => opened(number, id(number as i64)),
            _ => resumable(number, id(number as i64), None),
        })
        .collect();
    session(&*broker, LONG, &changes);
    let mut all = at_once(world, |broker| broker.take_over_session("n1", LONG, None).unwrap());
    // Whoever comes later takes it from whoever came before; in the end one holds it.
    all.retain_mut(|former| {
        broker.renew(&former.session, &NodeStatus::default()).is_ok_and(|()| true)
    });
    let [last] = &mut all[..] else { panic!("{} hold it", all.len()) };
    assert_eq!(last.connections.len(), CONNECTIONS as usize);
    let gone: Vec<_> = (1..=CONNECTIONS).map(closed).collect();
    broker.report(&mut last.session, &gone).unwrap();
    assert_eq!(broker.online_clients().unwrap(), []);
});

fn at_once<T: Send>(world: &World, act: impl Fn(Arc<dyn Broker>) -> Option<T> + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let act = &act;
        let all: Vec<_> = (0..4).map(|_| (scope, world.broker())).collect();
        let all: Vec<_> =
            all.into_iter().map(|(scope, broker)| scope.spawn(move || act(broker))).collect();
        all.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    })
}

told_shared_behaviour!(the_held_do_not_hide_the_others, |world| {
    const HELD: u64 = 2000;
    let broker = world.broker();
    let mut changes: Vec<_> =
        (1..=HELD).map(|number| resumable(number, id(number as i64), None)).collect();
    changes.extend((1..=20).map(|number| opened(HELD + number, id((HELD + number) as i64))));
    let ended = session(&*broker, LONG, &changes);
    broker.end_session(&ended).unwrap();
    let mut reaped = 0;
    eventually("all others are told", || {
        reaped += broker.reap(100).unwrap();
        reaped == 20
    });
    assert_eq!(broker.reap(100).unwrap(), 0);
    assert_eq!(broker.online_clients().unwrap().len(), HELD as usize);
});

told_shared_behaviour!(who_has_lost_its_session_takes_back_that_one_alone, |world| {
    let broker = world.broker();
    let changes = [opened(1, id(1)), resumable(2, id(2), None)];
    let lapse = |session: &Session| {
        let lapsed = || broker.end_lapsed(std::slice::from_ref(&session.id)).unwrap().len() == 1;
        eventually("its lease lapses", lapsed);
        broker.reap(10).unwrap();
    };
    let short = Duration::from_millis(50);
    let lost = session(&*broker, short, &changes);
    lapse(&lost);
    let own = broker.take_over_session("n1", short, Some(&lost)).unwrap().unwrap();
    assert_eq!(left(&own), [(2, 2, true)]);
    lapse(&own.session);
    let own = broker.take_over_session("n1", short, Some(&own.session)).unwrap().unwrap();
    lapse(&own.session);
    // A process that was started meanwhile has it, and keeps it.
    let other = broker.take_over_session("n1", LONG, None).unwrap().unwrap();
    for session in [&lost, &own.session] {
        assert!(broker.take_over_session("n1", LONG, Some(session)).unwrap().is_none());
    }
    broker.renew(&other.session, &NodeStatus::default()).unwrap();
    assert_eq!(broker.online_clients().unwrap(), [id(2)]);
});

#[cfg(feature = "redis")]
#[test]
fn what_was_taken_back_is_found_again_when_the_answer_was_lost() {
    let broker = World::redis().broker();
    let lost = session(&*broker, Duration::from_millis(50), &[resumable(2, id(2), None)]);
    eventually("its lease lapses", || {
        broker.end_lapsed(std::slice::from_ref(&lost.id)).unwrap().len() == 1
    });
    let again = || broker.take_over_session("n1", LONG, Some(&lost)).unwrap().unwrap();
    let (first, second) = (again(), again());
    assert_eq!((&first.session.id, left(&first)), (&second.session.id, left(&second)));
    assert_eq!((second.key, left(&second)), (KEY, vec![(2, 2, true)]));
    broker.renew(&second.session, &NodeStatus::default()).unwrap();
}
