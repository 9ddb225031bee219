//! The end of a node, and whether its books are right.

use std::{collections::HashMap, sync::mpsc::channel, thread, time::Duration};

use imcore::{
    ClientId, Message, Receipt,
    server::{CloseReason, Limits},
};
use testkit::{PATIENCE, eventually};

use crate::world::{Backend, World};

behaviour!(shutdown_closes_clients_and_leaves_no_trace, |backend| {
    let mut world = World::new(backend, 2);
    let (sender, seen) = channel();
    let bus = world
        .im
        .on_presence(|_, _| {}, move |client, meta| sender.send((client, meta)).unwrap())
        .unwrap();
    eventually("listening", || bus.is_listening());
    let mut here: Vec<_> = [2, 4, 4].map(|id| world.connect(id)).into();
    let mut elsewhere = world.connect(1);
    world.im.join([1, 2, 4], ["room"]).unwrap();
    world.im.join([4], ["own"]).unwrap();
    world.im.send(Message::to([2, 4, 4]), "goodbye").unwrap();
    for client in &mut here {
        assert_eq!(client.text(), "\"goodbye\"");
    }
    let node = world.take(0);
    let address = node.local_addr();
    let clients = thread::spawn(move || here.iter_mut().map(|client| client.closed()).collect());
    node.shutdown();
    let codes: Vec<_> = clients.join().unwrap();
    assert_eq!(codes, [Some(1001); 3]);
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
    let mut gone: Vec<(ClientId, Option<String>)> =
        (0..3).map(|_| seen.recv_timeout(PATIENCE).unwrap()).collect();
    gone.sort_unstable();
    assert_eq!(gone, [2, 4, 4].map(|id| (id.into(), Some("meta".to_owned()))));
    assert_eq!(world.im.online_clients().unwrap(), [ClientId::from(1)]);
    assert_eq!(world.im.channels().unwrap(), [("room".to_owned(), 1)]);
    assert_eq!(world.im.channel_members("room").unwrap(), [ClientId::from(1)]);
    // The other node goes on.
    world.im.send(Message::to_channel("room"), "still here").unwrap();
    assert_eq!(elsewhere.text(), "\"still here\"");
    let last = world.take(0);
    let client = thread::spawn(move || elsewhere.closed());
    let how = last.shutdown();
    assert!(how.reported && how.stuck.is_empty(), "{how:?}");
    assert_eq!(client.join().unwrap(), Some(1001));
    assert!(world.im.online_clients().unwrap().is_empty());
    assert!(world.im.channels().unwrap().is_empty());
    #[cfg(feature = "redis")]
    if matches!(backend, Backend::Redis) {
        // How many messages were sent to each node is counted for ever, and a clock has no end.
        let mut keys = world.redis_keys();
        keys.sort();
        let left = ["Grace", "Published"].map(|key| format!("{}_ws{key}", world.prefix));
        assert_eq!(keys, left);
    }
});

// What the node is handed before it stops is written before the close frame.
behaviour!(shutdown_sends_what_is_queued_first, |backend| {
    let mut world = World::new(backend, 1);
    let mut client = world.connect(1);
    let mut witness = world.connect(2);
    for number in 0..200 {
        world.im.send(Message::to([1]), &number).unwrap();
    }
    // The witness's reactor may be another, but the feed had handed on all the others by then.
    world.im.send(Message::to([2]), "mark").unwrap();
    assert_eq!(witness.text(), "\"mark\"");
    let node = world.take(0);
    let reader = thread::spawn(move || {
        for number in 0..200 {
            assert_eq!(client.json(), number);
        }
        client.closed()
    });
    drop(witness);
    node.shutdown();
    assert_eq!(reader.join().unwrap(), Some(1001));
});

// The longest times and the largest sizes that are taken are times and sizes like others.
behaviour!(a_node_works_with_the_largest_limits, |backend| {
    let world = World::with(backend, 1, |config| {
        let never = Limits::LONGEST;
        config.limits = Limits {
            connections: u32::MAX as usize,
            connections_per_client: 10_000,
            handshakes: u32::MAX as usize,
            handshakes_per_address: u32::MAX as usize,
            head_bytes: 1 << 30,
            inbound_message_bytes: 1 << 30,
            inbound_rate: u32::MAX as usize,
            outbox_bytes: 1 << 30,
            receipt_content_bytes: 1 << 30,
            handshake: never,
            inbound_message_time: never,
            ping_after: never,
            pong_within: never,
            outbox_stall: never,
            outbox_age: never,
            linger: never,
            drain_over: Duration::ZERO,
            drain_grace: never,
            lease: never,
            sweep: never,
            ..Limits::default()
        };
    });
    let mut clients = [world.connect(1), world.connect(2)];
    world.im.send(Message::to([2]).from(1).receipt(Receipt::Sent), "hello").unwrap();
    assert_eq!(clients[1].text(), "\"hello\"");
    assert_eq!(clients[0].json()["status"], "sent");
    world.im.kick(1).unwrap();
    assert_eq!(clients[0].closed(), Some(4001));
    eventually("offline", || !world.im.is_online(1).unwrap());
});

behaviour!(the_books_balance, |backend| {
    let world = World::new(backend, 2);
    let mut clients: Vec<_> = [1, 2, 3, 4, 4].iter().map(|id| world.connect(*id)).collect();
    world.im.join([1, 2, 3], ["room"]).unwrap();
    for number in 0..50 {
        world.im.send(Message::to([2, 4, 99]).from(1).receipt(Receipt::Sent), &number).unwrap();
        world.im.send(Message::to_channel("room").from(1), &number).unwrap();
        world.im.send(Message::to_everyone(), &number).unwrap();
    }
    let expected = HashMap::from([(1, 50 * (3 + 1)), (2, 150), (3, 100), (4, 100)]);
    for (id, client) in [1, 2, 3, 4, 4].iter().zip(&mut clients) {
        for _ in 0..expected[id] {
            client.text();
        }
        client.silent();
    }
    world.im.kick(4).unwrap();
    for kicked in &mut clients[3..] {
        assert_eq!(kicked.closed(), Some(4001));
    }
    clients.remove(0).leave();
    drop(clients);
    world.wait_for_connections(0);
    let stats: Vec<_> = world.nodes.iter().map(|node| node.vitals().stats()).collect();
    for stats in &stats {
        assert_eq!(stats.offered, stats.delivered + stats.dropped, "{stats:?}");
        assert_eq!(stats.opened, stats.closed.iter().map(|(_, count)| count).sum::<u64>());
        assert_eq!((stats.dropped, stats.receipts_dropped, stats.malformed), (0, 0, 0));
    }
    // 4 has two connections.
    assert_eq!(stats.iter().map(|stats| stats.offered).sum::<u64>(), 200 + 150 + 100 + 2 * 100);
    assert_eq!(stats.iter().map(|stats| stats.opened).sum::<u64>(), 5);
    assert_eq!(world.closed(CloseReason::Kicked), 2);
    assert_eq!(world.closed(CloseReason::Peer), 1);
    assert_eq!(world.closed(CloseReason::Lost), 2);
});

shared_behaviour!(presence_counts_survive_a_storm_of_visits, |backend| {
    let world = World::new(backend, 2);
    let stays: Vec<_> = (1..=4).map(|id| world.connect(id)).collect();
    world.im.join(1..=20, ["room"]).unwrap();
    thread::scope(|scope| {
        for thread in 0..4_i64 {
            let world = &world;
            scope.spawn(move || {
                for visit in 0..25 {
                    // Ids are shared by threads and by those who stay.
                    let client = world.try_connect(1 + (thread + visit) % 8).unwrap();
                    if visit % 2 == 0 { client.leave() } else { drop(client) }
                }
            });
        }
    });
    world.wait_for_connections(4);
    let mut online = Vec::new();
    eventually("only those who stayed", || {
        online = world.im.online_clients().unwrap();
        online.len() == 4
    });
    online.sort_unstable();
    assert_eq!(online, [1, 2, 3, 4].map(ClientId::from));
    // 5 to 8 were in and left with their last visit; 9 to 20 never came.
    assert_eq!(world.im.channel_size("room").unwrap(), 16);
    drop(stays);
    eventually("nobody", || world.im.online_clients().unwrap().is_empty());
    assert_eq!(world.im.channel_size("room").unwrap(), 12);
});
