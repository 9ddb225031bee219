//! The log, by the contract alone: numbers, and a node that comes back.

use imcore::{
    ClientId,
    broker::{Envelope, FeedEvent, FeedStart, Telling},
};

use crate::{
    feed::{NODE, Node, direct, to_channel},
    world::even as id,
};

/// Another node of the same cluster.
pub(crate) const OTHER: &str = "127.0.0.1:6002";

fn volatile(envelope: Envelope) -> Envelope {
    Envelope::Volatile(Box::new(envelope))
}

/// Where the log is said to begin.
fn log(node: &mut Node) -> (String, u64) {
    let event = node.until("the log", |event| {
        assert!(!matches!(event, FeedEvent::Message { .. }), "{event:?} comes first");
        matches!(event, FeedEvent::Log { .. })
    });
    match event {
        FeedEvent::Log { epoch, from } => (epoch, from),
        _ => unreachable!(),
    }
}

fn numbered(node: &mut Node) -> (Envelope, Option<u64>) {
    match node.until("a message", |event| matches!(event, FeedEvent::Message { .. })) {
        FeedEvent::Message { envelope, number } => (envelope, number),
        _ => unreachable!(),
    }
}

shared_log_behaviour!(numbers_rise_and_the_volatile_has_none, |world| {
    let broker = world.broker();
    let mut node = Node::quiet(&*broker);
    let (_, mut last) = log(&mut node);
    let kick = Envelope::ForceOffline { client: id(7) };
    let sent = [direct(1), to_channel("a"), kick, direct(2)];
    let mut outgoing: Vec<_> = sent.iter().map(|envelope| (NODE, envelope.clone())).collect();
    outgoing.insert(2, (NODE, volatile(direct(9))));
    broker.publish(&outgoing).unwrap();
    for (_, envelope) in outgoing {
        let (heard, number) = numbered(&mut node);
        match envelope {
            Envelope::Volatile(message) => assert_eq!((heard, number), (*message, None)),
            envelope => {
                assert_eq!(heard, envelope);
                assert!(number > Some(last), "{number:?} after {last}");
                last = number.unwrap();
            }
        }
    }
});

shared_log_behaviour!(a_node_that_comes_back_gets_what_was_sent_meanwhile, |world| {
    let broker = world.broker();
    let mut node = Node::quiet(&*broker);
    let (epoch, _) = log(&mut node);
    broker.publish(&[(NODE, direct(1)), (OTHER, direct(9))]).unwrap();
    let (_, first) = numbered(&mut node);
    drop(node);
    broker.join(&[(id(5), "a")]).unwrap();
    broker.publish(&[(NODE, volatile(direct(2))), (NODE, to_channel("a"))]).unwrap();

    let mut node = Node::starting(&*broker, FeedStart::Log);
    node.watchlist.watch(id(5));
    let (again, from) = log(&mut node);
    assert_eq!(again, epoch);
    assert!(Some(from) < first);
    assert_eq!(numbered(&mut node), (direct(1), first));
    let (message, second) = numbered(&mut node);
    assert_eq!(message, to_channel("a"));
    assert!(second > first);
    assert!(node.is_in(id(5), "a"), "channels come before the message");
    node.until("it listens", |event| {
        assert!(!matches!(event, FeedEvent::Message { .. }), "{event:?} comes twice");
        *event == FeedEvent::Listening
    });
    broker.publish(&[(NODE, direct(3))]).unwrap();
    let (message, third) = numbered(&mut node);
    assert_eq!(message, direct(3));
    assert!(third > second);
});

shared_log_behaviour!(what_is_settled_is_known_of_each_message_and_receiver, |world| {
    let broker = world.broker();
    let mut node = Node::quiet(&*broker);
    log(&mut node);
    broker.publish(&[(NODE, direct(1)), (NODE, direct(2)), (NODE, direct(3))]).unwrap();
    let numbers = [0; 3].map(|_| numbered(&mut node).1.unwrap());
    let guid: ClientId = "0c41bd1e-92c1-4e7c-9f3a-0c3e4b1a7d55".parse().unwrap();
    let settle = |number: u64, settled: &[(u64, ClientId)]| {
        broker.tell(NODE, &Telling { by: "x", number, receipts: &[], settled }).unwrap();
    };
    settle(1, &[]);
    settle(2, &[(numbers[0], id(1)), (numbers[0], id(2)), (numbers[1], guid.clone())]);
    settle(3, &[(numbers[0], id(-3)), (numbers[0], id(2))]);
    let all = [(numbers[0], id(1)), (numbers[0], id(2)), (numbers[1], guid), (numbers[0], id(-3))];
    assert_eq!(broker.settled(NODE).unwrap(), all.into());
    assert!(broker.settled(OTHER).unwrap().is_empty());
});

shared_log_behaviour!(a_message_to_all_nodes_has_one_number, |world| {
    let broker = world.broker();
    let mut node = Node::quiet(&*broker);
    log(&mut node);
    let all = Envelope::Channel { sender: id(0), channel: None, content: "1".into(), trace: None };
    // Two that are alike are two.
    let to_both = [(NODE, all.clone()), (OTHER, all)];
    broker.publish(&to_both).unwrap();
    broker.publish(&to_both).unwrap();
    let numbers = [numbered(&mut node).1, numbered(&mut node).1];
    assert!(numbers[0] < numbers[1]);
    // A node that starts anew reads them as one each.
    let mut other = Node::on(&*broker, OTHER, FeedStart::Log);
    log(&mut other);
    assert_eq!([numbered(&mut other).1, numbered(&mut other).1], numbers);
    other.until("no more", |event| {
        assert!(!matches!(event, FeedEvent::Message { .. }));
        *event == FeedEvent::Listening
    });
});
