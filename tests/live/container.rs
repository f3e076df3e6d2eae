//! What a container asks of its first process, though not as one: an essential service's end is the
//! end of all, with its code, whoever dies in between; and what of the environment comes through.

mod first;
mod ship;

use super::world::{BINARY, World, eventually, kill};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb};
use std::fs;
use std::process::Command;

/// Ends with this when the file `end` appears beside it.
fn until_told(ending: &str) -> String {
    format!(
        "#!/bin/sh\ntrap '' HUP\necho ready\nwhile [ ! -e end ]; do sleep 0.02; done\n{ending}\n"
    )
}

fn essential(world: &World, ending: &str, more: &str) {
    let toml = format!("essential = true\n{more}");
    world.service(
        "app",
        &[("run", &until_told(ending)), ("service.toml", &toml)],
    );
    world.until_up("app");
}

/// Another one, whose end is written down beside the services.
fn beside(world: &World) {
    let run = "#!/bin/sh\ntrap 'echo last line; exit 0' TERM\necho ready\n\
               while :; do sleep 0.02; done\n";
    let finish = "#!/bin/sh\necho finish >>../../finished\n";
    world.service("other", &[("run", run), ("finish", finish)]);
    world.until_line("other", "ready");
}

fn let_end(world: &World) {
    fs::write(world.path("services/app/end"), "").expect("end");
}

#[test]
fn an_essential_services_end_stops_the_others_in_order_and_gives_its_code() {
    let mut world = World::new();
    beside(&world);
    essential(&world, "exit 7", "");
    let_end(&world);
    assert_eq!(world.until_ended(), Some(7), "{}", world.said());
    let finished = fs::read_to_string(world.path("finished")).expect("finish ran");
    assert_eq!(finished, "finish\n");
    world.until_line("other", "last line");
    let said = world.said();
    assert!(said.contains("app is essential and has ended"), "{said}");
}

#[test]
fn the_signal_that_ended_it_is_told_as_a_shell_tells_it() {
    let mut world = World::new();
    beside(&world);
    essential(&world, "kill -SEGV $$", "");
    let_end(&world);
    assert_eq!(world.until_ended(), Some(139), "{}", world.said());
}

#[test]
fn a_policy_to_restart_it_goes_first_and_an_operators_stop_ends_nothing() {
    let mut world = World::new();
    essential(
        &world,
        "rm end; exit 5",
        "[restart]\npolicy = \"on-failure\"\n",
    );
    let_end(&world);
    world.until("app", "restarted", |app| {
        app.restarts == 1 && app.state == State::Up
    });
    world.must(Verb::Stop, &["app"]);
    world.must(Verb::Start, &["app"]);
    world.must(Verb::Restart, &["app"]);
    assert_eq!(world.end(), Some(0));
}

#[test]
fn a_program_that_is_not_there_ends_all_as_a_shell_would() {
    let mut world = World::new();
    beside(&world);
    world.service(
        "app",
        &[(
            "service.toml",
            "exec = \"/nowhere/app\"\nessential = true\n",
        )],
    );
    assert_eq!(world.until_ended(), Some(127), "{}", world.said());
}

#[test]
fn a_successor_of_the_supervisor_ends_with_the_same_code() {
    let mut world = World::new();
    essential(&world, "exit 9", "");
    // Holds the end up until there is a successor.
    let stubborn = "#!/bin/sh\ntrap 'echo told' TERM\necho ready\n\
                    while [ ! -e end ]; do sleep 0.02; done\n";
    world.service("stubborn", &[("run", stubborn)]);
    world.until_line("stubborn", "ready");
    let supervisor = world.part("outlast-super");
    let_end(&world);
    world.until_line("stubborn", "told");
    kill(supervisor, Signal::SIGKILL);
    world.until_replaced(supervisor);
    fs::write(world.path("services/stubborn/end"), "").expect("end");
    assert_eq!(world.until_ended(), Some(9), "{}", world.said());
}

#[test]
fn the_environment_comes_through_unless_the_service_is_to_have_none() {
    let mut world = World::quiet();
    let mut command = Command::new(BINARY);
    command.env("SECRET", "of the engine");
    world.supervise_as(command, &[]);
    let run = "#!/bin/sh\necho \"<$SECRET$OWN>\"\nexec sleep 1000\n";
    world.service("open", &[("run", run)]);
    world.service(
        "closed",
        &[
            ("run", run),
            ("service.toml", "clear-env = true\nenv = { OWN = \"x\" }\n"),
        ],
    );
    world.until_line("open", "<of the engine>");
    world.until_line("closed", "<x>");
    let pid = world.until_up("closed");
    let names = eventually("it has become its program", || {
        let all = fs::read_to_string(format!("/proc/{pid}/environ")).ok()?;
        let all = all.split('\0').filter_map(|entry| entry.split_once('='));
        let mut names: Vec<String> = all.map(|(name, _)| name.to_owned()).collect();
        names.sort();
        names.contains(&"OWN".to_owned()).then_some(names)
    });
    // PWD is the shell's doing.
    let names: Vec<_> = names.iter().filter(|name| *name != "PWD").collect();
    assert_eq!(names, ["OWN", "PATH"]);
}

#[test]
fn the_stop_signals_of_engines_are_heard_by_one_that_is_not_the_first_process_too() {
    for signal in [3, 30, 37] {
        let mut world = World::new();
        beside(&world);
        let pid = world.keeper_pid().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status();
        assert!(sent.is_ok_and(|status| status.success()));
        assert_eq!(world.until_ended(), Some(0), "{}", world.said());
        assert!(world.path("finished").exists());
        world.until_line("other", "last line");
    }
}

#[test]
fn a_probe_names_what_is_not_as_it_should_be() {
    let world = World::new();
    world.run("one", "exec sleep 1000");
    world.until_up("one");
    // What nobody wants up is no concern of a probe.
    world.service(
        "off",
        &[("run", "#!/bin/sh\nexec sleep 1000\n"), ("down", "")],
    );
    world.until_state("off", State::Down);
    let probe = || world.outlast(&["check", "--all"]);
    assert_eq!(probe().status.code(), Some(0));
    world.service(
        "two",
        &[
            ("run", "#!/bin/sh\nexec sleep 1000\n"),
            ("check", "#!/bin/sh\n[ -e good ]\n"),
        ],
    );
    world.until_up("two");
    let answer = world.outlast(&["check", "--all", "--timeout", "1"]);
    assert_eq!(answer.status.code(), Some(1), "{answer:?}");
    let told = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(told.contains("two") && !told.contains("one"), "{told}");
    fs::write(world.path("services/two/good"), "").expect("good");
    eventually("all is well", || probe().status.success().then_some(()));
}
