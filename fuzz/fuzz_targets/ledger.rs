//! Any book that a keeper may be left.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outlast::ipc::properties::ledger(bytes));
