//! Random choices for tests that replay from their seed.

/// A sequence that depends on its seed alone (SplitMix64).
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Seeded(seed)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// The seeds to run: `count` of them from a fixed start, or those that `variable` names, which is how a
/// failure is replayed (`VARIABLE=17`) and a longer search is made (`VARIABLE=1000..9000`).
pub fn seeds(variable: &str, count: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var(variable) else { return 0..count };
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{variable}={text}"));
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&text)..number(&text) + 1,
    }
}

/// Says how to replay, if the test fails while it lives.
pub struct Replay {
    /// The variable that names seeds.
    pub variable: &'static str,
    /// The seed in work.
    pub seed: u64,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with {}={}", self.variable, self.seed);
        }
    }
}
