//! Services are started, kept up, seen to come and go.

use super::world::{BINARY, World, eventually, kill, lives, needs_root, write_script};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb, Want};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn a_directory_that_appears_is_started_and_one_that_goes_is_stopped() {
    let world = World::new();
    let place = world.run("web", "exec sleep 1000");
    let pid = world.until_up("web");
    fs::rename(&place, world.path("elsewhere")).expect("moved away");
    eventually("web is forgotten", || {
        world.find("web").is_none().then_some(())
    });
    assert!(!lives(pid));
}

#[test]
fn a_link_to_a_directory_is_a_service_and_runs_in_its_real_place() {
    let world = World::new();
    let real = world.path("real");
    write_script(&real.join("run"), "#!/bin/sh\npwd -P\nexec sleep 1000\n");
    std::os::unix::fs::symlink(&real, world.path("services/web")).expect("link");
    world.until_up("web");
    let real = fs::canonicalize(real).expect("real path");
    world.until_line("web", &real.to_string_lossy());
}

#[test]
fn names_with_a_dot_in_front_are_no_services() {
    let world = World::new();
    world.run(".hidden", "exec sleep 1000");
    world.run("shown", "exec sleep 1000");
    world.until_up("shown");
    assert!(world.find(".hidden").is_none());
}

#[test]
fn a_crash_is_restarted_at_once_and_the_next_one_later() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let first = world.until_up("web");
    kill(first, Signal::SIGKILL);
    let again = world.until("web", "up again", |web| {
        web.pid.is_some_and(|pid| pid != first)
    });
    assert_eq!(again.restarts, 1);
    let last = again.last_exit.expect("an exit");
    assert_eq!(last.signal.as_deref(), Some("SIGKILL"));
    assert!(!last.asked);
    kill(again.pid.expect("pid"), Signal::SIGKILL);
    let waiting = world.until_state("web", State::Backoff);
    assert!(
        waiting.next_start.is_some_and(|delay| delay <= 1.5),
        "{waiting:?}"
    );
}

#[test]
fn finish_gets_the_exit_code_and_the_low_byte_of_the_status() {
    let world = World::new();
    let finish = "#!/bin/sh\necho finish \"$@\"\n";
    let once = "[restart]\npolicy = \"never\"\n";
    world.service(
        "code",
        &[
            ("run", "#!/bin/sh\nexit 3\n"),
            ("finish", finish),
            ("service.toml", once),
        ],
    );
    world.until_line("code", "finish 3 0");
    world.service(
        "signal",
        &[
            ("run", "#!/bin/sh\nkill -9 $$\n"),
            ("finish", finish),
            ("service.toml", once),
        ],
    );
    world.until_line("signal", "finish -1 9");
}

#[test]
fn a_run_that_is_not_executable_is_broken_says_so_and_starts_when_mended() {
    let world = World::new();
    let place = world.service("web", &[("run", "exec sleep 1000\n")]);
    let broken = world.until_state("web", State::Broken);
    let problem = broken.problem.expect("a problem");
    assert_eq!(problem.code, "run-not-executable", "{problem:?}");
    let why = world
        .must(Verb::Why, &["web"])
        .services
        .remove(0)
        .why
        .expect("why");
    assert!(
        why.advice.is_some_and(|advice| advice.contains("chmod +x")),
        "{:?}",
        why.story
    );
    write_script(&place.join("run"), "#!/bin/sh\nexec sleep 1000\n");
    world.until_up("web");
}

/// As Debian's packages have one log/run for many.
#[test]
fn a_shared_script_that_run_links_to_is_tried_again_as_soon_as_it_is_mended() {
    let world = World::new();
    let shared = world.path("shared");
    let script = "#!/bin/sh\n[ \"${PWD##*/}\" != log ] || exec cat >/dev/null\nexec sleep 1000\n";
    fs::write(&shared, script).expect("a script");
    let draft = world.path("draft");
    write_script(&draft.join("log/gone"), "");
    for link in ["run", "log/run"] {
        std::os::unix::fs::symlink(&shared, draft.join(link)).expect("a link");
    }
    fs::rename(draft, world.path("services/web")).expect("moved in");
    for name in ["web", "web/log"] {
        let broken = world.until_state(name, State::Broken);
        let problem = broken.problem.expect("a problem");
        assert_eq!(problem.code, "run-not-executable", "{problem:?}");
        assert_eq!(broken.next_start, None);
    }
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).expect("mode");
    for name in ["web", "web/log"] {
        world.until_up(name);
    }
}

#[test]
fn a_broken_service_is_not_tried_again_and_again() {
    let world = World::new();
    world.service("web", &[("run", "#!/no/such/interpreter\n")]);
    let broken = world.until_state("web", State::Broken);
    assert!(
        broken
            .problem
            .expect("a problem")
            .message
            .contains("/no/such/interpreter")
    );
    assert!(broken.next_start.is_none_or(|delay| delay > 20.0));
}

#[test]
fn a_file_named_down_keeps_a_service_from_being_started_until_asked() {
    let world = World::new();
    world.service(
        "web",
        &[("run", "#!/bin/sh\nexec sleep 1000\n"), ("down", "")],
    );
    let web = world.until("web", "read", |web| web.normally_down);
    assert_eq!((web.state, web.want), (State::Down, Want::Down));
    let web = world.must(Verb::Start, &["web"]).services.remove(0);
    assert_eq!(web.state, State::Up);
}

#[test]
fn check_decides_when_a_service_is_ready() {
    let world = World::new();
    world.service(
        "web",
        &[
            ("run", "#!/bin/sh\nexec sleep 1000\n"),
            ("check", "#!/bin/sh\ntest -e ready\n"),
        ],
    );
    let web = world.until_state("web", State::Up);
    assert!(!web.ready);
    assert!(!world.ask(Verb::Check, &["web"]).ok);
    fs::write(world.path("services/web/ready"), "").expect("ready");
    world.must(Verb::Check, &["web"]);
    world.until("web", "ready", |web| web.ready);
}

#[test]
fn a_control_script_that_succeeds_takes_the_place_of_the_signal() {
    let world = World::new();
    world.service(
        "web",
        &[
            ("run", "#!/bin/sh\necho $$ >pid\nexec sleep 1000\n"),
            ("control/h", "#!/bin/sh\necho asked\n"),
            (
                "control/t",
                "#!/bin/sh\necho stopping\nkill -9 $(cat pid)\n",
            ),
        ],
    );
    let pid = world.until_up("web");
    world.must(Verb::Hup, &["web"]);
    world.until_line("web", "asked");
    assert!(lives(pid), "HUP went out all the same");
    let web = world.must(Verb::Stop, &["web"]).services.remove(0);
    assert_eq!(
        web.last_exit.expect("an exit").signal.as_deref(),
        Some("SIGKILL")
    );
    world.until_line("web", "stopping");
}

#[test]
fn a_directory_replaced_under_a_running_service_wedges_nothing() {
    let world = World::new();
    world.run("web", "exec sleep 1000");
    let pid = world.until_up_on_disk("web");
    fs::remove_dir_all(world.path("services/web/supervise")).expect("supervise removed");
    let status = world.path("services/web/supervise/status");
    eventually("supervise/ is made anew", || status.exists().then_some(()));
    let draft = world.path("draft/web");
    write_script(&draft.join("run"), "#!/bin/sh\necho new\nexec sleep 1000\n");
    fs::rename(world.path("services/web"), world.path("old")).expect("away");
    fs::rename(&draft, world.path("services/web")).expect("in");
    world.must(Verb::Restart, &["web"]);
    world.until_line("web", "new");
    world.must(Verb::Stop, &["web"]);
    assert!(!lives(pid));
    world.must(Verb::Start, &["web"]);
}

#[test]
fn removed_and_put_back_at_any_moment_a_service_ends_up_running_once() {
    let world = World::new();
    let place = world.run("web", "exec sleep 1000");
    world.until_up("web");
    for _ in 0..30 {
        fs::rename(&place, world.path("away")).expect("away");
        fs::rename(world.path("away"), &place).expect("back");
    }
    // What was seen of all this is worked off before a restart is answered.
    eventually("a restart is taken", || {
        world.ask(Verb::Restart, &["web"]).ok.then_some(())
    });
    eventually("one copy, and it is the one that status tells of", || {
        let sleeping = world
            .descendants()
            .into_iter()
            .filter(|pid| lives(*pid) && super::world::comm_of(*pid) == "sleep");
        let sleeping: Vec<_> = sleeping.map(Some).collect();
        let web = world.find("web")?;
        (web.state == State::Up && sleeping == [web.pid]).then_some(())
    });
}

#[test]
fn two_hundred_broken_services_cost_the_good_ones_nothing() {
    let mut world = World::quiet();
    for number in 0..200 {
        world.run(&format!("bad{number}"), "exit 1");
    }
    world.run("good", "exec sleep 1000");
    world.supervise(&[]);
    let pid = world.until_up("good");
    let good = world.show("good");
    assert_eq!((good.pid, good.restarts), (Some(pid), 0));
    let all = world.must(Verb::Status, &[]).services;
    assert_eq!(all.len(), 201);
}

#[test]
fn limits_of_ours_are_not_the_services() {
    let world = World::new();
    world.run("web", "ulimit -n; exec sleep 1000");
    let (soft, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("limit");
    world.until_line("web", &soft.to_string());
}

#[test]
fn a_service_runs_as_its_own_user_with_all_its_groups() {
    if needs_root() {
        return;
    }
    let world = World::new();
    world.service(
        "web",
        &[
            (
                "run",
                "#!/bin/sh\nid -un; id -Gn; echo $HOME\nexec sleep 1000\n",
            ),
            ("service.toml", "user = \"nobody\"\n"),
        ],
    );
    world.until_line("web", "nobody");
    world.until_line("web", "nogroup");
    world.until_line("web", "/nonexistent");
}

#[test]
fn an_unknown_user_never_leads_to_a_run_as_root() {
    if needs_root() {
        return;
    }
    let world = World::new();
    world.service(
        "web",
        &[
            ("run", "#!/bin/sh\necho started\nexec sleep 1000\n"),
            ("service.toml", "user = \"no-such-user-here\"\n"),
        ],
    );
    let broken = world.until_state("web", State::Broken);
    let problem = broken.problem.expect("a problem");
    assert!(problem.message.contains("no-such-user-here"), "{problem:?}");
    assert!(world.lines("web").is_empty());
}

#[test]
fn the_mode_of_a_run_made_executable_later_is_noticed() {
    let world = World::new();
    let place = world.service("web", &[("run", "exec sleep 1000\n")]);
    world.until_state("web", State::Broken);
    fs::write(place.join("run"), "#!/bin/sh\nexec sleep 1000\n").expect("written");
    fs::set_permissions(place.join("run"), fs::Permissions::from_mode(0o755)).expect("mode");
    world.until_up("web");
}

#[test]
fn a_directory_that_comes_back_while_its_service_ends_is_supervised_again() {
    let world = World::new();
    let run = "#!/bin/sh\nexec sleep 1000\n";
    for round in 0..50 {
        let place = world.service("web", &[("run", run)]);
        world.until_up("web");
        // There and gone several times, each at another moment of its end.
        for change in 0..4 {
            let away = world.path(&format!("away{round}-{change}"));
            fs::rename(&place, &away).expect("moved away");
            for _ in 0..round * 20 {
                std::thread::yield_now();
            }
            world.service("web", &[("run", run)]);
        }
        world.until_up("web");
        fs::rename(&place, world.path(&format!("away{round}"))).expect("moved away");
    }
}

#[test]
fn a_running_service_can_be_removed_file_by_file() {
    let world = World::new();
    for number in 0..12 {
        let name = format!("web{number}");
        let place = world.run(&name, "exec sleep 1000");
        let pid = world.until_up_on_disk(&name);
        fs::remove_dir_all(&place).expect("nothing comes back while it is removed");
        eventually("it is forgotten", || {
            world.find(&name).is_none().then_some(())
        });
        assert!(!lives(pid));
        assert!(!place.exists());
    }
}

#[test]
fn so_can_one_with_a_log_service() {
    let world = World::new();
    let run = "#!/bin/sh\nexec sleep 1000\n";
    let log = "#!/bin/sh\nexec cat >/dev/null\n";
    for number in 0..12 {
        let name = format!("web{number}");
        let place = world.service(&name, &[("run", run), ("log/run", log)]);
        world.until_up_on_disk(&name);
        world.until_up_on_disk(&format!("{name}/log"));
        // In the order that is worst: sv sees it as gone, and its files follow.
        for part in ["log/supervise", "log", "supervise"] {
            fs::remove_dir_all(place.join(part)).expect("nothing comes back while it is removed");
        }
        fs::remove_dir_all(&place).expect("nothing has come back");
        eventually("it is forgotten", || {
            world.find(&name).is_none().then_some(())
        });
        assert!(!place.exists());
    }
}

#[test]
fn many_services_at_once_need_no_more_descriptors_than_three_each_and_some_to_spare() {
    const COUNT: u32 = 600;
    let mut world = World::quiet();
    for number in 0..COUNT {
        world.run(&format!("s{number:03}"), "exec sleep 1000");
    }
    world.supervise_with_descriptors(COUNT * 3 + 350);
    eventually("all are up", || {
        let all = world.ask(Verb::Status, &[]).services;
        let up = all.iter().filter(|service| service.state == State::Up);
        (up.count() == COUNT as usize).then_some(())
    });
    assert!(!world.said().contains("open files"), "{}", world.said());
}

#[test]
fn what_a_definition_names_in_its_directory_is_noticed_when_it_is_mended() {
    let world = World::new();
    let toml = "exec = \"sleep 1000\"\nenv-file = \"secrets\"\n";
    let web = world.service("web", &[("service.toml", toml)]);
    let own = world.service("own", &[("service.toml", "exec = \"./program\"\n")]);
    world.until_state("web", State::Broken);
    world.until_state("own", State::Broken);
    std::fs::write(web.join("secrets"), "A=1\n").expect("written");
    write_script(&own.join("program"), "#!/bin/sh\nexec sleep 1000\n");
    // The clock alone would take a minute.
    world.until_up("web");
    world.until_up("own");
}

#[test]
fn services_beyond_the_descriptors_are_told_so_and_all_else_goes_on() {
    let mut world = World::quiet();
    for number in 0..80 {
        world.run(&format!("s{number:02}"), "exec sleep 1000");
    }
    world.supervise_with_descriptors(256);
    let count = |world: &World, wanted: State| {
        let all = world.ask(Verb::Status, &[]).services;
        all.iter().filter(|it| it.state == wanted).count()
    };
    let up = eventually("each runs or is told to be short", || {
        let up = count(&world, State::Up);
        (up + count(&world, State::Broken) == 80 && up > 0).then_some(up)
    });
    assert!((30..80).contains(&up), "{up} run");
    let short = world.show("s79");
    let problem = short.problem.expect("a reason").message;
    assert!(
        problem.contains("no open files") && problem.contains("256"),
        "{problem}"
    );
    // A successor comes, and opens no others before those that run.
    world.replace_supervisor();
    world.until_up("s00");
    assert_eq!(count(&world, State::Up), up);
    // Where one goes another one has room.
    fs::remove_dir_all(world.path("services/s00")).expect("remove");
    eventually("another one runs", || {
        (world.find("s00").is_none() && count(&world, State::Up) == up).then_some(())
    });
    let all = world.descendants();
    assert_eq!(world.end(), Some(0));
    assert!(!all.iter().any(|pid| lives(*pid)));
}

/// Ends with the program that the rest of the arguments name.
fn through_a_shell(before: &str, after: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    let line = format!("{before} exec \"$0\" \"$@\" {after}");
    shell.args(["-c", &line, BINARY]);
    shell
}

#[test]
fn without_an_inotify_instance_services_run_and_new_ones_are_found() {
    let none = "echo 0 >/proc/sys/user/max_inotify_instances &&";
    let able = Command::new("unshare")
        .args(["-Ur", "sh", "-c", &format!("{none} exec true")])
        .output();
    if !able.is_ok_and(|it| it.status.success()) {
        return println!("skipped: needs user namespaces");
    }
    let mut world = World::quiet();
    world.run("web", "exec sleep 1000");
    let bad = world.run("bad", "exec sleep 1000").join("run");
    let mode = fs::Permissions::from_mode;
    fs::set_permissions(&bad, mode(0o644)).expect("mode");
    eventually("it was not changed just now", || {
        let changed = fs::metadata(&bad).expect("run").modified().expect("a time");
        let age = changed.elapsed().ok()?;
        (age > std::time::Duration::from_millis(500)).then_some(())
    });
    let inner = through_a_shell(none, "");
    let mut command = Command::new("unshare");
    command
        .arg("-Ur")
        .arg(inner.get_program())
        .args(inner.get_args());
    world.supervise_as(command, &[]);
    world.until_up("web");
    // As the user that this is, seen from outside.
    for late in ["late", "later", "latest"] {
        world.run(late, "exec sleep 1000");
        world.until_up(late);
    }
    // Each of these was found by another look, and one that finds nothing changed tries nothing again.
    let tries = world.said().matches("cannot start").count();
    assert_eq!(tries, 1, "{}", world.said());
    fs::set_permissions(&bad, mode(0o755)).expect("mode");
    world.until_up("bad");
    assert!(
        world.said().contains("max_user_instances"),
        "{}",
        world.said()
    );
}

#[test]
fn a_full_disk_behind_standard_error_keeps_nothing_from_running() {
    let mut world = World::quiet();
    world.run("web", "exec sleep 1000");
    world.supervise_as(through_a_shell("", "2>/dev/full"), &[]);
    world.until_up("web");
}
