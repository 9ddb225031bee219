//! Clients whose ids are neither numbers nor GUIDs: everything that is done of clients, with texts that hold what separates
//! things elsewhere.

use std::{sync::Arc, time::Duration};

use imcore::{
    ClientId, EventStart, ImClient, Ticket,
    broker::{EventReader, FeedEvent, MemoryBroker, RosterMark, TakenTicket, Telling, Undelivered},
};
use testkit::eventually;

use crate::{
    feed::{NODE, Node, to_channel},
    log::OTHER,
    world::{LONG, closed, id, opened, sorted},
};

/// Every kind of them, in no order.
fn texts() -> Vec<ClientId> {
    let longest = "é".repeat(32);
    let all = [
        "alice",
        "Alice",
        "01J9Z3K4M5N6P7Q8R9S0T1V2W3",
        "O'Hara,bob;c|d:e/f?g#h%20&=+",
        "\"quoted\\\"",
        "{\"Item1\":1}",
        "7:1,2",
        "=",
        "?127.0.0.1:6001",
        "~0123456789abcdef",
        "__FreeIM__(Probe)1:2",
        "*[a-z]?",
        "1.0",
        "9223372036854775808",
        "李雷",
        "e\u{301}",
        &longest,
    ];
    all.iter().map(|text| text.parse().unwrap()).collect()
}

/// Those of them that the first of two nodes owns.
fn of_the_first_node() -> Vec<ClientId> {
    let broker = Arc::new(MemoryBroker::new());
    let im = ImClient::builder().servers(["first", "second"]).broker(broker).build().unwrap();
    let mut texts = texts();
    texts.retain(|client| im.node_of(client).unwrap() == "first");
    texts
}

fn reader() -> EventReader {
    let (group, consumer) = ("g".into(), "a".into());
    EventReader { group, consumer, start: EventStart::All, take_over: LONG, after: None }
}

behaviour!(texts_come_join_are_listed_and_leave_like_others, |world| {
    let broker = world.broker();
    let all = texts();
    let mut session = broker.begin_session("n", LONG, true).unwrap();
    let changes: Vec<_> = all.iter().zip(1..).map(|(id, n)| opened(n, id.clone())).collect();
    broker.report(&mut session, &changes).unwrap();
    let memberships: Vec<_> = all.iter().map(|id| (id.clone(), "room")).collect();
    broker.join(&memberships).unwrap();
    broker.join(&[(id(7), "room")]).unwrap();

    assert_eq!(sorted(broker.online_clients().unwrap()), sorted(all.clone()));
    let mut paged = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = broker.online_page(after.as_deref(), 3).unwrap();
        paged.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    paged.sort();
    paged.dedup();
    assert_eq!(paged, sorted(all.clone()));
    let members = broker.channel_members("room").unwrap();
    assert_eq!(sorted(members), sorted([&all[..], &[id(7)]].concat()));
    assert!(broker.are_online(&all).unwrap().iter().all(|online| *online));
    for (client, number) in all.iter().zip(1..) {
        assert_eq!(broker.are_online(std::slice::from_ref(client)).unwrap(), [true], "{client}");
        let found = broker.connections_of(client, "n").unwrap();
        assert_eq!(found.len(), 1, "{client}");
        assert_eq!((found[0].0, found[0].1.client()), (number, client));
    }
    let channels = broker.channels_of(&all).unwrap();
    assert!(channels.iter().all(|channels| channels == &["room"]), "{channels:?}");

    // Whose last connection ends leaves; the others stay.
    let closes: Vec<_> = (1..=all.len() as u64).skip(1).map(closed).collect();
    broker.report(&mut session, &closes).unwrap();
    assert_eq!(broker.online_clients().unwrap(), all[..1]);
    assert_eq!(
        sorted(broker.channel_members("room").unwrap()),
        sorted(vec![all[0].clone(), id(7)])
    );
    broker.leave(&[(all[0].clone(), "room")]).unwrap();
    assert_eq!(broker.channel_size("room").unwrap(), 1);
});

behaviour!(a_text_that_is_coming_leaves_no_channel, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n", LONG, true).unwrap();
    for (client, number) in texts().into_iter().zip(1..) {
        broker.join(&[(client.clone(), "room")]).unwrap();
        broker.report(&mut session, &[opened(number, client.clone())]).unwrap();
        // As another's helper writes it, which tells nobody that the client is coming.
        let ticket = Ticket::new(client.clone(), Some("m"));
        let token = format!("t{number}");
        let text = ticket.text().to_owned();
        let written = TakenTicket { text, left: Duration::from_secs(10) };
        broker.return_tickets("n", &[(&token, &written)]).unwrap();
        let taken = broker.take_tickets("n", &[token]).unwrap().pop().unwrap().unwrap();
        assert_eq!(taken.text, ticket.text());
        broker.report(&mut session, &[closed(number)]).unwrap();
        let channels = broker.channels_of(std::slice::from_ref(&client)).unwrap();
        assert_eq!(channels, [["room"]], "{client}");
        // One whose addresses are void is not.
        broker.put_ticket("out", &ticket, LONG).unwrap();
        broker.void_tickets(&client).unwrap();
        assert_eq!(broker.take_tickets("n", &["out".to_owned()]).unwrap(), [None], "{client}");
    }
});

behaviour!(texts_of_a_dead_node_are_told_offline_and_leave, |world| {
    let broker = world.broker();
    let all = texts();
    let mut session = broker.begin_session("n", Duration::from_millis(1), true).unwrap();
    let changes: Vec<_> = all.iter().zip(1..).map(|(id, n)| opened(n, id.clone())).collect();
    broker.report(&mut session, &changes).unwrap();
    let memberships: Vec<_> = all.iter().map(|id| (id.clone(), "room")).collect();
    broker.join(&memberships).unwrap();
    let mut reaped = 0;
    eventually("all are reaped", || {
        broker.end_lapsed(&broker.lapsed().unwrap()).unwrap();
        reaped += broker.reap(100).unwrap();
        broker.leave_overdue().unwrap();
        reaped == all.len() && broker.channel_size("room").unwrap() == 0
    });
    assert!(broker.online_clients().unwrap().is_empty());
    // Its node was there all the time.
    broker.report(&mut broker.begin_session("n", LONG, true).unwrap(), &changes).unwrap();
    broker.rejoin(&all).unwrap();
});

logged_behaviour!(a_text_is_in_its_channel_before_a_message_to_that, |world| {
    let broker = world.broker();
    let mut node = Node::listen(&*broker);
    for (number, client) in of_the_first_node().into_iter().enumerate() {
        node.watchlist.watch(client.clone());
        let channel = format!("c{number}");
        broker.join(&[(client.clone(), &channel)]).unwrap();
        broker.publish(&[(NODE, to_channel(&channel))]).unwrap();
        assert_eq!(node.channel_message(), channel);
        assert!(node.is_in(client.clone(), &channel), "{client}");
        broker.leave(&[(client.clone(), &channel)]).unwrap();
        broker.publish(&[(NODE, to_channel("mark"))]).unwrap();
        node.until("mark", |event| matches!(event, FeedEvent::Message { .. }));
        assert!(!node.is_in(client.clone(), &channel), "{client}");
    }
});

log_behaviour!(what_is_settled_with_texts_is_known, |world| {
    let broker = world.broker();
    let mut node = Node::quiet(&*broker);
    let direct = crate::feed::direct;
    node.until("a log", |event| matches!(event, FeedEvent::Log { .. }));
    broker.publish(&[(NODE, direct(1)), (NODE, direct(2))]).unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < 2 {
        if let Some(FeedEvent::Message { number: Some(number), .. }) = node.next() {
            numbers.push(number);
        }
    }
    let clients = [texts(), vec![id(1), id(2)]].concat();
    let settled: Vec<_> =
        clients.iter().flat_map(|client| numbers.iter().map(|n| (*n, client.clone()))).collect();
    let telling = Telling { by: "x", number: 1, receipts: &[], settled: &settled };
    broker.tell(NODE, &telling).unwrap();
    assert_eq!(broker.settled(NODE).unwrap(), settled.into_iter().collect());
    assert!(broker.settled(OTHER).unwrap().is_empty());
});

event_behaviour!(events_name_texts, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n", LONG, true).unwrap();
    broker.leave_overdue().unwrap();
    for (client, number) in texts().into_iter().zip(1..) {
        let channel = format!("a b {number}");
        broker.report(&mut session, &[opened(number, client.clone())]).unwrap();
        broker.join(&[(client.clone(), &channel)]).unwrap();
        let undelivered = Undelivered { client: &client, id: "m 1", reason: "offline" };
        broker.tell_undelivered("n", &[undelivered]).unwrap();
        broker.report(&mut session, &[closed(number)]).unwrap();
        let events = broker.read_events(&reader(), 100, Duration::ZERO).unwrap().events;
        let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
        broker.acknowledge_events(&reader(), 0, &ids).unwrap();
        assert!(events.len() >= 7, "{client}: {events:?}");
        for event in &events {
            assert_eq!(event.client.as_ref(), Some(&client), "{event:?}");
            if let Some(ticket) = &event.ticket {
                assert_eq!(ticket.client(), &client);
            }
            assert!(event.channel.as_ref().is_none_or(|name| *name == channel), "{event:?}");
        }
    }
});

behaviour!(rosters_name_texts, |world| {
    let broker = world.broker();
    let all = texts();
    let mut session = broker.begin_session("n", LONG, true).unwrap();
    let changes: Vec<_> = all.iter().zip(1..).map(|(id, n)| opened(n, id.clone())).collect();
    broker.report(&mut session, &changes).unwrap();
    broker.set_roster("room", true).unwrap();
    let memberships: Vec<_> = all.iter().map(|id| (id.clone(), "room")).collect();
    broker.join(&memberships).unwrap();
    let expected = sorted(all);
    eventually("all are named", || {
        let news = broker.rosters(&RosterMark::default()).unwrap();
        let room = news.changed.into_iter().find(|(channel, _)| channel == "room");
        let roster = room.and_then(|(_, roster)| roster);
        roster.is_some_and(|roster| roster.members.as_deref() == Some(&expected[..]))
    });
});
