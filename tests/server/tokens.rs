//! Tokens: who gets in with which, once and in time, and who was kicked.

use std::{sync::Barrier, thread, time::Duration};

use imcore::{ClientId, IdKind, Ticket, broker::Envelope};
use testkit::{
    eventually,
    ws::{Client, request},
};

use crate::handshakes::{refusal, target};
use crate::world::{World, fresh_prefix};

behaviour!(a_token_opens_one_connection, |backend| {
    let world = World::new(backend, 1);
    for missing in ["/ws", "/ws?token=", "/ws?Token", "/ws?other=1"] {
        let (status, reason) = refusal(&world, &request(missing));
        assert_eq!(status, 401, "{missing}");
        assert!(reason.contains("missing"), "{reason}");
    }
    for wrong in ["nonsense", "..%2f", "%00", "a b", &"f".repeat(128), &"f".repeat(7500), "中"] {
        let wrong = wrong.replace(' ', "%20");
        assert_eq!(refusal(&world, &request(&format!("/ws?token={wrong}"))).0, 401, "{wrong}");
    }
    let used = target(&world, 1);
    let mut client =
        Client::connect(world.nodes[0].local_addr(), &format!("ws://x{used}")).unwrap();
    assert_eq!(refusal(&world, &request(&used)).0, 401);
    let twice = target(&world, 1).replace("token=", "token=x&token=");
    assert_eq!(refusal(&world, &request(&twice)).0, 401, "joined as the original does");
    client.silent();
    eventually("one is online", || world.im.online_clients().unwrap().len() == 1);
});

behaviour!(a_token_expires, |backend| {
    let world = World::new(backend, 1);
    let short = Duration::from_millis(1);
    eventually("too late", || {
        let token = fresh_prefix();
        world.broker.put_ticket(&token, &Ticket::new(1.into(), None), short).unwrap();
        Client::connect(world.nodes[0].local_addr(), &format!("ws://x/ws?token={token}")).err()
            == Some(401)
    });
});

behaviour!(one_of_many_who_use_a_token_at_once_gets_in, |backend| {
    const THREADS: usize = 6;
    let world = World::new(backend, 2);
    for round in 0..10 {
        let client = 2 * round + 2;
        let url = format!("ws://x{}", target(&world, client));
        let start = Barrier::new(THREADS);
        let outcomes: Vec<Result<Client, u16>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        Client::connect(world.nodes[0].local_addr(), &url)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let refused: Vec<_> =
            outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert_eq!(refused, [&401; THREADS - 1]);
    }
});

behaviour!(a_client_of_another_node_is_told_so, |backend| {
    let world = World::new(backend, 3);
    let url = world.im.connect_url(1, None).unwrap();
    assert_eq!(Client::connect(world.nodes[0].local_addr(), &url).err(), Some(421));
    let (status, reason) = refusal(&world, &request(&target(&world, 2)));
    assert_eq!(status, 421);
    assert!(reason.contains("servers"), "{reason}");
    assert!(world.im.online_clients().unwrap().is_empty());
    // Some clients try again by themselves, and the ticket is still good: at the right node, once.
    assert_eq!(Client::connect(world.nodes[2].local_addr(), &url).err(), Some(421));
    let mut client = Client::connect(world.nodes[1].local_addr(), &url).unwrap();
    assert_eq!(Client::connect(world.nodes[1].local_addr(), &url).err(), Some(401));
    client.silent();
});

// Whatever way the two take: nobody who was kicked comes back with an address from before.
behaviour!(a_kick_voids_the_addresses_from_before, |backend| {
    let world = World::new(backend, 1);
    let address = world.nodes[0].local_addr();
    for client in 1..=20 {
        let before = world.im.connect_url(client, None).unwrap();
        let spare = world.im.connect_url(client, None).unwrap();
        let other = world.im.connect_url(client + 100, None).unwrap();
        let mut first = world.connect(client);
        world.im.kick(client).unwrap();
        assert_eq!(Client::connect(address, &before).err(), Some(401), "{client}");
        assert_eq!(first.closed(), Some(4001));
        assert_eq!(Client::connect(address, &spare).err(), Some(401), "{client}");
        // One from afterwards is good at once, and so are those of others.
        world.connect(client).silent();
        Client::connect(address, &other).unwrap().silent();
    }
});

// The kick comes while the connection is being made.
behaviour!(a_kick_stops_a_connection_under_way, |backend| {
    let world = World::new(backend, 1);
    let address = world.nodes[0].local_addr();
    for client in 1..=40 {
        let url = world.im.connect_url(client, None).unwrap();
        let outcome = thread::scope(|scope| {
            let connecting = scope.spawn(|| Client::connect(address, &url));
            world.im.kick(client).unwrap();
            connecting.join().unwrap()
        });
        match outcome {
            Ok(mut connection) => assert_eq!(connection.closed(), Some(4001), "{client}"),
            Err(status) => assert_eq!(status, 401, "{client}"),
        }
    }
    eventually("nobody is left", || world.im.online_clients().unwrap().is_empty());
});

// As the .NET helper kicks and issues: the one by a message alone, the other by a key alone.
behaviour!(a_ticket_that_is_older_than_a_kick_is_void, |backend| {
    let world = World::new(backend, 1);
    let mut client = world.connect(1);
    let kick = Envelope::ForceOffline { client: 1.into() };
    world.broker.publish(&[("node-0", kick)]).unwrap();
    assert_eq!(client.closed(), Some(4001));
    let with_life = |token: &str, seconds| {
        let life = Duration::from_secs(seconds);
        world.broker.put_ticket(token, &Ticket::new(1.into(), None), life).unwrap();
        Client::connect(world.nodes[0].local_addr(), &format!("ws://x/ws?token={token}")).err()
    };
    // With so little of its ten seconds left, it was issued before.
    assert_eq!(with_life("old", 4), Some(401));
    assert_eq!(with_life("new", 10), None);
});

behaviour!(ids_of_another_kind_are_refused, |backend| {
    let guid: ClientId = "8f14e45f-ceea-467f-a9b1-000000000007".parse().unwrap();
    for (kind, own, other) in [
        (IdKind::Int, 7.into(), guid.clone()),
        (IdKind::Guid, guid.clone(), 7.into()),
        (IdKind::Guid, guid.clone(), 0.into()),
    ] {
        let world = World::with(backend, 1, |config| config.ids = Some(kind));
        let (status, reason) = refusal(&world, &request(&target(&world, &other)));
        assert_eq!(status, 401, "{kind} {other}");
        assert!(reason.contains("kind"), "{reason}");
        let _client = world.connect(&own);
        eventually("one is online", || world.im.online_clients().unwrap() == [own.clone()]);
    }
    // Where no .NET process listens, both may.
    let world = World::with(backend, 1, |config| config.ids = Some(IdKind::Any));
    world.connect(7).silent();
    world.connect(guid).silent();
});
