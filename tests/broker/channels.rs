//! Behaviours of every broker: who is in which channel, and when that ends.

use std::{thread, time::Duration};

use imcore::{
    ClientId, ErrorKind, Ticket,
    broker::{Broker, GRACE, JoinLimits, PresenceChange},
};
use testkit::eventually;

use crate::world::{LONG, closed, even as id, opened, sorted};

told_shared_behaviour!(the_last_close_leaves_channels, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(7)), opened(2, id(7)), opened(3, id(8))]).unwrap();
    broker.join(&[(id(7), "a"), (id(7), "b"), (id(8), "a")]).unwrap();
    broker.report(&mut session, &[closed(1)]).unwrap();
    assert_eq!(sorted(broker.channels_of(&[id(7)]).unwrap().remove(0)), ["a", "b"]);
    broker.report(&mut session, &[closed(2)]).unwrap();
    assert_eq!(broker.channels_of(&[id(7), id(8)]).unwrap(), [vec![], vec!["a".to_string()]]);
    assert_eq!(broker.channels().unwrap(), [("a".to_string(), 1)]);
    assert_eq!(broker.channel_members("a").unwrap(), [id(8)]);
    assert_eq!(broker.channel_members("b").unwrap(), []);
});

/// Ends memberships as nodes do, until something holds.
pub(crate) fn overdue(broker: &dyn Broker, what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, || {
        while broker.leave_overdue().unwrap() {}
        thread::sleep(Duration::from_millis(20));
        condition()
    });
}

told_shared_behaviour!(a_client_is_in_no_more_channels_than_it_may, |world| {
    let broker = world.broker();
    let mut limits = JoinLimits::default();
    limits.channels_per_client = 3;
    let join = |memberships: &[(ClientId, &str)]| broker.join_within(memberships, &limits);
    join(&[(id(1), "a"), (id(1), "b"), (id(2), "a")]).unwrap();
    let error = join(&[(id(1), "c"), (id(1), "a"), (id(1), "d"), (id(2), "d")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
    assert!(error.to_string().contains("client 2 ") && error.to_string().contains("3 of 4"));
    let mut of = broker.channels_of(&[id(1), id(2)]).unwrap();
    assert_eq!(
        (sorted(of.remove(0)), sorted(of.remove(0))),
        (vec!["a".to_owned(), "b".into(), "c".into()], vec!["a".to_owned(), "d".into()])
    );
    broker.leave(&[(id(1), "a")]).unwrap();
    join(&[(id(1), "d")]).unwrap();
    broker.join(&[(id(1), "e")]).unwrap();
});

told_shared_behaviour!(memberships_of_clients_that_never_come_end, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(1))]).unwrap();
    let mut limits = JoinLimits::default();
    limits.offline_life = Some(Duration::from_secs(2));
    broker.join(&[(id(4), "for ever")]).unwrap();
    for client in 1..=3 {
        broker.join_within(&[(id(client), "a")], &limits).unwrap();
    }
    while broker.leave_overdue().unwrap() {}
    broker.report(&mut session, &[opened(2, id(2))]).unwrap();
    overdue(&*broker, "3 has left", || broker.channel_members("a").unwrap().len() == 2);
    assert_eq!(sorted(broker.channel_members("a").unwrap()), [id(1), id(2)]);
    assert_eq!(broker.channel_members("for ever").unwrap(), [id(4)]);
    broker.report(&mut session, &[closed(1), closed(2)]).unwrap();
    assert_eq!(broker.channel_members("a").unwrap(), []);
});

told_behaviour!(very_many_channels_are_left_in_steps, |world| {
    const CHANNELS: usize = 40_000;
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(1)), opened(2, id(2))]).unwrap();
    let names: Vec<_> = (0..CHANNELS).map(|number| format!("c{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| (id(1), name.as_str())).collect();
    broker.join(&all).unwrap();
    broker.join(&[(id(2), "c0")]).unwrap();
    let left = || broker.channels_of(&[id(1)]).unwrap()[0].len();
    broker.report(&mut session, &[closed(1), closed(2)]).unwrap();
    assert!(left() < CHANNELS, "a report does some of it");
    assert_eq!(broker.channels_of(&[id(2)]).unwrap(), [vec![""; 0]], "others are not held up");
    loop {
        let before = left();
        let more = broker.leave_overdue().unwrap();
        assert!(before - left() <= 10_000);
        if !more {
            break;
        }
    }
    assert_eq!((left(), broker.channels().unwrap().len()), (0, 0));
});

// A node was taken for dead and is not: what its clients have left by that is brought back.
told_shared_behaviour!(a_node_that_returns_brings_its_clients_back, |world| {
    let broker = world.broker();
    let lapsing = Duration::from_millis(50);
    let mut session = broker.begin_session("n1", lapsing, true).unwrap();
    broker.report(&mut session, &[opened(1, id(1)), opened(2, id(2)), opened(3, id(3))]).unwrap();
    let many: Vec<_> = (0..3000).map(|number| format!("c{number}")).collect();
    broker.join(&many.iter().map(|name| (id(1), name.as_str())).collect::<Vec<_>>()).unwrap();
    broker.join(&[(id(1), "a"), (id(1), "b"), (id(2), "a"), (id(3), "a")]).unwrap();
    let mut reaped = 0;
    eventually("all are reaped", || {
        broker.end_lapsed(&broker.lapsed().unwrap()).unwrap();
        reaped += broker.reap(10).unwrap();
        reaped == 3
    });
    while broker.leave_overdue().unwrap() {}
    assert_eq!(broker.channels().unwrap(), []);
    broker.leave(&[(id(1), "b")]).unwrap();
    broker.join(&[(id(1), "new")]).unwrap();
    let mut again = broker.begin_session("n1", LONG, false).unwrap();
    let reopened = |connection, client| PresenceChange::Reopened {
        connection,
        ticket: Ticket::new(client, Some("m")),
        resumable: false,
    };
    // 2 has gone meanwhile, and 3 has a new connection only: its former membership is none.
    broker.report(&mut again, &[reopened(1, id(1)), opened(4, id(3))]).unwrap();
    let mut clients = &[id(1), id(2), id(3)][..];
    while !clients.is_empty() {
        clients = &clients[broker.rejoin(clients).unwrap()..];
    }
    assert_eq!(broker.channel_members("a").unwrap(), [id(1)]);
    assert_eq!(broker.channels_of(&[id(1)]).unwrap()[0].len(), 3002);
    assert_eq!(broker.channels_of(&[id(2), id(3)]).unwrap(), [vec![""; 0], vec![]]);
    assert_eq!(broker.channel_members("b").unwrap(), []);
    // What was brought back once is not brought back by a later return.
    broker.report(&mut again, &[closed(1), closed(4)]).unwrap();
    while broker.leave_overdue().unwrap() {}
    broker.report(&mut again, &[reopened(5, id(1))]).unwrap();
    assert_eq!(broker.rejoin(&[id(1)]).unwrap(), 1);
    assert_eq!(broker.channels().unwrap(), []);
});

// Tickets that are out, and those that were taken, keep channels for ten seconds.
told_behaviour!(who_is_known_to_come_keeps_its_channels, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    let ticket = |client| Ticket::new(id(client), Some("m"));
    for client in 1..=4 {
        broker.report(&mut session, &[opened(client as u64, id(client))]).unwrap();
        broker.join(&[(id(client), "a")]).unwrap();
    }
    broker.put_ticket("out", &ticket(1), GRACE).unwrap();
    broker.put_ticket("taken", &ticket(2), Duration::from_millis(100)).unwrap();
    assert!(broker.take_tickets("n1", &["taken".into()]).unwrap()[0].is_some());
    broker.put_ticket("over", &ticket(3), Duration::from_millis(1)).unwrap();
    thread::sleep(Duration::from_millis(20));
    broker.report(&mut session, &[closed(1), closed(2), closed(3)]).unwrap();
    broker
        .report(&mut session, &[PresenceChange::ClosedLate { connection: 4, reason: "peer" }])
        .unwrap();
    let members = || sorted(broker.channel_members("a").unwrap());
    assert_eq!(members(), [id(1), id(2), id(4)]);
    // One comes, one is given another ticket, one does neither.
    broker.report(&mut session, &[opened(12, id(2))]).unwrap();
    broker.put_ticket("another", &ticket(1), 2 * GRACE).unwrap();
    overdue(&*broker, "4 has left", || members() == [id(1), id(2)]);
    overdue(&*broker, "1 has left", || members() == [id(2)]);
});

told_shared_behaviour!(joining_and_leaving, |world| {
    let broker = world.broker();
    broker.join(&[(id(1), "a"), (id(2), "a"), (id(1), "b"), (id(1), "a")]).unwrap();
    broker.join(&[(id(1), "a")]).unwrap();
    assert_eq!(sorted(broker.channel_members("a").unwrap()), [id(1), id(2)]);
    assert_eq!(sorted(broker.channels().unwrap()), [("a".to_string(), 2), ("b".to_string(), 1)]);
    assert_eq!(broker.channel_size("a").unwrap(), 2);
    assert_eq!(broker.channel_size("nosuch").unwrap(), 0);
    let mut of = broker.channels_of(&[id(2), id(9), id(1)]).unwrap();
    of[2].sort();
    assert_eq!(of, [vec!["a"], vec![], vec!["a", "b"]]);
    broker.leave(&[(id(1), "a"), (id(1), "a"), (id(9), "a"), (id(1), "nosuch")]).unwrap();
    assert_eq!(broker.channel_members("a").unwrap(), [id(2)]);
    broker.leave(&[(id(1), "b"), (id(2), "a")]).unwrap();
    assert_eq!(broker.channels().unwrap(), []);
    assert_eq!(broker.channels_of(&[id(1)]).unwrap(), [Vec::<String>::new()]);
});

told_shared_behaviour!(any_channel_name_will_do, |world| {
    let broker = world.broker();
    let names = [
        "群聊1",
        "emoji😀",
        "q'uote\"s",
        "new\nline",
        "semi;colon:{x}",
        "a b",
        "back\\slash",
        "%s",
        "nul\0byte",
        " ",
        "\u{2028}",
    ];
    let guid: ClientId = "0f8fad5b-d9cb-469f-a165-70867728950e".parse().unwrap();
    for name in names {
        broker.join(&[(id(1), name), (guid.clone(), name), (id(-3), name)]).unwrap();
        let members = sorted(broker.channel_members(name).unwrap());
        assert_eq!(members, sorted(vec![id(1), guid.clone(), id(-3)]), "{name:?}");
        assert_eq!(broker.channel_size(name).unwrap(), 3);
    }
    assert_eq!(
        sorted(broker.channels_of(std::slice::from_ref(&guid)).unwrap().remove(0)),
        sorted(names.to_vec())
    );
    for name in names {
        broker.leave(&[(id(1), name), (guid.clone(), name), (id(-3), name)]).unwrap();
    }
    assert_eq!(broker.channels().unwrap(), []);
});

told_shared_behaviour!(the_system_is_hidden, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(0)), opened(2, id(4))]).unwrap();
    broker.join(&[(id(0), "a"), (id(4), "a")]).unwrap();
    assert_eq!(broker.online_clients().unwrap(), [id(4)]);
    assert_eq!(broker.channel_members("a").unwrap(), [id(4)]);
});

told_shared_behaviour!(clearing_a_channel_keeps_who_is_online, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(250))]).unwrap();
    let memberships: Vec<_> = (1..=300).map(|number| (id(number), "a")).collect();
    broker.join(&memberships).unwrap();
    broker.join(&[(id(3), "b")]).unwrap();
    broker.clear_channel("a").unwrap();
    assert_eq!(broker.channel_members("a").unwrap(), [id(250)]);
    assert_eq!(broker.channel_size("a").unwrap(), 1);
    assert_eq!(broker.channels_of(&[id(3), id(250)]).unwrap(), [vec!["b"], vec!["a"]]);
    broker.clear_channel("nosuch").unwrap();
});
