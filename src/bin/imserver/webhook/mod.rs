//! Webhooks: events that are kept, posted to an address of the business, by one node at a time.
//!
//! Reading order: `target` (where to, and where not), `secrets` (how it is signed), `message` (what is sent), `retry` (when again), `post`
//! (one attempt over HTTP), `deliver` (the thread that reads, posts and acknowledges), `counts` (what came of it), `desk` (what operators see
//! and do). The broker knows whose turn it is.

// Without the feature settings are read, and refused; what would use them is not built.
#![cfg_attr(not(feature = "webhooks"), allow(dead_code))]

mod counts;
#[cfg(feature = "webhooks")]
mod deliver;
mod desk;
#[cfg(feature = "webhooks")]
mod message;
#[cfg(feature = "webhooks")]
mod post;
#[cfg(feature = "webhooks")]
mod retry;
mod secrets;
mod target;

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use imcore::{Error, ErrorKind, broker::Broker};

use counts::Counts;
use secrets::SECRETS;

pub(crate) use desk::{Desk, Seen, letter_json};
pub(crate) use secrets::Secrets;
pub(crate) use target::{Allowed, Target, URL};

/// The name of the group of readers; the API takes none that begins so.
const GROUP: &str = "@webhook";

/// What is set about webhooks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) url: Option<Target>,
    pub(crate) secrets: Option<Secrets>,
    pub(crate) secret_file: Option<String>,
    pub(crate) types: Vec<String>,
    pub(crate) allowed: Allowed,
    pub(crate) ca: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) retry: Duration,
    pub(crate) give_up: Duration,
}

impl Settings {
    /// What they come to, with the files that they name; `None` if no webhook is set.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config), about the setting that cannot be used.
    pub(crate) fn hook(&self) -> Result<Option<Arc<Hook>>, Error> {
        let Some(target) = &self.url else { return Ok(None) };
        if !cfg!(feature = "webhooks") {
            return Err(mistake(
                "webhook_url",
                "this program was built without webhooks, the feature of that name",
            ));
        }
        if !target.is_encrypted() && !self.allowed.http {
            return Err(mistake(
                "webhook_url",
                "it is not https; to send events unencrypted, add http to webhook_allow",
            ));
        }
        if let Some(address) = target.address().filter(|address| !self.allowed.admits(*address)) {
            let detail = format!(
                "{address} is not a public address; if it is meant, add it to webhook_allow"
            );
            return Err(mistake("webhook_url", detail));
        }
        let secrets = match (&self.secrets, &self.secret_file) {
            (Some(secrets), None) => secrets.clone(),
            (None, Some(path)) => {
                let text =
                    String::from_utf8(read("webhook_secret_file", path)?).unwrap_or_default();
                let expected = |expected| format!("{path:?} is not usable: expected {expected}");
                Secrets::read(&text).map_err(|why| mistake("webhook_secret_file", expected(why)))?
            }
            (Some(_), Some(_)) => {
                return Err(mistake(
                    "webhook_secret",
                    "webhook_secret_file is given too; leave one out",
                ));
            }
            (None, None) => {
                let detail = format!("webhook_url needs it, or webhook_secret_file: {SECRETS}");
                return Err(mistake("webhook_secret", detail));
            }
        };
        let authorities = self.ca.as_ref().map(|path| read("webhook_ca", path)).transpose()?;
        if authorities.as_ref().is_some_and(|pem| {
            !String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----")
        }) {
            return Err(mistake("webhook_ca", "there is no certificate in it; expected PEM"));
        }
        Ok(Some(Arc::new(Hook {
            target: target.clone(),
            secrets,
            types: self.types.clone(),
            allowed: self.allowed.clone(),
            authorities,
            timeout: self.timeout,
            retry: self.retry,
            give_up: self.give_up,
        })))
    }
}

fn read(setting: &'static str, path: &str) -> Result<Vec<u8>, Error> {
    std::fs::read(path)
        .map_err(|error| mistake(setting, format!("{path:?} cannot be read")).with_source(error))
}

fn mistake(setting: &'static str, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, detail.into()).with_setting(setting)
}

/// Where events are posted, and how.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub(crate) target: Target,
    pub(crate) secrets: Secrets,
    /// Types of events that are sent; all, if none is named.
    pub(crate) types: Vec<String>,
    pub(crate) allowed: Allowed,
    /// Authorities that the target's certificate may be from, as PEM; none: those of the system.
    pub(crate) authorities: Option<Vec<u8>>,
    /// How long one attempt may take.
    pub(crate) timeout: Duration,
    /// The first pause after a failure.
    pub(crate) retry: Duration,
    /// How old events become before they are put aside.
    pub(crate) give_up: Duration,
}

/// The thread that delivers, if any.
pub(crate) struct Webhook {
    broker: Arc<dyn Broker>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told.
struct Shared {
    orders: Mutex<Orders>,
    changed: Condvar,
    counts: Counts,
}

struct Orders {
    hook: Option<Arc<Hook>>,
    stop: bool,
}

impl Webhook {
    /// Delivers to `hook` from now on, when it is this node's turn.
    pub(crate) fn start(node: &str, broker: Arc<dyn Broker>, hook: Option<Arc<Hook>>) -> Webhook {
        let orders = Mutex::new(Orders { hook, stop: false });
        let (changed, counts) = (Condvar::new(), Counts::default());
        let shared = Arc::new(Shared { orders, changed, counts });
        let thread = spawn(node, Arc::clone(&broker), &shared);
        Webhook { broker, shared, thread }
    }

    /// From where operators see and steer it.
    pub(crate) fn desk(&self) -> Desk {
        Desk { broker: Arc::clone(&self.broker), shared: Arc::clone(&self.shared) }
    }

    /// Another target, other secrets, or none at all.
    pub(crate) fn change(&self, hook: Option<Arc<Hook>>) {
        let mut orders = self.shared.lock();
        // Neither the name of a file nor what is secret says in the log that it has changed.
        if let (Some(before), Some(now)) = (&orders.hook, &hook)
            && !before.secrets.are(&now.secrets)
        {
            log::info!(
                "webhook: signed with other secrets from now on, {} of them",
                now.secrets.count()
            );
        }
        orders.hook = hook;
        drop(orders);
        self.shared.changed.notify_all();
    }

    /// Begins nothing more, and leaves the turn to others.
    pub(crate) fn close(&self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
    }

    /// Waits for an attempt that is under way; what is cut off comes again elsewhere.
    pub(crate) fn finish(&mut self, until: Instant) {
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(feature = "webhooks")]
fn spawn(node: &str, broker: Arc<dyn Broker>, shared: &Arc<Shared>) -> Option<JoinHandle<()>> {
    let delivery = deliver::Delivery::new(node, broker, Arc::clone(shared));
    let thread = thread::Builder::new().name("im-webhook".into());
    match delivery.and_then(|delivery| thread.spawn(move || delivery.run())) {
        Ok(thread) => Some(thread),
        Err(error) => {
            log::error!("webhook: nothing is delivered by this node: {error}");
            None
        }
    }
}

/// Settings that ask for it were refused.
#[cfg(not(feature = "webhooks"))]
fn spawn(_node: &str, _broker: Arc<dyn Broker>, _shared: &Arc<Shared>) -> Option<JoinHandle<()>> {
    None
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for so long, or until there is another order.
    #[cfg(feature = "webhooks")]
    fn wait(&self, time: Duration) {
        let orders = self.lock();
        if !orders.stop {
            drop(self.changed.wait_timeout(orders, time));
        }
    }
}
