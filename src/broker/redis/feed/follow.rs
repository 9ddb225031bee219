//! How a feed follows the log: finds its place, reads what it could not hear, and takes what it hears by number.
//!
//! Part of the feed's step. The subscription stands before the log is read, so that whatever is logged later than the
//! head that was looked at is heard; what was read is not handed on again.

use super::{
    Connections, RedisFeed,
    barrier::depends_on_channels,
    cursor::{ALL, Cursor, Head, Live, OWN, Told, Verdict},
    pages::Logged,
};
use crate::{
    broker::contract::FeedEvent,
    error::Result,
    wire::{Envelope, Mark},
};

impl RedisFeed {
    /// Finds the place in the log: for the first time, after a break, or as what was heard is not what is there.
    /// `wrong`: the epoch that must not go on. `fresh`: the subscription has begun.
    pub(super) fn enter_log(
        &mut self,
        connections: &mut Connections,
        wrong: Option<&str>,
        fresh: bool,
    ) -> Result<()> {
        let data = &mut connections.data;
        let goes_on = self.from_log && self.cursor.is_none();
        let mut head = data.enter(&self.node, wrong, goes_on)?;
        if let Some(wrong) = self.cursor.as_ref().and_then(|cursor| cursor.wrong(&head)) {
            head = data.enter(&self.node, Some(&wrong), false)?;
        }
        // What was under way looked at the log before that.
        self.probes.give_up();
        // Memberships of the time when the messages that follow were sent: none is older than this look.
        if self.cursor.is_some() {
            self.changes.unsure();
        }
        self.release_held(connections)?;
        if !self.barrier.is_empty() {
            self.release(connections, self.barrier.len())?;
            connections.proven = true;
        }
        if fresh && !self.from_log {
            self.ready.push_back(FeedEvent::Listening);
        }
        if let Some(cursor) = &mut self.cursor {
            let (tell, reading) = cursor.resume(&head, self.gap.has_strangers());
            self.reading = Some(reading);
            if tell {
                self.tell_of_hole();
            }
            return Ok(());
        }
        if !self.from_log {
            self.cursor = Cursor::begin(&head);
        } else {
            let floors = connections.data.floors(&self.node, &head)?;
            if let Some((cursor, reading)) = Cursor::from_start(&head, floors) {
                let begins = floors[OWN].max(floors[ALL]).min(head.last);
                let epoch = head.epoch.unwrap_or_default();
                let log = |from| FeedEvent::Log { epoch: epoch.clone(), from };
                (self.cursor, self.reading) = (Some(cursor), Some(reading));
                // Where it begins; the hole that it has is told behind that.
                match head.whole {
                    Some(whole) if whole > begins => self.ready.push_back(log(begins)),
                    Some(_) => {}
                    None => {
                        // What was refused came behind the last number, and the one after that will be left out.
                        self.ready.extend([log(begins), log(head.last + 1)]);
                        return Ok(());
                    }
                }
            }
        }
        self.tell_of_hole();
        if self.reading.is_none() {
            self.listens();
        }
        Ok(())
    }

    /// Says from where on nothing is missing.
    pub(super) fn tell_of_hole(&mut self) {
        if let Some(Told::Log { epoch, from }) = self.cursor.as_ref().map(Cursor::told::<Logged>) {
            // What waits for its channels comes behind.
            let from = self.barrier.first_number().map_or(from, |first| from.min(first - 1));
            self.ready.push_back(FeedEvent::Log { epoch, from });
        }
    }

    /// The past is over, if the feed began with it.
    fn listens(&mut self) {
        if std::mem::take(&mut self.from_log) {
            self.ready.push_back(FeedEvent::Listening);
        }
    }

    /// Reads on, and hands on what can be put in order.
    pub(super) fn read_log(&mut self, connections: &mut Connections) -> Result<()> {
        self.release_held(connections)?;
        if let (Some(reading), Some(cursor)) = (&mut self.reading, &mut self.cursor) {
            while let Some((stream, after)) = reading.wants() {
                let (entries, more) =
                    connections.data.next_page(&self.node, stream, after, &mut self.page)?;
                reading.read(stream, entries, more);
            }
            while let Some(next) = reading.next(cursor) {
                self.held.push(event(next));
            }
            if reading.is_done() {
                cursor.finish(reading);
                self.reading = None;
            }
            self.release_held(connections)?;
        }
        connections.proven = true;
        if self.reading.is_none() {
            self.listens();
        }
        Ok(())
    }

    /// Hands on what was read, behind the memberships that it depends on.
    fn release_held(&mut self, connections: &mut Connections) -> Result<()> {
        let depends = |event: &FeedEvent| match event {
            FeedEvent::Message { envelope, .. } => depends_on_channels(envelope),
            _ => false,
        };
        if self.held.iter().any(depends) {
            self.changes.take_over();
            self.reread(connections, usize::MAX)?;
        }
        self.ready.extend(self.held.drain(..));
        Ok(())
    }

    /// What the head said when a probe was sent that has come back.
    pub(super) fn check_log(&mut self, connections: &mut Connections, head: &Head) -> Result<()> {
        let (verdict, theirs) = match &mut self.cursor {
            None => (Verdict::Behind, String::new()),
            Some(cursor) => (cursor.check(head), cursor.theirs().to_owned()),
        };
        match verdict {
            Verdict::Fine => Ok(()),
            Verdict::Behind => self.enter_again(connections, None),
            Verdict::Lost => self.enter_again(connections, Some(&theirs)),
        }
    }

    /// Finds its place once more, while the subscription stands.
    fn enter_again(&mut self, connections: &mut Connections, wrong: Option<&str>) -> Result<()> {
        self.with_data(connections, |feed, connections| feed.enter_log(connections, wrong, false))
    }

    /// A message that is no probe.
    pub(super) fn hear_message(
        &mut self,
        connections: &mut Connections,
        mark: Mark,
        envelope: Envelope,
    ) -> Result<()> {
        let stream = if matches!(envelope, Envelope::Channel { .. }) { ALL } else { OWN };
        let mut fallen = None;
        let number = match (mark, &mut self.cursor) {
            (Mark::Logged(number), Some(cursor)) => match cursor.hear(stream, number) {
                Live::New => Some(number),
                Live::Known => return Ok(()),
                Live::Early => None,
                Live::Fallen => {
                    fallen = Some(cursor.theirs().to_owned());
                    None
                }
            },
            // The order of a sender's messages is promised, and those behind it have been read.
            (Mark::Volatile, Some(cursor)) if cursor.is_ahead() => return Ok(()),
            (Mark::Refused, Some(cursor)) if cursor.is_ahead() => {
                self.ready.push_back(FeedEvent::Lost(1));
                if cursor.heard_refused() {
                    self.tell_of_hole();
                }
                return Ok(());
            }
            (Mark::Refused, Some(cursor)) => {
                cursor.heard_refused();
                None
            }
            (Mark::Plain, _) => {
                self.gap.heard();
                None
            }
            _ => None,
        };
        self.ready.extend(self.barrier.admit(envelope, number));
        match fallen {
            None => Ok(()),
            Some(theirs) => self.enter_again(connections, Some(&theirs)),
        }
    }
}

pub(super) fn event(told: Told<Logged>) -> FeedEvent {
    match told {
        Told::Log { epoch, from } => FeedEvent::Log { epoch, from },
        Told::Message { number, message: Ok(envelope) } => {
            FeedEvent::Message { envelope, number: Some(number) }
        }
        Told::Message { message: Err(malformed), .. } => FeedEvent::Malformed(malformed.as_str()),
    }
}
