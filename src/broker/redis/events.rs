//! The presence events of all nodes on Redis.
//!
//! Called on a thread of the business. Proves to itself that it still hears by pings on the subscribed
//! connection: no other connection, however busy or refused, decides about it. Skips payloads that are no
//! tickets quietly; a .NET subscriber would end its process on them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    backend::Backend,
    link::listener::{Heard, Listener, Topics},
};
use crate::{
    broker::contract::{EventSubscription, PresenceEvent},
    error::{Error, ErrorKind, Result},
    wire::Ticket,
};

pub(super) struct RedisEvents {
    backend: Arc<Backend>,
    link: Option<Link>,
}

struct Link {
    listener: Listener,
    online: String,
    offline: String,
    /// For how long nothing was heard since the ping under way was sent.
    pinged: Option<Duration>,
    heard: Instant,
}

impl RedisEvents {
    pub(super) fn new(backend: Arc<Backend>) -> Self {
        RedisEvents { backend, link: None }
    }

    fn connect(&self) -> Result<Link> {
        let layout = &self.backend.layout;
        let (online, offline) = (layout.online_topic(), layout.offline_topic());
        let topics = Topics { exact: &[&online, &offline], ..Topics::default() };
        let listener = Listener::open(&self.backend.connector, &topics)?;
        Ok(Link { listener, online, offline, pinged: None, heard: Instant::now() })
    }

    fn step(&self, link: &mut Link, deadline: Instant) -> Result<Option<PresenceEvent>> {
        let now = Instant::now();
        let options = &self.backend.options;
        self.backend.connector.check_term(link.listener.term())?;
        if link.pinged.is_none() && now.duration_since(link.heard) >= options.probe_interval {
            link.listener.ping(self.backend.connector.call_deadline())?;
            link.pinged = Some(Duration::ZERO);
        }
        let wait = deadline.saturating_duration_since(now).min(options.probe_interval);
        if !link.listener.wait(wait)? {
            return self.check_overdue(link, wait).map(|()| None);
        }
        link.heard = Instant::now();
        let (topic, payload) = match link.listener.hear()? {
            Some(Heard::Message { topic, payload }) => (topic, payload),
            Some(Heard::Pong) => {
                link.pinged = None;
                return Ok(None);
            }
            _ => return Ok(None),
        };
        let text = String::from_utf8_lossy(payload);
        let Some(ticket) = Ticket::parse(&text) else {
            log::debug!("event on {} skipped: not a ticket", topic.escape_ascii());
            return Ok(None);
        };
        Ok(if topic == link.online.as_bytes() {
            Some(PresenceEvent::Online(ticket))
        } else if topic == link.offline.as_bytes() {
            Some(PresenceEvent::Offline(ticket))
        } else {
            None
        })
    }

    /// Nothing was left to hear within `wait`: a ping for which was waited too long will not be answered.
    /// Counted in waits, not by the clock: a process that was stopped has not waited meanwhile.
    fn check_overdue(&self, link: &mut Link, wait: Duration) -> Result<()> {
        let limit = self.backend.options.probe_timeout;
        let Some(waited) = &mut link.pinged else { return Ok(()) };
        *waited += wait;
        if *waited < limit {
            return Ok(());
        }
        let address = &self.backend.connector.address;
        let detail = format!("the event subscription at Redis {address} was deaf for {limit:?}");
        Err(Error::new(ErrorKind::Unavailable, detail))
    }
}

impl EventSubscription for RedisEvents {
    fn next(&mut self, timeout: Duration) -> Result<Option<PresenceEvent>> {
        let deadline = Instant::now() + timeout;
        loop {
            // Taken out, so that any error below drops the connection.
            let Some(mut link) = self.link.take() else {
                self.link = Some(self.connect()?);
                return Ok(Some(PresenceEvent::Listening));
            };
            let event = self.step(&mut link, deadline)?;
            self.link = Some(link);
            if event.is_some() || Instant::now() >= deadline {
                return Ok(event);
            }
        }
    }
}
