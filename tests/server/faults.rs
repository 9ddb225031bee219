//! Clients that send too much, read too little, or vanish: each loses its own connection, and nobody
//! else loses a message.

use std::{io::Write, sync::mpsc::channel, thread, time::Duration};

use imcore::{Receipt, server::CloseReason};
use serde_json::json;
use testkit::{
    PATIENCE, eventually,
    ws::{Client, frame},
};
use tungstenite::Message;

use crate::world::World;

behaviour!(a_flood_is_closed_with_1008, |backend| {
    let world = World::with(backend, 1, |config| {
        config.reactors = 1;
        config.limits.inbound_message_bytes = 1024;
        config.limits.inbound_rate = 1024;
    });
    let mut bystander = world.connect(1);
    let mut client = world.connect(2);
    // A sweep allows 2 KiB; pings count like any other bytes.
    let flood: Vec<u8> = (0..600).flat_map(|_| frame(0x89, &[b'x'; 100])).collect();
    let _ = client.raw().write_all(&flood);
    assert_eq!(client.closed(), Some(1008));
    eventually("counted", || world.closed(CloseReason::Flood) == 1);
    world.im.send(imcore::Message::to([1]), "still served").unwrap();
    assert_eq!(bystander.text(), "\"still served\"");
});

// Below its rate a client may send for ever: the count starts anew with every sweep.
behaviour!(a_steady_talker_is_no_flood, |backend| {
    let world = World::with(backend, 1, |config| {
        config.limits.inbound_message_bytes = 1024;
        config.limits.inbound_rate = 1024;
        config.limits.sweep = Duration::from_millis(20);
    });
    let mut client = world.connect(1);
    // Twenty times what one sweep allows. Only time can tell that a sweep is over; more of it than
    // needed does no harm, and a late sweep costs nothing, as two parts fit into one.
    for _ in 0..20 {
        client.raw().write_all(&frame(0x81, &[b'x'; 1000])).unwrap();
        client.silent();
        thread::sleep(Duration::from_millis(60));
    }
});

behaviour!(a_client_that_never_reads_is_closed_and_others_get_everything, |backend| {
    const MESSAGES: usize = 300;
    let world = World::with(backend, 1, |config| {
        config.reactors = 1;
        config.limits.outbox_bytes = 256 << 10;
    });
    let readers: Vec<_> = (1..=3).map(|id| world.connect(id)).collect();
    let stuck = world.connect(4);
    world.im.join(1..=4, ["busy"]).unwrap();
    let text = "x".repeat(64 << 10);
    let (progress, seen) = channel();
    thread::scope(|scope| {
        for mut reader in readers {
            let (text, progress) = (&text, progress.clone());
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    let message: (usize, String) = serde_json::from_str(&reader.text()).unwrap();
                    assert!(message.0 == number && message.1 == *text);
                    progress.send(()).unwrap();
                }
                reader.silent();
            });
        }
        // No faster than the readers read: only the stuck one may fall behind.
        for number in 0..MESSAGES {
            world.im.send(imcore::Message::to_channel("busy"), &(number, &text)).unwrap();
            for _ in 0..3 {
                seen.recv_timeout(PATIENCE).unwrap();
            }
        }
    });
    eventually("closed", || world.closed(CloseReason::SlowConsumer) == 1);
    eventually("offline", || !world.im.is_online(4).unwrap());
    let stats = world.nodes[0].vitals().stats();
    assert_eq!(stats.offered, stats.delivered + stats.dropped);
    assert!(stats.dropped > 0);
    assert!(stats.drops.contains(&(CloseReason::SlowConsumer, stats.dropped)), "{:?}", stats.drops);
    drop(stuck);
});

behaviour!(a_slow_client_that_reads_on_is_told_1013, |backend| {
    let world = World::with(backend, 2, |config| {
        // The sender's node lets it lag behind.
        let own = config.server.as_deref() == Some("node-0");
        config.limits.outbox_bytes = if own { 64 << 10 } else { 256 << 20 };
        config.limits.linger = PATIENCE;
    });
    let mut sender = world.connect(1);
    let mut slow = world.connect(2);
    let text = "x".repeat(256 << 10);
    // Receipts are read all the time: this is about the receiver.
    let receipts = thread::spawn(move || {
        let next = || Some(sender.json()["status"].clone()).filter(|status| !status.is_null());
        let told: Vec<_> = std::iter::from_fn(next).collect();
        (told.iter().filter(|status| **status == "sent").count(), told.len())
    });
    let mut sent = 0;
    let online = || world.im.is_online(2).unwrap();
    // Until its buffers and the kernel's are full; in step with the node, however slow the machine.
    while online() {
        world.im.send(imcore::Message::to([2]).from(1).receipt(Receipt::Sent), &text).unwrap();
        sent += 1;
        eventually("handed on", || world.nodes[0].vitals().stats().offered >= sent || !online());
        assert!(sent < 1000, "never too slow");
    }
    let mut delivered = 0;
    let code = loop {
        match slow.0.read() {
            Ok(Message::Text(received)) => {
                assert_eq!(received.len(), text.len() + 2, "a message is whole or not there");
                delivered += 1;
            }
            Ok(Message::Close(frame)) => break frame.map(|frame| u16::from(frame.code)),
            Ok(Message::Ping(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, Some(1013));
    eventually("its books are closed", || {
        let stats = world.nodes[0].vitals().stats();
        stats.offered == stats.delivered + stats.dropped
    });
    // A last receipt comes after all the others.
    world.im.send(imcore::Message::to([99]).from(1).receipt(Receipt::Sent), "last").unwrap();
    let mark = json!({ "no": "status" });
    eventually("the last receipt", || world.nodes[1].vitals().stats().delivered > sent);
    world.im.send(imcore::Message::to([1]), &mark).unwrap();
    // Its sender was told the truth about each message.
    assert_eq!(receipts.join().unwrap(), (delivered, sent as usize + 1));
    drop(slow);
    eventually("closed", || world.closed(CloseReason::SlowConsumer) == 1);
});

behaviour!(a_stuck_client_is_closed_though_its_outbox_is_small, |backend| {
    let world = World::with(backend, 1, |config| {
        config.limits.outbox_age = Duration::from_millis(300);
        config.limits.outbox_bytes = 64 << 20;
        config.limits.sweep = Duration::from_millis(40);
    });
    let _stuck = world.connect(1);
    let text = "x".repeat(1 << 20);
    for _ in 0..16 {
        world.im.send(imcore::Message::to([1]), &text).unwrap();
    }
    eventually("closed", || world.closed(CloseReason::SlowConsumer) == 1);
    eventually("offline", || !world.im.is_online(1).unwrap());
});

behaviour!(a_silent_peer_is_closed_and_one_that_answers_is_not, |backend| {
    let world = World::with(backend, 1, |config| {
        config.reactors = 1;
        config.limits.ping_after = Duration::from_millis(200);
        config.limits.pong_within = Duration::from_secs(3);
        config.limits.sweep = Duration::from_millis(40);
    });
    let mut answering = world.connect(1);
    // It neither reads nor answers, but its socket stays open.
    let _vanished = world.connect(2);
    thread::scope(|scope| {
        let pings = scope.spawn(move || {
            let mut pings = 0;
            loop {
                match answering.0.read().unwrap() {
                    Message::Ping(_) => pings += 1,
                    Message::Text(_) => return (pings, answering),
                    other => panic!("{other:?}"),
                }
                // Writes the pong that the library has queued.
                answering.0.flush().unwrap();
            }
        });
        eventually("closed", || world.closed(CloseReason::Silent) == 1);
        world.im.send(imcore::Message::to([1]), "end").unwrap();
        let (pings, answering) = pings.join().unwrap();
        assert!(pings >= 2, "it was asked more than once, and kept");
        answering.leave();
    });
    eventually("left", || world.closed(CloseReason::Peer) == 1);
    assert_eq!(world.closed(CloseReason::Silent), 1);
});

behaviour!(faults_at_the_same_moment_cost_a_bystander_nothing, |backend| {
    let world = World::with(backend, 1, |config| config.reactors = 1);
    let mut bystander = world.connect(1);
    world.im.join([1], ["room"]).unwrap();
    let bad: [&[u8]; 5] =
        [b"\x81\x00", b"\xff\xff\xff\xff", &frame(0x81, b"\xff"), &frame(0x88, b"x"), &[0; 300]];
    thread::scope(|scope| {
        for (index, bytes) in bad.into_iter().enumerate() {
            let world = &world;
            scope.spawn(move || {
                for _ in 0..10 {
                    let mut client: Client = world.try_connect(10 + index as i64).unwrap();
                    let _ = client.raw().write_all(bytes);
                }
            });
        }
        for number in 0..300 {
            world.im.send(imcore::Message::to_channel("room"), &number).unwrap();
        }
    });
    for number in 0..300 {
        assert_eq!(bystander.json(), number);
    }
    world.wait_for_connections(1);
    eventually("offline", || world.im.online_clients().unwrap().len() == 1);
});
