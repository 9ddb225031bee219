//! What became of the cluster in the last hour, as this node saw it: points, events, and the nodes that fell
//! silent. Pure: `watch` feeds it.

use std::collections::{BTreeMap, VecDeque};

use imcore::NodeStatus;
use serde::Serialize;
use serde_json::{Value, json};

use super::happened::{Happened, Hurt};

/// Seconds between two points, and how many are kept: an hour.
const STEP: f64 = 10.0;
const POINTS: usize = 360;
/// Events that are kept.
const EVENTS: usize = 200;
/// Names that are known at most: processes of another deployment may come under ever new ones.
const NAMES: usize = 1000;

/// One node in a look at all.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) server: String,
    /// Its place in the servers list.
    pub(super) index: Option<usize>,
    /// How many slots it owns, if it stands in a table of them.
    pub(super) slots: Option<usize>,
    pub(super) status: Option<NodeStatus>,
}

/// One moment of the whole cluster: when (seconds since 1970), connections, and what happened per second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Point {
    at: f64,
    connections: u64,
    opened: f64,
    offered: f64,
    delivered: f64,
    dropped: f64,
}

/// Something that happened, when, and how it is told in English.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Event {
    at: f64,
    /// Whether somebody should look into it.
    bad: bool,
    what: String,
    #[serde(flatten)]
    happened: Happened,
}

/// The last that was heard of a node.
#[derive(Debug, Clone)]
struct Known {
    status: NodeStatus,
    heard: f64,
    /// What it said at the last point.
    mark: Option<NodeStatus>,
    is_silent: bool,
}

/// The memory.
#[derive(Debug)]
pub(super) struct History {
    since: f64,
    has_looked: bool,
    known: BTreeMap<String, Known>,
    points: VecDeque<Point>,
    events: VecDeque<Event>,
}

impl History {
    /// Begins at `now`, in seconds since 1970.
    pub(super) fn new(now: f64) -> History {
        let (known, points, events) = Default::default();
        History { since: now, has_looked: false, known, points, events }
    }

    /// Takes in a look at all nodes.
    pub(super) fn learn(&mut self, nodes: &[Seen], now: f64) {
        for node in nodes {
            if let Some(status) = &node.status {
                // Two processes under one name look like one that starts again and again.
                let twins = nodes.iter().filter(|other| other.server == node.server).count() > 1;
                self.hear(&node.server, status, twins, now);
            }
        }
        self.miss(nodes, now);
        self.has_looked = true;
        if self.points.back().is_none_or(|last| now - last.at >= STEP) {
            self.point(nodes, now);
        }
    }

    fn hear(&mut self, server: &str, status: &NodeStatus, twins: bool, now: f64) {
        let mut told = None;
        let is_full = self.known.len() >= NAMES;
        let server = server.to_owned();
        match self.known.get_mut(&server) {
            None if is_full => return,
            None => {
                let (status, mark) = (status.clone(), None);
                let known = Known { status, heard: now, mark, is_silent: false };
                self.known.insert(server.clone(), known);
                if self.has_looked {
                    told = Some(Happened::Came { server });
                }
            }
            Some(known) => {
                let restarted = status.uptime_seconds < known.status.uptime_seconds && !twins;
                let seconds = known.is_silent.then(|| (now - known.heard).round() as u64);
                let changed = status.not_ready != known.status.not_ready && !twins;
                told = match (restarted, seconds) {
                    (true, seconds) => Some(Happened::StartedAgain { server, seconds }),
                    (false, Some(seconds)) => Some(Happened::Back { server, seconds }),
                    (false, None) if changed => Some(match status.not_ready.clone() {
                        Some(why) => Happened::NotReady { server, why },
                        None => Happened::Ready { server },
                    }),
                    (false, None) => None,
                };
                if restarted {
                    known.mark = None;
                }
                (known.heard, known.is_silent) = (now, false);
                known.status = status.clone();
            }
        }
        if let Some(happened) = told {
            self.note(happened, now);
        }
    }

    /// Those that were there and are not any more.
    fn miss(&mut self, nodes: &[Seen], now: f64) {
        let heard = |server: &str| nodes.iter().any(|n| n.server == server && n.status.is_some());
        let silent: Vec<_> = self
            .known
            .iter_mut()
            .filter(|(server, known)| !known.is_silent && !heard(server))
            .map(|(server, known)| {
                known.is_silent = true;
                known.mark = None;
                (server.clone(), known.status.clone())
            })
            .collect();
        for (server, status) in silent {
            let (connections, hurt) = (status.connections, hurt(&server, nodes));
            let happened = match status.not_ready.as_deref() {
                Some("stopping") => Happened::Stopped { server, connections, hurt },
                _ => Happened::Silent { server, connections, hurt },
            };
            self.note(happened, now);
        }
    }

    fn point(&mut self, nodes: &[Seen], now: f64) {
        let mut point = Point {
            at: now,
            connections: 0,
            opened: 0.0,
            offered: 0.0,
            delivered: 0.0,
            dropped: 0.0,
        };
        for status in nodes.iter().filter_map(|node| node.status.as_ref()) {
            point.connections += status.connections;
        }
        for known in self.known.values_mut().filter(|known| !known.is_silent) {
            let status = known.status.clone();
            let Some(mark) = known.mark.replace(status.clone()) else { continue };
            let passed = status.uptime_seconds - mark.uptime_seconds;
            if passed <= 0.0 {
                continue;
            }
            let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / passed;
            point.opened += rate(status.opened, mark.opened);
            point.offered += rate(status.offered, mark.offered);
            point.delivered += rate(status.delivered, mark.delivered);
            point.dropped += rate(status.dropped, mark.dropped);
        }
        keep(&mut self.points, point, POINTS);
    }

    /// Remembers that something happened.
    pub(super) fn note(&mut self, happened: Happened, now: f64) {
        let (bad, what) = (happened.is_bad(), happened.to_string());
        keep(&mut self.events, Event { at: now, bad, what, happened }, EVENTS);
    }

    /// What was last heard of a node that says nothing now.
    pub(super) fn last(&self, server: &str, now: f64) -> Option<Value> {
        let known = self.known.get(server)?;
        Some(json!({
            "seconds_ago": (now - known.heard).max(0.0),
            "connections": known.status.connections,
            "stopping": known.status.not_ready.as_deref() == Some("stopping"),
        }))
    }

    pub(super) fn json(&self) -> Value {
        json!({ "since": self.since, "points": self.points, "events": self.events })
    }
}

fn keep<T>(ring: &mut VecDeque<T>, item: T, most: usize) {
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(item);
}

/// Which clients are cut off while a node is away; `None` if the servers list does not name it.
pub(super) fn hurt(server: &str, nodes: &[Seen]) -> Option<Hurt> {
    let index = nodes.iter().find(|node| node.server == server)?.index?;
    let places = nodes.iter().filter_map(|node| node.index).max().map_or(1, |most| most + 1);
    Some(Hurt { index, places })
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
