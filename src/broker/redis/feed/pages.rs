//! What a feed asks Redis about the log, and how the replies are read.
//!
//! Called by the feed on its data connection. Keeps no state: where the feed stands is in `cursor`.

use redis::{Cmd, Pipeline, Value, cmd};

use super::{
    cursor::{ALL, Entry, Head, OWN},
    data::Data,
    gap::Gap,
};
use crate::{
    broker::redis::link::reply,
    error::Result,
    token::random_u64,
    wire::{Envelope, Malformed, Mark},
};

/// Entries that are read at once, for a start. One holds what was logged in one step: a short message, or some 1 MiB.
const PAGE: usize = 32;
const PAGE_MOST: usize = 1024;

/// Bytes that a page is to have.
const PAGE_BYTES: usize = 1 << 20;

/// How many entries are read at once, so that neither many short ones take many round trips nor a few long ones much
/// memory.
pub(super) struct PageSize(usize);

impl Default for PageSize {
    fn default() -> Self {
        PageSize(PAGE)
    }
}

impl PageSize {
    /// A page had so many bytes.
    fn had(&mut self, bytes: usize) {
        self.0 = match bytes {
            PAGE_BYTES.. => (self.0 / 2).max(1),
            _ if bytes < PAGE_BYTES / 4 => (self.0 * 2).min(PAGE_MOST),
            _ => self.0,
        };
    }
}

/// Finds the place in the log, and publishes a probe with a look at it. `P` is the prefix of all keys.
const ENTER: &str = concat!("local P = ARGV[1]\n", include_str!("enter.lua"));
const CHECK: &str = concat!("local P = ARGV[1]\n", include_str!("check.lua"));

/// A message as it lies in the log.
pub(super) type Logged = Result<Envelope, Malformed>;

impl Data {
    /// Looks at the head of the log of `node`; in a Redis that is not the one the log was last looked at in, and for
    /// the epoch `wrong`, a new epoch begins. `goes_on`: from a former process, which may have heard what no log has.
    pub(super) fn enter(&mut self, node: &str, wrong: Option<&str>, goes_on: bool) -> Result<Head> {
        let run = self.run()?;
        let mut enter = cmd("EVAL");
        enter.arg(ENTER).arg(0).arg(self.backend.layout.prefix()).arg(node).arg(run);
        enter.arg(format!("{:016x}", random_u64()?)).arg(wrong.unwrap_or_default());
        let options = &self.backend.options;
        enter.arg(options.log_age.as_micros().to_string()).arg(options.log_bytes);
        enter.arg(u8::from(goes_on));
        let reply = self.ask_for(&enter)?;
        Ok(head(&mut reply::items(reply).into_iter()))
    }

    /// Which process this is, and as whose successor. One that may not say is another each time: nobody knows what it
    /// has lost.
    fn run(&mut self) -> Result<String> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("INFO").arg("server").cmd("INFO").arg("replication");
        let replies = self.exchange(&pipeline, 2)?;
        let infos: Vec<String> = replies.into_iter().map(reply::text).collect();
        let field = |name: &str| {
            let mut lines = infos.iter().flat_map(|info| info.lines());
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        match (field("run_id"), field("master_replid")) {
            (Some(run), Some(replication)) => Ok(format!("{run} {replication}")),
            _ => Ok(format!("{:016x}", random_u64()?)),
        }
    }

    /// Publishes `probe` in one step with a look at how many messages were published that no log has, and at the head
    /// of the log, where it is noted what of these messages was heard. Fails if the subscription that it is for is not
    /// there.
    pub(super) fn check(
        &mut self,
        node: &str,
        topic: &str,
        probe: &Envelope,
        heard: &Gap,
    ) -> Result<(u64, Head)> {
        let mut check = cmd("EVAL");
        check.arg(CHECK).arg(0).arg(self.backend.layout.prefix()).arg(node).arg(topic);
        check.arg(probe.encode()).arg(self.backend.options.log_age.as_micros().to_string());
        check.arg(heard.counted().map(|count| count.to_string()).unwrap_or_default());
        check.arg(u8::from(heard.has_strangers()));
        let mut items = reply::items(self.ask_for(&check)?).into_iter();
        let mut number = || reply::number(items.next().unwrap_or(Value::Nil));
        let (heard, published) = (number(), number().max(0) as u64);
        self.check_heard(heard)?;
        Ok((published, head(&mut items)))
    }

    /// Numbers of the entries before the first that each stream holds; of its last if it holds none.
    pub(super) fn floors(&mut self, node: &str, head: &Head) -> Result<[u64; 2]> {
        let mut floors = [0; 2];
        for index in [OWN, ALL] {
            let entries = self.page(node, index, 0, 1)?;
            floors[index] = entries.first().map_or(head.ends[index], |entry| entry.prev);
        }
        Ok(floors)
    }

    /// The next entries of a stream above `after`, and whether there may be more.
    pub(super) fn next_page(
        &mut self,
        node: &str,
        index: usize,
        after: u64,
        size: &mut PageSize,
    ) -> Result<(Vec<Entry<Logged>>, bool)> {
        let count = size.0;
        let entries = self.page(node, index, after, count)?;
        size.had(entries.iter().map(|entry| entry.bytes).sum());
        let more = entries.len() == count;
        Ok((entries, more))
    }

    fn page(
        &mut self,
        node: &str,
        index: usize,
        after: u64,
        count: usize,
    ) -> Result<Vec<Entry<Logged>>> {
        let layout = &self.backend.layout;
        let key = if index == OWN { layout.log_key(node) } else { layout.log_of_all_key() };
        debug_assert!(index == OWN || index == ALL);
        let mut range = cmd("XRANGE");
        range.arg(key).arg(format!("({after}-0")).arg("+").arg("COUNT").arg(count);
        Ok(reply::items(self.ask_for(&range)?).into_iter().map(entry).collect())
    }

    fn ask_for(&mut self, command: &Cmd) -> Result<Value> {
        let reply = self.ask(command)?;
        match self.refusal(&reply) {
            Some(error) => Err(error),
            None => Ok(reply),
        }
    }
}

/// What `enter` and `check` say of the head.
fn head(items: &mut impl Iterator<Item = Value>) -> Head {
    let mut next = || match items.next() {
        None | Some(Value::Nil) => None,
        Some(Value::Int(number)) => Some(number.to_string()),
        Some(value) => Some(reply::text(value)),
    };
    let first = |text: Option<String>| text.and_then(|text| text.split(' ').next()?.parse().ok());
    let epoch = next();
    let (last, whole) = (first(next()).unwrap_or(0), first(next()));
    let ends = [first(next()).unwrap_or(0), first(next()).unwrap_or(0)];
    let (witness, noted) = (first(next()), first(next()).unwrap_or(0));
    Head { epoch, last, whole, ends, witness, noted }
}

/// An entry of a stream; what it holds that is no message of a log is skipped.
fn entry(value: Value) -> Entry<Logged> {
    let mut parts = reply::items(value).into_iter();
    let id = reply::text(parts.next().unwrap_or(Value::Nil));
    let id = id.split('-').next().and_then(|id| id.parse().ok()).unwrap_or(0);
    let mut entry = Entry { id, prev: 0, bytes: 0, messages: Vec::new() };
    let fields = reply::texts(parts.next().unwrap_or(Value::Nil));
    for (name, value) in reply::pairs(fields.into_iter()) {
        entry.bytes += value.len();
        match &*name {
            "prev" => entry.prev = value.parse().unwrap_or(0),
            "m" => {
                if let (Mark::Logged(number), message) = Envelope::decode_numbered(&value) {
                    entry.messages.push((number, message));
                }
            }
            _ => {}
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_grow_and_shrink_with_what_they_hold() {
        let mut size = PageSize::default();
        (0..9).for_each(|_| size.had(1000));
        assert_eq!(size.0, PAGE_MOST);
        size.had(PAGE_BYTES / 2);
        assert_eq!(size.0, PAGE_MOST);
        (0..20).for_each(|_| size.had(50 * PAGE_BYTES));
        assert_eq!(size.0, 1);
    }

    #[test]
    fn what_is_no_message_of_a_log_is_skipped() {
        let text = |text: &str| Value::BulkString(text.into());
        let kick = "1700000000000007|__FreeIM__(ForceOffline)7";
        let fields = ["prev", "3", "m", kick, "m", "17|{}", "m", "0|x", "x", "y", "m"];
        let fields = Value::Array(fields.map(text).to_vec());
        let read = entry(Value::Array(vec![text("1700000000000007-0"), fields]));
        assert_eq!((read.id, read.prev), (1_700_000_000_000_007, 3));
        let kick = Envelope::ForceOffline { client: 7.into() };
        assert_eq!(read.messages, [(1_700_000_000_000_007, Ok(kick))]);
        assert_eq!(entry(Value::Nil).messages, []);
    }
}
