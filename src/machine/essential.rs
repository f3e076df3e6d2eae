//! When an essential service has ended for good, and what everything then ends with.
//!
//! For good means: by itself, with nobody and no policy to bring it back. Decided where a service
//! comes to rest, after its finish and its leftovers, so that what ends last is the others. The
//! fleet does the rest. Called by `ending` and `starting`.

use super::restart::starts_again;
use super::service::{Service, Turn};
use super::spec::Policy;
use super::view::Want;
use super::vocab::{Action, Exit, Failure, FailureClass};

/// After an end that nobody saw.
const UNSEEN: u8 = 1;
/// What a shell exits with when a command is not found, and when it can't be executed.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;
/// errno(3): no such file or directory.
const ENOENT: i32 = 2;

impl Service {
    /// At rest after a run. What an operator has asked to be down has not ended in this sense: who
    /// stops it to look at something must not lose the whole container.
    pub(super) fn end_all_if_over(&mut self, turn: &mut Turn, policy: Policy) {
        let exit = self.last_exit.and_then(|last| last.exit);
        let over = match self.wanted() {
            Want::Down | Want::Exit => false,
            Want::Up | Want::Once if self.again || self.number == 0 => false,
            Want::Once => true,
            Want::Up => !starts_again(policy, exit),
        };
        if over {
            self.end_all(turn, exit.map_or(UNSEEN, Exit::shell_code));
        }
    }

    /// After a start that failed: true when things as they are let no start work, and the policy
    /// is not to try again or the reason is one that does not go away by itself.
    pub(super) fn end_all_if_never(&mut self, turn: &mut Turn, failure: &Failure) -> bool {
        let Some(spec) = self.spec.as_ref().filter(|spec| spec.essential) else {
            return false;
        };
        let tries_again = match (self.wanted(), spec.restart.policy) {
            (Want::Down | Want::Exit, _) => return false,
            (Want::Once, _) | (Want::Up, Policy::Never) => false,
            (Want::Up, Policy::Always | Policy::OnFailure) => true,
        };
        let over = match failure.class {
            FailureClass::Local => true,
            FailureClass::Elsewhere => !tries_again,
            FailureClass::Passing => false,
        };
        if over {
            let code = match failure.errno {
                ENOENT => NOT_FOUND,
                _ => NOT_RUNNABLE,
            };
            self.end_all(turn, code);
        }
        over
    }

    /// Kept until the end, so that a successor goes on with it.
    fn end_all(&mut self, turn: &mut Turn, code: u8) {
        let essential = self.spec.as_ref().is_some_and(|spec| spec.essential);
        if essential && self.last_word.is_none() {
            self.last_word = Some(code);
            self.changed = true;
            turn.act(Action::EndAll { code });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fleet::Fleet;
    use super::super::rig::{KILL, RUN, Rig, TERM, plain, seconds};
    use super::super::snapshot::Snapshot;
    use super::super::spec::{Restart, Spec};
    use super::super::view::Phase;
    use super::super::vocab::{Command, Event, FailureClass, Role, ServiceId, Signal};
    use super::*;

    fn essential(policy: Policy) -> Spec {
        let restart = Restart {
            policy,
            ..Restart::default()
        };
        Spec {
            restart,
            essential: true,
            ..plain()
        }
    }

    fn end_all(code: u8) -> Action {
        Action::EndAll { code }
    }

    fn killed(signal: Signal) -> Event {
        let core = false;
        let exit = Exit::Signal { signal, core };
        let role = Role::Run;
        Event::Exited { role, exit }
    }

    /// Another service beside it, up.
    fn beside(rig: &mut Rig) -> ServiceId {
        let other = rig.fleet.add(rig.now, "other", None);
        let defined = Event::Defined(Box::new(plain()));
        rig.fleet.handle(rig.now, other, defined);
        let (role, pid) = (Role::Run, super::super::vocab::Pid(7));
        let up = Event::Spawned { role, pid };
        rig.fleet.handle(rig.now, other, up);
        other
    }

    #[test]
    fn its_end_stops_the_others_and_gives_its_code() {
        let mut rig = Rig::up(essential(Policy::Never));
        let other = beside(&mut rig);
        let role = Role::Run;
        let exit = Exit::Code(3);
        let outs = rig
            .fleet
            .handle(rig.now, rig.id, Event::Exited { role, exit });
        let at = |wanted: &Action| outs.iter().position(|out| out.action == *wanted);
        let (said, done) = (at(&end_all(3)), at(&Action::Forget));
        assert!(said.is_some() && said < done, "{outs:?}");
        let stops = |out: &&super::super::fleet::Out| out.service == other && out.action == TERM;
        assert!(outs.iter().any(|out| stops(&out)), "{outs:?}");
    }

    #[test]
    fn a_signal_is_told_as_a_shell_tells_it() {
        let mut rig = Rig::up(essential(Policy::Never));
        let effects = rig.tell(killed(Signal(11)));
        assert_eq!(effects[0], end_all(139));
    }

    #[test]
    fn a_policy_that_brings_it_back_goes_first() {
        let mut rig = Rig::up(essential(Policy::OnFailure));
        assert_eq!(rig.exits(Role::Run, 1), [RUN]);
        rig.spawned(Role::Run);
        assert_eq!(rig.exits(Role::Run, 0)[0], end_all(0));
    }

    #[test]
    fn its_finish_is_waited_for() {
        let mut rig = Rig::up(Spec {
            has_finish: true,
            ..essential(Policy::Never)
        });
        rig.exits(Role::Run, 4);
        rig.spawned(Role::Finish);
        assert_eq!(rig.exits(Role::Finish, 0)[0], end_all(4));
    }

    #[test]
    fn what_an_operator_stops_ends_nothing_else() {
        for command in [Command::Down, Command::Exit] {
            let mut rig = Rig::up(essential(Policy::Never));
            assert_eq!(rig.say(command)[0], TERM);
            assert!(!rig.exits(Role::Run, 0).contains(&end_all(0)));
        }
        let mut rig = Rig::up(essential(Policy::Never));
        rig.say(Command::Restart);
        assert_eq!(rig.exits(Role::Run, 0), [RUN]);
    }

    #[test]
    fn a_kill_that_wants_it_up_all_the_same_is_an_end_like_any_other() {
        let mut rig = Rig::up(essential(Policy::Never));
        assert_eq!(rig.say(Command::Kill), [KILL]);
        assert_eq!(rig.tell(killed(Signal::KILL))[0], end_all(137));
    }

    #[test]
    fn wanted_once_it_has_ended_for_good_whatever_its_policy() {
        let mut rig = Rig::new(Spec {
            down: true,
            ..essential(Policy::OnFailure)
        });
        rig.say(Command::Once);
        rig.spawned(Role::Run);
        assert_eq!(rig.exits(Role::Run, 9)[0], end_all(9));
    }

    #[test]
    fn a_start_that_can_not_work_is_an_end_too() {
        for (policy, class, ends) in [
            (Policy::Never, FailureClass::Local, true),
            (Policy::OnFailure, FailureClass::Local, true),
            (Policy::Never, FailureClass::Elsewhere, true),
            (Policy::OnFailure, FailureClass::Elsewhere, false),
            (Policy::Never, FailureClass::Passing, false),
        ] {
            let mut rig = Rig::new(essential(policy));
            let effects = rig.failed(Role::Run, class);
            let told = effects.contains(&end_all(127));
            assert_eq!(told, ends, "{policy:?} {class:?}: {effects:?}");
        }
    }

    #[test]
    fn others_end_as_they_like() {
        let mut rig = Rig::up(Spec {
            essential: false,
            ..essential(Policy::Never)
        });
        assert_eq!(rig.exits(Role::Run, 3), []);
        assert_eq!(rig.phase(), Phase::Down);
        assert_eq!(rig.pass(seconds(3600)), []);
    }

    #[test]
    fn a_successor_goes_on_with_it_before_it_has_read_anything() {
        let mut rig = Rig::up(essential(Policy::Never));
        rig.exits(Role::Run, 5);
        // Published with its last word, and the supervisor died before it was said.
        let text = r#"{"n":"web","s":"dp","w":"d","E":5}"#;
        let snapshot: Snapshot = serde_json::from_str(text).expect("a snapshot");
        let mut after = Fleet::new(2);
        let id = ServiceId(1);
        after.restore(rig.now, id, None, &snapshot, &[]);
        let outs = after.restored(rig.now);
        assert_eq!(outs.first().map(|out| &out.action), Some(&end_all(5)));
        assert_eq!(outs.last().map(|out| &out.action), Some(&Action::Forget));
    }
}
