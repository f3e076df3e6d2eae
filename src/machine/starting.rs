//! From the wish to start to a run that is up and ready.
//!
//! `start` is the only way to a new run, and `enter` refuses one where a run may be alive: what is
//! unknown is never taken for "not running". Called by `command`, `ending` and `service`.

use super::answer::Goal;
use super::control::Job;
use super::restart::slowest;
use super::service::{Leaving, Proc, Service, State, Step, Turn};
use super::spec::{Kind, Rule, Spec};
use super::view::{DownReason, Want};
use super::vocab::{
    Action, Exit, FailedBecause, Failure, FailureClass, Notice, Pid, Program, Role, Signal, Tick,
    Timer,
};
use std::rc::Rc;
use std::time::Duration;

/// `./check` is asked again after this long, doubling ...
const CHECK_FIRST: Duration = Duration::from_millis(100);
/// ... to this.
const CHECK_SLOWEST: Duration = Duration::from_secs(5);
/// A `./check` that takes longer is killed and has not passed.
pub const CHECK_TIME_MAX: Duration = Duration::from_secs(30);
/// What a shell exits with when a program can't be run, and runsv's child too.
const CANNOT_RUN: u8 = 111;

impl Service {
    /// The directory was read. A first definition says what is wanted; so does one that comes back
    /// after the directory had gone, so that a package's reinstallation ends the same way whether
    /// the supervisor had forgotten the service in between or not.
    pub(super) fn defined(&mut self, turn: &mut Turn, spec: Box<Spec>) {
        let came_back = self.leaving == Leaving::Gone;
        let news =
            self.invalid.take().is_some() || self.spec.as_deref() != Some(&*spec) || came_back;
        let down = spec.down;
        self.changed |= news;
        self.spec = Some(Rc::from(spec));
        if came_back {
            self.leaving = Leaving::No;
        }
        if came_back || !self.settled {
            // `down` keeps from starting. What runs already, and nobody knows why, goes on.
            let runs = !came_back && self.is_alive();
            self.want = if down && !runs { Want::Down } else { Want::Up };
        }
        let first = !self.settled;
        self.settled = true;
        let wanted_up = self.wanted() == Want::Up;
        match self.state {
            State::Down(DownReason::Undefined) if first && wanted_up => self.start(turn, false),
            State::Down(DownReason::Undefined) if first => {
                self.enter(turn, State::Down(DownReason::NormallyDown));
            }
            State::Down(DownReason::Undefined) => self.rest(turn),
            State::Down(_) if came_back && wanted_up => self.start(turn, false),
            State::Broken { .. } if news => self.try_again(turn, came_back),
            State::Stopping | State::Clearing { .. } | State::Finishing(_)
                if came_back && wanted_up =>
            {
                self.again = true;
                self.resume_finish(turn);
            }
            State::Finishing(_) => self.resume_finish(turn),
            State::Up => self.begin_check(turn),
            State::Starting(Step::Spawn) => self.redefined |= news,
            State::Down(_)
            | State::Broken { .. }
            | State::Backoff { .. }
            | State::Starting(Step::Announce)
            | State::Stopping
            | State::Clearing { .. } => {}
        }
    }

    /// A live run goes on with the definition it was started by; nothing new is started.
    pub(super) fn invalidated(&mut self, turn: &mut Turn, reason: String) {
        if self.invalid.as_deref() != Some(&*reason) {
            self.invalid = Some(reason.clone().into());
            self.changed = true;
            turn.note(Notice::Invalid { reason });
        }
        if self.leaving == Leaving::Gone {
            self.leaving = Leaving::No;
            self.settled = false;
        }
        match self.state {
            State::Down(_) | State::Backoff { .. } | State::Broken { .. } => self.broken(turn),
            State::Starting(Step::Announce) => {
                self.withdraw(turn, |job| job == Job::Start);
                self.broken(turn);
            }
            State::Finishing(_) => self.resume_finish(turn),
            State::Starting(Step::Spawn) | State::Up | State::Stopping | State::Clearing { .. } => {
            }
        }
    }

    pub(super) fn restart_due(&mut self, turn: &mut Turn) {
        match self.state {
            State::Backoff { .. } | State::Broken { retry: Some(_) } => self.try_again(turn, false),
            State::Broken { retry: None }
            | State::Down(_)
            | State::Starting(_)
            | State::Up
            | State::Stopping
            | State::Clearing { .. }
            | State::Finishing(_) => {}
        }
    }

    /// Starts from rest, now, unless something is in the way. `by_itself`: nobody asked.
    pub(super) fn start(&mut self, turn: &mut Turn, by_itself: bool) {
        self.by_itself = by_itself;
        if self.invalid.is_some() {
            return self.broken(turn);
        }
        let Some(spec) = &self.spec else {
            self.again |= !by_itself;
            return self.enter(turn, State::Down(DownReason::Undefined));
        };
        if spec.restart.rule == Rule::Runit && turn.now < self.pause_until {
            return self.enter(
                turn,
                State::Backoff {
                    until: self.pause_until,
                },
            );
        }
        self.stop = spec.stop.clone();
        self.again = false;
        self.enter(turn, State::Starting(Step::Announce));
        self.submit(turn, Job::Start);
    }

    /// `control/u` has been asked.
    pub(super) fn spawn_run(&mut self, turn: &mut Turn) {
        if let Some(spec) = &self.spec {
            self.stop = spec.stop.clone();
            self.enter(turn, State::Starting(Step::Spawn));
        } else {
            self.enter(turn, State::Down(DownReason::Undefined));
        }
    }

    /// Also when nobody here asked for it: a run that the keeper reports is a run.
    pub(super) fn run_spawned(&mut self, turn: &mut Turn, pid: Pid) {
        if self.is_alive() {
            return;
        }
        self.withdraw(turn, |job| job == Job::Start);
        self.take_run(turn, pid);
        turn.note(Notice::Started { pid });
        self.enter(turn, State::Up);
        match self.wanted() {
            Want::Up | Want::Once => self.begin_check(turn),
            Want::Down | Want::Exit => self.stop(turn),
        }
    }

    /// The facts of a new run.
    pub(super) fn take_run(&mut self, turn: &mut Turn, pid: Pid) {
        self.run = Proc::Alive(pid);
        let successor = self.by_itself && self.number > 0;
        self.restarts = if successor { self.restarts + 1 } else { 0 };
        self.number += 1;
        self.started = turn.now;
        self.ready = false;
        self.paused = false;
        self.got_term = false;
        self.end_asked = false;
        self.stop_overdue = false;
        self.finish_overdue = false;
        self.unkillable = false;
        self.again = false;
        self.hurried &= self.is_leaving();
        self.delay = None;
        self.failure = None;
        self.last_word = None;
        self.start_failures = 0;
        self.check_tries = 0;
        self.leftovers.clear();
    }

    /// The start was refused or failed. Where a run is known to live this says nothing about it.
    pub(super) fn run_failed(&mut self, turn: &mut Turn, failure: Failure) {
        if self.state != State::Starting(Step::Spawn) {
            return;
        }
        self.run = Proc::None;
        // What was wrong was so by a definition that is none any more: no reason to give, nor to wait.
        let up = matches!(self.wanted(), Want::Up | Want::Once);
        if self.redefined && up && !self.rule_is_runit() {
            return self.start(turn, self.by_itself);
        }
        self.start_failures = self.start_failures.saturating_add(1);
        self.failure = Some(Box::new(failure.clone()));
        self.changed = true;
        self.fail(turn, FailedBecause::CannotStart, |goal| match goal {
            Goal::Up { .. } | Goal::Once { .. } | Goal::Ended { .. } => true,
            Goal::Down | Goal::Exit | Goal::Sent { .. } | Goal::Checked { .. } => false,
        });
        if self.rule_is_runit() {
            turn.note(Notice::CannotStart {
                failure,
                next: None,
                over: false,
            });
            return self.failed_as_runit(turn);
        }
        let next = self.delay_after(turn, failure.class);
        let over = self.end_all_if_never(turn, &failure);
        let next = next.filter(|_| !over);
        turn.note(Notice::CannotStart {
            failure,
            next,
            over,
        });
        match (self.wanted(), next) {
            (Want::Down | Want::Exit, _) => self.rest(turn),
            (Want::Up | Want::Once, None) => self.broken(turn),
            (Want::Up | Want::Once, Some(delay)) => self.wait(turn, delay),
        }
    }

    fn delay_after(&mut self, turn: &mut Turn, class: FailureClass) -> Option<Duration> {
        let rule = self.spec.as_ref().map(|spec| spec.restart.rule)?;
        match class {
            FailureClass::Local => None,
            FailureClass::Elsewhere => Some(slowest(&rule)),
            FailureClass::Passing => Some(self.back_off.after_failed_start(&rule, turn.jitter)),
        }
    }

    fn wait(&mut self, turn: &mut Turn, delay: Duration) {
        let until = turn.now.after(delay);
        let class = self.failure.as_ref().map(|failure| failure.class);
        match class {
            Some(FailureClass::Local | FailureClass::Elsewhere) => {
                self.enter(turn, State::Broken { retry: Some(until) });
            }
            Some(FailureClass::Passing) | None => self.enter(turn, State::Backoff { until }),
        }
    }

    /// runsv's child reports such a failure itself and exits 111; finish and the 1 s rule follow as
    /// after any run.
    fn failed_as_runit(&mut self, turn: &mut Turn) {
        self.started = turn.now;
        self.stop_overdue = false;
        self.delay = Some(Duration::ZERO);
        self.after_run(turn, Exit::Code(CANNOT_RUN).finish_arguments());
    }

    /// Readiness: without a `./check` a run is ready when it runs.
    pub(super) fn begin_check(&mut self, turn: &mut Turn) {
        if self.ready || self.state != State::Up {
            return;
        }
        match &self.spec {
            // Restored; the definition will tell.
            None => {}
            Some(spec) if spec.has_check && spec.kind == Kind::Service => self.ask_check(turn),
            Some(_) => {
                self.ready = true;
                if self.check.is_none() {
                    turn.cancel(Timer::Check);
                }
            }
        }
    }

    /// One at a time; a check left over from an earlier run has been killed and is waited for.
    pub(super) fn ask_check(&mut self, turn: &mut Turn) {
        if !self.check.is_none() {
            return;
        }
        self.check = Proc::Asked;
        self.check_began = turn.now;
        self.check_run = self.number;
        self.check_serial = self.check_serial.wrapping_add(1);
        turn.act(Action::Spawn(Program::Check));
        turn.set(Timer::Check, CHECK_TIME_MAX);
    }

    pub(super) fn checking(&self) -> Option<Tick> {
        let runs = self.state == State::Up && !self.check.is_none();
        runs.then_some(self.check_began)
    }

    pub(super) fn check_spawned(&mut self, turn: &mut Turn, pid: Pid) {
        self.check = Proc::Alive(pid);
        if self.state != State::Up || self.check_run != self.number {
            turn.act(Action::Signal {
                role: Role::Check,
                signal: Signal::KILL,
            });
        }
    }

    /// A result counts for the run that was asked about and for no other.
    pub(super) fn check_ended(&mut self, turn: &mut Turn, passed: bool) {
        if self.check.is_none() {
            return;
        }
        self.check = Proc::None;
        turn.cancel(Timer::Check);
        if self.state != State::Up {
            return;
        }
        let timely = self.check_run == self.number;
        if timely {
            let serial = self.check_serial;
            self.checked(turn, serial, passed);
            if passed && !self.ready {
                self.ready = true;
                turn.note(Notice::Ready);
            }
        }
        let asked_again = self
            .waiters
            .iter()
            .any(|waiter| matches!(waiter.goal, Goal::Checked { .. }));
        if asked_again {
            self.ask_check(turn);
        } else if !timely {
            self.begin_check(turn);
        } else if !self.ready {
            turn.set(Timer::Check, check_delay(self.check_tries));
            self.check_tries = self.check_tries.saturating_add(1);
        }
    }

    pub(super) fn check_due(&mut self, turn: &mut Turn) {
        match (self.state, self.check) {
            (State::Up, Proc::None) => self.begin_check(turn),
            (_, Proc::Alive(_)) => {
                turn.act(Action::Signal {
                    role: Role::Check,
                    signal: Signal::KILL,
                });
            }
            (State::Up, Proc::Asked) => turn.set(Timer::Check, CHECK_TIME_MAX),
            (
                State::Down(_)
                | State::Backoff { .. }
                | State::Starting(_)
                | State::Stopping
                | State::Clearing { .. }
                | State::Finishing(_)
                | State::Broken { .. },
                Proc::None | Proc::Asked,
            ) => {}
        }
    }
}

fn check_delay(tries: u8) -> Duration {
    CHECK_FIRST
        .saturating_mul(1 << tries.min(16))
        .min(CHECK_SLOWEST)
}

#[cfg(test)]
mod tests {
    use super::super::rig::{RUN, Rig, TERM, millis, plain, reached, runit, seconds};
    use super::super::view::{DownReason, Phase, Want};
    use super::*;
    use crate::machine::vocab::{Command, Event, Outcome, Token};

    fn failed(token: Token, why: FailedBecause) -> Action {
        Action::Reply {
            token,
            outcome: Outcome::Failed(why),
        }
    }

    #[test]
    fn check_is_asked_again_after_a_tenth_of_a_second_doubling_to_five() {
        let delays: Vec<u128> = [0, 1, 2, 5, 6, 255]
            .map(|n| check_delay(n).as_millis())
            .into();
        assert_eq!(delays, [100, 200, 400, 3200, 5000, 5000]);
    }

    #[test]
    fn the_first_definition_starts_the_service() {
        let mut rig = Rig::unread();
        assert_eq!(rig.view().down, Some(DownReason::Undefined));
        assert_eq!(rig.tell(Event::Defined(Box::new(plain()))), [RUN]);
    }

    #[test]
    fn a_down_file_keeps_it_down_until_somebody_asks() {
        let mut rig = Rig::new(Spec {
            down: true,
            ..plain()
        });
        assert_eq!(rig.view().down, Some(DownReason::NormallyDown));
        assert_eq!(rig.view().want, Want::Down);
        assert_eq!(rig.say(Command::Up), [RUN]);
    }

    #[test]
    fn a_start_that_fails_by_a_definition_that_has_changed_meanwhile_is_made_again_and_not_told() {
        let mut rig = Rig::unread();
        rig.tell(Event::Defined(Box::new(plain())));
        let (token, _) = rig.ask(Command::Up);
        let mut changed = plain();
        changed.stop.signal = Signal::INT;
        assert_eq!(rig.tell(Event::Defined(Box::new(changed.clone()))), []);
        let failure = super::super::rig::failure(FailureClass::Local);
        let role = Role::Run;
        let failed = Event::SpawnFailed { role, failure };
        assert_eq!(rig.tell(failed.clone()), [RUN]);
        assert_eq!(
            (rig.view().phase, rig.view().failure),
            (Phase::Starting, None)
        );
        // By the same definition once more it counts.
        assert_eq!(rig.tell(Event::Defined(Box::new(changed))), []);
        let effects = rig.tell(failed);
        assert!(effects.contains(&self::failed(token, FailedBecause::CannotStart)));
        assert_eq!(rig.view().phase, Phase::Broken);
    }

    #[test]
    fn a_definition_read_again_changes_nothing_for_a_living_run() {
        let mut rig = Rig::up(plain());
        let mut changed = plain();
        changed.stop.signal = Signal::INT;
        assert_eq!(rig.tell(Event::Defined(Box::new(changed))), []);
        // The run was started by a definition that knew TERM.
        assert_eq!(rig.say(Command::Down)[0], TERM);
    }

    #[test]
    fn without_a_check_up_is_ready() {
        let mut rig = Rig::new(plain());
        let (token, effects) = rig.ask(Command::Up);
        assert_eq!(effects, []);
        assert_eq!(rig.spawned(Role::Run), [reached(token)]);
        assert!(rig.view().ready);
    }

    #[test]
    fn check_is_polled_until_it_passes_once_and_then_never_again() {
        let mut rig = Rig::new(Spec {
            has_check: true,
            ..plain()
        });
        let (token, _) = rig.ask(Command::Up);
        const CHECK: Action = Action::Spawn(Program::Check);
        assert_eq!(rig.spawned(Role::Run), [CHECK]);
        rig.spawned(Role::Check);
        assert_eq!(rig.exits(Role::Check, 1), []);
        assert_eq!(rig.pass(millis(100)), [CHECK]);
        rig.spawned(Role::Check);
        assert_eq!(rig.exits(Role::Check, 1), []);
        assert_eq!(rig.pass(millis(199)), []);
        assert_eq!(rig.pass(millis(1)), [CHECK]);
        rig.spawned(Role::Check);
        assert_eq!(rig.exits(Role::Check, 0), [reached(token)]);
        assert_eq!(rig.fleet.next_deadline(), None);
    }

    #[test]
    fn a_check_that_hangs_is_killed_and_has_not_passed() {
        let mut rig = Rig::up(Spec {
            has_check: true,
            ..plain()
        });
        rig.spawned(Role::Check);
        let kill = Action::Signal {
            role: Role::Check,
            signal: Signal::KILL,
        };
        assert_eq!(rig.pass(CHECK_TIME_MAX), [kill]);
        rig.tell(Event::Exited {
            role: Role::Check,
            exit: Exit::Signal {
                signal: Signal::KILL,
                core: false,
            },
        });
        assert!(!rig.view().ready);
    }

    #[test]
    fn the_result_of_an_earlier_runs_check_says_nothing_about_this_one() {
        let mut rig = Rig::up(Spec {
            has_check: true,
            ..plain()
        });
        rig.spawned(Role::Check);
        rig.exits(Role::Run, 1);
        rig.spawned(Role::Run);
        assert_eq!(rig.exits(Role::Check, 0), [Action::Spawn(Program::Check)]);
        assert!(!rig.view().ready);
    }

    #[test]
    fn a_run_that_ends_before_it_is_ready_is_told_at_once() {
        let mut rig = Rig::new(Spec {
            has_check: true,
            ..plain()
        });
        let (token, _) = rig.ask(Command::Up);
        rig.spawned(Role::Run);
        assert!(
            rig.exits(Role::Run, 1)
                .contains(&failed(token, FailedBecause::Ended))
        );
    }

    #[test]
    fn a_passing_failure_is_backed_off_from() {
        let mut rig = Rig::new(plain());
        rig.failed(Role::Run, FailureClass::Passing);
        assert_eq!(rig.phase(), Phase::Backoff);
        assert_eq!(rig.pass(seconds(1)), [RUN]);
        rig.failed(Role::Run, FailureClass::Passing);
        assert_eq!(rig.view().start_failures, 2);
    }

    #[test]
    fn a_refused_start_says_nothing_about_a_run_that_lives() {
        let mut rig = Rig::up(plain());
        assert_eq!(rig.failed(Role::Run, FailureClass::Passing), []);
        assert_eq!(rig.phase(), Phase::Up);
    }

    #[test]
    fn a_run_that_the_keeper_reports_unasked_is_taken_for_what_it_is() {
        let mut rig = Rig::new(Spec {
            down: true,
            ..plain()
        });
        let effects = rig.spawned(Role::Run);
        assert_eq!(effects[0], TERM);
        assert_eq!(rig.phase(), Phase::Stopping);
    }

    #[test]
    fn an_invalid_directory_does_not_touch_a_living_run_but_refuses_to_restart_it() {
        let mut rig = Rig::up(plain());
        assert_eq!(rig.tell(Event::Invalid("line 1".to_owned())), []);
        assert_eq!(rig.view().invalid.as_deref(), Some("line 1"));
        let (token, effects) = rig.ask(Command::Restart);
        assert_eq!(effects, [failed(token, FailedBecause::CannotStart)]);
        assert_eq!(rig.exits(Role::Run, 1), []);
        assert_eq!(rig.phase(), Phase::Broken);
        assert_eq!(rig.tell(Event::Defined(Box::new(plain()))), [RUN]);
    }

    #[test]
    fn under_runits_rule_a_run_that_cannot_be_started_counts_as_exit_111() {
        let mut rig = Rig::new(Spec {
            has_finish: true,
            ..runit()
        });
        let finish = Action::Spawn(Program::Finish {
            code: 111,
            status: 0,
        });
        assert_eq!(rig.failed(Role::Run, FailureClass::Local), [finish]);
        rig.spawned(Role::Finish);
        assert_eq!(rig.exits(Role::Finish, 0), []);
        assert_eq!(rig.pass(millis(999)), []);
        assert_eq!(rig.pass(millis(1)), [RUN]);
    }
}
