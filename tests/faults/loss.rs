//! No silent deafness: what a node could not hear, it counts. And callers are told in time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use imcore::{
    ImClient, Message, Receipt,
    broker::{RedisBroker, RedisOptions},
};
use testkit::{
    Redis, eventually,
    proxy::{Mode, Proxy},
};

use crate::world::{World, patiently};

fn send(world: &World, count: usize) {
    for number in 0..count {
        patiently(|| world.im.send(Message::to([1]), &number));
    }
}

#[test]
fn what_was_sent_to_a_deaf_node_is_counted() {
    // Cut: Redis knows that nobody listens. Swallowed: Redis believes that it delivers.
    for mode in [Mode::Cut, Mode::Swallow] {
        let world = World::new(1);
        let mut peer = world.connect(1);
        send(&world, 5);
        (0..5).for_each(|number| assert_eq!(peer.socket.text(), number.to_string()));
        let mut lost = 0;
        for _ in 0..2 {
            world.links[0].set(mode);
            send(&world, 40);
            world.im.send(Message::to_channel("room"), "lost too").unwrap();
            world.im.send(Message::to_everyone(), "lost too").unwrap();
            lost += 42;
            eventually("deaf", || !world.nodes[0].is_ready());
            world.links[0].heal();
            eventually("counted", || world.nodes[0].vitals().stats().lost == lost);
            // Half a second of healthy probes adds nothing.
            send(&world, 5);
            (0..5).for_each(|number| assert_eq!(peer.socket.text(), number.to_string()));
        }
        world.links[0].set(Mode::Cut);
        eventually("deaf", || !world.nodes[0].is_ready());
        world.links[0].heal();
        assert!(world.nodes[0].wait_ready(testkit::PATIENCE));
        send(&world, 1);
        assert_eq!(peer.socket.text(), "0");
        assert_eq!(world.nodes[0].vitals().stats().lost, lost, "nothing was sent meanwhile");
    }
}

#[test]
fn after_a_restart_of_redis_what_it_knows_is_counted() {
    let mut world = World::new(1);
    let _peer = world.connect(1);
    send(&world, 30);
    world.set_links(Mode::Cut);
    world.redis.stop();
    assert!(world.im.send(Message::to([1]), "refused").unwrap_err().is_retryable());
    world.redis.start_again();
    send(&world, 7);
    world.set_links(Mode::Pass);
    eventually("counted", || world.nodes[0].vitals().stats().lost == 7);
}

/// Every message is heard or counted, while two threads send and the link breaks all the time.
#[test]
fn heard_and_lost_make_sent() {
    let (sent, lost) = send_through_breaks(&World::new(1));
    assert!(0 < lost && lost < sent);
}

#[test]
fn with_a_log_nothing_is_lost() {
    let (sent, lost) = send_through_breaks(&World::with_log(1));
    assert!(0 < sent && lost == 0);
}

/// How many messages were sent, and how many of them the node counted as lost.
fn send_through_breaks(world: &World) -> (u64, u64) {
    let mut peer = world.connect(1);
    let [sent, heard] = [const { AtomicU64::new(0) }; 2];
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let send = || {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    world.im.send(Message::to([1]), "x").unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(300));
                }
            })
        };
        let senders = [send(), send()];
        scope.spawn(|| {
            while peer.socket.text() == "\"x\"" {
                heard.fetch_add(1, Ordering::Relaxed);
            }
        });
        for mode in [Mode::Cut, Mode::Swallow, Mode::Stall, Mode::Cut] {
            world.links[0].set(mode);
            eventually("deaf", || !world.nodes[0].is_ready());
            world.links[0].heal();
            assert!(world.nodes[0].wait_ready(testkit::PATIENCE));
            let before = heard.load(Ordering::Relaxed);
            eventually("heard", || heard.load(Ordering::Relaxed) > before + 100);
        }
        over.store(true, Ordering::Relaxed);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        eventually("heard or counted", || books(world, &heard) == sent.load(Ordering::Relaxed));
        // Nothing is counted later.
        world.im.send(Message::to([1]), "the end").unwrap();
    });
    let (sent, lost) = (sent.load(Ordering::Relaxed), world.nodes[0].vitals().stats().lost);
    println!("sent {sent}, of which {lost} were counted as lost");
    assert_eq!(books(world, &heard), sent);
    (sent, lost)
}

/// What was heard and what the node counts as lost.
fn books(world: &World, heard: &AtomicU64) -> u64 {
    heard.load(Ordering::Relaxed) + world.nodes[0].vitals().stats().lost
}

/// Each call ends when its own time is over: one that may wait for an hour still waits then.
#[test]
fn callers_are_told_in_time() {
    const HOUR: Duration = Duration::from_secs(3600);
    let redis = Redis::start();
    for mode in [Mode::Cut, Mode::Stall, Mode::Swallow, Mode::CutAnswers] {
        let link = Proxy::start(redis.port);
        let helper = |longest: Duration| {
            let options = RedisOptions {
                connect_timeout: longest,
                call_timeout: longest,
                ..RedisOptions::default()
            };
            let broker = Arc::new(RedisBroker::open(&link.url(), options).unwrap());
            let im = ImClient::builder().servers(["a", "b"]).broker(broker).build().unwrap();
            im.send(Message::to_everyone(), "works").unwrap();
            im
        };
        let (im, patient) = (helper(Duration::from_millis(300)), helper(HOUR));
        link.set(mode);
        let patient = thread::spawn(move || patient.online_clients().map(drop));
        let many: Vec<_> = (1..=5000).collect();
        let calls: [(&str, &dyn Fn() -> imcore::Result<()>); 8] = [
            ("message", &|| im.send(Message::to([1, 2]).receipt(Receipt::Sent), "x").map(drop)),
            ("broadcast", &|| im.send(Message::to_everyone(), "x").map(drop)),
            ("kick", &|| im.kick(1)),
            ("connect", &|| im.connect_url(1, None).map(drop)),
            ("join many", &|| im.join(many.iter().copied(), ["room"])),
            ("online", &|| im.are_online(many.iter().copied()).map(drop)),
            ("all online", &|| im.online_clients().map(drop)),
            ("channels", &|| im.channels().map(drop)),
        ];
        for (name, call) in calls {
            let error = call().unwrap_err();
            assert!(error.is_retryable(), "{name} {mode:?}: {error}");
        }
        // Where nothing ends the connection, only time does.
        let ended = matches!(mode, Mode::Cut | Mode::CutAnswers);
        assert!(ended || !patient.is_finished(), "{mode:?}");
        link.heal();
        patiently(|| im.is_online(1));
        drop(link);
        let _ = patient.join().unwrap();
    }
}
