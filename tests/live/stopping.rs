//! A stop takes everything with it, and only that.

use super::world::{World, children, comm_of, eventually, kill, lives, pid_in};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use outlast::ipc::control::{State, Verb};
use std::fs;

#[test]
fn a_service_that_ignores_term_is_killed_after_its_time() {
    let world = World::new();
    world.service(
        "web",
        &[
            (
                "run",
                "#!/bin/sh\ntrap '' TERM\necho ready\nwhile :; do sleep 1000; done\n",
            ),
            ("service.toml", "[stop]\ntimeout = 0.2\n"),
        ],
    );
    world.until_line("web", "ready");
    let web = world.must(Verb::Stop, &["web"]).services.remove(0);
    assert_eq!(web.state, State::Down);
    assert_eq!(
        web.last_exit.expect("an exit").signal.as_deref(),
        Some("SIGKILL")
    );
}

#[test]
fn workers_that_outlive_their_master_are_ended_before_the_next_start() {
    let world = World::new();
    // The worker holds a lock that a new master needs, as an orphaned worker holds a port.
    let run =
        "exec 9>held; flock -n 9 || { echo taken; exit 1; }; sleep 1000 & echo $! >worker; wait";
    world.run("web", run);
    let worker = pid_in(&world.path("services/web/worker"));
    let first = world.until_up("web");
    kill(first, Signal::SIGKILL);
    let web = world.until("web", "up again", |web| {
        web.pid.is_some_and(|pid| pid != first)
    });
    assert!(!lives(worker));
    assert_eq!(
        web.restarts,
        1,
        "it met its predecessor's worker: {:?}",
        world.lines("web")
    );
    assert!(!world.lines("web").contains(&"taken".to_owned()));
    let why = world.outlast(&["why", "web"]).stdout;
    let why = String::from_utf8_lossy(&why);
    assert!(
        why.contains("left processes behind") && why.contains(&format!("(pid {worker})")),
        "{why}"
    );
}

#[test]
fn a_stop_names_what_it_had_to_end_besides_the_process() {
    let world = World::new();
    world.run("web", "sleep 1000 & echo $! >worker; exec sleep 2000");
    let worker = pid_in(&world.path("services/web/worker"));
    world.until_up("web");
    let web = world.must(Verb::Stop, &["web"]).services.remove(0);
    assert!(
        web.leftovers.iter().any(|left| left.pid == worker),
        "{web:?}"
    );
    assert!(!lives(worker));
}

#[test]
fn the_default_scope_spares_sessions_of_their_own_and_tree_does_not() {
    let world = World::new();
    let run = "#!/bin/sh\nsetsid sleep 1000 &\necho $! >login\nexec sleep 2000\n";
    world.service("sparing", &[("run", run)]);
    world.service(
        "whole",
        &[("run", run), ("service.toml", "[stop]\nscope = \"tree\"\n")],
    );
    let spared = pid_in(&world.path("services/sparing/login"));
    let taken = pid_in(&world.path("services/whole/login"));
    world.until_up("sparing");
    world.until_up("whole");
    eventually("both logins run", || {
        [spared, taken]
            .iter()
            .all(|pid| comm_of(*pid) == "sleep")
            .then_some(())
    });
    world.must(Verb::Stop, &["*"]);
    assert!(lives(spared));
    assert!(!lives(taken));
}

#[test]
fn tree_holds_those_below_a_daemon_whose_environment_tells_nothing() {
    let world = World::new();
    // Two below the one that left the session: in its session, and in one of their own.
    let daemon = "env -i sleep 1000 & echo $! >near; env -i setsid sleep 1000 & echo $! >far; wait";
    world.service(
        "whole",
        &[
            (
                "run",
                &format!("#!/bin/sh\nsetsid sh -c '{daemon}' &\nexec sleep 2000\n"),
            ),
            ("service.toml", "[stop]\nscope = \"tree\"\n"),
        ],
    );
    let master = world.until_up("whole");
    let below = ["near", "far"].map(|name| pid_in(&world.path("services/whole").join(name)));
    eventually("both sleep", || {
        let asleep = below.iter().all(|pid| comm_of(*pid) == "sleep");
        asleep.then_some(())
    });
    kill(master, Signal::SIGKILL);
    world.until("whole", "back", |whole| {
        whole.pid.is_some_and(|pid| pid != master)
    });
    assert!(below.iter().all(|pid| !lives(*pid)), "{}", world.said());
}

#[test]
fn nothing_is_left_behind_when_the_supervisor_ends() {
    let mut world = World::new();
    world.run(
        "daemon",
        "(setsid sleep 1000 & echo $! >escaped); exec sleep 2000",
    );
    let escaped = pid_in(&world.path("services/daemon/escaped"));
    world.until_up("daemon");
    let before = world.descendants();
    assert_eq!(world.end(), Some(0), "{}", world.said());
    assert!(!lives(escaped), "{}", world.said());
    assert!(
        before.into_iter().all(|pid| !lives(pid)),
        "{}",
        world.said()
    );
}

#[test]
fn a_second_signal_kills_what_will_not_stop() {
    let mut world = World::new();
    world.service(
        "deaf",
        &[
            (
                "run",
                "#!/bin/sh\ntrap '' TERM\necho ready\nwhile :; do sleep 1000; done\n",
            ),
            ("service.toml", "[stop]\ntimeout = \"never\"\n"),
        ],
    );
    world.until_line("deaf", "ready");
    let pid = world.until_up("deaf");
    kill(world.keeper_pid(), Signal::SIGINT);
    world.until_state("deaf", State::Stopping);
    kill(world.keeper_pid(), Signal::SIGINT);
    assert_eq!(world.until_ended(), Some(0), "{}", world.said());
    assert!(!lives(pid));
}

#[test]
fn a_finish_that_hangs_is_bounded_and_seen() {
    let world = World::new();
    world.service(
        "web",
        &[
            ("run", "#!/bin/sh\nexec sleep 1000\n"),
            ("finish", "#!/bin/sh\necho finishing\nexec sleep 2000\n"),
            ("service.toml", "[stop]\nfinish-timeout = 0.3\n"),
        ],
    );
    world.until_up("web");
    let web = world.must(Verb::Stop, &["web"]).services.remove(0);
    assert_eq!(web.state, State::Down);
    eventually("it is told", || {
        world.said().contains("./finish did not end").then_some(())
    });
}

#[test]
fn a_stopped_process_is_let_go_on_so_that_it_can_end() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    world.must(Verb::Pause, &["web"]);
    world.until("web", "paused", |web| web.paused);
    world.must(Verb::Stop, &["web"]);
    assert!(!lives(pid));
    world.must(Verb::Start, &["web"]);
    let again = world.until_up("web");
    kill(again, Signal::SIGSTOP);
    world.must(Verb::Stop, &["web"]);
    assert!(!lives(again));
}

#[test]
fn orphans_of_services_are_reaped() {
    let world = World::new();
    world.run(
        "web",
        "for i in 1 2 3 4 5 6 7 8 9; do (true & ) ; done; exec sleep 1000",
    );
    world.until_up("web");
    eventually("no zombie is left", || {
        children(world.keeper_pid())
            .into_iter()
            .all(lives)
            .then_some(())
    });
}

#[test]
fn a_log_service_that_ignores_the_end_of_its_input_does_not_hold_up_the_end() {
    let mut world = World::new();
    world.service(
        "web",
        &[
            ("run", "#!/bin/sh\nexec sleep 1000\n"),
            ("log/run", "#!/bin/sh\nexec sleep 1000\n"),
            ("log/service.toml", "[stop]\ntimeout = 0.2\n"),
        ],
    );
    world.until_up("web");
    let log = world.until_up("web/log");
    assert_eq!(world.end(), Some(0), "{}", world.said());
    assert!(!lives(log));
}

/// Clock ticks that a process has used.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let (_, rest) = stat.rsplit_once(") ").expect("a comm");
    let field = |at| rest.split(' ').nth(at).and_then(|text| text.parse().ok());
    field(11).unwrap_or(0u64) + field(12).unwrap_or(0u64)
}

#[test]
fn the_last_sweep_costs_nothing_while_it_waits() {
    let mut world = World::new();
    // Two that left their session: one ends at TERM, the other at KILL only, seconds later.
    world.run(
        "web",
        "setsid sleep 1000 & echo $! >quick\n\
         setsid sh -c 'trap \"\" TERM; echo $$ >slow; while :; do sleep 1000; done' &\n\
         exec sleep 1000",
    );
    world.until_up("web");
    let quick = pid_in(&world.path("services/web/quick"));
    let slow = pid_in(&world.path("services/web/slow"));
    // It is its own master only once setsid has worked.
    eventually("it leaves its session", || {
        let stat = fs::read_to_string(format!("/proc/{quick}/stat")).ok()?;
        stat.contains(&format!(" {quick} {quick} ")).then_some(())
    });
    let supervisor = world.part("outlast-super");
    kill(world.keeper_pid(), Signal::SIGTERM);
    eventually("the quick one ends", || (!lives(quick)).then_some(()));
    let before = ticks(supervisor);
    let mut last = before;
    eventually("the slow one ends", || {
        if lives(slow) {
            last = ticks(supervisor);
        }
        (!lives(slow)).then_some(())
    });
    assert_eq!(world.until_ended(), Some(0), "{}", world.said());
    let used = last - before;
    assert!(used < 50, "{used} ticks of the processor while it waited");
}

#[test]
fn signals_are_heard_even_when_whoever_started_us_had_blocked_them() {
    let mut world = World::quiet();
    let before = SigSet::all()
        .thread_swap_mask(SigmaskHow::SIG_SETMASK)
        .expect("blocked");
    world.supervise(&[]);
    before.thread_set_mask().expect("as before");
    world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    assert_eq!(world.end(), Some(0), "{}", world.said());
    assert!(!lives(pid));
}

/// A run that puts its program into the background, as a daemon does without its foreground flag.
const DAEMONIZES: &str = "setsid sleep 1000 >/dev/null 2>&1 & echo $! >daemon; \
                          until grep -q sleep /proc/$!/comm; do :; done";

#[test]
fn what_puts_itself_into_the_background_is_named_by_why_and_by_stop() {
    let world = World::new();
    world.run("other", "exec sleep 2000");
    world.until_up("other");
    world.run("daemon", DAEMONIZES);
    world.until_state("daemon", State::Backoff);
    let told = world.must(Verb::Why, &["daemon"]).services.remove(0);
    let pid = pid_in(&world.path("services/daemon/daemon"));
    let named = |service: &outlast::ipc::control::Service| {
        let all = &service.living_on;
        all.iter()
            .any(|left| left.pid == pid && left.name == "sleep")
    };
    assert!(named(&told), "{told:#?}\n{}", world.said());
    let why = told.why.expect("why");
    let advice = why.advice.expect("advice");
    assert!(advice.contains("foreground"), "{advice}");
    assert!(!advice.contains("last lines"), "{advice}");
    assert!(
        why.story
            .iter()
            .any(|step| step.contains(&format!("(pid {pid})"))),
        "{:#?}",
        why.story
    );
    // A successor knows it too.
    world.replace_supervisor();
    let stopped = world.must(Verb::Stop, &["daemon"]).services.remove(0);
    assert!(named(&stopped), "{stopped:#?}\n{}", world.said());
    assert!(lives(pid), "it is outside the scope");
    let other = world.must(Verb::Why, &["other"]).services.remove(0);
    assert!(other.living_on.is_empty(), "{other:#?}");
    kill(pid, Signal::SIGKILL);
    eventually("it is gone", || (!lives(pid)).then_some(()));
    let gone = world.must(Verb::Why, &["daemon"]).services.remove(0);
    assert!(
        !gone.living_on.iter().any(|left| left.pid == pid),
        "{gone:#?}"
    );
}

#[test]
fn a_successor_of_a_daemon_that_stays_in_its_way_is_told_to_mind_it() {
    let world = World::new();
    let run = "if test -e held; then exit 1; fi; : >held; ";
    world.run("daemon", &format!("{run}{DAEMONIZES}"));
    world.until("daemon", "in trouble", |daemon| {
        let code = daemon.last_exit.as_ref().and_then(|exit| exit.code);
        daemon.state == State::Backoff && code == Some(1)
    });
    let told = world.must(Verb::Why, &["daemon"]).services.remove(0);
    let advice = told.why.and_then(|why| why.advice).expect("advice");
    assert!(
        advice.contains("foreground"),
        "{advice}\n{:?}",
        told.living_on
    );
}

#[test]
fn nobody_is_sent_to_last_lines_that_are_not_there() {
    let world = World::new();
    for (body, wrote) in [("exit 3", false), ("echo broken; exit 3", true)] {
        let name = if wrote { "loud" } else { "silent" };
        world.run(name, body);
        let (advice, log) = eventually("a run has ended whose lines are known", || {
            let told = world.must(Verb::Why, &[name]).services.remove(0);
            let why = told.why?;
            let known = told.state == State::Backoff && why.log.is_empty() != wrote;
            known.then_some((why.advice?, why.log))
        });
        assert_eq!(advice.contains("last lines"), wrote, "{advice}: {log:?}");
    }
}

/// The processes of a world that were started as `sleep` for so long.
fn sleepers(world: &World, seconds: &str) -> Vec<i32> {
    let line = format!("sleep\0{seconds}\0");
    let all = world.all_processes().into_iter();
    let asleep =
        |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).ok() == Some(line.clone().into());
    all.filter(asleep).collect()
}

#[test]
fn a_check_or_control_script_that_has_to_be_killed_takes_along_what_it_waits_for() {
    let world = World::new();
    world.service(
        "web",
        &[
            ("run", "#!/bin/sh\nexec sleep 1000\n"),
            ("check", "#!/bin/sh\nsleep 1301\nexit 1\n"),
            ("control/t", "#!/bin/sh\nsleep 1302\nexit 1\n"),
            ("service.toml", "[stop]\nfinish-timeout = 1\n"),
        ],
    );
    for _ in 0..2 {
        world.until_up("web");
        eventually("it is checked", || {
            (sleepers(&world, "1301").len() == 1).then_some(())
        });
        // First the script is asked to end it, then killed, then the process is told.
        world.must(Verb::Stop, &["web"]);
        for seconds in ["1301", "1302"] {
            eventually("none is left", || {
                sleepers(&world, seconds).is_empty().then_some(())
            });
        }
        assert!(
            world
                .outlast(&["start", "--no-wait", "web"])
                .status
                .success()
        );
    }
    let said = world.said();
    assert!(said.contains("killed with its check: sleep"), "{said}");
    assert!(
        said.contains("killed with its control script: sleep"),
        "{said}"
    );
}
