//! More services than one answer holds log lines of.

use super::world::World;
use outlast::ipc::control::Verb;
use std::fs;

const MANY: usize = 70;

/// None of them needs a process for this.
fn many_without_run() -> World {
    let mut world = World::quiet();
    for number in 0..MANY {
        let dir = world.path("services").join(format!("s{number}"));
        fs::create_dir_all(dir.join("log/main")).expect("a directory");
        let line = format!("2026-11-20T10:00:00.{number:05} line of {number}\n");
        fs::write(dir.join("log/main/current"), line).expect("a log");
    }
    world.supervise(&[]);
    let last = format!("s{}", MANY - 1);
    world.until(&last, "told", |it| it.problem.is_some());
    world
}

#[test]
fn why_and_logs_tell_of_all_of_them() {
    let world = many_without_run();
    let why = world.outlast(&["why", "--json", "s*"]);
    assert!(why.status.success(), "{why:?}");
    let told: Vec<serde_json::Value> = serde_json::from_slice(&why.stdout).expect("JSON");
    assert_eq!(told.len(), MANY);
    assert!(told.iter().all(|it| it["why"].is_object()), "{told:?}");
    let logs = world.outlast(&["logs"]);
    assert!(logs.status.success(), "{logs:?}");
    let lines = String::from_utf8(logs.stdout).expect("text");
    let numbers: Vec<usize> = lines
        .lines()
        .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
        .collect();
    assert_eq!(numbers, (0..MANY).collect::<Vec<_>>(), "by time");
}

#[test]
fn a_client_that_asks_for_the_lines_of_too_many_at_once_is_told_so() {
    let world = many_without_run();
    let refused = world.ask(Verb::Why, &["s*"]);
    assert!(!refused.ok && refused.services.is_empty());
    let trouble = refused.error.expect("a trouble");
    assert_eq!(trouble.code, "too-many", "{trouble:?}");
    let mut without = super::world::request(Verb::Why, &["s*"]);
    without.lines = Some(0);
    assert_eq!(world.request(&without).services.len(), MANY);
}
