//! Any line of the control protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outlast::ipc::properties::control(bytes));
