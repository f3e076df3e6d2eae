//! The words of the machine: what can happen to a service, what may be done about it.
//!
//! Everything that crosses the machine's border is one of these types, so that the machine can be
//! driven by the supervisor and by the simulation alike. Nothing here knows a clock, a descriptor
//! or a process table.

use std::fmt;
use std::time::Duration;

/// Nanoseconds of a clock that never goes back (`CLOCK_MONOTONIC` when driven by the supervisor).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// The tick `delay` later; saturates at the end of time.
    pub fn after(self, delay: Duration) -> Tick {
        Tick(
            self.0
                .saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Names one service for the life of a keeper; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ServiceId(pub u32);

/// A process id that the keeper has reported.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Pid(pub i32);

/// Which of a service's processes is meant. Together with [`ServiceId`] it is the keeper's key,
/// under which a second live process is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Role {
    /// `./run` or `exec`.
    Run,
    /// `./finish CODE STATUS`.
    Finish,
    /// `./check`: exit code 0 means ready.
    Check,
    /// `./control/<c>`: asked before a signal is sent; exit code 0 means that it has done the work.
    Control,
}

/// What an operator may ask of one service, by socket, FIFO byte or signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Command {
    /// `u`: want up.
    Up,
    /// `o`: run once, do not restart.
    Once,
    /// `d`: want down; stop with the stop signal.
    Down,
    /// `x`: want down and end the supervision of this service.
    Exit,
    /// Stop if running, then up again, at once whatever the back-off says.
    Restart,
    /// `t`: the stop signal without a change of what is wanted.
    Term,
    Hup,
    Alarm,
    Interrupt,
    Quit,
    Usr1,
    Usr2,
    /// `k`.
    Kill,
    /// `p`: SIGSTOP.
    Pause,
    /// `c`: SIGCONT.
    Cont,
    /// Answer whether it is up and `./check` passes now.
    Check,
}

/// Who waits for the answer to a command. Commands from FIFO bytes have none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Token(pub u64);

/// A signal by its Linux number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Signal(pub u8);

impl Signal {
    pub const HUP: Signal = Signal(1);
    pub const INT: Signal = Signal(2);
    pub const QUIT: Signal = Signal(3);
    pub const KILL: Signal = Signal(9);
    pub const USR1: Signal = Signal(10);
    pub const USR2: Signal = Signal(12);
    pub const ALRM: Signal = Signal(14);
    pub const TERM: Signal = Signal(15);
    pub const CONT: Signal = Signal(18);
    pub const STOP: Signal = Signal(19);
    pub const PWR: Signal = Signal(30);
    /// RTMIN+3, counted as glibc does: what a container whose init is systemd is stopped with.
    pub const HALT: Signal = Signal(37);

    /// Names by number, x86 and ARM numbering (signal(7)); index 0 is no signal.
    const NAMES: [&'static str; 32] = [
        "0", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV",
        "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU",
        "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];

    /// `TERM`, `SIGTERM`, `term` or `15`.
    pub fn parse(text: &str) -> Option<Signal> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Ok(number) = bare.parse::<u8>() {
            return (1..=64).contains(&number).then_some(Signal(number));
        }
        let found = Self::NAMES.iter().skip(1).position(|name| *name == bare)?;
        u8::try_from(found + 1).ok().map(Signal)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.get(usize::from(self.0)) {
            Some(name) => write!(f, "SIG{name}"),
            None if *self == Signal::HALT => write!(f, "SIGRTMIN+3"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// How a process ended (wait(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Exit {
    Code(u8),
    Signal { signal: Signal, core: bool },
}

impl Exit {
    /// From the raw status of wait(2).
    pub fn from_wait_status(status: i32) -> Exit {
        let signal = status & 0x7f;
        if signal == 0 {
            Exit::Code(u8::try_from((status >> 8) & 0xff).unwrap_or(u8::MAX))
        } else {
            Exit::Signal {
                signal: Signal(u8::try_from(signal).unwrap_or(0)),
                core: status & 0x80 != 0,
            }
        }
    }

    /// `finish`'s two arguments as runit passes them: exit code or -1, low byte of the status.
    pub fn finish_arguments(self) -> (i32, i32) {
        match self {
            Exit::Code(code) => (i32::from(code), 0),
            Exit::Signal { signal, core } => (-1, i32::from(signal.0) + if core { 128 } else { 0 }),
        }
    }

    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }

    /// As a shell shows it: the code, or 128 and the signal.
    pub fn shell_code(self) -> u8 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal { signal, .. } => signal.0.saturating_add(128),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal {
                signal,
                core: false,
            } => write!(f, "killed by {signal}"),
            Exit::Signal { signal, core: true } => write!(f, "killed by {signal} (core dumped)"),
        }
    }
}

/// Why a program could not be started: the step that failed, as `os::step::Step` numbers it, and
/// the errno. The words come from `launch::report`.
#[derive(Clone, PartialEq, Eq, Debug, Hash, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    pub step: u8,
    pub errno: i32,
    /// What launch had to say (a user's name, a limit); at most 160 bytes, may be empty.
    pub detail: String,
    pub class: FailureClass,
}

/// What a failed start means for the next try; decided by whoever reports the failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, serde::Serialize, serde::Deserialize)]
pub enum FailureClass {
    /// Wrong until somebody changes a file of the service directory (no `run`, not executable).
    Local,
    /// Wrong for a reason outside the directory (interpreter, user, working directory missing):
    /// broken as well, yet tried again at the slowest back-off.
    Elsewhere,
    /// The machine was short of something (ENOMEM, EAGAIN, EMFILE, ETXTBSY): ordinary back-off.
    Passing,
}

/// A process that outlived the run it belonged to.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Leftover {
    pub pid: Pid,
    /// comm, as `ps` shows it.
    pub name: String,
}

/// The clocks a service can have running; at most one of each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Timer {
    /// The back-off is over.
    Restart,
    /// The stop signal has had its time.
    Stop,
    /// `finish` has had its time.
    Finish,
    /// A control script has had its time.
    Control,
    /// Leftovers have had their time.
    Clear,
    /// Ask `./check` again.
    Check,
    /// The earliest deadline of a waiting command.
    Answer,
}

/// What happens to a service.
#[derive(Clone, Debug)]
pub enum Event {
    /// The directory was read, for the first time or again; the new definition counts from the
    /// next start on.
    Defined(Box<super::spec::Spec>),
    /// The directory was read and can't be used; the reason is ready to be shown.
    Invalid(String),
    /// The directory (or its link) is gone: stop, then be forgotten.
    Removed,
    /// Something in the directory changed: a broken service is tried again.
    Touched,
    /// Something else in the directory changed: a service that is broken by what its definition names
    /// is tried again, soon.
    Stirred,
    Command {
        command: Command,
        token: Option<Token>,
        deadline: Option<Tick>,
    },
    /// The supervisor is to end: stop for good.
    ShutDown,
    /// Most of the time for a stop of everything is over: a run that was told to stop and has not
    /// is killed, and its finish still has its turn.
    Press,
    /// Patience is over: what still runs is killed now.
    Hurry,
    Spawned {
        role: Role,
        pid: Pid,
    },
    SpawnFailed {
        role: Role,
        failure: Failure,
    },
    Exited {
        role: Role,
        exit: Exit,
    },
    /// It has ended, and how nobody could see: it was another keeper's child.
    Vanished {
        role: Role,
    },
    /// Who is left of the scope after [`Action::Sweep`]; empty when nobody is. Comes at once after
    /// a sweep, and again when the last of those named has gone.
    Leftovers(Vec<Leftover>),
    Timer(Timer),
}

/// Which program is to be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Program {
    Run,
    /// The two arguments of `finish`.
    Finish {
        code: i32,
        status: i32,
    },
    Check,
    /// `control/<letter>`, one of `u t d x h a i q 1 2 p c k`.
    Control(u8),
}

impl Program {
    pub fn role(self) -> Role {
        match self {
            Program::Run => Role::Run,
            Program::Finish { .. } => Role::Finish,
            Program::Check => Role::Check,
            Program::Control(_) => Role::Control,
        }
    }
}

/// What the machine wants done. Timers are kept by the fleet and never reach the supervisor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Answered by `Spawned` or `SpawnFailed`, exactly once; after `Spawned`, one `Exited` follows.
    Spawn(Program),
    /// To the process of that role itself, never its group. A dead process makes this a no-op.
    Signal {
        role: Role,
        signal: Signal,
    },
    /// Look for what is left of the runs so far (the spec's scope) and send it `signal`, followed
    /// by CONT unless it is KILL. Answered by `Leftovers`.
    Sweep {
        signal: Signal,
    },
    SetTimer {
        timer: Timer,
        at: Tick,
    },
    CancelTimer(Timer),
    /// What `status` shows has changed: write `supervise/` and the keeper's blob.
    Publish,
    /// The one answer to a command.
    Reply {
        token: Token,
        outcome: Outcome,
    },
    /// A line for the people who read the supervisor's diagnostics.
    Note(Notice),
    /// For a log service: close the supervisor's side of its pipe, so that it reads the end of its
    /// input and can end by itself.
    EndInput,
    /// The service is gone for good; its descriptors and its place may be released.
    Forget,
    /// It was essential and has ended for good: everything ends, the shut-down's own actions
    /// follow, and outlast is to exit with this code. Comes at most once.
    EndAll {
        code: u8,
    },
}

/// The answer to a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The state asked for is reached. `leftovers` names processes that the stop had to end or
    /// could not end.
    Reached { leftovers: Vec<Leftover> },
    /// It can't be reached as things are; the service's view says why.
    Failed(FailedBecause),
}

/// Why a command's state was not reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FailedBecause {
    /// The deadline passed; the service goes on towards what is wanted.
    TimedOut,
    /// The start failed (`Failure` is in the view).
    CannotStart,
    /// It started and ended before it was ready.
    Ended,
    /// `./check` did not pass.
    NotReady,
    /// There is no process to signal.
    NotRunning,
    /// A later command wants the opposite.
    Overruled,
    /// The service directory is gone, or the supervisor is ending.
    Leaving,
}

/// What people are told, one line each. The words are the supervisor's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    Started {
        pid: Pid,
    },
    Ready,
    /// The run ended without being told to; `next` is the delay before the next start, none when
    /// its policy says that it stays down.
    Ended {
        exit: Exit,
        ran: Duration,
        next: Option<Duration>,
    },
    /// The run ended as asked.
    Stopped {
        exit: Exit,
        took: Duration,
    },
    CannotStart {
        failure: Failure,
        next: Option<Duration>,
        /// Everything ends because of it.
        over: bool,
    },
    /// The stop signal had its time; KILL was sent.
    Killed {
        after: Duration,
    },
    FinishKilled {
        after: Duration,
    },
    FinishFailed {
        exit: Exit,
    },
    ControlKilled {
        after: Duration,
    },
    /// Processes of an ended run are being ended.
    Clearing {
        leftovers: Vec<Leftover>,
    },
    /// KILL does not end these (a process in an uninterruptible wait).
    Unkillable {
        leftovers: Vec<Leftover>,
    },
    Invalid {
        reason: String,
    },
    Gone,
}
