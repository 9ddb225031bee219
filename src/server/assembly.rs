//! Makes the parts of a node, connects them and starts their threads. Called once, by `Server::start`.

use std::{
    cell::Cell,
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use mio::{Poll, net};

use super::{
    ServerHandle, Threads,
    acceptor::{self, Acceptor, head::Rules},
    config::{PeerAddress, ServerConfig},
    connection::receipt::{DueNotices, Notices, notices},
    failure::FailureWatch,
    heartbeat::Heartbeats,
    inbox::{InboxSender, Reactors, inbox},
    kicks::Kicks,
    message::{AcceptorCommand, Report, TicketJob},
    reactor::{self, Reactor, ReactorParts},
    readiness::Readiness,
    stats::{
        counters::Counters,
        refusals::Refusals,
        vitals::{Pulse, Vitals},
    },
    transport::tls::Tls,
    upstream::{feed::Feed, patience::Patience, presence::Presence, receipts, tickets::Tickets},
};
use crate::{
    broker::{Broker, Watchlist},
    placement::Placement,
    throttle::Throttle,
};

/// Commands that may wait for a loop.
const QUEUE: usize = 8192;

/// What the parts of a node share.
pub(crate) struct Assembly {
    config: ServerConfig,
    placement: Placement,
    own: String,
    tls: Option<Tls>,
    broker: Arc<dyn Broker>,
    readiness: Arc<Readiness>,
    failure: FailureWatch,
    watchlist: Arc<Watchlist>,
    live: Arc<AtomicU64>,
    kicks: Arc<Kicks>,
    stop_feed: Arc<AtomicBool>,
    give_up: Arc<Patience>,
    heartbeats: Heartbeats,
    counters: Vec<Arc<Counters>>,
    pulse: Arc<Pulse>,
}

impl Assembly {
    pub(crate) fn new(
        config: ServerConfig,
        placement: Placement,
        own: String,
        tls: Option<Tls>,
        broker: Arc<dyn Broker>,
    ) -> Self {
        Assembly {
            config,
            placement,
            own,
            tls,
            broker,
            readiness: Arc::default(),
            failure: FailureWatch::default(),
            watchlist: Arc::default(),
            live: Arc::default(),
            kicks: Arc::default(),
            stop_feed: Arc::default(),
            give_up: Arc::default(),
            heartbeats: Heartbeats::default(),
            counters: Vec::new(),
            pulse: Arc::default(),
        }
    }

    /// Starts all threads: those that others send to first.
    pub(crate) fn start(
        mut self,
        listener: TcpListener,
        bound: SocketAddr,
    ) -> io::Result<ServerHandle> {
        let (presence_sender, presence_queue) = channel();
        let (publisher, publisher_queue) = notices();
        let (tickets, ticket_queue) = channel();
        let mut threads = Threads::default();
        let mut doors = Vec::new();
        for index in 0..self.config.reactors {
            let (parts, door) = self.reactor(presence_sender.clone(), publisher.clone())?;
            doors.push(door);
            let name = format!("im-reactor-{index}");
            threads.reactors.push(self.spawn(&name, || Reactor::new(parts).run())?);
        }
        // The workers end with their last sender.
        drop((presence_sender, publisher));
        let reactors = Reactors::new(doors);
        let (acceptor, acceptor_door) = self.acceptor(listener, tickets, &reactors)?;
        threads.workers.push(self.publisher(publisher_queue)?);
        threads.workers.push(self.tickets(ticket_queue, acceptor_door.clone())?);
        let feed = self.feed(&reactors);
        let vitals = self.vitals(&reactors);
        let presence = self.presence(presence_queue, vitals.clone());
        threads.workers.push(self.spawn("im-presence", || {
            presence.run();
            Ok(())
        })?);
        threads.feed = Some(self.spawn("im-feed", || {
            feed.run();
            Ok(())
        })?);
        threads.acceptor = Some(self.spawn("im-acceptor", || acceptor.run())?);
        let (watched, stop_watch) = channel();
        threads.watch = Some(self.watch(stop_watch, vitals.clone())?);
        Ok(ServerHandle {
            bound,
            node: self.own.clone(),
            limits: self.config.limits,
            readiness: self.readiness,
            failure: self.failure,
            vitals,
            tls: self.tls,
            acceptor: acceptor_door,
            reactors,
            stop_feed: self.stop_feed,
            give_up: self.give_up,
            watched: Some(watched),
            threads,
        })
    }

    fn reactor(
        &mut self,
        presence: Sender<Report>,
        publisher: Notices,
    ) -> io::Result<(ReactorParts, InboxSender<super::message::Command>)> {
        let poll = Poll::new()?;
        let (door, inbox) = inbox(&poll, reactor::WAKE, QUEUE)?;
        let parts = ReactorParts {
            poll,
            inbox,
            presence,
            publisher,
            watchlist: Arc::clone(&self.watchlist),
            limits: self.config.limits.clone(),
            echo: self.config.echo,
            counters: self.counted(),
            live: Arc::clone(&self.live),
        };
        Ok((parts, door))
    }

    fn acceptor(
        &mut self,
        listener: TcpListener,
        tickets: Sender<TicketJob>,
        reactors: &Reactors,
    ) -> io::Result<(Acceptor, InboxSender<AcceptorCommand>)> {
        let poll = Poll::new()?;
        let (door, inbox) = inbox(&poll, acceptor::WAKE, QUEUE)?;
        let acceptor = Acceptor {
            poll,
            inbox,
            listener: net::TcpListener::from_std(listener),
            rules: Rules {
                path: self.config.path.clone(),
                origins: self.config.origins.clone(),
                head_bytes: self.config.limits.head_bytes,
                forwarded: self.config.peer_address == PeerAddress::ForwardedFor,
            },
            peer_address: self.config.peer_address,
            tls: self.tls.clone(),
            limits: self.config.limits.clone(),
            full: Cell::new(false),
            starved: Cell::new(false),
            tickets,
            asked: Cell::new(0),
            kicks: Arc::clone(&self.kicks),
            reactors: reactors.clone(),
            readiness: Arc::clone(&self.readiness),
            counters: self.counted(),
            live: Arc::clone(&self.live),
        };
        Ok((acceptor, door))
    }

    fn feed(&mut self, reactors: &Reactors) -> Feed {
        let node = &*self.own;
        Feed {
            subscription: self.broker.subscribe(node, Arc::clone(&self.watchlist)),
            node: node.to_owned(),
            reactors: reactors.clone(),
            readiness: Arc::clone(&self.readiness),
            stop: Arc::clone(&self.stop_feed),
            receipt_content: self.config.limits.receipt_content_bytes,
            said: Throttle::new(),
            pulse: Arc::clone(&self.pulse),
            counters: self.counted(),
            kicks: Arc::clone(&self.kicks),
        }
    }

    /// Once all counters are given out.
    fn vitals(&self, reactors: &Reactors) -> Vitals {
        Vitals {
            readiness: Arc::clone(&self.readiness),
            failure: self.failure.clone(),
            counters: self.counters.clone().into(),
            inboxes: reactors.all().iter().map(InboxSender::depth).collect(),
            tls: self.tls.clone(),
            pulse: Arc::clone(&self.pulse),
            heartbeats: self.heartbeats.clone(),
            connections_limit: self.config.limits.connections as u64,
        }
    }

    fn presence(&self, queue: Receiver<Report>, vitals: Vitals) -> Presence {
        Presence {
            broker: Arc::clone(&self.broker),
            node: self.own.clone(),
            lease: self.config.limits.lease,
            queue,
            vitals,
            give_up: Arc::clone(&self.give_up),
        }
    }

    fn publisher(&mut self, queue: DueNotices) -> io::Result<JoinHandle<()>> {
        let (broker, placement) = (Arc::clone(&self.broker), self.placement.clone());
        let (counters, pulse) = (self.counted(), Arc::clone(&self.pulse));
        let give_up = Arc::clone(&self.give_up);
        self.spawn("im-receipts", move || {
            receipts::run_publisher(&*broker, &queue, &placement, &counters, &pulse, &give_up);
            Ok(())
        })
    }

    fn tickets(
        &self,
        queue: Receiver<TicketJob>,
        acceptor: InboxSender<AcceptorCommand>,
    ) -> io::Result<JoinHandle<()>> {
        let tickets = Tickets {
            broker: Arc::clone(&self.broker),
            queue,
            acceptor,
            placement: self.placement.clone(),
            own: self.own.clone(),
            kicks: Arc::clone(&self.kicks),
            ids: self.config.ids.unwrap_or_else(|| self.broker.id_kind()),
            pulse: Arc::clone(&self.pulse),
        };
        self.spawn("im-tickets", move || {
            tickets.run();
            Ok(())
        })
    }

    /// Counters for one thread.
    fn counted(&mut self) -> Arc<Counters> {
        let part = Arc::new(Counters::default());
        self.counters.push(Arc::clone(&part));
        part
    }

    /// Starts the thread that looks whether all others turn.
    fn watch(&self, stop: Receiver<()>, vitals: Vitals) -> io::Result<JoinHandle<()>> {
        let (heartbeats, readiness) = (self.heartbeats.clone(), Arc::clone(&self.readiness));
        let mut refusals = Refusals::default();
        thread::Builder::new().name("im-watch".into()).spawn(move || {
            heartbeats.watch(&stop, |stalled| {
                readiness.stalled.store(stalled, Ordering::Release);
                if let Some(text) = refusals.look(vitals.refusals(), Instant::now()) {
                    log::info!("{text}");
                }
            });
        })
    }

    /// Starts a thread that the node cannot do without.
    fn spawn(
        &self,
        name: &str,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let (failure, readiness) = (self.failure.clone(), Arc::clone(&self.readiness));
        let beat = self.heartbeats.add(name);
        let thread = name.to_owned();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            if !beat.during(|| failure.guard(&thread, run)) {
                readiness.failed.store(true, Ordering::Release);
            }
        })
    }
}
