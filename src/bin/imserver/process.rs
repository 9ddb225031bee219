//! What the operating system counts of this process, under the names that every Prometheus client library
//! gives to it. Read from `/proc`, thus on Linux only: elsewhere nothing is told.

/// The program's own metrics in the text exposition format of Prometheus.
pub(crate) fn metrics() -> String {
    let mut page = String::new();
    #[cfg(target_os = "linux")]
    for (name, kind, help, value) in linux::figures() {
        if let Some(value) = value {
            page += &format!("{}{name} {value}\n", family(name, kind, help));
        }
    }
    page
}

fn family(name: &str, kind: &str, help: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fs,
        sync::LazyLock,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use rustix::{
        param::clock_ticks_per_second,
        process::{Resource, getrlimit},
        time::{ClockId, clock_gettime},
    };

    /// Name, kind, help, and the value where the kernel tells it.
    type Figure = (&'static str, &'static str, &'static str, Option<f64>);

    pub(super) fn figures() -> [Figure; 7] {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name| status_field(&status, name).map(|value| value as f64);
        let bytes = |name| field(name).map(|kibibytes| kibibytes * 1024.0);
        let counter = "counter";
        let gauge = "gauge";
        let most = getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, |most| most as f64);
        let cpu = Some(clock(ClockId::ProcessCPUTime).as_secs_f64());
        [
            ("process_cpu_seconds_total", counter, "CPU time used, user and system.", cpu),
            ("process_resident_memory_bytes", gauge, "Memory in use.", bytes("VmRSS:")),
            ("process_virtual_memory_bytes", gauge, "Address space in use.", bytes("VmSize:")),
            ("process_threads", gauge, "Threads.", field("Threads:")),
            ("process_open_fds", gauge, "Open files, sockets included.", open_files()),
            ("process_max_fds", gauge, "Most files that may be open.", Some(most)),
            ("process_start_time_seconds", gauge, "Start, in seconds since 1970.", *STARTED),
        ]
    }

    /// Found once: it must not follow every correction of the clock. `/proc/stat` has it as well, but not in
    /// a sandbox that shows nothing but processes.
    static STARTED: LazyLock<Option<f64>> = LazyLock::new(|| {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let ticks = stat_start(&stat)? as f64 / clock_ticks_per_second() as f64;
        let age = clock(ClockId::Boottime).as_secs_f64() - ticks;
        Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64() - age)
    });

    fn clock(id: ClockId) -> Duration {
        Duration::try_from(clock_gettime(id)).unwrap_or_default()
    }

    /// The number of a line of `status`, in the unit that it has there.
    fn status_field(status: &str, name: &str) -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// When the process began, in ticks since the machine did. The name before it may hold anything.
    fn stat_start(stat: &str) -> Option<u64> {
        stat[stat.rfind(')')? + 1..].split_whitespace().nth(19)?.parse().ok()
    }

    /// Linux 6.2 and newer has the number as the size of the folder, which spares going through hundreds of
    /// thousands of entries.
    fn open_files() -> Option<f64> {
        let folder = "/proc/self/fd";
        let count = match fs::metadata(folder).ok()?.len() {
            // Less the one that reads the folder.
            0 => fs::read_dir(folder).ok()?.count().saturating_sub(1) as u64,
            count => count,
        };
        Some(count as f64)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn fields_are_found_whatever_the_process_is_called() {
            let status = "Name:\tThreads: 9\nVmSize:\t  2048 kB\nThreads:\t3\n";
            assert_eq!(status_field(status, "Threads:"), Some(3));
            assert_eq!(status_field(status, "VmSize:"), Some(2048));
            assert_eq!(status_field(status, "VmRSS:"), None);
            let numbers: Vec<_> = (4..=30).map(|number: u32| number.to_string()).collect();
            assert_eq!(stat_start(&format!("7 (a) b) S {}", numbers.join(" "))), Some(22));
            assert_eq!(stat_start("7"), None);
        }

        #[test]
        fn this_process_has_every_figure() {
            for (name, _, _, value) in figures() {
                assert!(value.is_some_and(|value| value > 0.0), "{name}: {value:?}");
            }
            let before = open_files().unwrap();
            let _files: Vec<_> = (0..10).map(|_| fs::File::open("/dev/null").unwrap()).collect();
            assert!(open_files().unwrap() >= before + 5.0, "tests beside this one open files too");
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
            assert!((0.0..3600.0).contains(&(now - STARTED.unwrap())));
        }
    }
}
