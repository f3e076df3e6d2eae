//! What holds when a part of outlast itself dies, and that nobody wakes for nothing.

use super::world::{World, eventually, kill, lives};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb, Want};
use std::fs;

#[test]
fn a_killed_supervisor_is_replaced_and_no_service_notices() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    world.run("stopped", "exec sleep 1000");
    let pid = world.until_up("web");
    world.until_up("stopped");
    world.must(Verb::Stop, &["stopped"]);
    world.until_trusted();
    for _ in 0..5 {
        world.replace_supervisor();
        let web = world.until_state("web", State::Up);
        assert_eq!((web.pid, web.restarts), (Some(pid), 0));
        let stopped = world.until_state("stopped", State::Down);
        assert_eq!(stopped.want, Want::Down);
    }
    world.must(Verb::Restart, &["web"]);
    assert!(!lives(pid));
}

#[test]
fn an_exit_while_there_is_no_supervisor_is_known_afterwards() {
    let world = World::new();
    world.service(
        "web",
        &[
            (
                "run",
                "#!/bin/sh\necho $$ >pid\nwhile [ ! -e go ]; do sleep 0.01; done\nexit 42\n",
            ),
            ("service.toml", "[restart]\npolicy = \"on-failure\"\n"),
        ],
    );
    let pid = world.until_up("web");
    let supervisor = world.part("outlast-super");
    kill(supervisor, Signal::SIGSTOP);
    fs::write(world.path("services/web/go"), "").expect("go");
    eventually("the run has ended", || (!lives(pid)).then_some(()));
    kill(supervisor, Signal::SIGKILL);
    world.until_replaced(supervisor);
    let web = world.until("web", "known to have ended", |web| web.last_exit.is_some());
    assert_eq!(web.last_exit.expect("an exit").code, Some(42));
}

#[test]
fn a_killed_scribe_is_replaced_and_logging_goes_on() {
    let world = World::new();
    world.run(
        "web",
        "trap 'echo again' HUP; echo first; while :; do sleep 0.02; done",
    );
    world.until_line("web", "first");
    let scribe = world.part("outlast-scribe");
    kill(scribe, Signal::SIGKILL);
    eventually("another scribe runs", || {
        (world.part("outlast-scribe") != scribe).then_some(())
    });
    world.must(Verb::Hup, &["web"]);
    world.until_line("web", "again");
}

/// How often all threads of a process have given up the processor to wait.
fn waits(pid: i32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/task"))
        .expect("threads")
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .filter_map(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.and_then(|count| count.trim().parse::<u64>().ok())
        })
        .sum()
}

#[test]
fn nobody_wakes_while_nothing_happens() {
    let world = World::new();
    for number in 0..20 {
        world.run(&format!("s{number}"), "exec sleep 1000");
    }
    for number in 0..20 {
        world.until_up(&format!("s{number}"));
    }
    let parts = [
        world.keeper_pid(),
        world.part("outlast-super"),
        world.part("outlast-scribe"),
    ];
    let quiet_for = |seconds: u64| {
        let before = parts.map(waits);
        std::thread::park_timeout(std::time::Duration::from_secs(seconds));
        before == parts.map(waits)
    };
    // What was under way may settle first.
    eventually("a quiet second", || quiet_for(1).then_some(()));
    assert!(quiet_for(6), "somebody woke though nothing happened");
}
