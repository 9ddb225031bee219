//! How a feed hears the topics of slots, whose owners change.
//!
//! Part of the feed's step. Which topics there are, and what of them counts, is known in `slot_topics`; here the table is read,
//! topics are subscribed to, and what the node has to say on them is published, behind the confirmation that it hears them.

use redis::Pipeline;

use super::{Connections, RedisFeed, data::Data, slot_topics::Listen};
use crate::{
    broker::{contract::FeedEvent, redis::link::reply},
    error::Result,
    slots::SlotTable,
    wire::Envelope,
};

impl RedisFeed {
    /// The topics with which a new subscription begins. What changes before it stands is found by the look behind that.
    pub(super) fn begin_slots(&mut self) -> Result<Vec<String>> {
        self.slot_topics.begin();
        if !self.slot_topics.are_heard() {
            return Ok(Vec::new());
        }
        let mut data = Data::open(&self.backend, None)?;
        let Listen { to, .. } = self.slot_topics.look(data.slot_table()?.as_ref());
        self.slot_topics.table_changed();
        Ok(to)
    }

    /// Goes by the table as it is now.
    pub(super) fn follow_slots(&mut self, connections: &mut Connections) -> Result<()> {
        if self.slot_topics.is_stale() {
            let mut listen = Listen::default();
            self.with_data(connections, |feed, connections| {
                let table = connections.data.slot_table()?;
                listen = feed.slot_topics.look(table.as_ref());
                Ok(())
            })?;
            let deadline = self.backend.connector.call_deadline();
            connections.listener.subscribe(&listen.to, &listen.no_longer_to, deadline)?;
        }
        self.with_data(connections, Self::speak)
    }

    /// Says on topics of slots that this node hears them.
    pub(super) fn speak(&mut self, connections: &mut Connections) -> Result<()> {
        if !self.slot_topics.has_to_speak() {
            return Ok(());
        }
        let sayings = self.slot_topics.unsaid();
        if !sayings.is_empty() {
            let mut pipeline = Pipeline::with_capacity(sayings.len());
            for saying in &sayings {
                pipeline.cmd("PUBLISH").arg(&saying.topic).arg(&saying.notice);
            }
            let data = &mut connections.data;
            let replies = data.exchange(&pipeline, sayings.len())?;
            if let Some(error) = replies.iter().find_map(|reply| data.refusal(reply)) {
                return Err(error);
            }
            self.slot_topics.said(&sayings);
        }
        Ok(())
    }

    /// What came on the topic of a slot.
    pub(super) fn hear_slot(&mut self, topic: &[u8], payload: &[u8]) {
        let payload = std::str::from_utf8(payload).map_err(|_| "payload is not UTF-8");
        let message =
            payload.and_then(|payload| Envelope::decode(payload).map_err(|why| why.as_str()));
        match message {
            Ok(envelope) => {
                if let Some(envelope) = self.slot_topics.hear(topic, envelope) {
                    self.gap.heard_stranger();
                    self.ready.extend(self.barrier.admit(envelope, None));
                }
            }
            Err(why) if self.slot_topics.is_acted_on(topic) => {
                self.ready.push_back(FeedEvent::Malformed(why));
            }
            Err(_) => {}
        }
    }
}

impl Data {
    /// The table of slots; `None` if there is none, or it cannot be read, which others say.
    fn slot_table(&mut self) -> Result<Option<SlotTable>> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd("HGETALL").arg(self.backend.layout.slots_key());
        let fields = self.exchange(&pipeline, 1)?.pop();
        let fields = reply::texts(fields.unwrap_or(redis::Value::Nil));
        Ok(SlotTable::read(reply::pairs(fields.into_iter())).and_then(std::result::Result::ok))
    }
}
