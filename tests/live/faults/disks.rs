//! Disks that are full, that can't be written, or that fail.

use super::{Calm, Injected, copies};
use crate::live::points;
use crate::live::scribe::whole_log;
use crate::live::world::{World, eventually, kill, needs_root};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb};
use std::fs;
use std::path::{Path, PathBuf};

/// A small disk in memory, gone with its test.
struct Disk(PathBuf);

impl Disk {
    /// None, with a line to say so, where nothing can be mounted.
    fn at(path: PathBuf, size: &str) -> Option<Disk> {
        fs::create_dir_all(&path).expect("a mount point");
        let none = None::<&str>;
        let mounted = mount(
            Some("none"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size),
        );
        if mounted.is_err() {
            println!("skipped: needs to mount");
            return None;
        }
        // What is changed here is nobody else's concern.
        mount(none, &path, none, MsFlags::MS_PRIVATE, none).expect("private");
        Some(Disk(path))
    }

    /// The same disk once more over itself, so that its files can't be changed by their names.
    fn read_only(&self) -> Disk {
        let none = None::<&str>;
        let bind = MsFlags::MS_BIND;
        mount(Some(self.path()), &self.0, none, bind, none).expect("bound");
        let read_only = bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &self.0, none, read_only, none).expect("read only");
        Disk(self.0.clone())
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

const COUNTS: &str = "n=0; while [ $n -lt 500 ]; do n=$((n + 1)); echo line $n; [ $n != 100 ] || { echo >half; read go <go; }; done; exec sleep 1000";

/// A service that has written a hundred lines and waits; then its log can't be written, and it
/// writes four hundred more.
#[test]
fn a_log_whose_disk_fails_is_told_and_loses_no_line() {
    let calm = Calm::new();
    let world = &calm.world;
    world.run("beside", "exec sleep 1000");
    world.until_up("beside");
    world.run("web", &format!("[ -p go ] || mkfifo go\n{COUNTS}"));
    let place = world.path("services/web");
    eventually("a hundred lines", || {
        place.join("half").exists().then_some(())
    });
    world.until_line("web", "line 100");
    let [_, scribe, _] = calm.pids;
    let current = world.path("log/web/current");
    let Some(injected) = Injected::new(scribe, "write,writev", "EIO", Some(&current)) else {
        return;
    };
    fs::write(place.join("go"), "go\n").expect("it goes on");
    calm.until_explained("web", "EIO");
    // Nobody else is held up.
    world.must(Verb::Restart, &["beside"]);
    drop(injected);
    world.until_line("web", "line 500");
    let all: Vec<String> = (1..=500).map(|number| format!("line {number}")).collect();
    assert_eq!(world.lines("web"), all);
    world.until("web", "mended", |web| web.problem.is_none());
    assert_eq!(copies(world, "web"), 1);
    calm.is_calm();
}

/// A log directory of its own disk, on which nothing but a little is free.
fn with_full_log(world: &World, name: &str) -> Option<(Disk, PathBuf)> {
    if needs_root() {
        return None;
    }
    let disk = Disk::at(world.path("log").join(name), "size=64k")?;
    let filling = disk.path().join("filling");
    fs::write(&filling, vec![0; 48 * 1024]).expect("filling");
    Some((disk, filling))
}

/// Scribe and supervisor are killed while what was taken from a pipe finds no room in its log, and
/// their successors before there is any.
#[test]
fn a_full_log_outlives_the_deaths_of_who_writes_it() {
    let world = if points::has_points() {
        points::with_points()
    } else {
        World::new()
    };
    let Some((_disk, filling)) = with_full_log(&world, "web") else {
        return;
    };
    let calm = Calm::over(world);
    let world = &calm.world;
    let scribe = world.part("outlast-scribe");
    let armed = points::has_points().then(|| points::armed(world, points::FULL));
    let line = "x".repeat(60);
    let body = "n=0; while [ $n -lt 2000 ]; do n=$((n + 1)); echo line $n LINE; done; echo over";
    world.run(
        "web",
        &format!("{}; exec sleep 1000", body.replace("LINE", &line)),
    );
    match armed {
        Some(armed) => points::until_reached(&armed),
        None => {
            calm.until_explained("web", "no space left");
            kill(scribe, Signal::SIGKILL);
        }
    }
    let another = |old: i32| {
        eventually("another scribe", || {
            let scribe = world.part("outlast-scribe");
            (scribe != old).then_some(scribe)
        })
    };
    let second = another(scribe);
    calm.until_explained("web", "no space left");
    kill(second, Signal::SIGKILL);
    let third = another(second);
    let supervisor = world.part("outlast-super");
    kill(supervisor, Signal::SIGKILL);
    kill(third, Signal::SIGKILL);
    world.until_replaced(supervisor);
    calm.until_explained("web", "no space left");
    // Nobody else is held up.
    world.must(Verb::Restart, &["steady"]);
    fs::remove_file(&filling).expect("room");
    mount_larger(&world.path("log/web"));
    world.until_line("web", "over");
    let mut all: Vec<String> = (1..=2000).map(|n| format!("line {n} {line}")).collect();
    all.push("over".to_owned());
    let lines = world.lines("web");
    let first = lines.iter().zip(&all).find(|(found, told)| found != told);
    assert_eq!((first, lines.len()), (None, all.len()), "{}", world.said());
    world.until("web", "mended", |web| web.problem.is_none());
    assert_eq!(copies(world, "web"), 1);
}

fn mount_larger(path: &Path) {
    let none = None::<&str>;
    mount(none, path, none, MsFlags::MS_REMOUNT, Some("size=1m")).expect("larger");
}

/// Lines that can't be in the log any more are on standard output, and somebody can know of it.
#[test]
fn a_log_whose_disk_becomes_read_only_is_told_and_loses_no_line() {
    if needs_root() {
        return;
    }
    let calm = Calm::new();
    let world = &calm.world;
    let Some(disk) = Disk::at(world.path("log/web"), "size=10m") else {
        return;
    };
    let run = "#!/bin/sh\nn=0; trap 'echo last $n; exit' TERM\nwhile :; do n=$((n + 1)); echo line $n; sleep 0.01; done\n";
    let log = "[log]\nsize = 4096\nkeep = 1000\n";
    world.service("web", &[("run", run), ("service.toml", log)]);
    world.until_line("web", "line 10");
    // The log is open for writing: it is told when a file is to be rotated.
    let way = disk.read_only();
    calm.until_explained("web", "Read-only file system");
    let scribe = world.part("outlast-scribe");
    kill(scribe, Signal::SIGKILL);
    let another = eventually("another scribe", || {
        let another = world.part("outlast-scribe");
        (another != scribe).then_some(another)
    });
    calm.until_explained("web", "Read-only file system");
    drop(way);
    world.until("web", "mended", |web| web.problem.is_none());
    world.must(Verb::Stop, &["web"]);
    assert_eq!(world.part("outlast-scribe"), another);
    // The end of the service is known before its last line is written.
    let (found, last) = eventually("its last words", || {
        let log = whole_log(disk.path());
        let echo = fs::read(world.path("stdout")).expect("stdout");
        let mut found = std::collections::BTreeSet::new();
        let mut last = None;
        for text in [log, echo] {
            for line in String::from_utf8_lossy(&text).lines() {
                let number = |word: &str| line.rsplit_once(word)?.1.parse::<u64>().ok();
                found.extend(number(" line "));
                last = last.or(number(" last "));
            }
        }
        last.map(|last| (found, last))
    });
    let missing: Vec<u64> = (1..=last).filter(|n| !found.contains(n)).collect();
    assert_eq!(missing, Vec::<u64>::new(), "of {last}\n{}", world.said());
    calm.service_is_calm();
}

/// A world whose `supervise/` and socket are on such a disk, as with a /run of its own.
fn with_run(size: &str) -> Option<(Disk, Calm)> {
    if needs_root() {
        return None;
    }
    let mut world = World::quiet();
    let run = Disk::at(world.path("run"), size)?;
    world.put_socket_at(run.path().join("socket"));
    world.supervise(&[]);
    Some((run, Calm::over(world)))
}

/// A service directory whose `supervise` leads to that disk.
fn with_link(world: &World, run: &Disk, name: &str) {
    let draft = world.path("draft").join(name);
    crate::live::world::write_script(&draft.join("run"), "#!/bin/sh\necho up; exec sleep 1000\n");
    let target = run.path().join(name);
    std::os::unix::fs::symlink(target, draft.join("supervise")).expect("a link");
    fs::rename(draft, world.path("services").join(name)).expect("moved in");
}

#[test]
fn a_full_run_is_told_and_keeps_nothing_from_running() {
    let Some((run, calm)) = with_run("size=256k,nr_inodes=200") else {
        return;
    };
    let world = &calm.world;
    with_link(world, &run, "before");
    let before = world.until_up("before");
    eventually("its status is there", || {
        run.path().join("before/status").exists().then_some(())
    });
    // Neither a file more nor a byte.
    let filler = run.path().join("filler");
    fs::create_dir(&filler).expect("a directory");
    let mut number = 0;
    while fs::write(filler.join(number.to_string()), vec![0; 4096]).is_ok() {
        number += 1;
    }
    while fs::write(filler.join(format!("empty{number}")), "").is_ok() {
        number += 1;
    }
    world.must(Verb::Restart, &["before"]);
    calm.until_explained("before", "No space left on device");
    with_link(world, &run, "during");
    world.until("during", "explained", |during| during.problem.is_some());
    world.replace_supervisor();
    assert_eq!(copies(world, "before"), 1);
    fs::remove_dir_all(&filler).expect("room again");
    // Nobody has to ask for it.
    for name in ["before", "during"] {
        let pid = world.until_up(name).to_string();
        world.until(name, "well", |it| it.problem.is_none());
        eventually("sv sees it", || {
            let shown = fs::read_to_string(run.path().join(name).join("pid")).ok()?;
            (shown.trim() == pid).then_some(())
        });
    }
    world.must(Verb::Restart, &["before"]);
    assert_ne!(world.show("before").pid, Some(before));
    assert_eq!((copies(world, "before"), copies(world, "during")), (1, 1));
    calm.service_is_calm();
}

#[test]
fn a_read_only_run_is_told_and_keeps_nothing_from_running() {
    let Some((run, calm)) = with_run("size=1m") else {
        return;
    };
    let world = &calm.world;
    with_link(world, &run, "before");
    world.until_up("before");
    eventually("its status is there", || {
        run.path().join("before/status").exists().then_some(())
    });
    // The lock is open for writing, so the disk itself can't be made so; the way to it can.
    let way = run.read_only();
    world.must(Verb::Restart, &["before"]);
    calm.until_explained("before", "Read-only file system");
    world.replace_supervisor();
    world.must(Verb::Restart, &["before"]);
    assert_eq!(copies(world, "before"), 1);
    drop(way);
    world.must(Verb::Restart, &["before"]);
    world.until("before", "well", |before| before.problem.is_none());
    assert_eq!(
        world.until_state("before", State::Up).want,
        outlast::ipc::control::Want::Up
    );
    calm.service_is_calm();
}
