//! The verbs of the contract over several Redis: whose part of a call is whose, and what the answers come to.
//!
//! Called on any thread. Each part is one call to one Redis; all parts of a call are under way at the same time.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Shares,
    absent::no_slots,
    events::SharesEvents,
    node_of,
    spread::{Part, at_once, done, parts},
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
        self.all.iter().map(|held| held.broker.describe()).collect::<Vec<_>>().join(",")
    }

    fn examine(&self) -> Result<String> {
        let mut found = self.all(Broker::examine)?;
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
        let lapsed = self.reached("dead nodes are not looked for", |share, broker| {
            Ok((share, broker.lapsed()?))
        })?;
        let trusted = lapsed.into_iter().filter(|(share, _)| self.all[*share].is_trusted());
        Ok(trusted.flat_map(|(_, lapsed)| lapsed).collect())
    }

    fn end_lapsed(&self, sessions: &[String]) -> Result<Vec<String>> {
        let ended = self.reached("dead nodes are not ended", |share, broker| {
            // Who is not in the list may be anywhere.
            let may_be = |session: &&String| {
                self.share_of_node(node_of(session)).is_ok_and(|other| other == share)
                    || self.share_of_node(node_of(session)).is_err()
            };
            let here: Vec<_> = sessions.iter().filter(may_be).cloned().collect();
            if here.is_empty() { Ok(Vec::new()) } else { broker.end_lapsed(&here) }
        })?;
        Ok(ended.into_iter().flatten().collect())
    }

    /// Up to `limit` on each.
    fn reap(&self, limit: usize) -> Result<usize> {
        let reaped = self.reached("nothing is cleared away", |_, broker| broker.reap(limit))?;
        Ok(reaped.into_iter().sum())
    }

    fn leave_overdue(&self) -> Result<bool> {
        let more =
            self.reached("no overdue memberships are ended", |_, broker| broker.leave_overdue())?;
        Ok(more.contains(&true))
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
        let parts = parts(telling.receipts, self.all.len(), |(to, _)| self.share_of_node(to))?;
        let (own_part, others): (Vec<_>, Vec<_>) =
            parts.into_iter().partition(|part| part.share == own);
        let receipts = own_part.first().map_or(&[][..], |part| &part.items[..]);
        self.all[own].broker.tell(node, &Telling { receipts, ..*telling })?;
        at_once(&others, |part| {
            let held = &self.all[part.share];
            if held.is_left_alone() {
                return;
            }
            match held.broker.publish(&part.items) {
                Ok(()) => held.works(),
                Err(error) => held.fails("receipts are dropped", &error),
            }
        });
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
        Ok(self.all(Directory::online_clients)?.concat())
    }

    fn online_page(&self, after: Option<&str>, limit: usize) -> Result<Page<ClientId>> {
        self.page(after, limit, |broker, after, limit| broker.online_page(after, limit))
    }

    fn are_online(&self, clients: &[ClientId]) -> Result<Vec<bool>> {
        self.of_each(clients, |broker, clients| broker.are_online(clients))
    }

    /// Of a Redis that is away no lease can be said to stand.
    fn statuses(&self) -> Result<Vec<(String, Option<NodeStatus>)>> {
        let all = self.reached("nodes are not seen", |_, broker| broker.statuses())?;
        Ok(all.into_iter().flatten().collect())
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
        let parts = self.by_client(memberships, |(client, _)| client);
        let join = |part: &Part<_>| self.all[part.share].broker.join_within(&part.items, limits);
        done(at_once(&parts, join)).map(drop)
    }

    fn leave(&self, memberships: &[(ClientId, &str)]) -> Result<()> {
        let parts = self.by_client(memberships, |(client, _)| client);
        done(at_once(&parts, |part| self.all[part.share].broker.leave(&part.items))).map(drop)
    }

    fn channel_members(&self, channel: &str) -> Result<Vec<ClientId>> {
        Ok(self.all(|broker| broker.channel_members(channel))?.concat())
    }

    fn members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>> {
        self.page(after, limit, |broker, after, limit| broker.members_page(channel, after, limit))
    }

    fn clear_channel(&self, channel: &str) -> Result<()> {
        done(at_once(&self.all, |held| held.broker.clear_channel(channel))).map(drop)
    }

    fn channels(&self) -> Result<Vec<(String, i64)>> {
        let mut sums = BTreeMap::new();
        for (channel, size) in self.all(Directory::channels)?.into_iter().flatten() {
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
        for sizes in self.all(|broker| broker.channel_sizes(channels))? {
            sums.iter_mut().zip(sizes).for_each(|(sum, size)| *sum += size);
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
        let parts = parts(outgoing, self.all.len(), |(node, _)| self.share_of_node(node))?;
        done(at_once(&parts, |part| self.all[part.share].broker.publish(&part.items))).map(drop)
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
