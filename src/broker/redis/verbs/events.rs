//! Events that are kept: a stream, read in groups. What appends to it is in the scripts that count (`event.lua`).
//!
//! Called by helpers' event threads.

use std::{thread, time::Duration};

use redis::Value;

use super::{millis, scripts};
use crate::{
    broker::{
        contract::{EventBatch, EventConsumer, EventGroup, EventReader, Undelivered},
        redis::{
            backend::Backend,
            link::{error, reply},
        },
    },
    error::Result,
    wire::Event,
};

/// Messages that one run of a script tells of.
const TELL_CHUNK: usize = 128;

/// How often a reader looks whether something was acknowledged, if that is what it waits for.
const FULL_LOOK: Duration = Duration::from_millis(50);

impl Backend {
    pub(crate) fn read_events(
        &self,
        reader: &EventReader,
        limit: usize,
        wait: Duration,
    ) -> Result<EventBatch> {
        let Read { batch, last, is_full } = self.read_events_now(reader, limit)?;
        // Within the time that a call may take.
        let wait = wait.min(self.options.call_timeout / 2);
        if !batch.events.is_empty() || batch.missed > 0 || batch.created || wait.is_zero() {
            return Ok(batch);
        }
        if is_full {
            thread::sleep(wait.min(FULL_LOOK));
            return Ok(self.read_events_now(reader, limit)?.batch);
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
            _ => Ok(self.read_events_now(reader, limit)?.batch),
        }
    }

    pub(crate) fn tell_undelivered(
        &self,
        node: &str,
        undelivered: &[Undelivered<'_>],
    ) -> Result<()> {
        let events = self.options.events;
        if events == 0 {
            return Ok(());
        }
        let chunks: Vec<_> = undelivered.chunks(TELL_CHUNK).collect();
        let told = self.each_run(&scripts::UNDELIVERED, &chunks, |pipeline, chunk| {
            pipeline.arg(0).arg(self.layout.prefix()).arg(events).arg(format!("{node}#"));
            for Undelivered { client, id, reason } in *chunk {
                pipeline.arg(client.to_string()).arg(reason).arg(id);
            }
        });
        told.map(drop)
    }

    fn read_events_now(&self, reader: &EventReader, limit: usize) -> Result<Read> {
        let read = self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::EVENTS_READ);
            pipeline.arg(&reader.group).arg(&reader.consumer);
            let start = reader.start.number();
            pipeline.arg(start.map_or(String::from("$"), |number| number.to_string()));
            pipeline.arg(limit.max(1)).arg(millis(reader.take_over));
            pipeline.arg(reader.after.as_deref().unwrap_or_default());
        })?;
        let mut read = reply::items(read).into_iter();
        let mut next = || read.next().unwrap_or(Value::Nil);
        let created = reply::number(next()) == 1;
        let last = reply::text(next());
        let missed = count(next());
        let entries = reply::items(next()).into_iter();
        let again = reply::items(next()).into_iter().flat_map(events_of);
        let after = reader.after.as_deref().and_then(|id| id.split_once('-')?.0.parse().ok());
        let events = entries.flat_map(events_of).filter(|event| event.n > after.unwrap_or(0));
        let events = again.chain(events.take(limit.max(1))).collect();
        let is_full = reply::number(next()) == 1;
        Ok(Read { batch: EventBatch { created, missed, events }, last, is_full })
    }

    pub(crate) fn acknowledge_events(
        &self,
        reader: &EventReader,
        missed: u64,
        ids: &[String],
    ) -> Result<bool> {
        let done = self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::EVENTS_DONE);
            pipeline.arg(&reader.group).arg(missed).arg(ids);
        })?;
        Ok(reply::number(done) == 1)
    }

    pub(crate) fn leave_events(&self, reader: &EventReader) -> Result<()> {
        self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::EVENTS_LEAVE);
            pipeline.arg(&reader.group).arg(&reader.consumer);
        })?;
        Ok(())
    }

    pub(crate) fn event_groups(&self) -> Result<Vec<EventGroup>> {
        let groups =
            self.one(|pipeline| self.presence_script(pipeline, &scripts::EVENTS_GROUPS))?;
        let mut groups: Vec<_> = reply::items(groups).into_iter().map(group_of).collect();
        groups.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(groups)
    }

    pub(crate) fn forget_event_group(&self, group: &str) -> Result<bool> {
        let gone = self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::EVENTS_FORGET);
            pipeline.arg(group);
        })?;
        Ok(reply::number(gone) == 1)
    }
}

/// What a reader finds.
struct Read {
    batch: EventBatch,
    /// Id of the last event that the group was given.
    last: String,
    /// Nothing new is given before something is acknowledged.
    is_full: bool,
}

fn group_of(group: Value) -> EventGroup {
    let mut group = reply::items(group).into_iter();
    let mut next = || group.next().unwrap_or(Value::Nil);
    let name = reply::text(next());
    let [waiting, unacknowledged, missed] = [(); 3].map(|()| count(next()));
    let oldest = reply::text(next()).parse().ok();
    let readers = reply::items(next()).into_iter().map(|reader| {
        let mut reader = reply::items(reader).into_iter();
        let mut next = || reader.next().unwrap_or(Value::Nil);
        let (name, unacknowledged) = (reply::text(next()), count(next()));
        EventConsumer { name, unacknowledged, idle: Duration::from_millis(count(next())) }
    });
    let readers = readers.collect();
    EventGroup { name, waiting, unacknowledged, missed, oldest, readers }
}

fn count(value: Value) -> u64 {
    u64::try_from(reply::number(value)).unwrap_or_default()
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
