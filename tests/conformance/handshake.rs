//! The opening handshake (RFC 6455, section 4.2): what a server must take, and how it refuses the rest.

use crate::node::Node;

/// Id, section, what replaces what in a good request, the status that must come.
type Row = (&'static str, &'static str, &'static str, &'static str, u16);

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("0.1", "4.2.1", "", "", 101),
    // Names and the two words are compared without regard to case, in lists and over several lines.
    ("0.2", "4.2.1", "Upgrade: websocket", "uPGRADE: WebSocket", 101),
    ("0.3", "4.2.1", "Connection: Upgrade", "connection: keep-alive, upgrade", 101),
    ("0.4", "4.2.1", "Connection: Upgrade", "Connection: keep-alive\r\nConnection: UPGRADE", 101),
    ("0.5", "4.2.1", "Upgrade: websocket", "Upgrade: h2c, websocket", 101),
    // Offers that the server does not know are not taken up.
    ("0.6", "9.1", KEY, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-other\r\n", 101),
    ("0.7", "4.2.1", KEY, "Sec-WebSocket-Key:  dGhlIHNhbXBsZSBub25jZQ== \r\nOrigin: null\r\n", 101),
    ("0.8", "4.2.1", "GET ", "POST ", 405),
    ("0.9", "4.2.1", "HTTP/1.1", "HTTP/1.0", 426),
    ("0.10", "4.2.1", "HTTP/1.1", "HTTP/2.0", 400),
    ("0.11", "4.2.1", "Connection: Upgrade\r\n", "", 426),
    ("0.12", "4.2.1", "Connection: Upgrade", "Connection: upgrades", 426),
    ("0.13", "4.2.1", "Upgrade: websocket\r\n", "", 426),
    ("0.14", "4.2.1", "Upgrade: websocket", "Upgrade: web-socket", 426),
    ("0.15", "4.2.2", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 426),
    ("0.16", "4.2.2", "Sec-WebSocket-Version: 13\r\n", "", 426),
    ("0.17", "4.2.1", KEY, "", 400),
    ("0.18", "4.2.1", "dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
    ("0.19", "4.2.1", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", 400),
    ("0.20", "4.2.1", KEY, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400),
    ("0.21", "4.2.2", "GET /ws", "GET /other", 404),
    ("0.22", "4.2.2", "token=", "t=", 401),
    ("0.23", "4.2.2", "token=", "token=x", 401),
    ("0.24", "4.2.1", "Host: localhost", "Host localhost", 400),
    ("0.26", "4.2.1", "Host: localhost\r\n", "", 400),
    ("0.27", "4.2.1", "Host: localhost", "Host: localhost\r\nHost: localhost", 400),
    ("0.28", "4.2.1", "Host: localhost", "Host:", 400),
    ("0.29", "4.2.1", "Host: localhost", "Host: a b", 400),
    ("0.30", "4.2.1", "GET /ws", "GET http://localhost/ws", 101),
    ("0.31", "4.2.1", "GET /ws", "GET /%77s", 101),
    // A body would have to be told from frames.
    ("0.32", "4.1", KEY, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 5\r\n", 400),
    ("0.33", "4.1", KEY, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Transfer-Encoding: chunked\r\n", 400),
    ("0.34", "4.1", "GET ", "\r\nGET ", 101),
    ("0.25", "4.2.1", "GET ", "\u{16}\u{3}\u{1}", 400),
];

/// Runs the table; the number of rows, and what failed.
pub(crate) fn run(node: &Node) -> (usize, Vec<String>) {
    let failed = ROWS.iter().filter_map(|row| judge(node, row).err());
    (ROWS.len(), failed.collect())
}

fn judge(node: &Node, (id, section, from, to, status): &Row) -> Result<(), String> {
    let head = node.head();
    assert!(head.contains(from), "{id} changes nothing");
    let answer = node.ask(&head.replacen(from, to, 1));
    let fail = |what: &str| Err(format!("case {id} (RFC 6455, {section}): {what}: {answer}"));
    let lines: Vec<_> = answer.split("\r\n").collect();
    let has = |line: &str| lines.iter().any(|other| other.eq_ignore_ascii_case(line));
    if !lines[0].starts_with(&format!("HTTP/1.1 {status} ")) {
        return fail("not the status");
    }
    match status {
        101 if !has("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") => fail("the key"),
        101 if !has("Connection: Upgrade") || !has("Upgrade: websocket") => fail("the headers"),
        101 if answer.to_ascii_lowercase().contains("sec-websocket-extensions") => {
            fail("an extension")
        }
        426 if !has("Sec-WebSocket-Version: 13") || !has("Upgrade: websocket") => {
            fail("what would be taken")
        }
        405 if !has("Allow: GET") => fail("what would be allowed"),
        _ => Ok(()),
    }
}
