//! The program's own readers of foreign bytes, tried with the seed corpus of `fuzz/` and mutations of it. What
//! must hold stands beside the readers.

use testkit::mutations::fuzz;

use crate::{api, web};

#[test]
fn http_request() {
    fuzz("http_request", web::fuzzing::request);
}

#[test]
fn api_body() {
    fuzz("api_body", api::fuzzing::body);
}
