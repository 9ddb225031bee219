//! Who is connected to a listener, and who gives way when it is full.
//!
//! A connection that waits for its peer, to send or to read, can be cut at any time; one whose request is
//! being answered cannot, since the request has its effect either way, nor one that is sent a stream.
//! Used by the accepting thread and by those of the connections.

use std::{
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The connections of one listener.
pub(super) struct Guests {
    limit: usize,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    next: u64,
    /// Those who wait longest for their peers first.
    guests: Vec<Guest>,
}

struct Guest {
    number: u64,
    stream: Arc<TcpStream>,
    busy: bool,
}

/// A connection's place among the guests; dropped, it is free.
pub(super) struct Place {
    number: u64,
    guests: Arc<Guests>,
}

impl Guests {
    pub(super) fn new(limit: usize) -> Arc<Guests> {
        Arc::new(Guests { limit, list: Mutex::default() })
    }

    /// A place for a newcomer. When there is none left, whoever waits longest is cut; `None` if
    /// everybody is being answered.
    pub(super) fn admit(self: &Arc<Guests>, stream: &Arc<TcpStream>) -> Option<Place> {
        let mut list = self.lock();
        if list.guests.len() >= self.limit {
            let waiting = list.guests.iter().position(|guest| !guest.busy)?;
            let _ = list.guests.remove(waiting).stream.shutdown(Shutdown::Both);
        }
        let number = list.next;
        list.next += 1;
        list.guests.push(Guest { number, stream: Arc::clone(stream), busy: false });
        Some(Place { number, guests: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The request is whole and will be answered. False if the connection was cut a moment ago: the
    /// request must have no effect then.
    pub(super) fn is_kept(&self) -> bool {
        let mut list = self.guests.lock();
        let guest = list.guests.iter_mut().find(|guest| guest.number == self.number);
        guest.map(|guest| guest.busy = true).is_some()
    }

    /// From now on the connection waits for its peer.
    pub(super) fn wait(&self) {
        let mut list = self.guests.lock();
        if let Some(at) = list.guests.iter().position(|guest| guest.number == self.number) {
            let guest = list.guests.remove(at);
            list.guests.push(Guest { busy: false, ..guest });
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.lock().guests.retain(|guest| guest.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn whoever_waits_longest_gives_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = || Arc::new(TcpStream::connect(address).unwrap());
        let guests = Guests::new(2);
        let first = guests.admit(&stream()).unwrap();
        let second = guests.admit(&stream()).unwrap();
        assert!(first.is_kept());
        let third = guests.admit(&stream()).unwrap();
        assert!(!second.is_kept(), "the second was the only one that waited");
        assert!(third.is_kept());
        assert!(guests.admit(&stream()).is_none(), "both are being answered");
        third.wait();
        first.wait();
        let fourth = guests.admit(&stream()).unwrap();
        assert!(!third.is_kept(), "the third waits longer than the first");
        drop(first);
        assert!(guests.admit(&stream()).is_some());
        assert!(fourth.is_kept(), "a place was free");
    }
}
