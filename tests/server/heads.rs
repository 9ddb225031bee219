//! Request heads: paths, queries, origins, offers, and what is no upgrade.

use std::io::Write;

use testkit::{
    tls::Stream,
    ws::{exchange, request, response_head},
};

use crate::handshakes::{refusal, target};
use crate::world::World;

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
