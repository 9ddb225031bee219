//! The program's readers of foreign bytes, as they stand in its own folder: it is no library.
#![allow(dead_code, unused_imports)]

#[path = "../../src/bin/imserver/web"]
pub mod web {
    mod access;
    mod body;
    pub mod fuzzing;
    mod head;
    mod message;
    mod origin;

    pub(crate) use access::{Access, CHALLENGE};
    pub(crate) use message::{Body, Request, Response};
}

#[path = "../../src/bin/imserver/api"]
pub mod api {
    pub mod fuzzing;
    mod input;
    mod json;
    mod problem;
}
