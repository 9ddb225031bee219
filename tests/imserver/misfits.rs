//! Settings that are each well formed and with which nobody could be served: refused, or said.

use std::{
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use testkit::{Imserver, Redis};

const REDIS: [&str; 2] = ["--redis", "redis://127.0.0.1:1"];

/// Runs to the end, with nothing but this in the environment.
fn run(args: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(testkit::imserver::program())
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What `--check` says of good settings.
fn check(args: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run(&[args, &["--check"]].concat(), environment);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The value that `--check` shows for a setting.
fn value(report: &str, name: &str) -> String {
    let line = report.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

/// Both the check and a start end with code 2 and a sentence with these parts.
fn is_refused(args: &[&str], parts: &[&str]) {
    for more in [&[][..], &["--check"]] {
        let output = run(&[args, more].concat(), &[]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        for part in parts {
            assert!(message.contains(part), "{args:?}: {part}: {message}");
        }
    }
}

#[test]
fn several_nodes_need_a_broker_that_they_share() {
    is_refused(&["--servers", "a,b", "--server", "a"], &["servers: 2 nodes", "--redis redis://"]);
    check(&[&["--servers", "a,b", "--server", "a"][..], &REDIS].concat(), &[]);
    check(&["--servers", "a", "--server", "a"], &[]);
}

#[test]
fn several_redis_share_the_nodes_of_a_list() {
    let two = "redis://127.0.0.1:1,redis://127.0.0.1:2";
    let with = |args: &[&'static str]| [&["--redis", two, "--server", "a"], args].concat();
    let report = check(&with(&["--servers", "a,b"]), &[]);
    assert_eq!(value(&report, "redis"), "redis://127.0.0.1:1/0,redis://127.0.0.1:2/0");
    is_refused(&with(&["--servers", "a,b,c"]), &["--redis", "2 Redis cannot share 3 nodes evenly"]);
    is_refused(
        &with(&["--slots", "64"]),
        &["--redis", "where nodes come and go (slots), one Redis"],
    );
    is_refused(&with(&["--servers", "a,b", "--events", "9"]), &["--redis", "set events to 0"]);
}

#[test]
fn names_of_slots_are_for_net_helpers() {
    let names = ["--slot-names", "im.example.com/s{slot}"];
    let with = |args: &[&'static str]| [&names[..], args].concat();
    let slots = with(&["--slots", "64", "--server", "a", "--redis", REDIS[1]]);
    assert_eq!(value(&check(&slots, &[]), "slot_names"), names[1]);
    is_refused(&with(&["--server", "a", "--redis", REDIS[1]]), &["slot_names: nodes are a fixed"]);
    is_refused(&with(&["--slots", "64"]), &["slot_names: without Redis no .NET helper"]);
    is_refused(&[&slots[..], &["--ids", "text"]].concat(), &["slot_names: ids are texts"]);
    for (pattern, part) in [
        ("s00", "has not one {slot}"),
        ("ws://s{slot}", "is a URL"),
        ("s{slot},b", "holds what no name can"),
    ] {
        let args = ["--slot-names", pattern, "--slots", "64", "--server", "a", "--redis", REDIS[1]];
        is_refused(&args, &["slot", part]);
    }
}

#[test]
fn a_cluster_is_shared_by_the_nodes_of_a_list() {
    let url = "redis+cluster://u:secret@127.0.0.1:1,127.0.0.1:2?shares=2";
    let with = |args: &[&'static str]| [&["--redis", url, "--server", "a"], args].concat();
    let report = check(&with(&["--servers", "a,b"]), &[]);
    assert_eq!(value(&report, "redis"), "redis+cluster://127.0.0.1:1,127.0.0.1:2");
    let uneven = "2 shares of a Redis Cluster cannot share 3 nodes evenly";
    is_refused(&with(&["--servers", "a,b,c"]), &["--redis", uneven]);
    is_refused(&with(&["--slots", "64"]), &["--redis", "Redis Cluster, and several Redis, share"]);
    let other = "redis+cluster://127.0.0.1:1/3";
    is_refused(
        &["--redis", other],
        &["--redis", "names a database, of which a cluster has none but 0"],
    );
}

#[test]
fn names_of_nodes_that_were_meant_otherwise() {
    for (servers, part) in [
        ("im-0;im-1", "separate names with commas"),
        ("im-0, im-1", "\" im-1\" has a blank around it"),
        ("http://a:1,http://b:1", "is a URL"),
        ("im-0,", "is no name"),
        ("", "is no name"),
    ] {
        is_refused(&[&["--servers", servers, "--server", "im-0"][..], &REDIS].concat(), &[part]);
    }
}

#[test]
fn public_urls_with_which_clients_would_not_arrive() {
    let several = [&["--servers", "a,b", "--server", "a"][..], &REDIS].concat();
    for url in [
        "wss://im.example.com/ws",
        "wss://im.example.com/{index}/ws#x",
        "wss://im.example.com/{indx}",
        "wss://",
        "wss:///{index}",
        "wss://im.example .com/{index}",
        "https://im.example.com/{index}",
        "",
    ] {
        is_refused(
            &[&several[..], &["--public-url", url]].concat(),
            &["public_url", "for example wss://im.example.com/{index}{path}", "--public-url"],
        );
    }
    check(&["--public-url", "wss://im.example.com/ws"], &[]);
    let report = check(&["--public-url", "wss://im.example.com/{index}{path}?v=1"], &[]);
    assert_eq!(value(&report, "public_url"), "wss://im.example.com/0/ws?v=1");
    // Where nodes come and go, by what stands for {server} in the addresses of this one.
    let slots = ["--slots", "8", "--server", "im-0:6001", "--public-url", "wss://{server}:8443/ws"];
    let with = |args: &[&'static str]| [&slots[..], &REDIS, args].concat();
    let report = check(&with(&["--address", "im-0.example.com"]), &[]);
    assert_eq!(value(&report, "public_url"), "wss://im-0.example.com:8443/ws");
    is_refused(&with(&[]), &["public_url", "wss://im-0:6001:8443/ws"]);
    is_refused(&with(&["--address", "im-0:1"]), &["public_url", "wss://im-0:1:8443/ws"]);
}

#[test]
fn logs_that_would_keep_nothing_are_refused_by_name() {
    for (flag, value, expected) in [
        ("--message-log-age", "0", "a number of seconds above 0"),
        ("--message-log-age", "x", "a number of seconds above 0"),
        ("--message-log-bytes", "5", "from 1048576 (1 MiB) on"),
        ("--message-log-bytes", "-5", "from 1048576 (1 MiB) on"),
    ] {
        let value = format!("{flag}={value}");
        is_refused(&[&["--message-log", "on", &value][..], &REDIS].concat(), &[flag, expected]);
    }
    let least = ["--message-log", "on", "--message-log-bytes", "1048576"];
    assert_eq!(value(&check(&[&least[..], &REDIS].concat(), &[]), "message_log_bytes"), "1048576");
}

#[test]
fn origins_that_no_browser_sends() {
    for (origins, parts) in [
        ("https://www.example.com/", ["for example https://www.example.com\n", "--origins"]),
        ("www.example.com", ["for example https://www.example.com", "has no scheme"]),
        ("https://www.example.com:443", ["for example https://www.example.com", "default port"]),
        ("https://*.example.com", ["wildcard", "--origins"]),
        ("*", ["leave origins out", "--origins"]),
        ("", ["leave origins out", "--origins"]),
        ("https://a.example, https://b.example", ["blank", "for example https://b.example"]),
        ("https://a.example;https://b.example", ["for example https://a.example", "--origins"]),
    ] {
        // The source stands behind the example.
        let parts = parts.map(|part| part.trim_end_matches('\n'));
        is_refused(&["--origins", origins], &parts);
    }
    check(&["--origins", "https://a.example,http://localhost:3000"], &[]);
}

#[test]
fn one_address_for_two_listeners() {
    let twice = ["--listen", "127.0.0.1:7001", "--admin", "127.0.0.1:7001"];
    is_refused(&twice, &["admin: 127.0.0.1:7001 is taken by listen"]);
    let over = ["--api", "127.0.0.1:7001", "--listen", "0.0.0.0:7001"];
    is_refused(&over, &["api: 127.0.0.1:7001 is taken by listen (0.0.0.0:7001)"]);
}

#[test]
fn addresses_and_urls_in_forms_of_others() {
    is_refused(&["--listen", "localhost:6001"], &["an IP address with a port", "names are not"]);
    is_refused(&["--admin", ":6001"], &["an IP address with a port"]);
    for (url, part) in [
        ("redis://127.0.0.1:6379?password=secret", "the parameter \"password\""),
        ("redis://:sec#ret@127.0.0.1:6379", "%23"),
        ("127.0.0.1:6379,password=secret", ".NET connection string"),
    ] {
        is_refused(&["--redis", url], &["--redis: ", part, "redis://user:password@host:6379/0"]);
    }
    let report = check(&["--redis", "redis://[::1]:6379"], &[]);
    assert_eq!(value(&report, "redis"), "redis://[::1]:6379/0");
}

#[test]
fn the_check_shows_what_settings_come_to() {
    let report = check(&["--listen", "127.0.0.1:7001", "--api", "127.0.0.1:7002"], &[]);
    assert_eq!(value(&report, "server"), "127.0.0.1:7001");
    assert_eq!(value(&report, "servers"), "127.0.0.1:7001");
    assert_eq!(value(&report, "public_url"), "ws://127.0.0.1:7001/ws");
    assert!(report.ends_with("\nvalid\n"), "{report}");
    // It warns as a start does, and says how many connections fit.
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 2000 && exec \"$0\" --check --listen 0.0.0.0:7001"]);
    let output = shell.arg(testkit::imserver::program()).output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    let fits = value(&report, "limits.connections").parse::<u32>().unwrap();
    assert!((1000..2000).contains(&fits), "{report}");
    for part in
        ["nobody will be able to connect", "this node is called 0.0.0.0", "open files is 2000"]
    {
        assert!(report.lines().any(|l| l.starts_with("warning: ") && l.contains(part)), "{report}");
    }
}

#[test]
fn the_check_asks_redis_if_it_is_to() {
    let redis = Redis::start();
    let report = check(&["--redis", &redis.url(), "--dial"], &[]);
    assert!(report.contains("become known by CLIENT TRACKING\nvalid\n"), "{report}");
    let output = run(&[&REDIS[..], &["--check", "--dial"]].concat(), &[]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "it may come later: {message}");
    assert!(message.contains("--redis: Redis at redis://127.0.0.1:1/0"), "{message}");
}

#[test]
fn doubts_about_the_environment_are_said() {
    let environment = [
        ("IMSERVER_LISEN", "x"),
        ("IMSERVER_REDIS_URL", "redis://:hush@r"),
        ("IMSERVER_PORT", "tcp://x:1"),
    ];
    let report = check(&["--api", "127.0.0.1:7002"], &environment);
    assert!(report.contains("warning: the environment variable IMSERVER_LISEN"), "{report}");
    assert!(report.contains("did you mean IMSERVER_REDIS?"), "{report}");
    assert_eq!(
        report.matches("the environment variable").count(),
        2,
        "a service's variable is none: {report}"
    );
    assert!(!report.contains("hush"), "{report}");
}

#[test]
fn a_start_says_the_same_and_its_version() {
    let process = Imserver::start(&["--listen", "127.0.0.1:0"]);
    process.says(concat!("imserver ", env!("CARGO_PKG_VERSION")));
    process.says("nobody will be able to connect");
    assert!(process.log().contains("WARN"));
}

#[test]
fn too_few_descriptors() {
    let mut process = Imserver::start_with_descriptors(256, &["--listen", "127.0.0.1:0"]);
    assert_eq!(process.ends().code(), Some(2));
    process.says("the limit of open files is 256, and a node needs ");
}

#[test]
fn an_error_says_its_kind_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["--listen", &address], &[]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let message = log.lines().last().unwrap();
    assert_eq!(message.matches("I/O error").count(), 1, "{message}");
}

#[test]
fn an_address_of_another_machine() {
    // Reserved for documentation: nobody has it.
    for flag in ["--listen", "--admin"] {
        let args = [flag, "192.0.2.1:7001", "--admin-token", "0123456789abcdef-token"];
        let output = run(&args, &[]);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{log}");
        let message = log.lines().last().unwrap();
        assert!(message.contains("this machine does not have that address"), "{message}");
        assert!(
            message.contains(&format!("{}: cannot", flag.trim_start_matches("--"))),
            "{message}"
        );
    }
}
