//! The threads of a node and the queues between them: starts them, tells them to stop, and waits for their end.
//!
//! Used by the handle alone. Every thread is made from the [`Node`] and its queues, and runs until its queue has no
//! sender any more or it is told to end.

use std::{
    io,
    net::TcpListener,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mio::{Poll, net};

use super::{
    acceptor::{self, Acceptor},
    connection::receipt::notices,
    inbox::{InboxSender, Reactors, inbox},
    message::{AcceptorCommand, Command},
    node::Node,
    reactor::{self, Reactor},
    stats::refusals::Refusals,
    upstream::{
        feed::Feed, presence::Presence, receipts::Receipts, rosters::Rosters, slots::Slots,
        tickets::Tickets,
    },
};

/// Commands that may wait for a loop.
const QUEUE: usize = 8192;

/// Time that a stopping node has for its last reports to the broker, as long as these succeed.
const LAST_REPORTS: Duration = Duration::from_secs(10);
/// How long a call to the broker may go on after that, by its own deadline.
const LAST_CALL: Duration = Duration::from_secs(5);

/// How a node has stopped; see [`ServerHandle::shutdown`](super::ServerHandle::shutdown).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Whether the broker certainly knows what became of all clients: they are offline, or can resume and are left to the
    /// next node of this name, for as long as they are kept. If not, the other nodes find out once the lease of this one
    /// has run out.
    pub reported: bool,
    /// Names of the threads that did not end in time and were left behind. They hold what they hold until the process
    /// ends.
    pub stuck: Vec<String>,
}

/// What runs.
#[derive(Debug)]
pub(crate) struct Threads {
    acceptor: (InboxSender<AcceptorCommand>, JoinHandle<()>),
    reactors: (Reactors, Vec<JoinHandle<()>>),
    /// Those that call the broker.
    upstream: Vec<JoinHandle<()>>,
    /// The watch thread ends when this sender does.
    watch: (Sender<()>, JoinHandle<()>),
}

impl Threads {
    /// Starts all threads: those that others send to first.
    pub(crate) fn start(node: &Arc<Node>, listener: TcpListener) -> io::Result<Self> {
        let (reports, reports_due) = channel();
        let (notices, notices_due) = notices();
        let (jobs, jobs_due) = channel();
        let serves_slots = node.config.slots > 0;
        let (news, news_due) = serves_slots.then(|| sync_channel(QUEUE)).unzip();
        let mut doors = Vec::new();
        let mut reactors = Vec::new();
        for index in 0..node.config.reactors {
            let poll = Poll::new()?;
            let (door, commands) = inbox(&poll, reactor::WAKE, QUEUE)?;
            node.pulse.add_inbox(door.depth());
            doors.push(door);
            let (node, reports, notices) = (Arc::clone(node), reports.clone(), notices.clone());
            let onward = news.clone();
            reactors.push(spawn(&node.clone(), &format!("im-reactor-{index}"), move || {
                let reactor = Reactor::new(&node, poll, commands, reports, notices);
                reactor.numbered(index, onward).run()
            })?);
        }
        // Presence and receipts end with their last sender.
        drop((reports, notices));
        let doors = Reactors::new(doors);
        let poll = Poll::new()?;
        let (door, commands) = inbox(&poll, acceptor::WAKE, QUEUE)?;
        let receipts = Receipts::new(node, notices_due);
        let tickets = Tickets::new(node, jobs_due, door.clone());
        let presence = Presence::new(node, reports_due, doors.clone());
        let feed = Feed::new(node, doors.clone(), news);
        let rosters = Rosters::new(node, doors.clone());
        let acceptor = Acceptor::new(
            node,
            poll,
            commands,
            net::TcpListener::from_std(listener),
            jobs,
            doors.clone(),
        );
        let mut upstream = vec![
            spawn_caller(node, "im-receipts", || receipts.run())?,
            spawn_caller(node, "im-tickets", || tickets.run())?,
            spawn_caller(node, "im-presence", || presence.run())?,
            spawn_caller(node, "im-feed", || feed.run())?,
            spawn_caller(node, "im-rosters", || rosters.run())?,
        ];
        if let Some(news) = news_due {
            let slots = Slots::new(node, doors.clone(), news);
            upstream.push(spawn_caller(node, "im-slots", || slots.run())?);
        }
        let acceptor = (door, spawn(node, "im-acceptor", || acceptor.run())?);
        let (watched, stop_watch) = channel();
        let watch = (watched, watch(node, stop_watch)?);
        Ok(Threads { acceptor, reactors: (doors, reactors), upstream, watch })
    }

    /// Stops them in the order in which work flows, and waits for each a bounded time.
    pub(crate) fn stop(self, node: &Node) -> Shutdown {
        let mut stuck = Vec::new();
        give_slots_away(node);
        node.pulse.readiness.stop();
        let (door, acceptor) = self.acceptor;
        let _ = door.push_within(AcceptorCommand::Stop, LAST_CALL);
        stuck.extend(join(node, vec![acceptor], Instant::now() + LAST_CALL));
        let limits = &node.config.limits;
        let drained = Instant::now() + limits.drain_over + limits.drain_grace + LAST_CALL;
        let (doors, reactors) = self.reactors;
        for door in doors.all() {
            let _ = door.push_within(Command::Drain, LAST_CALL);
        }
        stuck.extend(join(node, reactors, drained));
        // After the reactors, because clients that are still to be closed go on getting messages.
        node.stopping.end_feed();
        // What the reactors reported last is sent now, or given up if the broker is away.
        let now = Instant::now();
        node.stopping.end_calls(now + limits.linger.min(LAST_REPORTS), now + LAST_REPORTS);
        stuck.extend(join(node, self.upstream, now + LAST_REPORTS + LAST_CALL));
        let (watched, watch) = self.watch;
        drop(watched);
        let _ = watch.join();
        node.pulse.failure.end();
        // A thread that has failed may have had something to report.
        let reported = node.stopping.is_reported() && node.pulse.failure.get().is_none();
        Shutdown { reported, stuck }
    }
}

/// Waits until other nodes have taken over this node's clients, if there are any that can, for as long as its drain may take.
fn give_slots_away(node: &Node) {
    let limits = &node.config.limits;
    if node.config.slots == 0 || limits.drain_over.is_zero() {
        return;
    }
    node.stopping.drain();
    let until = Instant::now() + limits.drain_over + limits.drain_grace;
    while Instant::now() < until && !node.placement().is_left_by(&node.name) {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a thread that the node cannot do without.
fn spawn(
    node: &Arc<Node>,
    name: &str,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (pulse, thread) = (Arc::clone(&node.pulse), name.to_owned());
    let beat = pulse.heartbeats.add(name);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if !beat.during(|| pulse.failure.guard(&thread, run)) {
            pulse.readiness.fail();
        }
    })
}

/// Starts one that calls the broker, whose errors it lives with.
fn spawn_caller(
    node: &Arc<Node>,
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    spawn(node, name, || {
        run();
        Ok(())
    })
}

/// Starts the thread that looks whether all others turn.
fn watch(node: &Arc<Node>, stop: Receiver<()>) -> io::Result<JoinHandle<()>> {
    let pulse = Arc::clone(&node.pulse);
    let mut refusals = Refusals::default();
    thread::Builder::new().name("im-watch".into()).spawn(move || {
        pulse.heartbeats.watch(&stop, |stalled| {
            pulse.readiness.set_stalled(stalled);
            if let Some(text) = refusals.look(pulse.refused(), Instant::now()) {
                log::info!("{text}");
            }
        });
    })
}

/// Waits for the end of some threads until `deadline`; names those that have not ended by then, which is a failure.
fn join(node: &Node, mut threads: Vec<JoinHandle<()>>, deadline: Instant) -> Vec<String> {
    while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    let stuck = threads.extract_if(.., |thread| !thread.is_finished());
    let names = stuck.map(|thread| thread.thread().name().unwrap_or_default().to_owned());
    let names: Vec<_> = names.collect();
    for name in &names {
        node.pulse.failure.fail(format!("{name} does not end and is left behind"));
    }
    for ended in threads {
        // Threads catch their own panics.
        let _ = ended.join();
    }
    names
}
