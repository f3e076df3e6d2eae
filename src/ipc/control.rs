//! The control protocol: JSON objects, one a line, over a stream socket. man/outlast-protocol.7
//! describes it for those who write a client.
//!
//! The supervisor speaks first: one [`Hello`]. Then each [`Request`] is answered by one
//! [`Response`] with the same id; answers may come in another order than their requests.

use serde::{Deserialize, Serialize};

/// Grows when a client of the old version could misunderstand the new.
pub const VERSION: u32 = 1;
/// Longest request in bytes, its newline included.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Most names or patterns in one request.
pub const NAMES_MAX: usize = 1024;
/// Largest id: what every client's numbers hold exactly (RFC 8259, section 6).
pub const ID_MAX: u64 = 1 << 53;
/// Connections served at once. When the last place is taken, the one that has been silent for
/// longest and waits for nothing is closed; while all wait for answers, further ones wait in the
/// kernel's queue.
pub const CONNECTIONS_MAX: usize = 512;
/// Requests of one connection under way at once; further ones are read when one is answered.
pub const UNANSWERED_MAX: usize = 64;
/// A client that does not read its answer for so many seconds is left alone.
pub const UNREAD_SECONDS_MAX: u64 = 30;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol's version.
    pub outlast: u32,
    /// The program's version.
    pub version: String,
    pub pid: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    Status,
    List,
    Why,
    Start,
    Stop,
    Restart,
    Once,
    Pause,
    Cont,
    Hup,
    Alarm,
    Interrupt,
    Quit,
    Usr1,
    Usr2,
    Term,
    Kill,
    /// Read the service directories and the logs' configs again now; with names, HUP to those services.
    Reload,
    Check,
    Shutdown,
    /// Exec `binary` in place of keeper, supervisor and scribe; without it, tell how that went.
    Upgrade,
    /// From an `outlast supervise` over the directory in `names`: if your keeper was killed, end and
    /// leave your services to me.
    StepDown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub v: u32,
    pub id: u64,
    pub verb: Verb,
    /// Service names or patterns (`*`, `?`, `[a-z]`); none means all for status, list and check,
    /// and the whole supervisor for reload and shutdown.
    #[serde(default)]
    pub names: Vec<String>,
    /// Answer when the state is reached (default) or as soon as the command is taken.
    #[serde(default = "yes")]
    pub wait: bool,
    /// Longest wait in milliseconds; default: what the service's own time-outs add up to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Log lines wanted with `why`; default 10, at most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// With `upgrade`: the absolute path of the new program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub v: u32,
    /// The request's id; 0 when the request could not be read.
    pub id: u64,
    /// True only when everything asked for was reached.
    pub ok: bool,
    /// What was wrong with the request as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Trouble>,
    /// What is wrong with the supervisor itself, if anything: code `no-keeper`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Trouble>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// For programs: `no-such-service`, `not-allowed`, `bad-request`, `too-long`, `too-many`,
    /// `timed-out`, `cannot-start`, `ended`, `not-ready`, `not-running`, `overruled`, `leaving`; of
    /// upgrade `unfit`, `busy`, `came-back`, `no-upgrade`; without a keeper `no-keeper`; of shutdown
    /// `left-behind`; of step-down `has-keeper`, `other-directory`.
    pub code: String,
    /// For people: subject, what, cause, way out.
    pub message: String,
}

/// One service as seen at the moment of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    pub state: State,
    pub want: Want,
    /// None when no process of `run` (or, in state finish, of `finish`) lives.
    pub pid: Option<i32>,
    /// Unix seconds since which it has been in this state; for up, since run's start.
    pub since: f64,
    /// How long that is, in seconds, by a clock that does not jump.
    pub seconds: f64,
    /// Starts after the first one since it was last asked to start.
    pub restarts: u64,
    pub last_exit: Option<LastExit>,
    /// `./check` passed since the start, or there is none.
    pub ready: bool,
    pub paused: bool,
    /// A stop signal was sent and the process has not ended yet.
    pub got_term: bool,
    /// `down` is there: not started by itself.
    pub normally_down: bool,
    pub description: Option<String>,
    /// Seconds until the next start is tried.
    pub next_start: Option<f64>,
    /// What is wrong, in one line; none when nothing is.
    pub problem: Option<Trouble>,
    /// Where its log is, when outlast writes it.
    pub log_dir: Option<String>,
    /// Processes of ended runs, still there or just ended by this command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<Leftover>,
    /// Processes that were started while a run of it lived, outside its scope, and are still alive, as
    /// far as that is known; with commands that are waited for and with `why`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub living_on: Vec<Leftover>,
    /// For a command: whether this service reached what was asked, and if not, why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// With the verb `why` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Down,
    /// The start is under way: control/u, fork, exec.
    Starting,
    Up,
    Stopping,
    /// Leftovers of the ended run are being ended.
    Clearing,
    Finish,
    /// Waiting for the next start.
    Backoff,
    /// Can't be started until something is mended.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Want {
    Up,
    Once,
    Down,
    Exit,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastExit {
    pub code: Option<i32>,
    /// `SIGSEGV`
    pub signal: Option<String>,
    pub core: bool,
    /// Unix seconds.
    pub at: f64,
    /// Seconds that run lasted.
    pub ran: f64,
    pub pid: i32,
    /// The kernel's out-of-memory killer was at work in its cgroup; none when that can't be known.
    pub oom: Option<bool>,
    /// It was told to end.
    pub asked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    pub pid: i32,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

/// The whole story of a service's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// What happened, step by step, each a sentence.
    pub story: Vec<String>,
    /// One line: what to do.
    pub advice: Option<String>,
    /// CPU seconds and peak memory of the last run, when known.
    pub usage: Option<Usage>,
    /// The last lines of that very run, oldest first.
    pub log: Vec<String>,
    /// Where they stand.
    pub log_file: Option<String>,
    /// The last of the lines has no newline yet, and may not be in the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log_unfinished: bool,
    /// The service directory, real path.
    pub directory: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub user_seconds: f64,
    pub system_seconds: f64,
    pub peak_kib: u64,
}
