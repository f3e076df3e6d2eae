//! A service that can't be started until something is mended, and what brings it back.
//!
//! The mistake may be in the definition or in something that it names. Nothing is tried here without
//! a sign that it may work now. Called by `service`, `starting` and `ending`.

use super::service::{Service, State, Turn};
use super::view::{DownReason, Want};

impl Service {
    /// Nothing but a change mends it: no clock.
    pub(super) fn broken(&mut self, turn: &mut Turn) {
        self.again = false;
        self.enter(turn, State::Broken { retry: None });
    }

    pub(super) fn touched(&mut self, turn: &mut Turn) {
        match self.state {
            State::Broken { .. } if self.invalid.is_none() => self.try_again(turn, false),
            // A run that writes into its own directory must not talk itself out of its back-off.
            State::Broken { .. }
            | State::Down(_)
            | State::Backoff { .. }
            | State::Starting(_)
            | State::Up
            | State::Stopping
            | State::Clearing { .. }
            | State::Finishing(_) => {}
        }
    }

    /// Something in the directory changed that the definition may name: an environment file, a program.
    /// It may change without end, as it may be anybody's, so tries on that account come at the pace of
    /// restarts: at once after a quiet minute, then with growing delays.
    pub(super) fn stirred(&mut self, turn: &mut Turn) {
        let State::Broken { retry } = self.state else {
            return;
        };
        let rule = self.spec.as_ref().map(|spec| spec.restart.rule);
        let wanted = matches!(self.wanted(), Want::Up | Want::Once);
        let Some(rule) = rule.filter(|_| wanted && self.invalid.is_none()) else {
            return;
        };
        let quiet = turn.now.since(self.stirred);
        self.stirred = turn.now;
        let delay = self.stirs.after_run(&rule, quiet, false, turn.jitter);
        let until = turn.now.after(delay);
        if delay.is_zero() {
            self.try_again(turn, false);
        } else if retry.is_none_or(|at| until < at) {
            self.enter(turn, State::Broken { retry: Some(until) });
        }
    }

    /// Out of broken: start if a run is wanted, else just be down.
    pub(super) fn try_again(&mut self, turn: &mut Turn, asked: bool) {
        match self.wanted() {
            Want::Up | Want::Once => self.start(turn, !asked),
            Want::Down | Want::Exit => self.enter(turn, State::Down(DownReason::Asked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::restart::slowest;
    use super::super::rig::{RUN, Rig, failure, millis, plain, seconds};
    use super::super::spec::Spec;
    use super::super::view::Phase;
    use super::super::vocab::{
        Action, Command, Event, FailedBecause, FailureClass, Outcome, Role, Token,
    };

    fn failed(token: Token, why: FailedBecause) -> Action {
        Action::Reply {
            token,
            outcome: Outcome::Failed(why),
        }
    }

    #[test]
    fn a_local_failure_is_broken_without_a_clock_until_something_is_touched() {
        let mut rig = Rig::new(plain());
        let (token, _) = rig.ask(Command::Up);
        let effects = rig.failed(Role::Run, FailureClass::Local);
        assert_eq!(effects, [failed(token, FailedBecause::CannotStart)]);
        assert_eq!(rig.phase(), Phase::Broken);
        assert_eq!(rig.fleet.next_deadline(), None);
        assert_eq!(rig.view().failure, Some(failure(FailureClass::Local)));
        assert_eq!(rig.tell(Event::Touched), [RUN]);
        rig.spawned(Role::Run);
        assert_eq!(rig.view().failure, None);
    }

    #[test]
    fn a_failure_elsewhere_is_broken_and_tried_again_at_the_slowest_pace() {
        let mut rig = Rig::new(plain());
        rig.failed(Role::Run, FailureClass::Elsewhere);
        assert_eq!(rig.phase(), Phase::Broken);
        assert_eq!(rig.pass(millis(59_999)), []);
        assert_eq!(rig.pass(millis(1)), [RUN]);
    }

    #[test]
    fn a_change_beside_the_definition_is_a_reason_to_try_at_once() {
        for class in [FailureClass::Local, FailureClass::Elsewhere] {
            let mut rig = Rig::new(plain());
            rig.failed(Role::Run, class);
            assert_eq!(rig.tell(Event::Stirred), [RUN]);
        }
        let mut rig = Rig::new(plain());
        for _ in 0..10 {
            rig.failed(Role::Run, FailureClass::Local);
            assert_eq!(rig.pass(seconds(61)), []);
            // However often it has failed before.
            assert_eq!(rig.tell(Event::Stirred), [RUN]);
        }
    }

    #[test]
    fn changes_without_end_bring_no_more_starts_than_ends_without_end() {
        let mut rig = Rig::new(plain());
        let (slowest, mut starts) = (slowest(&Spec::default().restart.rule), 0);
        rig.failed(Role::Run, FailureClass::Elsewhere);
        let began = rig.now;
        while rig.now.since(began) < slowest * 10 {
            let told = rig.tell(Event::Stirred);
            let passed = rig.pass(millis(100));
            for _ in told.iter().chain(&passed).filter(|it| **it == RUN) {
                starts += 1;
                rig.failed(Role::Run, FailureClass::Elsewhere);
            }
        }
        // At once, after 1, 2, 4, ... 32 s, then once a minute.
        assert!((10..=17).contains(&starts), "{starts}");
    }

    #[test]
    fn nothing_stirs_what_is_not_broken_or_not_wanted() {
        let mut rig = Rig::up(plain());
        assert_eq!(rig.tell(Event::Stirred), []);
        rig.exits(Role::Run, 1);
        rig.exits(Role::Run, 1);
        assert_eq!(rig.tell(Event::Stirred), []);
        let mut rig = Rig::new(plain());
        rig.failed(Role::Run, FailureClass::Local);
        rig.say(Command::Down);
        assert_eq!(rig.tell(Event::Stirred), []);
        rig.tell(Event::Invalid("bad".into()));
        assert_eq!(rig.tell(Event::Stirred), []);
    }
}
