//! The data connection of a feed: what is asked on it, and how the replies are read.
//!
//! Its key tracking is redirected to the listener: while it answers, no change goes unnoticed. Keeps no state
//! of the feed; once a call has failed, it must be replaced.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};

use crate::{
    broker::redis::{
        backend::Backend,
        link::{connection::Link, error, reply},
    },
    error::{Error, ErrorKind, Result},
    id::ClientId,
    wire::Envelope,
};

pub(super) struct Data {
    pub(super) backend: Arc<Backend>,
    pub(super) link: Link,
}

impl Data {
    /// Opens a connection and sends `track` on it, which must succeed.
    pub(super) fn open(backend: &Arc<Backend>, track: Option<&Cmd>) -> Result<Self> {
        let connector = &backend.connector;
        let mut link = connector.connect(connector.connect_deadline())?;
        let Some(track) = track else { return Ok(Data { backend: Arc::clone(backend), link }) };
        let reply = link
            .ask(track, connector.call_deadline())
            .map_err(|error| error::connect_failed(&connector.address, error))?;
        match error::of_reply(&connector.address, &reply) {
            Some(error) => Err(error),
            None => Ok(Data { backend: Arc::clone(backend), link }),
        }
    }

    /// One command and its reply, which may be an error of Redis.
    pub(super) fn ask(&mut self, command: &Cmd) -> Result<Value> {
        let connector = &self.backend.connector;
        let reply = self.link.ask(command, connector.call_deadline());
        reply.map_err(|error| error::call_failed(&connector.address, error))
    }

    /// Publishes `probe` to `topic`, that of the node called `node`. With `count` that is one transaction with a look at how
    /// many messages were published to the node before, which is returned.
    ///
    /// Fails if the subscription that it is for is not there.
    pub(super) fn probe(
        &mut self,
        node: &str,
        topic: &str,
        probe: &Envelope,
        count: bool,
    ) -> Result<Option<u64>> {
        let mut pipeline = redis::pipe();
        if count {
            pipeline.atomic();
            pipeline.cmd("HGET").arg(self.backend.layout.published_key()).arg(node);
        }
        pipeline.cmd("PUBLISH").arg(topic).arg(probe.encode());
        // Within a transaction each command is answered twice: MULTI, two QUEUED, then the replies.
        let answers = if count { 4 } else { 1 };
        let mut replies = self.exchange(&pipeline, answers)?;
        let address = &self.backend.connector.address;
        if let Some(error) = replies.iter().find_map(|reply| error::of_reply(address, reply)) {
            return Err(error);
        }
        let mut last = replies.pop().unwrap_or(Value::Nil);
        let mut published = None;
        if count {
            let mut results = reply::items(last).into_iter();
            published = results.next().map(|count| reply::number(count).max(0) as u64);
            last = results.next().unwrap_or(Value::Nil);
        }
        self.check_heard(reply::number(last))?;
        Ok(published)
    }

    /// Fails if nobody heard a probe.
    pub(super) fn check_heard(&self, heard: i64) -> Result<()> {
        if heard != 0 {
            return Ok(());
        }
        let address = &self.backend.connector.address;
        let detail = format!("Redis at {address} no longer knows the node's subscription");
        Err(Error::new(ErrorKind::Unavailable, detail))
    }

    /// The error that a reply is.
    pub(super) fn refusal(&self, reply: &Value) -> Option<Error> {
        error::of_reply(&self.backend.connector.address, reply)
    }

    /// Reads the channels of each of `clients`, then sends `mark`: what was read is older than that. The reply
    /// to it comes last.
    pub(super) fn channels(
        &mut self,
        clients: &[ClientId],
        mark: Cmd,
    ) -> Result<(Vec<Vec<String>>, Value)> {
        let mut pipeline = Pipeline::with_capacity(clients.len() + 1);
        for client in clients {
            pipeline.cmd("HKEYS").arg(self.backend.layout.client_key(client));
        }
        pipeline.add_command(mark);
        let mut replies = self.exchange(&pipeline, clients.len() + 1)?;
        let marked = replies.pop().unwrap_or(Value::Nil);
        Ok((self.lists(replies)?, marked))
    }

    /// The fields of hashes. A key of a foreign type has none; it must not deafen the node for ever.
    fn lists(&self, replies: Vec<Value>) -> Result<Vec<Vec<String>>> {
        for reply in &replies {
            if let Some(error) = self.refusal(reply)
                && !error::is_wrong_type(reply)
            {
                return Err(error);
            }
        }
        Ok(replies.into_iter().map(reply::texts).collect())
    }

    /// Reads the members of each of `channels`, as texts; `mark` as for [`channels`](Self::channels).
    pub(super) fn members(
        &mut self,
        channels: &[String],
        mark: Cmd,
    ) -> Result<(Vec<Vec<String>>, Value)> {
        let mut pipeline = Pipeline::with_capacity(channels.len() + 1);
        for channel in channels {
            pipeline.cmd("HKEYS").arg(self.backend.layout.channel_key(channel));
        }
        pipeline.add_command(mark);
        let mut replies = self.exchange(&pipeline, channels.len() + 1)?;
        let marked = replies.pop().unwrap_or(Value::Nil);
        Ok((self.lists(replies)?, marked))
    }

    pub(super) fn exchange(&mut self, pipeline: &Pipeline, answers: usize) -> Result<Vec<Value>> {
        let connector = &self.backend.connector;
        let packed = pipeline.get_packed_pipeline();
        self.link
            .exchange(&packed, answers, connector.call_deadline())
            .map_err(|error| error::call_failed(&connector.address, error))
    }
}
