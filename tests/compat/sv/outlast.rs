//! Ours and Debian's over services of `outlast supervise`.

use super::super::twin::{Whose, programs};
use super::{ageless, ours_alone};
use crate::live::world::{World, eventually};
use std::path::{Path, PathBuf};
use std::process::Command;

fn programs_of_both() -> Vec<PathBuf> {
    let theirs = programs(Whose::Runit).map(|dir| dir.join("sv"));
    [ours_alone().join("sv")]
        .into_iter()
        .chain(theirs)
        .collect()
}

/// Code and words, pids and ages left out.
fn sv(program: &Path, world: &World, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program)
        .args(args)
        .env("SVDIR", world.path("services"))
        .output()
        .expect("sv");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = ageless(&String::from_utf8(output.stdout).expect("text"));
    let words = text
        .split_inclusive("(pid ")
        .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
    (output.status.code(), words.collect())
}

#[test]
fn both_drive_outlast_supervise_and_say_the_same() {
    for program in programs_of_both() {
        let world = World::new();
        world.run("web", "exec sleep 1000");
        let first = world.until_up("web");
        let says = |args: &[&str], code: i32, words: &str| {
            assert_eq!(
                sv(&program, &world, args),
                (Some(code), words.to_owned()),
                "{program:?} {args:?}"
            );
        };
        says(&["start", "web"], 0, "ok: run: web: (pid ) Ns\n");
        says(
            &["-w", "60", "stop", "web"],
            0,
            "ok: down: web: Ns, normally up\n",
        );
        says(&["status", "web"], 0, "down: web: Ns, normally up\n");
        says(
            &["-w", "60", "start", "web"],
            0,
            "ok: run: web: (pid ) Ns\n",
        );
        assert_ne!(world.until_up("web"), first);
        says(
            &["-w", "60", "once", "web"],
            0,
            "ok: run: web: (pid ) Ns, want down\n",
        );
        // Whatever is wanted, it runs: that is all that `up` waits for.
        assert_eq!(sv(&program, &world, &["-w", "60", "up", "web"]).0, Some(0));
        eventually("it is wanted again", || {
            let words = sv(&program, &world, &["status", "web"]).1;
            (words == "run: web: (pid ) Ns\n").then_some(())
        });
        says(
            &["reload", "none"],
            1,
            "fail: none: unable to change to service directory: file does not exist\n",
        );
    }
}

#[test]
fn a_restart_is_over_when_it_has_happened() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let program = ours_alone().join("sv");
    let mut before = world.until_up_on_disk("web");
    for word in ["restart", "try-restart", "force-restart", "force-reload"] {
        let (code, words) = sv(&program, &world, &["-w", "60", word, "web"]);
        assert_eq!(
            (code, words.as_str()),
            (Some(0), "ok: run: web: (pid ) Ns\n"),
            "{word}"
        );
        let status = std::fs::read(world.path("services/web/supervise/status")).expect("status");
        let pid = i32::from_le_bytes(status[12..16].try_into().expect("four bytes"));
        assert_ne!(pid, before, "{word}");
        before = pid;
    }
}

#[test]
fn many_at_once_on_one_service_of_outlast() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    world.until_up("web");
    let program = ours_alone().join("sv");
    std::thread::scope(|scope| {
        for number in 0..24 {
            let (program, world) = (&program, &world);
            scope.spawn(move || {
                let word = ["restart", "status", "check"][number % 3];
                assert_eq!(
                    sv(program, world, &["-w", "100", word, "web"]).0,
                    Some(0),
                    "{word}"
                );
            });
        }
    });
    eventually("it runs after all that", || {
        let (code, words) = sv(&program, &world, &["status", "web"]);
        (code == Some(0) && words == "run: web: (pid ) Ns\n").then_some(())
    });
}
