//! What is special to TLS: its handshake, its records, its certificate. All that a node does otherwise is
//! tested over TLS too: see `Backend::Tls`.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{Arc, OnceLock},
    time::Duration,
};

use imcore::server::{CloseReason, PeerAddress, ServerConfig, TlsConfig, TlsFailure};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned, pki_types::ServerName};
use testkit::{
    PATIENCE, eventually,
    tls::{Identity, Stream},
    ws::{Client, frame, request, response_head},
};
use tungstenite::{Message, WebSocket, protocol::Role};

use crate::world::{Backend, World};

/// The certificate of all secure worlds, and the clients that trust it.
pub(crate) fn shared() -> &'static (Identity, Arc<ClientConfig>) {
    static SHARED: OnceLock<(Identity, Arc<ClientConfig>)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let identity = Identity::new();
        let clients = Arc::new(identity.trust());
        (identity, clients)
    })
}

/// What a node needs to speak TLS.
pub fn config() -> TlsConfig {
    let identity = &shared().0;
    TlsConfig::from_pem(identity.cert.as_str(), identity.key.as_str())
}

/// What its clients need.
pub fn clients() -> &'static Arc<ClientConfig> {
    &shared().1
}

/// A world whose nodes speak TLS.
pub(crate) fn world(change: impl Fn(&mut ServerConfig)) -> World {
    World::with(Backend::Tls, 1, change)
}

/// A connection by a client of its own.
pub(crate) fn connect(world: &World, client: i64, config: ClientConfig) -> Client {
    let url = world.im.connect_url(client, None).unwrap();
    let socket = TcpStream::connect(world.nodes[0].local_addr()).unwrap();
    Client::upgrade(Stream::over(socket, Arc::new(config)), &url).unwrap()
}

fn failed(world: &World, failure: TlsFailure) -> u64 {
    let failures = world.nodes[0].vitals().stats().tls_failures;
    failures.iter().find(|(other, _)| *other == failure).unwrap().1
}

/// A client that has connected, sent `bytes` and reads until the node closes.
fn answer_to(world: &World, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(world.nodes[0].local_addr()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    answer
}

#[test]
fn both_versions_are_spoken_and_resumed() {
    let world = world(|_| {});
    for version in rustls::ALL_VERSIONS {
        let config = Arc::new(shared().0.trust_with(&[version]));
        for (round, kind) in [HandshakeKind::Full, HandshakeKind::Resumed].into_iter().enumerate() {
            let url = world.im.connect_url(1, None).unwrap();
            let socket = TcpStream::connect(world.nodes[0].local_addr()).unwrap();
            let stream = Stream::over(socket, Arc::clone(&config));
            let mut client = Client::upgrade(stream, &url).unwrap();
            world.im.send(imcore::Message::to([1]), &round).unwrap();
            assert_eq!(client.json(), round);
            assert_eq!(client.raw().session().handshake_kind(), Some(kind), "{version:?}");
            client.leave();
        }
    }
}

#[test]
fn what_is_not_tls_is_told_so_in_the_clear() {
    let world = world(|_| {});
    let answer = answer_to(&world, request("/ws?token=x").as_bytes());
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("wss://"), "{answer}");
    // Begins like TLS, and is none: an alert is the answer.
    let answer = answer_to(&world, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01x");
    assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
    eventually("counted", || failed(&world, TlsFailure::Protocol) == 1);
    // A record that never ends.
    let endless = [&b"\x16\x03\x01\x40\x00\x01\x00\xff\xff"[..], &[0; 20 << 10]].concat();
    answer_to(&world, &endless);
    eventually("counted", || failed(&world, TlsFailure::Protocol) == 2);
    world.connect(1).silent();
}

#[test]
fn clients_that_cannot_agree_are_counted_by_reason() {
    let world = world(|config| config.limits.handshake = Duration::from_secs(2));
    let try_with = |config: ClientConfig| {
        let socket = TcpStream::connect(world.nodes[0].local_addr()).unwrap();
        let mut stream = Stream::over(socket, Arc::new(config));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"x").and_then(|()| stream.read(&mut [0; 16])).unwrap_err()
    };
    try_with(Identity::new().trust());
    eventually("an unknown certificate", || failed(&world, TlsFailure::Rejected) == 1);
    // Whoever can be told is told, also after this side's hello.
    for (count, version) in
        [&rustls::version::TLS12, &rustls::version::TLS13].into_iter().enumerate()
    {
        let mut other_protocol = shared().0.trust_with(&[version]);
        other_protocol.alpn_protocols = vec![b"h2".to_vec()];
        let told = try_with(other_protocol);
        let told = told.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let alert = rustls::AlertDescription::NoApplicationProtocol;
        assert_eq!(told, Some(&rustls::Error::AlertReceived(alert)), "{version:?}");
        let counted = count as u64 + 1;
        eventually("no protocol", || failed(&world, TlsFailure::Incompatible) == counted);
    }
    let mut both_protocols = shared().0.trust();
    both_protocols.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = connect(&world, 1, both_protocols);
    assert_eq!(client.raw().session().alpn_protocol(), Some(&b"http/1.1"[..]));
    // Half a handshake, left and never finished.
    let half = |wait: bool| {
        let mut socket = TcpStream::connect(world.nodes[0].local_addr()).unwrap();
        socket.write_all(b"\x16\x03\x01\x01\x00\x01").unwrap();
        if wait {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(socket.read(&mut [0; 16]).unwrap_or(0), 0, "nothing can be said");
        }
    };
    half(false);
    eventually("left", || failed(&world, TlsFailure::Left) == 1);
    half(true);
    eventually("timed out", || failed(&world, TlsFailure::TimedOut) == 1);
    client.silent();
}

#[test]
fn the_oldest_of_too_many_handshakes_gives_way() {
    let world = world(|config| config.limits.handshakes = 2);
    let address = world.nodes[0].local_addr();
    let mut idle: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    idle[0].set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(idle[0].read(&mut [0; 16]).unwrap_or(0), 0, "without a word");
    eventually("counted", || world.nodes[0].vitals().stats().refusals.contains(&(503, 1)));
    world.connect(1).silent();
}

/// One recorded hello, sent again and again: it costs the node a signature, and its sender nothing.
#[test]
fn hellos_that_come_to_nothing_are_limited_before_they_cost_anything() {
    let world = world(|config| {
        config.limits.failures_per_address = 2;
        config.limits.handshakes_per_address = 4;
    });
    let mut session =
        ClientConnection::new(Arc::clone(clients()), ServerName::try_from("localhost").unwrap());
    let mut hello = Vec::new();
    session.as_mut().unwrap().write_tls(&mut hello).unwrap();
    let answered = || {
        let mut socket = TcpStream::connect(world.nodes[0].local_addr()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = socket.write_all(&hello);
        socket.read(&mut [0; 64]).unwrap_or(0) > 0
    };
    let count = (0..100).filter(|_| answered()).count();
    assert!((20..100).contains(&count), "{count}");
    eventually("the rest is refused", || {
        world.nodes[0]
            .vitals()
            .stats()
            .refusals
            .iter()
            .any(|(status, count)| *status == 429 && *count > 0)
    });
    eventually("room again", || world.try_connect(1).is_ok());
}

/// The last word arrives, whatever else the peer has sent that nobody will read.
#[test]
fn an_alert_is_not_lost_to_what_comes_behind_the_hello() {
    let world = world(|_| {});
    for garbage in [vec![], vec![0xff; 3000], b"\x17\x03\x03\x00\x05wrong".to_vec()] {
        let mut config = shared().0.trust_with(&[&rustls::version::TLS13]);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        let mut socket = TcpStream::connect(world.nodes[0].local_addr()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&[hello, garbage].concat()).unwrap();
        let told = loop {
            assert!(session.read_tls(&mut socket).unwrap() > 0, "the end without an alert");
            if let Err(error) = session.process_new_packets() {
                break error;
            }
        };
        let alert = rustls::AlertDescription::NoApplicationProtocol;
        assert_eq!(told, rustls::Error::AlertReceived(alert));
    }
    world.connect(1).silent();
}

/// Passes what is written on, one byte to the packet.
struct Crumbs(TcpStream);

impl Read for Crumbs {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Crumbs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_may_come_byte_by_byte() {
    let world = world(|_| {});
    let socket = TcpStream::connect(world.nodes[0].local_addr()).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::clone(clients()), name).unwrap();
    let url = world.im.connect_url(1, None).unwrap();
    let stream = StreamOwned::new(session, Crumbs(socket));
    let (mut client, _) = tungstenite::client(url, stream).unwrap();
    client.send(Message::Ping("crumbs".into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong("crumbs".into()));
    let text = "x".repeat(100_000);
    world.im.send(imcore::Message::to([1]), &text).unwrap();
    assert_eq!(client.read().unwrap().len(), text.len() + 2);
}

/// No event tells of what is decrypted already when a reactor takes the socket over.
#[test]
fn frames_in_one_record_with_the_head_are_read() {
    let world = world(|_| {});
    let url = world.im.connect_url(1, None).unwrap();
    let head = request(&url[url.find("/ws").unwrap()..]);
    let frames = [frame(0x81, &[b'x'; 5000]), frame(0x89, b"last")].concat();
    let mut stream = Stream::connect(world.nodes[0].local_addr()).unwrap();
    // The handshake is over first, so that this is all that comes.
    stream.flush().unwrap();
    stream.write_all(&[head.as_bytes(), &frames].concat()).unwrap();
    assert!(response_head(&mut stream).starts_with("HTTP/1.1 101 "));
    let mut client = Client(WebSocket::from_raw_socket(stream, Role::Client, None));
    assert_eq!(client.0.read().unwrap(), Message::Pong("last".into()));
}

#[test]
fn keys_may_be_renewed_but_not_for_ever() {
    let world = world(|_| {});
    let mut bystander = world.connect(2);
    let mut client = connect(&world, 1, shared().0.trust_with(&[&rustls::version::TLS13]));
    for round in 0..50 {
        client.raw().session().refresh_traffic_keys().unwrap();
        client.silent();
        world.im.send(imcore::Message::to([1]), &round).unwrap();
        assert_eq!(client.json(), round);
    }
    // Many and nothing else: no client needs that.
    for _ in 0..100 {
        client.raw().session().refresh_traffic_keys().unwrap();
    }
    let _ = client.raw().flush();
    eventually("closed", || world.closed(CloseReason::Protocol) == 1);
    bystander.silent();
}

#[test]
fn what_carries_no_data_counts_as_a_flood_too() {
    let world = world(|config| {
        config.limits.inbound_message_bytes = 1024;
        config.limits.inbound_rate = 1024;
    });
    let mut client = connect(&world, 1, shared().0.trust_with(&[&rustls::version::TLS13]));
    // A sweep allows 2 KiB; these pings have 180 bytes, and the keys between them 20,000.
    for _ in 0..30 {
        for _ in 0..30 {
            client.raw().session().refresh_traffic_keys().unwrap();
        }
        let _ = client.raw().write_all(&frame(0x89, b""));
    }
    assert_eq!(client.closed(), Some(1008));
    eventually("counted", || world.closed(CloseReason::Flood) == 1);
}

#[test]
fn a_broken_record_ends_its_connection_alone() {
    let world = world(|_| {});
    let mut bystander = world.connect(2);
    let mut clients: Vec<_> = (10..15).map(|id| world.connect(id)).collect();
    let broken: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x17\x03\x03\x00\x20................................",
        b"\x17\x03\x03\xff\xff................................",
        b"\x16\x03\x03\x00\x04....",
        &[0xff; 40_000],
    ];
    for (client, bytes) in clients.iter_mut().zip(broken) {
        let _ = client.raw().socket().write_all(bytes);
    }
    eventually("closed", || world.closed(CloseReason::Protocol) == 5);
    eventually("offline", || world.im.online_clients().unwrap().len() == 1);
    bystander.silent();
}

#[test]
fn a_proxy_s_header_comes_before_tls() {
    let world = world(|config| config.peer_address = PeerAddress::ProxyProtocol);
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend([10, 0, 0, 7, 127, 0, 0, 1, 0x30, 0x39, 0x17, 0x71]);
    let name = ServerName::try_from("localhost").unwrap();
    for together in [false, true] {
        let mut session = ClientConnection::new(Arc::clone(clients()), name.clone()).unwrap();
        let mut start = header.clone();
        if together {
            session.write_tls(&mut start).unwrap();
        }
        let mut socket = TcpStream::connect(world.nodes[0].local_addr()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&start).unwrap();
        let url = world.im.connect_url(1, None).unwrap();
        let stream = Stream::Tls(Box::new(StreamOwned::new(session, socket)));
        Client::upgrade(stream, &url).unwrap().silent();
    }
}
