//! A thread that looks at all nodes, and at those that read or deliver events, again and again, so that requests need not wait for the broker.
//!
//! It looks every second or so while somebody asks, else every ten seconds for the history, and rests so that the
//! broker is busy with it for a tenth of the time at most. While the broker is away or hangs, what is known is
//! told, with the trouble.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use imcore::{ImClient, NodeStatus, broker::EventGroup};
use serde_json::{Value, json};

use super::{
    groups,
    happened::Happened,
    history::{History, Seen, hurt},
    webhook,
};
use crate::webhook::{Desk, Seen as Delivery};

/// How old an answer may be.
const LIFE: Duration = Duration::from_millis(900);
/// The broker is busy with looks for at most this fraction of the time.
const SHARE: u32 = 10;
/// Between two looks, when nobody asks.
const REST: Duration = Duration::from_secs(10);
/// How long somebody who asks waits for a new look; pages are more patient than that.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The last look and the history.
pub(super) struct Watch {
    /// Name of the node that looks.
    node: String,
    im: ImClient,
    desk: Desk,
    state: Mutex<State>,
    /// Told when somebody asks, and when a look has ended.
    turn: Condvar,
}

struct State {
    nodes: Vec<Seen>,
    /// Empty as well where none can be asked for.
    groups: Vec<EventGroup>,
    /// How delivery by webhooks goes, where there are any.
    webhook: Option<Delivery>,
    /// When `nodes` were seen; `None` before the first look that succeeded.
    seen: Option<Instant>,
    /// When the last look ended, and how long it took.
    ended: Option<(Instant, Duration)>,
    /// When the look began that is under way.
    began: Option<Instant>,
    /// Looks so far.
    looks: u64,
    /// When somebody asked last.
    wanted: Option<Instant>,
    /// Why the last look failed, and since when they fail.
    trouble: Option<(String, Instant)>,
    history: History,
}

impl State {
    /// How long the last answer is good.
    fn life(&self) -> Duration {
        self.ended.map_or(Duration::ZERO, |(_, took)| (took * SHARE).clamp(LIFE, REST))
    }

    /// How long it is until the next look.
    fn rest(&self) -> Duration {
        let Some((ended, _)) = self.ended else { return Duration::ZERO };
        let pause = if self.wanted.is_some_and(|at| at > ended) { self.life() } else { REST };
        pause.saturating_sub(ended.elapsed())
    }

    /// Why there is no news, for a person.
    fn trouble(&self) -> Option<String> {
        if let Some((why, _)) = &self.trouble {
            return Some(why.clone());
        }
        let waits = self.began?.elapsed();
        (waits >= PATIENCE)
            .then(|| format!("the broker has not answered for {} s", waits.as_secs().max(1)))
    }
}

impl Watch {
    /// Starts to look. The thread ends with the last handle.
    pub(super) fn start(node: &str, im: ImClient, desk: Desk) -> Arc<Watch> {
        let state = State {
            nodes: Vec::new(),
            groups: Vec::new(),
            webhook: None,
            seen: None,
            ended: None,
            began: None,
            looks: 0,
            wanted: None,
            trouble: None,
            history: History::new(now()),
        };
        let (state, turn) = (Mutex::new(state), Condvar::new());
        let watch = Arc::new(Watch { node: node.to_owned(), im, desk, state, turn });
        let weak = Arc::downgrade(&watch);
        let thread = thread::Builder::new().name("admin-watch".into());
        if let Err(error) = thread.spawn(move || run(&weak)) {
            watch.lock().trouble = Some((format!("no thread: {error}"), Instant::now()));
        }
        watch
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        let began = Instant::now();
        self.lock().began = Some(began);
        let outcome = self.im.nodes();
        // Without the rights to it nodes are seen all the same.
        let groups = self.im.event_groups().inspect_err(|error| {
            log::debug!("admin: groups of readers cannot be asked for: {error}");
        });
        let webhook = self.desk.look().inspect_err(|error| {
            log::debug!("admin: webhooks cannot be asked for: {error}");
        });
        let mut state = self.lock();
        state.began = None;
        state.looks += 1;
        state.ended = Some((Instant::now(), began.elapsed()));
        state.groups = groups.unwrap_or_default();
        state.webhook = webhook.unwrap_or_default();
        match outcome {
            Ok(nodes) => {
                let seen = |node: imcore::NodeInfo| Seen {
                    server: node.name,
                    index: node.index,
                    slots: node.slots,
                    status: node.status,
                };
                state.nodes = nodes.into_iter().map(seen).collect();
                state.seen = Some(Instant::now());
                let State { history, nodes, trouble, .. } = &mut *state;
                if let Some((_, since)) = trouble.take() {
                    let gone = since.elapsed().as_secs();
                    history.note(Happened::BrokerBack { seconds: gone }, now());
                }
                history.learn(nodes, now());
            }
            Err(error) => {
                let why = error.to_string();
                let since = state.trouble.take().map(|(_, since)| since);
                if since.is_none() {
                    state.history.note(Happened::BrokerAway { why: why.clone() }, now());
                }
                state.trouble = Some((why, since.unwrap_or(began)));
            }
        }
        self.turn.notify_all();
    }

    /// Waits until it is time for the next look.
    fn rest(&self) {
        let mut state = self.lock();
        loop {
            let rest = state.rest();
            if rest.is_zero() {
                return;
            }
            let waited = self.turn.wait_timeout(state, rest);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Remembers what an operator did.
    pub(super) fn note(&self, happened: Happened) {
        self.lock().history.note(happened, now());
    }

    /// Points and events of the last hour, as JSON.
    pub(super) fn history(&self) -> String {
        self.lock().history.json().to_string()
    }

    /// How far the groups that read events were at the last look, and how delivery went, for Prometheus.
    pub(super) fn events(&self) -> String {
        let state = self.lock();
        groups::prometheus(&state.groups, now()) + &webhook::prometheus(state.webhook.as_ref())
    }

    /// All nodes with what they say of themselves, as JSON; `own` is what this node says now.
    pub(super) fn cluster(&self, own: &NodeStatus) -> String {
        let mut state = self.lock();
        state.wanted = Some(Instant::now());
        self.turn.notify_all();
        let fresh = state.ended.is_some_and(|(ended, _)| ended.elapsed() < state.life());
        if !fresh {
            let looks = state.looks;
            let waited =
                self.turn.wait_timeout_while(state, PATIENCE, |state| state.looks == looks);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.tell(&state, own)
    }

    fn tell(&self, state: &State, own: &NodeStatus) -> String {
        let trouble = state.trouble();
        let node = |seen: &Seen| {
            // What others said before the broker went is not what they would say now.
            let status = match &seen.status {
                _ if trouble.is_some() && seen.server == self.node => Some(own),
                status => status.as_ref().filter(|_| trouble.is_none()),
            };
            let last = match status {
                Some(_) => None,
                None => state.history.last(&seen.server, now()),
            };
            let is_silent = status.is_none() && trouble.is_none();
            let hurt = is_silent.then(|| hurt(&seen.server, &state.nodes)).flatten();
            let Seen { server, index, slots, .. } = seen;
            json!({ "server": server, "index": index, "slots": slots, "status": status, "last": last, "hurt": hurt })
        };
        let mut nodes: Vec<Value> = state.nodes.iter().map(node).collect();
        if nodes.is_empty() {
            nodes.push(json!({ "server": self.node, "index": 0, "status": own }));
        }
        json!({
            "node": self.node,
            "broker": self.im.broker().describe(),
            "nodes": nodes,
            "groups": groups::json(&state.groups, now()),
            "webhook": state.webhook.as_ref().map(Delivery::json),
            "age_seconds": state.seen.map(|seen| seen.elapsed().as_secs_f64()),
            "trouble": trouble,
        })
        .to_string()
    }
}

fn run(watch: &Weak<Watch>) {
    while let Some(watch) = watch.upgrade() {
        watch.look();
        watch.rest();
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
