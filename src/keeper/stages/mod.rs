//! Process 1 of a machine: its three stages, what signals mean to it, and its end.
//!
//! Each stage is a child: runit's script where there is one, else a part of our own binary. Stage 2
//! without a script is our supervisor, directly under the keeper. What can block (the console, a
//! disk, sync, an unmount) is done by children, within a time; what can be refused (a fork) is tried
//! again. Of files only the marks of `os::halting` and whether a script exists are looked at.
//! `keeper` calls this at each turn; [`hold`] is the door for whoever is process 1.

mod emergency;
mod plan;

use super::{Birth, Keeper, clock};
use crate::os::halting::{self, FIRST_PROCESS, REBOOT, STOPIT};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpid, pipe2};
use plan::{After, Part, after};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// First argument of a keeper that is process 1, before those of the supervisor.
pub const MACHINE: &str = "machine";
/// argv[0] of a stage.
const STAGE: &std::ffi::CStr = c"outlast-stage";
/// signal_hook does not know it.
pub const SIGPWR: i32 = Signal::SIGPWR as i32;
const CTRL_ALT_DEL: &str = "/etc/runit/ctrlaltdel";

const MS: u64 = 1_000_000;
/// Between two tries to fork.
const FORK_AGAIN_NS: u64 = 1_000 * MS;
/// Tries to fork stage 3, and the last part, before process 1 does without them.
const THIRD_TRIES_MAX: u32 = 10;
const LAST_TRIES_MAX: u32 = 3;
/// Before what the shell was for is tried again: it may have ended at once, without anybody at it.
const RESUME_NS: u64 = 1_000 * MS;
/// What stage 2 gets between TERM and KILL.
const SECOND_GRACE_NS: u64 = 5_000 * MS;
/// Before a stage 2 that has failed is tried again.
const SECOND_AGAIN_NS: u64 = 5_000 * MS;
/// What the built-in stage 3 may take: left-overs, the seed, unmounting.
const THIRD_MAX_NS: u64 = 60_000 * MS;
/// What writing out the disks may take at the very end.
const LAST_MAX_NS: u64 = 30_000 * MS;
/// Ends of the supervisor during a shutdown after which it goes on without one.
const SUPERVISOR_ENDS_MAX: u32 = 3;
/// The request after which the supervisor is not waited for any longer.
const REQUESTS_MAX: u32 = 3;

/// Holds a machine. `args` are the supervisor's, should the built-in stage 2 be needed. Comes back
/// only where the kernel does not let us end the machine, as in a container.
pub fn hold(args: &[OsString]) -> u8 {
    let mut all: Vec<OsString> = vec![MACHINE.into()];
    all.extend_from_slice(args);
    super::keep(&all)
}

/// Whether all processes of a machine, or of a container, hang below us.
pub fn is_first() -> bool {
    getpid() == FIRST_PROCESS
}

/// Whether a machine would end with us, which a container's first process may.
pub fn is_machine(args: &[OsString]) -> bool {
    is_first() && args.iter().any(|word| word == MACHINE)
}

pub use emergency::hold as hold_in_emergency;

enum State {
    Due {
        part: Part,
        at_ns: u64,
    },
    Running {
        part: Part,
        pid: Pid,
        /// Bytes come through it when the script could not be executed.
        report: OwnedFd,
        since_ns: u64,
        until_ns: Option<u64>,
    },
    /// Stage 2 without a script: our supervisor.
    Serving,
    /// The kernel was asked to end the machine and has refused.
    Refused,
}

pub struct Stages {
    state: State,
    /// After the emergency shell.
    resume: Part,
    reason: String,
    /// `ctrlaltdel` runs.
    aside: Option<Pid>,
    /// The machine is to end, as often as it was said; and whether it comes back whatever the file
    /// says.
    requests: u32,
    reboots: bool,
    /// Ends of the supervisor since then.
    supervisor_ends: u32,
    /// Forks refused on the way to the end.
    tries: u32,
    /// Stage 2 is to be announced as one that comes again.
    again: bool,
}

impl Stages {
    pub fn boot() -> Stages {
        // Ctrl-alt-del is to be a signal to us (reboot(2)).
        let _ = set_cad_enabled(false);
        let version = env!("CARGO_PKG_VERSION");
        announce(&format!("- runit: outlast {version}: booting."));
        Stages::new(State::Due {
            part: Part::First,
            at_ns: 0,
        })
    }

    /// A predecessor has come so far; only one whose supervisor serves can be replaced.
    pub fn serving() -> Stages {
        Stages::new(State::Serving)
    }

    fn new(state: State) -> Stages {
        Stages {
            state,
            resume: Part::First,
            reason: String::new(),
            aside: None,
            requests: 0,
            reboots: false,
            supervisor_ends: 0,
            tries: 0,
            again: false,
        }
    }

    pub fn due_ns(&self) -> Option<u64> {
        match &self.state {
            State::Due { at_ns, .. } => Some(*at_ns),
            State::Running { until_ns, .. } => *until_ns,
            State::Serving | State::Refused => None,
        }
    }

    pub fn has(&self, child: Pid) -> bool {
        self.runs(child) || self.aside == Some(child)
    }

    fn runs(&self, child: Pid) -> bool {
        matches!(self.state, State::Running { pid, .. } if pid == child)
    }

    fn come(&mut self, part: Part, at_ns: u64) {
        self.state = State::Due { part, at_ns };
    }
}

impl Keeper {
    /// Does what is due. An exit code when there is nothing left to hold.
    pub fn proceed(&mut self, now_ns: u64) -> Option<u8> {
        let stages = self.stages.as_mut()?;
        match stages.state {
            State::Due { part, at_ns } if at_ns <= now_ns => self.begin(part, now_ns),
            State::Running {
                part,
                pid,
                until_ns: Some(until_ns),
                ..
            } if until_ns <= now_ns => self.overdue(part, pid, now_ns),
            State::Serving if self.done.is_some() && !self.deputy.lives() => {
                self.done = None;
                self.deputy.rest();
                announce("- outlast: leave stage: 2");
                stages.come(Part::Third, now_ns);
            }
            State::Refused => return Some(0),
            State::Due { .. } | State::Running { .. } | State::Serving => {}
        }
        None
    }

    fn begin(&mut self, part: Part, now_ns: u64) {
        let script = part.script().filter(|path| halting::is_there(path));
        let Some(stages) = &mut self.stages else {
            return;
        };
        if part == Part::Second && std::mem::take(&mut stages.again) {
            announce("- runit: warning: restarting.");
        }
        let argv = match (part, script) {
            (Part::First | Part::Second | Part::Third, Some(path)) => {
                announce(&format!("- runit: enter stage: {path}"));
                vec!["script", part.number(), path]
            }
            (Part::Second, None) => {
                announce("- outlast: enter stage: 2, the supervisor of /etc/service");
                stages.state = State::Serving;
                return self.deputy.hurry();
            }
            (Part::First | Part::Third, None) => {
                announce(&format!("- outlast: enter stage: {}", part.number()));
                vec![part.number()]
            }
            (Part::Shell, _) => vec!["shell", stages.reason.as_str()],
            (Part::Last, _) if stages.reboots || halting::is_set(&REBOOT) => {
                announce("- runit: system reboot.");
                vec!["last", "reboot"]
            }
            (Part::Last, _) => {
                announce("- runit: power off...");
                vec!["last", "off"]
            }
        };
        let argv: Vec<String> = argv.into_iter().map(str::to_owned).collect();
        match self.stage(&argv) {
            Ok((pid, report)) => {
                if let Some(stages) = &mut self.stages {
                    stages.tries = 0;
                }
                let limit_ns = match (part, script) {
                    (Part::Third, None) => Some(THIRD_MAX_NS),
                    (Part::Last, _) => Some(LAST_MAX_NS),
                    (Part::First | Part::Second | Part::Third | Part::Shell, _) => None,
                };
                if let Some(stages) = &mut self.stages {
                    stages.state = State::Running {
                        part,
                        pid,
                        report,
                        since_ns: now_ns,
                        until_ns: limit_ns.map(|limit_ns| now_ns.saturating_add(limit_ns)),
                    };
                }
                if part == Part::Second {
                    // What came before comes once.
                    sys::let_go_of_program();
                }
            }
            Err(error) => self.cannot_fork(part, &error, now_ns),
        }
    }

    fn cannot_fork(&mut self, part: Part, error: &io::Error, now_ns: u64) {
        let name = part.script().unwrap_or(part.number());
        announce(&format!(
            "- runit: fatal: unable to fork for \"{name}\" pausing: {error}"
        ));
        let Some(stages) = &mut self.stages else {
            return;
        };
        stages.tries = stages.tries.saturating_add(1);
        match part {
            Part::Third if stages.tries >= THIRD_TRIES_MAX => {
                stages.tries = 0;
                return self.kill_all(now_ns);
            }
            Part::Last if stages.tries >= LAST_TRIES_MAX => return self.end_machine(),
            Part::First | Part::Second | Part::Third | Part::Shell | Part::Last => {}
        }
        stages.come(part, now_ns.saturating_add(FORK_AGAIN_NS));
    }

    /// Starts a part of ourselves; its reports come out of the descriptor.
    fn stage(&self, words: &[String]) -> io::Result<(Pid, OwnedFd)> {
        let mut argv = vec![CString::from(STAGE)];
        let text = |word: &String| CString::new(word.as_str()).ok();
        argv.extend(words.iter().filter_map(text));
        let (reader, report) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let pid = self.workshop.stage(&argv, report.as_fd())?;
        Ok((pid, reader))
    }

    fn overdue(&mut self, part: Part, pid: Pid, now_ns: u64) {
        // Neither is reaped yet, so the numbers are their own.
        let all = Pid::from_raw(pid.as_raw().saturating_neg());
        let Some(stages) = &mut self.stages else {
            return;
        };
        match part {
            Part::Second => {
                announce("- runit: warning: stage 2 not terminated, sending sigkill...");
                let _ = kill(pid, Signal::SIGKILL);
                if let State::Running { until_ns, .. } = &mut stages.state {
                    *until_ns = None;
                }
            }
            Part::Third => {
                announce("- outlast: stage 3 does not end; going on without it");
                let _ = kill(all, Signal::SIGKILL);
                self.kill_all(now_ns);
            }
            Part::Last => {
                announce("- outlast: the disks can't be written out; going on without it");
                self.end_machine();
            }
            Part::First | Part::Shell => {}
        }
    }

    /// One of ours has ended and is not reaped yet.
    pub fn stage_ended(&mut self, pid: Pid) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let status = waitid(Id::Pid(pid), flags);
        let now_ns = clock::monotonic_ns();
        let Some(stages) = &mut self.stages else {
            return;
        };
        if stages.aside == Some(pid) {
            stages.aside = None;
            if matches!(status, Ok(WaitStatus::Signaled(..))) {
                announce(&format!("- runit: warning: child crashed: {CTRL_ALT_DEL}"));
            }
            announce(&format!("- runit: leave stage: {CTRL_ALT_DEL}"));
            let _ = sys::reap(pid);
            return self.told(SIGCONT);
        }
        let State::Running {
            part,
            report,
            since_ns,
            ..
        } = &stages.state
        else {
            return;
        };
        let (part, lived_ns) = (*part, now_ns.saturating_sub(*since_ns));
        let unexecuted = nix::unistd::read(report, &mut [0u8; 8]).is_ok_and(|count| count > 0);
        let code = match status {
            Ok(WaitStatus::Exited(_, code)) => Some(code),
            Ok(_) | Err(_) => None,
        };
        let after = match stages.requests {
            0 => after(part, code, unexecuted, lived_ns),
            _ if part == Part::Last => After::Refused,
            _ => After::Go(part.next()),
        };
        self.leave(part, code, &after);
        if matches!(after, After::Again { .. }) {
            announce("- runit: warning: killing all processes in stage 2...");
            // Before the leader is reaped, so that its number is nobody else's yet.
            let _ = kill(
                Pid::from_raw(pid.as_raw().saturating_neg()),
                Signal::SIGKILL,
            );
        }
        let _ = sys::reap(pid);
        self.follow(part, after, now_ns);
    }

    /// In runit's words for scripts.
    fn leave(&self, part: Part, code: Option<i32>, after: &After) {
        let Some(path) = part.script() else {
            return;
        };
        if !halting::is_there(path) {
            return announce(&format!("- outlast: leave stage: {}", part.number()));
        }
        let asked = self.stages.as_ref().is_some_and(|it| it.requests > 0);
        match code {
            Some(0) => {}
            _ if asked && part == Part::Second => {}
            Some(_) => announce(&format!("- runit: warning: child failed: {path}")),
            None => announce(&format!("- runit: warning: child crashed: {path}")),
        }
        if !matches!(after, After::Again { .. }) {
            announce(&format!("- runit: leave stage: {path}"));
        }
        if part == Part::First && *after == After::Go(Part::Third) {
            announce("- runit: warning: skipping stage 2...");
        }
    }

    fn follow(&mut self, part: Part, after: After, now_ns: u64) {
        let Some(stages) = &mut self.stages else {
            return;
        };
        if part == Part::First {
            // Now there are /dev and /proc.
            self.workshop.settle();
        }
        match after {
            After::Go(Part::Last) => self.kill_all(now_ns),
            After::Go(next) => stages.come(next, now_ns),
            After::Again { pause } => {
                stages.again = true;
                let pause_ns = if pause { SECOND_AGAIN_NS } else { 0 };
                stages.come(Part::Second, now_ns.saturating_add(pause_ns));
            }
            After::Shell { reason, resume } => {
                stages.reason = reason;
                stages.resume = resume;
                stages.come(Part::Shell, now_ns);
            }
            After::Resume => {
                let resume = stages.resume;
                stages.come(resume, now_ns.saturating_add(RESUME_NS));
            }
            After::Refused => self.end_machine(),
        }
    }

    fn kill_all(&mut self, now_ns: u64) {
        announce("- runit: sending KILL signal to all processes...");
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        if let Some(stages) = &mut self.stages {
            stages.come(Part::Last, now_ns);
        }
    }

    /// The last part could not do it, or could not be started.
    fn end_machine(&mut self) {
        let Some(stages) = &mut self.stages else {
            return;
        };
        let reboots = stages.reboots || halting::is_set(&REBOOT);
        let mode = match reboots {
            true => RebootMode::RB_AUTOBOOT,
            false => RebootMode::RB_POWER_OFF,
        };
        let Err(error) = reboot(mode);
        if error == Errno::EPERM {
            // A container whose end is ours.
            stages.state = State::Refused;
            return;
        }
        announce(&format!("- outlast: the machine can't be ended: {error}"));
        stages.come(
            Part::Last,
            clock::monotonic_ns().saturating_add(FORK_AGAIN_NS),
        );
    }

    /// A signal for process 1.
    pub fn told(&mut self, signal: i32) {
        if signal == SIGHUP {
            return self.pass_on(SIGHUP);
        }
        if !matches!(signal, SIGINT | SIGCONT | SIGPWR) {
            return;
        }
        let Some(stages) = &mut self.stages else {
            return;
        };
        let part = match &stages.state {
            State::Due { part, .. } | State::Running { part, .. } => *part,
            State::Serving => Part::Second,
            State::Refused => Part::Last,
        };
        if !matches!(part, Part::Second | Part::Shell) {
            return announce("- runit: warning: signals only work in stage 2.");
        }
        match signal {
            SIGINT if halting::is_executable(CTRL_ALT_DEL) => self.ctrl_alt_del(),
            SIGINT if matches!(stages.state, State::Serving) || part == Part::Shell => {
                stages.reboots = true;
                self.shut_down("ctrl-alt-del");
            }
            SIGCONT if halting::is_set(&STOPIT) => {
                halting::clear(&STOPIT);
                self.shut_down("told to");
            }
            SIGPWR => self.shut_down("power failure"),
            _ => {}
        }
    }

    fn ctrl_alt_del(&mut self) {
        announce("- runit: ctrl-alt-del request...");
        if self.stages.as_ref().is_none_or(|it| it.aside.is_some()) {
            return;
        }
        announce(&format!("- runit: enter stage: {CTRL_ALT_DEL}"));
        let words = ["script", "2", CTRL_ALT_DEL].map(str::to_owned);
        match (self.stage(&words), &mut self.stages) {
            (Ok((pid, _)), Some(stages)) => stages.aside = Some(pid),
            (Ok(_), None) => {}
            // Whoever pressed the keys does so again.
            (Err(error), _) => announce(&format!(
                "- runit: fatal: unable to fork for \"{CTRL_ALT_DEL}\": {error}"
            )),
        }
    }

    fn shut_down(&mut self, why: &str) {
        let now_ns = clock::monotonic_ns();
        let Some(stages) = &mut self.stages else {
            return;
        };
        stages.requests = stages.requests.saturating_add(1);
        match &mut stages.state {
            State::Due { .. } => stages.come(Part::Third, now_ns),
            State::Running {
                part: Part::Shell,
                pid,
                ..
            } => {
                let all = Pid::from_raw(pid.as_raw().saturating_neg());
                let _ = kill(all, Signal::SIGKILL);
            }
            State::Running { pid, until_ns, .. } => {
                let _ = kill(*pid, Signal::SIGTERM);
                until_ns.get_or_insert(now_ns.saturating_add(SECOND_GRACE_NS));
            }
            State::Serving => {
                announce(&format!("- outlast: {why}: stopping all services"));
                self.ending.get_or_insert_default();
                if stages.requests >= REQUESTS_MAX {
                    self.do_without_supervisor();
                } else if self.deputy.is_listening() {
                    self.pass_on(SIGTERM);
                }
                // One that comes later is told that the end has begun, and must not hear it twice:
                // that would mean to hurry.
            }
            State::Refused => {}
        }
    }

    /// The supervisor has ended unasked.
    pub fn supervisor_lost(&mut self) {
        let Some(stages) = &mut self.stages else {
            return;
        };
        if self.ending.is_some() {
            self.untold_signals &= !bit(SIGTERM);
            stages.supervisor_ends = stages.supervisor_ends.saturating_add(1);
            if stages.supervisor_ends >= SUPERVISOR_ENDS_MAX {
                self.do_without_supervisor();
            }
        }
    }

    fn do_without_supervisor(&mut self) {
        announce("- outlast: the supervisor does not end in order; going on without it");
        self.deputy.hang_up();
        self.deputy.rest();
        self.done = Some(1);
    }

    /// As process 1 catches signals of its own, the supervisor gets those that it is to have.
    fn pass_on(&mut self, signal: i32) {
        self.untold_signals |= bit(signal);
    }
}

fn bit(signal: i32) -> u64 {
    let at = u32::try_from(signal).ok();
    at.and_then(|at| 1u64.checked_shl(at)).unwrap_or_default()
}

impl Birth {
    pub fn of(args: &[OsString]) -> Birth {
        match args.first() {
            Some(first) if is_first() && first == MACHINE => Birth::First,
            Some(first) if first == crate::ipc::wire::FRONTED => Birth::Fronted,
            Some(_) | None => Birth::Named,
        }
    }
}

/// A line on the console, in runit's form.
fn announce(line: &str) {
    super::write_line(&format!("{line}\n"));
}
