//! Presence that stays exact: old snapshots, lost replies, nodes taken for dead, links that flap.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use imcore::{Message, server::ServerConfig};
use testkit::{
    Redis, eventually,
    proxy::{Mode, Proxy},
};

use crate::{
    outages::close,
    world::{LEASE, Peer, World, patiently},
};

#[test]
fn redis_goes_back_to_an_old_snapshot() {
    let mut world = World::new(2);
    let old = world.connect(1);
    let gone = world.connect(2);
    world.im.join([1, 2], ["room"]).unwrap();
    let snapshot = world.redis.snapshot();

    let gone = close(vec![gone]);
    eventually("offline", || world.log.count(false, &gone[0].ticket) == 1);
    let (new, brief) = (world.connect(3), world.connect(4));
    world.im.join([3, 4], ["room"]).unwrap();
    world.im.send(Message::to_channel("room"), "settles the node's index").unwrap();
    let mut new = new;
    assert_eq!(new.socket.text(), "\"settles the node's index\"");
    world.set_links(Mode::Cut);
    world.redis.stop();
    let brief = close(vec![brief]);
    world.redis.start_again_from(&snapshot);
    world.log.listens();
    world.set_links(Mode::Pass);

    world.settles(&[&old, &new], &[&gone[0], &brief[0]]);
    world.told_once(&[&old, &new], &[&gone[0], &brief[0]]);
    eventually("the room is right", || world.has_members("room", &[&old, &new]));
}

#[test]
fn a_node_that_is_cut_off_alone_is_reaped_and_comes_back() {
    for mode in [Mode::Swallow, Mode::Cut] {
        let world = World::new(2);
        // Even ids live on node 0.
        let stay: Vec<_> = [2, 4, 4].map(|client| world.connect(client)).into();
        let leave: Vec<_> = [6, 4].map(|client| world.connect(client)).into();
        let other = world.connect(1);
        world.links[0].set(mode);
        // Closed before it was reaped, and told by the reaper.
        let leave = close(leave);
        for peer in stay.iter().chain(&leave) {
            eventually("reaped", || world.log.count(false, &peer.ticket) == 1);
        }
        eventually("the books are right", || world.is_right(&[&other], &[]));
        world.links[0].heal();
        let open: Vec<_> = stay.iter().chain([&other]).collect();
        world.settles(&open, &leave.iter().collect::<Vec<_>>());
        for peer in &stay {
            let told = (world.log.count(true, &peer.ticket), world.log.count(false, &peer.ticket));
            assert_eq!((told, world.log.last(&peer.ticket)), ((2, 1), Some(true)));
        }
        world.told_once(&[&other], &leave.iter().collect::<Vec<_>>());
    }
}

/// All nodes lose Redis for longer than their leases. Whoever is back first must not reap the others.
#[test]
fn the_first_to_be_back_spares_the_others() {
    let world = World::new(2);
    let peers: Vec<_> = (1..=6).map(|client| world.connect(client)).collect();
    world.im.join(1..=6, ["room"]).unwrap();
    world.set_links(Mode::Cut);
    eventually("all leases have run out", || world.keys("im_v2_wsLease*").is_empty());
    world.links[0].heal();
    eventually("node 0 is back", || world.nodes[0].is_ready());
    world.links[1].heal();
    let open: Vec<_> = peers.iter().collect();
    world.settles(&open, &[]);
    world.told_once(&open, &[]);
    assert!(world.has_members("room", &open));
}

/// Thousands of connections come and go while links break at every moment, also between a script and
/// its reply. The leases outlast the breaks, so that each must have exactly one event of each kind.
#[test]
fn events_are_exact_while_links_flap() {
    const CLIENTS: i64 = 1500;
    let patient = |config: &mut ServerConfig| config.limits.lease = Duration::from_secs(60);
    let world = World::with(Redis::start(), 2, patient);
    let done = AtomicBool::new(false);
    let (stay, leave) = thread::scope(|scope| {
        let flapping: Vec<_> = world
            .links
            .iter()
            .zip(1u64..)
            .map(|(link, seed)| {
                scope.spawn({
                    let done = &done;
                    move || flap(link, seed, done)
                })
            })
            .collect();
        let churning: Vec<_> = (0..2)
            .map(|part| {
                scope.spawn({
                    let world = &world;
                    move || churn(world, part, CLIENTS / 2)
                })
            })
            .collect();
        let mut all = (Vec::new(), Vec::new());
        for thread in churning {
            let (stay, leave) = thread.join().unwrap();
            all.0.extend(stay);
            all.1.extend(leave);
        }
        done.store(true, Ordering::Release);
        flapping.into_iter().for_each(|thread| thread.join().unwrap());
        all
    });
    world.set_links(Mode::Pass);
    let (open, closed): (Vec<_>, Vec<_>) = (stay.iter().collect(), leave.iter().collect());
    eventually("the books are right", || world.is_right(&open, &closed));
    // What a node reports is in order: after this nothing of before is left.
    for client in [CLIENTS * 2, CLIENTS * 2 + 1] {
        let last = close(vec![connected(&world, client)]);
        eventually("offline", || world.log.count(false, &last[0].ticket) == 1);
    }
    world.told_once(&open, &closed);
    assert_eq!(world.log.histogram(false).keys().copied().collect::<Vec<_>>(), [1]);
    println!("{} connections, {} of them closed: every event once", CLIENTS, closed.len());
}

/// Breaks a link in ways drawn from `seed`, until told to stop.
pub fn flap(link: &Proxy, seed: u64, done: &AtomicBool) {
    let mut random = seed;
    while !done.load(Ordering::Acquire) {
        // Xorshift: replayable, and good enough to mix four modes.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let modes = [Mode::Cut, Mode::CutAnswers, Mode::Stall, Mode::Swallow];
        link.set(modes[(random >> 8) as usize % modes.len()]);
        thread::sleep(Duration::from_millis(20 + (random >> 16) % 80));
        link.heal();
        thread::sleep(Duration::from_millis(200 + (random >> 24) % 600));
    }
}

/// Connects clients as fast as the links allow; three of four leave at once.
fn churn(world: &World, part: i64, count: i64) -> (Vec<Peer>, Vec<Peer>) {
    let (mut stay, mut leave) = (Vec::new(), Vec::new());
    for number in 0..count {
        let peer = connected(world, 1 + part + number * 2);
        match number % 4 {
            0 => stay.push(peer),
            _ => leave.extend(close(vec![peer])),
        }
    }
    (stay, leave)
}

/// A connection, however long it takes; not yet necessarily online.
fn connected(world: &World, client: i64) -> Peer {
    let node = &world.nodes[client as usize % world.nodes.len()];
    let deadline = Instant::now() + testkit::PATIENCE;
    loop {
        match crate::world::connect(&world.im, node.local_addr(), client) {
            Ok(peer) => return peer,
            Err(status) => assert!(matches!(status, 503 | 401) && Instant::now() < deadline),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A link that loses one answer costs nothing but the repetition.
#[test]
fn a_repeated_report_is_told_once() {
    let world = World::new(1);
    let mut peers = Vec::new();
    for round in 0..10 {
        let peer = connected(&world, 1 + round);
        world.links[0].set(Mode::CutAnswers);
        eventually("noticed", || !world.nodes[0].is_ready());
        let peer = if round % 2 == 0 { close(vec![peer]).pop().unwrap() } else { peer };
        world.links[0].heal();
        assert!(world.nodes[0].wait_ready(testkit::PATIENCE));
        peers.push(peer);
    }
    let (closed, open): (Vec<_>, Vec<_>) = peers.iter().enumerate().partition(|(n, _)| n % 2 == 0);
    let closed: Vec<_> = closed.into_iter().map(|(_, peer)| peer).collect();
    let open: Vec<_> = open.into_iter().map(|(_, peer)| peer).collect();
    world.settles(&open, &closed);
    world.told_once(&open, &closed);
    patiently(|| world.im.is_online(1));
    assert!(LEASE > Duration::ZERO);
}
