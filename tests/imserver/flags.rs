//! Mistakes in flags end the program with code 2 and a message that names the setting.

use std::net::TcpListener;

use testkit::{Imserver, outcome};

#[test]
fn mistakes_are_named_and_end_with_code_2() {
    let cases: [(&[&str], &str); 12] = [
        (&["--servers", ","], "servers"),
        (&["--servers", "a,a", "--server", "a"], "servers"),
        (&["--servers", "a,", "--server", "a"], "servers"),
        (&["--servers", "a,b"], "server: \"127.0.0.1:0\" is not in servers"),
        (&["--servers", "a,b", "--server", "c"], "server: \"c\" is not in servers"),
        (&["--listen", "nonsense"], "--listen"),
        (&["--listen", "127.0.0.1:70000"], "--listen"),
        (&["--path", "ws"], "path"),
        (&["--redis", "http://127.0.0.1"], "redis"),
        (&["--log", "loud"], "--log"),
        (&["--drain", "soon"], "--drain"),
        (&["--no-such-flag"], "--no-such-flag"),
    ];
    for (args, named) in cases {
        let listens = args.contains(&"--listen");
        let mut all = if listens { vec![] } else { vec!["--listen", "127.0.0.1:0"] };
        all.extend(args);
        let (code, message) = outcome(&all);
        assert_eq!(code, Some(2), "{args:?}: {message}");
        assert!(message.contains(named), "{args:?}: {message}");
        assert!(!message.contains("panicked"), "{args:?}: {message}");
    }
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, message) = outcome(&["--listen", &address]);
    assert_eq!(code, Some(1), "another start may succeed: {message}");
    assert!(message.contains(&address) && message.contains("listen"), "{message}");
}

#[test]
fn the_log_names_node_and_address_but_no_password() {
    let redis = "redis://user:secret@127.0.0.1:1/0";
    let args = ["--listen", "127.0.0.1:0", "--server", "im-7", "--servers", "im-6,im-7"];
    let process = Imserver::start(&[&args[..], &["--redis", redis]].concat());
    process.says("node im-7 listens on 127.0.0.1:");
    process.says("127.0.0.1:1");
    process.says("until the broker is back");
    assert!(!process.log().contains("secret"), "{}", process.log());
}

#[test]
fn a_name_that_nobody_can_use_is_doubted() {
    let doubt = |args: &[&str]| {
        let process = Imserver::start(args);
        process.says(" reactors; up to ");
        // Said after that line and before this one.
        process.signal("TERM");
        process.says("stopping");
        let log = process.log();
        log.lines().find(|line| line.contains("is called")).map(str::to_owned)
    };
    let text = doubt(&["--listen", "0.0.0.0:0"]).expect("nobody can connect to 0.0.0.0");
    assert!(text.contains("WARN") && text.contains("--server 10.0.0.1:"), "{text}");
    let local = format!("127.0.0.1:{}", testkit::port());
    let redis = ["--redis", "redis://127.0.0.1:1"];
    let names = format!("{local},10.0.0.2:6001");
    let text = doubt(&[&["--listen", &local, "--servers", &names][..], &redis].concat());
    let text = text.expect("the other one is elsewhere");
    assert!(text.contains(&local) && text.contains("while 10.0.0.2:6001 seems"), "{text}");
    // All on this machine, named, or under an address that does not hold the name.
    let local = format!("127.0.0.1:{}", testkit::port());
    let names = format!("{local},127.0.0.1:1");
    let args = [&["--listen", &local, "--servers", &names][..], &redis].concat();
    assert_eq!(doubt(&args), None);
    assert_eq!(doubt(&["--listen", "0.0.0.0:0", "--server", "im-0"]), None);
    assert_eq!(doubt(&["--listen", "0.0.0.0:0", "--public-url", "wss://x.example/ws"]), None);
    let args = ["--listen", "127.0.0.1:0", "--servers", "im-0,im-1"];
    let (code, message) = outcome(&args);
    assert_eq!(code, Some(2));
    assert!(message.contains("Set server to this node's entry, for example \"im-0\""), "{message}");
    assert!(message.contains("not given, so the listen address was taken"), "{message}");
}
