//! Any content of `supervise/status`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outlast::applets::properties::status_file(bytes));
