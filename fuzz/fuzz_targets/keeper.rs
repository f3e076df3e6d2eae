//! Any requests to a real keeper.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let held = outlast::keeper::properties::any_records(bytes);
    assert_eq!(held, Ok(()));
});
