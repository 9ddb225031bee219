//! A TCP proxy that does to a connection what networks do: cut, stall, delay, throttle, swallow.
//!
//! Two blocking threads per connection; every change takes effect at once, on connections that are open
//! and on new ones. Dropped: everything is cut.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What the proxy does to bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Forwards them.
    Pass,
    /// Has closed all connections, and closes each new one at once.
    Cut,
    /// Holds them back until the mode changes.
    Stall,
    /// Swallows them for ever: connections that were open meanwhile stay dead, but nobody is told.
    Swallow,
    /// Forwards what clients send, and cuts the connection when the answer comes.
    CutAnswers,
    /// Holds each piece back for a while.
    Delay(Duration),
    /// Forwards so many bytes a second, per direction and connection.
    Throttle(usize),
}

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: u16,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: Mode,
    pairs: Vec<Arc<Pair>>,
    connections: u64,
    stopped: bool,
}

/// One connection through the proxy.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    /// Nothing passes any more.
    dead: AtomicBool,
}

impl Pair {
    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

impl Proxy {
    /// A proxy in front of a port of this machine.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State { mode: Mode::Pass, pairs: Vec::new(), connections: 0, stopped: false };
        let shared = Arc::new(Shared { target, state: state.into(), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.lock().stopped {
                    return;
                }
                accepting.connect(client);
            }
        });
        Proxy { port, shared }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.lock();
        state.mode = mode;
        for pair in &state.pairs {
            match mode {
                Mode::Cut => pair.cut(),
                Mode::Swallow => pair.dead.store(true, Ordering::Release),
                _ => {}
            }
        }
        if mode == Mode::Cut {
            state.pairs.clear();
        }
        self.shared.changed.notify_all();
    }

    /// How many connections were ever made to it.
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// Forwards again. What was swallowed or cut stays so.
    pub fn heal(&self) {
        self.set(Mode::Pass);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Mode::Cut);
        self.shared.lock().stopped = true;
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn connect(self: &Arc<Self>, client: TcpStream) {
        self.lock().connections += 1;
        if self.lock().mode == Mode::Cut {
            return;
        }
        // Refused by the target: so are we.
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target)) else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let mut state = self.lock();
        if state.mode == Mode::Cut {
            return;
        }
        let dead = AtomicBool::new(state.mode == Mode::Swallow);
        let pair = Arc::new(Pair { client, server, dead });
        state.pairs.push(Arc::clone(&pair));
        for answers in [false, true] {
            let (shared, pair) = (Arc::clone(self), Arc::clone(&pair));
            thread::spawn(move || {
                shared.pump(&pair, answers);
                // A dead link tells nobody of its end.
                if !pair.dead.load(Ordering::Acquire) {
                    pair.cut();
                }
            });
        }
    }

    /// Forwards one direction until it ends.
    fn pump(&self, pair: &Pair, answers: bool) {
        let (mut from, mut to) = match answers {
            true => (&pair.server, &pair.client),
            false => (&pair.client, &pair.server),
        };
        let mut buffer = [0; 16 << 10];
        loop {
            let size = match self.lock().mode {
                Mode::Throttle(rate) => (rate / 50).clamp(1, buffer.len()),
                _ => buffer.len(),
            };
            let count = match from.read(&mut buffer[..size]) {
                Ok(0) => return,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            if pair.dead.load(Ordering::Acquire) {
                continue;
            }
            match self.released() {
                Mode::CutAnswers if answers => return,
                Mode::Delay(pause) => thread::sleep(pause),
                Mode::Throttle(rate) => {
                    thread::sleep(Duration::from_secs_f64(count as f64 / rate as f64));
                }
                _ => {}
            }
            if !pair.dead.load(Ordering::Acquire) && to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    }

    /// The mode, once it is not to stall.
    fn released(&self) -> Mode {
        self.changed.wait_while(self.lock(), |state| state.mode == Mode::Stall).unwrap().mode
    }
}
