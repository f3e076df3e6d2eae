//! Commands and their answers, over the socket and the runit way.

use super::world::{BINARY, World, ask, eventually, kill, lacks, lives, request};
use nix::sys::signal::Signal;
use outlast::ipc::control::{Request, Response, State, Verb};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

#[test]
fn fifty_clients_that_restart_the_same_service_end_with_one_copy_and_an_answer_each() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let first = world.until_up("web");
    let socket = world.socket();
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..50)
            .map(|_| scope.spawn(|| ask(&socket, &request(Verb::Restart, &["web"]))))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("client"))
            .collect()
    });
    assert!(answers.iter().all(|answer| answer.ok), "{answers:#?}");
    let pids: BTreeSet<_> = answers
        .iter()
        .map(|answer| answer.services[0].pid)
        .collect();
    assert!(!pids.contains(&Some(first)), "answered before the restart");
    world.must(Verb::Check, &["web"]);
    let pid = world.until_up("web");
    eventually("one copy", || {
        let sleeping = world
            .descendants()
            .into_iter()
            .filter(|pid| super::world::comm_of(*pid) == "sleep")
            .collect::<Vec<_>>();
        (sleeping == [pid]).then_some(())
    });
}

#[test]
fn a_restart_changes_the_pid_and_answers_when_the_new_one_runs() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let first = world.until_up("web");
    let web = world.must(Verb::Restart, &["web"]).services.remove(0);
    assert_eq!(web.state, State::Up);
    assert!(web.pid.is_some_and(|pid| pid != first && lives(pid)));
    assert!(!lives(first));
}

#[test]
fn a_start_that_can_not_work_fails_at_once_with_the_reason() {
    let world = World::new();
    world.service("web", &[("run", "#!/no/such/interpreter\n"), ("down", "")]);
    world.until_state("web", State::Down);
    let response = world.ask(Verb::Start, &["web"]);
    assert!(!response.ok);
    let outcome = response.services[0].outcome.clone().expect("an outcome");
    let trouble = outcome.trouble.expect("trouble");
    assert_eq!(trouble.code, "cannot-start");
}

#[test]
fn a_command_that_takes_too_long_says_so_and_goes_on() {
    let world = World::new();
    world.service(
        "web",
        &[
            (
                "run",
                "#!/bin/sh\ntrap '' TERM\necho ready\nwhile :; do sleep 1000; done\n",
            ),
            ("service.toml", "[stop]\ntimeout = 1\n"),
        ],
    );
    world.until_line("web", "ready");
    let hasty = Request {
        timeout_ms: Some(50),
        ..request(Verb::Stop, &["web"])
    };
    let response = world.request(&hasty);
    assert!(!response.ok);
    let trouble = response.services[0]
        .outcome
        .clone()
        .expect("an outcome")
        .trouble;
    assert_eq!(trouble.expect("trouble").code, "timed-out");
    world.until_state("web", State::Down);
}

#[test]
fn signals_reach_the_process_and_those_without_a_process_are_told_so() {
    let world = World::new();
    let run = "for s in HUP ALRM INT QUIT USR1 USR2; do trap \"echo got $s\" $s; done; echo ready; \
               while :; do sleep 0.05; done";
    world.run("web", run);
    world.until_line("web", "ready");
    // What it wrote may be read before its keeper is heard.
    world.until_up("web");
    let verbs = [
        (Verb::Hup, "HUP"),
        (Verb::Alarm, "ALRM"),
        (Verb::Interrupt, "INT"),
        (Verb::Quit, "QUIT"),
        (Verb::Usr1, "USR1"),
        (Verb::Usr2, "USR2"),
    ];
    for (verb, name) in verbs {
        world.must(verb, &["web"]);
        world.until_line("web", &format!("got {name}"));
    }
    world.must(Verb::Stop, &["web"]);
    let response = world.ask(Verb::Hup, &["web"]);
    assert!(!response.ok);
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest_one() {
    let world = World::new();
    world.run("postfix", "exec sleep 1000");
    world.until_up("postfix");
    let error = world
        .ask(Verb::Restart, &["postfx"])
        .error
        .expect("an error");
    assert_eq!(error.code, "no-such-service");
    assert!(
        error.message.contains("did you mean postfix"),
        "{}",
        error.message
    );
}

#[test]
fn a_pattern_means_all_that_match() {
    let world = World::new();
    for name in ["web1", "web2", "db"] {
        world.run(name, "exec sleep 1000");
        world.until_up(name);
    }
    let stopped = world.must(Verb::Stop, &["web*"]).services;
    assert_eq!(stopped.len(), 2);
    world.until_state("web1", State::Down);
    assert_eq!(world.show("db").state, State::Up);
}

#[test]
fn a_check_of_all_tells_of_those_that_should_be_up_in_words_and_in_json() {
    let world = World::new();
    for name in ["web", "off"] {
        world.run(name, "exec sleep 1000");
        world.until_up(name);
    }
    world.must(Verb::Stop, &["off"]);
    let names = |more: &[&str]| {
        let output = world.outlast(&[&["check", "--json"], more].concat());
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
        let found = found.as_array().expect("an array").clone();
        let names = found
            .iter()
            .map(|it| it["name"].as_str().map(str::to_owned));
        (output.status.code(), names.collect::<Vec<_>>())
    };
    assert_eq!(names(&[]), (Some(0), vec![Some("web".to_owned())]));
    let (code, named) = names(&["off"]);
    assert_ne!(code, Some(0));
    assert_eq!(named, [Some("off".to_owned())]);
}

#[test]
fn a_shutdown_of_one_service_is_refused_and_ends_nothing() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    for verb in [Verb::Shutdown, Verb::Upgrade] {
        let response = world.ask(verb, &["web"]);
        let trouble = response.error.expect("an error");
        assert_eq!(trouble.code, "bad-request");
        assert!(trouble.message.contains("stop"), "{}", trouble.message);
    }
    assert_eq!(world.until_up("web"), pid);
}

#[test]
fn shutdown_ends_everything_and_is_answered() {
    let mut world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    world.must(Verb::Shutdown, &[]);
    assert_eq!(world.until_ended(), Some(0));
    assert!(!lives(pid));
    assert!(!world.socket().exists());
}

#[test]
fn a_second_supervisor_on_the_same_socket_changes_nothing() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    let second = Command::new(BINARY)
        .args(["supervise", "--socket"])
        .arg(world.socket())
        .arg("--log-root")
        .arg(world.path("log"))
        .arg(world.path("services"))
        .output()
        .expect("outlast");
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert_eq!(world.until_up("web"), pid);
}

#[test]
fn a_second_supervisor_on_the_same_directory_starts_nothing_twice() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    let mut other = World::quiet();
    std::fs::remove_dir(other.path("services")).expect("empty");
    std::os::unix::fs::symlink(world.path("services"), other.path("services")).expect("link");
    other.supervise(&[]);
    let seen = other.until("web", "refused", |web| web.problem.is_some());
    assert_eq!(seen.pid, None);
    assert!(seen.problem.expect("a problem").message.contains("lock"));
    assert_eq!(world.until_up("web"), pid);
}

#[test]
fn debians_sv_controls_our_services() {
    if lacks("sv") {
        return;
    }
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    let sv = |args: &[&str]| {
        let out = Command::new("sv")
            .args(args)
            .env("SVDIR", world.path("services"))
            .output()
            .expect("sv");
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stdout).into_owned(),
        )
    };
    let status = world.path("services/web/supervise/status");
    eventually("the status is written", || {
        std::fs::read(&status).ok().filter(|all| all[19] == 1)
    });
    let (code, line) = sv(&["status", "web"]);
    assert_eq!(code, Some(0), "{line}");
    assert!(
        line.starts_with(&format!("run: web: (pid {pid}) ")),
        "{line}"
    );
    let (code, line) = sv(&["stop", "web"]);
    assert_eq!(code, Some(0), "{line}");
    assert!(line.starts_with("ok: down: web: "), "{line}");
    assert!(!lives(pid));
    let (code, line) = sv(&["start", "web"]);
    assert_eq!(code, Some(0), "{line}");
    assert!(line.starts_with("ok: run: web: (pid "), "{line}");
    let before = world.until_up("web");
    let (code, line) = sv(&["restart", "web"]);
    assert_eq!(code, Some(0), "{line}");
    // sv answers at once within the second of the last start; the restart is still under way.
    world.until("web", "another process", |web| {
        web.state == State::Up && web.pid.is_some_and(|pid| pid != before)
    });
    let (code, line) = sv(&["once", "web"]);
    assert_eq!(code, Some(0), "{line}");
    kill(world.until_up("web"), Signal::SIGTERM);
    world.until_state("web", State::Down);
    let (code, line) = sv(&["-v", "exit", "web"]);
    assert_eq!(code, Some(0), "{line}");
    eventually("web has left", || world.find("web").is_none().then_some(()));
    world.must(Verb::Reload, &[]);
    world.until_up("web");
}

#[test]
fn the_command_line_tells_success_from_failure_by_its_exit_code() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    world.until_up("web");
    let code = |args: &[&str]| world.outlast(args).status.code();
    assert_eq!(code(&["status", "web"]), Some(0));
    assert_eq!(code(&["stop", "web"]), Some(0));
    assert_eq!(code(&["status", "web"]), Some(3));
    assert_eq!(code(&["start", "nobody"]), Some(4));
    assert_eq!(code(&["start", "web"]), Some(0));
    assert_eq!(code(&["check"]), Some(0));
    assert_eq!(code(&["--no-such-option"]), Some(2));
    let json = world.outlast(&["status", "--json"]);
    let all: serde_json::Value = serde_json::from_slice(&json.stdout).expect("json");
    for key in [
        "name",
        "state",
        "want",
        "pid",
        "since",
        "restarts",
        "last_exit",
    ] {
        assert!(all[0].get(key).is_some(), "{key} is missing in {all}");
    }
}

fn talk(world: &World) -> (UnixStream, BufReader<UnixStream>) {
    let stream = UnixStream::connect(world.socket()).expect("connected");
    let mut reader = BufReader::new(stream.try_clone().expect("clone"));
    let mut hello = String::new();
    reader.read_line(&mut hello).expect("hello");
    (stream, reader)
}

#[test]
fn garbage_is_answered_and_the_next_request_still_works() {
    let world = World::new();
    let (mut stream, mut reader) = talk(&world);
    let mut line = String::new();
    for garbage in [
        &b"\xff\xfe{]\n"[..],
        b"{}\n",
        b"null\n",
        b"{\"v\":1,\"id\":1,\"verb\":\"x\"}\n",
    ] {
        stream.write_all(garbage).expect("sent");
        line.clear();
        reader.read_line(&mut line).expect("answer");
        assert!(line.contains("bad-request"), "{line}");
    }
    stream
        .write_all(b"{\"v\":1,\"id\":9,\"verb\":\"status\"}\n")
        .expect("sent");
    line.clear();
    reader.read_line(&mut line).expect("answer");
    assert!(
        line.contains("\"id\":9") && line.contains("\"ok\":true"),
        "{line}"
    );
}

#[test]
fn a_request_of_a_hundred_megabytes_is_refused_without_being_kept() {
    let world = World::new();
    let (mut stream, mut reader) = talk(&world);
    let chunk = vec![b'a'; 1 << 20];
    for _ in 0..100 {
        // It hangs up before the end.
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let mut answer = String::new();
    let _ = reader.read_line(&mut answer);
    assert!(answer.contains("too-long"), "{answer}");
    world.must(Verb::Status, &[]);
}

#[test]
fn a_client_that_never_reads_delays_nobody() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    world.until_up("web");
    let (mut deaf, _reader) = talk(&world);
    deaf.set_nonblocking(true).expect("non-blocking");
    for _ in 0..20_000 {
        if deaf
            .write_all(b"{\"v\":1,\"id\":1,\"verb\":\"status\"}\n")
            .is_err()
        {
            break;
        }
    }
    world.must(Verb::Restart, &["web"]);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_command_harms_nobody() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    world.until_up("web");
    for _ in 0..20 {
        let (mut stream, _reader) = talk(&world);
        stream
            .write_all(b"{\"v\":1,\"id\":1,\"verb\":\"restart\",\"names\":[\"web\"]}\n")
            .expect("sent");
        stream.shutdown(std::net::Shutdown::Both).expect("gone");
    }
    world.must(Verb::Restart, &["web"]);
    let mut rest = Vec::new();
    let (stream, mut reader) = talk(&world);
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("half closed");
    reader
        .read_to_end(&mut rest)
        .expect("closed by the other side");
}

#[test]
fn a_service_can_restart_itself_through_the_command_line() {
    let world = World::new();
    let socket = world.socket();
    let run = format!(
        "if [ -e again ]; then echo second; exec sleep 1000; fi; touch again; \
         until {BINARY} --socket {socket} check web; do :; done; \
         exec {BINARY} --socket {socket} restart web",
        socket = socket.display()
    );
    world.run("web", &run);
    // Before the start is reported to the supervisor a restart would join it.
    world.until_line("web", "second");
    world.until_up("web");
    world.must(Verb::Check, &["web"]);
}

#[test]
fn a_start_that_ends_again_is_told_in_whole_words() {
    let world = World::new();
    world.service(
        "web",
        &[
            ("run", "#!/bin/sh\nexit 3\n"),
            ("check", "#!/bin/sh\nexit 1\n"),
            ("down", ""),
        ],
    );
    world.until("web", "down", |web| web.normally_down);
    let web = world.ask(Verb::Start, &["web"]).services.remove(0);
    let trouble = web
        .outcome
        .and_then(|outcome| outcome.trouble)
        .expect("trouble");
    assert_eq!(trouble.message, "it started and ended again: exit code 3");
}

#[test]
fn a_run_that_calls_sv_on_itself_is_understood_at_its_first_start() {
    if lacks("sv") {
        return;
    }
    let world = World::new();
    // Without a status to read, sv warns and sends nothing.
    world.run("web", "exec 2>&1; sv d .; exec sleep 1000");
    let web = world.until("web", "down again", |web| {
        web.state == State::Down && web.last_exit.is_some()
    });
    assert_eq!(web.restarts, 0);
}

#[test]
fn a_term_that_is_not_heeded_is_told_with_what_helps() {
    let world = World::new();
    world.run(
        "deaf",
        "trap '' TERM; echo deaf; while :; do sleep 0.1; done",
    );
    world.run("held", "exec sleep 1000");
    world.until_line("deaf", "deaf");
    world.until_up("held");
    world.must(Verb::Pause, &["held"]);
    for (name, advice, story) in [
        ("deaf", "outlast kill deaf", "was told to end, and has not"),
        ("held", "outlast cont held", "can't while it is paused"),
    ] {
        let mut term = request(Verb::Term, &[name]);
        term.timeout_ms = Some(200);
        let answer = world.request(&term);
        let outcome = answer.services[0].outcome.as_ref().expect("an outcome");
        let trouble = outcome.trouble.as_ref().expect("trouble");
        assert_eq!(trouble.code, "timed-out");
        assert!(trouble.message.contains(advice), "{}", trouble.message);
        let why = world.outlast(&["why", name]);
        let why = String::from_utf8(why.stdout).expect("UTF-8");
        assert!(why.contains(story), "{why}");
    }
    world.must(Verb::Kill, &["deaf"]);
    world.must(Verb::Cont, &["held"]);
}
