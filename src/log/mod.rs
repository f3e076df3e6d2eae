//! Log directories in svlogd's format: one engine under the scribe and under the svlogd applet.
//!
//! Bytes come in as they were read from a pipe; stamped lines go out to `current`, which is rotated
//! into `@TAI64N.s`. line, mark, stamp, select, config and rotate are pure; dir, way, processor,
//! engine and tail touch the disk. Nothing here sleeps, waits or starts a thread (fsync's excepted, see
//! `desk`): whatever can't be done now is told to the caller, together with the time of the
//! next try, and bytes that were handed over are kept until they are written.
//!
//! Called by the scribe (many logs in one thread), svlogd, and whoever shows logs.

pub mod config;
pub mod desk;
pub mod dir;
pub mod engine;
pub mod line;
pub mod mark;
pub mod processor;
pub mod rotate;
pub mod select;
pub mod settings;
pub mod shown;
pub mod stamp;
pub mod tail;
pub mod trip;
pub mod watch;
pub mod way;

/// How each line is stamped; the setting's own type, shared with service.toml through its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stamp {
    /// `2026-11-20T10:00:00.00000`, UTC, as `svlogd -ttt`.
    #[default]
    Iso,
    /// `2026-11-20_10:00:00.00000`, UTC, as `svlogd -tt`.
    Human,
    /// `@` and 24 hexadecimal digits, as `svlogd -t`.
    Tai64n,
    None,
}
