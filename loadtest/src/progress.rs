//! Live progress: one line on a terminal that is written over, plain lines elsewhere.

use std::io::{IsTerminal, Write, stderr};

/// Where progress goes.
pub struct Progress {
    live: bool,
}

impl Progress {
    pub fn new() -> Self {
        Progress { live: stderr().is_terminal() }
    }

    /// Something that is true for a moment; shown on a terminal only.
    pub fn live(&self, text: &str) {
        if self.live {
            let _ = write!(stderr(), "\r\x1b[2K{text}");
        }
    }

    /// Something to keep.
    pub fn say(&self, text: &str) {
        let clear = if self.live { "\r\x1b[2K" } else { "" };
        let _ = writeln!(stderr(), "{clear}{text}");
    }
}
