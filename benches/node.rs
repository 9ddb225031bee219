//! A whole node in this process: broker, feed, reactor, sockets; beside bare writes to socket pairs.
//!
//! `cargo bench --bench node`. What the parts of the server cost together is the difference between the
//! two figures here; one by one they are in `parts`.
#![allow(missing_docs)]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use imcore::{
    ImClient, Message,
    broker::MemoryBroker,
    server::{Server, ServerConfig, ServerHandle},
};

const MEMBERS: usize = 500;
const PATIENCE: Duration = Duration::from_secs(10);
/// A payload of 128 bytes as JSON, and its frame with a header of four.
const PAYLOAD: usize = 128;
const FRAME: usize = PAYLOAD + 4;

fn message() -> String {
    "x".repeat(PAYLOAD - 2)
}

fn node() -> (ServerHandle, ImClient) {
    let broker = Arc::new(MemoryBroker::new());
    let config =
        ServerConfig { listen: ([127, 0, 0, 1], 0).into(), reactors: 1, ..ServerConfig::default() };
    let node = Server::start(config, broker.clone()).expect("a node");
    assert!(node.wait_ready(PATIENCE));
    let im = ImClient::builder().servers([node.server()]).broker(broker).build();
    (node, im.expect("a helper"))
}

/// A connected client; what it reads from here on are frames.
fn connect(node: &ServerHandle, im: &ImClient, client: i64) -> TcpStream {
    let url = im.connect_url(client, None).expect("an address");
    let path = &url[url.rfind("/ws").expect("the default path")..];
    let mut stream = TcpStream::connect(node.local_addr()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    stream
}

fn drain(streams: &mut [TcpStream], messages: usize) {
    let mut frames = vec![0; FRAME * messages];
    for stream in streams {
        stream.read_exact(&mut frames).expect("a frame");
    }
}

fn fan_out(criterion: &mut Criterion) {
    let (node, im) = node();
    let mut streams: Vec<_> =
        (1..=MEMBERS as i64).map(|client| connect(&node, &im, client)).collect();
    im.join(1..=MEMBERS as i64, ["room"]).expect("joined");
    let mut group = criterion.benchmark_group("node");
    for burst in [1usize, 8] {
        group.throughput(Throughput::Elements((MEMBERS * burst) as u64));
        group.bench_function(format!("room of 500, {burst} messages"), |bencher| {
            bencher.iter(|| {
                for _ in 0..burst {
                    im.send(Message::to_channel("room"), &message()).expect("sent");
                }
                drain(&mut streams, burst);
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("one message to one client", |bencher| {
        bencher.iter(|| {
            im.send(Message::to([1]), &message()).expect("sent");
            drain(&mut streams[..1], 1);
        });
    });
    group.finish();
    drop(streams);
    node.shutdown();
}

/// What the same frames cost without a server: one write each, read by the same thread.
fn bare_writes(criterion: &mut Criterion) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..MEMBERS {
        readers.push(TcpStream::connect(address).expect("a connection"));
        writers.push(listener.accept().expect("a connection").0);
    }
    let frame = vec![b'x'; FRAME];
    let mut group = criterion.benchmark_group("bare write");
    group.throughput(Throughput::Elements(MEMBERS as u64));
    group.bench_function("500 sockets, 1 message", |bencher| {
        bencher.iter(|| {
            for writer in &mut writers {
                writer.write_all(&frame).expect("written");
            }
            drain(&mut readers, 1);
        });
    });
    group.finish();
}

criterion_group!(benches, fan_out, bare_writes);
criterion_main!(benches);
