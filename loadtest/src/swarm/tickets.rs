//! Issues connect tickets through the helper, on a thread of its own because the helper blocks.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use imcore::ImClient;
use mio::Waker;

use crate::orders::Deployment;

/// A client's way in: the node to connect to and the request that it sends there.
#[derive(Debug)]
pub struct Invitation {
    pub client: i64,
    pub address: SocketAddr,
    pub request: Vec<u8>,
}

/// The issuing thread, seen from the loop.
pub struct Tickets {
    wanted: std::sync::mpsc::Sender<std::ops::Range<i64>>,
    pub issued: Receiver<Result<Invitation, String>>,
}

/// Builds the helper that `deployment` describes.
pub fn helper(deployment: &Deployment) -> Result<ImClient, String> {
    ImClient::builder()
        .servers(deployment.servers.iter())
        .redis(&deployment.redis)
        .prefix(&deployment.prefix)
        .path(&deployment.path)
        .public_url(&deployment.public_url)
        .build()
        .map_err(|error| error.to_string())
}

impl Tickets {
    /// Starts the thread. At most `ahead` tickets wait: each lives for ten seconds only.
    pub fn start(deployment: Deployment, ahead: usize, waker: Arc<Waker>) -> Self {
        let (wanted, queue) = std::sync::mpsc::channel::<std::ops::Range<i64>>();
        let (sender, issued) = sync_channel(ahead);
        thread::spawn(move || {
            let failed = match helper(&deployment) {
                Ok(im) => issue(&im, &queue, &sender, &waker).err(),
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                let _ = sender.send(Err(error));
                let _ = waker.wake();
            }
        });
        Tickets { wanted, issued }
    }

    pub fn want(&self, clients: std::ops::Range<i64>) {
        // Fails only when the thread has failed, which it has said.
        let _ = self.wanted.send(clients);
    }
}

fn issue(
    im: &ImClient,
    queue: &Receiver<std::ops::Range<i64>>,
    sender: &SyncSender<Result<Invitation, String>>,
    waker: &Waker,
) -> Result<(), String> {
    for client in queue.iter().flatten() {
        let url = im.prev_connect_server(client, None).map_err(|error| error.to_string())?;
        let (address, request) = parse(&url)?;
        if sender.send(Ok(Invitation { client, address, request })).is_err() {
            break;
        }
        waker.wake().map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Address and upgrade request of a `ws://host:port/path?token=...` URL.
pub fn parse(url: &str) -> Result<(SocketAddr, Vec<u8>), String> {
    let bad = || format!("{url:?}: expected ws://host:port/path; wss:// needs a proxy in front");
    let rest = url.strip_prefix("ws://").ok_or_else(bad)?;
    let (host, path) = rest.split_at(rest.find('/').ok_or_else(bad)?);
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut addresses = with_port.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    let address = addresses.next().ok_or_else(bad)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    Ok((address, request.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_url_becomes_a_request() {
        let (address, request) = parse("ws://127.0.0.1:6001/ws?token=abc").unwrap();
        assert_eq!(address, ([127, 0, 0, 1], 6001).into());
        assert!(request.starts_with(b"GET /ws?token=abc HTTP/1.1\r\nHost: 127.0.0.1:6001\r\n"));
        assert!(request.ends_with(b"\r\n\r\n"));
        assert!(parse("wss://example.com/ws").unwrap_err().contains("wss"));
    }
}
