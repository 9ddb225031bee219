//! See `web::fuzzing::request` in `src/bin/imserver`, which says what must hold.
#![no_main]

#[path = "../imserver/mod.rs"]
mod imserver;
use imserver::web;

libfuzzer_sys::fuzz_target!(|data: &[u8]| imserver::web::fuzzing::request(data));
