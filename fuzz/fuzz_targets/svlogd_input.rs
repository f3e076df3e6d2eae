//! svlogd's options, a config, and input that is cut, rotated and reopened anywhere.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

/// In memory: svlogd syncs at each rotation. One for each process of the fuzzer, which leaves it behind.
static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    let place = PathBuf::from(format!("/dev/shm/outlast-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&place).expect("a directory in /dev/shm");
    place
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outlast::applets::properties::svlogd::input(&PLACE, bytes);
});
