//! Settings, where they come from, and what SIGHUP changes; logs as JSON.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use testkit::{Imserver, eventually, outcome, ws::Client};

use crate::{TOKEN, ask, get};

/// A configuration file of its own.
pub struct ConfigFile(PathBuf);

impl ConfigFile {
    pub fn new(text: &str) -> ConfigFile {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("imcore-config-{}-{number}.json", std::process::id());
        let file = ConfigFile(std::env::temp_dir().join(name));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs to the end, with nothing but this in the environment.
fn run(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Command::new(testkit::imserver::program())
        .args(args)
        .env_clear()
        .env("PATH", path)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What `--check` shows: value and source of each setting.
fn check(args: &[&str], environment: &[(&str, &str)]) -> BTreeMap<String, (String, String)> {
    let output = run(&[args, &["--check"]].concat(), environment);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let [name, value, source] = &words[..] else { panic!("{line}") };
        (name.clone(), (value.clone(), source.clone()))
    };
    let lines = text.lines().filter(|line| !line.starts_with("warning: "));
    lines.take_while(|line| *line != "valid").map(line).collect()
}

/// The message of a start that fails with code 2.
fn mistake(args: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run(args, environment);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?} {environment:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let file =
        ConfigFile::new(r#"{"path": "/file", "prefix": "file", "reactors": 3, "log": "warn"}"#);
    let environment =
        [("IMSERVER_PATH", "/env"), ("IMSERVER_PREFIX", "env"), ("IMSERVER_CONFIG", file.path())];
    let seen = check(&["--path", "/flag"], &environment);
    let is = |name: &str| (seen[name].0.as_str(), seen[name].1.as_str());
    assert_eq!(is("path"), ("/flag", "flag"));
    assert_eq!(is("prefix"), ("env", "environment"));
    assert_eq!(is("reactors"), ("3", file.path()));
    assert_eq!(is("log"), ("warn", file.path()));
    assert_eq!(is("listen"), ("127.0.0.1:6001", "default"));
    // An empty variable counts as not given; a flag for the file wins over the variable for it.
    let other =
        ConfigFile::new(r#"{"prefix": "other", "limits": {"drain_over": 2.5, "lease": 9}}"#);
    let environment = [("IMSERVER_PREFIX", ""), ("IMSERVER_CONFIG", file.path())];
    let seen = check(&["--config", other.path()], &environment);
    assert_eq!(seen["prefix"].0, "other");
    assert_eq!(seen["limits.lease"], ("9".into(), other.path().into()));
    assert_eq!(seen["limits.drain_over"].0, "2.5");
    let seen = check(&["--config", other.path(), "--drain", "7"], &[]);
    assert_eq!(seen["limits.drain_over"].0, "7");
    let help = String::from_utf8(run(&["--help"], &[]).stdout).unwrap();
    assert!(help.contains("the first that is given wins"), "{help}");
}

#[test]
fn mistakes_name_setting_value_source_and_an_example() {
    let cases: [(&str, &[&str]); 15] = [
        (r#"{"lisen": "127.0.0.1:1"}"#, &["\"lisen\"", "\"listen\""]),
        (
            r#"{"limits": {"outbox_byte": 1}}"#,
            &["\"limits.outbox_byte\"", "\"limits.outbox_bytes\""],
        ),
        (r#"{"listen": "here"}"#, &["listen in ", "\"here\"", "\"listen\": \"0.0.0.0:6001\""]),
        (r#"{"reactors": 1.5}"#, &["reactors in ", "1.5", "\"reactors\": 4"]),
        (r#"{"reactors": 0}"#, &["reactors: 0", "reactors in "]),
        (r#"{"servers": "a,b"}"#, &["servers in ", "an array of texts", "[\"10.0.0.1:6001\", "]),
        (
            r#"{"servers": ["a", "a"], "server": "a"}"#,
            &["servers: \"a\" is listed twice", "servers in "],
        ),
        (r#"{"path": "ws"}"#, &["path: \"ws\"", "for example /ws", "path in "]),
        (r#"{"log": "loud"}"#, &["log in ", "\"loud\"", "\"log\": \"info\""]),
        (r#"{"redis": "http://secret@x"}"#, &["redis in ", "redis://user:password@host:6379/0"]),
        (r#"{"limits": {"lease": -1}}"#, &["limits.lease in ", "-1", "\"lease\": 7"]),
        (r#"{"limits": {"lease": 0}}"#, &["limits.lease: 0", "is not usable"]),
        (r#"{"drain": 3, "limits": {"drain_over": 3}}"#, &["drain and limits.drain_over"]),
        (r#"{"log": "info", "log": "warn"}"#, &["the key \"log\" is there twice", "line 1"]),
        ("nonsense", &["is not usable", "line 1", "for example"]),
    ];
    for (text, parts) in cases {
        let file = ConfigFile::new(text);
        let message = mistake(&["--config", file.path()], &[]);
        for part in parts.iter().chain([&file.path()]) {
            // What the library finds names the file only where a key is at fault.
            assert!(message.contains(part), "{text}: {part}: {message}");
        }
        assert!(!message.contains("secret"), "{message}");
    }
    let message = mistake(&["--config", "/no/such/file.json"], &[]);
    assert!(message.contains("--config") && message.contains("/no/such/file.json"), "{message}");
    let message = mistake(&[], &[("IMSERVER_PUBLIC_URL", "http://x")]);
    assert!(message.contains("public_url: \"http://x\"") && message.contains("example wss://"));
    assert!(message.contains("(IMSERVER_PUBLIC_URL was given)"), "{message}");
}

#[test]
fn check_binds_nothing_and_shows_no_secret() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let redis = "redis://user:verysecret@127.0.0.1:1/0";
    let args =
        ["--listen", &address, "--redis", redis, "--admin", "127.0.0.1:0", "--admin-token", TOKEN];
    let output = run(&[&args[..], &["--check"]].concat(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text.contains("127.0.0.1:1") && text.contains(&address), "{text}");
    assert!(!text.contains("verysecret") && !text.contains(TOKEN), "{text}");
}

#[test]
fn the_example_file_is_good_and_has_every_key() {
    let path = testkit::root().join("deploy/imserver.example.json");
    let text = fs::read_to_string(&path).unwrap();
    let example: serde_json::Value = serde_json::from_str(&text).unwrap();
    let seen = check(&["--config", path.to_str().unwrap()], &[]);
    let defaults = check(&[], &[]);
    for name in defaults.keys() {
        let (place, key) = match name.strip_prefix("limits.") {
            Some(key) => (&example["limits"], key),
            None => (&example, name.as_str()),
        };
        assert!(place.get(key).is_some(), "{name} is missing");
        assert!(place.get(format!("// {key}")).is_some(), "{name} is not explained");
        // What fits into the descriptors depends on whether there is an API.
        if !["admin", "api", "limits.connections", "limits.handshakes"].contains(&name.as_str()) {
            assert_eq!(seen[name].0, defaults[name].0, "{name} is not the default");
        }
    }
}

#[test]
fn completions_know_the_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["--completions", shell], &[]);
        assert_eq!(output.status.code(), Some(0));
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("admin-token") && script.contains("forwarded-for"), "{script}");
    }
    let script = run(&["--completions", "bash"], &[]).stdout;
    let file = ConfigFile::new(std::str::from_utf8(&script).unwrap());
    assert!(Command::new("bash").args(["-n", file.path()]).status().unwrap().success());
    let version = String::from_utf8(run(&["--version"], &[]).stdout).unwrap();
    assert_eq!(version.trim(), concat!("imserver ", env!("CARGO_PKG_VERSION")));
}

// --- Log and reload ------------------------------------------------------------------------------

/// The messages of a log in which every line is a JSON object.
fn messages(log: &str) -> Vec<String> {
    let line = |line: &str| {
        let entry: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        for key in ["time", "level", "target", "message"] {
            assert!(entry[key].is_string(), "{line}");
        }
        entry["message"].as_str().unwrap().to_owned()
    };
    log.lines().map(line).collect()
}

#[test]
fn json_logs_are_one_object_per_line_to_the_end() {
    let args = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"];
    let mut process = Imserver::start(&[&args[..], &["--server", "a\\\"b"]].concat());
    process.admin();
    process.signal("TERM");
    assert_eq!(process.ends().code(), Some(0));
    eventually("the last line", || {
        process.log().ends_with("\"}\n") && process.log().contains("stopped")
    });
    let messages = messages(&process.log());
    assert!(messages.iter().any(|text| text.starts_with("node a\\\"b listens on 127.0.0.1:")));
    assert!(messages.iter().any(|text| text.contains("2 reactors; up to ")), "{messages:?}");
    // What ends the program is told in the same way.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, log) = outcome(&["--listen", &address, "--log-format", "json"]);
    assert_eq!(code, Some(1));
    assert!(self::messages(&log).last().unwrap().contains(&address), "{log}");
}

#[test]
fn sighup_reloads_what_can_change_and_names_what_cannot() {
    let settings = |token: &str, more: &str| {
        format!(
            r#"{{"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "admin_token": "{token}"{more}}}"#
        )
    };
    let file = ConfigFile::new(&settings(TOKEN, ""));
    let process = Imserver::start(&["--config", file.path()]);
    let admin = process.admin();
    let status =
        |token: &str| ask(admin, "GET /stats", &format!("Authorization: Bearer {token}\r\n")).0;
    assert_eq!(status(TOKEN), 200);
    assert!(!process.log().contains("refused: 401"));

    let next = "another-token-0123456789";
    file.write(&settings(next, r#", "log": "debug", "path": "/other""#));
    process.signal("HUP");
    process.says("these wait for the next start: path");
    assert!(process.log().contains("changed: admin_token, log\n"), "{}", process.log());
    assert_eq!((status(TOKEN), status(next)), (401, 200));
    eventually("ready", || get(admin, "/health/ready").0 == 200);
    assert_eq!(Client::connect(process.address(), "ws://x/ws?token=none").err(), Some(401));
    process.says("refused: 401");

    file.write("{\"log\": 1}");
    process.signal("HUP");
    process.says("the settings stay as they are");
    assert_eq!(status(next), 200);

    file.write(&settings(next, r#", "log_format": "json""#));
    process.signal("HUP");
    process.says("\"message\":\"settings read again; changed: log, log_format\"");
}
