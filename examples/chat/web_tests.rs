//! The web server over real sockets.

use std::{
    io::{BufRead, BufReader, Read, Write},
    sync::Arc,
};

use imcore::{ImClient, broker::MemoryBroker};

use super::*;
use crate::{http::MAX_BODY, people::People, session::Sessions};

/// A server at work.
struct World {
    site: Site,
    people: People,
}

impl World {
    fn start() -> Self {
        let broker = Arc::new(MemoryBroker::new());
        let im = ImClient::builder().servers(["n:1"]).broker(broker).build().unwrap();
        let people = People::watch(&im).unwrap();
        let api = Api::new(im, people.roll(), Sessions::new(b"the secret of the tests"));
        let names = vec!["chat.example".to_owned()];
        let site = Site::start("127.0.0.1:0".parse().unwrap(), names, api).unwrap();
        World { site, people }
    }

    fn connect(&self) -> Peer {
        Peer(BufReader::new(TcpStream::connect(self.site.address()).unwrap()))
    }

    /// The status of the answer to one request with these lines in its head, on a connection of its own.
    fn status(&self, request: &str, lines: &str, body: &str) -> u16 {
        self.connect().ask(request, lines, body).0
    }

    fn stop(self) {
        self.site.stop();
        self.people.stop();
    }
}

/// One connection to it.
struct Peer(BufReader<TcpStream>);

impl Peer {
    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Status, head and body of the next answer.
    fn hear(&mut self) -> (u16, String, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0, "the connection ended: {head}");
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (head[9..12].parse().unwrap(), head, String::from_utf8(body).unwrap())
    }

    fn ask(&mut self, request: &str, lines: &str, body: &str) -> (u16, String, String) {
        let host = if lines.contains("Host:") { "" } else { "Host: 127.0.0.1\r\n" };
        let length = body.len();
        self.send(&format!(
            "{request} HTTP/1.1\r\n{host}{lines}Content-Length: {length}\r\n\r\n{body}"
        ));
        self.hear()
    }
}

#[test]
fn pages_answers_and_refusals() {
    let world = World::start();
    let (status, head, body) = world.connect().ask("GET /", "", "");
    assert!(status == 200 && head.contains("default-src 'none'") && body.contains("</html>"));
    let (status, head, _) = world.connect().ask("POST /", "", "");
    assert!(status == 405 && head.contains("Allow: GET, HEAD\r\n"), "{head}");
    assert_eq!(world.status("POST /../Cargo.toml", "", ""), 404);
    let (status, head, _) = world.connect().ask("GET /ws/offline?websocketId=5", "", "");
    assert!(status == 405 && head.contains("Allow: POST\r\n"), "{head}");

    let (status, _, body) = world.connect().ask("POST /ws/pre-connect", "", "nick=fox");
    assert!(status == 200 && body.contains(r#""session":"#), "{body}");
    let (status, _, body) = world.connect().ask("POST /ws/pre-connect", "", "websocketId=x");
    assert!(status == 400 && body.contains(r#""code":400"#), "{body}");
    world.stop();
}

#[test]
fn one_connection_serves_many_requests() {
    let world = World::start();
    let mut peer = world.connect();
    for _ in 0..3 {
        assert_eq!(peer.ask("GET /app.js", "", "").0, 200);
        assert_eq!(peer.ask("POST /ws/get-people", "", "").0, 200);
    }
    // Also if they come at once.
    peer.send(&"GET /api.js HTTP/1.1\r\nHost: localhost:1\r\n\r\n".repeat(2));
    assert_eq!((peer.hear().0, peer.hear().0), (200, 200));
    peer.send("HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut rest = String::new();
    peer.0.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200") && rest.ends_with("\r\n\r\n"), "{rest}");
    world.stop();
}

#[test]
fn nobody_waits_for_those_who_say_nothing() {
    let world = World::start();
    let mut silent: Vec<_> = (0..50).map(|_| world.connect()).collect();
    for peer in &mut silent[..25] {
        peer.send(
            "POST /ws/pre-connect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf",
        );
    }
    let mut six: Vec<_> = (0..6).map(|_| world.connect()).collect();
    for peer in &mut six {
        peer.send("GET /view.js HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    for peer in &mut six {
        assert_eq!(peer.hear().0, 200);
    }
    assert_eq!(world.status("POST /ws/pre-connect", "", ""), 200);
    // A half request ends nothing either.
    silent[0].send("+rest");
    assert_eq!(silent[0].hear().0, 200);
    world.stop();
}

#[test]
fn large_and_unclear_bodies_are_refused_so_that_the_peer_sees_it() {
    let world = World::start();
    let largest = "x".repeat(MAX_BODY);
    assert_ne!(world.status("POST /ws/pre-connect", "", &largest), 413);
    let (status, head, _) = world.connect().ask("POST /ws/pre-connect", "", &format!("{largest}x"));
    assert!(status == 413 && head.contains("Connection: close"), "{head}");
    let mut peer = world.connect();
    peer.send("POST /ws/pre-connect HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n");
    assert_eq!(peer.hear().0, 400);
    let mut peer = world.connect();
    peer.send(
        "POST /ws/pre-connect HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    assert_eq!(peer.hear().0, 411);
    world.stop();
}

#[test]
fn no_other_site_has_a_browser_act_here() {
    let world = World::start();
    let status = |lines: &str| world.status("POST /ws/pre-connect", lines, "");
    for lines in [
        "",
        "Sec-Fetch-Site: same-origin\r\n",
        "Host: localhost:8080\r\nOrigin: http://localhost:8080\r\n",
        "Host: [::1]:8080\r\nOrigin: http://[::1]:8080\r\n",
        "Host: Chat.Example\r\nOrigin: https://chat.example\r\n",
    ] {
        assert_eq!(status(lines), 200, "{lines}");
    }
    for lines in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: null\r\n",
        "Origin: http://evil.example\r\n",
        // Another port of this machine is another site.
        "Host: localhost:8080\r\nOrigin: http://localhost:9\r\n",
        "Host: localhost:8080\r\nOrigin: http://localhost:80801\r\n",
    ] {
        assert_eq!(status(lines), 403, "{lines}");
    }
    // A name that leads here because a foreign page has it lead here.
    for lines in ["Host: evil.example\r\n", "Host: 127.0.0.1.evil.example:80\r\n", "Host:\r\n"] {
        assert_eq!(status(lines), 421, "{lines}");
        assert_eq!(world.status("GET /", lines, ""), 421, "{lines}");
    }
    world.stop();
}
