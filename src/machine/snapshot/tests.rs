//! What a successor gets is what its predecessor was.

use super::super::fleet::Fleet;
use super::super::rig::{CONT, RUN, Rig, TERM, failure, plain, seconds};
use super::super::spec::{NAME_BYTES_MAX, Spec};
use super::super::view::Phase;
use super::super::vocab::{Command, Event, FailureClass, Program, ServiceId};
use super::*;

fn json(rig: &Rig) -> String {
    let snapshot = rig.fleet.snapshot(rig.id).unwrap_or_default();
    serde_json::to_string(&snapshot).unwrap_or_default()
}

/// The supervisor dies; its successor gets the blob and the book.
fn reborn(rig: &mut Rig, alive: &[(Role, i32)]) -> Vec<Action> {
    let snapshot: Snapshot = match serde_json::from_str(&json(rig)) {
        Ok(snapshot) => snapshot,
        Err(error) => panic!("{error}"),
    };
    let alive: Vec<(Role, Pid)> = alive.iter().map(|(role, pid)| (*role, Pid(*pid))).collect();
    rig.fleet = Fleet::new(2);
    let outs = rig.fleet.restore(rig.now, rig.id, None, &snapshot, &alive);
    rig.effects(outs)
}

fn pid(rig: &Rig) -> i32 {
    rig.view().pid.map_or(0, |pid| pid.0)
}

#[test]
fn a_run_that_lives_is_taken_over_as_it_is() {
    let mut rig = Rig::up(plain());
    rig.pass(seconds(5));
    let before = rig.view();
    let run = pid(&rig);
    assert_eq!(reborn(&mut rig, &[(Role::Run, run)]), []);
    assert_eq!(rig.view(), before);
    assert_eq!(rig.tell(Event::Defined(Box::new(plain()))), []);
    assert_eq!(rig.view(), before);
}

#[test]
fn a_wish_to_be_down_is_not_forgotten() {
    let mut rig = Rig::up(plain());
    rig.say(Command::Down);
    let run = pid(&rig);
    assert_eq!(reborn(&mut rig, &[(Role::Run, run)]), [TERM, CONT]);
    rig.exits(Role::Run, 0);
    rig.tell(Event::Defined(Box::new(plain())));
    assert_eq!(rig.phase(), Phase::Down);
}

#[test]
fn an_exit_nobody_has_heard_of_is_treated_like_any_other() {
    let spec = Spec {
        has_finish: true,
        ..plain()
    };
    let mut rig = Rig::up(spec.clone());
    let run = pid(&rig);
    reborn(&mut rig, &[(Role::Run, run)]);
    // Whether there is a finish is known when the directory has been read.
    assert_eq!(rig.exits(Role::Run, 7), []);
    assert_eq!(rig.phase(), Phase::Finish);
    let finish = Action::Spawn(Program::Finish { code: 7, status: 0 });
    assert_eq!(rig.tell(Event::Defined(Box::new(spec))), [finish]);
}

#[test]
fn an_exit_told_twice_counts_once() {
    let spec = Spec {
        has_finish: true,
        ..plain()
    };
    let mut rig = Rig::up(spec.clone());
    let run = pid(&rig);
    rig.exits(Role::Run, 7);
    reborn(&mut rig, &[(Role::Run, run)]);
    assert_eq!(rig.exits(Role::Run, 7), []);
    assert_eq!((rig.view().failures, rig.view().run), (1, 1));
    let finish = Action::Spawn(Program::Finish { code: 7, status: 0 });
    assert_eq!(rig.tell(Event::Defined(Box::new(spec))), [finish]);
}

#[test]
fn a_start_that_never_came_to_be_is_made_when_the_directory_has_been_read() {
    let mut rig = Rig::new(plain());
    assert_eq!(reborn(&mut rig, &[]), []);
    assert_eq!(rig.tell(Event::Defined(Box::new(plain()))), [RUN]);
}

#[test]
fn a_start_whose_answer_was_lost_is_not_made_again() {
    let mut rig = Rig::new(plain());
    assert_eq!(reborn(&mut rig, &[(Role::Run, 5)]), []);
    assert_eq!(rig.tell(Event::Defined(Box::new(plain()))), []);
    assert_eq!((pid(&rig), rig.view().run), (5, 1));
}

#[test]
fn the_back_off_goes_on_where_it_was() {
    let mut rig = Rig::up(plain());
    rig.exits(Role::Run, 1);
    rig.spawned(Role::Run);
    rig.exits(Role::Run, 1);
    let next = rig.view().next_start;
    assert_eq!(reborn(&mut rig, &[]), []);
    rig.tell(Event::Defined(Box::new(plain())));
    assert_eq!((rig.phase(), rig.view().next_start), (Phase::Backoff, next));
    assert_eq!(rig.pass(seconds(1)), [RUN]);
}

#[test]
fn a_finish_that_was_to_be_killed_is_killed_again() {
    let mut rig = Rig::up(Spec {
        has_finish: true,
        ..plain()
    });
    rig.exits(Role::Run, 1);
    rig.spawned(Role::Finish);
    let finish = pid(&rig);
    rig.pass(seconds(10));
    let kill = Action::Signal {
        role: Role::Finish,
        signal: Signal::KILL,
    };
    assert_eq!(reborn(&mut rig, &[(Role::Finish, finish)]), [kill]);
}

#[test]
fn the_longest_snapshot_fits_its_place() {
    let name = "n".repeat(NAME_BYTES_MAX);
    let mut service = Service::new(Tick(u64::MAX), &name);
    service.want = Want::Exit;
    service.state = State::Clearing {
        ended: Ended::Finish,
        round: 3,
    };
    service.started = Tick(u64::MAX);
    service.number = u64::from(u32::MAX);
    service.restarts = u64::from(u32::MAX);
    service.delay = Some(Duration::from_secs(86_400));
    service.back_off.failures = u32::MAX;
    service.start_failures = u32::MAX;
    service.stop.signal = Signal(64);
    service.stop.timeout = Some(Duration::from_secs(86_400));
    service.stop.finish_timeout = Some(Duration::from_secs(86_400));
    service.settled = true;
    service.ready = true;
    service.by_itself = true;
    service.last_exit = Some(LastExit {
        exit: Some(Exit::Signal {
            signal: Signal(64),
            core: true,
        }),
        at: Tick(u64::MAX),
        ran: Duration::from_nanos(u64::MAX),
        pid: Pid(i32::MAX),
        asked: false,
    });
    let detail = "\u{1}\"\\d".repeat(40);
    service.failure = Some(Box::new(Failure {
        detail,
        ..failure(FailureClass::Elsewhere)
    }));
    let text = serde_json::to_string(&service.snapshot()).unwrap_or_default();
    assert!(
        (400..=700).contains(&text.len()),
        "{} bytes: {text}",
        text.len()
    );
}

#[test]
fn an_ordinary_snapshot_is_small() {
    let rig = Rig::up(plain());
    assert!(json(&rig).len() < 160, "{}", json(&rig));
}

#[test]
fn what_another_version_wrote_is_read_as_far_as_it_is_understood() {
    let text = r#"{"n":"web","w":"d","s":"hibernating","zz":[1,2]}"#;
    let Ok(snapshot) = serde_json::from_str::<Snapshot>(text) else {
        panic!("refused")
    };
    let mut fleet = Fleet::new(1);
    fleet.restore(Tick(1), ServiceId(4), None, &snapshot, &[]);
    assert_eq!(fleet.by_name("web"), Some(ServiceId(4)));
    assert_eq!(
        fleet.view(ServiceId(4)).map(|view| view.want),
        Some(Want::Down)
    );
    assert_eq!(fleet.add(Tick(1), "new", None), ServiceId(5));
}
