//! Delivery by webhooks: whose turn it is, how it goes, and dead letters. Keys: `Layout::webhook_key`.
//!
//! Called by the program, on the thread that delivers and on those of operators.

use std::{collections::BTreeSet, time::Duration};

use redis::Value;

use super::{millis, scripts};
use crate::{
    broker::{
        contract::{DEAD_LETTERS, DeadLetter, Page, WebhookState, WebhookTurn},
        redis::{backend::Backend, link::reply},
    },
    error::Result,
};

impl Backend {
    pub(crate) fn hold_webhook(&self, holder: &str, life: Duration) -> Result<WebhookTurn> {
        let told = self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::WEBHOOK_HOLD);
            pipeline.arg(holder).arg(millis(life));
        })?;
        let mut told = reply::items(told).into_iter().map(reply::number);
        let mut next = || told.next().unwrap_or_default();
        let [held, is_off, has_replay] = [(); 3].map(|()| next() == 1);
        Ok(WebhookTurn { held, is_off, has_replay, now: next().max(0) as u64 })
    }

    pub(crate) fn release_webhook(&self, holder: &str) -> Result<()> {
        self.webhook_script("release", &[holder]).map(drop)
    }

    pub(crate) fn note_webhook(&self, holder: &str, failure: Option<&str>) -> Result<()> {
        match failure {
            Some(why) => self.webhook_script("failed", &[holder, why]).map(drop),
            None => self.webhook_script("succeeded", &[holder]).map(drop),
        }
    }

    pub(crate) fn switch_webhook(&self, off: Option<&str>) -> Result<()> {
        match off {
            Some(why) => self.webhook_script("off", &["", why]).map(drop),
            None => self.webhook_script("on", &[]).map(drop),
        }
    }

    pub(crate) fn webhook_state(&self) -> Result<Option<WebhookState>> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(self.layout.webhook_key(""));
        pipeline.cmd("GET").arg(self.layout.webhook_key("Turn"));
        pipeline.cmd("HLEN").arg(self.layout.webhook_key("Dead"));
        pipeline.cmd("ZCARD").arg(self.layout.webhook_key("Replay"));
        let mut replies = self.run(&pipeline)?.into_iter();
        let mut next = || replies.next().unwrap_or(Value::Nil);
        let fields: Vec<_> = reply::pairs(reply::texts(next()).into_iter()).collect();
        if fields.is_empty() {
            return Ok(None);
        }
        let text = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, v)| v);
        let number = |name: &str| text(name).and_then(|text| text.parse().ok());
        let about = |name: &str, at: &str| Some((text(name)?.clone(), number(at)?));
        let holder = Some(next()).filter(|holder| *holder != Value::Nil).map(reply::text);
        let [dead_letters, replaying] = [(); 2].map(|()| reply::number(next()).max(0) as u64);
        Ok(Some(WebhookState {
            holder,
            off: about("off", "off_ms"),
            failures: number("failures").unwrap_or_default(),
            failing_since: number("failing_ms"),
            last_failure: about("failure", "failure_ms"),
            last_success: number("success_ms"),
            dead_letters,
            replaying,
            dropped: number("dropped").unwrap_or_default(),
        }))
    }

    pub(crate) fn bury(&self, letter: &DeadLetter) -> Result<()> {
        let most = DEAD_LETTERS.to_string();
        let DeadLetter { id, body, .. } = letter;
        self.webhook_script("bury", &[&most, id, &about(letter), body]).map(drop)
    }

    pub(crate) fn dead_letters(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<DeadLetter>> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(self.layout.webhook_key("Dead"));
        pipeline.cmd("ZRANGE").arg(self.layout.webhook_key("Replay")).arg(0).arg(-1);
        let mut replies = self.read(&pipeline)?.into_iter();
        let mut next = || reply::texts(replies.next().unwrap_or(Value::Nil)).into_iter();
        let letters = reply::pairs(next()).collect::<Vec<_>>();
        let replays: BTreeSet<_> = next().collect();
        let total = letters.len() as u64;
        let after = after.unwrap_or_default();
        let behind = letters.into_iter().filter(|(id, _)| **id > *after);
        let mut items: Vec<_> = behind.map(|(id, about)| letter(id, &about)).collect();
        items.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        let is_last = items.len() <= limit.max(1);
        items.truncate(limit.max(1));
        for letter in &mut items {
            letter.replaying = replays.contains(&letter.id);
        }
        let next = items.last().filter(|_| !is_last).map(|letter| letter.id.clone());
        Ok(Page { items, next, total })
    }

    pub(crate) fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGET").arg(self.layout.webhook_key("Dead")).arg(id);
        pipeline.cmd("HGET").arg(self.layout.webhook_key("Bodies")).arg(id);
        pipeline.cmd("ZSCORE").arg(self.layout.webhook_key("Replay")).arg(id);
        let mut replies = self.run(&pipeline)?.into_iter();
        let mut next = || replies.next().unwrap_or(Value::Nil);
        let (about, body, replay) = (next(), next(), next());
        Ok((about != Value::Nil).then(|| DeadLetter {
            body: reply::text(body),
            replaying: replay != Value::Nil,
            ..letter(id.to_owned(), &reply::text(about))
        }))
    }

    pub(crate) fn replay_dead_letters(&self, ids: &[String]) -> Result<usize> {
        self.about_letters("replay", ids)
    }

    pub(crate) fn next_replay(&self) -> Result<Option<DeadLetter>> {
        let first = self.one(|pipeline| {
            pipeline.cmd("ZRANGE").arg(self.layout.webhook_key("Replay")).arg(0).arg(0);
        })?;
        match reply::texts(first).first() {
            None => Ok(None),
            Some(id) => self.dead_letter(id),
        }
    }

    pub(crate) fn settle_replay(&self, id: &str, delivered: bool) -> Result<()> {
        self.webhook_script(if delivered { "discard" } else { "spare" }, &[id]).map(drop)
    }

    pub(crate) fn discard_dead_letters(&self, ids: &[String]) -> Result<usize> {
        self.about_letters("discard", ids)
    }

    fn about_letters(&self, verb: &str, ids: &[String]) -> Result<usize> {
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let count = self.webhook_script(verb, &ids)?;
        Ok(usize::try_from(reply::number(count)).unwrap_or_default())
    }

    fn webhook_script(&self, verb: &str, arguments: &[&str]) -> Result<Value> {
        self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::WEBHOOK);
            pipeline.arg(verb).arg(arguments);
        })
    }
}

/// What `WebhookDead` has of a letter, behind the time at which it was put there.
fn about(letter: &DeadLetter) -> String {
    let DeadLetter { count, attempts, failure, .. } = letter;
    let (first, last) = letter.ends.as_ref().map_or(("-", "-"), |(first, last)| (first, last));
    format!("{count} {attempts} {first} {last} {failure}")
}

/// A letter of which is known what `WebhookDead` has.
fn letter(id: String, about: &str) -> DeadLetter {
    let mut about = about.splitn(6, ' ');
    let mut next = || about.next().unwrap_or_default();
    let [ms, count, attempts] = [(); 3].map(|()| next().parse().unwrap_or_default());
    let ends = Some((next().to_owned(), next().to_owned())).filter(|(first, _)| first != "-");
    let failure = next().to_owned();
    DeadLetter { id, ms, count, attempts, ends, failure, ..DeadLetter::default() }
}
