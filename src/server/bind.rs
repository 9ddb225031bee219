//! The listening socket, and what to do if there is none.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Error, ErrorKind, Result};

/// Sockets that the kernel completes before they are accepted; it caps this at its own limit.
const BACKLOG: i32 = 4096;

/// Listens on `address`, without blocking.
///
/// # Errors
/// [`Io`](ErrorKind::Io), with advice.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener> {
    listen(address).map_err(|error| {
        let advice = bind_advice(address, &error);
        let detail = format!("listen: cannot listen on {address}; {advice}");
        Error::new(ErrorKind::Io, detail).with_source(error)
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted node must not wait for the old one's sockets to time out.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit this, which saves a system call each: pushes are small and must not wait for
    // each other's acknowledgement. No TCP_USER_TIMEOUT: Linux counts against it while a peer's window is
    // small, and so cuts clients that read in pauses. Whoever vanished is found by its missing pong.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// What to do about an address that cannot be bound.
#[doc(hidden)]
pub fn bind_advice(address: SocketAddr, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "ports below 1024 are for root: choose another, or allow them with \
             sysctl net.ipv4.ip_unprivileged_port_start=443"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address: choose one of its own, or 0.0.0.0 for all"
        }
        _ => "choose another address, or free this one",
    }
}
