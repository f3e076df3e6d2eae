//! What must hold for any input at all. The tests beside each parser try it on random input, and
//! the targets in `fuzz/` on input that a fuzzer has found; neither is a part of any program.

use super::chpst::options::{self, Called};
use crate::launch::env_dir;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Words divided by NUL bytes: chpst and its other names understand them or refuse them. What they
/// understand has a program, which is a tail of the words, and soft limits once each.
pub fn chpst_options(bytes: &[u8]) {
    let words: Vec<OsString> = bytes
        .split(|byte| *byte == 0)
        .map(|word| OsStr::from_bytes(word).to_owned())
        .collect();
    for called in [
        Called::Chpst,
        Called::EnvDir,
        Called::EnvUidGid,
        Called::PgrpHack,
        Called::SetLock,
        Called::SetUidGid,
        Called::SoftLimit,
    ] {
        let Ok(wishes) = options::read(called, &words) else {
            continue;
        };
        assert!(!wishes.program.is_empty());
        assert!(words.ends_with(&wishes.program));
        let order: Vec<_> = wishes.limits().map(|limit| limit.resource).collect();
        let places = order.iter().map(|resource| {
            options::RESOURCES
                .iter()
                .position(|known| known == resource)
        });
        assert!(places.is_sorted());
        let asks_for_nothing = wishes.program.len() == words.len();
        assert!(!asks_for_nothing || called == Called::PgrpHack || wishes == bare(&wishes));
    }
}

/// The same program with nothing asked for.
fn bare(wishes: &options::Wishes) -> options::Wishes {
    let mut bare = options::Wishes::default();
    bare.program.clone_from(&wishes.program);
    bare
}

/// The content of one file in an environment directory: a value that the kernel takes and that
/// is no longer than the file, or none for an empty file.
pub fn envdir_file(bytes: &[u8]) {
    let mut held = bytes.to_vec();
    let value = env_dir::value(&mut held);
    assert_eq!(value.is_none(), bytes.is_empty());
    if let Some(value) = value {
        assert!(!value.contains(&0) && value.len() <= bytes.len());
        assert!(!value.ends_with(b" ") && !value.ends_with(b"\t"));
        let first = bytes.split(|byte| *byte == b'\n').next();
        let same = |(new, old): (&u8, &u8)| new == old || (*old == 0 && *new == b'\n');
        assert!(value.iter().zip(first.unwrap_or_default()).all(same));
    }
}
