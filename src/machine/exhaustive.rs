//! For tests: every event in every state that can be reached, small scope, nothing sampled.
//!
//! Unlike the simulation this knows no manners: exits of processes that were never spawned, clocks
//! that nobody set, spawns that nobody asked for. The machine must have an answer to each and stay
//! coherent, and must never start a run where one may live.

use super::restart::Jitter;
use super::rig::{failure, leftover, plain, runit};
use super::service::{Proc, Service, Turn};
use super::spec::{Kind, Spec, Stop};
use super::vocab::{
    Action, Command, Event, Exit, FailureClass, Pid, Program, Role, Signal, Tick, Timer, Token,
};
use std::collections::{BTreeSet, VecDeque};

const ROLES: [Role; 4] = [Role::Run, Role::Finish, Role::Check, Role::Control];
const TIMERS: [Timer; 7] = [
    Timer::Restart,
    Timer::Stop,
    Timer::Finish,
    Timer::Control,
    Timer::Clear,
    Timer::Check,
    Timer::Answer,
];
const COMMANDS: [Command; 16] = [
    Command::Up,
    Command::Once,
    Command::Down,
    Command::Exit,
    Command::Restart,
    Command::Term,
    Command::Hup,
    Command::Alarm,
    Command::Interrupt,
    Command::Quit,
    Command::Usr1,
    Command::Usr2,
    Command::Kill,
    Command::Pause,
    Command::Cont,
    Command::Check,
];
/// States from which everything is tried; enough to reach all phases in all company.
const STATES_MAX: usize = 12_000;

fn events(spec: &Spec) -> Vec<Event> {
    let mut all = vec![
        Event::Defined(Box::new(spec.clone())),
        Event::Invalid("bad".to_owned()),
        Event::Removed,
        Event::Touched,
        Event::Stirred,
        Event::ShutDown,
        Event::Press,
        Event::Hurry,
        Event::Leftovers(Vec::new()),
        Event::Leftovers(vec![leftover(9)]),
    ];
    all.extend(COMMANDS.map(|command| Event::Command {
        command,
        token: None,
        deadline: None,
    }));
    all.extend(TIMERS.map(Event::Timer));
    for role in ROLES {
        let killed = Exit::Signal {
            signal: Signal::KILL,
            core: false,
        };
        all.push(Event::Spawned { role, pid: Pid(5) });
        all.push(Event::Exited {
            role,
            exit: Exit::Code(0),
        });
        all.push(Event::Exited { role, exit: killed });
        for class in [
            FailureClass::Local,
            FailureClass::Elsewhere,
            FailureClass::Passing,
        ] {
            all.push(Event::SpawnFailed {
                role,
                failure: failure(class),
            });
        }
    }
    all
}

/// What tells two services apart, counters and clocks left out.
fn key(service: &Service) -> String {
    format!(
        "{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}",
        std::mem::discriminant(&service.state),
        service.view().down,
        (
            service.want,
            service.leaving,
            service.again,
            service.settled
        ),
        [service.run, service.finish, service.check, service.control].map(|p| match p {
            Proc::None => 0,
            Proc::Asked => 1,
            Proc::Alive(_) => 2,
        }),
        (
            service.ready,
            service.got_term,
            service.end_asked,
            service.stop_overdue
        ),
        (
            service.finish_overdue,
            service.control_overdue,
            service.unkillable,
            service.hurried
        ),
        service.job,
        service.pending.len().min(2),
        (
            service.invalid.is_some(),
            service.spec.is_some(),
            service.input_ended
        ),
        service.waiters.len().min(1),
    )
}

/// One event; the actions are checked for what must hold of every single turn.
fn step(service: &mut Service, event: Event, jitter: &mut Jitter, now: u64) -> Vec<Action> {
    let told = format!("{event:?}");
    let before = service.clone();
    let mut turn = Turn {
        now: Tick(now),
        out: Vec::new(),
        jitter,
    };
    service.handle(&mut turn, event);
    let out = turn.out;
    let spawned = |role| {
        out.iter()
            .filter(|a| matches!(a, Action::Spawn(p) if p.role() == role))
            .count()
    };
    let context = || format!("{told}\n{before:?}\n{out:?}");
    for role in ROLES {
        assert!(
            spawned(role) <= 1,
            "{role:?} twice in one turn: {}",
            context()
        );
    }
    let runs = out.contains(&Action::Spawn(Program::Run));
    let ended =
        told.starts_with("Exited { role: Run") || told.starts_with("SpawnFailed { role: Run");
    assert!(
        !runs || before.run.is_none() || ended,
        "beside a run: {}",
        context()
    );
    assert!(
        !runs || service.leftovers.is_empty(),
        "beside leftovers: {}",
        context()
    );
    assert!(
        !runs || !service.is_leaving(),
        "although it leaves: {}",
        context()
    );
    assert_eq!(service.coherent(), Ok(()), "{}", context());
    let published = out
        .iter()
        .filter(|action| **action == Action::Publish)
        .count();
    assert!(
        published <= 1 && (published == 0 || out[0] == Action::Publish),
        "{}",
        context()
    );
    out
}

/// Breadth first over all states that differ in `key`, every event tried in each.
fn explore(spec: &Spec, reads: bool) -> usize {
    let events = events(spec);
    let mut jitter = Jitter::new(3);
    let mut first = Service::new(Tick(1), "web");
    first.reads = reads;
    let mut seen = BTreeSet::from([key(&first)]);
    let mut queue = VecDeque::from([(first, 1_u64)]);
    let mut tried = 0;
    while let Some((service, now)) = queue.pop_front() {
        for event in &events {
            let mut next = service.clone();
            let later = now + 1_500_000_000;
            let event = match event.clone() {
                Event::Command { command, .. } => {
                    let token = Some(Token(later + tried as u64));
                    Event::Command {
                        command,
                        token,
                        deadline: Some(Tick(later + 9_000_000_000)),
                    }
                }
                other => other,
            };
            step(&mut next, event, &mut jitter, later);
            tried += 1;
            if seen.len() < STATES_MAX && seen.insert(key(&next)) {
                queue.push_back((next, later));
            }
        }
    }
    assert!(seen.len() > 200, "only {} states were reached", seen.len());
    tried
}

#[test]
fn every_event_is_answered_in_every_state_of_a_plain_service() {
    assert!(explore(&plain(), false) > 10_000);
}

#[test]
fn every_event_is_answered_in_every_state_of_a_service_with_everything() {
    let spec = Spec {
        has_finish: true,
        has_check: true,
        has_control: true,
        stop: Stop::default(),
        ..Spec::default()
    };
    assert!(explore(&spec, false) > 500_000);
}

#[test]
fn every_event_is_answered_in_every_state_under_runits_rule() {
    let spec = Spec {
        has_finish: true,
        has_control: true,
        ..runit()
    };
    assert!(explore(&spec, false) > 100_000);
}

#[test]
fn every_event_is_answered_in_every_state_of_a_log_service() {
    let spec = Spec {
        kind: Kind::Log,
        ..Spec::default()
    };
    explore(&spec, true);
}

#[test]
fn every_token_is_answered_exactly_once_in_all_short_lives() {
    let spec = Spec {
        has_check: true,
        has_finish: true,
        ..plain()
    };
    let events = events(&spec);
    let mut jitter = Jitter::new(4);
    for command in COMMANDS {
        for first in &events {
            for second in &events {
                let mut service = Service::new(Tick(1), "web");
                let mut answers = 0;
                let token = Token(1);
                let asked = Event::Command {
                    command,
                    token: Some(token),
                    deadline: None,
                };
                let start = Event::Defined(Box::new(spec.clone()));
                let pid = Pid(4);
                let up = Event::Spawned {
                    role: Role::Run,
                    pid,
                };
                let life = [start, up, asked, first.clone(), second.clone()];
                for (n, event) in life.into_iter().enumerate() {
                    let out = step(&mut service, event, &mut jitter, 1_000_000_000 * n as u64);
                    answers += out
                        .iter()
                        .filter(|a| matches!(a, Action::Reply { .. }))
                        .count();
                }
                let mut turn = Turn {
                    now: Tick(9_000_000_000),
                    out: Vec::new(),
                    jitter: &mut jitter,
                };
                service.dismiss(&mut turn);
                answers += turn
                    .out
                    .iter()
                    .filter(|a| matches!(a, Action::Reply { .. }))
                    .count();
                assert_eq!(answers, 1, "{command:?}, {first:?}, {second:?}");
            }
        }
    }
}
