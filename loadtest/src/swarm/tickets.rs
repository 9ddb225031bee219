//! Asks the helper for connect addresses and joins channels, on a thread of its own because the helper blocks.

use std::{
    collections::HashMap,
    net::{SocketAddr, ToSocketAddrs},
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use imcore::ImClient;
use mio::Waker;
use rustls::{ClientConfig, pki_types::ServerName};

use super::stream::trust;
use crate::orders::Deployment;

/// What the loop wants of the helper; `key` is the client's place in the loop.
#[derive(Debug)]
pub enum Want {
    /// Addresses of clients that come for the first time, in their order.
    First(Range<i64>),
    /// An address for one that comes back.
    Again { key: usize, client: i64 },
    /// It is to be in these channels again.
    Join { key: usize, client: i64, channels: Vec<String> },
}

/// What came of it.
#[derive(Debug)]
pub enum Given {
    First(Invitation),
    Again {
        key: usize,
        way: Result<Way, String>,
    },
    Joined {
        key: usize,
        is_done: bool,
    },
    /// There is no helper.
    Failed(String),
}

/// A client's way in, or why there is none.
#[derive(Debug)]
pub struct Invitation {
    pub client: i64,
    pub way: Result<Way, String>,
}

/// Where a connection goes and what it says first.
#[derive(Debug)]
pub struct Way {
    pub address: SocketAddr,
    pub request: Vec<u8>,
    /// Whom to trust, and the name that the certificate must have, under TLS.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// The thread, seen from the loop.
pub struct Tickets {
    wanted: std::sync::mpsc::Sender<Want>,
    pub given: Receiver<Given>,
}

/// Builds the helper that `deployment` describes.
pub fn helper(deployment: &Deployment) -> Result<ImClient, String> {
    ImClient::builder()
        .servers(deployment.servers.iter())
        .redis(&deployment.redis)
        .prefix(&deployment.prefix)
        .path(&deployment.path)
        .public_url(&deployment.public_url)
        .log(deployment.log)
        .build()
        .map_err(|error| error.to_string())
}

impl Tickets {
    /// Starts the thread. At most `ahead` tickets wait: each lives for ten seconds only.
    pub fn start(deployment: Deployment, ahead: usize, waker: Arc<Waker>) -> Self {
        let (wanted, queue) = std::sync::mpsc::channel();
        let (sender, given) = sync_channel(ahead);
        thread::spawn(move || {
            let giver = Giver { sender, waker };
            match helper(&deployment) {
                Ok(im) => giver.work(&im, deployment.ca.as_deref(), &queue),
                Err(error) => drop(giver.give(Given::Failed(error))),
            }
        });
        Tickets { wanted, given }
    }

    pub fn want(&self, want: Want) {
        // Fails only when the thread has failed, which it has said.
        let _ = self.wanted.send(want);
    }
}

/// The thread's end.
struct Giver {
    sender: SyncSender<Given>,
    waker: Arc<Waker>,
}

/// The loop is gone.
struct Gone;

impl Giver {
    fn work(&self, im: &ImClient, ca: Option<&str>, queue: &Receiver<Want>) {
        let way = |client: i64| {
            let url = im.connect_url(client, None).map_err(|error| error.to_string())?;
            parse(&url, ca)
        };
        for want in queue {
            let given = match want {
                Want::First(clients) => clients.into_iter().try_for_each(|client| {
                    self.give(Given::First(Invitation { client, way: way(client) }))
                }),
                Want::Again { key, client } => self.give(Given::Again { key, way: way(client) }),
                Want::Join { key, client, channels } => {
                    let is_done = im.join([client], channels).is_ok();
                    self.give(Given::Joined { key, is_done })
                }
            };
            if given.is_err() {
                return;
            }
        }
    }

    fn give(&self, given: Given) -> Result<(), Gone> {
        self.sender.send(given).map_err(|_| Gone)?;
        self.waker.wake().map_err(|_| Gone)
    }
}

/// The way to a `ws://` or `wss://host:port/path?token=...` URL; `ca` is a PEM file with whom to trust.
pub fn parse(url: &str, ca: Option<&str>) -> Result<Way, String> {
    // The token stays out of messages: it is a secret while it lives.
    let shown = url.split('?').next().unwrap_or_default();
    let bad = || format!("{shown:?}: expected ws://host:port/path or wss://host:port/path");
    let (secure, rest) = match url.strip_prefix("ws://") {
        Some(rest) => (false, rest),
        None => (true, url.strip_prefix("wss://").ok_or_else(bad)?),
    };
    let (host, path) = rest.split_at(rest.find('/').ok_or_else(bad)?);
    let port = if secure { 443 } else { 80 };
    let with_port = if has_port(host) { host.to_owned() } else { format!("{host}:{port}") };
    let mut addresses = with_port.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    let address = addresses.next().ok_or_else(bad)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    let tls = if secure { Some(verified(&with_port, ca)?) } else { None };
    Ok(Way { address, request: request.into_bytes(), tls })
}

fn has_port(host: &str) -> bool {
    host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) && !host.ends_with(']')
}

fn verified(
    host: &str,
    ca: Option<&str>,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
    let ca = ca.ok_or("wss:// needs --ca FILE with the certificate of who signed the nodes'")?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let name = ServerName::try_from(name.to_owned()).map_err(|error| format!("{host}: {error}"))?;
    // Read once per process, not once per connection.
    static TRUSTED: Mutex<Option<HashMap<String, Arc<ClientConfig>>>> = Mutex::new(None);
    let mut trusted = TRUSTED.lock().unwrap_or_else(PoisonError::into_inner);
    let trusted = trusted.get_or_insert_default();
    if !trusted.contains_key(ca) {
        trusted.insert(ca.to_owned(), trust(ca)?);
    }
    Ok((Arc::clone(&trusted[ca]), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_url_becomes_a_request() {
        let way = parse("ws://127.0.0.1:6001/ws?token=abc", None).unwrap();
        assert_eq!(way.address, ([127, 0, 0, 1], 6001).into());
        assert!(way.request.starts_with(b"GET /ws?token=abc HTTP/1.1\r\nHost: 127.0.0.1:6001\r\n"));
        assert!(way.request.ends_with(b"\r\n\r\n") && way.tls.is_none());
        let error = parse("wss://127.0.0.1:6001/ws?token=abc", None).unwrap_err();
        assert!(error.contains("--ca") && !error.contains("abc"), "{error}");
        let error = parse("http://127.0.0.1/ws?token=abc", None).unwrap_err();
        assert!(error.contains("wss://") && !error.contains("abc"), "{error}");
    }
}
