//! See `pushes` in `imcore::fuzzing`, which says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imcore::fuzzing::pushes(data));
