//! Behaviours of every broker: sessions of nodes, and the presence that they report.

use std::{
    collections::HashMap,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use imcore::{
    ClientId, ErrorKind, NodeStatus, Ticket,
    broker::{PresenceChange, PresenceEvent},
};
use testkit::eventually;

use crate::{
    channels::overdue,
    world::{Events, LONG, closed, even as id, opened, sorted},
};

told_shared_behaviour!(presence_is_counted_per_connection, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    let mut elsewhere = broker.begin_session("n2", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(7)), opened(2, id(8))]).unwrap();
    broker.report(&mut elsewhere, &[opened(1, id(7))]).unwrap();
    assert_eq!(sorted(broker.online_clients().unwrap()), [id(7), id(8)]);
    assert_eq!(broker.are_online(&[id(8), id(9), id(7)]).unwrap(), [true, false, true]);
    broker.report(&mut session, &[closed(1), closed(2)]).unwrap();
    assert_eq!(broker.are_online(&[id(7)]).unwrap(), [true]);
    assert_eq!(broker.are_online(&[id(8)]).unwrap(), [false]);
    broker.report(&mut elsewhere, &[closed(1)]).unwrap();
    assert_eq!(broker.online_clients().unwrap(), []);
});

told_shared_behaviour!(events_carry_the_ticket_text, |world| {
    let broker = world.broker();
    let mut events = Events::of(&*broker);
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    let texts = [
        r#"{"Item1":7,"Item2":"10.0.0.1 \"q\" 说 \n"}"#,
        r#"{ "item1" : "8" }"#,
        r#"{"Item1":"0f8fad5b-d9cb-469f-a165-70867728950e","Item2":null}"#,
    ];
    let mut changes = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let ticket = Ticket::parse(text).unwrap();
        changes.push(PresenceChange::Opened {
            connection: number as u64,
            ticket,
            resumable: false,
        });
    }
    changes.push(closed(1));
    broker.report(&mut session, &changes).unwrap();
    for text in texts {
        assert_eq!(events.online(), text);
    }
    assert_eq!(events.offline(), texts[1]);
    broker.report(&mut session, &[closed(2), closed(0)]).unwrap();
    assert_eq!(events.offline(), texts[2]);
    assert_eq!(events.offline(), texts[0]);
});

told_shared_behaviour!(repeating_a_report_has_no_effect, |world| {
    let broker = world.broker();
    let mut events = Events::of(&*broker);
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    // Many, so that the open and the close of a connection do not fall into one chunk.
    let mut changes: Vec<_> = (0..300).map(|number| opened(number, id(1))).collect();
    changes.extend((0..299).map(closed));
    for _ in 0..3 {
        broker.report(&mut session, &changes).unwrap();
    }
    for _ in 0..3 {
        broker.report(&mut session, &[opened(299, id(1)), opened(300, id(2))]).unwrap();
    }
    for _ in 0..3 {
        broker.report(&mut session, &[closed(299)]).unwrap();
    }
    let ends = |event: &PresenceEvent| matches!(event, PresenceEvent::Offline(_));
    let heard: Vec<_> = (0..601).map(|_| events.next()).collect();
    assert_eq!(heard.iter().filter(|event| ends(event)).count(), 300);
    assert!(ends(&heard[600]));
    assert_eq!(broker.online_clients().unwrap(), [id(2)]);
    // Nothing more was announced than that: the next event is the next change.
    broker.report(&mut session, &[closed(300)]).unwrap();
    assert_eq!(events.offline(), Ticket::new(id(2), Some("m")).text());
});

told_shared_behaviour!(a_new_session_supersedes_the_nodes_former_ones, |world| {
    let broker = world.broker();
    let mut former = broker.begin_session("n1", LONG, true).unwrap();
    let mut other = broker.begin_session("n2", LONG, true).unwrap();
    broker.report(&mut former, &[opened(1, id(1)), opened(2, id(2))]).unwrap();
    broker.report(&mut other, &[opened(1, id(2)), opened(2, id(3))]).unwrap();
    broker.join(&[(id(1), "a"), (id(2), "a")]).unwrap();
    assert_eq!(broker.reap(100).unwrap(), 0);

    let mut events = Events::of(&*broker);
    let now = broker.begin_session("n1", LONG, true).unwrap();
    assert_ne!(now.id, former.id);
    assert_eq!(
        broker.renew(&former, &NodeStatus::default()).unwrap_err().kind(),
        ErrorKind::SessionLost
    );
    assert_eq!(broker.reap(1).unwrap(), 1);
    assert_eq!(broker.reap(100).unwrap(), 1);
    assert_eq!(broker.reap(100).unwrap(), 0);
    assert_eq!(sorted(broker.online_clients().unwrap()), [id(2), id(3)]);
    // The node is back, so client 1 may be as well.
    assert_eq!(sorted(broker.channel_members("a").unwrap()), [id(1), id(2)]);
    overdue(&*broker, "it has left", || broker.channel_members("a").unwrap() == [id(2)]);
    let mut gone = [events.offline(), events.offline()];
    gone.sort();
    assert_eq!(gone, [1, 2].map(|client| Ticket::new(id(client), Some("m")).text().to_string()));
    broker.renew(&other, &NodeStatus::default()).unwrap();
    broker.renew(&now, &NodeStatus::default()).unwrap();
});

told_shared_behaviour!(a_session_beside_others_does_not_supersede, |world| {
    let broker = world.broker();
    let first = broker.begin_session("n1", LONG, true).unwrap();
    let second = broker.begin_session("n1", LONG, false).unwrap();
    broker.renew(&first, &NodeStatus::default()).unwrap();
    broker.renew(&second, &NodeStatus::default()).unwrap();
});

told_shared_behaviour!(a_lapsed_lease_is_reaped, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", Duration::from_millis(300), true).unwrap();
    broker.report(&mut session, &[opened(1, id(1)), opened(2, id(1))]).unwrap();
    let mut reaped = 0;
    assert_eq!(broker.end_lapsed(&[session.id.clone(), "nosuch".into()]).unwrap(), [""; 0]);
    eventually("both are reaped", || {
        broker.end_lapsed(&broker.lapsed().unwrap()).unwrap();
        reaped += broker.reap(10).unwrap();
        reaped == 2
    });
    assert_eq!(broker.lapsed().unwrap(), [""; 0]);
    assert_eq!(broker.online_clients().unwrap(), []);
    let change = [opened(3, id(1))];
    assert_eq!(broker.report(&mut session, &change).unwrap_err().kind(), ErrorKind::SessionLost);
    assert_eq!(
        broker.renew(&session, &NodeStatus::default()).unwrap_err().kind(),
        ErrorKind::SessionLost
    );
});

told_shared_behaviour!(renewing_keeps_a_session, |world| {
    let broker = world.broker();
    // Two leases of one length; the one that is not renewed tells that the time has passed.
    let lease = Duration::from_millis(500);
    let mut kept = broker.begin_session("n1", lease, true).unwrap();
    let mut witness = broker.begin_session("n2", lease, true).unwrap();
    broker.report(&mut kept, &[opened(1, id(1))]).unwrap();
    broker.report(&mut witness, &[opened(1, id(2))]).unwrap();
    eventually("the witness has lapsed", || {
        broker.renew(&kept, &NodeStatus::default()).unwrap();
        let lapsed = broker.lapsed().unwrap();
        assert_eq!(broker.end_lapsed(&lapsed).unwrap(), lapsed);
        broker.reap(10).unwrap() == 1
    });
    assert_eq!(broker.online_clients().unwrap(), [id(1)]);
});

told_shared_behaviour!(two_reapers_never_close_twice, |world| {
    const CONNECTIONS: u64 = 3000;
    let broker = world.broker();
    for node in ["n1", "n2"] {
        let mut session = broker.begin_session(node, LONG, true).unwrap();
        let changes: Vec<_> =
            (0..CONNECTIONS / 2).map(|number| opened(number, id(number as i64 + 1))).collect();
        broker.report(&mut session, &changes).unwrap();
        broker.join(&[(id(5), "a"), (id(6), "a")]).unwrap();
        broker.end_session(&session).unwrap();
    }
    let mut events = Events::of(&*broker);
    let start = Arc::new(Barrier::new(2));
    let reapers: Vec<_> = (0..2)
        .map(|_| {
            let (broker, start) = (world.broker(), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                let mut total = 0;
                loop {
                    let closed = broker.reap(130).unwrap();
                    total += closed;
                    if closed < 130 {
                        return total;
                    }
                }
            })
        })
        .collect();
    let mut heard: HashMap<String, u32> = HashMap::new();
    for _ in 0..CONNECTIONS {
        *heard.entry(events.offline()).or_default() += 1;
    }
    let total: usize = reapers.into_iter().map(|reaper| reaper.join().unwrap()).sum();
    assert_eq!(total, CONNECTIONS as usize);
    assert_eq!(heard.len(), CONNECTIONS as usize / 2);
    assert!(heard.values().all(|count| *count == 2));
    assert_eq!(broker.online_clients().unwrap(), []);
    assert_eq!(broker.channels().unwrap(), []);
    assert_eq!(broker.reap(10).unwrap(), 0);
});

told_shared_behaviour!(an_ended_session_is_lost, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(1))]).unwrap();
    broker.end_session(&session).unwrap();
    broker.end_session(&session).unwrap();
    assert_eq!(
        broker.renew(&session, &NodeStatus::default()).unwrap_err().kind(),
        ErrorKind::SessionLost
    );
    assert_eq!(broker.online_clients().unwrap(), [id(1)]);
    assert_eq!(broker.reap(10).unwrap(), 1);
    assert_eq!(broker.online_clients().unwrap(), []);
    let empty = broker.begin_session("n1", LONG, true).unwrap();
    broker.end_session(&empty).unwrap();
    assert_eq!(broker.reap(10).unwrap(), 0);
});

told_shared_behaviour!(a_lost_session_reports_nothing, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(1))]).unwrap();
    broker.begin_session("n1", LONG, true).unwrap();
    let mut events = Events::of(&*broker);
    let changes = [closed(1), opened(2, id(2))];
    assert_eq!(broker.report(&mut session, &changes).unwrap_err().kind(), ErrorKind::SessionLost);
    assert_eq!(broker.online_clients().unwrap(), [id(1)]);
    assert_eq!(broker.reap(10).unwrap(), 1);
    assert_eq!(events.offline(), Ticket::new(id(1), Some("m")).text());
});

fn status(connections: u64) -> NodeStatus {
    let mut status = NodeStatus::default();
    (status.version, status.connections) = ("说 \"1\"".into(), connections);
    status
}

told_shared_behaviour!(a_status_is_heard_as_long_as_the_lease_stands, |world| {
    let broker = world.broker();
    assert_eq!(broker.statuses().unwrap(), []);
    let short = broker.begin_session("n1", Duration::from_millis(300), true).unwrap();
    let long = broker.begin_session("n 2", LONG, true).unwrap();
    assert!(broker.statuses().unwrap().contains(&("n 2".into(), None)));
    broker.renew(&long, &status(1)).unwrap();
    broker.renew(&long, &status(2)).unwrap();
    eventually("both are heard", || {
        broker.renew(&short, &status(9)).unwrap();
        broker.statuses().unwrap().contains(&("n1".into(), Some(status(9))))
    });
    let left = [("n 2".to_owned(), Some(status(2)))];
    eventually("one is silent", || broker.statuses().unwrap() == left);
    let successor = broker.begin_session("n 2", LONG, true).unwrap();
    assert_eq!(broker.statuses().unwrap(), [("n 2".into(), None)]);
    broker.end_session(&successor).unwrap();
    assert_eq!(broker.statuses().unwrap(), []);
});

told_shared_behaviour!(connections_of_a_client_are_found_on_its_node, |world| {
    const CONNECTIONS: u64 = 5000;
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    let mut beside = broker.begin_session("n1", LONG, false).unwrap();
    let mut elsewhere = broker.begin_session("n2", LONG, true).unwrap();
    let guid: ClientId = "0f8fad5b-d9cb-469f-a165-70867728950e".parse().unwrap();
    let opened_with = |connection, client, meta| PresenceChange::Opened {
        connection,
        ticket: Ticket::new(client, meta),
        resumable: false,
    };
    // Ids that begin like the one that is looked for, and as many as take several steps.
    let others = (10..CONNECTIONS).map(|number| opened(number, id(7000 + number as i64)));
    let mut changes: Vec<_> = others.collect();
    changes.push(opened_with(1, id(7), Some("phone <b>\n")));
    changes.push(opened_with(2, guid.clone(), None));
    changes.push(opened_with(3, id(7), None));
    broker.report(&mut session, &changes).unwrap();
    broker.report(&mut beside, &[opened_with(1, id(7), Some("twin"))]).unwrap();
    broker.report(&mut elsewhere, &[opened_with(1, id(7), Some("not this node"))]).unwrap();
    let metas = |client: &ClientId, node: &str| {
        let found = broker.connections_of(client, node).unwrap();
        sorted(found.iter().map(|(number, ticket)| (*number, ticket.meta())).collect())
    };
    let phone = Some("phone <b>\n".to_owned());
    assert_eq!(metas(&id(7), "n1"), [(1, phone), (1, Some("twin".into())), (3, None)]);
    assert_eq!(metas(&guid, "n1"), [(2, None)]);
    assert_eq!(metas(&id(7), "n3"), []);
    assert_eq!(metas(&id(8), "n1"), []);
    broker.report(&mut session, &[closed(1)]).unwrap();
    assert_eq!(metas(&id(7), "n1"), [(1, Some("twin".into())), (3, None)]);
});
