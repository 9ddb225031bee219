//! What those see who follow a client, a channel or a message: nothing but that, in order, and until they have had enough.

use std::time::Duration;

use imcore::{
    ErrorKind, Message,
    server::{Following, Limits, Sighting, Target, What},
};
use testkit::PATIENCE;

use crate::{resume::Phone, world::World};

/// Somebody who follows.
struct Eyes(Following);

impl Eyes {
    fn on(world: &World, target: Target) -> Eyes {
        Eyes(world.nodes[0].vitals().follow(target, Duration::from_secs(600), false).unwrap())
    }

    /// What is seen next, in words.
    fn next(&self) -> String {
        let seen = self.0.next(PATIENCE).expect("something is seen");
        let parts = [
            Some(seen.what.as_str().to_owned()),
            seen.client.map(|client| client.to_string()),
            seen.channel.map(|channel| channel.to_string()),
            seen.id.map(|id| id.to_string()),
            seen.count.map(|count| format!("x{count}")),
            seen.code.map(|code| code.to_string()),
            seen.reason.map(str::to_owned),
            seen.text,
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// So many that come in no promised order.
    fn several(&self, count: usize) -> Vec<String> {
        let mut several: Vec<_> = (0..count).map(|_| self.next()).collect();
        several.sort();
        several
    }
}

behaviour!(a_client_is_followed_from_its_first_connection_to_its_last, |backend| {
    let world = World::new(backend, 1);
    let eyes = Eyes::on(&world, Target::Client(1.into()));
    let _other = world.connect(2);
    let mut phone = Phone::new(&world, 1);
    assert_eq!(eyes.next(), "connected 1");
    world.im.join([1, 2], ["lobby"]).unwrap();
    assert_eq!(eyes.next(), "joined 1 lobby");
    world.im.send(Message::to([1, 2]).id("order 17"), "hello").unwrap();
    world.im.send(Message::to([2]), "not for 1").unwrap();
    assert_eq!(eyes.next(), "received 1 order 17 x2");
    assert_eq!(eyes.next(), "written 1");
    phone.message();
    phone.acknowledge();
    assert_eq!(eyes.next(), "acknowledged 1");
    world.im.send(Message::to_channel("lobby"), "hello").unwrap();
    world.im.send(Message::to_channel("else"), "hello").unwrap();
    assert_eq!([eyes.next(), eyes.next()], ["received 1 lobby", "written 1"]);
    phone.message();
    world.im.leave([1], ["lobby"]).unwrap();
    assert_eq!(eyes.next(), "left 1 lobby");

    let Phone { socket, hello, since, .. } = phone;
    drop(socket);
    assert_eq!(eyes.next(), "parked 1 x60 connection_lost");
    assert_eq!(eyes.next(), "closed 1 connection_lost");
    world.im.send(Message::to([1]), "while it is away").unwrap();
    assert_eq!(eyes.next(), "received 1 x1");
    let mut phone = Phone::return_to(&world, 1.into(), &hello, since);
    assert_eq!([eyes.next(), eyes.next()], ["resumed 1 x1", "written 1"]);
    phone.message();
    world.im.kick(1).unwrap();
    assert_eq!(eyes.next(), "closed 1 4001 kicked");
    world.im.send(Message::to([1]), "to nobody").unwrap();
    assert_eq!([eyes.next(), eyes.next()], ["received 1 x1", "dropped 1 offline"]);
});

behaviour!(a_channel_is_followed_to_all_who_get_its_messages, |backend| {
    let world = World::new(backend, 1);
    let mut members: Vec<_> = (1..=2).map(|client| world.connect(client)).collect();
    let _outsider = world.connect(3);
    let eyes = Eyes::on(&world, Target::Channel("lobby".into()));
    world.im.join([1, 2], ["lobby", "else"]).unwrap();
    assert_eq!(eyes.several(2), ["joined 1 lobby", "joined 2 lobby"]);
    for channel in ["else", "lobby"] {
        world.im.send(Message::to_channel(channel), channel).unwrap();
    }
    world.im.send(Message::to_everyone(), "everybody").unwrap();
    assert_eq!(eyes.several(3), ["received lobby", "written 1", "written 2"]);
    members.remove(0).leave();
    world.im.leave([2], ["lobby"]).unwrap();
    assert_eq!(eyes.next(), "left 2 lobby");
});

behaviour!(a_message_is_followed_by_its_id, |backend| {
    let world = World::new(backend, 1);
    let mut receiver = world.connect(1);
    let eyes = Eyes::on(&world, Target::Message("order 17".into()));
    world.im.send(Message::to([1, 9]).id("order 16"), "another").unwrap();
    world.im.send(Message::to([1, 9]).id("order 17"), "this one").unwrap();
    let seen = eyes.several(3);
    assert_eq!(seen, ["dropped 9 offline", "received order 17 x2", "written 1"]);
    assert_eq!([receiver.text(), receiver.text()], ["\"another\"", "\"this one\""]);
});

behaviour!(what_a_slow_client_never_gets_is_seen, |backend| {
    let world = World::with(backend, 1, |config| {
        config.limits = Limits { outbox_bytes: 64 << 10, ..config.limits.clone() };
    });
    let _idle = world.connect(1);
    let eyes = Eyes::on(&world, Target::Client(1.into()));
    // Sockets take some of them.
    let text = "x".repeat(1 << 20);
    let is_slow = |seen: &Sighting, what| seen.what == what && seen.reason == Some("slow_consumer");
    let mut is_dropped = false;
    while !is_dropped {
        world.im.send(Message::to([1]), &text).unwrap();
        loop {
            let seen = eyes.0.next(PATIENCE).expect("what was sent comes");
            is_dropped |= is_slow(&seen, What::Dropped);
            if is_dropped || seen.what == What::Received {
                break;
            }
        }
    }
    let closed = loop {
        let seen = eyes.0.next(PATIENCE).expect("it is closed");
        if is_slow(&seen, What::Closed) {
            break seen;
        }
    };
    assert_eq!(closed.code, Some(1013));
});

behaviour!(texts_are_shown_to_those_who_may_see_them_and_only_so_many_follow, |backend| {
    let world = World::new(backend, 1);
    let vitals = world.nodes[0].vitals();
    let follow = |texts| vitals.follow(Target::Client(1.into()), Duration::from_secs(600), texts);
    let (with, without) = (follow(true).unwrap(), follow(false).unwrap());
    world.im.send(Message::to([1]), "secret").unwrap();
    assert_eq!(with.next(PATIENCE).unwrap().text.as_deref(), Some("\"secret\""));
    assert_eq!(without.next(PATIENCE).unwrap().text, None);
    let others: Vec<_> = (0..6).map(|_| follow(false).unwrap()).collect();
    assert_eq!(follow(false).unwrap_err().kind(), ErrorKind::Overloaded);
    drop(others);
    assert!(!follow(false).unwrap().is_over());
});
