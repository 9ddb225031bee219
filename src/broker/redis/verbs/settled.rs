//! Which messages of the log are settled: their senders know what became of them, whoever reads them once more.
//!
//! Called by a node's receipts thread, which tells, and by its feed thread before it goes on from a former process.

use std::{collections::HashSet, fmt::Write};

use redis::Value;

use crate::{
    broker::{
        contract::Telling,
        redis::{
            backend::Backend,
            link::{error, reply},
        },
    },
    error::Result,
    id::ClientId,
};

/// Entries that are read at once.
const PAGE: usize = 256;

impl Backend {
    pub(crate) fn tell(&self, node: &str, telling: &Telling<'_>) -> Result<()> {
        if !self.options.log || telling.settled.is_empty() {
            return self.publish(None, telling.receipts).map(drop);
        }
        let replies = self.tell_logged(node, telling)?;
        error::check_steps(&self.connector.address, &replies)
    }

    pub(crate) fn settled(&self, node: &str) -> Result<HashSet<(u64, ClientId)>> {
        let key = self.layout.settled_key(node);
        let mut all = HashSet::new();
        let mut start = "-".to_owned();
        loop {
            let mut pipeline = redis::pipe();
            pipeline.cmd("XRANGE").arg(&key).arg(&start).arg("+").arg("COUNT").arg(PAGE);
            let page = self.reads.run(&self.connector, &pipeline)?.pop();
            let page = page.unwrap_or(Value::Nil);
            // A key of a foreign type says nothing; it must not deafen the node for ever.
            if let Some(error) = error::of_reply(&self.connector.address, &page)
                && !error::is_wrong_type(&page)
            {
                return Err(error);
            }
            let page = reply::items(page);
            let is_last = page.len() < PAGE;
            for entry in page {
                let mut entry = reply::items(entry).into_iter();
                start = format!("({}", entry.next().map(reply::text).unwrap_or_default());
                let fields = entry.next().map(reply::texts).unwrap_or_default();
                let all_of_it = reply::pairs(fields.into_iter()).find(|(name, _)| name == "all");
                all.extend(read(&all_of_it.unwrap_or_default().1));
            }
            if is_last {
                return Ok(all);
            }
        }
    }
}

/// A word for each message, with all of its receivers that stand beside each other; a text, which may hold a comma, has one of
/// its own.
pub(super) fn write(settled: &[(u64, ClientId)]) -> String {
    let mut text = String::new();
    let mut before = None;
    for (number, client) in settled {
        let is_text = matches!(client, ClientId::Text(_));
        let gap = if text.is_empty() { "" } else { " " };
        let is_more = before.replace((number, is_text)) == Some((number, false)) && !is_text;
        let written = match (is_text, is_more) {
            (_, true) => write!(text, ",{client}"),
            (true, false) => write!(text, "{gap}{number}={client}"),
            (false, false) => write!(text, "{gap}{number}:{client}"),
        };
        debug_assert!(written.is_ok(), "a text takes everything");
    }
    text
}

/// What of such a text can be understood.
fn read(text: &str) -> impl Iterator<Item = (u64, ClientId)> {
    text.split(' ').flat_map(|word| {
        let end = word.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(word.len());
        let (number, rest) = word.split_at(end);
        let number: Option<u64> = number.parse().ok();
        let (list, alone) = (rest.strip_prefix(':'), rest.strip_prefix('='));
        let clients = list.into_iter().flat_map(|list| list.split(',')).chain(alone);
        clients.filter_map(move |client| Some((number?, client.parse().ok()?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let guid: ClientId = "0c41bd1e-92c1-4e7c-9f3a-0c3e4b1a7d55".parse().unwrap();
        let all = [(7, 1.into()), (7, guid), (9, 1.into()), (7, 2.into())];
        assert_eq!(write(&all), "7:1,0c41bd1e-92c1-4e7c-9f3a-0c3e4b1a7d55 9:1 7:2");
        assert_eq!(read(&write(&all)).collect::<Vec<_>>(), all);
        let text = |text: &str| text.parse::<ClientId>().unwrap();
        let all =
            [(7, 1.into()), (7, text("a,7:2")), (7, text("=")), (7, 2.into()), (8, text(":"))];
        assert_eq!(write(&all), "7:1 7=a,7:2 7== 7:2 8=:");
        assert_eq!(read(&write(&all)).collect::<Vec<_>>(), all);
        let understood = [(5, 6.into()), (5, 7.into())];
        assert_eq!(read("x:1 :2 3: 4 5:6,,7 =a 7=").collect::<Vec<_>>(), understood);
    }
}
