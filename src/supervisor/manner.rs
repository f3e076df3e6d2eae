//! For whom the supervisor works: for `outlast supervise`, or as the second half of runsv or runsvdir.
//!
//! Called as one of runit's programs it has their rules: one process and no time-outs, no socket, no
//! scribe, no log of its own; what there is to say goes to stderr in their words.

use super::Settings;
use std::ffi::OsString;
use std::path::PathBuf;

/// First arguments of a supervisor, as the applets write them.
const RUNSV: &str = "one";
const RUNSVDIR: &str = crate::ipc::wire::FRONTED;

/// Where a machine's services are, and where its supervisor can be asked and writes.
pub const SERVICES: &str = "/etc/service";
const SOCKET: &str = "/run/outlast/control";
const LOG_ROOT: &str = "/var/log/outlast";

/// The name under which runsv's one service is known: its directory is the keeper's own.
pub const HERE: &str = ".";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// `outlast supervise`.
    Own,
    /// runsv: the directory that the keeper stands in. The keeper has its lock, and that of its
    /// log service if `log_held`.
    Runsv { log_held: bool },
    /// runsvdir; with `sessions` each process leads one of its own.
    Runsvdir { sessions: bool },
}

impl Manner {
    pub fn is_runit(self) -> bool {
        self != Manner::Own
    }

    /// Whether a service's process leads a session.
    pub fn new_session(self) -> bool {
        match self {
            Manner::Own => true,
            Manner::Runsv { .. } => false,
            Manner::Runsvdir { sessions } => sessions,
        }
    }
}

/// Arguments for a supervisor of one directory, called `title` by the user.
pub fn runsv(log_held: bool, title: &OsString) -> Vec<OsString> {
    let held = if log_held { "held" } else { "free" };
    vec![RUNSV.into(), held.into(), title.clone()]
}

/// Arguments for a keeper and supervisor of all directories in `dir`.
pub fn runsvdir(sessions: bool, dir: &OsString) -> Vec<OsString> {
    let sessions = if sessions { "apart" } else { "together" };
    vec![RUNSVDIR.into(), sessions.into(), dir.clone()]
}

/// Arguments for the supervisor of a machine, whose process 1 is its keeper.
pub fn machine(dir: &OsString) -> Vec<OsString> {
    let words = [
        "supervise",
        "--socket",
        SOCKET,
        "--log-root",
        LOG_ROOT,
        "--quiet",
        "--machine",
    ];
    let words = words.into_iter().map(OsString::from);
    words.chain([dir.clone()]).collect()
}

/// What those say to the supervisor.
pub fn read(args: &[OsString]) -> Option<Settings> {
    let [kind, how, title] = args else {
        return None;
    };
    let (manner, dir) = match (kind.to_str()?, how.to_str()?) {
        (RUNSV, how) => {
            let log_held = how == "held";
            (Manner::Runsv { log_held }, PathBuf::from(HERE))
        }
        (RUNSVDIR, how) => {
            let sessions = how == "apart";
            (Manner::Runsvdir { sessions }, PathBuf::from(title))
        }
        (_, _) => return None,
    };
    Some(Settings {
        socket: PathBuf::new(),
        log_root: PathBuf::new(),
        quiet: true,
        machine: false,
        format: crate::ipc::wire::Format::Text,
        stop_timeout: None,
        dir,
        manner,
        title: title.to_string_lossy().into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_applets_write_is_understood() {
        let one = read(&runsv(true, &"a b".into())).expect("settings");
        assert_eq!(one.manner, Manner::Runsv { log_held: true });
        assert_eq!((one.title.as_str(), one.dir), ("a b", HERE.into()));
        let many = read(&runsvdir(false, &"/etc/service".into())).expect("settings");
        assert_eq!(many.manner, Manner::Runsvdir { sessions: false });
        assert_eq!(many.dir, PathBuf::from("/etc/service"));
        assert_eq!(read(&["one".into()]), None);
        let all = Settings::read(&machine(&SERVICES.into())).expect("settings");
        assert!(all.machine && all.quiet && all.manner == Manner::Own);
        assert_eq!(all.dir, PathBuf::from(SERVICES));
    }
}
