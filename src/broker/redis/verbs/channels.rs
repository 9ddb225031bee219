//! Who is in which channel, and who is online: what the business asks about single clients and channels.
//!
//! Called by helpers, and by a node that restores memberships. Whole lists and their pages are in `lists`.

use redis::{Pipeline, Value};

use super::{millis, scripts};
use crate::{
    broker::{
        contract::JoinLimits,
        redis::{
            backend::Backend,
            link::{PIPELINE, error, reply},
        },
    },
    error::Result,
    id::ClientId,
};

/// Members looked at by one run of the clearing script.
const CLEAR_CHUNK: usize = 100;

/// What a script answers that was not allowed to publish whose channels it has changed.
const UNTOLD: Value = Value::Int(2);

impl Backend {
    pub(crate) fn join_within(
        &self,
        memberships: &[(ClientId, &str)],
        limits: &JoinLimits,
    ) -> Result<()> {
        let replies = self.change_memberships(&scripts::JOIN, memberships, |pipeline| {
            pipeline.arg(limits.channels_per_client).arg(limits.offline_life.map_or(0, millis));
        })?;
        let named = memberships.iter().filter(|(_, name)| !name.is_empty());
        let refused = named.zip(&replies).filter(|(_, reply)| **reply == Value::Int(0));
        let refused: Vec<_> = refused.map(|((client, _), _)| client.clone()).collect();
        limits.check(&refused, replies.len())
    }

    pub(crate) fn leave(&self, memberships: &[(ClientId, &str)]) -> Result<()> {
        self.change_memberships(&scripts::LEAVE, memberships, |_| {}).map(drop)
    }

    /// Runs [`scripts::JOIN`] or [`scripts::LEAVE`] for each membership, with `more` arguments. A channel
    /// without a name is none.
    fn change_memberships(
        &self,
        script: &'static str,
        memberships: &[(ClientId, &str)],
        more: impl Fn(&mut Pipeline),
    ) -> Result<Vec<Value>> {
        let named: Vec<_> = memberships.iter().filter(|(_, name)| !name.is_empty()).collect();
        let layout = &self.layout;
        let replies = self.each_run(script, &named, |pipeline, (client, channel)| {
            pipeline.arg(3).arg(layout.channel_key(channel)).arg(layout.client_key(client));
            pipeline.arg(layout.channel_list_key()).arg(client.to_string()).arg(*channel);
            pipeline.arg(layout.prefix());
            more(pipeline);
        })?;
        let changed = named.iter().zip(&replies).filter(|(_, reply)| **reply == UNTOLD);
        self.tell_changed(changed.map(|((client, _), _)| client.to_string().into_bytes()));
        Ok(replies)
    }

    /// Tells nodes whose channels have changed, where scripts may not. That is all the same to most nodes, and the others
    /// find it out a moment later: what is not told is no failure.
    fn tell_changed(&self, clients: impl Iterator<Item = Vec<u8>>) {
        let clients: Vec<_> = clients.collect();
        let topic = self.layout.changed_topic();
        let notices: Vec<_> = clients.chunks(PIPELINE).map(|clients| clients.join(&b' ')).collect();
        let told = self.each(&notices, |pipeline, notice| {
            pipeline.cmd("PUBLISH").arg(&topic).arg(notice);
        });
        if let Err(error) = told {
            log::debug!(reason:% = error; "whose channels have changed was not told: {error}");
        }
    }

    pub(crate) fn are_online(&self, clients: &[ClientId]) -> Result<Vec<bool>> {
        let key = self.layout.online_key();
        // As the original asks.
        if let [client] = clients {
            let count = self.one(|pipeline| {
                pipeline.cmd("HGET").arg(&key).arg(client.to_string());
            })?;
            return Ok(vec![reply::number(count) > 0]);
        }
        let chunks: Vec<_> = clients.chunks(PIPELINE).collect();
        let replies = self.each(&chunks, |pipeline, clients| {
            pipeline.cmd("HMGET").arg(&key);
            clients.iter().for_each(|client| {
                pipeline.arg(client.to_string());
            });
        })?;
        let counts: Vec<_> = replies.into_iter().flat_map(reply::items).collect();
        if counts.len() != clients.len() {
            return Err(error::unexpected(&self.connector.address));
        }
        Ok(counts.into_iter().map(|count| reply::number(count) > 0).collect())
    }

    pub(crate) fn clear_channel(&self, channel: &str) -> Result<()> {
        if channel.is_empty() {
            return Ok(());
        }
        let layout = &self.layout;
        // Fields that are no ids go too, so they are kept as bytes.
        let members = self.fields(&layout.channel_key(channel))?;
        let chunks: Vec<_> = members.chunks(CLEAR_CHUNK).collect();
        let replies = self.each_run(&scripts::CLEAR, &chunks, |pipeline, members| {
            pipeline.arg(3).arg(layout.channel_key(channel));
            pipeline.arg(layout.online_key()).arg(layout.channel_list_key());
            pipeline.arg(layout.prefix()).arg(channel);
            members.iter().for_each(|member| {
                pipeline.arg(member);
            });
        })?;
        let changed = chunks.iter().zip(&replies).filter(|(_, reply)| **reply == UNTOLD);
        self.tell_changed(changed.flat_map(|(members, _)| members.iter().cloned()));
        Ok(())
    }

    pub(crate) fn channels_of(&self, clients: &[ClientId]) -> Result<Vec<Vec<String>>> {
        let replies = self.each(clients, |pipeline, client| {
            pipeline.cmd("HKEYS").arg(self.layout.client_key(client));
        })?;
        Ok(replies.into_iter().map(reply::texts).collect())
    }

    pub(crate) fn channel_sizes(&self, channels: &[&str]) -> Result<Vec<i64>> {
        let key = self.layout.channel_list_key();
        let named: Vec<_> = channels.iter().filter(|channel| !channel.is_empty()).collect();
        let sizes = self.each(&named, |pipeline, channel| {
            pipeline.cmd("HGET").arg(&key).arg(**channel);
        })?;
        let mut sizes = sizes.into_iter().map(reply::number);
        let size = |channel: &&str| if channel.is_empty() { None } else { sizes.next() };
        Ok(channels.iter().map(size).map(Option::unwrap_or_default).collect())
    }
}
