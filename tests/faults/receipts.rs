//! Messages that ask for thousands of receipts: each comes, and neither memory nor anybody else pays.

use imcore::{ImClient, Message, Receipt};
use testkit::{Imserver, PATIENCE, Redis, eventually, proxy::Mode, ws::Client};

use crate::world::{World, names, patiently, process};

/// A node on a Redis of its own, with default settings.
fn node(redis: &Redis) -> (Imserver, ImClient) {
    let node = process("node-0", &names(1), &redis.url());
    node.wait_ready();
    (node, ImClient::builder().servers(names(1)).redis(redis.url()).build().unwrap())
}

fn connect(im: &ImClient, node: &Imserver, client: i64) -> Client {
    let url = im.connect_url(client, None).unwrap();
    let connection = Client::connect(node.address(), &url).unwrap();
    eventually("online", || im.is_online(client).unwrap());
    connection
}

/// Nothing was lost or dropped, and the subscription was not cut: the library would have warned of it.
fn says_nothing(node: &Imserver) {
    let log = node.log();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN  [imcore")).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
}

#[test]
fn receipts_for_a_large_message_to_thousands_cost_next_to_nothing() {
    const RECEIVERS: i64 = 6000;
    let redis = Redis::start();
    let (node, im) = node(&redis);
    let mut sender = connect(&im, &node, 1);
    let mut bystander = connect(&im, &node, 10_000);
    let before = node.peak_memory();
    let text = "x".repeat(250 << 10);
    let id = Message::fresh_id().unwrap();
    let message = Message::to(2..2 + RECEIVERS).from(1).receipt(Receipt::Sent).id(&id);
    im.send(message, &text).unwrap();
    for number in 0..200 {
        im.send(Message::to([10_000]), &number).unwrap();
        assert_eq!(bystander.json(), number);
    }
    let mut told: Vec<_> = (0..RECEIVERS)
        .map(|_| {
            let receipt = sender.json();
            assert!(receipt.get("content").is_none() && receipt["id"] == *id, "{receipt}");
            receipt["to"].as_i64().unwrap()
        })
        .collect();
    told.sort_unstable();
    assert!(told.into_iter().eq(2..2 + RECEIVERS));
    let peak = node.peak_memory();
    println!("{} MiB before, {} MiB at most", before >> 20, peak >> 20);
    assert!(peak < before + (50 << 20), "{} MiB", peak >> 20);
    says_nothing(&node);
}

#[test]
fn a_hundred_thousand_receipts_come() {
    const RECEIVERS: i64 = 100_000;
    let redis = Redis::start();
    let (node, im) = node(&redis);
    let mut sender = connect(&im, &node, 1);
    let here: Vec<_> = (2..12).map(|client| connect(&im, &node, client)).collect();
    let text = "y".repeat(500);
    im.send(Message::to(2..2 + RECEIVERS).from(1).receipt(Receipt::Sent), &text).unwrap();
    let (mut told, mut sent) = (vec![false; RECEIVERS as usize], 0);
    for _ in 0..RECEIVERS {
        let receipt = sender.json();
        let place = receipt["to"].as_i64().unwrap() - 2;
        assert!(!std::mem::replace(&mut told[place as usize], true), "twice: {receipt}");
        sent += usize::from(receipt["status"] == "sent");
    }
    assert_eq!(sent, here.len());
    says_nothing(&node);
}

/// What clients answer while the broker is away is told once it is back, and once, whether or not it has carried out the
/// calls that came to nothing.
#[test]
fn receipts_that_cannot_be_sent_are_kept_and_told_once() {
    const RECEIVERS: i64 = 40;
    let world = World::with_log(2);
    let node = &world.nodes[0];
    let mut sender = world.connect(1).socket;
    let mut peers: Vec<_> = (1..=RECEIVERS).map(|number| world.connect(2 * number)).collect();
    let failed = || {
        let calls = node.vitals().stats().calls;
        calls.iter().find(|stats| stats.call == "publish").unwrap().errors
    };
    let faults = ["pause", "stall", "swallow", "cut", "lose answers"];
    for fault in faults {
        let receivers = peers.iter().map(|peer| peer.client);
        let message = Message::to(receivers).from(1).receipt(Receipt::Acknowledged).id(fault);
        patiently(|| world.im.send(message.clone(), &fault));
        peers.iter_mut().for_each(|peer| assert_eq!(peer.socket.json(), fault));
        let before = failed();
        let mut paused = None;
        match fault {
            "pause" => paused = Some(world.redis.pause()),
            "stall" => world.links[0].set(Mode::Stall),
            "swallow" => world.links[0].set(Mode::Swallow),
            "cut" => world.links[0].set(Mode::Cut),
            _ => world.links[0].set(Mode::CutAnswers),
        }
        // A client of this kind answers a ping behind the message once it reads on.
        peers.iter_mut().for_each(|peer| peer.socket.silent());
        eventually("tried in vain, twice", || failed() >= before + 2);
        drop(paused);
        world.links[0].heal();
        let mut told: Vec<_> = (0..RECEIVERS)
            .map(|_| {
                let receipt = sender.json();
                assert_eq!(
                    (&receipt["id"], &receipt["status"]),
                    (&fault.into(), &"acknowledged".into())
                );
                receipt["to"].as_i64().unwrap()
            })
            .collect();
        told.sort_unstable();
        assert!(told.into_iter().eq((1..=RECEIVERS).map(|number| 2 * number)), "{fault}");
        world.nodes.iter().for_each(|node| assert!(node.wait_ready(PATIENCE)));
    }
    patiently(|| world.im.send(Message::to([1]), "the end"));
    assert_eq!(sender.json(), "the end");
    eventually("nothing waits", || node.vitals().stats().receipts_waiting == 0);
    assert_eq!(node.vitals().stats().receipts_dropped, 0);
}
