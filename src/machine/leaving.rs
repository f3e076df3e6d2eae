//! Stopping a run, and leaving for good: removal, shut-down, hurry, and the end of a log service.
//!
//! A stop is not taken back: once asked it goes on to its end, KILL included, and a start that is
//! wanted again follows it. Called by `service`, `command`, `starting` and `fleet`.

use super::answer::Goal;
use super::control::Job;
use super::ending::CLEAR_TIME;
use super::service::{Finishing, Leaving, Proc, Service, State, Step, Turn};
use super::spec::Scope;
use super::view::{DownReason, Want};
use super::vocab::{Action, FailedBecause, Notice, Role, Signal, Timer};
use std::time::Duration;

/// What a log service is given to read the rest of its input when patience is over: without it the
/// last lines of those just killed would be lost.
const LOG_GRACE: Duration = Duration::from_secs(1);

impl Service {
    /// Begins the stop of the live run, or repeats its signal. Signals still waiting behind a
    /// control script are overtaken: a PAUSE that came out after the stop's CONT would hold up the
    /// end, and nobody needs a service reloaded that is about to go.
    pub(super) fn stop(&mut self, turn: &mut Turn) {
        if self.state == State::Up {
            self.stop_began = turn.now;
            self.enter(turn, State::Stopping);
        }
        if self.state != State::Stopping {
            return;
        }
        if self.is_log() && self.leaving != Leaving::No && self.leaving != Leaving::Gone {
            return self.end_input(turn);
        }
        if self.hurried || self.stop_overdue {
            return self.kill_run(turn);
        }
        self.overtake(turn);
        self.submit(turn, self.stop_job());
    }

    fn overtake(&mut self, turn: &mut Turn) {
        self.withdraw(turn, |job| match job {
            Job::Send(_) | Job::Stop { .. } => true,
            Job::Start | Job::Told(_) => false,
        });
    }

    pub(super) fn arm_stop(&mut self, turn: &mut Turn, delay: Duration) {
        self.stop_at = Some(turn.now.after(delay));
        turn.set(Timer::Stop, delay);
    }

    /// A log service is not signalled: it reads what is left and ends by itself. runit waits for
    /// that for ever, and so does scope `process`; else TERM and KILL follow.
    fn end_input(&mut self, turn: &mut Turn) {
        if !self.input_ended {
            self.input_ended = true;
            turn.act(Action::EndInput);
        }
        self.end_asked = true;
        if self.stop_at.is_some() {
            return;
        }
        if self.hurried {
            self.arm_stop(turn, LOG_GRACE);
        } else if let (true, Some(timeout)) = (self.stop.scope != Scope::Process, self.stop.timeout)
        {
            self.arm_stop(turn, timeout);
        }
    }

    pub(super) fn stop_due(&mut self, turn: &mut Turn) {
        if self.state != State::Stopping {
            return;
        }
        self.stop_at = None;
        if self.stop_overdue {
            return self.stuck_process(turn, self.run);
        }
        if self.input_ended && !self.got_term && !self.hurried {
            turn.act(Action::Signal {
                role: Role::Run,
                signal: self.stop.signal,
            });
            turn.act(Action::Signal {
                role: Role::Run,
                signal: Signal::CONT,
            });
            self.got_term = true;
            self.arm_stop(turn, self.stop.timeout.unwrap_or(CLEAR_TIME));
            return;
        }
        self.kill_run(turn);
    }

    /// The stop signal has had its time. One more clock shows whether even KILL is in vain.
    fn kill_run(&mut self, turn: &mut Turn) {
        self.overtake(turn);
        turn.act(Action::Signal {
            role: Role::Run,
            signal: Signal::KILL,
        });
        if !self.stop_overdue {
            self.stop_overdue = true;
            turn.note(Notice::Killed {
                after: turn.now.since(self.stop_began),
            });
        }
        self.arm_stop(turn, CLEAR_TIME);
    }

    /// A start that has not reached `run` yet is called off; its control/u may go on.
    pub(super) fn call_off(&mut self, turn: &mut Turn) {
        self.again = false;
        match self.state {
            State::Starting(Step::Announce) => {
                self.withdraw(turn, |job| job == Job::Start);
                self.lie_down(turn);
            }
            State::Backoff { .. } => self.lie_down(turn),
            State::Broken { .. } if self.invalid.is_none() || self.is_leaving() => {
                self.lie_down(turn);
            }
            // The reason is to be seen, whatever is wanted.
            State::Broken { .. } => {}
            // Nobody asked it to stay down until now.
            State::Down(_) if self.spec.is_some() => self.lie_down(turn),
            // Spawned or refused, the keeper's answer comes first.
            State::Down(_)
            | State::Starting(Step::Spawn)
            | State::Up
            | State::Stopping
            | State::Clearing { .. }
            | State::Finishing(_) => {}
        }
    }

    fn lie_down(&mut self, turn: &mut Turn) {
        self.enter(turn, State::Down(DownReason::Asked));
    }

    pub(super) fn removed(&mut self, turn: &mut Turn) {
        match self.leaving {
            Leaving::No => {
                turn.note(Notice::Gone);
                self.leave(turn, Leaving::Gone);
            }
            Leaving::Gone | Leaving::ShutDown | Leaving::MainEnded => {}
        }
    }

    pub(super) fn shut_down(&mut self, turn: &mut Turn) {
        if self.leaving != Leaving::ShutDown {
            self.leave(turn, Leaving::ShutDown);
        }
    }

    /// A log service's work ends when the service it reads from is gone; it inherits its hurry.
    pub(super) fn main_ended(&mut self, turn: &mut Turn, why: Leaving, hurried: bool) {
        self.hurried |= hurried;
        self.turn(turn, |service, turn| service.leave(turn, why));
    }

    /// The service it reads from lives on after all.
    pub(super) fn main_is_back(&mut self, turn: &mut Turn) {
        self.turn(turn, |service, turn| {
            service.leaving = Leaving::No;
            service.input_ended = false;
            match service.state {
                State::Down(_) if service.want == Want::Up => service.start(turn, false),
                State::Stopping | State::Clearing { .. } | State::Finishing(_) => {
                    service.again = service.want == Want::Up;
                }
                State::Down(_)
                | State::Backoff { .. }
                | State::Starting(_)
                | State::Up
                | State::Broken { .. } => {}
            }
        });
    }

    fn leave(&mut self, turn: &mut Turn, why: Leaving) {
        self.leaving = why;
        self.fail(turn, FailedBecause::Leaving, Goal::is_upward);
        self.call_off(turn);
        if self.unkillable && why == Leaving::ShutDown {
            self.wait_for_the_stuck(turn);
        }
        match self.state {
            State::Up => self.stop(turn),
            // Its input ends even when its run was being stopped for another reason.
            State::Stopping if self.is_log() => self.stop(turn),
            State::Finishing(Finishing::Undefined) => self.resume_finish(turn),
            State::Stopping
            | State::Down(_)
            | State::Backoff { .. }
            | State::Starting(_)
            | State::Clearing { .. }
            | State::Finishing(Finishing::Running)
            | State::Broken { .. } => {}
        }
    }

    /// The stop of everything has had most of its time: a run that has not stopped is killed, and so
    /// are left-overs and control scripts; a finish goes on, and a log service reads on.
    pub(super) fn press(&mut self, turn: &mut Turn) {
        if !self.is_leaving() {
            return;
        }
        match self.state {
            State::Stopping if self.input_ended && !self.got_term => {}
            State::Stopping => self.kill_run(turn),
            State::Clearing { .. } => self.sweep_again(turn),
            State::Down(_)
            | State::Backoff { .. }
            | State::Starting(_)
            | State::Up
            | State::Finishing(_)
            | State::Broken { .. } => {}
        }
        if self.control != Proc::None {
            self.control_due(turn);
        }
    }

    /// Every time-out is now. For a service that is to stay it ends what is being ended; one that
    /// leaves is in a hurry to the end.
    pub(super) fn hurry(&mut self, turn: &mut Turn) {
        self.hurried |= self.is_leaving();
        match self.state {
            State::Stopping if self.input_ended && !self.got_term => {
                self.arm_stop(turn, LOG_GRACE);
            }
            State::Stopping => self.kill_run(turn),
            State::Clearing { .. } => self.sweep_again(turn),
            State::Finishing(Finishing::Running) if !self.finish_overdue => self.finish_due(turn),
            State::Finishing(Finishing::Undefined) => self.resume_finish(turn),
            State::Finishing(Finishing::Running)
            | State::Down(_)
            | State::Backoff { .. }
            | State::Starting(_)
            | State::Up
            | State::Broken { .. } => {}
        }
        let ending = self.is_leaving() || self.state == State::Stopping;
        if ending && self.control != Proc::None {
            self.control_due(turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::{CONT, KILL, RUN, Rig, TERM, plain, reached, runit, seconds};
    use super::super::spec::{Kind, Policy, Restart, Spec, Stop};
    use super::super::vocab::{Command, Event, Outcome, ServiceId};
    use super::*;

    /// A service and its log service, both up; the rig watches the log.
    fn with_log(spec: Spec) -> (Rig, ServiceId) {
        let mut rig = Rig::up(spec.clone());
        let main = rig.id;
        rig.id = rig.fleet.add(rig.now, "web/log", Some(main));
        rig.tell(Event::Defined(Box::new(Spec {
            kind: Kind::Log,
            ..spec
        })));
        rig.spawned(Role::Run);
        (rig, main)
    }

    #[test]
    fn a_removed_directory_stops_the_service_and_it_is_forgotten() {
        let mut rig = Rig::up(plain());
        assert_eq!(rig.tell(Event::Removed), [TERM, CONT]);
        let (token, effects) = rig.ask(Command::Up);
        let outcome = Outcome::Failed(FailedBecause::Leaving);
        assert_eq!(effects, [Action::Reply { token, outcome }]);
        assert_eq!(rig.exits(Role::Run, 0), [Action::Forget]);
        assert!(rig.fleet.is_empty() && rig.fleet.by_name("web").is_none());
    }

    #[test]
    fn a_directory_that_comes_back_while_it_stops_lives_on_whatever_its_policy() {
        let restart = Restart {
            policy: Policy::Never,
            ..Restart::default()
        };
        let spec = Spec { restart, ..plain() };
        let mut rig = Rig::up(spec.clone());
        rig.tell(Event::Removed);
        assert_eq!(rig.tell(Event::Defined(Box::new(spec))), []);
        assert_eq!(rig.exits(Role::Run, 0), [RUN]);
    }

    #[test]
    fn a_shut_down_ends_by_forgetting_all_and_answers_whoever_waits() {
        let mut rig = Rig::up(plain());
        let (token, _) = rig.ask(Command::Restart);
        let outs = rig.fleet.shut_down(rig.now);
        let outcome = Outcome::Failed(FailedBecause::Leaving);
        assert_eq!(rig.effects(outs), [Action::Reply { token, outcome }]);
        assert_eq!(rig.exits(Role::Run, 0), [Action::Forget]);
        assert_eq!(rig.fleet.next_deadline(), None);
    }

    #[test]
    fn a_log_service_reads_on_until_its_service_is_down() {
        let (mut rig, main) = with_log(plain());
        let outs = rig.fleet.shut_down(rig.now);
        assert_eq!(rig.effects(outs), []);
        let exit = super::super::vocab::Exit::Code(0);
        let outs = rig.fleet.handle(
            rig.now,
            main,
            Event::Exited {
                role: Role::Run,
                exit,
            },
        );
        assert_eq!(rig.effects(outs), [Action::EndInput]);
        assert_eq!(rig.exits(Role::Run, 0), [Action::Forget]);
        assert!(rig.fleet.is_empty());
    }

    #[test]
    fn a_log_service_that_ignores_the_end_of_its_input_is_told_by_signals() {
        let spec = Spec {
            stop: Stop::default(),
            ..plain()
        };
        let (mut rig, main) = with_log(spec);
        rig.fleet.handle(rig.now, main, Event::Removed);
        let exit = super::super::vocab::Exit::Code(0);
        rig.fleet.handle(
            rig.now,
            main,
            Event::Exited {
                role: Role::Run,
                exit,
            },
        );
        rig.fleet
            .handle(rig.now, main, Event::Leftovers(Vec::new()));
        assert_eq!(rig.pass(seconds(10)), [TERM, CONT]);
        assert_eq!(rig.pass(seconds(10)), [KILL]);
    }

    #[test]
    fn runits_log_service_is_waited_for_without_a_signal() {
        let (mut rig, main) = with_log(runit());
        rig.fleet.handle(rig.now, main, Event::Removed);
        let exit = super::super::vocab::Exit::Code(0);
        rig.fleet.handle(
            rig.now,
            main,
            Event::Exited {
                role: Role::Run,
                exit,
            },
        );
        assert_eq!(rig.pass(seconds(3600)), []);
        assert_eq!(rig.say(Command::Exit), []);
        // Somebody presses the key once more: a moment for the rest of the input, then the end.
        let outs = rig.fleet.hurry(rig.now);
        assert_eq!(rig.effects(outs), []);
        assert_eq!(rig.pass(LOG_GRACE), [KILL]);
    }

    #[test]
    fn a_directory_that_comes_back_keeps_its_log_service_too() {
        let (mut rig, main) = with_log(plain());
        let exit = super::super::vocab::Exit::Code(0);
        rig.fleet.handle(rig.now, main, Event::Removed);
        rig.fleet.handle(
            rig.now,
            main,
            Event::Exited {
                role: Role::Run,
                exit,
            },
        );
        let outs = rig
            .fleet
            .handle(rig.now, main, Event::Defined(Box::new(plain())));
        assert!(
            outs.iter()
                .any(|out| out.service == main && out.action == RUN)
        );
        assert_eq!(rig.exits(Role::Run, 0), [RUN]);
    }

    #[test]
    fn hurry_turns_every_time_out_into_now() {
        let mut rig = Rig::up(plain());
        let (token, _) = rig.ask(Command::Exit);
        assert_eq!(rig.tell(Event::Hurry), [KILL]);
        assert_eq!(rig.exits(Role::Run, 0), [reached(token), Action::Forget]);
    }

    #[test]
    fn a_press_kills_the_run_and_lets_finish_have_its_turn() {
        let mut rig = Rig::up(Spec {
            has_finish: true,
            ..plain()
        });
        rig.fleet.shut_down(rig.now);
        let outs = rig.fleet.press(rig.now);
        assert_eq!(rig.effects(outs), [KILL]);
        let finish = super::super::vocab::Program::Finish { code: 0, status: 0 };
        assert_eq!(rig.exits(Role::Run, 0), [Action::Spawn(finish)]);
        rig.spawned(Role::Finish);
        let outs = rig.fleet.press(rig.now);
        assert_eq!(rig.effects(outs), []);
        assert_eq!(rig.exits(Role::Finish, 0), [Action::Forget]);
    }

    #[test]
    fn one_that_was_hurried_and_is_wanted_again_has_its_time_again() {
        let mut rig = Rig::up(Spec {
            has_finish: true,
            ..plain()
        });
        rig.ask(Command::Exit);
        assert_eq!(rig.tell(Event::Hurry), [KILL]);
        rig.ask(Command::Up);
        rig.exits(Role::Run, 0);
        rig.spawned(Role::Run);
        let finish = super::super::vocab::Program::Finish { code: 0, status: 0 };
        assert_eq!(rig.exits(Role::Run, 0), [Action::Spawn(finish)]);
    }

    #[test]
    fn hurry_does_not_touch_what_is_to_stay() {
        let mut rig = Rig::up(plain());
        assert_eq!(rig.tell(Event::Hurry), []);
    }

    #[test]
    fn a_supervisor_that_ends_leaves_to_the_keeper_what_kill_does_not_end() {
        let mut rig = Rig::up(plain());
        rig.fleet.shut_down(rig.now);
        assert_eq!(rig.pass(seconds(10)), [KILL]);
        assert_eq!(rig.pass(seconds(11)), []);
        assert!(rig.view().unkillable);
        assert_eq!(rig.pass(seconds(1)), [Action::Forget]);
    }

    #[test]
    fn only_a_supervisor_that_ends_gives_up() {
        let mut rig = Rig::up(plain());
        rig.tell(Event::Removed);
        rig.pass(seconds(3600));
        assert!(rig.view().unkillable);
    }
}
