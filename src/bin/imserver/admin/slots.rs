//! The table of slots, where nodes come and go: which node has which, what moves and is to move, and draining a node.

use std::{net::SocketAddr, time::Duration};

use imcore::ImClient;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    actions::{Who, read},
    cached::{Cached, Failure, Outcome},
    happened::Happened,
    watch::Watch,
};
use crate::api;

/// How old an answer may be.
const LIFE: Duration = Duration::from_millis(900);

/// What is asked about the table.
pub(super) struct Slots {
    im: ImClient,
    last: Cached,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    server: String,
    draining: bool,
}

impl Slots {
    pub(super) fn new(im: ImClient) -> Slots {
        Slots { im, last: Cached::new(LIFE) }
    }

    /// The table as the API has it, and how many slots have still to move; `null` where nodes are a fixed list.
    pub(super) fn table(&self) -> Outcome {
        self.last.get(|| {
            let (table, plan) = (self.im.slot_table()?, self.im.plan_slots(&[])?);
            let Some((table, plan)) = table.zip(plan) else { return Ok(Value::Null.to_string()) };
            let mut told = api::slot_table(&table);
            told["to_come"] = json!(plan.moves.len());
            Ok(told.to_string())
        })
    }

    /// Has a node give its slots away, or take its share again.
    pub(super) fn drain(&self, watch: &Watch, body: &[u8], peer: Option<SocketAddr>) -> Outcome {
        let Drain { server, draining } = read(body, r#"{"server": "im-1", "draining": true}"#)?;
        if !self.im.set_draining(&server, draining)? {
            return Err(Failure {
                status: 404,
                why: format!("no node {server:?} stands in a table of slots"),
            });
        }
        let (by, named) = (Who(peer).to_string(), server.clone());
        let done = match draining {
            true => Happened::Drained { by, server: named },
            false => Happened::TakenBack { by, server: named },
        };
        log::info!(server:% = server, draining = draining, address:% = Who(peer); "admin: {done}");
        watch.note(done);
        Ok(json!({ "server": server, "draining": draining }).to_string())
    }
}
