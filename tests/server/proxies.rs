//! Who a peer is, with and without a proxy, as far as the limit per address shows it.

use std::io::Write;

use imcore::server::PeerAddress;
use testkit::{
    eventually,
    tls::Stream,
    ws::{exchange, request, response_head},
};

use crate::world::{Backend, World};

fn world(backend: Backend, from: PeerAddress) -> World {
    World::with(backend, 1, |config| {
        config.peer_address = from;
        config.limits.handshakes_per_address = 2;
    })
}

/// The PROXY protocol's header, version 2, for a client at 10.0.0.`host`.
fn proxy_header(host: u8) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    bytes.extend([10, 0, 0, host, 127, 0, 0, 1, 0x30, 0x39, 0x17, 0x71]);
    bytes
}

/// A socket that has sent `start` and waits.
fn waiting(world: &World, start: &[u8]) -> Stream {
    let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
    stream.write_all(start).unwrap();
    stream
}

fn status(world: &World, bytes: &[u8]) -> u16 {
    exchange(world.nodes[0].local_addr(), bytes)[9..12].parse().unwrap()
}

behaviour_in_the_clear!(one_address_cannot_take_all_handshakes, |backend| {
    let world = world(backend, PeerAddress::Socket);
    let idle = [waiting(&world, b""), waiting(&world, b"GET /ws")];
    assert!(matches!(status(&world, request("/ws?token=x").as_bytes()), 429 | 503));
    drop(idle);
    // A handshake that is over does not count any more, however it ended.
    eventually("room again", || status(&world, request("/ws?token=x").as_bytes()) == 401);
    let _clients: Vec<_> = (1..6).map(|id| world.connect(id)).collect();
});

behaviour_in_the_clear!(a_proxy_s_header_tells_who_the_peer_is, |backend| {
    let world = world(backend, PeerAddress::ProxyProtocol);
    let with = |host, rest: &[u8]| [&proxy_header(host), rest].concat();
    let bad_token = request("/ws?token=x");
    let _idle = [waiting(&world, &with(1, b"")), waiting(&world, &with(1, b"GET"))];
    eventually("the other address is busy", || {
        matches!(status(&world, &with(1, bad_token.as_bytes())), 429 | 503)
    });
    assert_eq!(status(&world, &with(2, bad_token.as_bytes())), 401);
    let sentence = |start: &[u8]| {
        let answer = exchange(world.nodes[0].local_addr(), &[start, bad_token.as_bytes()].concat());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        answer
    };
    assert!(sentence(b"").contains("expected a PROXY protocol header"), "it is not the proxy");
    assert!(sentence(b"PROXY TCP4 10.0.0.1 10.0.0.2 5 6\r\n").contains("got version 1"));
    let unknown_version = [&b"\r\n\r\n\0\r\nQUIT\n\x31"[..], &[0; 15]].concat();
    assert!(sentence(&unknown_version).contains("cannot be read"));
    // Byte by byte, and up to a connection.
    let url = world.im.connect_url(1, None).unwrap();
    let head = with(3, request(&url[url.find("/ws").unwrap()..]).as_bytes());
    let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in head {
        stream.write_all(&[byte]).unwrap();
    }
    assert!(response_head(&mut stream).starts_with("HTTP/1.1 101 "));
});

behaviour!(the_last_forwarded_address_counts, |backend| {
    let world = world(backend, PeerAddress::ForwardedFor);
    // Idle sockets of the proxy itself belong to nobody yet.
    let _idle: Vec<_> = (0..5).map(|_| waiting(&world, b"GET /ws")).collect();
    let from = |list: &str| {
        let head = request("/ws?token=x");
        head.replace("\r\n\r\n", &format!("\r\nX-Forwarded-For: {list}\r\n\r\n"))
    };
    for list in ["10.0.0.1", "evil, 10.0.0.1", "10.0.0.9, 2001:db8::1", "unknown", ""] {
        assert_eq!(status(&world, from(list).as_bytes()), 401, "{list}");
    }
});

/// Sends handshakes that fail until the limit over time is reached; then asks once more by another name.
fn is_the_same(backend: Backend, from: PeerAddress, first: &[u8], then: &[u8]) -> bool {
    let world = World::with(backend, 1, |config| {
        config.peer_address = from;
        config.limits.failures_per_address = 1;
    });
    assert_eq!(status(&world, then), 401, "{}", String::from_utf8_lossy(then));
    // More than once, as time makes up for some; fewer times than `then` may fail by itself.
    (0..5).any(|_| {
        eventually("limited", || status(&world, first) == 429);
        status(&world, then) == 429
    })
}

behaviour!(forwarded_addresses_are_read_in_every_form, |backend| {
    let from = |list: &str| {
        let forwarded = format!("\r\nX-Forwarded-For: {list}\r\n\r\n");
        request("/ws?token=x").replace("\r\n\r\n", &forwarded).into_bytes()
    };
    let same = |first: &str, then: &str| {
        is_the_same(backend, PeerAddress::ForwardedFor, &from(first), &from(then))
    };
    for form in
        ["203.0.113.9:51123", "\"203.0.113.9\"", "::ffff:203.0.113.9", "1.1.1.1, 203.0.113.9"]
    {
        assert!(same(form, "203.0.113.9"), "{form}");
    }
    for form in ["[2001:db8::1]:443", "[2001:db8::1]", "\"[2001:db8::1]:443\"", "2001:db8::ffff:1"]
    {
        assert!(same(form, "2001:db8::1"), "{form}");
    }
    assert!(!same("203.0.113.9:51123", "203.0.113.10:51123"));
    // What is no address counts for the proxy's own: a limit must not be off in silence.
    assert!(same("unknown", ""));
    assert!(same("203.0.113.9,", "_hidden"));
    assert!(!same("unknown", "203.0.113.9"));
    let without = request("/ws?token=x").into_bytes();
    assert!(is_the_same(backend, PeerAddress::ForwardedFor, &without, &from("unknown")));
});

behaviour_in_the_clear!(an_ipv6_host_is_its_network, |backend| {
    let from = |network: u8, host: u8| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24".to_vec();
        let address =
            |network, host| [0x20, 1, 0xd, 0xb8, 0, 0, 0, network, 0, 0, 0, 0, 0, 0, 0, host];
        bytes.extend(address(network, host));
        bytes.extend(address(9, 9));
        bytes.extend([0x30, 0x39, 0x17, 0x71]);
        [&bytes[..], request("/ws?token=x").as_bytes()].concat()
    };
    let same =
        |first: &[u8], then: &[u8]| is_the_same(backend, PeerAddress::ProxyProtocol, first, then);
    assert!(same(&from(1, 1), &from(1, 2)));
    assert!(!same(&from(1, 1), &from(2, 1)));
});
