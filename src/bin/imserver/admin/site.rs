//! What the admin listener answers: who may ask, and what there is.

use std::{sync::Arc, time::Duration};

use imcore::server::Vitals;
use serde_json::json;

use super::{
    actions,
    cached::{Failure, Outcome},
    cluster::Cluster,
    node_pages::NodePages,
    page,
    slots::Slots,
    watch::Watch,
    webhook,
};
use crate::{
    api::Api,
    following::{Follows, NotFollowed},
    lookups::Lookups,
    web::{self, Access, CHALLENGE, Limits, Request, Response},
    webhook::Desk,
};

const PATHS: &str = "there are /, /health/live, /health/ready, /metrics, /stats, /cluster, /history, \
                      /channels, /channels/NAME, /clients/ID, /follow, /slots, /letters, /kick, /send, /drain and /webhook";
/// What is done, not asked.
const ACTIONS: [&str; 4] = ["/kick", "/send", "/drain", "/webhook"];

/// The node that is asked, what it can ask, and who may.
pub(crate) struct Site {
    node: NodePages,
    cluster: Cluster,
    slots: Slots,
    watch: Arc<Watch>,
    desk: Desk,
    follows: Arc<Follows>,
    access: Arc<Access>,
}

impl Site {
    /// A site for the node called `node`, which takes up to so many `connections`.
    pub(crate) fn new(
        (node, connections): (&str, usize),
        lookups: Arc<Lookups>,
        vitals: Vitals,
        api: Option<Arc<Api>>,
        desk: Desk,
        follows: Arc<Follows>,
        access: Access,
    ) -> Site {
        let broker = lookups.im().broker().describe();
        Site {
            node: NodePages {
                name: node.to_owned(),
                broker,
                connections,
                vitals,
                api,
                webhook: desk.clone(),
            },
            watch: Watch::start(node, lookups.im().clone(), desk.clone()),
            slots: Slots::new(lookups.im().clone()),
            cluster: Cluster::new(lookups),
            desk,
            follows,
            access: Arc::new(access),
        }
    }

    /// Who may ask.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// What is followed, as a stream.
    fn follow(&self, request: &Request) -> Response {
        self.follows.answer(request, &self.access).unwrap_or_else(|why| {
            respond(Err(match why {
                NotFollowed::Wrong(why) => Failure { status: 400, why },
                NotFollowed::Elsewhere(why) => Failure { status: 404, why },
                NotFollowed::Failed(error) => error.into(),
            }))
        })
    }

    /// One client, or one channel.
    fn one(&self, request: &Request) -> Option<Response> {
        let segments = request.segments()?;
        let [place, name] = &segments[..] else { return None };
        match &**place {
            "clients" => Some(respond(self.cluster.client(name))),
            "channels" => Some(respond(self.cluster.channel(name))),
            _ => None,
        }
    }
}

impl web::Site for Site {
    fn limits(&self) -> Limits {
        // Probes, scrapers and pages come once in a while: nothing is kept for them.
        Limits {
            connections: 32,
            // A browser sends along what cookies other programs of the machine have left it.
            head: 32 << 10,
            body: 64 << 10,
            request: Duration::from_secs(5),
            answer: Duration::from_secs(5),
            idle: Duration::ZERO,
        }
    }

    fn admit(&self, request: &Request) -> Result<(), Response> {
        let path = request.path.as_str();
        let acts = ACTIONS.contains(&path);
        let allowed = if acts { "POST" } else { "GET, HEAD" };
        if !allowed.split(", ").any(|method| method == request.method) {
            let why = format!("only {allowed}, not {}", request.method);
            return Err(Response::line(405, &why).with("Allow", allowed));
        }
        // Health checks and the page itself carry no token, and tell nothing but the state.
        if page::has(path) || matches!(path, "/health/live" | "/health/ready") {
            return Ok(());
        }
        self.access.check(request).map_err(|denied| {
            let response = Response::line(denied.status, &denied.why);
            if denied.status == 401 { response.with(CHALLENGE.0, CHALLENGE.1) } else { response }
        })?;
        if acts && request.media_type().as_deref() != Some("application/json") {
            return Err(Response::line(415, "send JSON, as Content-Type: application/json"));
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Response {
        if let Some(file) = page::file(&request.path) {
            return file;
        }
        let Cluster { im, .. } = &self.cluster;
        match request.path.as_str() {
            "/health/live" => self.node.live(),
            "/health/ready" => self.node.ready(),
            "/metrics" => self.node.metrics(&self.access, &self.watch.events()),
            "/stats" => self.node.stats(),
            "/cluster" => respond(Ok(self.watch.cluster(&self.node.vitals.status()))),
            "/history" => respond(Ok(self.watch.history())),
            "/channels" => respond(self.cluster.channels()),
            "/letters" => respond(webhook::letters(&self.desk)),
            "/webhook" => {
                respond(webhook::act(&self.desk, &self.watch, &request.body, request.peer))
            }
            "/follow" => self.follow(request),
            "/slots" => respond(self.slots.table()),
            "/drain" => respond(self.slots.drain(&self.watch, &request.body, request.peer)),
            "/kick" => respond(actions::kick(im, &self.watch, &request.body, request.peer)),
            "/send" => respond(actions::send(im, &request.body, request.peer)),
            _ => self.one(request).unwrap_or_else(|| Response::line(404, PATHS)),
        }
    }
}

fn respond(outcome: Outcome) -> Response {
    let (status, text) = match outcome {
        Ok(text) => (200, text),
        Err(Failure { status, why }) => (status, json!({ "error": why }).to_string()),
    };
    Response::new(status, "application/json", text)
}
