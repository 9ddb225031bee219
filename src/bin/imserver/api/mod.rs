//! The API over HTTP: everything that the helper does, for business code in any language.
//!
//! Reading order: `operations` (the table that everything follows from), `calls` (what each does), `input`
//! (what is good), `json` (how it is read), `problem` (what is not), `idempotency`, `events`, `groups` and `following` beside this folder (streams), `webhooks`, `document` (OpenAPI).

mod calls;
mod document;
mod events;
#[cfg(test)]
pub(crate) mod fuzzing;
mod groups;
mod idempotency;
mod input;
mod json;
mod keys;
mod operations;
mod problem;
mod slots;
mod stats;
mod webhooks;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    calls::Call,
    events::Listeners,
    groups::Readers,
    keys::Keys,
    operations::{Kind, NoOperation, Operation},
    problem::{Code, Problem},
    stats::Stats,
};
use crate::following::Follows;
use crate::lookups::Lookups;
use crate::web::{Access, Limits, Request, Response, Site};
use crate::webhook::Desk;

pub(crate) use keys::KeyLimits;
pub(crate) use slots::slot_table;

/// What requests that fit no operation are counted as.
const NONE: &str = "none";
/// Connections at a time.
const CONNECTIONS: usize = 256;
/// Connections to the broker for calls, for lists and for walks, as many as their pools have by default.
const CALLS: usize = 16 + 4 + 1;
/// Descriptors that the API may take; its listeners to presence share one subscription, its readers of groups do not.
pub(crate) const DESCRIPTORS: u64 = (CONNECTIONS + 1 + CALLS + groups::READERS) as u64;

/// The API of one node, over the broker that all nodes share: each node's answers the same.
pub(crate) struct Api {
    lookups: Arc<Lookups>,
    keys: Keys,
    access: Arc<Access>,
    listeners: Listeners,
    readers: Readers,
    keeps_events: bool,
    webhook: Desk,
    follows: Arc<Follows>,
    stats: Stats,
}

impl Api {
    pub(crate) fn new(
        lookups: Arc<Lookups>,
        access: Access,
        limits: KeyLimits,
        keeps_events: bool,
        webhook: Desk,
        follows: Arc<Follows>,
    ) -> Api {
        let keys = Keys::new(limits);
        Api {
            lookups,
            keys,
            access: Arc::new(access),
            listeners: Listeners::default(),
            readers: Readers::default(),
            keeps_events,
            webhook,
            follows,
            stats: Stats::default(),
        }
    }

    /// Who may ask.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// What is counted here, in the text exposition format of Prometheus.
    pub(crate) fn prometheus(&self) -> String {
        self.stats.prometheus(self.keys.count())
    }

    /// Whether a request may be carried out, as far as its head tells.
    fn check(
        &self,
        request: &Request,
        found: Result<&Operation, NoOperation>,
    ) -> Result<(), Response> {
        if !matches!(found, Ok(Operation { kind: Kind::Public, .. })) {
            let check = self.access.check(request);
            check.map_err(|denied| problem::refusal(denied.status, &denied.why))?;
        }
        let problem = match found {
            Ok(operation) => {
                let json = request.media_type().as_deref() == Some("application/json");
                let detail = match request.header("Content-Encoding") {
                    Some(coding) if !coding.eq_ignore_ascii_case("identity") => {
                        format!("send the body as it is, without Content-Encoding: {coding}")
                    }
                    _ if operation.body.is_none() || json => return Ok(()),
                    _ => "send JSON, as Content-Type: application/json".to_owned(),
                };
                Problem::new(Code::UnsupportedMediaType, detail)
            }
            Err(NoOperation::Path(problem)) => problem,
            Err(NoOperation::Method(allow)) => {
                let detail = format!("this path has {allow}");
                let problem = Problem::new(Code::MethodNotAllowed, detail);
                return Err(problem.into_response().with("Allow", allow));
            }
        };
        Err(problem.into_response())
    }

    fn carry_out(
        &self,
        operation: &Operation,
        params: Vec<String>,
        request: &Request,
    ) -> Result<Response, Problem> {
        match operation.kind {
            Kind::List => input::page(request).map(|_| ())?,
            // It reads its query itself.
            Kind::Stream => {}
            _ => input::query(request, []).map(|[]| ())?,
        }
        let key = idempotency::key(request)?;
        let (listeners, access) = (&self.listeners, &self.access);
        let (im, lookups) = (self.lookups.im(), &*self.lookups);
        let document = document::text(im.id_kind());
        let (readers, keeps_events) = (&self.readers, self.keeps_events);
        let call = Call {
            im,
            lookups,
            listeners,
            readers,
            keeps_events,
            webhook: &self.webhook,
            follows: &self.follows,
            access,
            document,
            params,
            request,
        };
        let life = self.keys.life(request, key.is_some())?;
        match (operation.kind, key) {
            (Kind::Change(most), Some(key)) => {
                let life = life.min(most);
                let shared = (&**im.broker(), &self.keys);
                idempotency::once(shared, key, request, life, || (operation.run)(&call))
            }
            _ => (operation.run)(&call),
        }
    }
}

impl Site for Api {
    fn limits(&self) -> Limits {
        Limits {
            connections: CONNECTIONS,
            head: 32 << 10,
            body: input::BODY,
            request: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            // Longer than most clients keep a connection themselves: they should be the ones to end it.
            idle: Duration::from_secs(75),
        }
    }

    fn admit(&self, request: &Request) -> Result<(), Response> {
        let found = operations::find(request);
        let operation = found.as_ref().map_or(NONE, |(operation, _)| operation.id);
        self.check(request, found.map(|(operation, _)| operation))
            .inspect_err(|response| self.stats.count(operation, response.status, None))
    }

    fn answer(&self, request: &Request) -> Response {
        let Ok((operation, params)) = operations::find(request) else {
            return self.refusal(404, "there is nothing here");
        };
        let began = Instant::now();
        let outcome = self.carry_out(operation, params, request);
        let response = outcome.unwrap_or_else(Problem::into_response);
        self.stats.count(operation.id, response.status, Some(began.elapsed()));
        response
    }

    fn refusal(&self, status: u16, why: &str) -> Response {
        self.stats.count(NONE, status, None);
        problem::refusal(status, why)
    }
}
