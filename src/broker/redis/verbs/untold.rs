//! Telling what scripts have put aside: events, and whose channels have changed, on servers where no script may publish.
//!
//! Called by the verbs of presence, on a node's presence thread. Nothing is told twice or never, whoever ends in between:
//! what a script has done and what is to be told of it become known in one step, and are published and forgotten in
//! one, a transaction that comes to nothing if another process has done it meanwhile. What a process leaves, the next one
//! tells; the order is that in which it happened.

use redis::{Pipeline, Value};

use super::scripts::{Eventful, Texts};
use crate::{
    broker::redis::{
        backend::Backend,
        link::{error, reply},
    },
    error::Result,
};

/// Events told at once.
const CHUNK: usize = 500;

impl Backend {
    /// The text of a script as this server takes it.
    pub(super) fn eventful(&self, script: &'static Eventful) -> Result<&'static str> {
        self.telling(&script[usize::from(self.options.events > 0)])
    }

    /// The same of one that has no events.
    pub(super) fn telling<'a>(&self, script: &'a Texts) -> Result<&'a str> {
        Ok(match self.sets_aside()? {
            true => &script.sets_aside,
            false => &script.publishes,
        })
    }

    /// Whether no script may publish here, though its user may. Asked once.
    fn sets_aside(&self) -> Result<bool> {
        if let Some(known) = self.sets_aside.get() {
            return Ok(*known);
        }
        let topic = self.layout.node_topic("?");
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("EVAL").arg("return redis.call('PUBLISH', ARGV[1], '')").arg(0).arg(&topic);
        pipeline.cmd("PUBLISH").arg(&topic).arg("");
        let replies = self.calls.run(&self.connector, &pipeline)?;
        let address = &self.connector.address;
        let refused = |reply| error::of_reply(address, reply).map(|error| !error.is_retryable());
        Ok(match replies.iter().map(refused).collect::<Vec<_>>()[..] {
            [None, None] => *self.sets_aside.get_or_init(|| false),
            [Some(true), None] => *self.sets_aside.get_or_init(|| true),
            // The script itself says what is wrong.
            _ => false,
        })
    }

    /// Publishes all that was put aside, if that is the way here.
    pub(super) fn tell_untold(&self) -> Result<()> {
        if self.sets_aside.get() != Some(&true) {
            return Ok(());
        }
        let (untold, told) = (self.layout.untold_key(), self.layout.told_key());
        let mut in_use = self.calls.take(&self.connector)?;
        let mut run = |pipeline: &Pipeline| {
            let mut replies = in_use.run(pipeline)?;
            let refused = |reply| error::of_reply(&self.connector.address, reply);
            match replies.iter().find_map(refused) {
                Some(error) => Err(error),
                None => Ok(replies.pop().unwrap_or(Value::Nil)),
            }
        };
        loop {
            let mut look = Pipeline::with_capacity(2);
            look.cmd("WATCH").arg(&told).cmd("LRANGE").arg(&untold).arg(0).arg(2 * CHUNK - 1);
            let events = reply::items(run(&look)?);
            let count = events.len();
            let mut publish = Pipeline::with_capacity(count / 2 + 4);
            publish.cmd("MULTI");
            for (topic, text) in reply::pairs(events.into_iter().map(reply::bytes)) {
                publish.cmd("PUBLISH").arg(topic).arg(text);
            }
            if count > 0 {
                publish.cmd("LTRIM").arg(&untold).arg(count).arg(-1).cmd("INCR").arg(&told);
            }
            publish.cmd("EXEC");
            // Nothing was done if another has told these meanwhile.
            if run(&publish)? != Value::Nil && count < 2 * CHUNK {
                return Ok(());
            }
        }
    }
}
