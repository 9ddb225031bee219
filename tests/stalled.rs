//! Threads of a node that do not turn. Here they are held in their log lines by a log that does not take
//! them, which needs a process of its own.

use std::{
    io::Write,
    sync::{Arc, Condvar, Mutex, Once, PoisonError},
    time::Duration,
};

use imcore::{
    ImClient,
    broker::MemoryBroker,
    server::{Limits, NotReady, Server, ServerConfig, ServerHandle},
};
use log::{LevelFilter, Log, Metadata, Record};
use testkit::{
    PATIENCE, eventually,
    tls::Stream,
    ws::{Client, request},
};

/// A log that holds every thread whose line has one of these words, until the word is let go.
struct Holding {
    words: Mutex<Vec<&'static str>>,
    changed: Condvar,
}

static LOG: Holding = Holding { words: Mutex::new(Vec::new()), changed: Condvar::new() };

impl Log for Holding {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let text = record.args().to_string();
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        while words.iter().any(|word| text.contains(word)) {
            words = self.changed.wait(words).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn flush(&self) {}
}

/// Holds lines with a word while it lives.
struct Held(&'static str);

impl Held {
    fn new(word: &'static str) -> Held {
        static STARTED: Once = Once::new();
        STARTED.call_once(|| {
            log::set_logger(&LOG).unwrap();
            log::set_max_level(LevelFilter::Debug);
        });
        LOG.words.lock().unwrap_or_else(PoisonError::into_inner).push(word);
        Held(word)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        LOG.words.lock().unwrap_or_else(PoisonError::into_inner).retain(|word| *word != self.0);
        LOG.changed.notify_all();
    }
}

/// The first of two nodes, and a helper for both.
fn node() -> (ServerHandle, ImClient) {
    let broker = Arc::new(MemoryBroker::new());
    let names = ["first", "second"].map(str::to_owned);
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        server: Some(names[0].clone()),
        servers: names.to_vec(),
        reactors: 1,
        limits: Limits { drain_grace: Duration::from_secs(1), ..Limits::default() },
        ..ServerConfig::default()
    };
    let node = Server::start(config, broker.clone()).unwrap();
    assert!(node.wait_ready(PATIENCE));
    (node, ImClient::builder().servers(names).broker(broker).build().unwrap())
}

/// Holds the lines with `word`, one of which `cause` brings about, and expects the node to name the thread
/// that is held, until it is let go.
fn is_noticed(word: &'static str, thread: &str, cause: impl FnOnce(&ServerHandle, &ImClient)) {
    let (node, im) = node();
    let vitals = node.vitals();
    assert_eq!(vitals.stalled(), None);
    let held = Held::new(word);
    cause(&node, &im);
    eventually("noticed", || vitals.stalled().is_some_and(|names| names.contains(thread)));
    eventually("not ready", || vitals.not_ready() == Some(NotReady::Stalled));
    drop(held);
    eventually("well again", || vitals.stalled().is_none() && node.is_ready());
}

#[test]
fn a_reactor_that_is_stuck_is_noticed() {
    is_noticed("client=42 ", "im-reactor-0", |node, im| {
        let url = im.connect_url(42, None).unwrap();
        drop(Client::connect(node.local_addr(), &url).unwrap());
    });
}

#[test]
fn an_acceptor_that_is_stuck_is_noticed() {
    is_noticed(" refused: 404", "im-acceptor", |node, _| {
        let mut stream = Stream::connect(node.local_addr()).unwrap();
        stream.write_all(request("/nowhere").as_bytes()).unwrap();
    });
}

#[test]
fn a_ticket_thread_that_is_stuck_is_noticed() {
    is_noticed("client=43 ", "im-tickets", |node, im| {
        let url = im.connect_url(43, None).unwrap();
        let query = &url[url.find("/ws").unwrap()..];
        let mut stream = Stream::connect(node.local_addr()).unwrap();
        stream.write_all(request(query).as_bytes()).unwrap();
        // Nobody reads the answer, which comes once the thread is let go.
        std::mem::forget(stream);
    });
}

#[test]
fn a_stop_is_bounded_though_a_thread_is_stuck() {
    let (node, im) = node();
    let vitals = node.vitals();
    let url = im.connect_url(44, None).unwrap();
    let client = Client::connect(node.local_addr(), &url).unwrap();
    let _held = Held::new("client=44 ");
    drop(client);
    eventually("held", || node.vitals().stats().connections == 0);
    let how = node.shutdown();
    // Presence waits for the last reactor, which has not said what it had.
    assert!(!how.reported && how.stuck.iter().any(|name| name == "im-reactor-0"), "{how:?}");
    assert!(vitals.failure().is_some_and(|why| why.contains("im-reactor-0 does not end")));
    assert_eq!(vitals.wait_failure(), vitals.failure());
}
