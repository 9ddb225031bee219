//! `imserver` processes for tests: started with port 0, watched through their log, ended with the test.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for anything that is expected to happen; some things wait for a lease to end.
pub const LONG: Duration = Duration::from_secs(40);

/// A running `imserver`. Dropped: killed.
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    pub fn start(args: &[&str]) -> Process {
        Process::launch(Command::new(env!("CARGO_BIN_EXE_imserver")), args)
    }

    /// Starts it as an operator would, with nothing set but `args`; for the tests of the API.
    #[allow(dead_code)]
    pub fn start_bare(args: &[&str]) -> Process {
        Process::spawn(Command::new(env!("CARGO_BIN_EXE_imserver")), args)
    }

    /// Starts it with a limit of open files.
    pub fn start_with_descriptors(limit: u32, args: &[&str]) -> Process {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
        shell.arg(env!("CARGO_BIN_EXE_imserver"));
        Process::launch(shell, args)
    }

    /// Starts it with further environment variables.
    pub fn start_with_env(variables: &[(&str, &str)], args: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imserver"));
        command.envs(variables.iter().copied());
        Process::launch(command, args)
    }

    fn launch(mut command: Command, args: &[&str]) -> Process {
        // Unless a test says what, nothing is asked for at its listeners: flags win over these, files do not.
        if !args.contains(&"--config") {
            command.env("IMSERVER_ADMIN_TOKEN", "none").env("IMSERVER_API_KEY", "none");
        }
        Process::spawn(command, args)
    }

    fn spawn(mut command: Command, args: &[&str]) -> Process {
        let mut child = command
            .args(args)
            .args(["--reactors", "2"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in lines.map_while(Result::ok) {
                    *log.lock().unwrap() += &(line + "\n");
                }
            }
        });
        Process { child, log }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log holds `text`.
    pub fn says(&self, text: &str) {
        eventually(text, || self.log().contains(text));
    }

    /// The address that it says it has bound.
    pub fn address(&self) -> SocketAddr {
        self.says(" listens on ");
        let log = self.log();
        let rest = &log[log.find(" listens on ").unwrap() + " listens on ".len()..];
        rest.split(',').next().unwrap().parse().unwrap()
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`, `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn ends(&mut self) -> ExitStatus {
        eventually("the process ends", || !self.is_running());
        self.child.wait().unwrap()
    }

    /// Memory it holds, in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of process {}\n{}", self.child.id(), self.log());
        }
    }
}

/// Runs `imserver` to its end: exit code and what it wrote to standard error.
pub fn outcome(args: &[&str]) -> (Option<i32>, String) {
    let mut process = Process::start(args);
    let code = process.ends().code();
    // The pipe is read by a thread of its own; the message is its last line.
    eventually("a message", || process.log().ends_with('\n'));
    (code, process.log())
}

/// Asks again until the answer is yes.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
