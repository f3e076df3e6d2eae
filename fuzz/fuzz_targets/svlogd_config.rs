//! Any config file of svlogd.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outlast::applets::properties::svlogd::config(bytes));
