//! `imserver` processes: started with port 0, watched through their log, signalled, measured, ended with the test.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::{eventually, ws::Client};

/// Where the program is: beside the folder of the tests' own programs.
pub fn program() -> PathBuf {
    let own = env::current_exe().unwrap();
    let program = own.ancestors().nth(2).unwrap().join("imserver");
    assert!(program.exists(), "build it first: cargo build --bin imserver");
    program
}

/// A running `imserver`. Dropped: killed.
pub struct Imserver {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Imserver {
    /// Starts it with two reactors, and with nothing asked for at its listeners, unless `args` say otherwise.
    pub fn start(args: &[&str]) -> Imserver {
        launch(Command::new(program()), args)
    }

    /// Starts it as an operator would, with nothing set but `args`.
    pub fn start_bare(args: &[&str]) -> Imserver {
        spawn(Command::new(program()), args)
    }

    /// Starts it with a limit of open files.
    pub fn start_with_descriptors(limit: u32, args: &[&str]) -> Imserver {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
        shell.arg(program());
        launch(shell, args)
    }

    /// Starts it with further environment variables.
    pub fn start_with_env(variables: &[(&str, &str)], args: &[&str]) -> Imserver {
        let mut command = Command::new(program());
        command.envs(variables.iter().copied());
        launch(command, args)
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log holds `text`.
    pub fn says(&self, text: &str) {
        eventually(text, || self.log().contains(text));
    }

    /// The address that it says it has bound.
    pub fn address(&self) -> SocketAddr {
        self.address_after(" listens on ")
    }

    /// Where it says that its admin listener is.
    pub fn admin(&self) -> SocketAddr {
        self.address_after("admin at http://")
    }

    /// Where it says that its API is.
    pub fn api(&self) -> SocketAddr {
        self.address_after("API at http://")
    }

    /// The address that stands in its log behind `words`.
    pub fn address_after(&self, words: &str) -> SocketAddr {
        self.says(words);
        let log = self.log();
        let rest = log.split_once(words).unwrap().1;
        rest.split([',', '/']).next().unwrap().parse().unwrap()
    }

    /// Waits until clients can connect: a node that is not ready refuses all of them, one that is those without a
    /// ticket.
    pub fn wait_ready(&self) {
        let address = self.address();
        eventually("ready", || Client::connect(address, "ws://x/ws?token=none").err() == Some(401));
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`, `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Kills it, and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn ends(&mut self) -> ExitStatus {
        eventually("the process ends", || !self.is_running());
        self.child.wait().unwrap()
    }

    /// Processor time that it has used, from `/proc`, whose unit is a hundredth of a second on Linux.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    /// The memory that it holds, in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that it has held at once, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Imserver {
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
    let mut process = Imserver::start(args);
    let code = process.ends().code();
    // The pipe is read by a thread of its own; the message is its last line.
    eventually("a message", || process.log().ends_with('\n'));
    (code, process.log())
}

fn launch(mut command: Command, args: &[&str]) -> Imserver {
    // Flags win over these, files do not.
    if !args.contains(&"--config") {
        command.env("IMSERVER_ADMIN_TOKEN", "none").env("IMSERVER_API_KEY", "none");
    }
    spawn(command, args)
}

fn spawn(mut command: Command, args: &[&str]) -> Imserver {
    command.args(args);
    if !args.contains(&"--reactors") {
        command.args(["--reactors", "2"]);
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = Arc::new(Mutex::new(String::new()));
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let written = Arc::clone(&log);
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            *written.lock().unwrap() += &(line + "\n");
        }
    });
    Imserver { child, log }
}
