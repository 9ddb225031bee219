//! Looking for the connections of one client, for the API and the admin listener alike.
//!
//! A look walks all connections of the client's node, which costs the broker. So a node makes one at a time,
//! rests after each so that a tenth of the time is spent on them, and gives the same answer to all who ask
//! about the same client meanwhile.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use imcore::{ClientId, ConnectionInfo, Error, ErrorKind, ImClient, server::Vitals};

/// The broker is busy with looks of this node for at most this fraction of the time.
const SHARE: u32 = 10;
/// How long an answer is good at least.
const LIFE: Duration = Duration::from_secs(1);
/// The longest rest, whatever a look took: one may have ended with a time-out.
const REST: Duration = Duration::from_secs(10);
/// How long a caller waits for its turn.
const PATIENCE: Duration = Duration::from_secs(3);
/// Callers that wait at a time; each holds a thread.
const WAITING: usize = 16;
/// Answers that are remembered.
const ANSWERS: usize = 64;

/// The looks of one node.
pub(crate) struct Lookups {
    im: ImClient,
    /// The node of this process, which knows more of its own connections.
    own: Option<(String, Vitals)>,
    state: Mutex<State>,
    /// Told when a look has ended.
    ended: Condvar,
}

struct State {
    is_looking: bool,
    rest_until: Instant,
    waiting: usize,
    answers: Vec<Answer>,
}

struct Answer {
    client: ClientId,
    until: Instant,
    connections: Arc<[ConnectionInfo]>,
}

impl Lookups {
    pub(crate) fn new(im: ImClient) -> Lookups {
        let state = State {
            is_looking: false,
            rest_until: Instant::now(),
            waiting: 0,
            answers: Vec::new(),
        };
        Lookups { im, own: None, state: Mutex::new(state), ended: Condvar::new() }
    }

    /// The same, beside the node of that name.
    pub(crate) fn beside(self, node: &str, vitals: Vitals) -> Lookups {
        Lookups { own: Some((node.to_owned(), vitals)), ..self }
    }

    /// Whether the client of a connection is away and waited for. Its node alone knows: `None` if that is another one.
    pub(crate) fn is_away(&self, connection: &ConnectionInfo) -> Option<bool> {
        let (node, vitals) = self.own.as_ref()?;
        (*node == connection.node).then(|| vitals.is_away(connection.number))
    }

    /// The helper that looks.
    pub(crate) fn im(&self) -> &ImClient {
        &self.im
    }

    /// The open connections of `client`, as of a moment ago.
    ///
    /// # Errors
    /// [`Overloaded`](ErrorKind::Overloaded) if others who look keep this one waiting.
    pub(crate) fn connections(&self, client: &ClientId) -> Result<Arc<[ConnectionInfo]>, Error> {
        // A client that is offline has none.
        if !self.im.is_online(client)? {
            return Ok(Arc::new([]));
        }
        if let Some(answer) = self.wait_for_turn(client)? {
            return Ok(answer);
        }
        let began = Instant::now();
        let found = self.im.connections_of(client);
        let took = began.elapsed();
        let mut state = self.lock();
        let now = Instant::now();
        state.is_looking = false;
        state.rest_until = now + (took * (SHARE - 1)).min(REST);
        let found: Result<Arc<[ConnectionInfo]>, Error> = found.map(Into::into);
        if let Ok(connections) = &found {
            let until = now + LIFE.max(took * SHARE);
            let connections = Arc::clone(connections);
            state.answers.push(Answer { client: client.clone(), until, connections });
            if state.answers.len() > ANSWERS {
                state.answers.remove(0);
            }
        }
        drop(state);
        self.ended.notify_all();
        found
    }

    /// Returns when this caller is the one to look, or with what another has found.
    fn wait_for_turn(&self, client: &ClientId) -> Result<Option<Arc<[ConnectionInfo]>>, Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            state.answers.retain(|answer| answer.until > now);
            let known = state.answers.iter().find(|answer| answer.client == *client);
            if let Some(answer) = known {
                return Ok(Some(Arc::clone(&answer.connections)));
            }
            if !state.is_looking && state.rest_until <= now {
                state.is_looking = true;
                return Ok(None);
            }
            if now >= deadline || state.waiting >= WAITING {
                let detail = "others are looking for connections of clients";
                return Err(Error::new(ErrorKind::Overloaded, detail));
            }
            let next = if state.is_looking { deadline } else { state.rest_until.min(deadline) };
            state.waiting += 1;
            let waited = self.ended.wait_timeout(state, next.saturating_duration_since(now));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use imcore::broker::MemoryBroker;

    use super::*;

    #[test]
    fn one_looks_at_a_time_and_others_get_what_it_found() {
        let broker = Arc::new(MemoryBroker::new());
        let im = ImClient::builder().servers(["n"]).broker(broker).build().unwrap();
        let lookups = Lookups::new(im);
        let id = ClientId::from(1);
        assert_eq!(lookups.connections(&id).unwrap().len(), 0, "nobody is online");
        assert!(lookups.wait_for_turn(&id).unwrap().is_none(), "it is the one to look");
        std::thread::scope(|scope| {
            let waiting: Vec<_> =
                (0..WAITING).map(|_| scope.spawn(|| lookups.wait_for_turn(&id))).collect();
            while lookups.lock().waiting < WAITING {
                std::thread::yield_now();
            }
            assert_eq!(lookups.wait_for_turn(&id).unwrap_err().kind(), ErrorKind::Overloaded);
            let mut state = lookups.lock();
            state.is_looking = false;
            let until = Instant::now() + Duration::from_secs(600);
            state.answers.push(Answer { client: id.clone(), until, connections: Arc::new([]) });
            drop(state);
            lookups.ended.notify_all();
            for caller in waiting {
                assert!(caller.join().unwrap().unwrap().is_some());
            }
        });
    }
}
