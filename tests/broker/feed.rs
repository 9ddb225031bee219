//! The ordered feed, by the contract alone.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use imcore::{
    ClientId,
    broker::{Broker, Envelope, FeedEvent, FeedStart, Subscription, Watchlist},
};
use testkit::PATIENCE;

use crate::world::even as id;

pub(crate) const NODE: &str = "127.0.0.1:6001";

/// A node's feed, and the index that its server would keep.
pub(crate) struct Node {
    feed: Box<dyn Subscription>,
    pub(crate) watchlist: Arc<Watchlist>,
    pub(crate) channels: HashMap<ClientId, HashSet<String>>,
    /// How often the channels of a client were reported.
    pub(crate) reports: HashMap<ClientId, u32>,
    pub(crate) errors: u32,
}

impl Node {
    pub(crate) fn listen(broker: &dyn Broker) -> Self {
        let mut node = Node::quiet(broker);
        node.until("listening", |event| matches!(event, FeedEvent::Listening));
        node
    }

    /// Not yet connected.
    pub(crate) fn quiet(broker: &dyn Broker) -> Self {
        Self::starting(broker, FeedStart::Now)
    }

    /// Not yet connected.
    pub(crate) fn starting(broker: &dyn Broker, start: FeedStart) -> Self {
        Self::on(broker, NODE, start)
    }

    /// Not yet connected, under that name.
    pub(crate) fn on(broker: &dyn Broker, name: &str, start: FeedStart) -> Self {
        let watchlist = Arc::new(Watchlist::default());
        Node {
            feed: broker.subscribe(name, Arc::clone(&watchlist), start),
            watchlist,
            channels: HashMap::new(),
            reports: HashMap::new(),
            errors: 0,
        }
    }

    /// The next event; membership is taken over on the way. Errors are counted and retried.
    pub(crate) fn next(&mut self) -> Option<FeedEvent> {
        match self.feed.next(Duration::from_millis(200)) {
            Ok(event) => {
                if let Some(FeedEvent::Channels { client, channels }) = &event {
                    self.channels.insert(client.clone(), channels.iter().cloned().collect());
                    *self.reports.entry(client.clone()).or_default() += 1;
                }
                if let Some(FeedEvent::Members { channel, clients }) = &event {
                    for (client, channels) in &mut self.channels {
                        match clients.contains(client) {
                            true => channels.insert(channel.clone()),
                            false => channels.remove(channel),
                        };
                    }
                }
                event
            }
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                self.errors += 1;
                thread::sleep(Duration::from_millis(5));
                None
            }
        }
    }

    pub(crate) fn until(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&FeedEvent) -> bool,
    ) -> FeedEvent {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.next()
                && wanted(&event)
            {
                return event;
            }
            assert!(Instant::now() < deadline, "still not: {what}");
        }
    }

    pub(crate) fn message(&mut self) -> Envelope {
        match self.until("message", |event| matches!(event, FeedEvent::Message { .. })) {
            FeedEvent::Message { envelope, .. } => envelope,
            _ => unreachable!(),
        }
    }

    /// The channel of the next channel message.
    pub(crate) fn channel_message(&mut self) -> String {
        match self.message() {
            Envelope::Channel { channel: Some(channel), .. } => channel,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn is_in(&self, client: ClientId, channel: &str) -> bool {
        self.channels.get(&client).is_some_and(|channels| channels.contains(channel))
    }
}

pub(crate) fn to_channel(channel: &str) -> Envelope {
    Envelope::Channel {
        sender: id(0),
        channel: Some(channel.into()),
        content: "\"c\"".into(),
        trace: None,
    }
}

pub(crate) fn direct(number: i64) -> Envelope {
    Envelope::Direct {
        sender: id(1),
        receivers: vec![id(number)],
        content: number.to_string(),
        receipt: false,
        id: None,
        acknowledge: false,
        about: false,
        trace: None,
    }
}

logged_behaviour!(messages_keep_their_order, |world| {
    const MESSAGES: i64 = 6000;
    let broker = world.broker();
    let mut node = Node::listen(&*broker);
    let publisher = world.broker();
    // More than fit into a queue; every third waits for membership, those behind must not pass it.
    let sending = thread::spawn(move || {
        for number in 0..MESSAGES {
            let envelope = match number % 3 {
                0 => to_channel(&number.to_string()),
                _ => direct(number),
            };
            publisher.publish(&[(NODE, envelope)]).unwrap();
        }
    });
    for number in 0..MESSAGES {
        let text = match node.message() {
            Envelope::Channel { channel, .. } => channel.unwrap(),
            Envelope::Direct { content, .. } => content,
            other => panic!("{other:?}"),
        };
        assert_eq!(text, number.to_string());
    }
    sending.join().unwrap();
});

logged_behaviour!(payloads_arrive_unchanged, |world| {
    let broker = world.broker();
    let mut node = Node::listen(&*broker);
    let guid: ClientId = "0f8fad5b-d9cb-469f-a165-70867728950e".parse().unwrap();
    let text = "\"说 \\\"x\\\" \u{2028} 😀 \u{0} | \"";
    let sent = [
        Envelope::Direct {
            sender: id(1),
            receivers: vec![id(2), guid.clone(), id(2)],
            content: text.into(),
            receipt: true,
            id: Some("\"一\"".into()),
            acknowledge: false,
            about: false,
            trace: None,
        },
        Envelope::Channel {
            sender: guid.clone(),
            channel: Some("群聊\n{1}".into()),
            content: text.into(),
            trace: None,
        },
        Envelope::Channel { sender: id(0), channel: None, content: text.into(), trace: None },
        Envelope::ForceOffline { client: guid },
        direct(5),
    ];
    let outgoing: Vec<_> = sent.iter().map(|envelope| (NODE, envelope.clone())).collect();
    broker.publish(&outgoing).unwrap();
    for envelope in sent {
        assert_eq!(node.message(), envelope);
    }
});

logged_behaviour!(a_message_never_overtakes_a_join, |world| {
    const PAIRS: i64 = 3000;
    let broker = world.broker();
    let mut node = Node::listen(&*broker);
    (0..PAIRS).for_each(|number| node.watchlist.watch(id(number + 1)));
    let (joiner, publisher) = (world.broker(), world.broker());
    let sending = thread::spawn(move || {
        for number in 0..PAIRS {
            let channel = number.to_string();
            joiner.join(&[(id(number + 1), &channel)]).unwrap();
            publisher.publish(&[(NODE, to_channel(&channel))]).unwrap();
        }
    });
    let mut overtaken = 0;
    for number in 0..PAIRS {
        let channel = node.channel_message();
        assert_eq!(channel, number.to_string());
        overtaken += u32::from(!node.is_in(id(number + 1), &channel));
    }
    sending.join().unwrap();
    assert_eq!(overtaken, 0);
});

logged_behaviour!(a_message_never_overtakes_a_watch, |world| {
    const PAIRS: i64 = 1000;
    let broker = world.broker();
    let joins: Vec<_> = (0..PAIRS).map(|number| (id(number + 1), "a")).collect();
    broker.join(&joins).unwrap();
    let mut node = Node::listen(&*broker);
    for number in 0..PAIRS {
        node.watchlist.watch(id(number + 1));
        broker.publish(&[(NODE, to_channel("a"))]).unwrap();
        node.channel_message();
        assert!(node.is_in(id(number + 1), "a"), "{number}");
    }
});

logged_behaviour!(a_message_never_overtakes_a_leave, |world| {
    const PAIRS: i64 = 1000;
    let broker = world.broker();
    let names: Vec<_> = (0..PAIRS).map(|number| number.to_string()).collect();
    let joins: Vec<_> = names.iter().map(|name| (id(7), name.as_str())).collect();
    broker.join(&joins).unwrap();
    let mut node = Node::listen(&*broker);
    node.watchlist.watch(id(7));
    let publisher = world.broker();
    let sending = thread::spawn(move || {
        for name in &names {
            publisher.leave(&[(id(7), name)]).unwrap();
            publisher.publish(&[(NODE, to_channel(name))]).unwrap();
        }
    });
    for _ in 0..PAIRS {
        let channel = node.channel_message();
        assert!(!node.is_in(id(7), &channel), "{channel}");
    }
    sending.join().unwrap();
});

logged_behaviour!(unwatched_clients_are_not_reported, |world| {
    let broker = world.broker();
    let mut node = Node::listen(&*broker);
    node.watchlist.watch(id(1));
    node.watchlist.watch(id(2));
    broker.join(&[(id(1), "a"), (id(2), "a")]).unwrap();
    broker.publish(&[(NODE, to_channel("a"))]).unwrap();
    node.channel_message();
    assert!(node.is_in(id(1), "a") && node.is_in(id(2), "a"));

    node.watchlist.unwatch(id(1));
    let before = node.reports.get(&id(1)).copied();
    broker.join(&[(id(1), "b"), (id(2), "b"), (id(3), "b")]).unwrap();
    broker.publish(&[(NODE, to_channel("b"))]).unwrap();
    node.channel_message();
    assert!(node.is_in(id(2), "b"));
    assert_eq!(node.reports.get(&id(1)).copied(), before);
    assert!(!node.reports.contains_key(&id(3)));

    node.watchlist.watch(id(1));
    broker.publish(&[(NODE, to_channel("b"))]).unwrap();
    node.channel_message();
    assert!(node.is_in(id(1), "b"));
});

logged_behaviour!(an_idle_feed_reports_changes, |world| {
    const CLIENTS: i64 = 1500;
    let broker = world.broker();
    let joins: Vec<_> = (0..CLIENTS).map(|number| (id(number + 1), "a")).collect();
    broker.join(&joins).unwrap();
    let mut node = Node::listen(&*broker);
    (0..CLIENTS).for_each(|number| node.watchlist.watch(id(number + 1)));
    let mut left: HashSet<_> = (0..CLIENTS).map(|number| id(number + 1)).collect();
    node.until("all are reported without any message", |event| {
        if let FeedEvent::Channels { client, channels } = event {
            assert_eq!(*channels, ["a"]);
            left.remove(client);
        }
        left.is_empty()
    });
    broker.leave(&[(id(5), "a")]).unwrap();
    let event = node.until("the leave", |event| matches!(event, FeedEvent::Channels { .. }));
    assert_eq!(event, FeedEvent::Channels { client: id(5), channels: vec![] });
});

logged_behaviour!(nodes_hear_only_their_own, |world| {
    let broker = world.broker();
    let mut node = Node::listen(&*broker);
    broker
        .publish(&[("elsewhere", direct(1)), (NODE, direct(2)), ("elsewhere", direct(3))])
        .unwrap();
    assert_eq!(node.message(), direct(2));
    broker.publish(&[(NODE, direct(4))]).unwrap();
    assert_eq!(node.message(), direct(4));
});

logged_behaviour!(a_second_process_under_one_name_is_told, |world| {
    let (broker, other) = (world.broker(), world.broker());
    let node = Node::listen(&*broker);
    let twin = Node::listen(&*other);
    // Both go on listening until both were told: on Redis each is told by the other's probes.
    let told = Arc::new(AtomicU32::new(0));
    let listen = |mut node: Node| {
        let told = Arc::clone(&told);
        move || {
            node.until("told", |event| matches!(event, FeedEvent::DuplicateNode));
            told.fetch_add(1, Ordering::Relaxed);
            let deadline = Instant::now() + PATIENCE;
            while told.load(Ordering::Relaxed) < 2 && Instant::now() < deadline {
                node.next();
            }
        }
    };
    let listeners = [thread::spawn(listen(node)), thread::spawn(listen(twin))];
    listeners.into_iter().for_each(|listener| listener.join().unwrap());
    assert_eq!(told.load(Ordering::Relaxed), 2);
});

logged_behaviour!(a_broadcast_needs_no_watch, |world| {
    let broker = world.broker();
    let mut node = Node::listen(&*broker);
    let broadcast =
        Envelope::Channel { sender: id(0), channel: None, content: "1".into(), trace: None };
    broker.publish(&[(NODE, broadcast.clone()), (NODE, direct(2))]).unwrap();
    assert_eq!(node.message(), broadcast);
    assert_eq!(node.message(), direct(2));
    // Nobody in the channel: the message is handed on all the same.
    broker.publish(&[(NODE, to_channel("nobody"))]).unwrap();
    assert_eq!(node.channel_message(), "nobody");
});
