//! Foreign programs (nodes, Redis) as children that cannot outlive this process.
//!
//! Each runs under a shell that kills it when its standard input closes, that is, also when this process
//! is killed. What it logs goes to a file in the run's folder.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The signal comes from the line that is written; when none is, the owner is gone.
const SCRIPT: &str = "trap '' INT; log=$1; shift; \"$@\" >$log 2>&1 & pid=$!; echo $pid; \
                      read -r signal; kill -${signal:-KILL} $pid; wait $pid 2>/dev/null";

/// A running program. Dropped: killed.
pub struct Tethered {
    shell: Child,
    pub pid: u32,
}

impl Tethered {
    /// Starts `program`, on `core` alone if one is given.
    pub fn start(
        program: impl AsRef<OsStr>,
        arguments: &[String],
        log: &Path,
        core: Option<usize>,
    ) -> Result<Self, String> {
        let mut shell = on_core(core, || {
            Command::new("sh")
                .args(["-c", SCRIPT, "sh"])
                .arg(log)
                .arg(&program)
                .args(arguments)
                .current_dir(log.parent().unwrap_or(Path::new("/")))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| format!("cannot start sh: {error}"))
        })?;
        let mut line = String::new();
        let stdout = shell.stdout.as_mut().expect("it is piped");
        let read = BufReader::new(stdout).read_line(&mut line);
        let pid = read.ok().and_then(|_| line.trim().parse().ok());
        let program = program.as_ref().to_string_lossy();
        let pid = pid.ok_or_else(|| format!("{program} did not start"))?;
        Ok(Tethered { shell, pid })
    }

    pub fn is_running(&self) -> bool {
        // The shell stays until told; a program that ended shows as a zombie of it.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }
}

impl Drop for Tethered {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.shell.stdin.take() {
            let _ = stdin.write_all(b"KILL\n");
        }
        let _ = self.shell.wait();
    }
}

/// Runs `start` bound to `core`, which whatever it starts inherits.
pub fn on_core<T>(
    core: Option<usize>,
    start: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    let Some(core) = core else { return start() };
    let before = sched_getaffinity(None).map_err(|error| format!("reading affinity: {error}"))?;
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).map_err(|error| format!("--pin: core {core}: {error}"))?;
    let result = start();
    sched_setaffinity(None, &before).map_err(|error| format!("restoring affinity: {error}"))?;
    result
}

/// The last lines of a log, for an error message.
pub fn tail(log: &Path) -> String {
    let Ok(file) = File::open(log) else { return String::new() };
    let lines: Vec<_> = BufReader::new(file).lines().map_while(Result::ok).collect();
    lines[lines.len().saturating_sub(5)..].join("\n  ")
}
