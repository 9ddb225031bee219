//! What clients may send once they are connected: faults end that connection with the right code and
//! touch nobody else, everything else is read and dropped.

use std::{
    io::{ErrorKind, Read, Write},
    time::Duration,
};

use imcore::server::CloseReason;
use testkit::{
    PATIENCE, eventually,
    tls::Stream,
    ws::{Client, frame, header, request, response_head},
};
use tungstenite::{
    Message, WebSocket,
    protocol::{CloseFrame, Role},
};

use crate::world::{Backend, World};

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const CLOSE: u8 = 0x88;

/// Sends `bytes` from a fresh client of the same reactor as `bystander`; the close code it gets.
fn code_for(world: &World, bystander: &mut Client, bytes: &[u8]) -> Option<u16> {
    let mut client = world.connect(2);
    // The server may have closed before all of it is sent.
    let _ = client.raw().write_all(bytes);
    let code = client.closed();
    world.im.send(imcore::Message::to([1, 2]), "still served").unwrap();
    assert_eq!(bystander.text(), "\"still served\"");
    eventually("offline", || !world.im.is_online(2).unwrap());
    code
}

fn one_reactor(backend: Backend) -> (World, Client) {
    let world = World::with(backend, 1, |config| config.reactors = 1);
    let bystander = world.connect(1);
    (world, bystander)
}

/// A connection counts as closed when its socket is let go of, a little after its close frame.
fn wait_for_count(world: &World, reason: CloseReason, count: usize) {
    eventually(reason.text(), || world.closed(reason) == count as u64);
}

behaviour!(broken_frames_close_with_a_protocol_error, |backend| {
    let (world, mut bystander) = one_reactor(backend);
    let mut unmasked = header(TEXT, 0, 2);
    unmasked.extend(b"hi");
    let mut cases = vec![
        ("unmasked", unmasked),
        ("unmasked and empty", header(TEXT, 0, 0)),
        ("fragmented ping", frame(0x09, b"")),
        ("fragmented close", frame(0x08, b"")),
        ("ping of 126 bytes", frame(PING, &[b'x'; 126])),
        ("pong of 64 KiB", frame(0x8a, &[0; 1 << 16])),
        ("continuation without a start", frame(0x80, b"x")),
        ("start within a message", [frame(0x01, b"a"), frame(TEXT, b"b")].concat()),
        ("binary within a text", [frame(0x01, b"a"), frame(0x02, b"b")].concat()),
        ("close of one byte", frame(CLOSE, b"x")),
        ("random bytes", b"\xf7\x00\xa3\x9c random \xff\xff".to_vec()),
    ];
    for bit in [0x40, 0x20, 0x10] {
        cases.push(("reserved bit", frame(TEXT | bit, b"x")));
        cases.push(("reserved bit of a ping", frame(PING | bit, b"")));
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        cases.push(("unknown opcode", frame(0x80 | opcode, b"")));
    }
    for (name, bytes) in &cases {
        let code = code_for(&world, &mut bystander, bytes);
        assert_eq!(code, Some(1002), "{name}: {:02x?}", &bytes[..bytes.len().min(8)]);
    }
    wait_for_count(&world, CloseReason::Protocol, cases.len());
    bystander.silent();
});

behaviour!(what_is_too_big_closes_with_1009, |backend| {
    let (world, mut bystander) = one_reactor(backend);
    let half = [b'x'; 40 << 10];
    let cases = [
        // Told from the header alone: nobody waits for, or keeps, what is announced.
        ("a byte too many", header(TEXT, 0x80, (64 << 10) + 1)),
        ("a gigabyte", header(0x82, 0x80, 1 << 30)),
        ("two fragments", [frame(0x01, &half), frame(0x80, &half)].concat()),
    ];
    for (name, bytes) in &cases {
        let mut bytes = bytes.clone();
        bytes.extend([0; 4]);
        assert_eq!(code_for(&world, &mut bystander, &bytes), Some(1009), "{name}");
    }
    for length in [1 << 63, u64::MAX] {
        let mut bytes = header(TEXT, 0x80, length);
        bytes.extend([0; 4]);
        let code = code_for(&world, &mut bystander, &bytes);
        assert!(matches!(code, Some(1002 | 1009)), "{length:x}: {code:?}");
    }
    let mut client = world.connect(2);
    client.raw().write_all(&frame(TEXT, &[b'x'; 64 << 10])).unwrap();
    client.silent();
});

behaviour!(text_that_is_not_utf8_closes_with_1007, |backend| {
    let (world, mut bystander) = one_reactor(backend);
    let cases = [
        frame(TEXT, b"\xff"),
        frame(TEXT, b"ok \xc3\x28"),
        frame(TEXT, b"cut \xe4\xbd"),
        frame(TEXT, b"\xed\xa0\x80"),
        [frame(0x01, b"fine"), frame(0x80, b"\xfe")].concat(),
    ];
    for bytes in &cases {
        assert_eq!(code_for(&world, &mut bystander, bytes), Some(1007), "{bytes:02x?}");
    }
    wait_for_count(&world, CloseReason::BadText, cases.len());
    // A character may be cut by a fragment's end, and binary may hold anything.
    let mut client = world.connect(2);
    let [first, second] = [frame(0x01, b"\xe4\xbd"), frame(0x80, b"\xa0")];
    client.raw().write_all(&[first, second, frame(0x82, b"\xff\xfe")].concat()).unwrap();
    client.silent();
});

behaviour!(a_close_frame_is_answered_with_its_code, |backend| {
    let (world, _bystander) = one_reactor(backend);
    for code in [1000, 1001, 1003, 1011, 3000, 4001, 4999] {
        let mut client = world.connect(2);
        client.raw().write_all(&frame(CLOSE, &u16::to_be_bytes(code))).unwrap();
        assert_eq!(client.closed(), Some(code));
    }
    // Registered after RFC 6455; the client's library does not know it.
    let mut client = world.connect(2);
    client.raw().write_all(&frame(CLOSE, &1014_u16.to_be_bytes())).unwrap();
    let mut answer = [0; 4];
    client.raw().read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x88, 2, 0x03, 0xf6]);
    // With a reason, without a code, and behind other frames.
    let with_reason = [&1000_u16.to_be_bytes()[..], "再见".as_bytes()].concat();
    let mut client = world.connect(2);
    client.raw().write_all(&[frame(TEXT, b"bye"), frame(CLOSE, &with_reason)].concat()).unwrap();
    assert_eq!(client.closed(), Some(1000));
    let mut client = world.connect(2);
    client.raw().write_all(&frame(CLOSE, b"")).unwrap();
    assert_eq!(client.0.read().unwrap(), Message::Close(None));
    // Codes that must not stand in a frame.
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        let mut client = world.connect(2);
        client.raw().write_all(&frame(CLOSE, &code.to_be_bytes())).unwrap();
        let Message::Close(Some(answer)) = client.0.read().unwrap() else { panic!("{code}") };
        assert_eq!((u16::from(answer.code), &*answer.reason), (1002, "protocol error"), "{code}");
    }
    wait_for_count(&world, CloseReason::Protocol, 10);
    // The server ends TCP after its answer, though the client leaves it open.
    let mut client = world.connect(2);
    client.raw().write_all(&frame(CLOSE, &1000_u16.to_be_bytes())).unwrap();
    let mut rest = Vec::new();
    client.raw().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [0x88, 2, 0x03, 0xe8]);
    eventually("all offline", || world.nodes[0].vitals().stats().connections == 1);
});

// No byte more is waited for than it takes to know.
behaviour!(what_cannot_be_right_is_refused_at_its_first_byte, |backend| {
    let (world, mut bystander) = one_reactor(backend);
    let mut half = frame(TEXT, &[b"good so far \xed\xa0".as_slice(), &[b'x'; 1000]].concat());
    half.truncate(8 + 14);
    let cases = [
        ("reserved bit", b"\xc1\xfe".to_vec(), 1002),
        ("no mask", b"\x81\x7e".to_vec(), 1002),
        ("long ping", b"\x89\xfe".to_vec(), 1002),
        ("fragmented ping", b"\x09\x85".to_vec(), 1002),
        ("stray continuation", b"\x80\xfe".to_vec(), 1002),
        ("unknown opcode", b"\x83\xfe".to_vec(), 1002),
        ("too big", [header(TEXT, 0x80, 1 << 40), vec![0; 4]].concat(), 1009),
        ("not UTF-8", half, 1007),
    ];
    for (name, bytes, code) in cases {
        assert_eq!(code_for(&world, &mut bystander, &bytes), Some(code), "{name}");
    }
});

// RFC 6455, 7.1.1: TCP, and TLS, end after both close frames. Whoever answers late can still do so, and need
// not wait for the time-out then.
behaviour!(a_close_waits_for_the_client_s_answer, |backend| {
    let world = World::with(backend, 1, |config| {
        config.reactors = 1;
        // Out of reach.
        config.limits.linger = Duration::from_secs(3600);
    });
    let mut bystander = world.connect(1);
    let mut late = world.connect(2);
    world.im.send(imcore::Message::to([2]), "before").unwrap();
    world.im.kick(2).unwrap();
    let mut close = vec![0x88, 8, 0x0f, 0xa1];
    close.extend(b"kicked");
    let expected = [&b"\x81\x08\"before\""[..], &close].concat();
    let mut got = vec![0; expected.len()];
    late.raw().read_exact(&mut got).unwrap();
    assert_eq!(got, expected);
    // What was sent before it had seen the close frame, and pings, which get no answer any more.
    for round in 0..20 {
        late.raw().write_all(&[frame(TEXT, b"late"), frame(PING, b"late")].concat()).unwrap();
        world.im.send(imcore::Message::to([1]), &round).unwrap();
        assert_eq!(bystander.json(), round);
    }
    late.raw().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let nothing = late.raw().read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(nothing, Err(ErrorKind::WouldBlock), "an end before the answer");
    late.raw().set_read_timeout(Some(PATIENCE)).unwrap();
    late.raw().write_all(&frame(CLOSE, b"\x0f\xa1")).unwrap();
    assert_eq!(late.raw().read(&mut [0]).unwrap(), 0, "the end, and nothing before it");
    drop(late);
    eventually("closed", || world.closed(CloseReason::Kicked) == 1);
});

// As above, for those that do not answer.
behaviour!(a_close_without_an_answer_ends_after_the_linger, |backend| {
    let world = World::new(backend, 1);
    let mut mute = world.connect(1);
    let mut gone = world.connect(2);
    world.im.kick(1).unwrap();
    world.im.kick(2).unwrap();
    let mut rest = Vec::new();
    mute.raw().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [&[0x88, 8, 0x0f, 0xa1][..], b"kicked"].concat());
    // Its linger may be over before.
    let _ = gone.raw().shutdown(std::net::Shutdown::Write);
    world.wait_for_connections(0);
    assert_eq!(world.closed(CloseReason::Kicked), 2);
});

behaviour!(an_unfinished_message_is_closed_in_time, |backend| {
    let world = World::with(backend, 1, |config| {
        config.reactors = 1;
        config.limits.inbound_message_time = Duration::from_millis(500);
        config.limits.sweep = Duration::from_millis(100);
    });
    let cases: [(&str, Vec<u8>); 5] = [
        ("fragment", frame(0x01, &[b'x'; 60_000])),
        ("empty fragment", frame(0x02, b"")),
        ("half a frame", frame(TEXT, &[b'x'; 1000])[..500].to_vec()),
        ("half a header", b"\x81".to_vec()),
        ("half a ping", frame(PING, b"12345")[..8].to_vec()),
    ];
    for (name, bytes) in &cases {
        let mut client = world.connect(2);
        client.raw().write_all(&[frame(TEXT, b"whole"), bytes.clone()].concat()).unwrap();
        assert_eq!(client.closed(), Some(1008), "{name}");
    }
    wait_for_count(&world, CloseReason::Unfinished, cases.len());
});

behaviour!(messages_of_clients_are_dropped_and_pings_answered, |backend| {
    let (world, mut bystander) = one_reactor(backend);
    let mut client = world.connect(2);
    // Fragments with a ping between them, which is answered before the message is complete.
    client.raw().write_all(&[frame(0x01, b"one"), frame(PING, b"between")].concat()).unwrap();
    assert_eq!(client.0.read().unwrap(), Message::Pong("between".into()));
    client.raw().write_all(&[frame(0x00, b"two"), frame(0x80, b"three")].concat()).unwrap();
    client.silent();
    // Many small ones in one packet; empty ones; an unasked-for pong.
    let many: Vec<u8> = (0..2000).flat_map(|_| frame(TEXT, b"x")).collect();
    client.raw().write_all(&many).unwrap();
    client
        .raw()
        .write_all(&[frame(TEXT, b""), frame(0x82, b""), frame(0x8a, b"?")].concat())
        .unwrap();
    client.silent();
    // One byte at a time.
    client.raw().set_nodelay(true).unwrap();
    for byte in [frame(TEXT, "慢".as_bytes()), frame(0x82, &[7; 200])].concat() {
        client.raw().write_all(&[byte]).unwrap();
    }
    client.silent();
    // The largest control frame, and each ping its own answer in order.
    client.raw().write_all(&frame(PING, &[b'p'; 125])).unwrap();
    assert_eq!(client.0.read().unwrap(), Message::Pong(vec![b'p'; 125].into()));
    let pings: Vec<u8> = (0..50_u8).flat_map(|number| frame(PING, &[number])).collect();
    client.raw().write_all(&pings).unwrap();
    for number in 0..50_u8 {
        assert_eq!(client.0.read().unwrap(), Message::Pong(vec![number].into()));
    }
    bystander.silent();
});

behaviour!(frames_right_behind_the_request_are_read, |backend| {
    let (world, _bystander) = one_reactor(backend);
    let open = |client: i64, frames: &[u8]| {
        let url = world.im.connect_url(client, None).unwrap();
        let target = &url[url.find("/ws").unwrap()..];
        let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
        stream.write_all(&[request(target).as_bytes(), frames].concat()).unwrap();
        assert!(response_head(&mut stream).starts_with("HTTP/1.1 101 "));
        Client(WebSocket::from_raw_socket(stream, Role::Client, None))
    };
    let mut client = open(2, &[frame(TEXT, b"early"), frame(PING, b"early")].concat());
    assert_eq!(client.0.read().unwrap(), Message::Pong("early".into()));
    // Only a part of a frame; the rest comes later.
    let ping = frame(PING, b"in two parts");
    let mut client = open(3, &ping[..5]);
    client.raw().write_all(&ping[5..]).unwrap();
    assert_eq!(client.0.read().unwrap(), Message::Pong("in two parts".into()));
    world.im.send(imcore::Message::to([3]), "served").unwrap();
    assert_eq!(client.text(), "\"served\"");
    // More than the head may hold, as frames are no part of it.
    let much: Vec<u8> = (0..40).flat_map(|_| frame(TEXT, &[b'x'; 1000])).collect();
    open(4, &much).silent();
    // Leaves, or breaks the protocol, before it has read anything.
    let mut client = open(5, &frame(CLOSE, &1000_u16.to_be_bytes()));
    assert_eq!(client.closed(), Some(1000));
    let mut client = open(6, &header(TEXT, 0, 0));
    assert_eq!(client.closed(), Some(1002));
    eventually("offline", || world.im.are_online([5, 6]).unwrap() == [false, false]);
});

behaviour!(a_client_that_leaves_without_a_word_is_noticed, |backend| {
    let (world, mut bystander) = one_reactor(backend);
    drop(world.connect(2));
    let mut polite = world.connect(3);
    let frame = CloseFrame { code: 1000.into(), reason: "bye".into() };
    polite.0.close(Some(frame)).unwrap();
    assert_eq!(polite.closed(), Some(1000));
    let mut half = world.connect(4);
    half.raw().shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    half.raw().read_to_end(&mut rest).unwrap();
    eventually("only the bystander", || world.nodes[0].vitals().stats().connections == 1);
    assert_eq!(world.closed(CloseReason::Lost), 2);
    assert_eq!(world.closed(CloseReason::Peer), 1);
    eventually("offline", || world.im.online_clients().unwrap().len() == 1);
    bystander.silent();
});
