//! What the keeper needs does not grow with what has happened.

use super::world::{World, eventually};
use outlast::ipc::control::Verb;
use std::fs;

/// Services that end at once and are started again ten times a second.
const CRASHING: usize = 20;
/// Starts after which nothing new is to be expected, and starts until the second look.
const WARM: u64 = 250;
const MANY: u64 = 3_000;
/// What the second look may find more, in kB: some pages that a busy moment has touched.
const SLACK_KB: u64 = 16;

/// Memory in kB that a process has written to and has for itself: heap, stack, variables.
fn anonymous_kb(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps_rollup");
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|it| it.parse().ok()).expect("a number")
}

fn restarts(world: &World) -> u64 {
    let all = world.ask(Verb::Status, &[]).services;
    all.iter().map(|service| service.restarts).sum()
}

#[test]
fn the_keepers_memory_does_not_grow_with_thousands_of_restarts() {
    let world = World::new();
    for number in 0..CRASHING {
        world.service(
            &format!("crashing{number}"),
            &[
                ("run", "#!/bin/sh\nexit 1\n"),
                ("service.toml", "restart = { delay = 0.1, max = 0.1 }\n"),
            ],
        );
    }
    let keeper = world.keeper_pid();
    let after = |count: u64| {
        let mut step = 0;
        while step < count {
            step += 250;
            eventually(&format!("{step} restarts"), || {
                (restarts(&world) >= step).then_some(())
            });
        }
        // Several supervisors have read the book by then.
        world.replace_supervisor();
        anonymous_kb(keeper)
    };
    let warm = after(WARM);
    let much_later = after(MANY);
    assert!(
        much_later <= warm + SLACK_KB,
        "{warm} kB after {WARM} restarts, {much_later} kB after {MANY}"
    );
}
