//! What operators ask: each command in each state, as runsv's control bytes and our own verbs do.
//!
//! A command is taken in every state and never waits to be taken; what is opposite to an earlier
//! one overrules it. Called by `service`.

use super::answer::{Goal, failed, reply};
use super::control::Job;
use super::service::{Leaving, Service, State, Turn};
use super::view::Want;
use super::vocab::{Command, FailedBecause, Outcome, Tick, Token};

/// Where an answer goes.
#[derive(Clone, Copy)]
struct Asker {
    token: Option<Token>,
    deadline: Option<Tick>,
}

impl Service {
    pub(super) fn command(
        &mut self,
        turn: &mut Turn,
        command: Command,
        token: Option<Token>,
        deadline: Option<Tick>,
    ) {
        let asker = Asker { token, deadline };
        match command {
            Command::Up => self.want_up(turn, Want::Up, asker),
            Command::Once => self.want_up(turn, Want::Once, asker),
            Command::Restart => self.restart(turn, asker),
            Command::Down => self.want_down(turn, Want::Down, asker),
            // runsv ignores x sent to a log service: it is needed as long as its service is.
            Command::Exit if self.is_log() => {
                self.refuse(turn, asker, FailedBecause::Overruled);
            }
            Command::Exit => self.want_down(turn, Want::Exit, asker),
            Command::Term => self.term(turn, asker),
            Command::Kill => self.kill(turn, asker),
            Command::Hup => self.signal(turn, b'h', asker),
            Command::Alarm => self.signal(turn, b'a', asker),
            Command::Interrupt => self.signal(turn, b'i', asker),
            Command::Quit => self.signal(turn, b'q', asker),
            Command::Usr1 => self.signal(turn, b'1', asker),
            Command::Usr2 => self.signal(turn, b'2', asker),
            Command::Pause => self.pause(turn, b'p', true, asker),
            Command::Cont => self.pause(turn, b'c', false, asker),
            Command::Check => self.check_now(turn, asker),
        }
    }

    fn refuse(&mut self, turn: &mut Turn, asker: Asker, why: FailedBecause) {
        if let Some(token) = asker.token {
            reply(turn, token, failed(why));
        }
    }

    fn wait_for(&mut self, turn: &mut Turn, asker: Asker, goal: Goal) {
        self.expect(turn, asker.token, asker.deadline, goal);
    }

    /// The first run whose being up fulfils a wish made now.
    fn run_wished(&self) -> u64 {
        if self.state == State::Up {
            self.number
        } else {
            self.number + 1
        }
    }

    fn want_up(&mut self, turn: &mut Turn, want: Want, asker: Asker) {
        if self.leaving != Leaving::No {
            return self.refuse(turn, asker, FailedBecause::Leaving);
        }
        self.want = want;
        self.settled = true;
        self.fail(turn, FailedBecause::Overruled, Goal::is_downward);
        let run = self.run_wished();
        self.move_up(turn);
        let goal = match want {
            Want::Once => Goal::Once { run },
            Want::Up | Want::Down | Want::Exit => Goal::Up { run, clean: false },
        };
        self.wait_for(turn, asker, goal);
    }

    /// Starts now, or as soon as what is being ended has ended.
    fn move_up(&mut self, turn: &mut Turn) {
        match self.state {
            // Under runit's rule its pause is kept, see `start`.
            State::Down(_) | State::Backoff { .. } | State::Broken { .. } => {
                self.start(turn, false);
            }
            State::Stopping | State::Finishing(_) => self.again = true,
            State::Clearing { .. } => {
                self.again = true;
                if self.unkillable {
                    self.sweep_again(turn);
                }
            }
            State::Starting(_) | State::Up => {}
        }
    }

    fn restart(&mut self, turn: &mut Turn, asker: Asker) {
        if self.leaving != Leaving::No {
            return self.refuse(turn, asker, FailedBecause::Leaving);
        }
        // Stopping what could not be started again would be no service to anybody.
        if self.invalid.is_some() && self.is_alive() {
            return self.refuse(turn, asker, FailedBecause::CannotStart);
        }
        self.want = Want::Up;
        self.settled = true;
        self.fail(turn, FailedBecause::Overruled, Goal::is_downward);
        let run = self.number + 1;
        if self.state == State::Up {
            self.again = true;
            self.stop(turn);
        } else {
            // Already on the way to a new run, or soon will be: this wish joins the one before.
            self.move_up(turn);
        }
        self.wait_for(turn, asker, Goal::Up { run, clean: true });
    }

    fn want_down(&mut self, turn: &mut Turn, want: Want, asker: Asker) {
        // Who leaves is going down already, and x says more than d only to one that stays.
        self.want = want;
        self.settled = true;
        self.fail(turn, FailedBecause::Overruled, Goal::is_upward);
        if want == Want::Down {
            self.fail(turn, FailedBecause::Overruled, |goal| goal == Goal::Exit);
        }
        self.call_off(turn);
        if self.is_quiet() && want == Want::Down {
            // What an earlier end has taken along is not the doing of this stop.
            if let Some(token) = asker.token {
                let leftovers = Vec::new();
                reply(turn, token, Outcome::Reached { leftovers });
            }
            return;
        }
        match self.state {
            State::Up | State::Stopping => self.stop(turn),
            State::Clearing { .. } if self.unkillable => self.sweep_again(turn),
            State::Clearing { .. }
            | State::Down(_)
            | State::Backoff { .. }
            | State::Starting(_)
            | State::Finishing(_)
            | State::Broken { .. } => {}
        }
        let goal = if want == Want::Exit {
            Goal::Exit
        } else {
            Goal::Down
        };
        self.wait_for(turn, asker, goal);
    }

    /// The stop signal without a change of what is wanted; no clock to KILL either, as nobody
    /// wants it to be down.
    fn term(&mut self, turn: &mut Turn, asker: Asker) {
        if !self.is_alive() {
            return self.refuse(turn, asker, FailedBecause::NotRunning);
        }
        if !self.end_asked && self.state == State::Up {
            self.stop_began = turn.now;
        }
        self.wait_for(turn, asker, Goal::Ended { run: self.number });
        self.submit(turn, self.stop_job());
    }

    fn kill(&mut self, turn: &mut Turn, asker: Asker) {
        match self.state {
            State::Up | State::Stopping => {
                if !self.end_asked && self.state == State::Up {
                    self.stop_began = turn.now;
                }
                self.wait_for(turn, asker, Goal::Ended { run: self.number });
                self.submit(turn, Job::Send(b'k'));
            }
            State::Clearing { .. } => {
                self.wait_for(turn, asker, Goal::Ended { run: self.number });
                self.sweep_again(turn);
            }
            State::Down(_)
            | State::Backoff { .. }
            | State::Starting(_)
            | State::Finishing(_)
            | State::Broken { .. } => self.refuse(turn, asker, FailedBecause::NotRunning),
        }
    }

    fn signal(&mut self, turn: &mut Turn, letter: u8, asker: Asker) {
        if !self.is_alive() {
            return self.refuse(turn, asker, FailedBecause::NotRunning);
        }
        self.wait_for(turn, asker, Goal::Sent { letter });
        self.submit(turn, Job::Send(letter));
    }

    /// runsv sets its flag even where there is nobody to pause.
    fn pause(&mut self, turn: &mut Turn, letter: u8, paused: bool, asker: Asker) {
        if !self.is_alive() {
            self.paused = paused;
        }
        self.signal(turn, letter, asker);
    }

    fn check_now(&mut self, turn: &mut Turn, asker: Asker) {
        if self.state != State::Up {
            return self.refuse(turn, asker, FailedBecause::NotRunning);
        }
        let has_check = self.spec.as_ref().is_some_and(|spec| spec.has_check);
        if !has_check {
            return self.wait_for(
                turn,
                asker,
                Goal::Up {
                    run: self.number,
                    clean: false,
                },
            );
        }
        // One that runs already began before it was asked for and would tell what was.
        self.ask_check_after(turn, asker);
    }

    fn ask_check_after(&mut self, turn: &mut Turn, asker: Asker) {
        let serial = self.check_serial.wrapping_add(1);
        self.wait_for(turn, asker, Goal::Checked { serial });
        self.ask_check(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::WAITERS_MAX;
    use super::super::rig::{CONT, KILL, RUN, Rig, TERM, plain, reached, runit, seconds};
    use super::super::spec::Spec;
    use super::super::view::Phase;
    use super::super::vocab::{Action, Event, Outcome, Program, Role, ServiceId};
    use super::*;

    fn failed(token: Token, why: FailedBecause) -> Action {
        Action::Reply {
            token,
            outcome: Outcome::Failed(why),
        }
    }

    #[test]
    fn up_of_what_is_up_is_answered_at_once() {
        let mut rig = Rig::up(plain());
        let (token, effects) = rig.ask(Command::Up);
        assert_eq!(effects, [reached(token)]);
    }

    #[test]
    fn want_down_during_back_off_cancels_the_restart() {
        let mut rig = Rig::up(plain());
        rig.exits(Role::Run, 1);
        rig.spawned(Role::Run);
        rig.exits(Role::Run, 1);
        assert_eq!(rig.phase(), Phase::Backoff);
        let (token, effects) = rig.ask(Command::Down);
        assert_eq!(effects, [reached(token)]);
        assert_eq!(rig.pass(seconds(3600)), []);
    }

    #[test]
    fn down_while_the_start_is_under_way_stops_what_comes_of_it() {
        let mut rig = Rig::new(plain());
        let (up, _) = rig.ask(Command::Up);
        let (down, effects) = rig.ask(Command::Down);
        assert_eq!(effects, [failed(up, FailedBecause::Overruled)]);
        assert_eq!(rig.spawned(Role::Run), [TERM, CONT]);
        assert_eq!(rig.exits(Role::Run, 0), [reached(down)]);
    }

    #[test]
    fn down_while_control_u_runs_calls_the_start_off_and_up_takes_it_on_again() {
        let mut rig = Rig::new(Spec {
            has_control: true,
            ..plain()
        });
        rig.spawned(Role::Control);
        let (down, effects) = rig.ask(Command::Down);
        assert_eq!(effects, [], "a script of it still runs");
        rig.say(Command::Up);
        let effects = rig.exits(Role::Control, 0);
        assert_eq!(effects, [RUN]);
        assert!(!effects.contains(&reached(down)));
    }

    #[test]
    fn the_stop_signal_has_its_time_and_then_comes_kill() {
        let mut rig = Rig::up(plain());
        assert_eq!(rig.say(Command::Down), [TERM, CONT]);
        rig.pass(seconds(9));
        // Asking again sends it again and does not put KILL off.
        assert_eq!(rig.say(Command::Down), [TERM, CONT]);
        assert_eq!(rig.pass(seconds(1)), [KILL]);
    }

    #[test]
    fn without_a_time_out_kill_never_comes() {
        let mut rig = Rig::up(runit());
        assert_eq!(rig.say(Command::Down), [TERM, CONT]);
        assert_eq!(rig.fleet.next_deadline(), None);
    }

    #[test]
    fn fifty_restarts_at_once_end_with_one_copy_and_all_are_answered() {
        let mut rig = Rig::up(plain());
        let mut tokens = Vec::new();
        let mut starts = 0;
        for _ in 0..50 {
            tokens.push(rig.ask(Command::Restart).0);
        }
        let effects = rig.exits(Role::Run, 0);
        starts += effects.iter().filter(|action| **action == RUN).count();
        for _ in 0..50 {
            tokens.push(rig.ask(Command::Restart).0);
        }
        let effects = rig.spawned(Role::Run);
        starts += effects.iter().filter(|action| **action == RUN).count();
        assert_eq!(starts, 1);
        let answers: Vec<Action> = tokens.into_iter().map(reached).collect();
        assert_eq!(effects, answers);
    }

    #[test]
    fn restart_does_not_wait_for_the_back_off() {
        let mut rig = Rig::up(plain());
        for _ in 0..5 {
            rig.exits(Role::Run, 1);
            rig.pass(seconds(60));
            rig.spawned(Role::Run);
        }
        rig.exits(Role::Run, 1);
        assert_eq!(rig.phase(), Phase::Backoff);
        assert_eq!(rig.say(Command::Restart), [RUN]);
    }

    #[test]
    fn a_restart_is_answered_by_the_new_run_not_by_the_old() {
        let mut rig = Rig::up(plain());
        let (token, effects) = rig.ask(Command::Restart);
        assert_eq!(effects, [TERM, CONT]);
        assert_eq!(rig.exits(Role::Run, 0), [RUN]);
        assert_eq!(rig.spawned(Role::Run), [reached(token)]);
    }

    #[test]
    fn exit_is_answered_when_the_service_is_forgotten() {
        let mut rig = Rig::up(plain());
        let (token, effects) = rig.ask(Command::Exit);
        assert_eq!(effects, [TERM, CONT]);
        assert_eq!(rig.exits(Role::Run, 0), [reached(token), Action::Forget]);
        assert!(rig.fleet.is_empty());
    }

    #[test]
    fn up_after_exit_while_it_stops_cancels_the_exit() {
        let mut rig = Rig::up(plain());
        let (token, _) = rig.ask(Command::Exit);
        assert_eq!(
            rig.say(Command::Up),
            [failed(token, FailedBecause::Overruled)]
        );
        assert_eq!(rig.exits(Role::Run, 0), [RUN]);
    }

    #[test]
    fn a_deadline_ends_the_wait_and_nothing_else() {
        let mut rig = Rig::up(plain());
        let deadline = Some(rig.now.after(seconds(3)));
        let token = Some(Token(77));
        rig.tell(Event::Command {
            command: Command::Down,
            token,
            deadline,
        });
        assert_eq!(
            rig.pass(seconds(3)),
            [failed(Token(77), FailedBecause::TimedOut)]
        );
        assert_eq!(rig.phase(), Phase::Stopping);
    }

    #[test]
    fn term_is_answered_when_a_newer_run_is_up_or_nothing_is_left() {
        let mut rig = Rig::up(plain());
        let (token, effects) = rig.ask(Command::Term);
        assert_eq!(effects, [TERM]);
        rig.exits(Role::Run, 0);
        assert_eq!(rig.spawned(Role::Run), [reached(token)]);
        rig.say(Command::Down);
        let (token, _) = rig.ask(Command::Kill);
        assert_eq!(rig.exits(Role::Run, 0), [reached(token)]);
    }

    #[test]
    fn a_signal_without_a_process_is_told_so() {
        let mut rig = Rig::new(Spec {
            down: true,
            ..plain()
        });
        for command in [
            Command::Hup,
            Command::Kill,
            Command::Term,
            Command::Pause,
            Command::Check,
        ] {
            let (token, effects) = rig.ask(command);
            assert_eq!(effects, [failed(token, FailedBecause::NotRunning)]);
        }
    }

    #[test]
    fn check_is_asked_anew_even_when_it_has_passed_before() {
        let mut rig = Rig::up(Spec {
            has_check: true,
            ..plain()
        });
        rig.spawned(Role::Check);
        // One that began before the question is not its answer.
        let (token, effects) = rig.ask(Command::Check);
        assert_eq!(effects, []);
        assert_eq!(rig.exits(Role::Check, 0), [Action::Spawn(Program::Check)]);
        rig.spawned(Role::Check);
        assert_eq!(
            rig.exits(Role::Check, 1),
            [failed(token, FailedBecause::NotReady)]
        );
        assert!(rig.view().ready);
    }

    #[test]
    fn one_waiter_too_many_is_served_and_told_not_to_wait() {
        let mut rig = Rig::up(plain());
        for _ in 0..WAITERS_MAX {
            rig.ask(Command::Down);
        }
        let (token, effects) = rig.ask(Command::Down);
        assert!(effects.contains(&failed(token, FailedBecause::TimedOut)));
    }

    #[test]
    fn a_command_for_a_service_that_is_gone_is_answered() {
        let mut rig = Rig::up(plain());
        rig.id = ServiceId(99);
        let (token, effects) = rig.ask(Command::Up);
        assert_eq!(effects, [failed(token, FailedBecause::Leaving)]);
    }
}
