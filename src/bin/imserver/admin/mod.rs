//! The admin listener: health, metrics and a page for people, apart from the clients' listener.
//!
//! One thread accepts, each connection has a small one of its own. Nothing a peer does here costs the
//! node more than that: there are few connections at a time, each has a few seconds in all and a short
//! head, and the oldest is cut when a new one needs its place, so that a health check always gets through.

mod http;
mod site;

use std::{
    collections::VecDeque,
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use imcore::{Error, ErrorKind};

pub(crate) use site::Site;

/// Connections at a time.
const CONNECTIONS: usize = 32;
/// Enough for a request and its answer, which live on the heap.
const STACK: usize = 256 << 10;
/// Pause after the process ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound admin address that nobody answers at yet.
pub(crate) struct Admin(TcpListener);

impl Admin {
    pub(crate) fn bind(address: SocketAddr) -> Result<Admin, Error> {
        TcpListener::bind(address).map(Admin).map_err(|error| {
            let detail = format!(
                "admin: cannot listen on {address}; choose another address, or free this one"
            );
            Error::new(ErrorKind::Io, detail).with_source(error)
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers for `site` until the program ends.
    pub(crate) fn serve(self, site: Arc<Site>) -> io::Result<()> {
        let accept = move || {
            let open = Arc::new(Mutex::new(Open::default()));
            loop {
                match self.0.accept() {
                    Ok((stream, _)) => begin(stream, &open, &site),
                    Err(error) => {
                        log::debug!("admin: cannot accept: {error}");
                        thread::sleep(ACCEPT_PAUSE);
                    }
                }
            }
        };
        thread::Builder::new().name("admin".into()).stack_size(STACK).spawn(accept).map(drop)
    }
}

/// Connections under way, oldest first, as second handles to cut them with.
#[derive(Default)]
struct Open {
    next: u64,
    streams: VecDeque<(u64, TcpStream)>,
}

fn begin(stream: TcpStream, open: &Arc<Mutex<Open>>, site: &Arc<Site>) {
    let Ok(handle) = stream.try_clone() else { return };
    let mut list = open.lock().unwrap_or_else(PoisonError::into_inner);
    if list.streams.len() >= CONNECTIONS
        && let Some((_, oldest)) = list.streams.pop_front()
    {
        let _ = oldest.shutdown(Shutdown::Both);
    }
    let number = list.next;
    list.next += 1;
    list.streams.push_back((number, handle));
    drop(list);
    let (listed, site) = (Arc::clone(open), Arc::clone(site));
    let run = move || {
        http::serve(stream, |request| site.answer(request));
        forget(&listed, number);
    };
    if thread::Builder::new().name("admin-peer".into()).stack_size(STACK).spawn(run).is_err() {
        forget(open, number);
    }
}

fn forget(open: &Mutex<Open>, number: u64) {
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    open.streams.retain(|(other, _)| *other != number);
}
