//! The thread that takes tickets for the acceptor and says whom they let in.
//!
//! Takes whatever queued up during its last round trip as one batch. Ends when its queue has no sender any
//! more.

use std::{
    sync::{Arc, mpsc::Receiver},
    time::Instant,
};

use super::batch::{LONG, Work, collect};
use crate::{
    broker::TakenTicket,
    id::IdKind,
    placement::Placement,
    server::{
        heartbeat,
        inbox::InboxSender,
        message::{AcceptorCommand, Admission, TicketJob},
        node::Node,
        reasons::Refusal,
        stats::calls::Call,
    },
    throttle::Throttle,
    wire::Ticket,
};

static MISDIRECTED: Throttle = Throttle::new();
static OTHER_KIND: Throttle = Throttle::new();

/// What the ticket thread works with.
pub(crate) struct Tickets {
    node: Arc<Node>,
    queue: Receiver<TicketJob>,
    acceptor: InboxSender<AcceptorCommand>,
    /// Which ids may connect.
    ids: IdKind,
}

impl Tickets {
    pub(crate) fn new(
        node: &Arc<Node>,
        queue: Receiver<TicketJob>,
        acceptor: InboxSender<AcceptorCommand>,
    ) -> Self {
        Tickets { node: Arc::clone(node), queue, acceptor, ids: node.ids() }
    }

    /// Runs until the acceptor has ended.
    pub(crate) fn run(self) {
        let mut jobs = Vec::new();
        loop {
            match collect(&self.queue, &mut jobs, LONG) {
                Work::Batch => {}
                Work::Idle => continue,
                Work::Ended => return,
            }
            if !self.answer(&mut jobs) {
                return;
            }
        }
    }

    /// Answers all of `jobs`; false if the acceptor has ended.
    fn answer(&self, jobs: &mut Vec<TicketJob>) -> bool {
        let (handshakes, tokens): (Vec<_>, Vec<_>) =
            jobs.drain(..).map(|job| (job.handshake, job.token)).unzip();
        let at = Instant::now();
        let take = || self.node.broker.take_tickets(&self.node.name, &tokens);
        let taken = self.node.pulse.time(Call::Tickets, take);
        let taken = taken.unwrap_or_else(|error| {
            log::debug!("tickets cannot be taken: {error}");
            Vec::new()
        });
        let outcomes: Vec<_> = (0..tokens.len())
            .map(|index| match taken.get(index) {
                None => Err(Refusal::NoBroker),
                Some(None) => Err(Refusal::BadToken),
                Some(Some(taken)) => self.admit(&tokens[index], taken, at),
            })
            .collect();
        let misdirected = outcomes.iter().zip(&tokens).zip(&taken).filter_map(|((o, token), t)| {
            let taken = t.as_ref().filter(|_| matches!(o, Err(Refusal::OtherNode)))?;
            Some((token.as_str(), taken))
        });
        self.put_back(&misdirected.collect::<Vec<_>>());
        handshakes.into_iter().zip(outcomes).all(|(handshake, outcome)| {
            self.acceptor.push(AcceptorCommand::Verdict { handshake, outcome }).is_ok()
        })
    }

    /// Whether the ticket of `token`, which was taken at `at`, lets its client in here, and if not, why.
    fn admit(&self, token: &str, taken: &TakenTicket, at: Instant) -> Result<Admission, Refusal> {
        let ticket = Ticket::parse(&taken.text).ok_or(Refusal::BadTicket)?;
        let client = ticket.client();
        if let Err(error) = self.ids.check(client) {
            if let Some(more) = OTHER_KIND.admit("") {
                log::warn!(client:% = client; "client={client} is refused: {error}{more}");
            }
            return Err(Refusal::OtherKind);
        }
        let placement = self.node.placement();
        let mut owner = placement.owner(client).unwrap_or_default().to_owned();
        if owner != self.node.name && placement.version().is_some() {
            // A client that follows a change may be faster than the news of it.
            if let Ok(Some(table)) = heartbeat::call(|| self.node.broker.slot_table()) {
                owner = Placement::slots(table).owner(client).unwrap_or_default().to_owned();
            }
        }
        if owner == self.node.name {
            return match self.node.kicks.void(client, at, taken.left) {
                true => Err(Refusal::Kicked),
                false => Ok(Admission { ticket: ticket.taken_with(token), taken: at }),
            };
        }
        let (owner, own) = (&*owner, &*self.node.name);
        if let Some(more) = MISDIRECTED.admit(&format!("{owner} {own}")) {
            log::warn!(
                client:% = client, owner, node = own;
                "client={client} belongs to node {owner} but came to {own}; the servers lists of helper and \
                 nodes differ, or a proxy mixes the nodes up{more}"
            );
        }
        Err(Refusal::OtherNode)
    }

    /// Before those who brought them are answered: some try again at once, and perhaps at the right node.
    fn put_back(&self, tickets: &[(&str, &TakenTicket)]) {
        if tickets.is_empty() {
            return;
        }
        let put_back = || self.node.broker.return_tickets(&self.node.name, tickets);
        let result = self.node.pulse.time(Call::Tickets, put_back);
        if let Err(error) = result {
            log::debug!("tickets of clients of other nodes cannot be put back: {error}");
        }
    }
}
