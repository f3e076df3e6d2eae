//! What must hold for any input at all. The tests beside each parser try it on random input, and
//! the targets in `fuzz/` on input that a fuzzer has found; neither is a part of any program.

pub mod svlogd;

use super::chpst::options::{self, Called};
use crate::launch::env_dir;
use crate::log::stamp;
use crate::svdir::status::{self, Raw, State, Status, Want};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Nanoseconds of a second.
const NANOS: u32 = 1_000_000_000;

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

/// Any text as a TAI64N label, and its first twelve bytes as a time: the label of a time is the
/// one that plain formatting gives, and reads back; a text that is read is the label of that time.
pub fn tai64n(bytes: &[u8]) {
    if let Some(at) = stamp::from_tai64n(bytes) {
        assert!(stamp::tai64n(at).eq_ignore_ascii_case(bytes));
    }
    let _ = stamp::parse(bytes);
    let mut number = [0; 16];
    let first = bytes.len().min(12);
    number[4..4 + first].copy_from_slice(&bytes[..first]);
    let number = u128::from_be_bytes(number);
    let nanos = u32::try_from(number % u128::from(NANOS)).unwrap_or(0);
    // Seconds that a clock of 64 bits can show.
    let seconds = u64::try_from(number >> 32).unwrap_or(0) % (1 << 62);
    let at = Duration::new(seconds, nanos);
    let label = stamp::tai64n(at);
    let plain = format!("{:016x}{nanos:08x}", (1u64 << 62) + 10 + seconds);
    assert_eq!(label, plain.as_bytes());
    assert_eq!(stamp::from_tai64n(&label), Some(at));
    let line = [b"@", &label[..], b" ", bytes].concat();
    assert_eq!(stamp::parse(&line), Some((at, bytes)));
    assert_eq!(status::label(at), (1u64 << 62) + 10 + seconds);
}

/// Any content of `supervise/status`: what is understood is written as the same twenty bytes, but
/// for marks that say the same in another way.
pub fn status_file(bytes: &[u8]) {
    let Some(raw) = Raw::read(bytes) else {
        assert!(bytes.len() < status::STATUS_BYTES);
        assert_eq!(status::decode(bytes), None);
        return;
    };
    let Some(found) = status::decode(bytes) else {
        let before_1970 = raw.since.0 < status::label(Duration::ZERO);
        assert!(before_1970 || raw.since.1 >= NANOS || raw.state > 2);
        return;
    };
    let mut same = bytes[..status::STATUS_BYTES].to_vec();
    same[16] = u8::from(raw.paused != 0);
    same[17] = if raw.want == b'u' { b'u' } else { b'd' };
    same[18] = u8::from(raw.got_term != 0);
    let written = status::encode(&found);
    assert_eq!(written, same.as_slice());
    assert_eq!(status::decode(&written), Some(found));
    assert_eq!(raw.age_s(found.since), 0);
    texts(&found);
}

/// `stat` and `pid` say what `status` says.
fn texts(status: &Status) {
    let text = status::stat_text(status);
    let first = text.split([',', '\n']).next();
    let state = match status.state {
        State::Down => "down",
        State::Run => "run",
        State::Finish => "finish",
    };
    assert_eq!(first, Some(state));
    assert_eq!(text.contains(", paused"), status.paused);
    assert_eq!(text.contains(", got TERM"), status.got_term);
    let down = status.want == Want::Down && status.state != State::Down;
    assert_eq!(text.contains(", want down"), down);
    assert!(text.ends_with('\n') && text.matches('\n').count() == 1);
    let pid = status::pid_text(status);
    assert_eq!(pid.trim_end().parse().ok(), status.pid);
}

#[cfg(test)]
mod tests;
