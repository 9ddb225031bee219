//! The admin listener: health, metrics and a page for people, apart from the clients' listener.

mod site;

pub(crate) use site::Site;
