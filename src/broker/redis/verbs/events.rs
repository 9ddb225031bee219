//! Events that are kept: a stream, read in groups. What appends to it is in the scripts that count (`event.lua`).
//!
//! Called by helpers' event threads.

use std::time::Duration;

use redis::Value;

use super::{millis, scripts};
use crate::{
    broker::{
        contract::{EventBatch, EventReader},
        redis::{
            backend::Backend,
            link::{error, reply},
        },
    },
    error::Result,
    wire::Event,
};

impl Backend {
    pub(crate) fn read_events(
        &self,
        reader: &EventReader,
        limit: usize,
        wait: Duration,
    ) -> Result<EventBatch> {
        let (batch, last) = self.read_events_now(reader, limit)?;
        // Within the time that a call may take.
        let wait = wait.min(self.options.call_timeout / 2);
        if !batch.events.is_empty() || batch.missed > 0 || batch.created || wait.is_zero() {
            return Ok(batch);
        }
        let mut pipeline = redis::pipe();
        pipeline.cmd("XREAD").arg("COUNT").arg(1).arg("BLOCK").arg(millis(wait));
        pipeline.arg("STREAMS").arg(self.layout.events_key()).arg(last);
        let come = self.waits.run(&self.connector, &pipeline)?.pop().unwrap_or(Value::Nil);
        if let Some(error) = error::of_reply(&self.connector.address, &come) {
            return Err(error);
        }
        match come {
            Value::Nil => Ok(batch),
            _ => Ok(self.read_events_now(reader, limit)?.0),
        }
    }

    /// What is there, and the id of the last event that the group was given.
    fn read_events_now(&self, reader: &EventReader, limit: usize) -> Result<(EventBatch, String)> {
        let read = self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::EVENTS_READ);
            pipeline.arg(&reader.group).arg(&reader.consumer);
            let start = reader.start.number();
            pipeline.arg(start.map_or(String::from("$"), |number| number.to_string()));
            pipeline.arg(limit.max(1)).arg(millis(reader.take_over));
        })?;
        let mut read = reply::items(read).into_iter();
        let mut next = || read.next().unwrap_or(Value::Nil);
        let created = reply::number(next()) == 1;
        let last = reply::text(next());
        let missed = u64::try_from(reply::number(next())).unwrap_or_default();
        let entries = reply::items(next()).into_iter();
        let events = entries.flat_map(events_of).take(limit.max(1)).collect();
        Ok((EventBatch { created, missed, events }, last))
    }

    pub(crate) fn acknowledge_events(
        &self,
        reader: &EventReader,
        missed: u64,
        ids: &[String],
    ) -> Result<()> {
        self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::EVENTS_DONE);
            pipeline.arg(&reader.group).arg(missed).arg(ids);
        })?;
        Ok(())
    }

    pub(crate) fn leave_events(&self, reader: &EventReader) -> Result<()> {
        self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::EVENTS_LEAVE);
            pipeline.arg(&reader.group).arg(&reader.consumer);
        })?;
        Ok(())
    }
}

/// The events of an entry that the reader has not done with: id, fields, and a mark for each event, `x` if it is done.
fn events_of(entry: Value) -> impl Iterator<Item = Event> {
    let mut entry = reply::items(entry).into_iter();
    let mut next = || entry.next().unwrap_or(Value::Nil);
    let (id, fields, marks) = (reply::text(next()), reply::texts(next()), reply::text(next()));
    let events = Event::of_entry(&id, reply::pairs(fields.into_iter()));
    let marks = marks.into_bytes().into_iter().chain(std::iter::repeat(b'.'));
    events.into_iter().zip(marks).filter(|(_, mark)| *mark != b'x').map(|(event, _)| event)
}
