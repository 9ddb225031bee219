//! Bursts of any size to clients that read: everything arrives, nobody is cut, whoever else is served.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    thread,
    time::Duration,
};

use imcore::{
    ImClient, Message,
    server::{CloseReason, ServerConfig},
};
use socket2::{Domain, Socket, Type};
use testkit::{eventually, tls::Stream, ws::Client};

use crate::world::World;

fn one_reactor(config: &mut ServerConfig) {
    config.reactors = 1;
}

/// One reactor that asks soon whether a client is there, and takes it for silent soon after.
fn soon_silent(config: &mut ServerConfig) {
    one_reactor(config);
    config.limits.ping_after = Duration::from_millis(300);
    config.limits.pong_within = Duration::from_millis(700);
    config.limits.sweep = Duration::from_millis(100);
}

/// Numbered messages of about `size` bytes, in one call.
fn burst(im: &ImClient, receivers: &[i64], count: usize, size: usize) {
    let filler = "x".repeat(size);
    let mut batch = im.batch();
    for number in 0..count {
        batch.add(Message::to(receivers.iter().copied()), &(number, &filler)).unwrap();
    }
    batch.send().unwrap();
}

/// Reads numbered messages.
fn read_all(client: &mut Client, count: usize) {
    for expected in 0..count {
        let text = client.text();
        assert!(text.starts_with(&format!("[{expected},\"x")), "{expected}: {}", &text[..20]);
    }
}

fn nobody_was_cut(world: &World) {
    assert_eq!(world.closed(CloseReason::SlowConsumer), 0);
    assert!(world.nodes.iter().all(|node| node.vitals().stats().dropped == 0));
}

behaviour!(a_burst_in_one_batch_arrives_whole, |backend| {
    let world = World::with(backend, 1, one_reactor);
    let mut client = world.connect(1);
    for (count, size) in [(2000, 1000), (8000, 1000), (60, 300_000)] {
        thread::scope(|scope| {
            scope.spawn(|| read_all(&mut client, count));
            burst(&world.im, &[1], count, size);
        });
    }
    nobody_was_cut(&world);
});

behaviour!(a_burst_arrives_while_the_reactor_is_busy_with_a_room, |backend| {
    const MEMBERS: i64 = 400;
    let world = World::with(backend, 1, one_reactor);
    let mut client = world.connect(1);
    let mut members: Vec<_> = (0..MEMBERS).map(|id| world.try_connect(100 + id).unwrap()).collect();
    world.wait_for_connections(1 + MEMBERS as u64);
    world.im.join(100..100 + MEMBERS, ["room"]).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| read_all(&mut client, 1500));
        scope.spawn(|| {
            for number in 0..40 {
                for member in &mut members {
                    let text = member.text();
                    assert!(text.starts_with(&format!("[{number},\"y")), "{}", &text[..20]);
                }
            }
        });
        let mut batch = world.im.batch();
        let (text, filler) = ("y".repeat(30_000), "x".repeat(1000));
        for number in 0..1500 {
            if number < 40 {
                batch.add(Message::to_channel("room"), &(number, &text)).unwrap();
            }
            batch.add(Message::to([1]), &(number, &filler)).unwrap();
        }
        batch.send().unwrap();
    });
    nobody_was_cut(&world);
});

// Reads on at a pace of its own, with a kernel that takes next to nothing for it.
behaviour_in_the_clear!(a_burst_arrives_at_a_client_that_reads_slower, |backend| {
    const COUNT: usize = 20_000;
    let world = World::with(backend, 1, one_reactor);
    let mut bystander = world.connect(1);
    let slow = narrow(&world.im, world.nodes[0].local_addr(), 2);
    world.wait_for_connections(2);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut slow = slow;
            for number in 0..COUNT {
                let text = slow.text();
                assert!(text.starts_with(&format!("[{number},\"x")), "{}", &text[..20]);
                // 4 MB a second at most.
                if number % 400 == 0 {
                    thread::sleep(Duration::from_millis(100));
                }
            }
        });
        burst(&world.im, &[2], COUNT, 1000);
        world.im.send(Message::to([1]), "meanwhile").unwrap();
        assert_eq!(bystander.text(), "\"meanwhile\"");
    });
    nobody_was_cut(&world);
});

// The backlog lasts many times longer than a pong may take: a ping behind it would come too late.
behaviour_in_the_clear!(a_client_that_reads_a_long_backlog_is_not_taken_for_silent, |backend| {
    const COUNT: usize = 40;
    let world = World::with(backend, 1, soon_silent);
    let mut slow = narrow(&world.im, world.nodes[0].local_addr(), 1);
    world.wait_for_connections(1);
    thread::scope(|scope| {
        // It answers pings only while it reads.
        scope.spawn(|| {
            for number in 0..COUNT {
                let text = slow.text();
                assert!(text.starts_with(&format!("[{number},\"x")), "{}", &text[..20]);
                thread::sleep(Duration::from_millis(100));
            }
        });
        burst(&world.im, &[1], COUNT, 250_000);
    });
    nobody_was_cut(&world);
    assert_eq!(world.closed(CloseReason::Silent), 0);
});

// No ping can stand within a message: one that takes its reader longer than a pong may take is no silence.
behaviour_in_the_clear!(a_large_message_that_is_read_slowly_is_no_silence, |backend| {
    const SIZE: usize = 900_000;
    let world = World::with(backend, 1, soon_silent);
    let mut slow = narrow(&world.im, world.nodes[0].local_addr(), 1);
    world.wait_for_connections(1);
    thread::scope(|scope| {
        // However long it is under way: until it begins the client answers, as any does.
        scope.spawn(|| world.im.send(Message::to([1]), &"x".repeat(SIZE)).unwrap());
        let mut head = [0; 2];
        loop {
            slow.raw().read_exact(&mut head).unwrap();
            match head {
                [0x89, 0] => slow.raw().write_all(b"\x8a\x80\0\0\0\0").unwrap(),
                _ => break,
            }
        }
    });
    let (mut left, mut scratch) = (SIZE, [0; 16 << 10]);
    while left > 0 {
        match slow.raw().read(&mut scratch).unwrap() {
            0 => panic!("cut with {left} bytes to go"),
            count => left = left.saturating_sub(count),
        }
        thread::sleep(Duration::from_millis(40));
    }
    assert_eq!(world.closed(CloseReason::Silent), 0);
    nobody_was_cut(&world);
});

behaviour_in_the_clear!(a_burst_to_a_large_room_reaches_everybody, |backend| {
    const MEMBERS: i64 = 1000;
    const MESSAGES: usize = 60;
    let world = World::with(backend, 1, one_reactor);
    let mut members: Vec<_> = (1..=MEMBERS).map(|id| world.try_connect(id).unwrap()).collect();
    world.wait_for_connections(MEMBERS as u64);
    world.im.join(1..=MEMBERS, ["room"]).unwrap();
    let filler = "x".repeat(30_000);
    thread::scope(|scope| {
        for part in members.chunks_mut(MEMBERS as usize / 4) {
            scope.spawn(|| {
                // By turns, so that nobody is left unread for long.
                let mut scratch = vec![0; 1 << 16];
                let mut left = vec![MESSAGES * 30_010; part.len()];
                while left.iter().any(|left| *left > 0) {
                    for (member, left) in
                        part.iter_mut().zip(&mut left).filter(|(_, left)| **left > 0)
                    {
                        *left = left.saturating_sub(read_some(member, &mut scratch));
                    }
                }
            });
        }
        let mut batch = world.im.batch();
        for number in 0..MESSAGES {
            batch.add(Message::to_channel("room"), &(number, &filler)).unwrap();
        }
        batch.send().unwrap();
    });
    eventually("delivered", || {
        world.nodes[0].vitals().stats().delivered == (MEMBERS as usize * MESSAGES) as u64
    });
    nobody_was_cut(&world);
});

/// Reads what is there, without looking at it; how much that was.
fn read_some(client: &mut Client, scratch: &mut [u8]) -> usize {
    match client.raw().read(scratch).unwrap() {
        0 => panic!("cut"),
        count => count,
    }
}

/// A client whose kernel takes next to nothing off the server's hands.
fn narrow(im: &ImClient, address: SocketAddr, client: i64) -> Client {
    let url = im.connect_url(client, None).unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.connect(&address.into()).unwrap();
    Client::upgrade(Stream::Plain(socket.into()), &url).unwrap()
}
