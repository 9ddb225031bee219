//! What processes cost: CPU time and memory, as the kernel counts them.
//!
//! What cannot be measured (no process is known, or one has ended) is NaN, which every sum and ratio with it
//! stays: a report shows it as "not measured", never as 0.

use std::{collections::BTreeMap, fs};

use serde::{Deserialize, Serialize};

/// Looks at a group of processes.
#[derive(Debug, Clone)]
pub struct Meter {
    pids: Vec<u32>,
}

/// User memory of a group of processes, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident, shared pages counted in each process.
    pub rss: f64,
    /// Resident, shared pages split among their users.
    pub pss: f64,
    /// The anonymous part of `pss`: heap and stacks.
    pub anonymous: f64,
}

/// What one process holds at a moment; a soak is judged by how this changes.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Holding {
    pub rss_mib: f64,
    pub descriptors: u64,
    pub threads: u64,
}

impl Meter {
    pub fn of(pids: Vec<u32>) -> Self {
        Meter { pids }
    }

    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// CPU time used so far, user and system, in nanoseconds.
    pub fn cpu(&self) -> f64 {
        self.pids.iter().map(|pid| process_cpu(*pid)).sum::<f64>() + self.nothing()
    }

    /// Nothing, or NaN where there is no process to measure.
    fn nothing(&self) -> f64 {
        if self.pids.is_empty() { f64::NAN } else { 0.0 }
    }

    pub fn memory(&self) -> Memory {
        let nothing = self.nothing();
        let mut sum = Memory { rss: nothing, pss: nothing, anonymous: nothing };
        for pid in &self.pids {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let field = |name: &str| {
                let line = text.lines().find(|line| line.starts_with(name));
                let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
                kibibytes.map_or(f64::NAN, |kibibytes: u64| (kibibytes << 10) as f64)
            };
            sum.rss += field("Rss:");
            sum.pss += field("Pss:");
            sum.anonymous += field("Pss_Anon:");
        }
        sum
    }

    /// What each process holds, in the order of the processes.
    pub fn holdings(&self) -> Vec<Holding> {
        self.pids.iter().map(|pid| holding(*pid)).collect()
    }

    /// CPU seconds by thread name, exact to a tick (usually 10 ms).
    pub fn threads(&self) -> BTreeMap<String, f64> {
        let tick = rustix::param::clock_ticks_per_second() as f64;
        let mut by_name = BTreeMap::new();
        for pid in &self.pids {
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for task in tasks.flatten() {
                let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                if let Some((name, ticks)) = thread_ticks(&stat) {
                    *by_name.entry(name.to_owned()).or_default() += ticks as f64 / tick;
                }
            }
        }
        by_name
    }
}

fn holding(pid: u32) -> Holding {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0u64)
    };
    Holding {
        rss_mib: field("VmRSS:") as f64 / 1024.0,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))
            .map_or(0, |files| files.count() as u64),
        threads: field("Threads:"),
    }
}

/// Name, and user and system ticks, of a `stat` line. The name may hold anything, also brackets.
fn thread_ticks(stat: &str) -> Option<(&str, u64)> {
    let (name, rest) = (stat.find('(')?, stat.rfind(')')?);
    let mut fields = stat[rest + 1..].split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((&stat[name + 1..rest], user + system))
}

/// The scheduler's own count, exact to the nanosecond; `stat` counts in ticks of 10 ms.
#[allow(unsafe_code)]
fn process_cpu(pid: u32) -> f64 {
    // The kernel's number for "CPU time of process pid" (at most 4194304), see clock_getcpuclockid(3).
    let clock = (!(pid as libc::clockid_t)) << 3 | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result; an unknown process is an error, not undefined.
    let failed = unsafe { libc::clock_gettime(clock, &mut time) } != 0;
    if failed { f64::NAN } else { time.tv_sec as f64 * 1e9 + time.tv_nsec as f64 }
}

/// The machine, for a report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
    pub redis: String,
}

impl Machine {
    pub fn here() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name"));
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kibibytes: f64 = memory
            .split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .unwrap_or_default();
        let redis = std::process::Command::new("redis-server").arg("--version").output();
        let redis = redis.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            processor: model.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (kibibytes / 1048576.0 * 10.0).round() / 10.0,
            kernel: kernel.trim().to_owned(),
            redis: redis
                .unwrap_or_default()
                .split_whitespace()
                .find_map(|word| word.strip_prefix("v="))
                .unwrap_or("unknown")
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_name_may_hold_brackets() {
        let stat = "7 (a) (b)) S 1 1 1 0 -1 4194560 1 0 0 0 12 30 0 0 20 0 1 0 100 0 0";
        assert_eq!(thread_ticks(stat), Some(("a) (b)", 42)));
        assert_eq!(thread_ticks("nonsense"), None);
    }

    #[test]
    fn own_costs_are_seen() {
        let meter = Meter::of(vec![std::process::id()]);
        let before = meter.cpu();
        let mut sum = 0u64;
        while meter.cpu() < before + 1e6 {
            sum = sum.wrapping_add(1);
        }
        let memory = meter.memory();
        assert!(memory.rss >= memory.pss && memory.pss >= memory.anonymous);
        assert!(memory.anonymous > 0.0);
        assert!(!meter.threads().is_empty());
        let [holding] = meter.holdings()[..] else { panic!("one process, one holding") };
        assert!(holding.rss_mib > 0.0 && holding.descriptors >= 3 && holding.threads >= 1);
    }

    #[test]
    fn what_is_not_there_is_not_measured() {
        for pids in [vec![], vec![4_194_303], vec![std::process::id(), 4_194_303]] {
            let meter = Meter::of(pids);
            assert!(meter.cpu().is_nan() && meter.memory().pss.is_nan());
        }
    }
}
