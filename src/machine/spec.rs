//! What a service is, as read from its directory: plain data, no opinion about how it came there.
//!
//! `svdir` makes it, the machine decides by it, `launch` carries the identity part out. Defaults
//! stand here and nowhere else.

use super::vocab::Signal;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest service name in bytes, the log service's `/log` included.
pub const NAME_BYTES_MAX: usize = 240;

/// A whole definition. `log/run` of a service is a second one of these, with `kind: Log`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub kind: Kind,
    pub description: Option<String>,
    pub start: Start,
    /// `down` was there when the directory was first read: not started by itself.
    pub down: bool,
    pub has_finish: bool,
    pub has_check: bool,
    /// A `control` directory is there, so signals are announced to its scripts first.
    pub has_control: bool,
    /// There is a log service (`log/` is a directory): stdout goes to its pipe.
    pub has_log_service: bool,
    pub identity: Identity,
    pub stop: Stop,
    pub restart: Restart,
    /// When it has ended for good, all others are stopped and outlast ends with its code.
    pub essential: bool,
    pub log: LogChoice,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    #[default]
    Service,
    /// The reader of a service's output: no finish, no check, no control scripts; ended by the end
    /// of its input.
    Log,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// `./run` in the service directory.
    #[default]
    Script,
    /// `exec` of service.toml: program and arguments.
    Exec(Vec<String>),
}

/// Who and where the program is to be: everything that needs `launch`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Identity {
    /// A name or a number.
    pub user: Option<String>,
    pub group: Option<String>,
    /// None: all groups of the user (initgroups(3)).
    pub groups: Option<Vec<String>>,
    /// Nothing of the environment that outlast has, but a PATH.
    pub clear_env: bool,
    pub env: BTreeMap<String, String>,
    /// Files of NAME=VALUE lines, read at each start, relative to the service directory.
    pub env_files: Vec<String>,
    pub directory: Option<String>,
    pub umask: Option<u32>,
    pub limits: Vec<Limit>,
    /// What is written into the files of its cgroup before each start: `memory.max` to `64M`.
    pub cgroup: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// setrlimit(2)'s resource in lower case without RLIMIT_: `nofile`, `as`, `core` ...
    pub resource: String,
    /// None is unlimited. Units are setrlimit(2)'s: bytes, seconds, counts.
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    pub signal: Signal,
    /// From the stop signal to KILL; None waits for ever.
    pub timeout: Option<Duration>,
    pub scope: Scope,
    /// Bound of `finish`, and of each control script; None waits for ever.
    pub finish_timeout: Option<Duration>,
}

/// What a stop takes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// The one process.
    Process,
    /// Its process group.
    Group,
    /// Everything still in the session that the service was started in.
    #[default]
    Session,
    /// Every descendant: its cgroup, or whoever can be followed without one.
    Tree,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    pub policy: Policy,
    pub rule: Rule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Policy {
    #[default]
    Always,
    /// Not after exit code 0.
    OnFailure,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The first restart at once, then `delay` doubling to `max` with jitter; back to the
    /// beginning after [`HEALTHY`].
    BackOff { delay: Duration, max: Duration },
    /// runit's: one second when less than a second passed since the last start of run, else at once.
    Runit,
}

/// A run that lasted this long ends the back-off.
pub const HEALTHY: Duration = Duration::from_secs(60);

/// What becomes of the output when there is no log service.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogChoice {
    /// Default: a directory of the service's name below the log root.
    pub dir: Option<String>,
    /// Bytes before rotation. Default 1,000,000.
    pub size: Option<u64>,
    /// How many rotated files stay. Default 10.
    pub keep: Option<u32>,
    pub stamp: Stamp,
}

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

impl Default for Stop {
    fn default() -> Stop {
        Stop {
            signal: Signal::TERM,
            timeout: Some(Duration::from_secs(10)),
            scope: Scope::default(),
            finish_timeout: Some(Duration::from_secs(10)),
        }
    }
}

impl Default for Restart {
    fn default() -> Restart {
        Restart {
            policy: Policy::Always,
            rule: Rule::BackOff {
                delay: Duration::from_secs(1),
                max: Duration::from_secs(60),
            },
        }
    }
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            kind: Kind::Service,
            description: None,
            start: Start::Script,
            down: false,
            has_finish: false,
            has_check: false,
            has_control: false,
            has_log_service: false,
            identity: Identity::default(),
            stop: Stop::default(),
            restart: Restart::default(),
            essential: false,
            log: LogChoice::default(),
        }
    }
}

impl Identity {
    /// Nothing between fork and exec but what the keeper does itself.
    pub fn is_plain(&self) -> bool {
        *self == Identity::default()
    }
}
