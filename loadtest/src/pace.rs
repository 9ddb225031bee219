//! Open loop: things happen at their scheduled moments, whether or not earlier ones are answered.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::clock;

/// Calls `send` with index and scheduled moment, `rate` times a second for `seconds`.
///
/// One that is late is followed at once by the next, and its lateness counts as latency because it is
/// the scheduled moment that is passed on.
pub fn open_loop(
    rate: f64,
    seconds: f64,
    mut send: impl FnMut(u64, u64) -> Result<(), String>,
) -> Result<u64, String> {
    // The default slack of 50 us would be measured as latency of the server.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let count = (rate * seconds).round() as u64;
    let start = clock::now();
    for index in 0..count {
        let due = start + (index as f64 * 1e9 / rate) as u64;
        let ahead = due.saturating_sub(clock::now());
        if ahead > 0 {
            thread::sleep(Duration::from_nanos(ahead));
        }
        send(index, due)?;
    }
    Ok(count)
}

/// Sleeps until `deadline` in steps, calling `step` at each.
pub fn until(
    deadline: Instant,
    every: Duration,
    mut step: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    while Instant::now() < deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        thread::sleep(every.min(left));
        step()?;
    }
    Ok(())
}
