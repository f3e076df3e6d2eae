//! How a run ends, in sentences.

use super::super::rig::{RUN, Rig, leftover, millis, plain, reached, runit, seconds};
use super::super::spec::{Policy, Restart, Spec, Stop};
use super::super::view::{Phase, Want};
use super::super::vocab::{Command, Event, Outcome};
use super::*;

fn sweep(signal: Signal) -> Action {
    Action::Sweep { signal }
}

fn finish(code: i32, status: i32) -> Action {
    Action::Spawn(Program::Finish { code, status })
}

/// Back-off rule, session scope, finish.
fn full() -> Spec {
    Spec {
        has_finish: true,
        ..Spec::default()
    }
}

#[test]
fn the_first_end_is_followed_by_a_start_at_once_the_second_after_a_second() {
    let mut rig = Rig::up(plain());
    assert_eq!(rig.exits(Role::Run, 1), [RUN]);
    rig.spawned(Role::Run);
    assert_eq!(rig.exits(Role::Run, 1), []);
    assert_eq!(rig.phase(), Phase::Backoff);
    assert_eq!(rig.pass(seconds(1)), [RUN]);
    rig.spawned(Role::Run);
    assert_eq!(rig.view().restarts, 2);
}

#[test]
fn leftovers_are_ended_before_finish_and_finishs_before_the_next_start() {
    let mut rig = Rig::up(full());
    assert_eq!(rig.exits(Role::Run, 1), [sweep(Signal::TERM)]);
    assert_eq!(rig.left(&[7]), []);
    assert_eq!(rig.phase(), Phase::Clearing);
    assert_eq!(rig.view().leftovers, [leftover(7)]);
    assert_eq!(rig.left(&[]), [finish(1, 0)]);
    rig.spawned(Role::Finish);
    assert_eq!(rig.exits(Role::Finish, 0), [sweep(Signal::TERM)]);
    assert_eq!(rig.left(&[8]), []);
    assert_eq!(rig.left(&[]), [RUN]);
    assert_eq!(rig.view().leftovers, []);
    assert_eq!(rig.view().swept, [leftover(7), leftover(8)]);
}

#[test]
fn leftovers_that_ignore_the_stop_signal_are_killed_then_told_and_never_started_beside() {
    let mut rig = Rig::up(full());
    rig.exits(Role::Run, 1);
    rig.left(&[7]);
    assert_eq!(rig.pass(CLEAR_TIME), [sweep(Signal::KILL)]);
    rig.left(&[7]);
    assert_eq!(
        rig.pass(CLEAR_TIME * 2),
        [sweep(Signal::KILL), sweep(Signal::KILL)]
    );
    assert!(!rig.view().unkillable);
    assert_eq!(rig.pass(CLEAR_TIME), []);
    assert!(rig.view().unkillable);
    assert_eq!(rig.fleet.next_deadline(), None);
    assert_eq!(rig.pass(seconds(3600)), []);
    // Somebody who asks makes it look again.
    assert_eq!(rig.say(Command::Up), [sweep(Signal::KILL)]);
    assert_eq!(rig.left(&[]), [finish(1, 0)]);
}

#[test]
fn a_sweep_that_nobody_answers_is_made_again() {
    let mut rig = Rig::up(full());
    rig.exits(Role::Run, 1);
    assert_eq!(rig.pass(CLEAR_TIME), [sweep(Signal::KILL)]);
    assert_eq!(rig.phase(), Phase::Clearing);
}

#[test]
fn after_a_stop_that_timed_out_leftovers_are_killed_at_once() {
    let mut rig = Rig::up(full());
    rig.say(Command::Down);
    rig.pass(seconds(10));
    assert!(rig.view().stop_overdue);
    let exit = Exit::Signal {
        signal: Signal::KILL,
        core: false,
    };
    assert_eq!(
        rig.tell(Event::Exited {
            role: Role::Run,
            exit
        }),
        [sweep(Signal::KILL)]
    );
}

#[test]
fn the_answer_to_down_waits_for_leftovers_and_finish_and_names_them() {
    let mut rig = Rig::up(full());
    let (token, _) = rig.ask(Command::Down);
    rig.exits(Role::Run, 0);
    rig.left(&[7]);
    rig.left(&[]);
    rig.spawned(Role::Finish);
    rig.exits(Role::Finish, 0);
    let outcome = Outcome::Reached {
        leftovers: vec![leftover(7)],
    };
    assert_eq!(rig.left(&[]), [Action::Reply { token, outcome }]);
    assert_eq!(rig.phase(), Phase::Down);
}

#[test]
fn finish_gets_minus_one_and_the_signal_of_a_killed_run() {
    let mut rig = Rig::up(Spec {
        has_finish: true,
        ..plain()
    });
    let exit = Exit::Signal {
        signal: Signal(11),
        core: true,
    };
    assert_eq!(
        rig.tell(Event::Exited {
            role: Role::Run,
            exit
        }),
        [finish(-1, 139)]
    );
}

#[test]
fn a_finish_that_hangs_is_killed_and_shown() {
    let mut rig = Rig::up(Spec {
        has_finish: true,
        ..plain()
    });
    rig.exits(Role::Run, 1);
    rig.spawned(Role::Finish);
    let kill = Action::Signal {
        role: Role::Finish,
        signal: Signal::KILL,
    };
    assert_eq!(rig.pass(seconds(10)), [kill]);
    assert!(rig.view().finish_overdue);
    let exit = Exit::Signal {
        signal: Signal::KILL,
        core: false,
    };
    assert_eq!(
        rig.tell(Event::Exited {
            role: Role::Finish,
            exit
        }),
        [RUN]
    );
}

#[test]
fn a_finish_that_cannot_be_started_does_not_stop_the_service() {
    let mut rig = Rig::up(Spec {
        has_finish: true,
        ..plain()
    });
    rig.exits(Role::Run, 1);
    assert_eq!(
        rig.failed(Role::Finish, super::super::vocab::FailureClass::Local),
        [RUN]
    );
}

#[test]
fn commands_during_finish_change_what_is_wanted_and_nothing_else() {
    let mut rig = Rig::up(Spec {
        has_finish: true,
        ..runit()
    });
    rig.pass(seconds(5));
    rig.exits(Role::Run, 1);
    rig.spawned(Role::Finish);
    for command in [
        Command::Down,
        Command::Kill,
        Command::Term,
        Command::Up,
        Command::Once,
    ] {
        assert_eq!(rig.say(command), []);
    }
    assert_eq!(rig.view().want, Want::Once);
    assert_eq!(rig.exits(Role::Finish, 0), [RUN]);
}

#[test]
fn runits_pause_is_a_full_second_from_the_arrival_in_down() {
    let mut rig = Rig::up(Spec {
        has_finish: true,
        ..runit()
    });
    rig.pass(millis(300));
    assert_eq!(rig.exits(Role::Run, 1), [finish(1, 0)]);
    rig.spawned(Role::Finish);
    rig.pass(millis(600));
    assert_eq!(rig.exits(Role::Finish, 0), []);
    assert_eq!(rig.pass(millis(999)), []);
    assert_eq!(rig.pass(millis(1)), [RUN]);
}

#[test]
fn a_finish_that_takes_the_run_past_a_second_saves_runits_pause() {
    let mut rig = Rig::up(Spec {
        has_finish: true,
        ..runit()
    });
    rig.pass(millis(300));
    rig.exits(Role::Run, 1);
    rig.spawned(Role::Finish);
    rig.pass(millis(700));
    assert_eq!(rig.exits(Role::Finish, 0), [RUN]);
}

#[test]
fn runits_pause_holds_for_down_and_up_given_meanwhile() {
    let mut rig = Rig::up(runit());
    assert_eq!(rig.exits(Role::Run, 1), []);
    assert_eq!(rig.say(Command::Down), []);
    assert_eq!(rig.say(Command::Up), []);
    assert_eq!(rig.pass(seconds(1)), [RUN]);
}

#[test]
fn once_is_not_started_again() {
    let mut rig = Rig::new(Spec {
        down: true,
        ..plain()
    });
    let (token, effects) = rig.ask(Command::Once);
    assert_eq!(effects, [RUN]);
    assert_eq!(rig.spawned(Role::Run), [reached(token)]);
    assert_eq!(rig.exits(Role::Run, 0), []);
    assert_eq!(rig.view().down, Some(DownReason::Done));
}

#[test]
fn the_policy_decides_whether_an_end_is_final() {
    for (policy, code, again) in [
        (Policy::Never, 1, false),
        (Policy::OnFailure, 0, false),
        (Policy::OnFailure, 1, true),
        (Policy::Always, 0, true),
    ] {
        let restart = Restart {
            policy,
            ..Restart::default()
        };
        let mut rig = Rig::up(Spec { restart, ..plain() });
        assert_eq!(
            rig.exits(Role::Run, code).contains(&RUN),
            again,
            "{policy:?} {code}"
        );
        // What is wanted follows, so that `sv up` does not think that there is nothing to do.
        assert_eq!(rig.view().want, if again { Want::Up } else { Want::Down });
    }
}

#[test]
fn an_end_that_was_asked_for_is_not_counted_against_the_service() {
    let mut rig = Rig::up(plain());
    for _ in 0..5 {
        rig.say(Command::Term);
        assert_eq!(rig.exits(Role::Run, 0), [RUN]);
        rig.spawned(Role::Run);
    }
    assert_eq!(rig.view().failures, 0);
}

#[test]
fn so_many_leftovers_are_remembered_and_no_more() {
    let mut rig = Rig::up(Spec {
        stop: Stop::default(),
        ..plain()
    });
    rig.exits(Role::Run, 1);
    let many: Vec<i32> = (0..100).collect();
    rig.left(&many);
    assert_eq!(rig.view().leftovers.len(), LEFTOVERS_MAX);
}
