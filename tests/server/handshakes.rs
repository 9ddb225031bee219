//! What may become a connection: tokens, request heads, limits; and what the refused are told.

use std::{
    io::{Read, Write},
    sync::Barrier,
    thread,
    time::Duration,
};

use imcore::{ClientId, IdKind, ImClient, Ticket, broker::Envelope};
use testkit::{
    eventually,
    tls::Stream,
    ws::{Client, exchange, request, response_head},
};

use crate::world::World;

/// A path with a fresh token for `client`.
fn target(world: &World, client: impl Into<ClientId>) -> String {
    let client = client.into();
    if client.is_system() {
        // No helper issues these.
        let token = imcore_token();
        let ticket = Ticket::new(client, None);
        world.broker.put_ticket(&token, &ticket, ImClient::TICKET_LIFE).unwrap();
        return format!("/ws?token={token}");
    }
    let url = world.im.connect_url(client, None).unwrap();
    url.split_once("/ws").map(|(_, query)| format!("/ws{query}")).unwrap()
}

/// Sends `head` and returns status and body; a refusal is whole, ends the connection and says why in
/// one line.
fn refusal(world: &World, head: &str) -> (u16, String) {
    read_refusal(&exchange(world.nodes[0].local_addr(), head.as_bytes()))
}

fn read_refusal(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    assert_eq!(length.parse(), Ok(body.len()), "{answer}");
    assert!(head.lines().any(|line| line.starts_with("Connection:") && line.ends_with("close")));
    let reason = body.strip_suffix('\n').unwrap();
    assert!(reason.len() > 5 && !reason.contains('\n'), "{body:?} is not one line");
    (status, reason.to_owned())
}

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
        let token = imcore_token();
        world.broker.put_ticket(&token, &Ticket::new(1.into(), None), short).unwrap();
        Client::connect(world.nodes[0].local_addr(), &format!("ws://x/ws?token={token}")).err()
            == Some(401)
    });
});

fn imcore_token() -> String {
    crate::world::fresh_prefix()
}

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
        (IdKind::Int, 7.into(), guid),
        (IdKind::Guid, guid, 7.into()),
        (IdKind::Guid, guid, 0.into()),
    ] {
        let world = World::with(backend, 1, |config| config.ids = Some(kind));
        let (status, reason) = refusal(&world, &request(&target(&world, other)));
        assert_eq!(status, 401, "{kind} {other}");
        assert!(reason.contains("kind"), "{reason}");
        let _client = world.connect(own);
        eventually("one is online", || world.im.online_clients().unwrap() == [own]);
    }
    // Where no .NET process listens, both may.
    let world = World::with(backend, 1, |config| config.ids = Some(IdKind::Any));
    world.connect(7).silent();
    world.connect(guid).silent();
});

behaviour!(paths_and_queries_match_as_the_original, |backend| {
    let world = World::new(backend, 1);
    let variants: [fn(&str) -> String; 14] = [
        |target| format!("http://im.example.com{target}"),
        |target| format!("https://im.example.com:443{target}"),
        |target| format!("ws://127.0.0.1:6001{target}"),
        |target| format!("WSS://[::1]{target}"),
        |target| target.replace("/ws?", "/%77s?"),
        |target| target.replace("/ws?", "/%57%53/room%20a?"),
        |target| target.replace("/ws?", "/WS?"),
        |target| target.replace("/ws?", "/ws/?"),
        |target| target.replace("/ws?", "/ws/room/1?"),
        |target| target.replace("token=", "TOKEN="),
        |target| target.replace("token=", "a=1&token=") + "&b=2",
        |target| target.replace("token=", "%74oken="),
        |target| {
            let (path, token) = target.split_once('=').unwrap();
            let encoded: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
            format!("{path}={encoded}")
        },
        |target| target.replace("/ws?", "/ws?&&x&="),
    ];
    for (index, variant) in variants.iter().enumerate() {
        let target = variant(&target(&world, 1)).replace("&=token", "&token");
        let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
        stream.write_all(request(&target).as_bytes()).unwrap();
        let head = response_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{index}: {target} {head}");
        // The key of RFC 6455's own example, and nothing that was not asked for.
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(!head.to_ascii_lowercase().contains("sec-websocket-protocol"));
        assert!(!head.to_ascii_lowercase().contains("sec-websocket-extensions"));
    }
    for other in [
        "/",
        "/wsx",
        "/w",
        "/other",
        "/xws",
        "*",
        "http://h/",
        "http://h",
        "ftp://h/ws",
        "/ws%2f",
        "/%2577s",
    ] {
        let head = request(&target(&world, 1).replace("/ws", other));
        let status = refusal(&world, &head).0;
        assert!(status == 404 || other == "*" && status == 400, "{other} {status}");
    }
});

behaviour!(offers_of_extensions_and_protocols_are_ignored, |backend| {
    let world = World::new(backend, 1);
    let extra = "Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: \
                 permessage-deflate; client_max_window_bits\r\nOrigin: https://any.example\r\n\r\n";
    let head = request(&target(&world, 1)).replace("\r\n\r\n", &format!("\r\n{extra}"));
    let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let answer = response_head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert_eq!(answer.lines().filter(|line| line.starts_with("Sec-")).count(), 1, "{answer}");
});

behaviour!(what_is_no_upgrade_is_refused_with_a_reason, |backend| {
    let world = World::new(backend, 1);
    let good = || request(&target(&world, 1));
    let without = |header: &str| {
        let good = good();
        let lines = good.split("\r\n").filter(|line| !line.starts_with(header));
        lines.collect::<Vec<_>>().join("\r\n")
    };
    let long =
        |bytes: usize| good().replace("\r\n\r\n", &format!("\r\nX: {}\r\n\r\n", "x".repeat(bytes)));
    let cases = [
        ("plain GET", 426, "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("no Upgrade", 426, without("Upgrade:")),
        ("no Connection", 426, without("Connection:")),
        ("keep-alive", 426, good().replace("Connection: Upgrade", "Connection: keep-alive")),
        ("h2c", 426, good().replace("Upgrade: websocket", "Upgrade: h2c")),
        ("HTTP/1.0", 426, good().replace("HTTP/1.1", "HTTP/1.0")),
        ("version 8", 426, good().replace("Version: 13", "Version: 8")),
        ("no version", 426, without("Sec-WebSocket-Version:")),
        ("no key", 400, without("Sec-WebSocket-Key:")),
        ("short key", 400, good().replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhl")),
        ("bad key", 400, good().replace("dGhlIHNhbXBsZSBub25jZQ==", "!!!!IHNhbXBsZSBub25jZQ==")),
        ("no Host", 400, without("Host:")),
        ("two Hosts", 400, good().replace("Host: x", "Host: x\r\nHost: x")),
        ("an empty Host", 400, good().replace("Host: x", "Host:")),
        ("no proper Host", 400, good().replace("Host: x", "Host: a b")),
        ("a path as Host", 400, good().replace("Host: x", "Host: x/ws")),
        ("an address without host", 400, good().replace("GET /ws", "GET http:///ws")),
        ("an address of a user", 400, good().replace("GET /ws", "GET http://u@h/ws")),
        ("a body", 400, good().replace("Host: x", "Host: x\r\nContent-Length: 5") + "hello"),
        ("no proper length", 400, good().replace("Host: x", "Host: x\r\nContent-Length: x")),
        ("two lengths", 400, good().replace("Host: x", "Host: x\r\nContent-Length: 0, 5")),
        ("chunks", 400, good().replace("Host: x", "Host: x\r\nTransfer-Encoding: chunked")),
        ("PROXY version 1", 400, format!("PROXY TCP4 10.0.0.1 10.0.0.2 5 6\r\n{}", good())),
        ("PROXY version 2", 400, format!("\r\n\r\n\0\r\nQUIT\n{}", good())),
        ("POST", 405, good().replace("GET ", "POST ")),
        ("plain POST", 405, "POST /ws HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody".to_owned()),
        ("33 KiB head", 431, long(33 << 10)),
        ("endless head", 431, good().replace("\r\n\r\n", &"y".repeat(70 << 10))),
        ("empty lines without end", 431, "\r\n".repeat(20 << 10)),
        ("many headers", 431, good().replace("\r\n\r\n", &("\r\nA: b".repeat(200) + "\r\n\r\n"))),
        ("garbage", 400, "\x16\x03\x01 hello TLS".to_owned()),
        ("lower case", 400, "get /ws http/1.1\r\n\r\n".to_owned()),
        ("no HTTP", 400, "HELLO\r\n\r\n".to_owned()),
        ("no version number", 400, "GET /ws\r\n\r\n".to_owned()),
        ("header without colon", 400, good().replace("Host: x", "Host")),
        ("NUL in a header", 400, good().replace("Host: x", "Host: \0")),
    ];
    for (name, expected, head) in &cases {
        let (status, reason) = refusal(&world, head);
        assert_eq!(status, *expected, "{name}: {reason}");
    }
    assert_eq!(world.nodes[0].vitals().stats().refused, cases.len() as u64);
    assert_eq!(world.nodes[0].vitals().stats().opened, 0);
    // An upgrade in other words is still one, also behind empty lines.
    let head = good().replace("Connection: Upgrade", "connection: keep-alive, UPGRADE");
    let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
    let head = format!("\r\n\r\n{}", head.replace("websocket", "h2c,WebSocket"));
    stream.write_all(head.as_bytes()).unwrap();
    assert!(response_head(&mut stream).starts_with("HTTP/1.1 101 "));
});

behaviour!(origins_are_checked_if_some_are_set, |backend| {
    let world = World::with(backend, 1, |config| {
        config.origins = vec!["https://im.example.com".into(), "https://b.example".into()];
    });
    let with = |origin: &str| {
        let lines = format!("\r\nOrigin: {origin}\r\n\r\n");
        let head = request(&target(&world, 1)).replace("\r\n\r\n", &lines);
        let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        response_head(&mut stream)[9..12].parse::<u16>().unwrap()
    };
    assert_eq!(with("https://im.example.com"), 101);
    assert_eq!(with("HTTPS://IM.EXAMPLE.COM"), 101);
    for wrong in ["https://evil.example", "https://im.example.com.evil.example", "null", ""] {
        assert_eq!(with(wrong), 403, "{wrong:?}");
    }
    // Only browsers send the header; they cannot leave it out.
    world.connect(1).silent();
});

behaviour!(a_head_may_come_byte_by_byte, |backend| {
    let world = World::new(backend, 1);
    let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in request(&target(&world, 1)).bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    assert!(response_head(&mut stream).starts_with("HTTP/1.1 101 "));
});

behaviour!(a_full_node_says_so_and_takes_clients_again, |backend| {
    let world = World::with(backend, 1, |config| config.limits.connections = 1);
    let client = world.connect(1);
    let (status, reason) = refusal(&world, &request(&target(&world, 2)));
    assert_eq!((status, reason.as_str()), (503, "this node is full"));
    client.leave();
    eventually("room again", || world.try_connect(2).is_ok());
});

// What the original took: cookies of a whole domain come along.
behaviour!(large_heads_are_taken, |backend| {
    let world = World::new(backend, 1);
    let opened = |extra: &str| {
        let head = request(&target(&world, 1)).replace("\r\n\r\n", &format!("\r\n{extra}\r\n"));
        let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        response_head(&mut stream).starts_with("HTTP/1.1 101 ")
    };
    assert!(opened(&format!("Cookie: {}\r\n", "c".repeat(31 << 10))));
    // With the five of the request itself.
    assert!(opened(&"A: b\r\n".repeat(95)));
    assert!(opened("Content-Length: 0\r\nExpect: 100-continue\r\n"));
});

behaviour!(an_answer_to_head_has_no_body, |backend| {
    let world = World::new(backend, 1);
    for (target, status) in [("/", 404), ("/ws", 405), ("/ws?token=x", 405)] {
        let answer = exchange(
            world.nodes[0].local_addr(),
            request(target).replace("GET ", "HEAD ").as_bytes(),
        );
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(
            answer.contains("\r\nContent-Length: ") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
    }
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
    };
    world.broker.publish(&[("node-0", message)]).unwrap();
    world.connect(3).silent();
});
