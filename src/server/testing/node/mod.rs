//! Seeded runs of acceptor, TLS and reactor as one, over simulated sockets and a simulated clock.
//!
//! Every choice follows from a seed: who comes, over what, with which ticket; how lines stall, cut short and break; when
//! tickets are answered, whether the node is ready, who is kicked. What is checked is what the node promises, and
//! nothing of how it is built: who gets in, what the others are told, that messages arrive, that everything ends.
//! `IMCORE_NODE_SIMULATION=seed` replays a run, `IMCORE_NODE_SIMULATION=from..to` searches further.

mod guest;
mod world;

use testkit::seeded::{Replay, Seeded, seeds};

use world::World;

const VARIABLE: &str = "IMCORE_NODE_SIMULATION";

/// One run; a digest of what everybody got.
fn run(seed: u64) -> u64 {
    let _replay = Replay { variable: VARIABLE, seed };
    let mut chance = Seeded::new(seed);
    let mut world = World::new(seed);
    for _ in 0..150 + chance.below(150) {
        world.step(&mut chance);
    }
    world.settle(&mut chance);
    world.finish()
}

#[test]
fn whoever_may_gets_in_and_is_served_and_everything_ends() {
    for seed in seeds(VARIABLE, 60) {
        run(seed);
    }
}

#[test]
fn a_seed_replays() {
    assert_eq!(run(6), run(6));
    assert_ne!(run(6), run(7));
}
