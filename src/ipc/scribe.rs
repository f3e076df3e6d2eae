//! What the supervisor and the scribe say to each other: one JSON object a datagram over a
//! SOCK_SEQPACKET pair; a log pipe's read end rides along with `Attach` (SCM_RIGHTS).

pub use crate::log::Stamp;
use serde::{Deserialize, Serialize};

/// Longest datagram in bytes.
pub const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum ToScribe {
    /// What a predecessor left (two fds attached: the journal and its transit pipe). Comes before any
    /// `Attach`.
    Journal,
    /// Something has waited for the scribe for a while; to be answered with `Here`.
    StillThere,
    /// Read this pipe (fd attached) and write that log. Sent again with another setting it changes
    /// the log of a service that is attached already; the fd is then a duplicate to be closed.
    Attach(Attach),
    /// Write out what is in the pipe, then close both. Answered by `Detached` when that is done.
    Detach { id: u32 },
    /// What comes from here on belongs to a new run.
    RunStarts { id: u32 },
    /// The run has ended, or its finish script: read the pipe dry, end an unfinished last line with a
    /// newline. Answered by `Ended`.
    RunEnded { id: u32 },
    /// What has a run written last? Answered by `Tail` with the same token.
    Tail {
        token: u64,
        id: u32,
        #[serde(flatten)]
        asked: Asked,
    },
    /// Read the `config` of every log again.
    Reload,
    /// Write out everything, close, exit 0. What is not written within so many milliseconds is said to
    /// be missing; 0, as older supervisors have it, leaves that to the scribe.
    Finish {
        #[serde(default)]
        within_ms: u64,
    },
}

/// The last `lines` lines of the run that ended last, or of the one that is under way when `current`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub lines: u32,
    pub current: bool,
    /// When that run began, since 1970, if that is known: for a scribe that was not told of it.
    #[serde(default)]
    pub from_ns: u64,
    /// ... and ended; 0 if it has not.
    #[serde(default)]
    pub to_ns: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attach {
    pub id: u32,
    pub name: String,
    /// Absolute.
    pub dir: String,
    pub stamp: Stamp,
    /// Bytes before rotation; a `config` file in the directory overrides it.
    pub size: u64,
    pub keep: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "kebab-case")]
pub enum FromScribe {
    Tail {
        token: u64,
        lines: Vec<String>,
        /// None when nothing is known of where they would be.
        file: Option<String>,
        /// The last of them has no newline yet, and may not be in the file.
        #[serde(default)]
        unfinished: bool,
    },
    /// A log is not being written (disk full, directory gone, no permission); told once per change.
    /// `echoed`: its lines are on standard output only, and nothing waits. `had_file`: there is a
    /// file in which lines are missing from now on, or something of its own in that place.
    Trouble {
        id: u32,
        message: String,
        echoed: bool,
        #[serde(default)]
        had_file: bool,
    },
    /// ... and is again.
    Mended { id: u32 },
    /// What was written before that `RunEnded` has been read, or waits for a log that is in trouble.
    Ended { id: u32 },
    /// Nothing of this log is left that would have to be written.
    Detached { id: u32 },
    /// The answer to `StillThere`.
    Here,
}
