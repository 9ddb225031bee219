//! `--health`: what a container engine is told about a node.

use std::{
    io::Write,
    net::TcpListener,
    process::{Command, Output, Stdio},
    thread,
};

use testkit::{Imserver, Redis, eventually};

const TOKEN: &str = "0123456789abcdef-token";

/// Runs `imserver` for one question, with settings from the environment as in a container.
fn health(environment: &[(&str, &str)], flags: &[&str]) -> Output {
    let mut command = Command::new(testkit::imserver::program());
    command.args(flags).env_clear().envs(environment.iter().copied());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("an answer", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap()
}

/// Exit code, and what was said on standard output and error.
fn answer(admin: &str, flags: &[&str]) -> (Option<i32>, String) {
    let token = ("IMSERVER_ADMIN_TOKEN", TOKEN);
    let output = health(&[("IMSERVER_ADMIN", admin), token], flags);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn it_follows_the_node() {
    let mut redis = Redis::start();
    let url = redis.url();
    let place = ["--listen", "127.0.0.1:0", "--server", "n", "--redis", &url];
    // On every address, as in a container whose metrics are asked for from outside.
    let admin = ["--admin", "0.0.0.0:0", "--admin-token", TOKEN];
    let mut node = Imserver::start(&[&place[..], &admin].concat());
    let admin = format!("0.0.0.0:{}", node.admin().port());
    eventually("healthy", || answer(&admin, &["--health"]) == (Some(0), "ready\n".into()));
    assert_eq!(answer(&admin, &["--health", "live"]), (Some(0), "live\n".into()));
    redis.stop();
    eventually("unhealthy", || answer(&admin, &["--health"]).0 == Some(1));
    let (_, why) = answer(&admin, &["--health", "ready"]);
    assert!(why.starts_with("imserver: not ready: "), "{why}");
    assert_eq!(why.lines().count(), 1, "{why}");
    assert_eq!(answer(&admin, &["--health", "live"]).0, Some(0), "a restart would not help");
    node.signal("KILL");
    node.ends();
    let (code, why) = answer(&admin, &["--health"]);
    assert_eq!(code, Some(1));
    assert!(why.contains("does the node run?") && why.contains("127.0.0.1:"), "{why}");
}

#[test]
fn what_cannot_be_asked_is_unhealthy_and_says_why() {
    let (code, why) = answer("", &["--health"]);
    assert_eq!(code, Some(1));
    assert!(why.contains("IMSERVER_ADMIN=127.0.0.1:9001"), "{why}");
    let (code, why) = answer("nonsense", &["--health"]);
    assert_eq!(code, Some(1));
    assert!(why.contains("IMSERVER_ADMIN: \"nonsense\""), "{why}");
    assert_eq!(
        answer("127.0.0.1:1", &["--health", "well"]).0,
        Some(2),
        "there is no such question"
    );
}

#[test]
fn it_does_not_wait_for_ever() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = silent.local_addr().unwrap().to_string();
    let (code, why) = answer(&admin, &["--health"]);
    assert_eq!(code, Some(1), "{why}");
    // Nor for something that talks without an end.
    thread::scope(|scope| {
        scope.spawn(|| {
            let _abandoned = silent.accept().unwrap();
            let (mut stream, _) = silent.accept().unwrap();
            while stream.write_all(&[b'x'; 64]).is_ok() {}
        });
        let (code, why) = answer(&admin, &["--health"]);
        assert_eq!(code, Some(1), "{why}");
        assert!(why.contains("not an admin listener's"), "{why}");
    });
}
