//! Any record of the keeper's wire.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outlast::ipc::properties::wire(bytes));
