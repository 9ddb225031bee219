//! During an outage a node retries for ever, and sleeps in between.

use std::{
    thread,
    time::{Duration, Instant},
};

use testkit::{
    Redis, eventually,
    proxy::{Mode, Proxy},
    ws::Client,
};

use crate::world::{names, process};

#[test]
fn an_outage_costs_hardly_any_processor_time() {
    let redis = Redis::start();
    let link = Proxy::start(redis.port);
    let node = process("node-0", &names(1), &link.url());
    let status = || Client::connect(node.address(), "ws://x/ws?token=none").err();
    eventually("ready", || status() == Some(401));
    for mode in [Mode::Cut, Mode::Stall, Mode::CutAnswers] {
        link.set(mode);
        eventually("refuses", || status() == Some(503));
        let (cpu, connections, began) = (node.cpu(), link.connections(), Instant::now());
        // What is measured is a rate, so some time must pass.
        thread::sleep(Duration::from_secs(3));
        let share = (node.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
        let attempts = link.connections() - connections;
        println!("{mode:?}: {:.1} % of a core, {attempts} attempts to connect", 100.0 * share);
        assert!(share < 0.3, "{mode:?}: {share}");
        assert!(attempts < 100, "{mode:?}: {attempts}");
        link.heal();
        eventually("serves again", || status() == Some(401));
    }
}
