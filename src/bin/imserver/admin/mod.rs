//! The admin listener: health, metrics and a page for people, apart from the clients' listener.
//!
//! Reading order: `site` (what there is and who may ask), `node_pages` (this node), `watch` and `history` (what this
//! node knows of all, with `happened`, `groups` and `webhook`), `cluster` and `slots` (what the broker is asked for: channels, clients; the table of slots), `actions` (what can be done),
//! `cached` (answers that several pages share), `page` (the files of the page, which lie in the folder of that
//! name).

mod actions;
mod cached;
mod cluster;
mod groups;
mod happened;
mod history;
mod node_pages;
mod page;
mod site;
mod slots;
mod watch;
mod webhook;

pub(crate) use site::Site;
