//! Progress on standard error: one line that is written over on a terminal, plain lines elsewhere.

use std::{
    cell::Cell,
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

/// Between two lines where there is no terminal: soon, so that somebody sees that it works, then ever less often.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

/// Where progress goes.
pub struct Progress {
    is_terminal: bool,
    /// When the next plain line is due, and how long after it the one behind.
    next: Cell<(Instant, Duration)>,
}

impl Progress {
    pub fn new() -> Self {
        let next = (Instant::now() + FIRST, FIRST);
        Progress { is_terminal: stderr().is_terminal(), next: Cell::new(next) }
    }

    /// Something that is true for a moment: always shown on a terminal, now and then elsewhere.
    pub fn live(&self, text: &str) {
        if self.is_terminal {
            let _ = write!(stderr(), "\r\x1b[2K{text}");
        } else if self.is_due(Instant::now()) {
            let _ = writeln!(stderr(), "{text}");
        }
    }

    /// Something to keep.
    pub fn say(&self, text: &str) {
        let clear = if self.is_terminal { "\r\x1b[2K" } else { "" };
        let _ = writeln!(stderr(), "{clear}{text}");
    }

    fn is_due(&self, now: Instant) -> bool {
        let (due, pause) = self.next.get();
        if now < due {
            return false;
        }
        let pause = (pause * 2).min(LONGEST);
        self.next.set((now + pause, pause));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_come_soon_and_then_ever_less_often() {
        let start = Instant::now();
        let progress = Progress { is_terminal: false, next: Cell::new((start + FIRST, FIRST)) };
        let due = |second: &u64| progress.is_due(start + Duration::from_secs(*second));
        let lines: Vec<u64> = (0..300).filter(due).collect();
        assert_eq!(lines, [5, 15, 35, 75, 135, 195, 255]);
    }
}
