//! A profile of the server while it works: `perf record`, started and stopped around a stretch.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::meter::Meter;

/// A running `perf record`. Dropped: it stops and writes its file.
pub struct Profile(Child);

impl Profile {
    /// Samples the processes of `meter` by CPU time, which needs no hardware counters.
    pub fn start(meter: &Meter, file: &Path) -> Result<Self, String> {
        let pids: Vec<_> = meter.pids().iter().map(u32::to_string).collect();
        let child = Command::new("perf")
            .args(["record", "-q", "-e", "cpu-clock", "-F", "1999", "-g", "-p", &pids.join(",")])
            .arg("-o")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("--perf: cannot start perf: {error}"))?;
        // It says nothing when it is ready.
        std::thread::sleep(Duration::from_millis(700));
        Ok(Profile(child))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.0.wait();
    }
}
