//! A target of webhooks: takes what is posted, and passes it on. Used by `events` and the row `webhook`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

/// A secret for webhooks of this tool's own nodes.
const SECRET: &str = "whsec_bG9hZHRlc3QgYWdhaW5zdCBpdHMgb3duIG5vZGVzLiE=";
const TAKEN: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// More is no message of ours.
const LONGEST: usize = 16 << 20;

pub struct Target {
    pub port: u16,
    /// The bodies of all messages.
    pub bodies: Receiver<Vec<u8>>,
}

impl Target {
    pub fn start() -> Result<Target, String> {
        Target::start_at(testkit::port())
    }

    /// On this port, where nobody was yet.
    pub fn start_at(port: u16) -> Result<Target, String> {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .map_err(|error| format!("a target for webhooks: {error}"))?;
        let (took, bodies) = channel();
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let took = took.clone();
                thread::spawn(move || serve(socket, &took));
            }
        });
        Ok(Target { port, bodies })
    }
}

/// How a node is told to post to this port.
pub fn arguments(port: u16) -> Vec<String> {
    vec![
        format!("--webhook-url=http://127.0.0.1:{port}/hook"),
        "--webhook-allow=http,127.0.0.1".to_owned(),
        format!("--webhook-secret={SECRET}"),
    ]
}

/// One connection, until it ends or says what is no message. A message is passed on before it is taken.
fn serve(socket: TcpStream, took: &Sender<Vec<u8>>) -> Option<()> {
    let _ = socket.set_nodelay(true);
    let mut writer = socket.try_clone().ok()?;
    let mut reader = BufReader::with_capacity(64 << 10, socket);
    loop {
        let (mut length, mut line) = (None, String::new());
        while reader.read_line(&mut line).ok()? > 2 {
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            }
            line.clear();
        }
        let mut body = vec![0; length.filter(|length| *length < LONGEST)?];
        reader.read_exact(&mut body).ok()?;
        took.send(body).ok()?;
        writer.write_all(TAKEN).ok()?;
    }
}
