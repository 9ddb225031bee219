//! Channels and broadcasts: membership, its life, and who gets what.

use std::{collections::HashSet, sync::Arc};

use imcore::{ClientId, ErrorKind, ImClient, Message, broker::Envelope};
use testkit::eventually;

use crate::world::World;

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}

fn ids<const N: usize>(ids: [i64; N]) -> Vec<ClientId> {
    sorted(ids.map(ClientId::from).to_vec())
}

shared_behaviour!(channel_messages_reach_members_on_all_nodes, |backend| {
    let world = World::new(backend, 3);
    let mut members: Vec<_> = (1..=6).map(|id| world.connect(id)).collect();
    let mut outsider = world.connect(7);
    world.im.join(1..=6, ["room"]).unwrap();
    world.im.send(Message::to_channel("room").from(1), "hello").unwrap();
    for member in &mut members[1..] {
        assert_eq!(member.text(), "\"hello\"");
    }
    world.im.leave([2], ["room"]).unwrap();
    world.im.send(Message::to_channel("room"), "again").unwrap();
    for (index, member) in members.iter_mut().enumerate() {
        match index {
            1 => member.silent(),
            _ => assert_eq!(member.text(), "\"again\""),
        }
    }
    outsider.silent();
});

shared_behaviour!(both_directions_of_membership_agree, |backend| {
    let world = World::new(backend, 3);
    let im = &world.im;
    im.join([1], ["a", "b", "a"]).unwrap();
    im.join([1, 2, 3], ["a"]).unwrap();
    im.join([2], Vec::<String>::new()).unwrap();
    im.join(Vec::<i64>::new(), ["empty"]).unwrap();
    assert_eq!(sorted(im.channel_members("a").unwrap()), ids([1, 2, 3]));
    assert_eq!(im.channel_members("b").unwrap(), ids([1]));
    assert_eq!(sorted(im.channels_of(1).unwrap()), ["a", "b"]);
    assert_eq!(im.channels_of(3).unwrap(), ["a"]);
    assert_eq!(sorted(im.channels().unwrap()), [("a".into(), 3), ("b".into(), 1)]);
    assert_eq!(im.channel_size("a").unwrap(), 3);
    im.leave([1, 3, 3, 77], ["a"]).unwrap();
    im.leave([1], ["b", "never joined"]).unwrap();
    assert_eq!(im.channel_members("a").unwrap(), ids([2]));
    assert_eq!(im.channels().unwrap(), [("a".into(), 1)]);
    assert!(im.channels_of(1).unwrap().is_empty());
    assert_eq!(im.channel_size("b").unwrap(), 0);
    assert!(im.channel_members("b").unwrap().is_empty());
});

shared_behaviour!(clearing_a_channel_keeps_who_is_online, |backend| {
    let world = World::new(backend, 3);
    let mut online = world.connect(1);
    world.im.join(1..=250, ["room"]).unwrap();
    world.im.join([2], ["other"]).unwrap();
    world.im.prune_channel("room").unwrap();
    assert_eq!(world.im.channel_members("room").unwrap(), ids([1]));
    assert_eq!(world.im.channel_size("room").unwrap(), 1);
    assert_eq!(world.im.channels_of(2).unwrap(), ["other"]);
    world.im.send(Message::to_channel("room"), "still in").unwrap();
    assert_eq!(online.text(), "\"still in\"");
    world.im.prune_channel("no such").unwrap();
});

behaviour!(who_joined_before_connecting_gets_channel_messages, |backend| {
    let world = World::new(backend, 3);
    world.im.join([1], ["room"]).unwrap();
    let mut client = world.connect(1);
    world.im.send(Message::to_channel("room"), "welcome").unwrap();
    assert_eq!(client.text(), "\"welcome\"");
    // Also right after the handshake, before anybody could know that the client is online. (Each has a
    // channel of its own: a node that lags may hand on a message to who joined just after it.)
    for id in 10..40 {
        let own = format!("hall {id}");
        world.im.join([id], [&own]).unwrap();
        let mut client = world.try_connect(id).unwrap();
        world.im.send(Message::to_channel(own), &id).unwrap();
        assert_eq!(client.json(), id);
    }
});

shared_behaviour!(channels_are_left_with_the_last_connection, |backend| {
    let world = World::new(backend, 3);
    let phone = world.connect(1);
    let mut laptop = world.connect(1);
    world.im.join([1], ["a", "b"]).unwrap();
    world.im.join([2], ["b"]).unwrap();
    phone.leave();
    world.wait_for_connections(1);
    world.im.send(Message::to_channel("a"), "one device left").unwrap();
    assert_eq!(laptop.text(), "\"one device left\"");
    assert_eq!(sorted(world.im.channels_of(1).unwrap()), ["a", "b"]);
    laptop.leave();
    eventually("left", || world.im.channels_of(1).unwrap().is_empty());
    assert_eq!(world.im.channels().unwrap(), [("b".into(), 1)]);
    assert_eq!(world.im.channel_members("b").unwrap(), ids([2]));
    // Coming back is not joining.
    let mut back = world.connect(1);
    world.im.send(Message::to_channel("b"), "not for 1").unwrap();
    back.silent();
});

behaviour!(the_sender_of_a_channel_message_hears_it_on_several_connections, |backend| {
    let world = World::new(backend, 3);
    let mut first = world.connect(1);
    let mut other = world.connect(2);
    world.im.join([1, 2], ["room"]).unwrap();
    world.im.send(Message::to_channel("room").from(1), "one").unwrap();
    assert_eq!(other.text(), "\"one\"");
    world.im.send(Message::to_channel("room"), "two").unwrap();
    assert_eq!(other.text(), "\"two\"");
    assert_eq!(first.text(), "\"two\"");
    let mut second = world.connect(1);
    world.im.send(Message::to_channel("room").from(1), "three").unwrap();
    for client in [&mut first, &mut second, &mut other] {
        assert_eq!(client.text(), "\"three\"");
    }
    // Who is not a member may send as well.
    world.im.send(Message::to_channel("room").from(99), "four").unwrap();
    assert_eq!(other.text(), "\"four\"");
});

shared_behaviour!(a_broadcast_reaches_everybody, |backend| {
    let world = World::new(backend, 3);
    let mut clients: Vec<_> = [1, 2, 3, 3, 4].iter().map(|id| world.connect(*id)).collect();
    world.im.send(Message::to_everyone(), "to all").unwrap();
    for client in &mut clients {
        assert_eq!(client.text(), "\"to all\"");
    }
    // From a client, as a .NET helper may send it: not to its only connection, but to both of two.
    let broadcast = |sender: i64, content: &str| Envelope::Channel {
        sender: sender.into(),
        channel: None,
        content: content.into(),
        trace: None,
    };
    for sender in [1, 3] {
        let outgoing = ["node-0", "node-1", "node-2"].map(|node| (node, broadcast(sender, "x")));
        world.broker.publish(&outgoing).unwrap();
        for (id, client) in [1, 2, 3, 3, 4].iter().zip(&mut clients) {
            match (id, sender) {
                (1, 1) => {}
                _ => assert_eq!(client.text(), "x", "{id} of {sender}"),
            }
        }
    }
    clients.iter_mut().for_each(|client| client.silent());
});

behaviour!(channel_names_may_hold_any_characters, |backend| {
    let world = World::new(backend, 2);
    let mut client = world.connect(1);
    let long = "n".repeat(1024);
    let names = [
        "群聊",
        "a b",
        "q'uote\"s",
        "new\nline",
        "😀",
        "back\\slash",
        "{tag}",
        "*",
        "'..KEYS[1]",
        "\0",
        " ",
        &long,
    ];
    world.im.join([1], names).unwrap();
    for name in names {
        world.im.send(Message::to_channel(name), name).unwrap();
        assert_eq!(client.json(), name);
        assert_eq!(world.im.channel_members(name).unwrap(), ids([1]));
    }
    let listed: HashSet<_> = world.im.channels_of(1).unwrap().into_iter().collect();
    assert_eq!(listed, names.map(str::to_owned).into());
    assert_eq!(world.im.channels().unwrap().len(), names.len());
    world.im.leave([1], names).unwrap();
    assert!(world.im.channels().unwrap().is_empty());
});

behaviour!(an_empty_channel_name_is_refused, |backend| {
    let world = World::new(backend, 2);
    let mut client = world.connect(1);
    let im = &world.im;
    let failures = [
        im.join([1], ["a", ""]),
        im.join([1], [""]),
        im.leave([1], [""]),
        im.leave([1], [""]),
        im.send(Message::to_channel(""), "would be a broadcast").map(drop),
    ];
    for failure in failures {
        assert_eq!(failure.unwrap_err().kind(), ErrorKind::Argument);
    }
    assert!(im.channels().unwrap().is_empty(), "nothing of a refused call was done");
    client.silent();
});

// One client joins and leaves over and over: a message right after a join comes, one right after a
// leave does not. (One between a join and a leave may or may not: who has left when the node hands
// a message on does not get it.)
shared_behaviour!(membership_and_messages_keep_their_order, |backend| {
    let world = World::new(backend, 2);
    let mut client = world.connect(1);
    let mut witness = world.connect(2);
    world.im.join([2], ["room"]).unwrap();
    for round in 0..150 {
        world.im.join([1], ["room"]).unwrap();
        world.im.send(Message::to_channel("room"), &(round, "in")).unwrap();
        assert_eq!(client.json(), serde_json::json!([round, "in"]), "joined before it was sent");
        world.im.leave([1], ["room"]).unwrap();
        world.im.send(Message::to_channel("room"), &(round, "out")).unwrap();
        world.im.send(Message::to([1]), &round).unwrap();
        assert_eq!(client.json(), round, "left before it was sent");
        assert_eq!(witness.json(), serde_json::json!([round, "in"]));
        assert_eq!(witness.json(), serde_json::json!([round, "out"]));
    }
});

// A limit on channels, and a name that is too long, are refused with what to do.
behaviour!(joins_have_limits, |backend| {
    let world = World::new(backend, 1);
    let im = ImClient::builder()
        .servers(["node-0"])
        .broker(Arc::clone(&world.broker))
        .channels_per_client(2)
        .build()
        .unwrap();
    im.join([1], ["a", "b"]).unwrap();
    im.join([1], ["b"]).unwrap();
    let error = im.join([1], ["b", "c"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert!(error.to_string().contains("channels_per_client"), "{error}");
    im.join([1, 2], ["c"]).unwrap_err();
    assert_eq!(im.channel_members("c").unwrap(), [ClientId::from(2)]);
    // The default is larger.
    world.im.join([1], (0..998).map(|number| format!("c{number}"))).unwrap();
    assert_eq!(world.im.join([1], ["one more"]).unwrap_err().kind(), ErrorKind::Argument);
    let long = "x".repeat(1025);
    assert_eq!(world.im.join([2], [&long]).unwrap_err().kind(), ErrorKind::Argument);
    world.im.join([2], [&long[1..]]).unwrap();
});
