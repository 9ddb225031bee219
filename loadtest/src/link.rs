//! What lies between nodes and Redis, as something that can break: a proxy that passes bytes, holds them, or cuts.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How often a direction that is held looks whether it may go on.
const HELD: Duration = Duration::from_millis(20);

/// The proxy. It ends with the process.
pub struct Link {
    /// Where it leads to Redis from.
    pub url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    holds: AtomicBool,
    refuses: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// To the Redis at `url`, which is `redis://host:port`.
    pub fn to(url: &str) -> Result<Self, String> {
        let target = url.strip_prefix("redis://").ok_or("a link leads to redis://host:port")?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (state, target) = (Arc::<State>::default(), target.to_owned());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if !shared.refuses.load(Ordering::Relaxed) {
                    let _ = pass(near, &target, &shared);
                }
            }
        });
        Ok(Link { url: format!("redis://{address}"), state })
    }

    /// Nothing gets through, and nobody is told, until it does again.
    pub fn hold(&self, holds: bool) {
        self.state.holds.store(holds, Ordering::Relaxed);
    }

    /// Cuts what is open, and lets nobody through until it does again.
    pub fn cut(&self, is_cut: bool) {
        self.state.refuses.store(is_cut, Ordering::Relaxed);
        if is_cut {
            let mut open = self.state.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
    }
}

fn pass(near: TcpStream, target: &str, state: &Arc<State>) -> std::io::Result<()> {
    let far = TcpStream::connect(target)?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    let mut open = state.open.lock().unwrap_or_else(PoisonError::into_inner);
    open.extend([near.try_clone()?, far.try_clone()?]);
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        let state = Arc::clone(state);
        thread::spawn(move || copy(from, to, &state));
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while state.holds.load(Ordering::Relaxed) {
            thread::sleep(HELD);
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
