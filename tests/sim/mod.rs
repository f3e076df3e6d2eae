//! The deterministic simulation: a whole world around the machine, driven by one number.
//!
//! `world` is everything that is not the machine: keeper, processes, directories, clients, clock,
//! and a supervisor that carries out and dies. `oracle` watches and knows the invariants of the
//! design; it judges by what the world did, not by what the machine says of itself.
//!
//! A failing seed is printed with its last events. To see it again, or to run for longer:
//! `OUTLAST_SIM_SEED=123 cargo test sim` and `OUTLAST_SIM_STEPS=100000000 cargo test sim`;
//! `OUTLAST_SIM_STORY=1000` prints more of a story.

mod oracle;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{WORLDS_PER_ESSENTIAL, World};

/// Steps of one world; then it is shut down and must end.
const STEPS_PER_WORLD: u64 = 20_000;
/// Steps of an ordinary test run.
const STEPS: u64 = 1_200_000;
/// Lines of the story that a failure prints.
const STORY_LINES: usize = 80;

/// Seeds that once found something; they are run first, for ever.
const KEPT: &[u64] = &[
    2, 4, 17, 19, 42, 78, 95, 158, 169, 215, 457, 569, 581, 770, 920, 1289,
];

fn run(seed: u64, steps: u64, story: bool) -> Result<u64, String> {
    let mut world = World::new(seed, story);
    let end = catch_unwind(AssertUnwindSafe(|| world.live(steps)));
    let trouble = match end {
        Ok(Ok(taken)) => return Ok(taken),
        Ok(Err(trouble)) => trouble,
        Err(_) => "the machine panicked".to_owned(),
    };
    if !story {
        // Once more, and this time with notes.
        return run(seed, steps, true).and(Err(format!("seed {seed} failed only once: {trouble}")));
    }
    let lines = number_from("OUTLAST_SIM_STORY").map_or(STORY_LINES, |n| n as usize);
    let tail = world.story.len().saturating_sub(lines);
    let told = world.story[tail..].join("\n");
    Err(format!(
        "{told}\nseed {seed}: {trouble}\nsee it again: OUTLAST_SIM_SEED={seed} cargo test sim"
    ))
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn must_live(seed: u64) -> u64 {
    match run(seed, STEPS_PER_WORLD, false) {
        Ok(taken) => taken,
        Err(story) => panic!("{story}"),
    }
}

#[test]
fn worlds_of_every_seed_keep_the_invariants() {
    if let Some(seed) = number_from("OUTLAST_SIM_SEED") {
        must_live(seed);
        return;
    }
    let wanted = number_from("OUTLAST_SIM_STEPS").unwrap_or(STEPS);
    let (mut taken, mut seed) = (0, 1);
    while taken < wanted {
        taken += must_live(seed);
        seed += 1;
    }
    println!("{taken} steps in {} worlds", seed - 1);
}

#[test]
fn seeds_that_once_failed_stay_mended() {
    for seed in KEPT {
        must_live(*seed);
    }
}

#[test]
fn many_worlds_with_essential_services_end_by_one() {
    let seeds = (1..).step_by(WORLDS_PER_ESSENTIAL as usize).take(50);
    let ended = seeds.filter(|seed| {
        let mut world = World::new(*seed, false);
        world.live(5_000).is_ok() && world.oracle.all_has_ended()
    });
    assert!(ended.count() > 10);
}

#[test]
fn a_successor_is_compared_at_most_events() {
    let mut world = World::new(8, false);
    world.live(20_000).expect("a long life");
    assert!(world.compared > 1_000, "{}", world.compared);
}

#[test]
fn a_seed_replays_exactly() {
    let story = |seed| {
        let mut world = World::new(seed, true);
        let end = world.live(3_000);
        (end.is_ok(), world.story)
    };
    assert_eq!(story(42), story(42));
    assert_ne!(story(42), story(43));
}
