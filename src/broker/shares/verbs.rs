//! The verbs of the contract over several Redis: whose part of a call is whose, and what the answers come to.
//!
//! Called on any thread. Each part is one call to one Redis; all parts of a call are under way at the same time.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Held, LONG_PATIENCE, PATIENCE, Shares,
    absent::no_slots,
    events::SharesEvents,
    node_of,
    spread::{Part, done, parts},
};
use crate::{
    broker::contract::{
        Broker, Bus, Directory, EventSubscription, FeedStart, Former, JoinLimits, NodeBroker, Page,
        PresenceChange, Requests, Session, Subscription, TakenTicket, Telling, Undelivered,
        Watchlist, sealed::Sealed,
    },
    error::Result,
    id::{ClientId, IdKind},
    slots::slot,
    wire::{Envelope, NodeStatus, Ticket},
};

impl Sealed for Shares {}

impl Broker for Shares {
    fn describe(&self) -> String {
        let mut addresses: Vec<_> = self.all.iter().map(|held| held.broker.describe()).collect();
        // All shares of a cluster have the same.
        addresses.dedup();
        addresses.join(",")
    }

    fn examine(&self) -> Result<String> {
        let mut found = self.all(Broker::examine).into_iter().collect::<Result<Vec<_>>>()?;
        found.dedup();
        Ok(found.join("; "))
    }

    fn id_kind(&self) -> IdKind {
        self.all[0].broker.id_kind()
    }
}

impl NodeBroker for Shares {
    fn take_tickets(&self, node: &str, tokens: &[String]) -> Result<Vec<Option<TakenTicket>>> {
        self.of_node(node)?.take_tickets(node, tokens)
    }

    fn return_tickets(&self, node: &str, tickets: &[(&str, &TakenTicket)]) -> Result<()> {
        self.of_node(node)?.return_tickets(node, tickets)
    }

    fn begin_session(&self, node: &str, lease: Duration, supersede: bool) -> Result<Session> {
        self.of_node(node)?.begin_session(node, lease, supersede)
    }

    fn take_over_session(
        &self,
        node: &str,
        lease: Duration,
        own: Option<&Session>,
    ) -> Result<Option<Former>> {
        self.of_node(node)?.take_over_session(node, lease, own)
    }

    fn keep_session(
        &self,
        session: &Session,
        key: &[u8; 16],
        keep: Duration,
        grace: Duration,
    ) -> Result<()> {
        self.of_session(session)?.keep_session(session, key, keep, grace)
    }

    fn renew(&self, session: &Session, status: &NodeStatus) -> Result<()> {
        self.of_session(session)?.renew(session, status)
    }

    fn report(&self, session: &mut Session, changes: &[PresenceChange]) -> Result<()> {
        self.of_session(session)?.report(session, changes)
    }

    fn end_session(&self, session: &Session) -> Result<()> {
        self.of_session(session)?.end_session(session)
    }

    fn discard_session(&self, session: &Session) -> Result<()> {
        self.of_session(session)?.discard_session(session)
    }

    fn lapsed(&self) -> Result<Vec<String>> {
        let lapsed =
            self.reached("dead nodes are not looked for", PATIENCE, |_, broker| broker.lapsed())?;
        let trusted = lapsed.into_iter().filter(|(share, _)| self.all[*share].is_trusted());
        Ok(trusted.flat_map(|(_, lapsed)| lapsed).collect())
    }

    fn end_lapsed(&self, sessions: &[String]) -> Result<Vec<String>> {
        // Who is not in the list may be anywhere.
        let may_be = |share, session: &str| {
            self.share_of_node(node_of(session)).map_or(true, |other| other == share)
        };
        let on = |share| sessions.iter().filter(move |session| may_be(share, session)).cloned();
        let all: Vec<Vec<_>> = (0..self.all.len()).map(|share| on(share).collect()).collect();
        let ended = self.reached("dead nodes are not ended", PATIENCE, move |share, broker| {
            match &all[share][..] {
                [] => Ok(Vec::new()),
                sessions => broker.end_lapsed(sessions),
            }
        })?;
        Ok(ended.into_iter().flat_map(|(_, ended)| ended).collect())
    }

    /// Up to `limit` on each.
    fn reap(&self, limit: usize) -> Result<usize> {
        let reaped =
            self.reached("nothing is cleared away", PATIENCE, move |_, broker| broker.reap(limit))?;
        Ok(reaped.into_iter().map(|(_, count)| count).sum())
    }

    fn leave_overdue(&self) -> Result<bool> {
        let more = self.reached("no overdue memberships are ended", PATIENCE, |_, broker| {
            broker.leave_overdue()
        })?;
        Ok(more.into_iter().any(|(_, more)| more))
    }

    fn rejoin(&self, clients: &[ClientId]) -> Result<usize> {
        let share = |client: &ClientId| slot(client, self.all.len());
        let mut joined = 0;
        for run in clients.chunk_by(|one, next| share(one) == share(next)) {
            let done = self.of_client(&run[0]).rejoin(run)?;
            joined += done;
            if done < run.len() {
                break;
            }
        }
        Ok(joined)
    }

    /// At first what is of the node's own Redis, in one step with what is settled. Receipts for clients on others are told then,
    /// once: those of a Redis that is away are dropped, as their clients hear nothing now.
    fn tell(&self, node: &str, telling: &Telling<'_>) -> Result<()> {
        let own = self.share_of_node(node)?;
        let (receipts, others): (Vec<_>, Vec<_>) = telling
            .receipts
            .iter()
            .cloned()
            .partition(|(to, _)| self.share_of_node(to).is_ok_and(|share| share == own));
        let receipts = &receipts[..];
        self.all[own].broker.tell(node, &Telling { receipts, ..*telling })?;
        let parts = self.of_outgoing(&others)?.into_iter();
        let jobs = parts.map(|part| (Arc::clone(&self.all[part.share]), part.items));
        // Failures are said in the log: nobody could do anything about them.
        self.each_reached("receipts are dropped", PATIENCE, jobs.collect(), publish);
        Ok(())
    }

    fn tell_undelivered(&self, node: &str, undelivered: &[Undelivered<'_>]) -> Result<()> {
        self.of_node(node)?.tell_undelivered(node, undelivered)
    }

    fn settled(&self, node: &str) -> Result<HashSet<(u64, ClientId)>> {
        self.of_node(node)?.settled(node)
    }

    fn subscribe(
        &self,
        node: &str,
        watchlist: Arc<Watchlist>,
        start: FeedStart,
    ) -> Box<dyn Subscription> {
        // A node that is in no list has no session, and so no clients.
        let broker = self.of_node(node).unwrap_or(&self.all[0].broker);
        broker.subscribe(node, watchlist, start)
    }
}

impl Directory for Shares {
    fn put_ticket(&self, token: &str, ticket: &Ticket, life: Duration) -> Result<()> {
        self.of_client(ticket.client()).put_ticket(token, ticket, life)
    }

    fn void_tickets(&self, client: &ClientId) -> Result<()> {
        self.of_client(client).void_tickets(client)
    }

    fn online_clients(&self) -> Result<Vec<ClientId>> {
        flat(self.all(Directory::online_clients))
    }

    fn online_page(&self, after: Option<&str>, limit: usize) -> Result<Page<ClientId>> {
        self.page(after, limit, |broker, after, limit| broker.online_page(after, limit))
    }

    fn are_online(&self, clients: &[ClientId]) -> Result<Vec<bool>> {
        self.of_each(clients, |broker, clients| broker.are_online(clients))
    }

    /// Of a Redis that is away no lease can be said to stand.
    fn statuses(&self) -> Result<Vec<(String, Option<NodeStatus>)>> {
        let all =
            self.reached("nodes are not seen", LONG_PATIENCE, |_, broker| broker.statuses())?;
        Ok(all.into_iter().flat_map(|(_, statuses)| statuses).collect())
    }

    fn connections_of(&self, client: &ClientId, node: &str) -> Result<Vec<(u64, Ticket)>> {
        self.of_client(client).connections_of(client, node)
    }

    fn connections_page(
        &self,
        client: &ClientId,
        node: &str,
        after: Option<&str>,
    ) -> Result<Page<(u64, Ticket)>> {
        self.of_client(client).connections_page(client, node, after)
    }

    fn subscribe_events(&self) -> Box<dyn EventSubscription> {
        let all = self.all.iter().map(|held| held.broker.subscribe_events()).collect();
        Box::new(SharesEvents::new(all))
    }

    fn join_within(&self, memberships: &[(ClientId, &str)], limits: &JoinLimits) -> Result<()> {
        let (parts, limits) = (self.of_members(memberships)?, limits.clone());
        let join = move |held: &Held, all: Vec<_>| held.broker.join_within(&lent(&all), &limits);
        done(self.each_part(parts, join)).map(drop)
    }

    fn leave(&self, memberships: &[(ClientId, &str)]) -> Result<()> {
        let parts = self.of_members(memberships)?;
        let leave = |held: &Held, all: Vec<_>| held.broker.leave(&lent(&all));
        done(self.each_part(parts, leave)).map(drop)
    }

    fn channel_members(&self, channel: &str) -> Result<Vec<ClientId>> {
        let channel = channel.to_owned();
        flat(self.all(move |broker| broker.channel_members(&channel)))
    }

    fn members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>> {
        let channel = channel.to_owned();
        self.page(after, limit, move |broker, after, limit| {
            broker.members_page(&channel, after, limit)
        })
    }

    fn clear_channel(&self, channel: &str) -> Result<()> {
        let channel = channel.to_owned();
        done(self.all(move |broker| broker.clear_channel(&channel))).map(drop)
    }

    fn channels(&self) -> Result<Vec<(String, i64)>> {
        let mut sums = BTreeMap::new();
        for (channel, size) in flat(self.all(Directory::channels))? {
            *sums.entry(channel).or_default() += size;
        }
        Ok(sums.into_iter().collect())
    }

    /// A channel comes once for each Redis that has members of it, each time with the number of all.
    fn channels_page(&self, after: Option<&str>, limit: usize) -> Result<Page<(String, i64)>> {
        let mut page =
            self.page(after, limit, |broker, after, limit| broker.channels_page(after, limit))?;
        let names: Vec<_> = page.items.iter().map(|(channel, _)| channel.as_str()).collect();
        let sizes = self.channel_sizes(&names)?;
        for ((_, size), sum) in page.items.iter_mut().zip(sizes) {
            *size = sum;
        }
        Ok(page)
    }

    fn channels_of(&self, clients: &[ClientId]) -> Result<Vec<Vec<String>>> {
        self.of_each(clients, |broker, clients| broker.channels_of(clients))
    }

    fn channel_sizes(&self, channels: &[&str]) -> Result<Vec<i64>> {
        let mut sums = vec![0; channels.len()];
        let names: Vec<_> = channels.iter().map(|channel| (*channel).to_owned()).collect();
        for sizes in self.all(move |broker| {
            broker.channel_sizes(&names.iter().map(String::as_str).collect::<Vec<_>>())
        }) {
            sums.iter_mut().zip(sizes?).for_each(|(sum, size)| *sum += size);
        }
        Ok(sums)
    }
}

impl Bus for Shares {
    fn publish(&self, outgoing: &[(&str, Envelope)]) -> Result<()> {
        let Some((first, _)) = outgoing.first() else { return Ok(()) };
        let share = self.share_of_node(first)?;
        let is_there = |(node, _): &(&str, _)| self.share_of_node(node).is_ok_and(|s| s == share);
        if outgoing.iter().all(is_there) {
            return self.all[share].broker.publish(outgoing);
        }
        done(self.each_part(self.of_outgoing(outgoing)?, publish)).map(drop)
    }

    fn publish_by(&self, _version: u64, _outgoing: &[(&str, Envelope)]) -> Result<usize> {
        Err(no_slots())
    }
}

impl Requests for Shares {
    fn claim(&self, key: &str, claim: &str, life: Duration) -> Result<Option<String>> {
        self.of_request(key).claim(key, claim, life)
    }

    fn complete(&self, key: &str, claim: &str, outcome: &str, life: Duration) -> Result<bool> {
        self.of_request(key).complete(key, claim, outcome, life)
    }
}

impl Shares {
    /// Messages, each with those to nodes of the same Redis.
    fn of_outgoing(&self, outgoing: &[(&str, Envelope)]) -> Result<Vec<Part<(String, Envelope)>>> {
        let own = |(node, envelope): &(&str, Envelope)| ((*node).to_owned(), envelope.clone());
        parts(outgoing, self.all.len(), |(node, _)| self.share_of_node(node), own)
    }
}

fn publish(held: &Held, outgoing: Vec<(String, Envelope)>) -> Result<()> {
    let (nodes, envelopes): (Vec<_>, Vec<_>) = outgoing.into_iter().unzip();
    let lent: Vec<_> = nodes.iter().map(String::as_str).zip(envelopes).collect();
    held.broker.publish(&lent)
}

fn lent(memberships: &[(ClientId, String)]) -> Vec<(ClientId, &str)> {
    memberships.iter().map(|(client, channel)| (client.clone(), channel.as_str())).collect()
}

/// All items of all lists.
fn flat<T>(lists: Vec<Result<Vec<T>>>) -> Result<Vec<T>> {
    Ok(lists.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}
