//! `--health`: asks the node that runs with the same settings how it is, for container engines, which know
//! health only as a command in the container.
//!
//! A process of its own that lives for one question; knows the admin listener only as any other client does.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{cli::Cli, load::Settings};

/// Time for all of it: an engine that waits longer says only that its own patience is over.
const TIME: Duration = Duration::from_secs(2);
/// Longest answer that is read.
const ANSWER: usize = 4 << 10;

/// The node's own word if it is well, otherwise why it is not or cannot be asked.
pub(crate) fn ask(cli: &Cli, question: &str) -> Result<String, String> {
    let settings = Settings::load(cli).map_err(|error| error.to_string())?;
    let address = settings.config.admin.map(reachable).ok_or(
        "there is no admin listener to ask; set admin as for the node, for example \
         IMSERVER_ADMIN=127.0.0.1:9001",
    )?;
    let (status, word) = converse(address, question).map_err(|error| {
        format!("no answer from the admin listener at {address}; does the node run? ({error})")
    })?;
    if status == 200 { Ok(word) } else { Err(format!("not {question}: {word}")) }
}

/// Where a listener on every address can be reached from this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Status and body of the answer.
fn converse(address: SocketAddr, question: &str) -> io::Result<(u16, String)> {
    let until = Instant::now() + TIME;
    let mut stream = TcpStream::connect_timeout(&address, TIME)?;
    stream.set_write_timeout(Some(TIME))?;
    let request = format!("GET /health/{question} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() > ANSWER {
            break;
        }
    }
    read_answer(&answer).ok_or_else(|| io::Error::other("the answer is not an admin listener's"))
}

fn read_answer(answer: &[u8]) -> Option<(u16, String)> {
    let (head, body) = std::str::from_utf8(answer).ok()?.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.trim_end().to_owned()))
}
