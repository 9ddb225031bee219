//! A small HTTP client: one connection per request, every wait with a deadline.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;
use testkit::PATIENCE;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The `code` of a problem, which it must be.
    pub fn code(&self) -> String {
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        problem["code"].as_str().unwrap().to_owned()
    }
}

/// Sends a request and reads the head of the answer; the stream goes on with the body.
pub fn begin(
    address: SocketAddr,
    request: &str,
    headers: &str,
    body: Option<&str>,
) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let named = format!("\r\n{headers}").contains("\r\nHost: ");
    let host = if named { "" } else { "Host: localhost\r\n" };
    let content = body.map_or_else(String::new, |body| {
        let content_type = match headers.contains("Content-Type: ") {
            true => "",
            false => "Content-Type: application/json\r\n",
        };
        format!("{content_type}Content-Length: {}\r\n", body.len())
    });
    let body = body.unwrap_or_default();
    let text =
        format!("{request} HTTP/1.1\r\n{host}Connection: close\r\n{headers}{content}\r\n{body}");
    stream.write_all(text.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a whole head");
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

/// Sends a request such as `GET /v1/clients`, with further header lines, and reads the whole answer.
pub fn ask(address: SocketAddr, request: &str, headers: &str, body: Option<&str>) -> Answer {
    let (mut stream, head) = begin(address, request, headers, body);
    let mut body = String::new();
    stream.read_to_string(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body }
}
