//! Peers that read slowly or not at all: they are cut, the others get everything, memory stays bounded.

use std::{
    env,
    io::{Read, Write},
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use imcore::{
    ImClient, Message,
    server::{CloseReason, ServerConfig},
};
use socket2::{Domain, Socket, Type};
use testkit::{
    PATIENCE, Redis, eventually,
    tls::Stream,
    ws::{Client, frame},
};

use crate::world::{World, names, process};

/// A client whose kernel takes next to nothing off the server's hands.
fn narrow(im: &ImClient, address: SocketAddr, client: i64) -> Client {
    let url = im.connect_url(client, None).unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    // On the loopback segments are so large that each kernel would buffer megabytes.
    socket.set_tcp_mss(1400).unwrap();
    socket.connect(&address.into()).unwrap();
    Client::upgrade(Stream::Plain(socket.into()), &url).unwrap()
}

#[test]
fn clients_that_never_read_cost_little_memory_and_nobody_else() {
    const MESSAGE: usize = 16 << 10;
    // More for a measurement by hand.
    let slow = env::var("IMCORE_SLOW_CLIENTS").map_or(2000, |count| count.parse().unwrap());
    let redis = Redis::start();
    let node = process("node-0", &names(1), &redis.url());
    node.wait_ready();
    let im = ImClient::builder().servers(names(1)).redis(redis.url()).build().unwrap();
    let stuck: Vec<_> =
        (0..slow).map(|number| narrow(&im, node.address(), 1000 + number)).collect();
    let readers: Vec<_> = (1..=8)
        .map(|client| {
            let url = im.connect_url(client, None).unwrap();
            Client::connect(node.address(), &url).unwrap()
        })
        .collect();
    let everybody = (1..=8).chain((0..slow).map(|number| 1000 + number));
    im.join(everybody, ["busy"]).unwrap();
    eventually("all online", || im.online_clients().unwrap().len() == 8 + slow as usize);
    let before = node.memory();

    let text = "x".repeat(MESSAGE);
    let began = Instant::now();
    let read: Vec<_> = readers.iter().map(|_| AtomicUsize::new(0)).collect();
    let count = thread::scope(|scope| {
        let readers: Vec<_> = readers
            .into_iter()
            .zip(&read)
            .map(|(reader, read)| scope.spawn(move || read_all(reader, read)))
            .collect();
        let mut count = 0usize;
        eventually("all slow ones are cut", || {
            for _ in 0..8 {
                im.send(Message::to_channel("busy"), &text).unwrap();
                count += 1;
            }
            // A sender that outruns everybody would make slow clients of them all.
            eventually("bystanders get everything", || {
                read.iter().all(|read| read.load(Ordering::Acquire) == count)
            });
            im.online_clients().unwrap().len() == 8
        });
        im.send(Message::to_channel("busy"), "end").unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        count
    });
    let (peak, mib) = (node.peak_memory(), |bytes: u64| bytes >> 20);
    println!(
        "{slow} clients that never read, {count} messages of {} KiB in {:.1} s: {} MiB before, {} MiB at most",
        MESSAGE >> 10,
        began.elapsed().as_secs_f64(),
        mib(before),
        mib(peak)
    );
    // What waits is shared: without that it would be up to 1 MiB for each.
    assert!(peak < before + (160 << 20), "{} MiB", mib(peak));
    drop(stuck);
}

/// Counts messages up to the last.
fn read_all(mut reader: Client, read: &AtomicUsize) {
    while reader.text() != "\"end\"" {
        read.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn a_client_that_reads_byte_by_byte_is_cut_by_age() {
    let hasty = |config: &mut ServerConfig| {
        config.limits.outbox_age = Duration::from_secs(1);
        config.limits.sweep = Duration::from_millis(200);
        // Out of reach: only its age is to count.
        config.limits.outbox_bytes = 64 << 20;
    };
    let world = World::with(Redis::start(), 1, hasty);
    let mut slow = narrow(&world.im, world.nodes[0].local_addr(), 1);
    let mut other = world.connect(2);
    eventually("online", || world.im.is_online(1).unwrap());
    // Far more than the kernels take.
    let text = "x".repeat(1 << 19);
    for _ in 0..16 {
        world.im.send(Message::to([1]), &text).unwrap();
    }
    let cut = || {
        let closed = world.nodes[0].vitals().stats().closed;
        closed.iter().any(|(reason, count)| *reason == CloseReason::SlowConsumer && *count == 1)
    };
    eventually("cut", || {
        let _ = slow.raw().read(&mut [0]);
        cut()
    });
    eventually("offline", || !world.im.is_online(1).unwrap());
    world.im.send(Message::to([2]), "all the same").unwrap();
    assert_eq!(other.socket.text(), "\"all the same\"");
    eventually("every message is accounted for", || {
        let stats = world.nodes[0].vitals().stats();
        stats.offered == stats.delivered + stats.dropped
    });
}

/// Clients that begin a message and never end it cost no more than idle ones, and are closed.
#[test]
fn unfinished_messages_cost_nothing() {
    // More for a measurement by hand.
    let count = env::var("IMCORE_SLOW_CLIENTS").map_or(1000, |count| count.parse().unwrap());
    let redis = Redis::start();
    let node = process("node-0", &names(1), &redis.url());
    node.wait_ready();
    let im = ImClient::builder().servers(names(1)).redis(redis.url()).build().unwrap();
    let mut clients: Vec<_> = (1..=count)
        .map(|client: i64| {
            let url = im.connect_url(client, None).unwrap();
            Client::connect(node.address(), &url).unwrap()
        })
        .collect();
    eventually("all online", || im.online_clients().unwrap().len() == count as usize);
    let before = node.memory();
    for client in &mut clients {
        let fragments = [frame(0x01, &[b'x'; 65_000]), frame(0x00, &[b'x'; 530])].concat();
        client.raw().write_all(&fragments).unwrap();
    }
    for client in &mut clients {
        // The answer comes behind the fragments.
        client.silent();
    }
    let pinned = node.memory();
    // It goes on sending pongs, which finish no message.
    let codes = clients.iter_mut().map(|client| {
        client.raw().write_all(&frame(0x8a, b"")).unwrap();
        client.raw().set_read_timeout(Some(4 * PATIENCE)).unwrap();
        client.closed()
    });
    assert!(codes.into_iter().all(|code| code == Some(1008)));
    eventually("all offline", || im.online_clients().unwrap().is_empty());
    let after = node.memory();
    let mib = |bytes: u64| bytes >> 20;
    println!("{count}: {} MiB before, {} pinned, {} after", mib(before), mib(pinned), mib(after));
    let bound = before + before / 5;
    assert!(pinned <= bound && after <= bound, "{before}, {pinned}, {after}");
}
