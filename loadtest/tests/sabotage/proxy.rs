//! A proxy between clients and node that understands the node's frames, and breaks one thing once.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    Nothing,
    Drop,
    Double,
    /// A copy 400 ms after the last message of the run.
    LateDouble,
    /// A frame and the next one of the same client.
    Swap,
    /// A direct message and the next one to another client.
    Exchange,
    Cut,
    Pad,
    Garbage,
    CloseAll,
    /// A client is cut off after a direct message, and gets it again on its next connection.
    Repeat,
}

/// Which test message is struck; all kinds of traffic flow by then.
const HIT: usize = 60;

pub struct Proxy {
    pub address: SocketAddr,
}

#[derive(Default)]
struct Shared {
    seen: usize,
    /// All clients' sockets.
    clients: Vec<TcpStream>,
    /// A frame that is held back, and whose it was.
    held: Option<(usize, Vec<u8>)>,
    done: bool,
}

impl Proxy {
    pub fn start(node: SocketAddr, sabotage: Sabotage) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Mutex::new(Shared::default()));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(upstream) = TcpStream::connect(node) else { continue };
                let copies = (client.try_clone(), upstream.try_clone());
                let (Ok(mut from), Ok(mut to)) = copies else { continue };
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                let number = {
                    let mut shared = shared.lock().unwrap();
                    shared.clients.push(client);
                    shared.clients.len() - 1
                };
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let _ = to_client(upstream, number, sabotage, &shared);
                    let _ = shared.lock().unwrap().clients[number].shutdown(Shutdown::Both);
                });
            }
        });
        Proxy { address }
    }
}

/// Passes the head on, then frame by frame.
fn to_client(
    mut node: TcpStream,
    number: usize,
    sabotage: Sabotage,
    shared: &Mutex<Shared>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        node.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    (&shared.lock().unwrap().clients[number]).write_all(&head)?;
    loop {
        let frame = read_frame(&mut node)?;
        let mut state = shared.lock().unwrap();
        state.pass(number, frame, sabotage)?;
    }
}

/// Header and payload as they came; servers do not mask.
fn read_frame(node: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 2];
    node.read_exact(&mut frame)?;
    let more = match frame[1] {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    frame.resize(2 + more, 0);
    node.read_exact(&mut frame[2..])?;
    let length = match more {
        0 => usize::from(frame[1]),
        _ => frame[2..].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
    };
    let start = frame.len();
    frame.resize(start + length, 0);
    node.read_exact(&mut frame[start..])?;
    Ok(frame)
}

fn payload(frame: &[u8]) -> &[u8] {
    match frame[1] {
        126 => &frame[4..],
        127 => &frame[10..],
        _ => &frame[2..],
    }
}

fn text(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81, 126];
    frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

impl Shared {
    fn pass(&mut self, number: usize, frame: Vec<u8>, sabotage: Sabotage) -> std::io::Result<()> {
        let content = payload(&frame);
        let is_test = content.starts_with(b"\"L");
        let is_direct = content.starts_with(b"\"L00000000");
        self.seen += usize::from(is_test);
        if !is_test || self.done || self.seen < HIT {
            return self.write(number, &frame);
        }
        if sabotage == Sabotage::Repeat {
            return if is_direct { self.repeat(number, frame) } else { self.write(number, &frame) };
        }
        match (sabotage, self.held.take()) {
            (Sabotage::Swap, Some((owner, first))) if owner == number => {
                self.done = true;
                self.write(number, &frame)?;
                self.write(number, &first)
            }
            (Sabotage::Exchange, Some((owner, first))) if owner != number && is_direct => {
                self.done = true;
                self.write(number, &first)?;
                self.write(owner, &frame)
            }
            (Sabotage::Swap | Sabotage::Exchange, Some(held)) => {
                self.held = Some(held);
                self.write(number, &frame)
            }
            (Sabotage::Swap, None) => {
                self.held = Some((number, frame));
                Ok(())
            }
            (Sabotage::Exchange, None) if is_direct => {
                self.held = Some((number, frame));
                Ok(())
            }
            (Sabotage::Nothing | Sabotage::Exchange, _) => self.write(number, &frame),
            (other, _) => {
                self.done = true;
                self.strike(number, &frame, other)
            }
        }
    }

    fn repeat(&mut self, number: usize, frame: Vec<u8>) -> std::io::Result<()> {
        /// Where a test message says whom it is for.
        const RECEIVER: std::ops::Range<usize> = 50..66;
        self.write(number, &frame)?;
        match &self.held {
            None => {
                self.clients[number].shutdown(Shutdown::Both)?;
                self.held = Some((number, frame));
            }
            Some((owner, first))
                if *owner != number && payload(first)[RECEIVER] == payload(&frame)[RECEIVER] =>
            {
                self.done = true;
                self.write(number, first)?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn strike(&mut self, number: usize, frame: &[u8], sabotage: Sabotage) -> std::io::Result<()> {
        let content = payload(frame);
        match sabotage {
            Sabotage::Drop => Ok(()),
            Sabotage::Double => self.write(number, frame).and_then(|()| self.write(number, frame)),
            Sabotage::LateDouble => {
                let (mut client, copy) = (self.clients[number].try_clone()?, frame.to_vec());
                thread::spawn(move || {
                    // Behind the traffic of the run, in front of the tool's audit.
                    thread::sleep(Duration::from_millis(1900));
                    let _ = client.write_all(&copy);
                });
                self.write(number, frame)
            }
            Sabotage::Cut => {
                let mut short = content[..content.len() - 20].to_vec();
                short.push(b'"');
                self.write(number, &text(&short))
            }
            Sabotage::Pad => {
                let mut changed = content.to_vec();
                let middle = content.len() - 10;
                changed[middle] = b'y';
                self.write(number, &text(&changed))
            }
            Sabotage::Garbage => {
                self.write(number, &[0xff, 0xfe, 0xfd, 0xfc])?;
                self.write(number, frame)
            }
            Sabotage::CloseAll => {
                self.clients.iter().for_each(|client| drop(client.shutdown(Shutdown::Both)));
                Ok(())
            }
            Sabotage::Nothing | Sabotage::Swap | Sabotage::Exchange | Sabotage::Repeat => {
                self.write(number, frame)
            }
        }
    }

    fn write(&self, number: usize, bytes: &[u8]) -> std::io::Result<()> {
        (&self.clients[number]).write_all(bytes)
    }
}
