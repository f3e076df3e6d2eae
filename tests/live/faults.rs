//! The machine fails around us: no memory, processes, descriptors or room on the disk, disks that
//! can't be written, parts of ours that are stopped. Each time nobody crashes, nothing runs twice, no
//! line is lost, and `status` or `why` says what is wrong, until it is not.
//!
//! Errors that no mount or limit brings about are put into single system calls of a running part by
//! strace(1). A step of the wall's clock is not among these: it would hit whatever else runs here.

mod disks;

use super::world::{World, children, eventually, kill, lacks, lives, needs_root};
use nix::sys::signal::Signal;
use outlast::ipc::control::{Service, State, Verb};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Answers to some system calls of one process, those on one file if that is said, until it is
/// dropped.
struct Injected(Child);

impl Injected {
    /// None, with a line to say so, where that can't be done.
    fn new(pid: i32, calls: &str, error: &str, path: Option<&Path>) -> Option<Injected> {
        if lacks("strace") {
            return None;
        }
        let mut strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={calls}"))
            .arg("-e")
            .arg(format!("inject={calls}:error={error}"))
            .args(
                path.iter()
                    .flat_map(|path| [OsStr::new("-P"), path.as_os_str()]),
            )
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace");
        let tracer = format!("TracerPid:\t{}\n", strace.id());
        let attached = eventually("strace has attached itself or given up", || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
            let all = tasks.flatten().all(|task| {
                fs::read_to_string(task.path().join("status"))
                    .is_ok_and(|status| status.contains(&tracer))
            });
            let over = strace.try_wait().expect("waited").is_some();
            (all || over).then_some(!over)
        });
        if !attached {
            println!("skipped: strace may not attach itself");
            return None;
        }
        Some(Injected(strace))
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        // It detaches and lets go on what it has stopped.
        kill(i32::try_from(self.0.id()).expect("pid"), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// A world with a service that runs and is not to notice anything, and who they all are.
struct Calm {
    world: World,
    pids: [i32; 3],
}

impl Calm {
    fn over(world: World) -> Calm {
        world.run("steady", "echo $$ >>starts; exec sleep 1000");
        let steady = world.until_up("steady");
        let pids = [
            world.part("outlast-super"),
            world.part("outlast-scribe"),
            steady,
        ];
        Calm { world, pids }
    }

    fn new() -> Calm {
        Calm::over(World::new())
    }

    /// Nobody has crashed, nothing was started twice.
    fn is_calm(&self) {
        let [supervisor, scribe, _] = self.pids;
        let now = [
            self.world.part("outlast-super"),
            self.world.part("outlast-scribe"),
        ];
        assert_eq!(now, [supervisor, scribe], "{}", self.world.said());
        self.service_is_calm();
    }

    fn service_is_calm(&self) {
        let [_, _, steady] = self.pids;
        let shown = self.world.until_state("steady", State::Up);
        assert_eq!(shown.pid, Some(steady), "{}", self.world.said());
        let starts = fs::read_to_string(self.world.path("services/steady/starts"));
        assert_eq!(starts.expect("starts").lines().count(), 1);
    }

    fn why(&self, name: &str) -> String {
        let said = self.world.outlast(&["why", name]);
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    /// ... and until it says so in both ways.
    fn until_explained(&self, name: &str, word: &str) -> Service {
        let shown = self
            .world
            .until(name, &format!("in trouble ({word})"), |service| {
                let problem = service.problem.as_ref();
                problem.is_some_and(|problem| problem.message.contains(word))
            });
        let why = self.why(name);
        assert!(why.contains(word), "{why}");
        shown
    }
}

/// How many processes of ours are in this service's directory.
fn copies(world: &World, name: &str) -> usize {
    let dir = world.path("services").join(name);
    let here = |pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir);
    let all = children(world.keeper_pid());
    all.iter().filter(|pid| lives(**pid) && here(pid)).count()
}

fn no_fork_for_a_while(error: &str) {
    let calm = Calm::new();
    let world = &calm.world;
    let forks = "fork,vfork,clone,clone3";
    let Some(injected) = Injected::new(world.keeper_pid(), forks, error, None) else {
        return;
    };
    world.run("web", "echo up; exec sleep 1000");
    let web = calm.until_explained("web", error);
    assert_eq!(web.state, State::Backoff, "{web:?}");
    world.ask(Verb::Status, &[]);
    drop(injected);
    world.until_up("web");
    world.until_line("web", "up");
    world.until("web", "well", |web| web.problem.is_none());
    assert_eq!(copies(world, "web"), 1);
    calm.is_calm();
}

#[test]
fn without_memory_for_a_fork_it_is_tried_again_and_told() {
    no_fork_for_a_while("ENOMEM");
}

#[test]
fn without_a_process_number_it_is_tried_again_and_told() {
    no_fork_for_a_while("EAGAIN");
}

/// The same by the kernel's own count, where there is a group of this kind.
#[test]
fn at_the_limit_of_processes_it_is_tried_again_and_told() {
    if needs_root() {
        return;
    }
    let group =
        Path::new("/sys/fs/cgroup/pids").join(format!("outlast-faults-{}", std::process::id()));
    if fs::create_dir(&group).is_err() {
        println!("skipped: no pids cgroup (version 1) to be had");
        return;
    }
    let set = |file: &str, value: &str| fs::write(group.join(file), value).expect("a cgroup file");
    let calm = Calm::new();
    let world = &calm.world;
    set("cgroup.procs", &world.keeper_pid().to_string());
    set("pids.max", "1");
    world.run("web", "exec sleep 1000");
    calm.until_explained("web", "EAGAIN");
    set("pids.max", "max");
    world.until_up("web");
    assert_eq!(copies(world, "web"), 1);
    calm.is_calm();
    // The group can go when nobody is in it any more.
    drop(calm);
    eventually("the group is empty", || fs::remove_dir(&group).ok());
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("descriptors")
        .count()
}

fn limit_descriptors(pid: i32, soft: usize) {
    let done = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")])
        .status()
        .expect("prlimit");
    assert!(done.success());
}

#[test]
fn without_descriptors_in_the_keeper_a_start_is_tried_again_and_told() {
    if lacks("prlimit") {
        return;
    }
    let calm = Calm::new();
    let world = &calm.world;
    world.service(
        "later",
        &[
            ("run", "#!/bin/sh\necho up; exec sleep 1000\n"),
            ("down", ""),
        ],
    );
    world.until_state("later", State::Down);
    let keeper = world.keeper_pid();
    let highest = fs::read_dir(format!("/proc/{keeper}/fd"))
        .expect("descriptors")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<usize>().ok())
        .max();
    assert!(descriptors(keeper) > 3);
    limit_descriptors(keeper, 3);
    let answer = world.ask(Verb::Start, &["later"]);
    assert!(!answer.ok, "{answer:#?}");
    calm.until_explained("later", "EMFILE");
    // A supervisor can't be started either, but will be.
    let old = world.part("outlast-super");
    kill(old, Signal::SIGKILL);
    eventually("that is told", || {
        world
            .said()
            .contains("cannot start the supervisor")
            .then_some(())
    });
    limit_descriptors(keeper, highest.unwrap_or(0) + 1000);
    world.until_replaced(old);
    world.until_up("later");
    world.until_line("later", "up");
    assert_eq!(copies(world, "later"), 1);
    calm.service_is_calm();
}

/// What comes with a record while there is no room for it is lost; that must not end in a service
/// without a log or without a lock for ever.
#[test]
fn a_service_that_comes_while_the_keeper_has_no_descriptors_is_whole_later() {
    if lacks("prlimit") {
        return;
    }
    let calm = Calm::new();
    let world = &calm.world;
    let keeper = world.keeper_pid();
    limit_descriptors(keeper, 3);
    world.run("web", "echo up; exec sleep 1000");
    eventually("it can't go on", || {
        world
            .said()
            .contains("cannot start the supervisor")
            .then_some(())
    });
    limit_descriptors(keeper, 1000);
    world.until_up("web");
    world.until_line("web", "up");
    assert_eq!(copies(world, "web"), 1);
    // Nobody else can take it.
    let lock = world.path("services/web/supervise/lock");
    let free = fs::File::open(lock).expect("a lock").try_lock().is_ok();
    assert!(!free, "{}", world.said());
    calm.service_is_calm();
}

#[test]
fn a_stopped_keeper_goes_on_where_it_was() {
    let calm = Calm::new();
    let world = &calm.world;
    world.run("web", "exec sleep 1000");
    let web = world.until_up("web");
    let keeper = world.keeper_pid();
    kill(keeper, Signal::SIGSTOP);
    kill(web, Signal::SIGKILL);
    world.run("late", "exec sleep 1000");
    // The supervisor answers, with what it knows.
    world.until("late", "being started", |late| {
        late.state == State::Starting
    });
    assert_eq!(world.show("web").pid, Some(web));
    kill(keeper, Signal::SIGCONT);
    world.until_up("late");
    world.until("web", "up again", |service| {
        service.state == State::Up && service.pid != Some(web)
    });
    assert_eq!((copies(world, "web"), copies(world, "late")), (1, 1));
    calm.is_calm();
}

/// Commands that were answered while the keeper did not read are not forgotten with the supervisor.
#[test]
fn what_was_answered_while_the_keeper_was_stopped_is_kept() {
    let calm = Calm::new();
    let world = &calm.world;
    world.run("web", "exec sleep 1000");
    world.until_up("web");
    world.until_trusted();
    let (keeper, old) = (world.keeper_pid(), world.part("outlast-super"));
    kill(keeper, Signal::SIGSTOP);
    // More than the socket between the two holds.
    for round in 0..2_000 {
        let verb = if round % 2 == 0 {
            Verb::Pause
        } else {
            Verb::Cont
        };
        let mut request = super::world::request(verb, &["steady"]);
        request.wait = false;
        if !super::world::answered_within(&world.socket(), &request, 200) {
            break;
        }
    }
    let mut request = super::world::request(Verb::Stop, &["web"]);
    request.wait = false;
    let told = super::world::answered_within(&world.socket(), &request, 1_000);
    kill(old, Signal::SIGKILL);
    kill(keeper, Signal::SIGCONT);
    world.until_replaced(old);
    world.must(Verb::Cont, &["steady"]);
    let web = world.show("web");
    let stopped = web.want == outlast::ipc::control::Want::Down;
    assert!(stopped || !told, "{web:?}");
    calm.service_is_calm();
}

#[test]
fn a_stopped_scribe_holds_up_lines_and_nothing_else() {
    let calm = Calm::new();
    let world = &calm.world;
    let run =
        "trap 'n=$((n + 1)); echo line $n' HUP; n=1; echo line 1; while :; do sleep 0.02; done";
    world.run("web", run);
    world.until_line("web", "line 1");
    let [_, scribe, _] = calm.pids;
    kill(scribe, Signal::SIGSTOP);
    world.must(Verb::Hup, &["web"]);
    assert!(calm.why("web").contains("could not be read in time"));
    world.run("late", "echo late; exec sleep 1000");
    world.until_up("late");
    world.must(Verb::Restart, &["late"]);
    kill(scribe, Signal::SIGCONT);
    world.until_line("web", "line 2");
    eventually("both runs have written", || {
        (world.lines("late").len() == 2).then_some(())
    });
    assert_eq!(world.lines("web"), ["line 1", "line 2"]);
    calm.is_calm();
}

#[test]
fn a_scan_directory_that_is_removed_takes_its_services_along_and_may_come_back() {
    let calm = Calm::new();
    let world = &calm.world;
    world.run("web", "exec sleep 1000");
    world.until_up_on_disk("web");
    let [_, _, steady] = calm.pids;
    fs::rename(world.path("services"), world.path("elsewhere")).expect("moved");
    fs::create_dir(world.path("services")).expect("made anew");
    eventually("what was there is stopped", || {
        (!lives(steady)).then_some(())
    });
    world.run("new", "exec sleep 1000");
    world.until_up("new");
    assert_eq!(world.ask(Verb::Status, &[]).services.len(), 1);
    assert_eq!(world.part("outlast-super"), calm.pids[0]);
}

#[test]
fn a_removed_supervise_directory_is_told_and_made_anew() {
    let calm = Calm::new();
    let world = &calm.world;
    world.run("web", "exec sleep 1000");
    let web = world.until_up_on_disk("web");
    let supervise = world.path("services/web/supervise");
    fs::rename(&supervise, world.path("elsewhere")).expect("moved away");
    fs::write(world.path("services/web/note"), "").expect("a change to be seen");
    world.must(Verb::Reload, &[]);
    let status = supervise.join("status");
    eventually("it is there again", || {
        world.must(Verb::Pause, &["web"]);
        world.must(Verb::Cont, &["web"]);
        status.exists().then_some(())
    });
    assert_eq!(world.show("web").pid, Some(web));
    assert_eq!(copies(world, "web"), 1);
    calm.is_calm();
}
