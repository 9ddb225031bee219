//! The open connections of one listener: which of them gives way when there are too many, and which a stop waits
//! for.
//!
//! A connection that waits for its peer, to send or to read, can be cut at any time; one whose request is
//! being answered cannot, since the request has its effect either way, nor one that is sent a stream.
//! Used by the accepting thread, by those of the connections, and by the one that stops the listener. Knows
//! nothing of what is said on a connection.

use std::{
    net::{Shutdown, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// The connections of one listener.
pub(super) struct Connections {
    limit: usize,
    list: Mutex<List>,
    /// Told of each step that a stop may wait for.
    step: Condvar,
}

#[derive(Default)]
struct List {
    next: u64,
    /// Those that have waited longest for their peers first.
    connections: Vec<Connection>,
    /// No more requests are taken.
    closed: bool,
}

struct Connection {
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
    /// The last answer is out; the peer may still be sending.
    Ending,
}

impl State {
    /// Whether the connection may be cut: no effect of a request is lost by it.
    fn gives_way(self) -> bool {
        !matches!(self, State::Answering | State::Streaming)
    }

    /// Whether a stop waits for the connection.
    fn is_under_way(self) -> bool {
        !matches!(self, State::Idle | State::Ending)
    }
}

/// One of the connections that a listener may have; dropped, it is free.
pub(super) struct Slot {
    number: u64,
    connections: Arc<Connections>,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Arc<Connections> {
        Arc::new(Connections { limit, list: Mutex::default(), step: Condvar::new() })
    }

    /// A slot for a new connection. When there is none left, the one that has waited longest for its peer is cut;
    /// `None` if all are being answered, or the listener is closed.
    pub(super) fn admit(self: &Arc<Connections>, stream: &Arc<TcpStream>) -> Option<Slot> {
        let mut list = self.lock();
        if list.closed {
            return None;
        }
        if list.connections.len() >= self.limit {
            let waiting =
                list.connections.iter().position(|connection| connection.state.gives_way())?;
            let _ = list.connections.remove(waiting).stream.shutdown(Shutdown::Both);
        }
        let number = list.next;
        list.next += 1;
        list.connections.push(Connection {
            number,
            stream: Arc::clone(stream),
            state: State::Idle,
        });
        Some(Slot { number, connections: Arc::clone(self) })
    }

    /// From now on no connection is admitted, and no further request is taken; those that have begun go on.
    pub(super) fn close(&self) {
        let mut list = self.lock();
        list.closed = true;
        for connection in
            list.connections.iter().filter(|connection| connection.state == State::Idle)
        {
            // What has arrived is still read; then the connection sees its end.
            let _ = connection.stream.shutdown(Shutdown::Read);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until all that is under way is over, at most until `deadline`; how many are left.
    pub(super) fn finish(&self, deadline: Instant) -> usize {
        let mut list = self.lock();
        loop {
            let left = list
                .connections
                .iter()
                .filter(|connection| connection.state.is_under_way())
                .count();
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

impl Slot {
    /// The connection is at this from now on. False if it was cut a moment ago: a request must have no
    /// effect then.
    pub(super) fn enter(&self, state: State) -> bool {
        let mut list = self.connections.lock();
        let List { connections, closed, .. } = &mut *list;
        let Some(at) = connections.iter().position(|connection| connection.number == self.number)
        else {
            return false;
        };
        let was = std::mem::replace(&mut connections[at].state, state);
        if state.gives_way() && (state == State::Idle || !was.gives_way()) {
            // Now it begins to wait for its peer.
            let connection = connections.remove(at);
            connections.push(connection);
        }
        if *closed && state == State::Idle {
            let _ = connections[connections.len() - 1].stream.shutdown(Shutdown::Read);
        }
        drop(list);
        self.connections.step.notify_all();
        true
    }

    /// Whether this connection should end with the answer that is under way.
    pub(super) fn is_closed(&self) -> bool {
        self.connections.is_closed()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.lock().connections.retain(|connection| connection.number != self.number);
        self.connections.step.notify_all();
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
        let connections = Connections::new(2);
        let first = connections.admit(&pair().0).unwrap();
        let second = connections.admit(&pair().0).unwrap();
        assert!(first.enter(State::Answering));
        let third = connections.admit(&pair().0).unwrap();
        assert!(!second.enter(State::Answering), "the second was the only one that waited");
        assert!(third.enter(State::Answering));
        assert!(connections.admit(&pair().0).is_none(), "both are being answered");
        third.enter(State::Sending);
        first.enter(State::Sending);
        let fourth = connections.admit(&pair().0).unwrap();
        assert!(!third.enter(State::Idle), "the third waits longer than the first");
        drop(first);
        assert!(connections.admit(&pair().0).is_some());
        assert!(fourth.enter(State::Receiving), "a place was free");
    }

    #[test]
    fn a_stop_waits_for_those_whose_request_has_begun() {
        use std::{io::Read, time::Duration};

        let connections = Connections::new(9);
        let ((idle, _a), (asking, _b)) = (pair(), pair());
        let (waiting, busy) =
            (connections.admit(&idle).unwrap(), connections.admit(&asking).unwrap());
        busy.enter(State::Receiving);
        connections.close();
        assert!(connections.admit(&pair().0).is_none());
        assert!(matches!((&*idle).read(&mut [0]), Ok(0)), "it is told at once");
        let soon = || Instant::now() + Duration::from_millis(1);
        assert_eq!((connections.finish(soon()), busy.is_closed()), (1, true));
        let late = Instant::now() + Duration::from_secs(600);
        std::thread::scope(|scope| {
            let stop = scope.spawn(|| connections.finish(late));
            busy.enter(State::Answering);
            busy.enter(State::Ending);
            assert_eq!(stop.join().unwrap(), 0);
        });
        drop((waiting, busy));
        assert_eq!(connections.finish(soon()), 0);
    }
}
