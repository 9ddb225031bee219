//! The admin listener: health, metrics and a page for people, apart from the clients' listener.
//!
//! Reading order: `site` (what there is and who may ask), `own` (this node), `cluster` (what the broker
//! tells of all), `actions` (what can be done), `shared` (answers that several pages share), `page` (the
//! files of the page, which lie in the folder of that name).

mod actions;
mod cluster;
mod own;
mod page;
mod shared;
mod site;

pub(crate) use site::Site;
