//! How a feed opens its connections: in the best way to learn of changes that is wanted, and that Redis offers.
//!
//! Part of the feed's step. Tracking is asked for on the data connection and lives with it. Keyspace notifications are
//! tried before anything is believed, since a server that has them switched off says so to nobody. Notices can always be had.

use std::time::Instant;

use super::{
    Connections, RedisFeed,
    changes::{INVALIDATE, Way},
    data::Data,
};
use crate::{
    broker::redis::link::{
        ChangesBy,
        listener::{Heard, Listener, Topics},
    },
    error::{Error, ErrorKind, Result},
};

impl RedisFeed {
    /// Both connections, in the best way to learn of changes that is wanted and can be had. The listener hears `others` beside the
    /// node's own topic.
    pub(super) fn open(&mut self, others: &[String]) -> Result<(Listener, Data)> {
        match self.backend.options.changes {
            ChangesBy::Tracking => return self.open_by(Way::Tracking, others),
            ChangesBy::Keyspace => return self.open_by(Way::Keyspace, others),
            ChangesBy::Notice => return self.open_by(Way::Notice, others),
            ChangesBy::Auto => {}
        }
        for way in [Way::Tracking, Way::Keyspace] {
            match self.open_by(way, others) {
                Err(error) if error.kind() == ErrorKind::Rejected => {}
                opened => return opened,
            }
        }
        self.open_by(Way::Notice, others)
    }

    fn open_by(&mut self, way: Way, others: &[String]) -> Result<(Listener, Data)> {
        self.changes.way = way;
        let pattern = self.changes.pattern();
        if way == Way::Keyspace {
            self.check_notified(&pattern)?;
        }
        let also = match way {
            Way::Tracking => INVALIDATE,
            Way::Keyspace => &pattern,
            Way::Notice => &self.changes.topic,
        };
        let also = [also];
        let mut exact = vec![&*self.topic];
        exact.extend(others.iter().map(String::as_str));
        if way != Way::Keyspace {
            exact.extend(also);
        }
        let topics = match way {
            Way::Tracking => Topics { exact: &exact, patterns: &[], with_id: true },
            Way::Keyspace => Topics { exact: &exact, patterns: &also, with_id: false },
            Way::Notice => Topics { exact: &exact, ..Topics::default() },
        };
        let connector = &self.backend.connector;
        let listener = Listener::open(connector, &topics)?;
        let data = Data::open(&self.backend, self.changes.track(listener.id).as_ref())?;
        Ok((listener, data))
    }

    /// Fails if keyspace notifications are off. Uses connections of its own: what else is heard would be lost.
    fn check_notified(&mut self, pattern: &str) -> Result<()> {
        let connector = &self.backend.connector;
        let topics = Topics { patterns: &[pattern], ..Topics::default() };
        let mut listener = Listener::open(connector, &topics)?;
        let mut data = Data::open(&self.backend, None)?;
        let touch = self.changes.touch();
        let replies = data.exchange(&touch, touch.len())?;
        self.changes.touched(&replies);
        let deadline = connector.call_deadline();
        listener.ping(deadline)?;
        while listener.wait(deadline.saturating_duration_since(Instant::now()))? {
            match listener.hear()? {
                Some(Heard::Notice(notice)) => {
                    self.changes.notified(notice.get_channel_name());
                }
                Some(Heard::Pong) if self.changes.was_told() => return Ok(()),
                Some(Heard::Pong) => return Err(self.unnotified(ErrorKind::Rejected)),
                _ => {}
            }
        }
        let detail = format!("Redis at {} did not answer in time", connector.address);
        Err(Error::new(ErrorKind::Timeout, detail))
    }

    /// That nobody tells of changes.
    pub(super) fn unnotified(&self, kind: ErrorKind) -> Error {
        let address = &self.backend.connector.address;
        let detail = format!(
            "Redis at {address} tells nobody of changed keys, so nodes learn of no joins: set \
             notify-keyspace-events to Kgh or more (CONFIG SET, or where its vendor has that setting)"
        );
        Error::new(kind, detail)
    }

    /// Looks whether Redis was emptied, of which it tells nobody; where it is to tell of changes, has it tell of one.
    pub(super) fn look_again(&mut self, connections: &mut Connections) -> Result<()> {
        if self.changes.way == Way::Keyspace {
            let touch = self.changes.touch();
            let replies = connections.data.exchange(&touch, touch.len())?;
            self.changes.touched(&replies);
        }
        let known = self.ready.len();
        self.look_for_loss(&mut connections.data)?;
        if self.ready.len() > known {
            self.changes.unsure();
        }
        Ok(())
    }

    /// Says that .NET helpers are better served otherwise, if that was not asked for.
    pub(super) fn say_what_is_late(&self) {
        let asked = self.backend.options.changes == ChangesBy::Notice;
        if self.changes.way == Way::Notice && !asked {
            log::info!(
                "Redis at {} tells nobody of changed keys: joins by .NET helpers become known up to 200 ms late; \
                 notify-keyspace-events Kgh or more would change that",
                self.backend.connector.address
            );
        }
    }
}
