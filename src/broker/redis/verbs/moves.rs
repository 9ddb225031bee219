//! Connections that go from one node's session to another's, and the parcels that go with them.
//!
//! Called by presence threads of nodes that serve slots.

use std::time::Duration;

use redis::Value;

use super::{presence::read_key, report::check_known, scripts};
use crate::{
    broker::{
        contract::{Abandoned, HandOver, Session},
        redis::{backend::Backend, link::reply},
    },
    error::Result,
};

/// Parcels that are read at once: each may have a few megabytes.
const PAGE: usize = 4;

impl Backend {
    pub(crate) fn common_key(&self, proposed: &[u8; 16]) -> Result<[u8; 16]> {
        let key = self.layout.common_key();
        let digits: String = proposed.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(&key).arg(format!("{digits} ")).arg("NX").cmd("GET").arg(&key);
        let known = self.run(&pipeline)?.pop().unwrap_or(Value::Nil);
        Ok(read_key(&reply::text(known)).unwrap_or(*proposed))
    }

    pub(crate) fn hand_over(
        &self,
        session: &Session,
        to: &str,
        from: u64,
        connections: &[u64],
        parcel: &str,
    ) -> Result<HandOver> {
        let done = self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::HAND_OVER);
            pipeline.arg(&session.id).arg(session.reports.acknowledged()).arg(to).arg(from);
            pipeline.arg(parcel).arg(connections);
        })?;
        match done {
            Value::Int(0) => Ok(HandOver::Nobody),
            Value::Array(taken) => {
                let taken = taken.into_iter().map(reply::text);
                Ok(HandOver::Taken(taken.filter_map(|number| number.parse().ok()).collect()))
            }
            done => check_known(session, &done).map(|()| HandOver::Done),
        }
    }

    pub(crate) fn parcels(&self, session: &Session) -> Result<Vec<String>> {
        let parcels = self.one(|pipeline| {
            pipeline.cmd("LRANGE").arg(self.layout.parcels_key(&session.id)).arg(0).arg(PAGE - 1);
        })?;
        Ok(reply::texts(parcels))
    }

    pub(crate) fn took(&self, session: &Session, count: usize) -> Result<()> {
        self.one(|pipeline| {
            pipeline.cmd("LTRIM").arg(self.layout.parcels_key(&session.id)).arg(count).arg(-1);
        })?;
        Ok(())
    }

    pub(crate) fn abandoned(&self) -> Result<Vec<Abandoned>> {
        let found = self.one(|pipeline| self.presence_script(pipeline, &scripts::ABANDONED))?;
        let found = reply::texts(found);
        let of = |four: &[String]| {
            let [session, node, away, resume] = four else { return None };
            let mut times = resume.split(' ').skip(1).map(|time| time.parse().unwrap_or(0));
            let mut next = || Duration::from_secs(times.next().unwrap_or(0));
            let (session, node) = (session.clone(), node.clone());
            let away = Duration::from_millis(away.parse().unwrap_or(0));
            Some(Abandoned { session, node, away, keep: next(), grace: next() })
        };
        Ok(found.chunks(4).filter_map(of).collect())
    }

    pub(crate) fn take_abandoned(
        &self,
        session: &Session,
        abandoned: &str,
        from: u64,
        connections: &[u64],
    ) -> Result<Vec<u64>> {
        let taken = self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::TAKE_ABANDONED);
            pipeline.arg(&session.id).arg(session.reports.acknowledged()).arg(abandoned).arg(from);
            pipeline.arg(connections);
        })?;
        match taken {
            Value::Array(taken) => {
                let taken = taken.into_iter().map(reply::text);
                Ok(taken.filter_map(|number| number.parse().ok()).collect())
            }
            refused => check_known(session, &refused).map(|()| Vec::new()),
        }
    }
}
