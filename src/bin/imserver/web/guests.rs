//! Who is connected to a listener, who gives way when it is full, and whom a stop waits for.
//!
//! A connection that waits for its peer, to send or to read, can be cut at any time; one whose request is
//! being answered cannot, since the request has its effect either way, nor one that is sent a stream.
//! Used by the accepting thread, by those of the connections, and by whoever stops the listener.

use std::{
    net::{Shutdown, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// The connections of one listener.
pub(super) struct Guests {
    limit: usize,
    list: Mutex<List>,
    /// Told of each step that a stop may wait for.
    step: Condvar,
}

#[derive(Default)]
struct List {
    next: u64,
    /// Those who wait longest for their peers first.
    guests: Vec<Guest>,
    /// Nobody may ask any more.
    closed: bool,
}

struct Guest {
    number: u64,
    stream: Arc<TcpStream>,
    state: State,
}

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No byte of a request has come.
    Idle,
    /// A request is coming in.
    Receiving,
    /// A request is whole and being answered.
    Answering,
    /// An answer is going out.
    Sending,
    /// An answer that goes on is going out.
    Streaming,
    /// All is said; the peer may still be sending.
    Ending,
}

impl State {
    /// Whether nobody is wronged if the connection is cut.
    fn gives_way(self) -> bool {
        !matches!(self, State::Answering | State::Streaming)
    }

    /// Whether a stop waits for the connection.
    fn is_under_way(self) -> bool {
        !matches!(self, State::Idle | State::Ending)
    }
}

/// A connection's place among the guests; dropped, it is free.
pub(super) struct Place {
    number: u64,
    guests: Arc<Guests>,
}

impl Guests {
    pub(super) fn new(limit: usize) -> Arc<Guests> {
        Arc::new(Guests { limit, list: Mutex::default(), step: Condvar::new() })
    }

    /// A place for a newcomer. When there is none left, whoever waits longest is cut; `None` if
    /// everybody is being answered, or nobody may ask any more.
    pub(super) fn admit(self: &Arc<Guests>, stream: &Arc<TcpStream>) -> Option<Place> {
        let mut list = self.lock();
        if list.closed {
            return None;
        }
        if list.guests.len() >= self.limit {
            let waiting = list.guests.iter().position(|guest| guest.state.gives_way())?;
            let _ = list.guests.remove(waiting).stream.shutdown(Shutdown::Both);
        }
        let number = list.next;
        list.next += 1;
        list.guests.push(Guest { number, stream: Arc::clone(stream), state: State::Idle });
        Some(Place { number, guests: Arc::clone(self) })
    }

    /// From now on nobody is admitted, and who has not begun to ask cannot any more.
    pub(super) fn close(&self) {
        let mut list = self.lock();
        list.closed = true;
        for guest in list.guests.iter().filter(|guest| guest.state == State::Idle) {
            // What has arrived is still read; then the connection sees its end.
            let _ = guest.stream.shutdown(Shutdown::Read);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until all that is under way is over, at most until `deadline`; how many are left.
    pub(super) fn finish(&self, deadline: Instant) -> usize {
        let mut list = self.lock();
        loop {
            let left = list.guests.iter().filter(|guest| guest.state.is_under_way()).count();
            let time = deadline.saturating_duration_since(Instant::now());
            if left == 0 || time.is_zero() {
                return left;
            }
            let waited = self.step.wait_timeout(list, time);
            list = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The connection is at this from now on. False if it was cut a moment ago: a request must have no
    /// effect then.
    pub(super) fn enter(&self, state: State) -> bool {
        let mut list = self.guests.lock();
        let List { guests, closed, .. } = &mut *list;
        let Some(at) = guests.iter().position(|guest| guest.number == self.number) else {
            return false;
        };
        let was = std::mem::replace(&mut guests[at].state, state);
        if state.gives_way() && (state == State::Idle || !was.gives_way()) {
            // Now it begins to wait for its peer.
            let guest = guests.remove(at);
            guests.push(guest);
        }
        if *closed && state == State::Idle {
            let _ = guests[guests.len() - 1].stream.shutdown(Shutdown::Read);
        }
        drop(list);
        self.guests.step.notify_all();
        true
    }

    /// Whether this connection should end with the answer that is under way.
    pub(super) fn is_closed(&self) -> bool {
        self.guests.is_closed()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.lock().guests.retain(|guest| guest.number != self.number);
        self.guests.step.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Arc::new(listener.accept().unwrap().0), peer)
    }

    #[test]
    fn whoever_waits_longest_gives_way() {
        let guests = Guests::new(2);
        let first = guests.admit(&pair().0).unwrap();
        let second = guests.admit(&pair().0).unwrap();
        assert!(first.enter(State::Answering));
        let third = guests.admit(&pair().0).unwrap();
        assert!(!second.enter(State::Answering), "the second was the only one that waited");
        assert!(third.enter(State::Answering));
        assert!(guests.admit(&pair().0).is_none(), "both are being answered");
        third.enter(State::Sending);
        first.enter(State::Sending);
        let fourth = guests.admit(&pair().0).unwrap();
        assert!(!third.enter(State::Idle), "the third waits longer than the first");
        drop(first);
        assert!(guests.admit(&pair().0).is_some());
        assert!(fourth.enter(State::Receiving), "a place was free");
    }

    #[test]
    fn a_stop_waits_for_those_whose_request_has_begun() {
        use std::{io::Read, time::Duration};

        let guests = Guests::new(9);
        let ((idle, _a), (asking, _b)) = (pair(), pair());
        let (waiting, busy) = (guests.admit(&idle).unwrap(), guests.admit(&asking).unwrap());
        busy.enter(State::Receiving);
        guests.close();
        assert!(guests.admit(&pair().0).is_none());
        assert!(matches!((&*idle).read(&mut [0]), Ok(0)), "it is told at once");
        let soon = || Instant::now() + Duration::from_millis(1);
        assert_eq!((guests.finish(soon()), busy.is_closed()), (1, true));
        let late = Instant::now() + Duration::from_secs(600);
        std::thread::scope(|scope| {
            let stop = scope.spawn(|| guests.finish(late));
            busy.enter(State::Answering);
            busy.enter(State::Ending);
            assert_eq!(stop.join().unwrap(), 0);
        });
        drop((waiting, busy));
        assert_eq!(guests.finish(soon()), 0);
    }
}
