//! TLS on the listen address: settings, the certificate in use, and what both make of a new socket.
//!
//! The acceptor thread begins [`TlsSession`]s; whoever reloads the certificate does so from any thread. Only
//! this module and those below it know `rustls`. A build without the feature `tls` has `no_tls` instead.

mod certificate;
mod session;
mod validity;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use rustls::{
    crypto::ring,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::error::{Error, ErrorKind, Result};
use certificate::Certificate;
pub(crate) use session::TlsSession;

/// Where a node's certificate and its private key are, both as PEM.
///
/// ```no_run
/// use imcore::server::{ServerConfig, TlsConfig};
///
/// let tls = TlsConfig::from_files("/etc/imserver/fullchain.pem", "/etc/imserver/privkey.pem");
/// let config = ServerConfig { tls: Some(tls), ..ServerConfig::default() };
/// ```
#[derive(Clone)]
pub struct TlsConfig {
    cert: Pem,
    key: Pem,
}

/// Text that is at hand, or in a file that is read when it is needed.
#[derive(Clone)]
enum Pem {
    File(PathBuf),
    Text(Vec<u8>),
}

impl TlsConfig {
    /// From two files, read when the node starts and again by each
    /// [reload](crate::server::ServerHandle::reload_tls). `cert` holds the server's certificate and then those
    /// that lead to its root, `key` the key as PKCS#8, PKCS#1 or SEC1 without a password; both may be one file.
    pub fn from_files(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        TlsConfig { cert: Pem::File(cert.into()), key: Pem::File(key.into()) }
    }

    /// From text in memory, of the same form as the files.
    pub fn from_pem(cert: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        TlsConfig { cert: Pem::Text(cert.into()), key: Pem::Text(key.into()) }
    }

    /// What an operator should look at, a sentence each: a key that every user of the machine can read. Looks at
    /// files, and finds nothing where there are none.
    pub fn warnings(&self) -> Vec<String> {
        let readable = self.key.path().filter(|path| others_can_read(path));
        let warning = readable.map(|path| {
            let path = path.display();
            format!(
                "tls.key: every user of this machine can read {path}; chmod 0640 and a group for the node do, \
                 or 0600"
            )
        });
        warning.into_iter().collect()
    }

    /// Reads certificate and key and checks that they can be used together.
    pub(crate) fn validate(&self) -> Result<()> {
        Certificate::load(self).map(drop)
    }
}

/// Names the files; shows no key.
impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").field("cert", &self.cert).field("key", &self.key).finish()
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => path.fmt(f),
            Pem::Text(_) => f.write_str("(text)"),
        }
    }
}

impl Pem {
    fn path(&self) -> Option<&Path> {
        match self {
            Pem::File(path) => Some(path),
            Pem::Text(_) => None,
        }
    }
}

#[cfg(unix)]
fn others_can_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn others_can_read(_: &Path) -> bool {
    false
}

/// What a node needs to speak TLS, shared by its acceptor and its handle.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    settings: Arc<rustls::ServerConfig>,
    current: Arc<Current>,
}

impl Tls {
    /// # Errors
    /// [`Config`](ErrorKind::Config), naming file and fault; [`Io`](ErrorKind::Io) without randomness.
    pub(crate) fn new(config: &TlsConfig) -> Result<Self> {
        let failed = |error: rustls::Error| {
            Error::new(ErrorKind::Io, "cannot set up TLS").with_source(error)
        };
        let certificate = Certificate::load(config)?;
        certificate.warn_of_end();
        let current = Arc::new(Current(RwLock::new(certificate)));
        let provider = Arc::new(ring::default_provider());
        let mut settings = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as _);
        settings.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A client that comes back saves the signature. What it needs for that it keeps itself, as a ticket;
        // one is enough, as it opens one connection at a time.
        settings.ticketer = ring::Ticketer::new().map_err(failed)?;
        settings.send_tls13_tickets = 1;
        settings.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Tls { settings: Arc::new(settings), current })
    }

    /// A session with a new peer, of whose handshake `early` has come already.
    pub(crate) fn session(&self, early: Vec<u8>) -> io::Result<TlsSession> {
        TlsSession::new(&self.settings, early)
    }

    /// Uses another certificate from the next handshake on.
    ///
    /// # Errors
    /// Those of [`new`](Self::new); the old certificate then stays in use.
    pub(crate) fn reload(&self, config: &TlsConfig) -> Result<()> {
        let fresh = Certificate::load(config)?;
        fresh.warn_of_end();
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// When the certificate in use ends, as far as it says so in a way that is understood.
    pub(crate) fn expiry(&self) -> Option<SystemTime> {
        self.current.0.read().unwrap_or_else(PoisonError::into_inner).expiry
    }
}

/// The certificate in use.
#[derive(Debug)]
struct Current(RwLock<Certificate>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}
