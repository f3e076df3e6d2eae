//! Any file of an environment directory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outlast::applets::properties::envdir_file(bytes));
