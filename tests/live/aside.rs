//! Service directories that take no `supervise/`: what is known of their services stands elsewhere, and
//! as soon as there can be one it is made.

use super::upgrade::gaps;
use super::world::{World, eventually, kill, lives, write_script};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const TALK: &str = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.01; done";

fn shelf(world: &World) -> PathBuf {
    let mut place = world.socket().into_os_string();
    place.push(".left");
    place.into()
}

/// Not even root can make a directory where a file is.
fn without_supervise(world: &World, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let mut all = vec![("supervise", "")];
    if files.iter().any(|(file, _)| file.starts_with("log/")) {
        all.push(("log/supervise", ""));
    }
    all.extend(files);
    world.service(name, &all)
}

fn until_seen(dir: &Path, pid: i32) {
    eventually("sv would see it", || {
        let shown = fs::read_to_string(dir.join("supervise/pid")).ok()?;
        (shown.trim() == pid.to_string()).then_some(())
    });
}

fn nothing_is_started_twice_after_the_death_of(others: &[&str]) {
    let mut world = World::quiet();
    without_supervise(
        &world,
        "talker",
        &[("run", &format!("#!/bin/sh\n{TALK}\n"))],
    );
    without_supervise(
        &world,
        "stopped",
        &[("run", "#!/bin/sh\nexec sleep 1000\n")],
    );
    let logger = "#!/bin/sh\nexec cat >>lines\n";
    let loud = format!("#!/bin/sh\n{TALK}\n");
    let logged = without_supervise(&world, "logged", &[("run", &loud), ("log/run", logger)]);
    world.supervise(&[]);
    let names = ["talker", "logged", "logged/log"];
    let pids = names.map(|name| world.until_up(name));
    world.until_up("stopped");
    world.must(Verb::Stop, &["stopped"]);
    world.until_line("talker", "line 10");
    for again in 0..2 {
        eventually("what is known of them is written", || {
            let records = fs::read_dir(shelf(&world)).ok()?.flatten();
            let all = records.map(|record| fs::read_to_string(record.path()).unwrap_or_default());
            let all: String = all.collect();
            let told = |pid: &i32| all.contains(&format!("\"pid\":{pid},"));
            pids.iter().all(told).then_some(())
        });
        let doomed: Vec<i32> = others.iter().map(|comm| world.part(comm)).collect();
        world.kill_keeper();
        for pid in doomed {
            kill(pid, Signal::SIGKILL);
        }
        world.supervise(&[]);
        for (name, pid) in names.iter().zip(pids) {
            let shown = world.until_state(name, State::Up);
            let found = (shown.pid, shown.restarts);
            assert_eq!(found, (Some(pid), 0), "{name}, {again}\n{}", world.said());
        }
        world.until_state("stopped", State::Down);
    }
    for name in ["talker", "logged"] {
        world.must(Verb::Stop, &[name]);
    }
    assert_eq!(gaps(&world, "talker"), Vec::<String>::new());
    let lines = fs::read_to_string(logged.join("log/lines")).expect("lines");
    let odd = lines.lines().enumerate();
    let odd: Vec<_> = odd
        .filter(|(at, line)| **line != format!("line {}", at + 1))
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    world.end();
    assert!(pids.into_iter().all(|pid| !lives(pid)));
    assert!(!shelf(&world).exists(), "nothing is left");
}

#[test]
fn nothing_is_started_twice_after_the_keepers_death() {
    nothing_is_started_twice_after_the_death_of(&[]);
}

#[test]
fn nothing_is_started_twice_after_the_death_of_all_three() {
    nothing_is_started_twice_after_the_death_of(&["outlast-super", "outlast-scribe"]);
}

#[test]
fn a_supervise_directory_is_made_as_soon_as_it_can_be() {
    let world = World::new();
    let sleep = [("run", "#!/bin/sh\nexec sleep 1000\n")];
    let web = without_supervise(&world, "web", &sleep);
    let (linked, new) = (world.path("services/linked"), world.path("new"));
    write_script(&new.join("run"), sleep[0].1);
    let later = world.path("later/supervise.linked");
    symlink(&later, new.join("supervise")).expect("a link");
    fs::rename(&new, &linked).expect("moved in");
    let pid = world.until_up("web");
    world.until("web", "told", |it| it.problem.is_some());
    world.until("linked", "told", |it| it.problem.is_some());
    // A change in its directory.
    fs::remove_file(web.join("supervise")).expect("removed");
    world.until("web", "mended", |it| it.problem.is_none());
    until_seen(&web, pid);
    // Without one it is tried again at the next start.
    fs::create_dir(world.path("later")).expect("a directory");
    world.must(Verb::Restart, &["linked"]);
    world.until("linked", "mended", |it| it.problem.is_none());
    until_seen(&linked, world.until_up("linked"));
    eventually("nothing stands elsewhere", || {
        (!shelf(&world).exists()).then_some(())
    });
}

/// The keeper has its lock all the while: that is nobody else's.
#[test]
fn a_file_in_the_place_of_control_keeps_no_service_from_its_next_start() {
    let world = World::new();
    let web = world.run("web", "exec sleep 1000");
    world.until_up_on_disk("web");
    let control = web.join("supervise/control");
    fs::remove_file(&control).expect("removed");
    fs::write(&control, "").expect("a file");
    assert!(world.outlast(&["reload"]).status.success());
    world.until("web", "told", |it| it.problem.is_some());
    world.must(Verb::Restart, &["web"]);
    let pid = world.until_up("web");
    kill(pid, Signal::SIGKILL);
    let again = world.until("web", "started again", |it| {
        it.state == State::Up && it.pid != Some(pid)
    });
    let told = again.problem.expect("a problem").message;
    assert!(told.contains("is no FIFO"), "{told}");
    fs::remove_file(&control).expect("removed");
    world.must(Verb::Restart, &["web"]);
    world.until("web", "mended", |it| it.problem.is_none());
    until_seen(&web, world.until_up("web"));
}
