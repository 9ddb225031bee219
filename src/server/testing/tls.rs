//! Seeded runs of a session and an outbox over a line that cuts short, stalls and interrupts, against a
//! real client. What is counted as written must have left in whole records, whatever the line does.
//! `IMCORE_TLS_SIMULATION=seed` replays a run, `IMCORE_TLS_SIMULATION=from..to` searches further.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};

use testkit::seeded::{Replay, Seeded, seeds};

use crate::{
    server::{
        connection::{
            frame::Frame,
            outbox::{Flushed, Outbox, Tally},
            prepared::{Dialect, Prepared},
        },
        transport::tls::{Tls, TlsConfig, TlsSession},
    },
    wire::Position,
};

const VARIABLE: &str = "IMCORE_TLS_SIMULATION";

/// The kernel's part, as the server sees it.
struct Line {
    chance: Seeded,
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// Bytes that the server can write before it must wait.
    room: usize,
}

impl Line {
    fn interrupts(&mut self) -> io::Result<()> {
        match self.chance.once_in(16) {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupts()?;
        if self.to_server.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = self.to_server.len().min(buffer.len());
        self.to_server.read(&mut buffer[..1 + self.chance.below(most)])
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.interrupts()?;
        let most = bytes.len().min(self.room);
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = 1 + self.chance.below(most);
        self.room -= count;
        self.to_client.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The server's end, as an outbox sees it.
struct Secure<'a>(&'a mut TlsSession, &'a mut Line);

impl Write for Secure<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write(self.1, slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.push_out(self.1)
    }
}

struct Run {
    line: Line,
    server: TlsSession,
    client: ClientConnection,
    outbox: Outbox,
    /// What the client got in the clear, and what it is owed.
    got: Vec<u8>,
    owed: Vec<u8>,
    /// What the server got, and what was sent to it.
    heard: Vec<u8>,
    said: Vec<u8>,
}

impl Run {
    fn new(seed: u64, tls: &Tls, trust: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let chance = Seeded::new(seed);
        let line = Line { chance, to_server: VecDeque::new(), to_client: VecDeque::new(), room: 0 };
        Run {
            line,
            server: tls.session(Vec::new()).unwrap(),
            client: ClientConnection::new(Arc::clone(trust), name).unwrap(),
            outbox: Outbox::default(),
            got: Vec::new(),
            owed: Vec::new(),
            heard: Vec::new(),
            said: Vec::new(),
        }
    }

    fn client_turn(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.line.to_server).unwrap();
        }
        let count = self.line.to_client.len();
        if count > 0 {
            let most = 1 + self.line.chance.below(count);
            self.client.read_tls(&mut (&mut self.line.to_client).take(most as u64)).unwrap();
            let clear = self.client.process_new_packets().unwrap().plaintext_bytes_to_read();
            let had = self.got.len();
            self.got.resize(had + clear, 0);
            self.client.reader().read_exact(&mut self.got[had..]).unwrap();
        }
    }

    fn server_turn(&mut self, written: &mut Tally) {
        let mut buffer = [0; 48];
        match self.server.read(&mut self.line, &mut buffer) {
            Ok(count) => self.heard.extend_from_slice(&buffer[..count]),
            Err(error) => assert!(
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
                "{error}"
            ),
        }
        if self.server.is_handshaking() {
            return;
        }
        let flushed =
            self.outbox.flush(&mut Secure(&mut self.server, &mut self.line), written).unwrap();
        assert_eq!(flushed == Flushed::All, self.outbox.is_empty() && self.server.unsent() == 0);
    }

    fn act(&mut self) {
        match self.line.chance.below(12) {
            0..=2 => {
                let text = "m".repeat(self.line.chance.below(300));
                self.push(message(&text));
            }
            3 if self.line.chance.once_in(8) => {
                let text = "large".repeat(self.line.chance.below(12_000));
                self.push(message(&text));
            }
            4..=5 if !self.client.is_handshaking() => {
                let bytes = vec![b'c'; self.line.chance.below(2000)];
                self.client.writer().write_all(&bytes).unwrap();
                self.said.extend(bytes);
            }
            6 if !self.client.is_handshaking() && self.line.chance.once_in(8) => {
                // Only the newer protocol can.
                let _ = self.client.refresh_traffic_keys();
                self.client.writer().write_all(b"k").unwrap();
                self.said.push(b'k');
            }
            7 if self.line.chance.once_in(20) => self.abandon(),
            8..=10 => self.line.room += self.line.chance.below(1200),
            _ => {}
        }
    }

    fn push(&mut self, frame: Frame) {
        self.owed.extend_from_slice(frame.bytes());
        self.outbox.push_message(frame, None);
    }

    /// As for a client that is too slow: what is sealed still goes out, and ends with its frame.
    fn abandon(&mut self) {
        let before = self.outbox.pending();
        self.outbox.abandon(self.server.begun());
        self.owed.truncate(self.owed.len() - (before - self.outbox.pending()));
        let frame = Frame::close(1013, "");
        self.owed.extend_from_slice(frame.bytes());
        self.outbox.push_control(frame);
    }
}

fn run(seed: u64, tls: &Tls, trust: &Arc<ClientConfig>) {
    let _replay = Replay { variable: VARIABLE, seed };
    let mut run = Run::new(seed, tls, trust);
    let mut written = Tally::default();
    for _ in 0..300 {
        run.act();
        run.client_turn();
        run.server_turn(&mut written);
    }
    // What counts as written has left, so that it arrives though the server does nothing more.
    while !run.line.to_client.is_empty() {
        run.client_turn();
    }
    assert!(run.got.len() >= run.owed.len() - run.outbox.pending());
    let settled = |run: &Run| run.got.len() == run.owed.len() && run.heard.len() == run.said.len();
    for _ in 0..200_000 {
        run.line.room = 1 << 20;
        run.client_turn();
        run.server_turn(&mut written);
        if settled(&run) && run.outbox.is_empty() {
            break;
        }
    }
    assert!(settled(&run), "{} of {}", run.got.len(), run.owed.len());
    assert!(run.got == run.owed && run.heard == run.said);
    // Goodbye, at last.
    while run.server.close(&mut run.line).is_err() {}
    while !run.line.to_client.is_empty() {
        run.client_turn();
    }
    assert!(run.client.process_new_packets().unwrap().peer_has_closed());
}

pub(super) fn identity() -> (Tls, RootCertStore) {
    // Its signatures have one length, so that a run does not depend on them.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let cert = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let cert = cert.self_signed(&key).unwrap();
    let config = TlsConfig::from_pem(cert.pem(), key.serialize_pem());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    (Tls::new(&config).unwrap(), roots)
}

pub(super) fn trust(
    roots: &RootCertStore,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth()
}

/// A socket as the kernel has it: a read that does not fill its buffer was the last.
#[derive(Default)]
struct Quiet {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
}

impl Read for Quiet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.to_server.is_empty() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.to_server.read(buffer),
        }
    }
}

impl Write for Quiet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to_client.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What decides whether a reactor reads on, since no event tells of what a session holds.
fn message(content: &str) -> Frame {
    Prepared::text(content, Position::default()).frame(Dialect::Plain, "").clone()
}

#[test]
fn a_read_that_leaves_something_says_so() {
    let (tls, roots) = identity();
    let mut socket = Quiet::default();
    let mut server = tls.session(Vec::new()).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let trust = Arc::new(trust(&roots, rustls::ALL_VERSIONS));
    let mut client = ClientConnection::new(trust, name).unwrap();
    let mut buffer = [0; 16 << 10];
    while client.is_handshaking() || server.is_handshaking() {
        while client.wants_write() {
            client.write_tls(&mut socket.to_server).unwrap();
        }
        let _ = server.read(&mut socket, &mut buffer);
        while !socket.to_client.is_empty() {
            client.read_tls(&mut socket.to_client).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    for size in [1, 1000, 16 << 10, 20_000, 50_000] {
        client.writer().write_all(&vec![b'x'; size]).unwrap();
        while client.wants_write() {
            client.write_tls(&mut socket.to_server).unwrap();
        }
        let mut got = 0;
        while got == 0 || server.has_unread() {
            got += server.read(&mut socket, &mut buffer).unwrap_or(0);
        }
        assert_eq!(got, size);
    }
}

#[test]
fn whatever_the_line_does_bytes_arrive_in_order_and_are_counted_when_they_have_left() {
    let (tls, roots) = identity();
    for seed in seeds(VARIABLE, 60) {
        let version = rustls::ALL_VERSIONS[seed as usize % rustls::ALL_VERSIONS.len()];
        run(seed, &tls, &Arc::new(trust(&roots, &[version])));
    }
}
