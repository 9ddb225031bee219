//! From an address to an open, authenticated connection. The only place that dials.

use std::{
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use redis::{
    Cmd, ConnectionAddr, ConnectionInfo, RedisConnectionInfo, RedisError, RedisResult, Value, cmd,
    io::tcp::socket2::{SockRef, TcpKeepalive},
};

use super::connection::{Link, Socket, Stream, Wire};

/// Connects to `place` and says who we are, under TLS if `tls`.
pub(crate) fn dial(place: &ConnectionInfo, tls: bool, deadline: Instant) -> RedisResult<Link> {
    let (socket, host) = match place.addr() {
        ConnectionAddr::Tcp(host, port) => (Socket::Tcp(dial_tcp(host, *port, deadline)?), &**host),
        #[cfg(unix)]
        ConnectionAddr::Unix(path) => (Socket::Unix(dial_unix(path, deadline)?), ""),
        _ => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
    };
    let wire = Wire::new(socket, deadline);
    let stream = match tls {
        false => Stream::Plain(wire),
        true => secure(host, wire)?,
    };
    let mut link = Link::new(stream);
    for command in greeting(place.redis_settings()) {
        if let Value::ServerError(error) = link.ask(&command, deadline)? {
            return Err(RedisError::from(error));
        }
    }
    Ok(link)
}

/// An address as people write it, with brackets where it needs them.
pub(crate) fn written(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }
            if host.contains(':') =>
        {
            format!("[{host}]:{port}")
        }
        address => address.to_string(),
    }
}

/// What a new connection begins with.
fn greeting(settings: &RedisConnectionInfo) -> Vec<Cmd> {
    let mut commands = Vec::new();
    if let Some(password) = settings.password() {
        let mut auth = cmd("AUTH");
        auth.arg(settings.username()).arg(password);
        commands.push(auth);
    }
    if settings.db() != 0 {
        let mut select = cmd("SELECT");
        select.arg(settings.db());
        commands.push(select);
    }
    commands
}

/// Tries every address of the host, each for its share of the time that is left.
fn dial_tcp(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = resolve(host, port, deadline)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - index) as u32;
        if share.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(address, share).and_then(tune) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Waits as long as the system's resolver does; an interruption is no answer.
fn resolve(host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    loop {
        match (host, port).to_socket_addrs() {
            Err(error)
                if error.kind() == io::ErrorKind::Interrupted && Instant::now() < deadline => {}
            addresses => return addresses.map(Iterator::collect),
        }
    }
}

/// A peer that vanished without a word is noticed within about 20 s even by a connection that waits.
fn tune(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(3))
        .with_retries(3);
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(15)))?;
    Ok(stream)
}

/// Tries again while the server's queue of newcomers is full, or the call is interrupted.
#[cfg(unix)]
fn dial_unix(
    path: &std::path::Path,
    deadline: Instant,
) -> io::Result<std::os::unix::net::UnixStream> {
    use redis::io::tcp::socket2::{Domain, SockAddr, Socket, Type};

    let address = SockAddr::unix(path)?;
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A blocking connect to a full queue has no time limit.
        socket.set_nonblocking(true)?;
        match socket.connect(&address) {
            Ok(()) => {
                socket.set_nonblocking(false)?;
                return Ok(socket.into());
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
}

/// TLS over `wire`. The system's certificates are read for each connection, so that a new authority
/// counts without a restart.
#[cfg(feature = "tls")]
fn secure(host: &str, wire: Wire) -> RedisResult<Stream> {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

    let other = |error: rustls::Error| io::Error::other(error);
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let error = found.errors.into_iter().next().map(|error| error.to_string());
        let error = error.unwrap_or_else(|| "no certificate of an authority was found".into());
        return Err(io::Error::other(error).into());
    }
    let provider = crypto::CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(crypto::ring::default_provider()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = host.to_owned().try_into().map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(other)?;
    Ok(Stream::Tls(Box::new(StreamOwned::new(session, wire))))
}

#[cfg(not(feature = "tls"))]
fn secure(_host: &str, _wire: Wire) -> RedisResult<Stream> {
    Err(io::Error::from(io::ErrorKind::Unsupported).into())
}
