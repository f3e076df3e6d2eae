//! Any argument vector: words are divided by NUL bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outlast::applets::properties::chpst_options(bytes));
