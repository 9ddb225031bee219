//! What only the memory broker has: bounded queues within the process.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use imcore::{
    ErrorKind,
    broker::{Bus, Directory, MemoryBroker, NodeBroker, PresenceEvent},
};

use crate::{
    feed::{NODE, Node, direct},
    world::{closed, id, opened},
};

#[test]
fn a_node_that_does_not_read_overloads_its_publishers_only() {
    let broker = MemoryBroker::new();
    let mut node = Node::listen(&broker);
    let error = (0..)
        .find_map(|number| broker.publish(&[(NODE, direct(number))]).err())
        .expect("a bounded queue fills up");
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.is_retryable());
    broker.publish(&[("elsewhere", direct(1))]).unwrap();
    assert_eq!(node.message(), direct(0));
    broker.publish(&[(NODE, direct(1))]).unwrap();
}

#[test]
fn a_publisher_goes_on_when_there_is_room_or_nobody() {
    let broker = Arc::new(MemoryBroker::new());
    for read_on in [true, false] {
        let mut node = Node::listen(&*broker);
        let (progress, watching) = mpsc::channel();
        let publisher = Arc::clone(&broker);
        let sending = thread::spawn(move || {
            for number in 0..10_000 {
                publisher.publish(&[(NODE, direct(number))]).unwrap();
                let _ = progress.send(number);
            }
        });
        watching.iter().find(|number| *number == 4000).unwrap();
        if read_on {
            (0..10_000).for_each(|number| assert_eq!(node.message(), direct(number)));
        } else {
            drop(node);
        }
        sending.join().unwrap();
    }
}

#[test]
fn a_lagging_event_subscriber_is_told_that_it_missed_some() {
    let broker = MemoryBroker::new();
    let mut events = broker.subscribe_events();
    let mut next = || events.next(Duration::ZERO).unwrap();
    assert_eq!(next(), Some(PresenceEvent::Listening));
    let mut session = broker.begin_session("n1", Duration::from_secs(60), true).unwrap();
    for number in 0..5000 {
        broker.report(&mut session, &[opened(number, id(1)), closed(number)]).unwrap();
    }
    assert_eq!(next(), Some(PresenceEvent::Listening));
    let rest = std::iter::from_fn(next).count();
    assert!((1..10_000).contains(&rest), "{rest}");
}

#[test]
fn a_batch_that_is_refused_has_sent_nothing() {
    let broker = MemoryBroker::new();
    let mut node = Node::listen(&broker);
    let mut other = broker.subscribe("other", Arc::default(), imcore::broker::FeedStart::Now);
    // That it listens, and from where on.
    (0..2).for_each(|_| drop(other.next(Duration::ZERO).unwrap()));
    // More than there is room for, but there was room.
    let many: Vec<_> = (0..5_000).map(|number| (NODE, direct(number))).collect();
    broker.publish(&many).unwrap();
    let error = broker.publish(&[("other", direct(1)), (NODE, direct(1))]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(other.next(Duration::ZERO).unwrap(), None);
    (0..5_000).for_each(|number| assert_eq!(node.message(), direct(number)));
    broker.publish(&[("other", direct(2)), (NODE, direct(2))]).unwrap();
    assert_eq!(node.message(), direct(2));
}
