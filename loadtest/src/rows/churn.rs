//! Clients that come and go, and the presence events that they must raise.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::look::LOOK;
use crate::{
    cluster::Cluster,
    orders::{Dial, Reconnect},
    report::Row,
    setups::{everybody, first_client},
    swarms::{State, Swarms},
};

/// Clients that come and go; each must raise one online and one offline event.
pub struct Churn {
    pub swarms: Swarms,
    /// How many come, and go, a second.
    rate: f64,
    /// Whether those who are cut, or cannot get in, try again.
    reconnect: Reconnect,
    first: i64,
    next: i64,
    gone: i64,
    online: Arc<AtomicU64>,
    offline: Arc<AtomicU64>,
    _bus: imcore::PresenceWatch,
}

impl Churn {
    /// Clients over the whole run, all in one process: only the present ones hold a socket.
    const MOST: usize = 10_000_000;

    pub fn start(
        cluster: &Cluster,
        core: Option<usize>,
        rate: f64,
        reconnect: Reconnect,
    ) -> Result<Self, String> {
        let deployment = Some(&cluster.deployment);
        let first = first_client() + 100_000_000;
        let swarms = Swarms::start_split(deployment, first, Self::MOST, Self::MOST, core)?;
        let (online, offline) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let count = |counter: &Arc<AtomicU64>| {
            let counter = Arc::clone(counter);
            move |client, _meta: Option<String>| {
                let own = first..first + Self::MOST as i64;
                if matches!(client, imcore::ClientId::Int(id) if own.contains(&id)) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let bus = cluster.im.on_presence(count(&online), count(&offline));
        let bus = bus.map_err(|error| error.to_string())?;
        let (next, gone, _bus) = (first, first, bus);
        Ok(Churn { swarms, rate, reconnect, first, next, gone, online, offline, _bus })
    }

    /// Some come, spread over the time until the next turn; those of the turn before last go.
    pub fn turn(&mut self) -> Result<(), String> {
        let count = (self.rate * LOOK.as_secs_f64()).max(1.0) as usize;
        let rate = Some(count as f64 / LOOK.as_secs_f64());
        let reconnect = self.reconnect;
        self.swarms.dial(&Dial { rate, reconnect, ..everybody(self.next, count) })?;
        self.next += count as i64;
        let stay = 2 * count as i64;
        let leaving = (self.next - stay - self.gone).max(0);
        self.swarms.hang_up(self.gone, leaving as usize)?;
        self.gone += leaving;
        Ok(())
    }

    /// Everybody leaves; then the events must add up, and nobody may have been refused or cut for good.
    pub fn finish(mut self, row: &mut Row) -> Result<(), String> {
        let came = (self.next - self.first) as u64;
        let patience =
            Duration::from_secs(if self.reconnect != Reconnect::Never { 90 } else { 30 });
        self.swarms.wait("churning clients", patience, |state| {
            state.arrived() + state.refused() >= came
        })?;
        self.swarms.hang_up(self.first, came as usize)?;
        self.swarms.wait("churning clients to go", patience, |state| state.open() == 0)?;
        row.latency("connect", &self.swarms.collect()?.connect);
        self.judge_connections(row);
        self.judge_events(row);
        Ok(())
    }

    fn judge_connections(&self, row: &mut Row) {
        let (refused, ended, troubles) =
            self.swarms.look(|state| (state.refused(), state.ended(), state.troubles()));
        if refused + ended > 0 {
            row.fault(format!(
                "churn: {refused} connects were refused and {ended} connections cut: {troubles}"
            ));
        }
    }

    /// Each connection raises one event when it opens and one when it ends. Where a node was killed, connections
    /// that were cut may have been unknown to it, and attempts that failed known.
    fn judge_events(&self, row: &mut Row) {
        let (opened, refused, doubtful) = self.swarms.look(|state: &State| {
            let doubtful = state.interrupted() + state.failed() - state.refused();
            (state.opened(), state.refused(), doubtful)
        });
        let seen = || (self.online.load(Ordering::Relaxed), self.offline.load(Ordering::Relaxed));
        let add_up = |(online, offline)| online == offline && opened.abs_diff(online) <= doubtful;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !add_up(seen()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let (online, offline) = seen();
        row.note(format!(
            "churn: {opened} came and went ({refused} refused), {online} online and {offline} offline \
             events"
        ));
        if !add_up((online, offline)) {
            row.fault(format!(
                "churn: {opened} connections raised {online} online and {offline} offline events"
            ));
        }
    }
}
