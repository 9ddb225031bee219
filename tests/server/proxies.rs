//! Who a peer is, with and without a proxy, as far as the limit per address shows it.

use std::io::Write;

use imcore::server::PeerAddress;

use crate::{
    world::{Backend, World, eventually},
    ws::{Stream, exchange, request, response_head},
};

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

pub fn one_address_cannot_take_all_handshakes(backend: Backend) {
    let world = world(backend, PeerAddress::Socket);
    let idle = [waiting(&world, b""), waiting(&world, b"GET /ws")];
    assert!(matches!(status(&world, request("/ws?token=x").as_bytes()), 429 | 503));
    drop(idle);
    // A handshake that is over does not count any more, however it ended.
    eventually("room again", || status(&world, request("/ws?token=x").as_bytes()) == 401);
    let _clients: Vec<_> = (1..6).map(|id| world.connect(id)).collect();
}

pub fn a_proxy_s_header_tells_who_the_peer_is(backend: Backend) {
    let world = world(backend, PeerAddress::ProxyProtocol);
    let with = |host, rest: &[u8]| [&proxy_header(host), rest].concat();
    let bad_token = request("/ws?token=x");
    let _idle = [waiting(&world, &with(1, b"")), waiting(&world, &with(1, b"GET"))];
    eventually("the other address is busy", || {
        matches!(status(&world, &with(1, bad_token.as_bytes())), 429 | 503)
    });
    assert_eq!(status(&world, &with(2, bad_token.as_bytes())), 401);
    assert_eq!(status(&world, bad_token.as_bytes()), 400, "without the header it is not the proxy");
    // Byte by byte, and up to a connection.
    let url = world.im.prev_connect_server(1, None).unwrap();
    let head = with(3, request(&url[url.find("/ws").unwrap()..]).as_bytes());
    let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in head {
        stream.write_all(&[byte]).unwrap();
    }
    assert!(response_head(&mut stream).starts_with("HTTP/1.1 101 "));
}

pub fn the_last_forwarded_address_counts(backend: Backend) {
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
}
