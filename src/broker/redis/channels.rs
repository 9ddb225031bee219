//! Who is in which channel, and who is online: what the business asks about single clients and channels.
//!
//! Called by `RedisBroker`'s verbs. Whole lists and their pages are in `lists`.

use redis::{Pipeline, Value};

use super::{PIPELINE, RedisBroker, error, millis, reply, scripts};
use crate::{broker::contract::JoinLimits, error::Result, id::ClientId};

/// Members looked at by one run of the clearing script.
const CLEAR_CHUNK: usize = 100;

impl RedisBroker {
    pub(super) fn join_channels(
        &self,
        memberships: &[(ClientId, &str)],
        limits: &JoinLimits,
    ) -> Result<()> {
        let replies = self.change_memberships(&scripts::JOIN, memberships, |pipeline| {
            pipeline.arg(limits.channels_per_client).arg(limits.offline_life.map_or(0, millis));
        })?;
        let named = memberships.iter().filter(|(_, name)| !name.is_empty());
        let refused = named.zip(&replies).filter(|(_, reply)| **reply == Value::Int(0));
        let refused: Vec<_> = refused.map(|((client, _), _)| *client).collect();
        limits.check(&refused, replies.len())
    }

    /// Runs [`scripts::JOIN`] or [`scripts::LEAVE`] for each membership, with `more` arguments. A channel
    /// without a name is none.
    pub(super) fn change_memberships(
        &self,
        script: &str,
        memberships: &[(ClientId, &str)],
        more: impl Fn(&mut Pipeline),
    ) -> Result<Vec<Value>> {
        let named: Vec<_> = memberships.iter().filter(|(_, name)| !name.is_empty()).collect();
        let names = self.names();
        self.each(&named, |pipeline, (client, channel)| {
            pipeline.cmd("EVAL").arg(script).arg(3);
            pipeline.arg(names.channel_key(channel)).arg(names.client_key(*client));
            pipeline.arg(names.channel_list_key()).arg(client.to_string()).arg(*channel);
            pipeline.arg(names.prefix());
            more(pipeline);
        })
    }

    pub(super) fn count_connections(&self, clients: &[ClientId]) -> Result<Vec<bool>> {
        let key = self.names().online_key();
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
            return Err(error::unexpected(&self.shared.connector.address));
        }
        Ok(counts.into_iter().map(|count| reply::number(count) > 0).collect())
    }

    pub(super) fn leave_offline_members(&self, channel: &str) -> Result<()> {
        if channel.is_empty() {
            return Ok(());
        }
        let names = self.names();
        // Fields that are no ids go too, so they are kept as bytes.
        let members = self.fields(&names.channel_key(channel))?;
        let chunks: Vec<_> = members.chunks(CLEAR_CHUNK).collect();
        self.each(&chunks, |pipeline, members| {
            pipeline.cmd("EVAL").arg(scripts::CLEAR).arg(3).arg(names.channel_key(channel));
            pipeline.arg(names.online_key()).arg(names.channel_list_key());
            pipeline.arg(names.client_key_prefix()).arg(channel);
            members.iter().for_each(|member| {
                pipeline.arg(member);
            });
        })?;
        Ok(())
    }

    pub(super) fn read_channels_of(&self, clients: &[ClientId]) -> Result<Vec<Vec<String>>> {
        let replies = self.each(clients, |pipeline, client| {
            pipeline.cmd("HKEYS").arg(self.names().client_key(*client));
        })?;
        Ok(replies.into_iter().map(reply::texts).collect())
    }

    pub(super) fn read_channel_size(&self, channel: &str) -> Result<i64> {
        if channel.is_empty() {
            return Ok(0);
        }
        let size = self.one(|pipeline| {
            pipeline.cmd("HGET").arg(self.names().channel_list_key()).arg(channel);
        })?;
        Ok(reply::number(size))
    }
}
