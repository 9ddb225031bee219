//! HTTP itself, as strange peers speak it; `foreign` has the real ones.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use testkit::{Imserver, PATIENCE};

const NODE: [&str; 6] = ["--listen", "127.0.0.1:0", "--server", "n", "--api", "127.0.0.1:0"];

/// All that comes back for these bytes, to the end of the connection.
fn raw(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[test]
fn request_targets_come_as_paths_or_whole_addresses() {
    let process = Imserver::start(&[&NODE[..], &["--admin", "127.0.0.1:0"]].concat());
    let api = process.api();
    let log = process.log();
    let admin = log.split("admin at http://").nth(1).unwrap().split('/').next().unwrap();
    let admin: SocketAddr = admin.parse().unwrap();
    for (address, path) in [(api, "/v1/clients?limit=1"), (admin, "/stats")] {
        for (target, host, expected) in [
            (format!("http://{address}{path}"), "localhost", "200"),
            (format!("HTTP://localhost{path}"), "localhost", "200"),
            // The target says who is asked, whatever the header says.
            (format!("http://{address}{path}"), "evil.example", "200"),
            (format!("http://evil.example{path}"), "localhost", "403"),
            (format!("ftp://localhost{path}"), "localhost", "400"),
            (path.to_owned(), "a b", "400"),
            (path.to_owned(), "localhost/x", "400"),
            (path.to_owned(), "a@localhost", "400"),
            (path.to_owned(), "localhost, evil", "400"),
            (path.to_owned(), "", "400"),
        ] {
            let text =
                format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            assert_eq!(status(&raw(address, &text)), expected, "{text}");
        }
        let none = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&raw(address, &none)), "400");
    }
    // HEAD is GET without the content, also where there is a mistake.
    for (target, expected) in [("/openapi.json", "200"), ("/nowhere", "404")] {
        let text =
            format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = raw(api, &text);
        assert_eq!(status(&answer), expected);
        assert!(answer.ends_with("\r\n\r\n") && answer.contains("Content-Length: "), "{answer}");
    }
}

#[test]
fn what_is_too_large_is_told_to_those_who_send_all_of_it_first() {
    let process = Imserver::start(&NODE);
    let api = process.api();
    let large = "x".repeat(8 << 20);
    let head = "Host: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    for (path, expected) in [("/v1/messages", "413"), ("/nowhere", "404"), ("/v1/clients", "405")] {
        let length = large.len();
        let text = format!("POST {path} HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n{large}");
        assert_eq!(status(&raw(api, &text)), expected, "{path}");
    }
}
