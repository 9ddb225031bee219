//! The floor: a server without protocol logic, the least that the kernel allows for a delivery.
//!
//! Runs as a child of the conductor (`loadtest floor-server`). One thread accepts sockets, each of which
//! says its client's number, and tells the conductor of each by an empty line; the main thread takes
//! finished frames from standard input and writes them to every socket, or takes messages from a Redis
//! subscription and writes each to its receiver, or what came together for one receiver together.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use super::resp;

/// Each frame is written by itself.
pub const PLAIN: u8 = b'p';
/// Frames that arrived together are written together.
pub const MERGING: u8 = b'm';
/// Mode and length in front of every frame on standard input.
pub const PREFIX: usize = 5;

#[derive(Default)]
struct Sockets {
    all: Vec<TcpStream>,
    place: HashMap<i64, usize>,
}

type Shared = Arc<Mutex<Sockets>>;

fn lock(sockets: &Shared) -> MutexGuard<'_, Sockets> {
    sockets.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The whole life of a floor process. With `redis` (address and topic) it is fed from there.
pub fn run(redis: Option<(String, String)>, merging: bool) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let sockets = Shared::default();
    let accepted = Arc::clone(&sockets);
    thread::spawn(move || accept(&listener, &accepted));
    match redis {
        None => from_stdin(&sockets),
        Some((address, topic)) => {
            thread::spawn(|| {
                let _ = io::copy(&mut io::stdin(), &mut io::sink());
                std::process::exit(0);
            });
            from_redis(&sockets, &address, &topic, merging)
        }
    }
}

fn accept(listener: &TcpListener, sockets: &Shared) {
    for stream in listener.incoming().map_while(Result::ok) {
        let mut client = [0; 8];
        let greeted = (&stream).read_exact(&mut client).is_ok();
        if greeted && stream.set_nodelay(true).is_ok() {
            let mut sockets = lock(sockets);
            let place = sockets.all.len();
            sockets.place.insert(i64::from_le_bytes(client), place);
            sockets.all.push(stream);
            // One byte, so that all of them fit the pipe before anybody reads it.
            println!();
        }
    }
}

fn from_stdin(sockets: &Shared) -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; 1 << 20];
    let mut filled = 0;
    let mut merged = Vec::new();
    loop {
        let count = stdin.read(&mut buffer[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        let mut used = 0;
        let mut sockets = lock(sockets);
        while let Some((mode, frame)) = next_frame(&buffer[used..filled]) {
            used += PREFIX + frame.len();
            if mode == MERGING {
                merged.extend_from_slice(frame);
            } else {
                write_to_all(&mut sockets, frame);
            }
        }
        if !merged.is_empty() {
            write_to_all(&mut sockets, &merged);
            merged.clear();
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}

fn next_frame(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [mode, a, b, c, d, rest @ ..] = bytes else { return None };
    let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    rest.get(..length).map(|frame| (*mode, frame))
}

/// The floor itself. A client that went away is no concern of it.
fn write_to_all(sockets: &mut Sockets, frame: &[u8]) {
    for socket in &mut sockets.all {
        let _ = socket.write_all(frame);
    }
}

fn from_redis(sockets: &Shared, address: &str, topic: &str, merging: bool) -> io::Result<()> {
    let mut redis = TcpStream::connect(address.trim_start_matches("redis://"))?;
    redis.write_all(format!("SUBSCRIBE {topic}\r\n").as_bytes())?;
    let mut buffer = vec![0; 64 << 10];
    let mut filled = 0;
    let mut frame = Vec::new();
    // What waits for each receiver within one read, and who has something waiting.
    let (mut merged, mut waiting) = (HashMap::<usize, Vec<u8>>::new(), Vec::new());
    loop {
        let count = redis.read(&mut buffer[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        let mut used = 0;
        let mut sockets = lock(sockets);
        while let Some((message, length)) = resp::message(&buffer[used..filled]) {
            used += length;
            let receiver = message.and_then(|payload| resp::direct(payload, &mut frame));
            let place = receiver.and_then(|client| sockets.place.get(&client).copied());
            let Some(place) = place else { continue };
            if merging {
                let frames = merged.entry(place).or_default();
                if frames.is_empty() {
                    waiting.push(place);
                }
                frames.extend_from_slice(&frame);
            } else {
                let _ = sockets.all[place].write_all(&frame);
            }
        }
        for place in waiting.drain(..) {
            let frames = merged.entry(place).or_default();
            let _ = sockets.all[place].write_all(frames);
            frames.clear();
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
    }
}
