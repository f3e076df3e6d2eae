//! A pattern, a NUL, and a line.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outlast::applets::properties::svlogd::pattern(bytes));
