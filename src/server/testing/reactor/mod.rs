//! Seeded runs of the real reactor, hub, connections and outboxes over simulated sockets.
//!
//! Every choice follows from a seed: who connects, what is sent to whom, what peers do, how their
//! sockets stall, cut short and break. A plain model, which knows no bytes, says what must come of it.
//! `IMCORE_SIMULATION=seed` replays a run, `IMCORE_SIMULATION=from..to` searches further.

mod checks;
mod model;
mod peer;

use model::World;
use testkit::seeded::{Replay, Seeded, seeds};

const VARIABLE: &str = "IMCORE_SIMULATION";

/// One run; a digest of every byte that every peer got.
fn run(seed: u64) -> u64 {
    let _replay = Replay { variable: VARIABLE, seed };
    let mut chance = Seeded::new(seed);
    let mut world = World::new(seed);
    for step in 0..200 + chance.below(400) {
        for _ in 0..chance.below(4) {
            world.act(&mut chance);
        }
        world.turn(&mut chance);
        if step % 16 == 0 {
            world.check_streams();
        }
    }
    world.settle();
    world.finish()
}

#[test]
fn whatever_peers_do_every_message_is_accounted_for() {
    for seed in seeds(VARIABLE, 100) {
        run(seed);
    }
}

#[test]
fn a_seed_replays_byte_for_byte() {
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
