//! What operators see of webhooks, and how they are steered: for the API and the admin page, and what is seen also for the command. How
//! delivery goes the broker knows, the same for all nodes; only where this one would post is its own.

use std::sync::Arc;

use imcore::{
    Error,
    broker::{Broker, DeadLetter, EventGroup, WebhookState},
};
use serde_json::{Value, json};

use super::{GROUP, Shared};

/// Why delivery is off if an operator says so.
const BY_OPERATOR: &str = "by an operator";

/// The desk of one node.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) shared: Arc<Shared>,
}

impl Desk {
    /// How delivery goes; `None` if there are no webhooks: none is set here, nobody delivers, and nothing is left of former ones.
    pub(crate) fn look(&self) -> Result<Option<Seen>, Error> {
        let url = self.url();
        let seen = Seen::ask(&*self.broker)?.unwrap_or_default();
        let is_there = url.is_some() || is_alive(&seen.state);
        Ok(is_there.then_some(Seen { url, ..seen }))
    }

    /// Where dead letters are; `None` if there are no webhooks.
    pub(crate) fn letters(&self) -> Result<Option<&dyn Broker>, Error> {
        let broker = &*self.broker;
        let is_there =
            self.url().is_some() || broker.webhook_state()?.is_some_and(|state| is_alive(&state));
        Ok(is_there.then_some(broker))
    }

    /// Switches delivery on, or off on all nodes.
    pub(crate) fn switch(broker: &dyn Broker, on: bool) -> Result<(), Error> {
        broker.switch_webhook((!on).then_some(BY_OPERATOR))
    }

    /// Whether a node delivers in the name of this group of readers.
    pub(crate) fn reads_as(&self, group: &str) -> Result<bool, Error> {
        let holder = |state: WebhookState| state.holder.is_some();
        Ok(group == GROUP && self.broker.webhook_state()?.is_some_and(holder))
    }

    /// What this node has done, in the text exposition format of Prometheus; nothing where no webhook is set.
    pub(crate) fn prometheus(&self) -> String {
        self.url().map_or_else(String::new, |_| self.shared.counts.prometheus())
    }

    /// Where this node would post, without what may be secret.
    fn url(&self) -> Option<String> {
        self.shared.lock().hook.as_ref().map(|hook| hook.target.to_string())
    }
}

/// Whether somebody delivers, or there are letters that somebody has left.
fn is_alive(state: &WebhookState) -> bool {
    state.holder.is_some() || state.dead_letters > 0
}

/// How delivery goes.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Where the node that was asked would post, if it would.
    url: Option<String>,
    pub(crate) state: WebhookState,
    /// Of the readers of events, the one that delivers.
    pub(crate) group: EventGroup,
}

impl Seen {
    /// What the broker knows; `None` if nobody has delivered anything yet.
    pub(crate) fn ask(broker: &dyn Broker) -> Result<Option<Seen>, Error> {
        let Some(state) = broker.webhook_state()? else { return Ok(None) };
        let group = broker.event_groups()?.into_iter().find(|group| group.name == GROUP);
        Ok(Some(Seen { url: None, state, group: group.unwrap_or_default() }))
    }

    /// The name of the node that delivers.
    pub(crate) fn node(&self) -> Option<&str> {
        // Behind the name is which of its processes it is.
        self.state
            .holder
            .as_ref()
            .map(|holder| holder.rsplit_once('#').map_or(&**holder, |of| of.0))
    }

    /// Events that are not delivered yet.
    pub(crate) fn waiting(&self) -> u64 {
        self.group.waiting + self.group.unacknowledged
    }

    /// Times are in milliseconds since 1970.
    pub(crate) fn json(&self) -> Value {
        let Seen { url, state, group } = self;
        let (off, failure) = (state.off.as_ref(), state.last_failure.as_ref());
        json!({
            "url": url,
            "on": off.is_none(),
            "off_reason": off.map(|(why, _)| why),
            "off_since_ms": off.map(|(_, at)| at),
            "node": self.node(),
            "waiting": self.waiting(),
            "missed": group.missed,
            "oldest_ms": group.oldest,
            "failures": state.failures,
            "failing_since_ms": state.failing_since,
            "last_failure": failure.map(|(why, _)| why),
            "last_failure_ms": failure.map(|(_, at)| at),
            "last_success_ms": state.last_success,
            "dead_letters": state.dead_letters,
            "replaying": state.replaying,
            "dropped": state.dropped,
        })
    }
}

/// What is known of a dead letter, but for what it says.
pub(crate) fn letter_json(letter: &DeadLetter) -> Value {
    let ends = letter.ends.as_ref();
    json!({
        "letter": letter.id,
        "events": letter.count,
        "first_event": ends.map(|(first, _)| first),
        "last_event": ends.map(|(_, last)| last),
        "reason": letter.failure,
        "attempts": letter.attempts,
        "ms": letter.ms,
        "replaying": letter.replaying,
    })
}
