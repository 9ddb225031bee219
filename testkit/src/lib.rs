//! What tests of all packages share. Never named by code that is shipped, and names nothing of imcore itself: what is
//! asserted through it is seen from outside.

pub mod mutations;
pub mod seeded;

use std::path::Path;

/// The folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
