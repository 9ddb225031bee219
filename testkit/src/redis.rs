//! A real `redis-server` for tests: own port and socket, nothing on disk, gone with its owner.
//!
//! The server runs under a shell that kills it when its standard input closes, that is, also when the
//! test process is killed.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use redis::Connection;

/// A running Redis. Dropped: killed, and its folder removed.
pub struct Redis {
    shell: Child,
    pub port: u16,
    folder: PathBuf,
    extra: Vec<String>,
    /// What a Sentinel is told; `None` for a server that holds data.
    sentinel: Option<String>,
}

impl Redis {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one that takes `DEBUG`, which all do before Redis 7, and later ones if they are told to.
    pub fn start_with_debug() -> Self {
        let told = Command::new("redis-server").arg("--version").output().map(|out| out.stdout);
        let version = String::from_utf8(told.unwrap_or_default()).unwrap();
        match version.contains("v=6.") {
            true => Self::start(),
            false => Self::start_with(&["--enable-debug-command", "yes"]),
        }
    }

    /// Starts with further settings, such as `["--requirepass", "secret"]`.
    pub fn start_with(extra: &[&str]) -> Self {
        Self::begin(extra, None)
    }

    /// Starts as a Sentinel, with lines such as `sentinel monitor main 127.0.0.1 6379 1`.
    pub fn start_sentinel(extra: &[&str], lines: &str) -> Self {
        Self::begin(extra, Some(lines.to_owned()))
    }

    fn begin(extra: &[&str], sentinel: Option<String>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("imcore-redis-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let extra: Vec<String> = extra.iter().map(|word| word.to_string()).collect();
        let port = crate::port();
        let Some(shell) = launch(port, &folder, &extra, sentinel.as_deref()) else {
            panic!("redis-server does not start; is it installed?");
        };
        Redis { shell, port, folder, extra, sentinel }
    }

    /// One server for all tests of a process; each test takes a prefix of its own.
    pub fn shared() -> &'static Redis {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(Redis::start)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// A plain connection, without anything of the code under test.
    pub fn connect(&self) -> Connection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_connection_with_timeout(Duration::from_secs(5)).unwrap()
    }

    /// Kills it; all data is lost.
    pub fn stop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
    }

    /// Stops it from running until the result is dropped.
    pub fn pause(&self) -> Paused {
        let info: String = redis::cmd("INFO").arg("server").query(&mut self.connect()).unwrap();
        let (_, rest) = info.split_once("process_id:").unwrap();
        let paused = Paused { process: rest.lines().next().unwrap().to_owned() };
        paused.signal("STOP");
        paused
    }

    /// Its data as of now.
    pub fn snapshot(&self) -> Vec<u8> {
        redis::cmd("SAVE").exec(&mut self.connect()).unwrap();
        fs::read(self.folder.join("dump.rdb")).unwrap()
    }

    /// Starts it again on the same port with the data of a snapshot.
    pub fn start_again_from(&mut self, snapshot: &[u8]) {
        fs::create_dir_all(&self.folder).unwrap();
        fs::write(self.folder.join("dump.rdb"), snapshot).unwrap();
        self.start_again();
    }

    /// Starts it again on the same port.
    pub fn start_again(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(shell) =
                launch(self.port, &self.folder, &self.extra, self.sentinel.as_deref())
            {
                self.shell = shell;
                return;
            }
        }
        panic!("redis-server does not start again");
    }
}

/// A Redis that does not run. Dropped: goes on.
pub struct Paused {
    process: String,
}

impl Paused {
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.process]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.signal("CONT");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn launch(port: u16, folder: &PathBuf, extra: &[String], sentinel: Option<&str>) -> Option<Child> {
    const SCRIPT: &str =
        "redis-server \"$@\" >log 2>&1 & read -r _; kill -9 $!; wait; cd /; rm -rf \"$OLDPWD\"";
    fs::create_dir_all(folder).unwrap();
    let kind: &[&str] = match sentinel {
        None => &["--save", "", "--appendonly", "no", "--unixsocket", "socket"],
        Some(lines) => {
            fs::write(folder.join("conf"), lines).unwrap();
            &["conf", "--sentinel"]
        }
    };
    let mut shell = Command::new("sh")
        .args(["-c", SCRIPT, "sh"])
        .args(kind)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(extra)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if answers(port) {
            return Some(shell);
        }
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        if log.contains("Failed listening") || log.contains("Address already in use") {
            break;
        }
        thread::yield_now();
    }
    drop(shell.stdin.take());
    shell.wait().unwrap();
    None
}

/// Any answer will do: with a password set, `PING` is refused, but by a running server.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut line = String::new();
    stream.write_all(b"PING\r\n").is_ok() && BufReader::new(stream).read_line(&mut line).is_ok()
}
