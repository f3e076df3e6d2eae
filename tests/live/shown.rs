//! What runit's clients read in `supervise/` once a command has been answered.

use super::points;
use super::world::{World, answered_within, ask, request};
use outlast::ipc::control::{Service, Verb};
use outlast::svdir::status::{State, Status, Want, decode, pid_text, stat_text};
use std::fs;
use std::time::{Duration, Instant};

/// A disk that has not written by then is not waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// The three files as they are now.
fn shown(world: &World, name: &str) -> [Vec<u8>; 3] {
    let supervise = world.path("services").join(name).join("supervise");
    ["status", "stat", "pid"].map(|file| fs::read(supervise.join(file)).expect("a file"))
}

/// Asks, looks at once, and compares. None when the answer took so long that it may have left
/// without waiting for the disk any longer.
fn told_and_shown(world: &World, verb: Verb, names: &[&str], state: State) -> Option<()> {
    let before = Instant::now();
    let response = ask(&world.socket(), &request(verb, names));
    let took = before.elapsed();
    let found: Vec<_> = response
        .services
        .iter()
        .map(|service| shown(world, &service.name))
        .collect();
    assert!(response.ok, "{response:#?}");
    if took >= PATIENCE {
        return None;
    }
    for (service, files) in response.services.iter().zip(found) {
        is_shown(verb, service, state, &files);
    }
    Some(())
}

fn is_shown(verb: Verb, service: &Service, state: State, [status, stat, pid]: &[Vec<u8>; 3]) {
    let found = decode(status).expect("a status");
    let told = Status {
        since: found.since,
        pid: service.pid.map(i32::unsigned_abs),
        paused: service.paused,
        want: match verb {
            Verb::Stop | Verb::Once => Want::Down,
            _ => Want::Up,
        },
        got_term: false,
        state,
    };
    assert_eq!(found, told, "after {verb:?}");
    assert_eq!(String::from_utf8_lossy(stat), stat_text(&told));
    assert_eq!(String::from_utf8_lossy(pid), pid_text(&told));
}

/// How many of the answers came soon enough to be compared; on a busy machine it may be none.
fn count(compared: impl Iterator<Item = Option<()>>) {
    let (compared, late): (Vec<_>, Vec<_>) = compared.partition(Option::is_some);
    println!("{} compared, {} late", compared.len(), late.len());
}

#[test]
fn whoever_was_told_of_a_restart_finds_the_new_process_in_supervise() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    world.until_up("web");
    let restart = |_| told_and_shown(&world, Verb::Restart, &["web"], State::Run);
    count((0..200).map(restart));
}

#[test]
fn what_any_command_tells_is_in_supervise_by_then() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    world.until_up("web");
    let verbs = [
        (Verb::Pause, State::Run),
        (Verb::Cont, State::Run),
        (Verb::Stop, State::Down),
        (Verb::Once, State::Run),
        (Verb::Stop, State::Down),
        (Verb::Start, State::Run),
    ];
    let all = verbs.iter().cycle().take(20 * verbs.len());
    count(all.map(|(verb, state)| told_and_shown(&world, *verb, &["web"], *state)));
}

#[test]
fn an_answer_about_several_services_is_true_for_each() {
    let world = World::new();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for name in names {
        world.run(name, "exec sleep 1000");
    }
    for name in names {
        world.until_up(name);
    }
    let verbs = [(Verb::Stop, State::Down), (Verb::Start, State::Run)];
    let all = verbs.iter().cycle().take(20);
    count(all.map(|(verb, state)| told_and_shown(&world, *verb, &["*"], *state)));
}

#[test]
fn a_disk_that_hangs_delays_no_answer_for_long() {
    if !points::has_points() {
        return;
    }
    let world = points::with_points();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up_on_disk("web");
    let point = world.path("points").join("status-not-renamed");
    fs::write(point, "hang").expect("a point");
    // It would never come if it were waited for.
    for _ in 0..3 {
        let restart = request(Verb::Restart, &["web"]);
        assert!(answered_within(&world.socket(), &restart, 20_000));
    }
    let web = world.show("web");
    assert!(web.pid.is_some_and(|now| now != pid), "{web:?}");
}
