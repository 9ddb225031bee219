//! Scripts that are run from Redis's cache, as their text would cost more than what they do.
//!
//! Kept in the backend, used by the verbs. Where the cache cannot be had, the text travels with each call.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use redis::{Pipeline, Value};

use super::link::{error, pool::InUse, reply};
use crate::error::Result;

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
        loop {
            let is_fresh = known.is_none();
            let name = match known.take() {
                Some(name) => name,
                None => self.load(in_use, text)?,
            };
            let call = name.as_deref().map_or(["EVAL", text], |name| ["EVALSHA", name]);
            let reply = in_use.run_packed(&pack(call), 1)?.pop().unwrap_or(Value::Nil);
            match &reply {
                Value::ServerError(error) if error.code() == "NOSCRIPT" && !is_fresh => {}
                Value::ServerError(error) if error.code() == "NOPERM" && name.is_some() => {
                    known = Some(self.put(text, None));
                }
                _ => return Ok(reply),
            }
        }
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
