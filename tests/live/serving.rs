//! A supervisor that does not serve any more is replaced, and clients wait instead of failing.

use super::world::{World, ask, comm_of, eventually, kill, lives, needs_root, request};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use outlast::ipc::control::{State, Verb};
use std::fs;
use std::os::unix::net::UnixStream;

#[test]
fn a_stopped_supervisor_is_replaced_though_nobody_asks_for_anything() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    let old = world.part("outlast-super");
    kill(old, Signal::SIGSTOP);
    world.until_replaced(old);
    let web = world.until_state("web", State::Up);
    assert_eq!(web.pid, Some(pid));
    assert!(
        world.said().contains("does not serve any more"),
        "{}",
        world.said()
    );
}

#[test]
fn a_supervisor_that_is_stopped_for_a_moment_only_lives_on() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    world.until_up("web");
    let old = world.part("outlast-super");
    for _ in 0..20 {
        kill(old, Signal::SIGSTOP);
        kill(old, Signal::SIGCONT);
        world.must(Verb::Status, &[]);
    }
    assert_eq!(world.part("outlast-super"), old);
}

/// Waits for what becomes of a process that this thread traces.
fn traced(pid: i32, what: &str, wanted: impl Fn(WaitStatus) -> bool) {
    eventually(what, || {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
        let status = waitpid(Pid::from_raw(pid), Some(flags)).expect("a tracee");
        wanted(status).then_some(())
    });
}

/// Only its main thread is held, as by an endless loop or a deadlock; nothing but its silence tells.
#[test]
fn a_supervisor_whose_loop_hangs_is_replaced_when_a_client_waits_for_it() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    let old = world.part("outlast-super");
    ptrace::attach(Pid::from_raw(old)).expect("attached");
    traced(old, "it is held", |status| {
        matches!(status, WaitStatus::Stopped(..))
    });
    let socket = world.socket();
    let client = std::thread::spawn(move || ask(&socket, &request(Verb::Status, &["web"])));
    traced(old, "it is killed", |status| {
        matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _))
    });
    let answer = client.join().expect("an answer");
    assert_eq!(answer.services[0].pid, Some(pid));
}

/// ... or when it does not take note of an end.
#[test]
fn a_supervisor_whose_loop_hangs_is_replaced_when_a_service_ends() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    let old = world.part("outlast-super");
    ptrace::attach(Pid::from_raw(old)).expect("attached");
    traced(old, "it is held", |status| {
        matches!(status, WaitStatus::Stopped(..))
    });
    kill(pid, Signal::SIGKILL);
    traced(old, "it is killed", |status| {
        matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _))
    });
    let web = world.until("web", "up again", |web| {
        web.state == State::Up && web.restarts == 1
    });
    assert_eq!(
        web.last_exit.expect("an exit").signal.as_deref(),
        Some("SIGKILL")
    );
}

#[test]
fn clients_queue_while_there_is_no_supervisor() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    world.until_up("web");
    // The back-off of the keeper grows with each of these.
    for _ in 0..5 {
        let old = world.part("outlast-super");
        kill(old, Signal::SIGKILL);
        eventually("it is gone", || (!lives(old)).then_some(()));
        UnixStream::connect(world.socket()).expect("connected though nobody is there");
    }
    world.must(Verb::Status, &["web"]);
}

#[test]
fn a_control_socket_that_somebody_removed_is_made_anew() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    fs::remove_file(world.socket()).expect("removed");
    let old = world.part("outlast-super");
    kill(old, Signal::SIGKILL);
    world.until_replaced(old);
    assert_eq!(world.show("web").pid, Some(pid));
}

fn oom_score_adj(pid: i32) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score");
    text.trim().parse().expect("a number")
}

#[test]
fn memory_running_out_hits_services_before_those_that_keep_them() {
    if needs_root() {
        return;
    }
    let world = World::new();
    world.service(
        "web",
        &[
            ("run", "#!/bin/sh\nexec sleep 1000\n"),
            ("service.toml", "env = { A = \"b\" }\n"),
        ],
    );
    world.run("plain", "echo logged; exec sleep 1000");
    let before = oom_score_adj(std::process::id().cast_signed());
    let (web, plain) = (world.until_up("web"), world.until_up("plain"));
    world.until_line("plain", "logged");
    if oom_score_adj(world.keeper_pid()) == before {
        println!("skipped: root may not lower oom_score_adj here");
        return;
    }
    assert_eq!(oom_score_adj(world.keeper_pid()), -1000);
    assert_eq!(oom_score_adj(world.part("outlast-super")), -900);
    assert_eq!(oom_score_adj(world.part("outlast-scribe")), -900);
    for pid in [web, plain] {
        assert_eq!(oom_score_adj(pid), before, "{}", comm_of(pid));
    }
}
