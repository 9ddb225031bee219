//! Tickets, presence, sessions and channels, by the contract alone.

use std::{
    collections::HashMap,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use imcore::{
    ClientId, ErrorKind, NodeStatus, Ticket,
    broker::{Broker, GRACE, JoinLimits, Page, PresenceChange, PresenceEvent, TakenTicket},
};
use testkit::eventually;

use crate::world::{Events, closed, id, opened, sorted};

const LONG: Duration = Duration::from_secs(60);

behaviour!(tickets_are_taken_once, |world| {
    let broker = world.broker();
    let tokens: Vec<String> = (0..100).map(|number| format!("token{number}")).collect();
    for (number, token) in tokens.iter().enumerate() {
        broker.put_ticket(token, &Ticket::new(id(number as i64 + 1), None), LONG).unwrap();
    }
    let start = Arc::new(Barrier::new(8));
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let (broker, tokens, start) = (world.broker(), tokens.clone(), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                let chunks = tokens.chunks(7);
                chunks.flat_map(|chunk| broker.take_tickets(chunk).unwrap()).flatten().count()
            })
        })
        .collect();
    let taken: usize = racers.into_iter().map(|racer| racer.join().unwrap()).sum();
    assert_eq!(taken, 100);
});

behaviour!(tickets_expire, |world| {
    let broker = world.broker();
    // Looking takes a ticket away, so there is one for each look.
    let mut number = 0;
    let ticket = Ticket::new(id(1), None);
    eventually("a ticket has expired", || {
        let token = format!("short{number}");
        number += 1;
        broker.put_ticket(&token, &ticket, Duration::from_millis(number)).unwrap();
        let kept = format!("long{number}");
        broker.put_ticket(&kept, &ticket, LONG).unwrap();
        thread::sleep(Duration::from_millis(2));
        let taken = broker.take_tickets(&[token, kept]).unwrap();
        assert!(taken[1].is_some());
        taken[0].is_none()
    });
});

behaviour!(tickets_keep_the_order_of_tokens, |world| {
    let broker = world.broker();
    let first = Ticket::parse(r#"{ "item2":"10.0.0.1", "item1":"5" }"#).unwrap();
    let second = Ticket::new(id(6), Some("说"));
    broker.put_ticket("b", &second, Duration::from_secs(10)).unwrap();
    broker.put_ticket("a", &first, Duration::from_millis(9_500)).unwrap();
    let tokens = ["a", "nosuch", "b", "a"].map(String::from);
    let taken = broker.take_tickets(&tokens).unwrap();
    let texts: Vec<_> =
        taken.iter().map(|taken| taken.as_ref().map(|taken| &taken.text[..])).collect();
    assert_eq!(texts, [Some(first.text()), None, Some(second.text()), None]);
});

behaviour!(tickets_are_put_back_for_what_is_left_of_their_life, |world| {
    let broker = world.broker();
    let ticket = Ticket::new(id(1), Some("元"));
    broker.put_ticket("a", &ticket, Duration::from_secs(50)).unwrap();
    let take = |token: &str| broker.take_tickets(&[token.to_owned()]).unwrap().pop().unwrap();
    let taken = take("a").unwrap();
    assert_eq!(taken.text, ticket.text());
    assert!(taken.left <= Duration::from_secs(50) && taken.left > Duration::from_secs(20));
    assert_eq!(take("a"), None);
    broker.return_tickets(&[("a", &taken)]).unwrap();
    let again = take("a").unwrap();
    assert!(again.text == taken.text && again.left <= taken.left, "{again:?}");
    // What is there meanwhile stays.
    let newer = Ticket::new(id(2), None);
    broker.put_ticket("a", &newer, LONG).unwrap();
    broker.return_tickets(&[("a", &taken)]).unwrap();
    assert_eq!(take("a").unwrap().text, newer.text());
    // It vanishes when it would have.
    let short = TakenTicket { left: Duration::from_millis(1), ..taken };
    broker.return_tickets(&[("b", &short)]).unwrap();
    thread::sleep(Duration::from_millis(5));
    assert_eq!(take("b"), None);
    broker.return_tickets(&[]).unwrap();
});

behaviour!(tickets_of_a_client_can_be_voided, |world| {
    let broker = world.broker();
    let put = |token: &str, client| {
        broker.put_ticket(token, &Ticket::new(id(client), None), LONG).unwrap();
    };
    let good = |token: &str| broker.take_tickets(&[token.to_owned()]).unwrap()[0].is_some();
    [("a1", 1), ("a2", 1), ("b", 2), ("a3", 1)]
        .iter()
        .for_each(|(token, client)| put(token, *client));
    assert!(good("a3"), "one that is taken is not touched");
    broker.void_tickets(id(1)).unwrap();
    put("a4", 1);
    assert_eq!(["a1", "a2", "a4", "b"].map(good), [false, false, true, true]);
    broker.void_tickets(id(3)).unwrap();
});

behaviour!(a_request_is_claimed_once, |world| {
    let start = Barrier::new(8);
    let first: Vec<bool> = thread::scope(|scope| {
        let race = |number: usize| {
            let (broker, start) = (world.broker(), &start);
            scope.spawn(move || {
                start.wait();
                broker.claim("键 1", &format!("claim {number}"), LONG).unwrap().is_none()
            })
        };
        let racers: Vec<_> = (0..8).map(race).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(first.iter().filter(|first| **first).count(), 1, "{first:?}");
    let winner = format!("claim {}", first.iter().position(|first| *first).unwrap());
    let broker = world.broker();
    assert_eq!(broker.claim("键 1", &winner, LONG).unwrap().as_ref(), Some(&winner));
    assert!(!broker.complete("键 1", "another claim", "stolen", LONG).unwrap());
    assert!(broker.complete("键 1", &winner, "done \0 好", LONG).unwrap());
    assert_eq!(broker.claim("键 1", "late", LONG).unwrap().as_deref(), Some("done \0 好"));
    assert!(!broker.complete("键 1", &winner, "twice", LONG).unwrap());
    assert_eq!(broker.claim("键 2", "late", LONG).unwrap(), None, "keys are apart");
});

behaviour!(claims_expire_and_are_released, |world| {
    let broker = world.broker();
    assert_eq!(broker.claim("a", "first", Duration::from_millis(1)).unwrap(), None);
    eventually("a claim has expired", || broker.claim("a", "second", LONG).unwrap().is_none());
    assert!(!broker.complete("a", "first", "too late", LONG).unwrap());
    assert!(broker.complete("a", "second", "", Duration::ZERO).unwrap());
    assert_eq!(broker.claim("a", "third", LONG).unwrap(), None);
    assert!(broker.complete("a", "third", "done", Duration::from_millis(1)).unwrap());
    eventually("an outcome has expired", || broker.claim("a", "fourth", LONG).unwrap().is_none());
});

behaviour!(presence_is_counted_per_connection, |world| {
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

behaviour!(events_carry_the_ticket_text, |world| {
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
        changes.push(PresenceChange::Opened { connection: number as u64, ticket });
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

behaviour!(repeating_a_report_has_no_effect, |world| {
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

behaviour!(the_last_close_leaves_channels, |world| {
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

behaviour!(a_new_session_supersedes_the_nodes_former_ones, |world| {
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

/// Ends memberships as nodes do, until something holds.
fn overdue(broker: &dyn Broker, what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, || {
        while broker.leave_overdue().unwrap() {}
        thread::sleep(Duration::from_millis(20));
        condition()
    });
}

behaviour!(a_client_is_in_no_more_channels_than_it_may, |world| {
    let broker = world.broker();
    let mut limits = JoinLimits::default();
    limits.channels_per_client = 3;
    let join = |memberships: &[(ClientId, &str)]| broker.join_within(memberships, &limits);
    join(&[(id(1), "a"), (id(1), "b"), (id(2), "a")]).unwrap();
    let error = join(&[(id(1), "c"), (id(1), "a"), (id(1), "d"), (id(2), "d")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
    assert!(error.to_string().contains("client 1 ") && error.to_string().contains("3 of 4"));
    let mut of = broker.channels_of(&[id(1), id(2)]).unwrap();
    assert_eq!(
        (sorted(of.remove(0)), sorted(of.remove(0))),
        (vec!["a".to_owned(), "b".into(), "c".into()], vec!["a".to_owned(), "d".into()])
    );
    broker.leave(&[(id(1), "a")]).unwrap();
    join(&[(id(1), "d")]).unwrap();
    broker.join(&[(id(1), "e")]).unwrap();
});

behaviour!(memberships_of_clients_that_never_come_end, |world| {
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

behaviour!(very_many_channels_are_left_in_steps, |world| {
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
behaviour!(a_node_that_returns_brings_its_clients_back, |world| {
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
behaviour!(who_is_known_to_come_keeps_its_channels, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    let ticket = |client| Ticket::new(id(client), Some("m"));
    for client in 1..=4 {
        broker.report(&mut session, &[opened(client as u64, id(client))]).unwrap();
        broker.join(&[(id(client), "a")]).unwrap();
    }
    broker.put_ticket("out", &ticket(1), GRACE).unwrap();
    broker.put_ticket("taken", &ticket(2), Duration::from_millis(100)).unwrap();
    assert!(broker.take_tickets(&["taken".into()]).unwrap()[0].is_some());
    broker.put_ticket("over", &ticket(3), Duration::from_millis(1)).unwrap();
    thread::sleep(Duration::from_millis(20));
    broker.report(&mut session, &[closed(1), closed(2), closed(3)]).unwrap();
    broker.report(&mut session, &[PresenceChange::ClosedLate { connection: 4 }]).unwrap();
    let members = || sorted(broker.channel_members("a").unwrap());
    assert_eq!(members(), [id(1), id(2), id(4)]);
    // One comes, one is given another ticket, one does neither.
    broker.report(&mut session, &[opened(12, id(2))]).unwrap();
    broker.put_ticket("another", &ticket(1), 2 * GRACE).unwrap();
    overdue(&*broker, "4 has left", || members() == [id(1), id(2)]);
    overdue(&*broker, "1 has left", || members() == [id(2)]);
});

behaviour!(a_session_beside_others_does_not_supersede, |world| {
    let broker = world.broker();
    let first = broker.begin_session("n1", LONG, true).unwrap();
    let second = broker.begin_session("n1", LONG, false).unwrap();
    broker.renew(&first, &NodeStatus::default()).unwrap();
    broker.renew(&second, &NodeStatus::default()).unwrap();
});

behaviour!(a_lapsed_lease_is_reaped, |world| {
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

behaviour!(renewing_keeps_a_session, |world| {
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

behaviour!(two_reapers_never_close_twice, |world| {
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

behaviour!(an_ended_session_is_lost, |world| {
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

behaviour!(a_lost_session_reports_nothing, |world| {
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

behaviour!(a_status_is_heard_as_long_as_the_lease_stands, |world| {
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

behaviour!(connections_of_a_client_are_found_on_its_node, |world| {
    const CONNECTIONS: u64 = 5000;
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    let mut beside = broker.begin_session("n1", LONG, false).unwrap();
    let mut elsewhere = broker.begin_session("n2", LONG, true).unwrap();
    let guid: ClientId = "0f8fad5b-d9cb-469f-a165-70867728950e".parse().unwrap();
    let opened_with = |connection, client, meta| PresenceChange::Opened {
        connection,
        ticket: Ticket::new(client, meta),
    };
    // Ids that begin like the one that is looked for, and as many as take several steps.
    let others = (10..CONNECTIONS).map(|number| opened(number, id(7000 + number as i64)));
    let mut changes: Vec<_> = others.collect();
    changes.push(opened_with(1, id(7), Some("phone <b>\n")));
    changes.push(opened_with(2, guid, None));
    changes.push(opened_with(3, id(7), None));
    broker.report(&mut session, &changes).unwrap();
    broker.report(&mut beside, &[opened_with(1, id(7), Some("twin"))]).unwrap();
    broker.report(&mut elsewhere, &[opened_with(1, id(7), Some("not this node"))]).unwrap();
    let metas = |client, node| {
        let found = broker.connections_of(client, node).unwrap();
        sorted(found.iter().map(|(number, ticket)| (*number, ticket.meta())).collect())
    };
    let phone = Some("phone <b>\n".to_owned());
    assert_eq!(metas(id(7), "n1"), [(1, phone), (1, Some("twin".into())), (3, None)]);
    assert_eq!(metas(guid, "n1"), [(2, None)]);
    assert_eq!(metas(id(7), "n3"), []);
    assert_eq!(metas(id(8), "n1"), []);
    broker.report(&mut session, &[closed(1)]).unwrap();
    assert_eq!(metas(id(7), "n1"), [(1, Some("twin".into())), (3, None)]);
});

behaviour!(joining_and_leaving, |world| {
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

behaviour!(any_channel_name_will_do, |world| {
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
    let guid = "0f8fad5b-d9cb-469f-a165-70867728950e".parse().unwrap();
    for name in names {
        broker.join(&[(id(1), name), (guid, name), (id(-3), name)]).unwrap();
        let members = sorted(broker.channel_members(name).unwrap());
        assert_eq!(members, sorted(vec![id(1), guid, id(-3)]), "{name:?}");
        assert_eq!(broker.channel_size(name).unwrap(), 3);
    }
    assert_eq!(sorted(broker.channels_of(&[guid]).unwrap().remove(0)), sorted(names.to_vec()));
    for name in names {
        broker.leave(&[(id(1), name), (guid, name), (id(-3), name)]).unwrap();
    }
    assert_eq!(broker.channels().unwrap(), []);
});

behaviour!(the_system_is_hidden, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    broker.report(&mut session, &[opened(1, id(0)), opened(2, id(4))]).unwrap();
    broker.join(&[(id(0), "a"), (id(4), "a")]).unwrap();
    assert_eq!(broker.online_clients().unwrap(), [id(4)]);
    assert_eq!(broker.channel_members("a").unwrap(), [id(4)]);
});

behaviour!(clearing_a_channel_keeps_who_is_online, |world| {
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

behaviour!(nothing_asked_nothing_done, |world| {
    let broker = world.broker();
    broker.join(&[]).unwrap();
    broker.join(&[(id(1), "")]).unwrap();
    broker.leave(&[(id(1), "")]).unwrap();
    broker.publish(&[]).unwrap();
    assert_eq!(broker.channels().unwrap(), []);
    assert_eq!(broker.channel_members("").unwrap(), []);
    assert_eq!(broker.channel_size("").unwrap(), 0);
    broker.clear_channel("").unwrap();
    assert_eq!(broker.are_online(&[]).unwrap(), Vec::<bool>::new());
    assert_eq!(broker.channels_of(&[]).unwrap(), Vec::<Vec<String>>::new());
    assert_eq!(broker.take_tickets(&[]).unwrap(), Vec::new());
    assert_eq!(broker.reap(10).unwrap(), 0);
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    broker.report(&mut session, &[]).unwrap();
    assert_eq!(broker.reap(0).unwrap(), 0);
});

/// Reads all pages of a list.
fn all_pages<T>(read: impl Fn(Option<&str>) -> Page<T>) -> Vec<T> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let page = read(after.as_deref());
        items.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return items,
        }
    }
}

behaviour!(lists_come_page_by_page, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    let count = 1_500;
    let changes: Vec<_> = (0..count).map(|number| opened(number as u64, id(number))).collect();
    broker.report(&mut session, &changes).unwrap();
    let names: Vec<_> = (0..count).map(|number| format!("c{number}")).collect();
    let own: Vec<_> = names.iter().map(|name| (id(1), name.as_str())).collect();
    broker.join(&own).unwrap();
    let lobby: Vec<_> = (0..count).map(|number| (id(number), "lobby")).collect();
    broker.join(&lobby).unwrap();

    let first = broker.online_page(None, 100).unwrap();
    assert_eq!(first.total, count as u64);
    assert!(first.next.is_some() && first.items.len() < 300, "{}", first.items.len());
    // The system, client 0, is hidden; whoever is there all the time is on a page.
    let mut expected: Vec<_> = (1..count).map(id).collect();
    expected.sort();
    let mut online = sorted(all_pages(|after| broker.online_page(after, 100).unwrap()));
    online.dedup();
    assert_eq!(online, expected);
    let mut members = sorted(all_pages(|after| broker.members_page("lobby", after, 7).unwrap()));
    members.dedup();
    assert_eq!(members, expected);
    let mut channels = sorted(all_pages(|after| broker.channels_page(after, 2_000).unwrap()));
    channels.dedup();
    assert_eq!(channels.len(), names.len() + 1);
    assert!(channels.contains(&("lobby".into(), count)) && channels.contains(&("c7".into(), 1)));

    assert_eq!(broker.members_page("nosuch", None, 10).unwrap().items, []);
    assert_eq!(broker.members_page("", None, 10).unwrap().items, []);
    assert_eq!(sorted(broker.online_clients().unwrap()), expected);
    assert_eq!(sorted(broker.channel_members("lobby").unwrap()), expected);
    assert_eq!(broker.channels().unwrap().len(), names.len() + 1);
    for after in ["x", "-", "1:x"] {
        let error = broker.online_page(Some(after), 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
    }
});

behaviour!(connections_come_page_by_page, |world| {
    let broker = world.broker();
    let mut sessions: Vec<_> =
        (0..2).map(|_| broker.begin_session("n1", LONG, false).unwrap()).collect();
    for (session, from) in sessions.iter_mut().zip([0, 6_000]) {
        let changes: Vec<_> =
            (from..from + 6_000).map(|number| opened(number, id(number as i64 / 4000))).collect();
        broker.report(session, &changes).unwrap();
    }
    let read = |after: Option<&str>| broker.connections_page(id(1), "n1", after).unwrap();
    assert_eq!(read(None).total, 4_000);
    let mut found: Vec<_> = all_pages(read).into_iter().map(|(number, _)| number).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, (4_000..8_000).collect::<Vec<_>>());
    assert_eq!(broker.connections_of(id(1), "n1").unwrap().len(), 4_000);
    let other = broker.connections_page(id(1), "n2", None).unwrap();
    assert_eq!((other.items.len(), other.next), (0, None));
});
