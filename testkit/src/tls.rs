//! A certificate made for the tests, and clients that trust it.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// A certificate for this machine with its key, as PEM.
pub struct Identity {
    pub cert: String,
    pub key: String,
}

impl Identity {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Identity {
        Identity::of(&["localhost", "127.0.0.1"])
    }

    /// A certificate for another machine.
    pub fn named(name: &str) -> Identity {
        Identity::of(&[name])
    }

    fn of(names: &[&str]) -> Identity {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Identity { cert: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    /// A client that trusts this certificate and no other.
    pub fn trust(&self) -> ClientConfig {
        self.trust_with(rustls::ALL_VERSIONS)
    }

    /// A client that trusts this certificate and no other, and speaks only some versions of TLS.
    pub fn trust_with(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

/// Addresses that speak TLS, and how their clients do.
static SECURE: Mutex<Vec<(SocketAddr, Arc<ClientConfig>)>> = Mutex::new(Vec::new());

/// From here on [`Stream::connect`] speaks TLS with `address`.
pub fn secure(address: SocketAddr, config: &Arc<ClientConfig>) {
    SECURE.lock().unwrap().push((address, Arc::clone(config)));
}

/// The address may be given to another server.
pub fn forget(address: SocketAddr) {
    SECURE.lock().unwrap().retain(|(other, _)| *other != address);
}

/// A client's socket, under TLS if its server is.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    pub fn connect(address: SocketAddr) -> io::Result<Stream> {
        let config = SECURE.lock().unwrap().iter().find(|(other, _)| *other == address).cloned();
        let socket = TcpStream::connect(address)?;
        Ok(match config {
            None => Stream::Plain(socket),
            Some((_, config)) => Stream::over(socket, config),
        })
    }

    /// TLS over a connected socket.
    pub fn over(socket: TcpStream, config: Arc<ClientConfig>) -> Stream {
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(config, name).unwrap();
        Stream::Tls(Box::new(StreamOwned::new(client, socket)))
    }

    pub fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    /// The client's side of TLS.
    pub fn session(&mut self) -> &mut ClientConnection {
        match self {
            Stream::Plain(_) => panic!("not under TLS"),
            Stream::Tls(stream) => &mut stream.conn,
        }
    }

    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket().set_read_timeout(timeout)
    }

    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket().set_nonblocking(nonblocking)
    }

    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket().set_nodelay(nodelay)
    }

    pub fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        if let Stream::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.socket().shutdown(how)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(stream) => {
                // A record of its own on the wire, as a bare write is a packet.
                let count = stream.write(bytes)?;
                stream.flush()?;
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
