//! Any text as a time, and any time as a text.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outlast::applets::properties::tai64n(bytes));
