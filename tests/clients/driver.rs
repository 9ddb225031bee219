//! A client program that somebody else wrote: takes commands, tells events.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use serde_json::{Value, json};
use testkit::PATIENCE;

use crate::certificate::certificate;

/// The versions that these tests were written with.
const WEBSOCKETS: &str = "websockets==15.0.1";
const WS: &str = "ws@8.18.3";

/// Why a client cannot be tried here.
pub(crate) type Missing = String;

/// A client at work. Dropped: killed.
pub(crate) struct Driver {
    child: Child,
    commands: ChildStdin,
    /// Values that the program writes.
    values: Receiver<Value>,
    /// Of a browser: the page that commands go to.
    session: Option<Value>,
    requests: u32,
    /// What it keeps while it runs.
    profile: Option<PathBuf>,
}

impl Driver {
    /// Python's `websockets`.
    pub(crate) fn python() -> Result<Driver, Missing> {
        let folder = folder("python");
        if !folder.join("websockets").exists() {
            let target = folder.to_string_lossy();
            run(
                "python3",
                &["-m", "pip", "install", "-q", "--no-deps", "-t", &target, WEBSOCKETS],
            )?;
        }
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", folder).env("SSL_CERT_FILE", certificate().cert_file());
        start(python.arg(own_file("client.py")), b'\n')
    }

    /// Node's `ws`.
    pub(crate) fn node() -> Result<Driver, Missing> {
        let folder = folder("node");
        if !folder.join("node_modules/ws").exists() {
            let prefix = folder.to_string_lossy();
            run("npm", &["install", "--silent", "--no-save", "--prefix", &prefix, WS])?;
        }
        let mut node = Command::new("node");
        node.env("NODE_EXTRA_CA_CERTS", certificate().cert_file());
        start(node.arg(own_file("client.mjs")).arg(folder), b'\n')
    }

    /// Chromium without a window, by its DevTools protocol.
    pub(crate) fn chromium() -> Result<Driver, Missing> {
        let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
        if !Path::new(&program).exists() {
            return Err(format!("there is no {program}; CHROMIUM may name another"));
        }
        // It reads requests from descriptor 3 and writes to 4.
        const SCRIPT: &str = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null";
        let profile = folder("chromium").join(std::process::id().to_string());
        let mut shell = Command::new("sh");
        shell
            .args(["-c", SCRIPT, &program, "--headless", "--no-sandbox", "--disable-gpu"])
            // It takes no certificate from outside, so it takes any.
            .arg("--ignore-certificate-errors")
            .args(["--no-first-run", "--disable-background-networking", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank");
        let mut driver = start(&mut shell, 0)?;
        driver.profile = Some(profile);
        let page = driver.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = driver.ask("Target.attachToTarget", target);
        driver.session = Some(attached["sessionId"].clone());
        driver.ask("Runtime.enable", json!({}));
        driver.ask("Runtime.addBinding", json!({ "name": "tell" }));
        driver.ask("Runtime.evaluate", json!({ "expression": include_str!("page.js") }));
        Ok(driver)
    }

    /// Whether the program is told why it was refused: a page is not.
    pub(crate) fn knows_status(&self) -> bool {
        self.session.is_none()
    }

    pub(crate) fn command(&mut self, command: &Value) {
        if self.session.is_some() {
            self.request("Runtime.evaluate", json!({ "expression": format!("obey({command})") }));
        } else {
            writeln!(self.commands, "{command}").expect("the client reads");
        }
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Value {
        loop {
            let value = self.value();
            if self.session.is_none() {
                return value;
            }
            if value["method"] == "Runtime.bindingCalled" {
                let payload = value["params"]["payload"].as_str().expect("a string");
                return serde_json::from_str(payload).expect("JSON");
            }
        }
    }

    fn value(&mut self) -> Value {
        self.values.recv_timeout(PATIENCE).expect("the client tells what happens")
    }

    /// A request to the browser.
    fn request(&mut self, method: &str, params: Value) -> u32 {
        self.requests += 1;
        let mut request = json!({ "id": self.requests, "method": method, "params": params });
        if let Some(session) = &self.session {
            request["sessionId"] = session.clone();
        }
        write!(self.commands, "{request}\0").expect("the browser reads");
        self.requests
    }

    /// A request and its answer.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params);
        loop {
            let value = self.value();
            if value["id"] == id {
                assert!(value["error"].is_null(), "{method}: {value}");
                return value["result"].clone();
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(profile) = &self.profile {
            let _ = std::fs::remove_dir_all(profile);
        }
    }
}

/// Starts a program whose output is JSON values, each followed by `separator`.
fn start(command: &mut Command, separator: u8) -> Result<Driver, Missing> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{command:?} does not start: {error}"))?;
    let commands = child.stdin.take().expect("a pipe");
    let output = child.stdout.take().expect("a pipe");
    let (sender, values) = channel();
    thread::spawn(move || read_values(output, separator, &sender));
    Ok(Driver { child, commands, values, session: None, requests: 0, profile: None })
}

fn read_values(output: ChildStdout, separator: u8, sender: &Sender<Value>) {
    for part in BufReader::new(output).split(separator) {
        let Ok(part) = part else { return };
        if sender.send(serde_json::from_slice(&part).expect("JSON")).is_err() {
            return;
        }
    }
}

/// A folder for what a client needs, kept between runs.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn own_file(name: &str) -> PathBuf {
    testkit::root().join("tests/clients").join(name)
}

fn run(program: &str, arguments: &[&str]) -> Result<(), Missing> {
    let output = Command::new(program).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            let last = error.lines().last().unwrap_or_default().to_owned();
            Err(format!("{program} cannot install it ({last})"))
        }
        Err(error) => Err(format!("{program} does not start: {error}")),
    }
}
