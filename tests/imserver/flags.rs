//! Mistakes in flags end the program with code 2 and a message that names the setting.

use std::net::TcpListener;

use crate::process::{Process, outcome};

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
    let process = Process::start(&[&args[..], &["--redis", redis]].concat());
    process.says("node im-7 listens on 127.0.0.1:");
    process.says("127.0.0.1:1");
    process.says("until the broker is back");
    assert!(!process.log().contains("secret"), "{}", process.log());
}
