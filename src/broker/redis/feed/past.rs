//! What the log holds for a node that is no more, read once from its beginning to its end.
//!
//! Called by the presence thread of a node that takes over from it, on a connection of its own. Judged as by the node's own
//! feed, had its process come back.

use std::sync::Arc;

use super::{
    cursor::{Cursor, Reading},
    data::Data,
    follow::event,
    pages::{Logged, PageSize},
};
use crate::{
    broker::{
        contract::{FeedEvent, Past},
        redis::backend::Backend,
    },
    error::Result,
};

pub(super) struct RedisPast {
    data: Data,
    node: String,
    cursor: Cursor,
    reading: Reading<Logged>,
    page: PageSize,
    has_begun: bool,
}

impl RedisPast {
    /// `None` if nothing is proven by what is there.
    pub(super) fn open(backend: &Arc<Backend>, node: &str) -> Result<Option<Self>> {
        if !backend.options.log {
            return Ok(None);
        }
        let mut data = Data::open(backend, None)?;
        let head = data.enter(node, None, true)?;
        let floors = data.floors(node, &head)?;
        let begun = head.whole.and_then(|_| Cursor::from_start(&head, floors));
        Ok(begun.map(|(cursor, reading)| {
            let (node, page) = (node.to_owned(), PageSize::default());
            RedisPast { data, node, cursor, reading, page, has_begun: false }
        }))
    }
}

impl Past for RedisPast {
    fn next(&mut self) -> Result<Option<Vec<FeedEvent>>> {
        let mut page = Vec::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            page.push(event(self.cursor.told()));
        }
        while page.is_empty() && !self.reading.is_done() {
            if let Some((stream, after)) = self.reading.wants() {
                let (entries, more) =
                    self.data.next_page(&self.node, stream, after, &mut self.page)?;
                self.reading.read(stream, entries, more);
            }
            while let Some(next) = self.reading.next(&mut self.cursor) {
                page.push(event(next));
            }
        }
        Ok((!page.is_empty()).then_some(page))
    }
}
