//! Ports for servers that must be told one, or come back on it. Asked for by tests and the load tool.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    process,
    sync::{Mutex, PoisonError},
};

/// Below those that the kernel gives to outgoing connections, which would take a port between our look and the server's bind.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// Whoever holds a port's number here owns it, so that tests of other processes pass it by. No server of a test is there.
const REGISTER: Ipv4Addr = Ipv4Addr::new(127, 255, 0, 1);

/// A port of this machine that nobody listens on, and that this function gives to nobody else while the process lives.
pub fn port() -> u16 {
    static OWNED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let mut owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
    // Processes begin at different places; each goes on from its own.
    let start = process::id().wrapping_mul(631).wrapping_add(owned.len() as u32);
    for step in 0..u32::from(COUNT) {
        let port = FIRST + (start.wrapping_add(step) % u32::from(COUNT)) as u16;
        let Ok(entry) = UdpSocket::bind((REGISTER, port)) else { continue };
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            owned.push(entry);
            return port;
        }
    }
    panic!("no port is free from {FIRST} on");
}
