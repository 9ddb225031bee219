//! What the verbs and the subscriptions of one `RedisBroker` share: where things lie, and how to reach them.
//!
//! Used on many threads at once; holds no state of clients or nodes.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, OnceLock},
};

use redis::{Pipeline, Value};

use super::{
    appending::Appending,
    cached::Cached,
    layout::{Layout, Share},
    link::{
        Cluster, PIPELINE, RedisOptions,
        connector::Connector,
        error,
        gather::Gather,
        pool::Pool,
        url::{self, Target},
    },
};
use crate::error::Result;

/// One in so many connections for calls may be one that publishes: those who come meanwhile are gathered.
const LANES: usize = 4;

/// Most threads that wait for events at once, each on a connection of its own.
const WAITS: usize = 64;

/// Where a Redis is.
#[derive(Clone, Copy)]
pub(in crate::broker) enum At<'a> {
    Url(&'a str),
    /// Whichever server of a cluster has the share.
    Cluster(&'a Arc<Cluster>),
}

/// One Redis, as the parts of a broker see it.
pub(super) struct Backend {
    pub(super) layout: Layout,
    pub(super) options: RedisOptions,
    pub(super) connector: Connector,
    /// Connections for calls that change something or that single messages depend on.
    pub(super) calls: Pool,
    /// What many threads publish at the same moment.
    pub(super) gather: Gather,
    /// What those who publish know of the log.
    pub(super) appending: Appending,
    /// Scripts that Redis knows by name.
    pub(super) cached: Cached,
    /// Nodes of which was said that nobody serves them, or that were found to be served.
    pub(super) unserved: Mutex<HashSet<String>>,
    /// Whether no script may publish; unknown before a node has asked.
    pub(super) sets_aside: OnceLock<bool>,
    /// Connections for lists, which must not keep the others waiting.
    pub(super) reads: Pool,
    /// Connections of those who wait for events.
    pub(super) waits: Pool,
    /// The one connection for walks through all connections of a node.
    pub(super) walks: Pool,
}

impl Backend {
    /// Checks the options and where it is; connects to nothing. With a `share` it is one of several.
    pub(super) fn new(at: At, options: RedisOptions, share: Option<Share>) -> Result<Self> {
        options.validate()?;
        let layout = Layout::new(&options.prefix, &options.path, &options.key_prefix, share);
        let target = match at {
            At::Url(url) => url::read(url)?,
            At::Cluster(cluster) => Target::in_cluster(cluster, layout.nobodys_key()),
        };
        Ok(Backend {
            connector: Connector::new(target, &options, layout.mark()),
            layout,
            calls: Pool::new(options.pool_size),
            gather: Gather::new((options.pool_size / LANES).max(1)),
            appending: Appending::default(),
            cached: Cached::default(),
            unserved: Mutex::default(),
            sets_aside: OnceLock::new(),
            reads: Pool::new(options.read_pool_size),
            waits: Pool::new(WAITS),
            walks: Pool::new(1),
            options,
        })
    }

    /// Sends one command and returns its reply.
    pub(super) fn one(&self, build: impl FnOnce(&mut Pipeline)) -> Result<Value> {
        let mut pipeline = redis::pipe();
        build(&mut pipeline);
        let mut replies = self.run(&pipeline)?;
        replies.pop().ok_or_else(|| error::unexpected(&self.connector.address))
    }

    /// Sends one command per item, over one connection, and returns their replies.
    ///
    /// [`Interrupted`](crate::ErrorKind::Interrupted) if some were carried out and others not.
    pub(super) fn each<T>(
        &self,
        items: &[T],
        build: impl Fn(&mut Pipeline, &T),
    ) -> Result<Vec<Value>> {
        let replies = self.each_reply(items, build)?;
        error::check_steps(&self.connector.address, &replies)?;
        Ok(replies)
    }

    /// As [`each`](Self::each), with errors of Redis among the replies: what is wrong with one item is not
    /// wrong with the others.
    pub(super) fn each_reply<T>(
        &self,
        items: &[T],
        build: impl Fn(&mut Pipeline, &T),
    ) -> Result<Vec<Value>> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let pipelines = items.chunks(PIPELINE).map(|chunk| {
            let mut pipeline = Pipeline::with_capacity(chunk.len());
            chunk.iter().for_each(|item| build(&mut pipeline, item));
            pipeline
        });
        let replies = self.calls.take(&self.connector)?.run_all(pipelines)?;
        Ok(replies.into_iter().flatten().collect())
    }

    /// Runs a script for each item, as [`each`](Self::each), from the cache. `build` adds its arguments.
    pub(super) fn each_run<T>(
        &self,
        script: &'static str,
        items: &[T],
        build: impl Fn(&mut Pipeline, &T),
    ) -> Result<Vec<Value>> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let mut in_use = self.calls.take(&self.connector)?;
        let replies = self.cached.run_each(&mut in_use, script, items, build)?;
        error::check_steps(&self.connector.address, &replies)?;
        Ok(replies)
    }

    /// Runs a pipeline; the first error among its replies fails it.
    pub(super) fn run(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        self.run_on(&self.calls, pipeline)
    }

    /// As [`run`](Self::run), for lists.
    pub(super) fn read(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        self.run_on(&self.reads, pipeline)
    }

    fn run_on(&self, pool: &Pool, pipeline: &Pipeline) -> Result<Vec<Value>> {
        let replies = pool.run(&self.connector, pipeline)?;
        let address = &self.connector.address;
        match replies.iter().find_map(|reply| error::of_reply(address, reply)) {
            Some(error) => Err(error),
            None => Ok(replies),
        }
    }
}
