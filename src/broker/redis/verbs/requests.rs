//! Claims of requests: who carries out the request with an idempotency key, or what came of it.
//!
//! Called by the program's HTTP API alone; knows nothing of clients.

use std::time::Duration;

use redis::Value;

use super::{millis, scripts};
use crate::{
    broker::redis::{backend::Backend, link::reply},
    error::Result,
};

impl Backend {
    pub(crate) fn claim(&self, key: &str, claim: &str, life: Duration) -> Result<Option<String>> {
        let there = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::CLAIM).arg(1).arg(self.layout.request_key(key));
            pipeline.arg(claim).arg(millis(life));
        })?;
        Ok((there != Value::Nil).then(|| reply::text(there)))
    }

    pub(crate) fn complete(
        &self,
        key: &str,
        claim: &str,
        outcome: &str,
        life: Duration,
    ) -> Result<bool> {
        let completed = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::COMPLETE).arg(1).arg(self.layout.request_key(key));
            pipeline.arg(claim).arg(outcome);
            pipeline.arg(if life.is_zero() { 0 } else { millis(life) });
        })?;
        Ok(reply::number(completed) == 1)
    }
}
