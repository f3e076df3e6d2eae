//! What holds when a part of outlast itself dies, and that nobody wakes for nothing.

use super::world::{World, eventually, kill, lives};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb, Want};
use std::collections::BTreeMap;
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

/// How often each thread of a process has given up the processor to wait.
fn waits(pid: i32) -> BTreeMap<String, u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let threads = threads.flatten().map(|task| task.path());
    let waited = threads.filter_map(|task| {
        let status = fs::read_to_string(task.join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let count = field("voluntary_ctxt_switches:")?.trim().parse().ok()?;
        Some((
            format!("{} {}", task.display(), field("Name:")?.trim()),
            count,
        ))
    });
    waited.collect()
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
    let after = |seconds: u64| {
        let before = parts.map(waits);
        std::thread::park_timeout(std::time::Duration::from_secs(seconds));
        (before, parts.map(waits))
    };
    // What was under way may settle first: memory is let go of a second after the last new service, or
    // a little later on a busy machine.
    eventually("a quiet while", || {
        let (before, now) = after(3);
        (before == now).then_some(())
    });
    let (before, now) = after(6);
    assert_eq!(before, now, "somebody woke though nothing happened");
}
