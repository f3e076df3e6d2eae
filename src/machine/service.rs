//! One service: its facts, its state, and `enter`, the only door through which the state changes.
//!
//! This file holds the data, the door and the dispatch of events; what an event *does* stands in
//! the neighbours: `command` (what operators ask), `control` (signals and the scripts asked before
//! them), `starting`, `ending` (from a run's exit to rest), `leaving`, `answer` (who waits for
//! what). It must never look at a clock or do anything itself. Called by `fleet` alone.

use super::answer::Waiter;
use super::control::Job;
use super::restart::{BackOff, Jitter};
use super::spec::{Kind, Spec, Stop};
use super::view::{DownReason, LastExit, Phase, Want};
use super::vocab::{
    Action, Event, Exit, Failure, Leftover, Notice, Pid, Program, Role, Tick, Timer,
};
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

/// What one event causes. The fleet makes it, keeps the timers, and passes the rest on.
pub(super) struct Turn<'a> {
    pub(super) now: Tick,
    pub(super) out: Vec<Action>,
    pub(super) jitter: &'a mut Jitter,
}

impl Turn<'_> {
    pub(super) fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    pub(super) fn note(&mut self, notice: Notice) {
        self.out.push(Action::Note(notice));
    }

    pub(super) fn set(&mut self, timer: Timer, delay: Duration) {
        self.out.push(Action::SetTimer {
            timer,
            at: self.now.after(delay),
        });
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        self.out.push(Action::CancelTimer(timer));
    }
}

/// The states; `machine`'s essay tells what they mean and what leads from one to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Down(DownReason),
    Backoff { until: Tick },
    Starting(Step),
    Up,
    Stopping,
    Clearing { ended: Ended, round: u8 },
    Finishing(Finishing),
    Broken { retry: Option<Tick> },
}

/// How far a start has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// `control/u` is asked, or waits until another control script has ended.
    Announce,
    /// The keeper was told to spawn `run` and has not answered.
    Spawn,
}

/// Whose leftovers are being ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Run,
    Finish,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finishing {
    /// After a restore, before the directory was read: whether there is a `finish` isn't known. Or,
    /// under runit's rule, a control script has not ended yet.
    Undefined,
    Running,
}

/// What is known of one process. `Asked` is "unknown": it may live already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Proc {
    #[default]
    None,
    Asked,
    Alive(Pid),
}

impl Proc {
    pub(super) fn is_none(self) -> bool {
        self == Proc::None
    }

    pub(super) fn pid(self) -> Option<Pid> {
        match self {
            Proc::Alive(pid) => Some(pid),
            Proc::None | Proc::Asked => None,
        }
    }
}

/// Why a service is to be forgotten when it is down, apart from being told `x`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leaving {
    No,
    /// Its directory is gone; it may come back.
    Gone,
    /// The supervisor ends. There is no way back from this one.
    ShutDown,
    /// It reads the output of a service that is down and leaves.
    MainEnded,
}

#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) name: Rc<str>,
    pub(super) spec: Option<Rc<Spec>>,
    pub(super) invalid: Option<Box<str>>,
    pub(super) failure: Option<Box<Failure>>,
    /// The last run's stop settings, as they were when it was started. A changed definition does
    /// not reach a living run: its program was started in the scope, and knows the stop signal, of
    /// the definition it was started by.
    pub(super) stop: Stop,

    pub(super) state: State,
    pub(super) want: Want,
    pub(super) leaving: Leaving,
    /// Somebody has said what is wanted: a definition, an operator, or a predecessor's snapshot.
    pub(super) settled: bool,
    /// An operator asked for a start that must wait for an end: neither policy nor back-off count.
    pub(super) again: bool,
    pub(super) since: Tick,
    pub(super) arrived: Tick,

    pub(super) run: Proc,
    pub(super) finish: Proc,
    pub(super) check: Proc,
    pub(super) control: Proc,

    /// Counts runs; 0 before the first.
    pub(super) number: u64,
    pub(super) started: Tick,
    pub(super) restarts: u64,
    /// The definition has changed since the keeper was asked to start a run by it.
    pub(super) redefined: bool,
    /// The start under way is one that nobody asked for.
    pub(super) by_itself: bool,
    pub(super) ready: bool,
    pub(super) paused: bool,
    pub(super) got_term: bool,
    /// The live run was told to end.
    pub(super) end_asked: bool,
    pub(super) stop_began: Tick,
    pub(super) stop_at: Option<Tick>,
    /// The run had its time and was sent KILL.
    pub(super) stop_overdue: bool,
    pub(super) finish_overdue: bool,
    pub(super) control_overdue: bool,
    /// KILL did not end what is left.
    pub(super) unkillable: bool,
    /// It was added as the reader of another's output.
    pub(super) reads: bool,
    /// A log service was told that its input ends.
    pub(super) input_ended: bool,
    /// Leaving, and patience is over.
    pub(super) hurried: bool,
    /// The supervisor ends and something here can't be killed: it is left to the keeper.
    pub(super) given_up: bool,

    pub(super) back_off: BackOff,
    pub(super) start_failures: u32,
    /// Tries on account of changes beside the definition; and when the last such change was told.
    pub(super) stirs: BackOff,
    pub(super) stirred: Tick,
    /// The delay that the last run's end has earned; none until it could be reckoned.
    pub(super) delay: Option<Duration>,
    /// runit's pause: not started before.
    pub(super) pause_until: Tick,
    pub(super) last_exit: Option<LastExit>,
    /// It was essential and has ended for good: the code that everything ends with.
    pub(super) last_word: Option<u8>,

    /// Counts calls of `./check`; the run that the present one belongs to; failures in a row.
    pub(super) check_serial: u32,
    pub(super) check_run: u64,
    pub(super) check_began: Tick,
    pub(super) check_tries: u8,

    /// What the control script that runs is asked about, and what waits behind it.
    pub(super) job: Option<Job>,
    pub(super) pending: VecDeque<Job>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) answer_at: Option<Tick>,
    /// Still there; and all that this stop has had to end.
    pub(super) leftovers: Vec<Leftover>,
    pub(super) swept: Vec<Leftover>,
    /// Set where something visible changes that `Face` does not hold.
    pub(super) changed: bool,
}

/// The visible facts that are cheap to compare; a turn that changes them publishes.
#[derive(PartialEq)]
struct Face {
    phase: Phase,
    down: Option<DownReason>,
    want: (Want, Leaving, bool),
    pids: (Option<Pid>, Option<Pid>),
    times: (Tick, Tick, Option<Tick>),
    run: (u64, u64, u32, u32),
    flags: [bool; 8],
    left: usize,
}

impl Service {
    pub(super) fn new(now: Tick, name: &str) -> Service {
        Service {
            name: name.into(),
            spec: None,
            invalid: None,
            failure: None,
            stop: Stop::default(),
            state: State::Down(DownReason::Undefined),
            want: Want::Up,
            leaving: Leaving::No,
            settled: false,
            again: false,
            since: now,
            arrived: now,
            run: Proc::None,
            finish: Proc::None,
            check: Proc::None,
            control: Proc::None,
            number: 0,
            started: now,
            restarts: 0,
            redefined: false,
            by_itself: false,
            ready: false,
            paused: false,
            got_term: false,
            end_asked: false,
            stop_began: now,
            stop_at: None,
            stop_overdue: false,
            finish_overdue: false,
            control_overdue: false,
            unkillable: false,
            reads: false,
            input_ended: false,
            hurried: false,
            given_up: false,
            back_off: BackOff::default(),
            start_failures: 0,
            stirs: BackOff::default(),
            stirred: now,
            delay: None,
            pause_until: Tick(0),
            last_exit: None,
            last_word: None,
            check_serial: 0,
            check_run: 0,
            check_began: now,
            check_tries: 0,
            job: None,
            pending: VecDeque::new(),
            waiters: Vec::new(),
            answer_at: None,
            leftovers: Vec::new(),
            swept: Vec::new(),
            changed: false,
        }
    }

    /// Everything that happens to a service comes in here.
    pub(super) fn handle(&mut self, turn: &mut Turn, event: Event) {
        self.turn(turn, |service, turn| match event {
            Event::Defined(spec) => service.defined(turn, spec),
            Event::Invalid(reason) => service.invalidated(turn, reason),
            Event::Removed => service.removed(turn),
            Event::Touched => service.touched(turn),
            Event::Stirred => service.stirred(turn),
            Event::Command {
                command,
                token,
                deadline,
            } => {
                service.command(turn, command, token, deadline);
            }
            Event::ShutDown => service.shut_down(turn),
            Event::Press => service.press(turn),
            Event::Hurry => service.hurry(turn),
            Event::Spawned { role, pid } => match role {
                Role::Run => service.run_spawned(turn, pid),
                Role::Finish => service.finish_spawned(turn, pid),
                Role::Check => service.check_spawned(turn, pid),
                Role::Control => service.control_spawned(turn, pid),
            },
            Event::SpawnFailed { role, failure } => match role {
                Role::Run => service.run_failed(turn, failure),
                Role::Finish => service.finish_failed(turn),
                Role::Check => service.check_ended(turn, false),
                Role::Control => service.control_failed(turn),
            },
            Event::Exited { role, exit } => match role {
                Role::Run => service.run_exited(turn, exit),
                Role::Finish => service.finish_exited(turn, exit),
                Role::Check => service.check_ended(turn, exit.success()),
                Role::Control => service.control_exited(turn, exit),
            },
            Event::Vanished { role } => match role {
                Role::Run => service.run_ended(turn, None),
                Role::Finish => service.finish_exited(turn, Exit::Code(0)),
                Role::Check => service.check_ended(turn, false),
                Role::Control => service.control_failed(turn),
            },
            Event::Leftovers(leftovers) => service.left(turn, leftovers),
            Event::Timer(timer) => match timer {
                Timer::Restart => service.restart_due(turn),
                Timer::Stop => service.stop_due(turn),
                Timer::Finish => service.finish_due(turn),
                Timer::Control => service.control_due(turn),
                Timer::Clear => service.clear_due(turn),
                Timer::Check => service.check_due(turn),
                Timer::Answer => service.answer_due(turn),
            },
        });
    }

    /// One turn: `act`, then the answers it makes possible, then the publication of what changed.
    /// The publication goes first, ahead of all effects: were the supervisor to die in between, its
    /// successor knows what is wanted and was meant, and the keeper's book what was done.
    pub(super) fn turn(&mut self, turn: &mut Turn, act: impl FnOnce(&mut Service, &mut Turn)) {
        let before = self.face();
        act(self, turn);
        self.answer(turn);
        debug_assert_eq!(self.coherent(), Ok(()), "{}: {self:?}", self.name);
        if mem::take(&mut self.changed) || self.face() != before {
            turn.out.insert(0, Action::Publish);
        }
    }

    /// The only door of state. Clocks that belong to the state left are stopped here, so that no
    /// way out of a state can forget one.
    pub(super) fn enter(&mut self, turn: &mut Turn, state: State) {
        match self.state {
            State::Backoff { .. } | State::Broken { .. } => turn.cancel(Timer::Restart),
            State::Stopping => {
                turn.cancel(Timer::Stop);
                self.stop_at = None;
            }
            State::Clearing { .. } => turn.cancel(Timer::Clear),
            State::Finishing(_) => turn.cancel(Timer::Finish),
            State::Up => turn.cancel(Timer::Check),
            State::Down(_) | State::Starting(_) => {}
        }
        let left = mem::replace(&mut self.state, state);
        if phase(left) != phase(state) {
            self.since = turn.now;
        }
        match state {
            State::Backoff { until: at } | State::Broken { retry: Some(at) } => {
                turn.act(Action::SetTimer {
                    timer: Timer::Restart,
                    at,
                });
            }
            State::Starting(Step::Spawn) => {
                // The promise of the house. The keeper holds it as well; who comes here with a run
                // that may be alive has lost count and must not go on.
                assert!(
                    self.run.is_none(),
                    "{}: a second run was about to be started",
                    self.name
                );
                self.run = Proc::Asked;
                self.redefined = false;
                turn.act(Action::Spawn(Program::Run));
            }
            State::Broken { retry: None }
            | State::Down(_)
            | State::Starting(Step::Announce)
            | State::Up
            | State::Stopping
            | State::Clearing { .. }
            | State::Finishing(_) => {}
        }
    }

    /// Known by its place already before its definition is.
    pub(super) fn is_log(&self) -> bool {
        self.reads
            || self
                .spec
                .as_ref()
                .is_some_and(|spec| spec.kind == Kind::Log)
    }

    /// To be forgotten once it is down.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No || self.want == Want::Exit
    }

    /// What is wanted, all told: who leaves is wanted away.
    pub(super) fn wanted(&self) -> Want {
        if self.is_leaving() {
            Want::Exit
        } else {
            self.want
        }
    }

    /// At rest, and no process of it is left: neither run nor finish, leftover, check or control
    /// script.
    pub(super) fn is_quiet(&self) -> bool {
        let at_rest = match self.state {
            State::Down(_) | State::Broken { .. } => true,
            State::Backoff { .. }
            | State::Starting(_)
            | State::Up
            | State::Stopping
            | State::Clearing { .. }
            | State::Finishing(_) => false,
        };
        at_rest
            && [self.run, self.finish, self.check, self.control]
                .iter()
                .all(|proc| proc.is_none())
    }

    pub(super) fn is_alive(&self) -> bool {
        self.run.pid().is_some()
    }

    /// What must hold after every turn, whatever came in: the state and the processes agree.
    pub(super) fn coherent(&self) -> Result<(), &'static str> {
        let run_fits = match self.state {
            State::Up | State::Stopping => self.is_alive(),
            State::Starting(Step::Spawn) => self.run == Proc::Asked,
            State::Down(_)
            | State::Backoff { .. }
            | State::Starting(Step::Announce)
            | State::Clearing { .. }
            | State::Finishing(_)
            | State::Broken { .. } => self.run.is_none(),
        };
        if !run_fits {
            return Err("the state and the run disagree");
        }
        if self.state == State::Finishing(Finishing::Running) && self.finish.is_none() {
            return Err("in finish without a finish");
        }
        if self.is_leaving() && matches!(self.state, State::Backoff { .. }) {
            return Err("waits to start although it leaves");
        }
        if self.ready && !self.is_alive() {
            return Err("ready without a run");
        }
        Ok(())
    }

    fn face(&self) -> Face {
        let (down, next) = match self.state {
            State::Down(reason) => (Some(reason), None),
            State::Backoff { until } => (None, Some(until)),
            State::Broken { retry } => (None, retry),
            State::Starting(_)
            | State::Up
            | State::Stopping
            | State::Clearing { .. }
            | State::Finishing(_) => (None, None),
        };
        Face {
            phase: phase(self.state),
            down,
            want: (self.want, self.leaving, self.again),
            pids: (self.run.pid(), self.finish.pid()),
            times: (self.since, self.arrived, next),
            run: (
                self.number,
                self.restarts,
                self.start_failures,
                self.back_off.failures,
            ),
            flags: [
                self.ready,
                self.paused,
                self.got_term,
                self.unkillable,
                self.finish_overdue,
                self.control_overdue,
                self.stop_overdue,
                self.last_exit.is_some(),
            ],
            left: self.leftovers.len(),
        }
    }
}

pub(super) fn phase(state: State) -> Phase {
    match state {
        State::Down(_) => Phase::Down,
        State::Backoff { .. } => Phase::Backoff,
        State::Starting(_) => Phase::Starting,
        State::Up => Phase::Up,
        State::Stopping => Phase::Stopping,
        State::Clearing { .. } => Phase::Clearing,
        State::Finishing(_) => Phase::Finish,
        State::Broken { .. } => Phase::Broken,
    }
}
