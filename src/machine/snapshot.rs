//! What the keeper stores of a service for the supervisor's successor, and how a service is made
//! from it again.
//!
//! A snapshot may be old: the supervisor can die between any two actions. The keeper's word about
//! what lives counts, the snapshot's about what is wanted; exits that nobody has heard of follow as
//! ordinary events. Small, as it is written at each change: no definition is in it (the directory
//! is read again) and no list. Called by `fleet`.

use super::restart::{BackOff, runit_pause};
use super::service::{Ended, Finishing, Leaving, Proc, Service, State, Step, Turn};
use super::spec::{Rule, Scope, Stop};
use super::view::{DownReason, LastExit, Want};
use super::vocab::{Action, Exit, Failure, Pid, Role, Signal, Tick, Timer};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most bytes of a failure's detail that a snapshot keeps.
const DETAIL_BYTES_MAX: usize = 48;

/// Ticks and durations in nanoseconds. Names are short because there are ten thousand of these.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    #[serde(rename = "n")]
    pub name: String,
    #[serde(rename = "s")]
    state: Stage,
    #[serde(rename = "w")]
    want: Wish,
    #[serde(rename = "S", skip_serializing_if = "is_zero")]
    since: u64,
    #[serde(rename = "A", skip_serializing_if = "is_zero")]
    arrived: u64,
    #[serde(rename = "R", skip_serializing_if = "is_zero")]
    started: u64,
    /// Of a back-off or a slow retry: when it is over.
    #[serde(rename = "u", skip_serializing_if = "is_zero")]
    until: u64,
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    delay: Option<u64>,
    #[serde(rename = "r", skip_serializing_if = "is_zero")]
    number: u64,
    #[serde(rename = "t", skip_serializing_if = "is_zero")]
    restarts: u64,
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    /// Bits, see [`Flag`].
    #[serde(rename = "f", skip_serializing_if = "no_flags")]
    flags: u16,
    #[serde(rename = "b", skip_serializing_if = "none_yet")]
    failures: u32,
    #[serde(rename = "F", skip_serializing_if = "none_yet")]
    start_failures: u32,
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    exit: Option<PastExit>,
    #[serde(rename = "x", skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    /// It was essential and has ended for good: the code that everything ends with.
    #[serde(rename = "E", skip_serializing_if = "Option::is_none")]
    last_word: Option<u8>,
    /// Stop signal; stop and finish time-outs, none for ever; scope.
    #[serde(rename = "g", skip_serializing_if = "Option::is_none")]
    stop: Option<(u8, Option<u64>, Option<u64>, Reach)>,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}
fn none_yet(value: &u32) -> bool {
    *value == 0
}
fn no_flags(value: &u16) -> bool {
    *value == 0
}

/// The state, without what the book or a clock knows better. A word of a later version is read as
/// "not known", and the service is found out about like one just started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
enum Stage {
    #[serde(rename = "df")]
    NormallyDown,
    #[serde(rename = "d")]
    Asked,
    #[serde(rename = "do")]
    Done,
    #[serde(rename = "dp")]
    Policy,
    #[serde(rename = "b")]
    Backoff,
    #[serde(rename = "s")]
    Starting,
    #[serde(rename = "u")]
    Up,
    #[serde(rename = "t")]
    Stopping,
    #[serde(rename = "cr")]
    ClearingRun,
    #[serde(rename = "cf")]
    ClearingFinish,
    #[serde(rename = "f")]
    Finishing,
    #[serde(rename = "x")]
    Broken,
    #[default]
    #[serde(rename = "n", other)]
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
enum Wish {
    #[serde(rename = "o")]
    Once,
    #[serde(rename = "d")]
    Down,
    #[serde(rename = "x")]
    Exit,
    #[default]
    #[serde(rename = "u", other)]
    Up,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Reach {
    #[serde(rename = "p")]
    Process,
    #[serde(rename = "g")]
    Group,
    #[serde(rename = "t")]
    Tree,
    #[serde(rename = "s", other)]
    Session,
}

/// wait(2) status (none: unseen), tick, nanoseconds it ran, pid, asked.
type PastExit = (Option<i32>, u64, u64, i32, bool);

#[derive(Clone, Copy)]
enum Flag {
    Ready = 1,
    Paused = 2,
    GotTerm = 4,
    EndAsked = 8,
    StopOverdue = 16,
    Again = 32,
    Settled = 64,
    FinishOverdue = 128,
    ByItself = 256,
    Redefined = 512,
}

impl Snapshot {
    /// Takes back an `exit`: what was asked of a supervisor that is no more does not bind the one
    /// that takes over.
    pub fn stay(&mut self) {
        if self.want == Wish::Exit {
            self.want = Wish::Up;
        }
        self.last_word = None;
    }

    /// Takes back a start that failed at this step: it is tried anew, as if for the first time.
    pub fn try_again(&mut self, step: u8) {
        if self.failure.as_ref().is_some_and(|it| it.step == step) {
            self.failure = None;
            self.start_failures = 0;
            self.state = Stage::Starting;
        }
    }

    fn has(&self, flag: Flag) -> bool {
        self.flags & flag as u16 != 0
    }
}

impl Service {
    pub(super) fn snapshot(&self) -> Snapshot {
        let flags = [
            (Flag::Ready, self.ready),
            (Flag::Paused, self.paused),
            (Flag::GotTerm, self.got_term),
            (Flag::EndAsked, self.end_asked),
            (Flag::StopOverdue, self.stop_overdue),
            (Flag::Again, self.again),
            (Flag::Settled, self.settled),
            (Flag::FinishOverdue, self.finish_overdue),
            (Flag::ByItself, self.by_itself),
            (Flag::Redefined, self.redefined),
        ];
        let (state, until) = stage(self.state);
        Snapshot {
            name: self.name.to_string(),
            state,
            want: match self.want {
                Want::Up => Wish::Up,
                Want::Once => Wish::Once,
                Want::Down => Wish::Down,
                Want::Exit => Wish::Exit,
            },
            since: self.since.0,
            arrived: self.arrived.0,
            started: self.started.0,
            until,
            delay: self.delay.map(nanos),
            number: self.number,
            restarts: self.restarts,
            pid: self.run.pid().map(|pid| pid.0),
            flags: flags
                .iter()
                .filter(|(_, set)| *set)
                .map(|(flag, _)| *flag as u16)
                .sum(),
            failures: self.back_off.failures,
            start_failures: self.start_failures,
            exit: self.last_exit.map(|last| {
                let status = last.exit.map(wait_status);
                (status, last.at.0, nanos(last.ran), last.pid.0, last.asked)
            }),
            failure: self.failure.as_deref().map(shortened),
            last_word: self.last_word,
            stop: (self.stop != Stop::default()).then(|| {
                let reach = match self.stop.scope {
                    Scope::Process => Reach::Process,
                    Scope::Group => Reach::Group,
                    Scope::Session => Reach::Session,
                    Scope::Tree => Reach::Tree,
                };
                let stop = &self.stop;
                (
                    stop.signal.0,
                    stop.timeout.map(nanos),
                    stop.finish_timeout.map(nanos),
                    reach,
                )
            }),
        }
    }

    /// A service as a predecessor left it. What could have been left half done is done again where
    /// that does no harm (a sweep, a stop signal) and awaited where it would (a start).
    pub(super) fn restored(now: Tick, from: &Snapshot, alive: &[(Role, Pid)]) -> Service {
        let mut service = Service::new(now, &from.name);
        service.want = match from.want {
            Wish::Up => Want::Up,
            Wish::Once => Want::Once,
            Wish::Down => Want::Down,
            Wish::Exit => Want::Exit,
        };
        service.since = Tick(from.since);
        service.arrived = Tick(from.arrived);
        service.started = Tick(from.started);
        let rested = from.arrived >= from.started && (from.number > 0 || from.failure.is_some());
        if rested {
            let since_start = service.arrived.since(service.started);
            service.pause_until = service
                .arrived
                .after(runit_pause(&Rule::Runit, since_start));
        }
        service.delay = from.delay.map(Duration::from_nanos);
        service.number = from.number;
        service.restarts = from.restarts;
        service.paused = from.has(Flag::Paused);
        service.stop_overdue = from.has(Flag::StopOverdue);
        service.finish_overdue = from.has(Flag::FinishOverdue);
        service.again = from.has(Flag::Again);
        service.settled = from.has(Flag::Settled);
        service.by_itself = from.has(Flag::ByItself);
        service.redefined = from.has(Flag::Redefined);
        service.back_off = BackOff {
            failures: from.failures,
        };
        service.start_failures = from.start_failures;
        service.failure = from.failure.clone().map(Box::new);
        service.last_word = from.last_word;
        service.last_exit = from.exit.map(|(status, at, ran, pid, asked)| LastExit {
            exit: status.map(Exit::from_wait_status),
            at: Tick(at),
            ran: Duration::from_nanos(ran),
            pid: Pid(pid),
            asked,
        });
        if let Some((signal, timeout, finish_timeout, reach)) = from.stop {
            service.stop = Stop {
                signal: Signal(signal),
                timeout: timeout.map(Duration::from_nanos),
                finish_timeout: finish_timeout.map(Duration::from_nanos),
                scope: match reach {
                    Reach::Process => Scope::Process,
                    Reach::Group => Scope::Group,
                    Reach::Session => Scope::Session,
                    Reach::Tree => Scope::Tree,
                },
            };
        }
        let living = |role| {
            alive
                .iter()
                .find(|(of, _)| *of == role)
                .map_or(Proc::None, |(_, pid)| Proc::Alive(*pid))
        };
        service.run = living(Role::Run);
        service.finish = living(Role::Finish);
        service.check = living(Role::Check);
        service.control = living(Role::Control);
        service
    }

    /// The second half of a restore: from what lives to a state, through `enter`.
    pub(super) fn resume_life(&mut self, turn: &mut Turn, from: &Snapshot) {
        self.turn(turn, |service, turn| {
            for (role, proc) in [
                (Role::Check, service.check),
                (Role::Control, service.control),
            ] {
                // What was asked of it died with the predecessor; it would only be in the way.
                if proc.pid().is_some() {
                    turn.act(Action::Signal {
                        role,
                        signal: Signal::KILL,
                    });
                }
            }
            let (since, arrived) = (service.since, service.arrived);
            match service.run.pid() {
                Some(pid) if service.has_told_end_of(from, pid) => {
                    service.run = Proc::None;
                    service.resume_rest(turn, from);
                }
                Some(pid) => service.resume_run(turn, from, pid),
                None => service.resume_rest(turn, from),
            }
            if stage(service.state).0 == from.state {
                (service.since, service.arrived) = (since, arrived);
            }
            // Whether the predecessor came to say it is not known; a run that lives says otherwise.
            if let Some(code) = service.last_word {
                turn.act(Action::EndAll { code });
            }
        });
    }

    /// The predecessor acted on this run's end and died before it had told the keeper so. The exit
    /// comes a second time and is not to be counted twice.
    fn has_told_end_of(&self, from: &Snapshot, pid: Pid) -> bool {
        from.pid.is_none() && self.last_exit.is_some_and(|last| last.pid == pid)
    }

    fn resume_run(&mut self, turn: &mut Turn, from: &Snapshot, pid: Pid) {
        let known = from.pid == Some(pid.0);
        if known {
            self.ready = from.has(Flag::Ready);
            self.got_term = from.has(Flag::GotTerm);
            self.end_asked = from.has(Flag::EndAsked);
        } else {
            self.take_run(turn, pid);
        }
        self.enter(turn, State::Up);
        let was_stopping = known && from.state == Stage::Stopping;
        match self.wanted() {
            Want::Up | Want::Once if was_stopping => {
                self.again = true;
                self.stop(turn);
            }
            Want::Up | Want::Once => {}
            Want::Down | Want::Exit => self.stop(turn),
        }
    }

    fn resume_rest(&mut self, turn: &mut Turn, from: &Snapshot) {
        if !self.finish.is_none() {
            self.enter(turn, State::Finishing(Finishing::Running));
            if self.finish_overdue {
                // Published before it was sent: whether it was is not known.
                turn.act(Action::Signal {
                    role: Role::Finish,
                    signal: Signal::KILL,
                });
            }
            if let Some(timeout) = self.stop.finish_timeout {
                turn.set(Timer::Finish, timeout);
            }
            return;
        }
        let until = Tick(from.until);
        let down = |reason| State::Down(reason);
        match from.state {
            Stage::Unknown => {}
            Stage::NormallyDown => self.enter(turn, down(DownReason::NormallyDown)),
            Stage::Asked => self.enter(turn, down(DownReason::Asked)),
            Stage::Done => self.enter(turn, down(DownReason::Done)),
            Stage::Policy => self.enter(turn, down(DownReason::Policy)),
            Stage::Backoff if !self.is_leaving() => self.enter(turn, State::Backoff { until }),
            Stage::Broken => {
                let retry = (from.until != 0).then_some(until);
                self.enter(turn, State::Broken { retry });
            }
            // Not spawned, or the keeper would hold it: as soon as the directory has been read.
            Stage::Starting | Stage::Backoff => {
                self.again = matches!(self.wanted(), Want::Up | Want::Once);
                self.rest(turn);
            }
            Stage::Up | Stage::Stopping => self.end_unseen(turn, from),
            Stage::ClearingRun => self.clear(turn, Ended::Run),
            Stage::ClearingFinish => self.clear(turn, Ended::Finish),
            Stage::Finishing => self.enter(turn, State::Finishing(Finishing::Undefined)),
        }
    }

    /// The book knows neither the run nor its exit: it ended, and how is lost.
    fn end_unseen(&mut self, turn: &mut Turn, from: &Snapshot) {
        self.run = Proc::Alive(Pid(from.pid.unwrap_or_default()));
        self.end_asked = from.has(Flag::EndAsked) || from.state == Stage::Stopping;
        self.enter(turn, State::Up);
        self.run_ended(turn, None);
    }

    /// For `fleet`: a restored service whose supervisor had been told to forget it.
    pub(super) fn leaves_with_its_main(&self) -> bool {
        matches!(self.leaving, Leaving::No | Leaving::Gone)
    }
}

fn stage(state: State) -> (Stage, u64) {
    match state {
        State::Down(DownReason::Undefined) => (Stage::Unknown, 0),
        State::Down(DownReason::NormallyDown) => (Stage::NormallyDown, 0),
        State::Down(DownReason::Asked) => (Stage::Asked, 0),
        State::Down(DownReason::Done) => (Stage::Done, 0),
        State::Down(DownReason::Policy) => (Stage::Policy, 0),
        State::Backoff { until } => (Stage::Backoff, until.0),
        State::Starting(Step::Announce | Step::Spawn) => (Stage::Starting, 0),
        State::Up => (Stage::Up, 0),
        State::Stopping => (Stage::Stopping, 0),
        State::Clearing {
            ended: Ended::Run, ..
        } => (Stage::ClearingRun, 0),
        State::Clearing {
            ended: Ended::Finish,
            ..
        } => (Stage::ClearingFinish, 0),
        State::Finishing(_) => (Stage::Finishing, 0),
        State::Broken { retry } => (Stage::Broken, retry.map_or(0, |at| at.0)),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn wait_status(exit: Exit) -> i32 {
    match exit {
        Exit::Code(code) => i32::from(code) << 8,
        Exit::Signal { signal, core } => i32::from(signal.0) | if core { 0x80 } else { 0 },
    }
}

/// Control characters would take six bytes each in JSON.
fn shortened(failure: &Failure) -> Failure {
    let mut detail = String::new();
    for c in failure.detail.chars() {
        if detail.len() + c.len_utf8() > DETAIL_BYTES_MAX {
            break;
        }
        detail.push(if c.is_control() || c == '"' || c == '\\' {
            '?'
        } else {
            c
        });
    }
    Failure {
        step: failure.step,
        errno: failure.errno,
        detail,
        class: failure.class,
    }
}

#[cfg(test)]
mod tests;
