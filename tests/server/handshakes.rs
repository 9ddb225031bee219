//! Handshakes that are slow, too many or come to nothing; and how a refusal is read.

use std::{
    io::{Read, Write},
    time::Duration,
};

use imcore::{ClientId, ImClient, Ticket, broker::Envelope};
use testkit::{
    eventually,
    tls::Stream,
    ws::{exchange, request},
};

use crate::world::{World, fresh_prefix};

/// A path with a fresh token for `client`.
pub(crate) fn target(world: &World, client: impl Into<ClientId>) -> String {
    let client = client.into();
    if client.is_system() {
        // No helper issues these.
        let token = fresh_prefix();
        let ticket = Ticket::new(client, None);
        world.broker.put_ticket(&token, &ticket, ImClient::TICKET_LIFE).unwrap();
        return format!("/ws?token={token}");
    }
    let url = world.im.connect_url(client, None).unwrap();
    url.split_once("/ws").map(|(_, query)| format!("/ws{query}")).unwrap()
}

/// Sends `head` and returns status and body; a refusal is whole, ends the connection and says why in
/// one line.
pub(crate) fn refusal(world: &World, head: &str) -> (u16, String) {
    read_refusal(&exchange(world.nodes[0].local_addr(), head.as_bytes()))
}

pub(crate) fn read_refusal(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    assert_eq!(length.parse(), Ok(body.len()), "{answer}");
    assert!(head.lines().any(|line| line.starts_with("Connection:") && line.ends_with("close")));
    let reason = body.strip_suffix('\n').unwrap();
    assert!(reason.len() > 5 && !reason.contains('\n'), "{body:?} is not one line");
    (status, reason.to_owned())
}

behaviour!(a_full_node_says_so_and_takes_clients_again, |backend| {
    let world = World::with(backend, 1, |config| config.limits.connections = 1);
    let client = world.connect(1);
    let (status, reason) = refusal(&world, &request(&target(&world, 2)));
    assert_eq!((status, reason.as_str()), (503, "this node is full"));
    client.leave();
    eventually("room again", || world.try_connect(2).is_ok());
});

// Those of whom nothing has come give way, the oldest first: newcomers get in as long as they are quick.
behaviour!(the_slowest_handshake_gives_way, |backend| {
    let world = World::with(backend, 1, |config| config.limits.handshakes = 3);
    let address = world.nodes[0].local_addr();
    let mut idle: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    for id in 1..20 {
        world.connect(id).silent();
    }
    idle[0].set_read_timeout(Some(testkit::PATIENCE)).unwrap();
    let mut told = String::new();
    let _ = idle[0].read_to_string(&mut told);
    assert!(told.is_empty() || read_refusal(&told).0 == 503, "{told}");
    let refused = world.nodes[0].vitals().stats().refusals;
    assert!(refused.iter().all(|(status, count)| (*status == 503) == (*count > 0)), "{refused:?}");
});

// Those that have begun have a moment, and then give way too.
behaviour!(a_slow_request_gives_way_after_a_while, |backend| {
    let world = World::with(backend, 1, |config| {
        config.limits.handshakes = 3;
        // A twentieth of it is the moment.
        config.limits.handshake = Duration::from_secs(40);
    });
    let address = world.nodes[0].local_addr();
    let mut begun: Vec<_> = (0..3).map(|_| Stream::connect(address).unwrap()).collect();
    begun.iter_mut().for_each(|stream| stream.write_all(b"GET /ws?token=x HTTP/1.1\r\n").unwrap());
    eventually("all have begun", || world.nodes[0].vitals().stats().handshakes == 3);
    eventually("room", || match world.try_connect(1) {
        Ok(_) => true,
        Err(status) => {
            assert!(matches!(status, 503 | 0), "{status}");
            false
        }
    });
    world.connect(2).silent();
});

// Those that succeed cost nothing, however many they are.
behaviour_in_the_clear!(what_comes_to_nothing_is_limited_over_time, |backend| {
    // Ten seconds' worth may come at once.
    let world = World::with(backend, 1, |config| config.limits.failures_per_address = 2);
    let bad = request("/ws?token=x");
    let clients: Vec<_> = (1..=50).map(|id| world.connect(id)).collect();
    let statuses: Vec<_> = (0..40).map(|_| refusal(&world, &bad).0).collect();
    let admitted = statuses.iter().filter(|status| **status == 401).count();
    assert!((20..40).contains(&admitted), "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 40 - admitted);
    assert_eq!(
        world.try_connect(60).err(),
        Some(429),
        "who fails has to wait, whatever comes next"
    );
    eventually("the time makes up for it", || world.try_connect(61).is_ok());
    drop(clients);
});

behaviour_in_the_clear!(a_head_without_an_end_leaves_others_their_turn, |backend| {
    let world = World::with(backend, 1, |config| {
        // More than can be read within the time.
        config.limits.head_bytes = 64 << 20;
        config.limits.handshake = Duration::from_millis(10);
    });
    let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
    stream.write_all(b"GET /ws HTTP/1.1\r\nX: ").unwrap();
    // Faster than it is read: there is always more.
    let flood = vec![b'x'; 1 << 20];
    while stream.write_all(&flood).is_ok() {}
    let refusals = world.nodes[0].vitals().stats().refusals;
    let refused = |status| refusals.iter().find(|(other, _)| *other == status).unwrap().1;
    assert_eq!((refused(408), refused(431)), (1, 0));
});

behaviour!(a_socket_without_a_request_is_closed_in_time, |backend| {
    let world = World::with(backend, 1, |config| {
        config.limits.handshake = Duration::from_millis(150);
    });
    let mut bystander = world.connect(1);
    for start in ["", "GET /ws?token=x HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
        stream.set_read_timeout(Some(testkit::PATIENCE)).unwrap();
        stream.write_all(start.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(read_refusal(&answer).0, 408);
    }
    bystander.silent();
});

behaviour!(a_peer_that_goes_during_its_handshake_costs_nothing, |backend| {
    let world = World::with(backend, 1, |config| config.limits.handshakes = 4);
    for _ in 0..20 {
        let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
        // The node may be full of those before: TLS shows that at once.
        let _ = stream.write_all(&request(&target(&world, 1)).as_bytes()[..40]);
        drop(stream);
        let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
        // Gone before the ticket is taken, perhaps: then online for a moment, and offline again.
        let _ = stream.write_all(request(&target(&world, 1)).as_bytes());
    }
    eventually("room again", || world.try_connect(2).is_ok());
    eventually("all gone", || world.im.online_clients().unwrap().is_empty());
    let message = Envelope::Direct {
        sender: 0.into(),
        receivers: vec![1.into()],
        content: "x".into(),
        receipt: false,
        id: None,
        acknowledge: false,
        about: false,
        trace: None,
    };
    world.broker.publish(&[("node-0", message)]).unwrap();
    world.connect(3).silent();
});
