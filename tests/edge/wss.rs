//! A client that trusts one certificate and says where it comes from.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use socket2::{Domain, Socket, Type};
use testkit::PATIENCE;
use tungstenite::{Error, HandshakeError, Message, WebSocket, client::IntoClientRequest};

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Makes a certificate for the names of the configurations: `fullchain.pem`, `key.pem`, `haproxy.pem`.
pub fn make_certificate(folder: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=im.example.com"])
        .args(["-keyout", "key.pem", "-out", "fullchain.pem"])
        .args(["-addext", "subjectAltName=DNS:im.example.com,DNS:*.im.example.com"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status()
        .expect("openssl is needed to make a certificate");
    assert!(made.success());
    let both = ["fullchain.pem", "key.pem"].map(|file| std::fs::read(folder.join(file)).unwrap());
    std::fs::write(folder.join("haproxy.pem"), both.concat()).unwrap();
}

/// What trusts the certificate in `folder` and no other.
pub fn trust(folder: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("fullchain.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// A TLS connection from `source`, an address of the loopback network, to `proxy` under the name `host`.
pub fn dial(trust: &Arc<ClientConfig>, source: Ipv4Addr, proxy: SocketAddr, host: &str) -> Tls {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&proxy.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(trust), name).unwrap(), stream)
}

/// The host of a `wss://` address.
pub fn host_of(url: &str) -> &str {
    url.strip_prefix("wss://").expect("a wss address").split('/').next().unwrap()
}

/// The upgrade request for `url`, with a forged address of the client.
pub fn head(url: &str) -> String {
    let host = host_of(url);
    let target = &url[url.find(host).unwrap() + host.len()..];
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         X-Forwarded-For: 6.6.6.6\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// The status of the response to a request that was sent.
pub fn status(stream: &mut Tls) -> u16 {
    let mut line = [0; 12];
    stream.read_exact(&mut line).expect("a response");
    std::str::from_utf8(&line[9..]).unwrap().parse().unwrap()
}

/// One open connection.
pub struct Client(WebSocket<Tls>);

impl Client {
    /// Opens a WebSocket over `stream`; the status if it is refused, 0 if nobody answers.
    pub fn open(stream: Tls, url: &str) -> Result<Client, u16> {
        match tungstenite::client(url.into_client_request().unwrap(), stream) {
            Ok((socket, _)) => Ok(Client(socket)),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            // A proxy that is not ready yet may end the connection without an answer.
            Err(HandshakeError::Failure(Error::Io(_))) => Err(0),
            Err(error) => panic!("{error}"),
        }
    }

    /// The next text message; pings are answered meanwhile.
    pub fn text(&mut self) -> String {
        loop {
            match self.0.read().expect("a message") {
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) => {}
                other => panic!("expected a text message, got {other:?}"),
            }
        }
    }

    /// Reads until the server closes: its close code.
    pub fn closed(&mut self) -> u16 {
        loop {
            match self.0.read().expect("a close frame") {
                Message::Close(frame) => return frame.expect("a close code").code.into(),
                Message::Ping(_) => {}
                other => panic!("expected the end, got {other:?}"),
            }
        }
    }

    /// Waits for a message as long as it takes.
    pub fn be_patient(&mut self, patience: Duration) {
        self.0.get_ref().sock.set_read_timeout(Some(patience)).unwrap();
    }
}

/// Sends `bytes` and leaves the answer for later.
pub fn send(stream: &mut Tls, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    stream.flush().unwrap();
}
