//! A WebSocket echo server made of imcore's own acceptor and reactors, for conformance suites.
//!
//! `cargo run --release --example echo -- 127.0.0.1:9001`, then point the suite at
//! `ws://127.0.0.1:9001/?token=any`. Any token will do, any number of times; messages up to 64 MiB.

use std::{collections::HashSet, sync::Arc, thread, time::Duration};

use imcore::{
    ClientId, Error, ErrorKind, NodeStatus, Page, Result, SlotTable, Ticket,
    broker::{
        Abandoned, Broker, Bus, DeadLetter, Directory, Envelope, EventBatch, EventGroup,
        EventReader, EventSubscription, Events, FeedStart, Former, FormerConnection, HandOver,
        JoinLimits, MemoryBroker, Moves, NodeBroker, Past, PresenceChange, Requests, RosterMark,
        RosterNews, Rosters, Session, SlotChange, SlotOrder, Slots, Subscription, TakenTicket,
        Telling, Undelivered, Watchlist, WebhookState, WebhookTurn, Webhooks, sealed::Sealed,
    },
    server::{Limits, Server, ServerConfig},
};

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".into());
    let listen = address.parse().map_err(|error| {
        let detail = format!("{address:?} is not an address like 127.0.0.1:9001");
        Error::new(ErrorKind::Config, detail).with_source(error)
    })?;
    let config = ServerConfig {
        listen,
        path: "/".into(),
        echo: true,
        limits: Limits {
            inbound_message_bytes: 64 << 20,
            inbound_rate: 1 << 30,
            outbox_bytes: 1 << 30,
            outbox_age: Duration::from_secs(120),
            ..Limits::default()
        },
        ..ServerConfig::default()
    };
    let node = Server::start(config, Arc::new(OpenDoor(MemoryBroker::new())))?;
    println!("echoing at ws://{}/?token=any", node.local_addr());
    loop {
        thread::park();
    }
}

/// The in-process broker, with a ticket for every token.
struct OpenDoor(MemoryBroker);

impl Sealed for OpenDoor {}

impl Broker for OpenDoor {
    fn describe(&self) -> String {
        self.0.describe()
    }
}

impl NodeBroker for OpenDoor {
    fn take_tickets(&self, _node: &str, tokens: &[String]) -> Result<Vec<Option<TakenTicket>>> {
        let text = Ticket::new(ClientId::Int(1), None).text().to_owned();
        let taken = TakenTicket { text, left: Duration::from_secs(10) };
        Ok(tokens.iter().map(|_| Some(taken.clone())).collect())
    }

    fn return_tickets(&self, node: &str, tickets: &[(&str, &TakenTicket)]) -> Result<()> {
        self.0.return_tickets(node, tickets)
    }

    fn begin_session(&self, node: &str, lease: Duration, supersede: bool) -> Result<Session> {
        self.0.begin_session(node, lease, supersede)
    }

    fn take_over_session(
        &self,
        node: &str,
        lease: Duration,
        own: Option<&Session>,
    ) -> Result<Option<Former>> {
        self.0.take_over_session(node, lease, own)
    }

    fn keep_session(
        &self,
        session: &Session,
        key: &[u8; 16],
        keep: Duration,
        grace: Duration,
    ) -> Result<()> {
        self.0.keep_session(session, key, keep, grace)
    }

    fn renew(&self, session: &Session, status: &NodeStatus) -> Result<()> {
        self.0.renew(session, status)
    }

    fn report(&self, session: &mut Session, changes: &[PresenceChange]) -> Result<()> {
        self.0.report(session, changes)
    }

    fn end_session(&self, session: &Session) -> Result<()> {
        self.0.end_session(session)
    }

    fn discard_session(&self, session: &Session) -> Result<()> {
        self.0.discard_session(session)
    }

    fn lapsed(&self) -> Result<Vec<String>> {
        self.0.lapsed()
    }

    fn end_lapsed(&self, sessions: &[String]) -> Result<Vec<String>> {
        self.0.end_lapsed(sessions)
    }

    fn reap(&self, limit: usize) -> Result<usize> {
        self.0.reap(limit)
    }

    fn leave_overdue(&self) -> Result<bool> {
        self.0.leave_overdue()
    }

    fn rejoin(&self, clients: &[ClientId]) -> Result<usize> {
        self.0.rejoin(clients)
    }

    fn tell(&self, node: &str, telling: &Telling<'_>) -> Result<()> {
        self.0.tell(node, telling)
    }

    fn tell_undelivered(&self, node: &str, undelivered: &[Undelivered<'_>]) -> Result<()> {
        self.0.tell_undelivered(node, undelivered)
    }

    fn settled(&self, node: &str) -> Result<HashSet<(u64, ClientId)>> {
        self.0.settled(node)
    }

    fn subscribe(
        &self,
        node: &str,
        watchlist: Arc<Watchlist>,
        start: FeedStart,
    ) -> Box<dyn Subscription> {
        self.0.subscribe(node, watchlist, start)
    }
}

impl Directory for OpenDoor {
    fn put_ticket(&self, token: &str, ticket: &Ticket, life: Duration) -> Result<()> {
        self.0.put_ticket(token, ticket, life)
    }

    fn void_tickets(&self, client: &ClientId) -> Result<()> {
        self.0.void_tickets(client)
    }

    fn online_clients(&self) -> Result<Vec<ClientId>> {
        self.0.online_clients()
    }

    fn online_page(&self, after: Option<&str>, limit: usize) -> Result<Page<ClientId>> {
        self.0.online_page(after, limit)
    }

    fn are_online(&self, clients: &[ClientId]) -> Result<Vec<bool>> {
        self.0.are_online(clients)
    }

    fn statuses(&self) -> Result<Vec<(String, Option<NodeStatus>)>> {
        self.0.statuses()
    }

    fn connections_of(&self, client: &ClientId, node: &str) -> Result<Vec<(u64, Ticket)>> {
        self.0.connections_of(client, node)
    }

    fn connections_page(
        &self,
        client: &ClientId,
        node: &str,
        after: Option<&str>,
    ) -> Result<Page<(u64, Ticket)>> {
        self.0.connections_page(client, node, after)
    }

    fn subscribe_events(&self) -> Box<dyn EventSubscription> {
        self.0.subscribe_events()
    }

    fn join_within(&self, memberships: &[(ClientId, &str)], limits: &JoinLimits) -> Result<()> {
        self.0.join_within(memberships, limits)
    }

    fn leave(&self, memberships: &[(ClientId, &str)]) -> Result<()> {
        self.0.leave(memberships)
    }

    fn channel_members(&self, channel: &str) -> Result<Vec<ClientId>> {
        self.0.channel_members(channel)
    }

    fn members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>> {
        self.0.members_page(channel, after, limit)
    }

    fn clear_channel(&self, channel: &str) -> Result<()> {
        self.0.clear_channel(channel)
    }

    fn channels(&self) -> Result<Vec<(String, i64)>> {
        self.0.channels()
    }

    fn channels_page(&self, after: Option<&str>, limit: usize) -> Result<Page<(String, i64)>> {
        self.0.channels_page(after, limit)
    }

    fn channels_of(&self, clients: &[ClientId]) -> Result<Vec<Vec<String>>> {
        self.0.channels_of(clients)
    }

    fn channel_sizes(&self, channels: &[&str]) -> Result<Vec<i64>> {
        self.0.channel_sizes(channels)
    }
}

impl Bus for OpenDoor {
    fn publish(&self, outgoing: &[(&str, Envelope)]) -> Result<()> {
        self.0.publish(outgoing)
    }

    fn publish_by(&self, version: u64, outgoing: &[(&str, Envelope)]) -> Result<usize> {
        self.0.publish_by(version, outgoing)
    }
}

impl Events for OpenDoor {
    fn read_events(
        &self,
        reader: &EventReader,
        limit: usize,
        wait: Duration,
    ) -> Result<EventBatch> {
        self.0.read_events(reader, limit, wait)
    }

    fn acknowledge_events(
        &self,
        reader: &EventReader,
        missed: u64,
        ids: &[String],
    ) -> Result<bool> {
        self.0.acknowledge_events(reader, missed, ids)
    }

    fn leave_events(&self, reader: &EventReader) -> Result<()> {
        self.0.leave_events(reader)
    }

    fn event_groups(&self) -> Result<Vec<EventGroup>> {
        self.0.event_groups()
    }

    fn forget_event_group(&self, group: &str) -> Result<bool> {
        self.0.forget_event_group(group)
    }
}

impl Requests for OpenDoor {
    fn claim(&self, key: &str, claim: &str, life: Duration) -> Result<Option<String>> {
        self.0.claim(key, claim, life)
    }

    fn complete(&self, key: &str, claim: &str, outcome: &str, life: Duration) -> Result<bool> {
        self.0.complete(key, claim, outcome, life)
    }
}

impl Rosters for OpenDoor {
    fn set_roster(&self, channel: &str, on: bool) -> Result<()> {
        self.0.set_roster(channel, on)
    }

    fn rosters(&self, mark: &RosterMark) -> Result<RosterNews> {
        self.0.rosters(mark)
    }
}

impl Slots for OpenDoor {
    fn slot_table(&self) -> Result<Option<SlotTable>> {
        self.0.slot_table()
    }

    fn slot_version(&self) -> Result<u64> {
        self.0.slot_version()
    }

    fn change_slots(
        &self,
        session: &str,
        node: &str,
        version: u64,
        change: &SlotChange<'_>,
    ) -> Result<bool> {
        self.0.change_slots(session, node, version, change)
    }

    fn living(&self) -> Result<Vec<String>> {
        self.0.living()
    }

    fn begin_slots(&self, table: &SlotTable) -> Result<bool> {
        self.0.begin_slots(table)
    }

    fn order(&self, node: &str, order: SlotOrder) -> Result<bool> {
        self.0.order(node, order)
    }
}

impl Moves for OpenDoor {
    fn common_key(&self, proposed: &[u8; 16]) -> Result<[u8; 16]> {
        self.0.common_key(proposed)
    }

    fn hand_over(
        &self,
        session: &Session,
        to: &str,
        from: u64,
        connections: &[u64],
        parcel: &str,
    ) -> Result<HandOver> {
        self.0.hand_over(session, to, from, connections, parcel)
    }

    fn parcels(&self, session: &Session) -> Result<Vec<String>> {
        self.0.parcels(session)
    }

    fn took(&self, session: &Session, count: usize) -> Result<()> {
        self.0.took(session, count)
    }

    fn abandoned(&self) -> Result<Vec<Abandoned>> {
        self.0.abandoned()
    }

    fn abandoned_connections(&self, abandoned: &str) -> Result<Vec<FormerConnection>> {
        self.0.abandoned_connections(abandoned)
    }

    fn take_abandoned(
        &self,
        session: &Session,
        abandoned: &str,
        from: u64,
        connections: &[u64],
    ) -> Result<Vec<u64>> {
        self.0.take_abandoned(session, abandoned, from, connections)
    }

    fn past(&self, node: &str) -> Result<Option<Box<dyn Past>>> {
        self.0.past(node)
    }
}

impl Webhooks for OpenDoor {
    fn hold_webhook(&self, holder: &str, life: Duration) -> Result<WebhookTurn> {
        self.0.hold_webhook(holder, life)
    }

    fn release_webhook(&self, holder: &str) -> Result<()> {
        self.0.release_webhook(holder)
    }

    fn note_webhook(&self, holder: &str, failure: Option<&str>) -> Result<()> {
        self.0.note_webhook(holder, failure)
    }

    fn switch_webhook(&self, off: Option<&str>) -> Result<()> {
        self.0.switch_webhook(off)
    }

    fn webhook_state(&self) -> Result<Option<WebhookState>> {
        self.0.webhook_state()
    }

    fn bury(&self, letter: &DeadLetter) -> Result<()> {
        self.0.bury(letter)
    }

    fn dead_letters(&self, after: Option<&str>, limit: usize) -> Result<Page<DeadLetter>> {
        self.0.dead_letters(after, limit)
    }

    fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>> {
        self.0.dead_letter(id)
    }

    fn replay_dead_letters(&self, ids: &[String]) -> Result<usize> {
        self.0.replay_dead_letters(ids)
    }

    fn next_replay(&self) -> Result<Option<DeadLetter>> {
        self.0.next_replay()
    }

    fn settle_replay(&self, id: &str, delivered: bool) -> Result<()> {
        self.0.settle_replay(id, delivered)
    }

    fn discard_dead_letters(&self, ids: &[String]) -> Result<usize> {
        self.0.discard_dead_letters(ids)
    }
}
