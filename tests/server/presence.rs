//! Who is online, the events about it, and force offline.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use imcore::{ClientId, PresenceWatch, server::CloseReason};
use testkit::{PATIENCE, eventually, ws::Client};
use tungstenite::Message;

use crate::world::World;

type Seen = (&'static str, ClientId, Option<String>);

fn record(world: &World) -> (PresenceWatch, Receiver<Seen>) {
    let (sender, seen): (Sender<Seen>, _) = channel();
    let other = sender.clone();
    let bus = world
        .im
        .on_presence(
            move |client, meta| drop(sender.send(("online", client, meta))),
            move |client, meta| drop(other.send(("offline", client, meta))),
        )
        .unwrap();
    eventually("listening", || bus.is_listening());
    (bus, seen)
}

fn connect(world: &World, client: impl Into<ClientId>, meta: Option<&str>) -> Client {
    let client = client.into();
    let url = world.im.connect_url(&client, meta).unwrap();
    Client::connect(world.node_of(client).local_addr(), &url).unwrap()
}

shared_behaviour!(who_is_online_can_be_asked, |backend| {
    let world = World::new(backend, 3);
    assert!(world.im.online_clients().unwrap().is_empty());
    assert!(world.im.are_online(Vec::<ClientId>::new()).unwrap().is_empty());
    let first = world.connect(1);
    let second = world.connect(1);
    let _other = world.connect(5);
    assert_eq!(world.im.are_online([5, 2, 1, 5]).unwrap(), [true, false, true, true]);
    let list: HashSet<_> = world.im.online_clients().unwrap().into_iter().collect();
    assert_eq!(list, [1.into(), 5.into()].into());
    first.leave();
    world.wait_for_connections(2);
    assert!(world.im.is_online(1).unwrap(), "one connection is left");
    second.leave();
    eventually("offline", || !world.im.is_online(1).unwrap());
    assert_eq!(world.im.online_clients().unwrap(), [ClientId::from(5)]);
});

shared_behaviour!(force_offline_closes_every_connection, |backend| {
    let world = World::new(backend, 3);
    let mut first = world.connect(5);
    let mut second = world.connect(5);
    let mut same_node = world.connect(8);
    let mut other_node = world.connect(4);
    world.im.join([5, 8], ["room"]).unwrap();
    world.im.kick(5).unwrap();
    world.im.kick(77).unwrap();
    assert_eq!(first.closed(), Some(4001));
    assert_eq!(second.closed(), Some(4001));
    eventually("offline", || !world.im.is_online(5).unwrap());
    assert_eq!(world.im.channel_members("room").unwrap(), [ClientId::from(8)]);
    for bystander in [&mut same_node, &mut other_node] {
        bystander.silent();
    }
    // The way back is open: kicked is not banned.
    let mut back = world.connect(5);
    world.im.send(imcore::Message::to([5]), "back").unwrap();
    assert_eq!(back.text(), "\"back\"");
});

behaviour!(a_client_with_too_many_connections_loses_its_oldest, |backend| {
    let world = World::with(backend, 1, |config| config.limits.connections_per_client = 3);
    world.im.join([1], ["room"]).unwrap();
    let mut devices: Vec<_> = (0..3).map(|_| world.connect(1)).collect();
    let mut other = world.connect(2);
    world.wait_for_connections(4);
    for number in 0..5 {
        devices.push(world.connect(1));
        let mut oldest = devices.remove(0);
        let Message::Close(Some(close)) = oldest.0.read().unwrap() else { panic!("not closed") };
        assert_eq!((u16::from(close.code), &*close.reason), (4003, "too many connections"));
        eventually("counted", || world.closed(CloseReason::TooMany) == number + 1);
        // The client stays online and in its channels, and the others get everything.
        world.im.send(imcore::Message::to_channel("room"), &number).unwrap();
        devices.iter_mut().for_each(|device| assert_eq!(device.json(), number));
    }
    // Many at once, as a script would.
    let flood: Vec<_> = (0..200).map(|_| world.try_connect(1).unwrap()).collect();
    eventually("the others are closed", || world.nodes[0].vitals().stats().connections == 4);
    let offered = world.nodes[0].vitals().stats().offered;
    world.im.send(imcore::Message::to_channel("room"), "how many?").unwrap();
    eventually("delivered", || world.nodes[0].vitals().stats().offered == offered + 3);
    drop((devices, flood));
    eventually("offline", || !world.im.is_online(1).unwrap());
    other.silent();
});

behaviour!(what_was_sent_before_force_offline_still_arrives, |backend| {
    let world = World::new(backend, 1);
    let mut client = world.connect(1);
    for number in 0..100 {
        world.im.send(imcore::Message::to([1]), &number).unwrap();
    }
    world.im.kick(1).unwrap();
    world.im.send(imcore::Message::to([1]), "too late").unwrap();
    for number in 0..100 {
        assert_eq!(client.json(), number);
    }
    assert_eq!(client.closed(), Some(4001));
});

behaviour!(events_tell_of_every_connection_in_order, |backend| {
    let world = World::new(backend, 3);
    let (bus, seen) = record(&world);
    let next = || seen.recv_timeout(PATIENCE).unwrap();
    let guid: ClientId = "8f14e45f-ceea-467f-a9b1-000000000001".parse().unwrap();
    let meta = "10.0.0.1 \"phone\" 元 😀\u{2028}";
    for (client, meta) in [(1.into(), Some(meta)), (guid, None), ((-7).into(), Some(""))] {
        let meta_text = meta.map(str::to_owned);
        let connection = connect(&world, &client, meta);
        assert_eq!(next(), ("online", client.clone(), meta_text.clone()));
        connection.leave();
        assert_eq!(next(), ("offline", client, meta_text));
    }
    // Each connection has its own two events, with its own note.
    let first = connect(&world, 2, Some("first"));
    assert_eq!(next(), ("online", 2.into(), Some("first".into())));
    let second = connect(&world, 2, Some("second"));
    assert_eq!(next(), ("online", 2.into(), Some("second".into())));
    first.leave();
    assert_eq!(next(), ("offline", 2.into(), Some("first".into())));
    drop(second);
    assert_eq!(next(), ("offline", 2.into(), Some("second".into())));
    // A refused client is not online for a moment.
    assert_eq!(Client::connect(world.nodes[0].local_addr(), "ws://x/ws?token=no").err(), Some(401));
    bus.stop();
    assert!(seen.try_recv().is_err(), "no more events than connections");
});

// A client that connects and leaves at once still has both events, and in that order.
shared_behaviour!(short_visits_have_both_events, |backend| {
    const VISITS: usize = 40;
    let world = World::new(backend, 2);
    let (_bus, seen) = record(&world);
    for visit in 0..VISITS {
        drop(connect(&world, visit as i64 + 1, Some("short")));
    }
    let mut online = HashSet::new();
    for _ in 0..2 * VISITS {
        let (what, client, _) = seen.recv_timeout(PATIENCE).unwrap();
        match what {
            "online" => assert!(online.insert(client)),
            _ => assert!(online.remove(&client), "{client} went before it came"),
        }
    }
    assert!(online.is_empty());
    assert!(world.im.online_clients().unwrap().is_empty());
});

behaviour!(who_reacts_to_the_online_event_reaches_the_client, |backend| {
    let world = World::new(backend, 3);
    let im = world.im.clone();
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&failures);
    let bus = world
        .im
        .on_presence(
            move |client, meta| {
                let sent = im
                    .join([&client], ["welcome"])
                    .and_then(|()| im.send(imcore::Message::to([&client]), &meta))
                    .and_then(|_| {
                        im.send(imcore::Message::to_channel(format!("own {client}")), "channel")
                    });
                counted.fetch_add(usize::from(sent.is_err()), Ordering::Relaxed);
            },
            |_, _| {},
        )
        .unwrap();
    eventually("listening", || bus.is_listening());
    for id in 1..=60 {
        world.im.join([id], [format!("own {id}")]).unwrap();
        let mut client = connect(&world, id, Some("note"));
        assert_eq!(client.text(), "\"note\"");
        assert_eq!(client.text(), "\"channel\"");
        client.leave();
    }
    assert_eq!(failures.load(Ordering::Relaxed), 0);
});

behaviour!(a_stopped_event_bus_calls_nobody, |backend| {
    let world = World::new(backend, 1);
    let (bus, seen) = record(&world);
    let (kept, still_seen) = record(&world);
    bus.stop();
    let _client = world.connect(1);
    assert_eq!(still_seen.recv_timeout(PATIENCE).unwrap().0, "online");
    // Its callbacks are gone with it, so nothing can come any more.
    assert!(seen.recv().is_err());
    // A callback that panics costs one event, not the bus.
    drop(kept);
    let (sender, survived) = channel();
    let bus = world
        .im
        .on_presence(
            move |client, _| {
                assert!(client != 2.into(), "meant to panic: a callback's fault is its own");
                sender.send(client).unwrap();
            },
            |_, _| {},
        )
        .unwrap();
    eventually("listening", || bus.is_listening());
    let _others = [world.connect(2), world.connect(3)];
    assert_eq!(survived.recv_timeout(PATIENCE), Ok(3.into()));
});
