//! A real `imserver` process: started, signalled, measured, never left behind.
#![allow(dead_code)]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// A running node. Dropped: killed.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts node `name` on a port of the system's choice and waits until it listens there.
    pub fn start(name: &str, servers: &[String], redis: &str, more: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", name, servers, redis, more)
    }

    pub fn start_on(
        listen: &str,
        name: &str,
        servers: &[String],
        redis: &str,
        more: &[&str],
    ) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_imserver"))
            .args(["--listen", listen, "--server", name, "--servers", &servers.join(",")])
            .args(["--redis", redis, "--reactors", "1"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let written = Arc::clone(&log);
        thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| written.lock().unwrap().push(line));
        });
        let mut process = Process { child, address: ([0, 0, 0, 0], 0).into(), log };
        let deadline = Instant::now() + Duration::from_secs(30);
        while process.address.port() == 0 {
            assert!(Instant::now() < deadline, "{name} does not start: {:?}", process.log());
            thread::sleep(Duration::from_millis(5));
            process.address = process.find_address().unwrap_or(process.address);
        }
        process
    }

    fn find_address(&self) -> Option<SocketAddr> {
        let log = self.log();
        let line = log.iter().find(|line| line.contains(" listens on "))?;
        line.split(" listens on ").nth(1)?.split(',').next()?.parse().ok()
    }

    /// What it has written so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Processor time that it has used, from `/proc`, whose unit is a hundredth of a second on Linux.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    /// The most memory that it has held at once, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory that it holds, in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
