//! Scripts that are run from Redis's cache, as their text would cost more than what they do.
//!
//! Kept in the backend, used by the verbs. Where the cache cannot be had, the text travels with each call.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use redis::{Pipeline, Value};

use super::link::{PIPELINE, error, pool::InUse, reply};
use crate::error::Result;

/// How often one call loads its script: the first time it may have been found in the cache of a server to which it was not sent in
/// the end, as its slot moved.
const LOADS: u8 = 3;

/// Names in Redis's cache, by the address of the text; `None`: it is refused.
#[derive(Default)]
pub(super) struct Cached(Mutex<HashMap<usize, Option<String>>>);

impl Cached {
    /// Runs a script once. `pack` writes the whole call; its first words are a command and what names the script to it.
    pub(super) fn run(
        &self,
        in_use: &mut InUse,
        text: &'static str,
        pack: impl Fn([&str; 2]) -> Vec<u8>,
    ) -> Result<Value> {
        let mut known = self.known(text);
        let mut loads = 0;
        loop {
            loads += u8::from(known.is_none());
            let name = self.or_load(known.take(), in_use, text)?;
            let call = name.as_deref().map_or(["EVAL", text], |name| ["EVALSHA", name]);
            let reply = in_use.run_packed(&pack(call), 1)?.pop().unwrap_or(Value::Nil);
            match &reply {
                Value::ServerError(error) if error.code() == "NOSCRIPT" && loads < LOADS => {}
                Value::ServerError(error) if error.code() == "NOPERM" && name.is_some() => {
                    known = Some(self.put(text, None));
                }
                _ => return Ok(reply),
            }
        }
    }

    /// Runs a script for each item. `build` adds its arguments; errors of Redis stand among the replies.
    pub(super) fn run_each<T>(
        &self,
        in_use: &mut InUse,
        text: &'static str,
        items: &[T],
        build: impl Fn(&mut Pipeline, &T),
    ) -> Result<Vec<Value>> {
        let mut known = self.known(text);
        let mut left: Vec<_> = (0..items.len()).collect();
        let mut all = vec![Value::Nil; items.len()];
        let mut loads = 0;
        loop {
            loads += u8::from(known.is_none());
            let name = self.or_load(known.take(), in_use, text)?;
            let [command, script] =
                name.as_deref().map_or(["EVAL", text], |name| ["EVALSHA", name]);
            let pipelines = left.chunks(PIPELINE).map(|chunk| {
                let mut pipeline = Pipeline::with_capacity(chunk.len());
                for place in chunk {
                    build(pipeline.cmd(command).arg(script), &items[*place]);
                }
                pipeline
            });
            let replies = in_use.run_all(pipelines)?.into_iter().flatten();
            let refused = |code| {
                move |reply: &Value| match reply {
                    Value::ServerError(error) => error.code() == code,
                    _ => false,
                }
            };
            let [unknown, forbidden] = ["NOSCRIPT", "NOPERM"].map(refused);
            let mut again = Vec::new();
            for (place, reply) in left.into_iter().zip(replies) {
                let is_forbidden = forbidden(&reply) && name.is_some();
                if is_forbidden || unknown(&reply) && loads < LOADS {
                    again.push(place);
                    known = is_forbidden.then(|| self.put(text, None));
                } else {
                    all[place] = reply;
                }
            }
            if again.is_empty() {
                return Ok(all);
            }
            left = again;
        }
    }

    /// Its name, as it is known or by loading it.
    fn or_load(
        &self,
        known: Option<Option<String>>,
        in_use: &mut InUse,
        text: &'static str,
    ) -> Result<Option<String>> {
        known.map_or_else(|| self.load(in_use, text), Ok)
    }

    fn load(&self, in_use: &mut InUse, text: &'static str) -> Result<Option<String>> {
        let mut load = Pipeline::new();
        load.cmd("SCRIPT").arg("LOAD").arg(text);
        let loaded = in_use.run(&load)?.pop().unwrap_or(Value::Nil);
        Ok(match error::of_reply("", &loaded) {
            None => self.put(text, Some(reply::text(loaded))),
            // The script itself will say what is wrong.
            Some(error) if error.is_retryable() => None,
            Some(_) => self.put(text, None),
        })
    }

    fn known(&self, text: &'static str) -> Option<Option<String>> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&(text.as_ptr() as usize)).cloned()
    }

    fn put(&self, text: &'static str, name: Option<String>) -> Option<String> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(text.as_ptr() as usize, name.clone());
        name
    }
}
