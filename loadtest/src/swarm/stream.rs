//! A client's socket, in the clear or under TLS: non-blocking reads and writes of what the client means.
//!
//! Knows nothing of WebSockets. Under TLS everything that the connection wants to say goes out with the next call.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use mio::net::TcpStream;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

pub struct Stream {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

/// Trusts the certificates of a PEM file, and nobody else.
pub fn trust(file: &str) -> Result<Arc<ClientConfig>, String> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("--ca {file}: {error}"))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(format!("--ca {file}: no certificate in it"));
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    Ok(Arc::new(builder.with_no_client_auth()))
}

impl Stream {
    /// Over `tcp`, under TLS if a name to verify is given.
    pub fn new(
        tcp: TcpStream,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    ) -> Result<Self, rustls::Error> {
        let tls = tls.map(|(config, name)| ClientConnection::new(config, name).map(Box::new));
        Ok(Stream { tcp, tls: tls.transpose()? })
    }

    pub fn tcp_mut(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Sends what TLS itself has to say; fails while the TCP connection is not there.
    pub fn drive(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.tcp) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.tcp.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let came = tls.read_tls(&mut self.tcp)?;
            tls.process_new_packets().map_err(io::Error::other)?;
            while tls.wants_write() && tls.write_tls(&mut self.tcp).is_ok() {}
            if came == 0 {
                return Ok(0);
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.tcp.write(bytes) };
        let taken = tls.writer().write(bytes)?;
        match self.drive() {
            // It is in the connection's own buffer and goes out with a later event.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(taken),
            result => result.map(|()| taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
