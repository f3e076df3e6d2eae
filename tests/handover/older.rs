//! From an older outlast to this one and back, with the real thing: built from a commit of the history.
//!
//! `OUTLAST_OLDER=1711f5f cargo test handover::older` takes a few minutes the first time, because it
//! builds that commit in the target directory; 1711f5f is the first that knows `upgrade`. Needs git.

use crate::live::upgrade::gaps;
use crate::live::world::{BINARY, World, eventually, kill, lives};
use nix::sys::signal::Signal;
use outlast::ipc::control::{State, Verb, Want};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const TALK: &str = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.001; done";

fn succeed(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().expect("a process");
    assert!(status.success(), "{command:?}: {status}");
}

/// The program as it was at that commit; None, with a line to say so, when nobody has named one.
fn older() -> Option<PathBuf> {
    let Some(commit) = std::env::var("OUTLAST_OLDER").ok() else {
        println!("skipped: set OUTLAST_OLDER to a commit of the history, such as 1711f5f");
        return None;
    };
    let target = Path::new(BINARY).ancestors().nth(2).expect("target");
    let (tree, build) = (
        target.join("older").join(&commit),
        target.join("older/build"),
    );
    if !tree.join("Cargo.toml").exists() {
        fs::create_dir_all(&tree).expect("a directory");
        let archive = tree.with_extension("tar");
        let root = env!("CARGO_MANIFEST_DIR");
        let mut git = Command::new("git");
        succeed(
            git.args(["-C", root, "archive", &commit, "-o"])
                .arg(&archive),
        );
        succeed(
            Command::new("tar")
                .arg("-xf")
                .arg(&archive)
                .arg("-C")
                .arg(&tree),
        );
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    succeed(
        cargo
            .arg("build")
            .current_dir(&tree)
            .env("CARGO_TARGET_DIR", &build),
    );
    let places = fs::read_dir(&build).expect("built").flatten();
    let mut places = places.map(|entry| entry.path().join("debug/outlast"));
    let plain = build.join("debug/outlast");
    let found = Some(plain).filter(|path| path.exists());
    let found = found.or_else(|| places.find(|path| path.exists()));
    // The next commit is built in its place.
    let kept = target.join("older").join(format!("outlast-{commit}"));
    fs::copy(found.expect("a program"), &kept).expect("copied");
    kept.canonicalize().ok()
}

fn client(world: &World, args: &[&str], out: &str) -> Child {
    Command::new(BINARY)
        .args(args)
        .env("OUTLAST_SOCKET", world.socket())
        .stdin(Stdio::null())
        .stdout(fs::File::create(world.path(out)).expect("a file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("outlast")
}

fn number_of(line: &str) -> Option<u64> {
    line.rsplit_once("line ")?.1.parse().ok()
}

#[test]
fn an_older_outlast_becomes_this_one_and_back_under_running_services() {
    let Some(older) = older() else {
        return;
    };
    let mut world = World::quiet();
    world.supervise_as(Command::new(&older), &[]);
    world.run("talker", TALK);
    world.run("stopped", "exec sleep 1000");
    world.run("crashing", "exit 7");
    let patient = "[stop]\ntimeout = \"10m\"\n";
    let deaf = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.05; done\n";
    world.service("deaf", &[("run", deaf), ("service.toml", patient)]);
    let reader = "#!/bin/sh\nexec cat >/dev/null\n";
    let logged = "#!/bin/sh\nexec sleep 1000\n";
    world.service("logged", &[("run", logged), ("log/run", reader)]);
    let names = ["talker", "logged", "logged/log"];
    let pids = names.map(|name| world.until_up(name));
    world.until_up("stopped");
    world.must(Verb::Stop, &["stopped"]);
    world.until_line("talker", "line 10");
    let mut follow = client(&world, &["logs", "-f", "-n", "1", "talker"], "followed");
    let followed = || fs::read_to_string(world.path("followed")).unwrap_or_default();
    eventually("it is followed", || {
        (followed().lines().count() > 10).then_some(())
    });

    for binary in [Path::new(BINARY), &older, Path::new(BINARY)] {
        let deaf = world.until_up("deaf");
        let mut stop = client(&world, &["stop", "deaf"], "stop");
        world.until_state("deaf", State::Stopping);
        let upgraded = world.outlast(&["upgrade", "--binary", &binary.to_string_lossy()]);
        assert!(upgraded.status.success(), "{upgraded:?}\n{}", world.said());
        let program = fs::read_link(format!("/proc/{}/exe", world.keeper_pid()));
        assert_eq!(program.expect("a program"), binary);
        for (name, pid) in names.iter().zip(pids) {
            let shown = world.until_state(name, State::Up);
            let found = (shown.pid, shown.restarts);
            assert_eq!(found, (Some(pid), 0), "{name}\n{}", world.said());
        }
        assert_eq!(world.until_state("stopped", State::Down).want, Want::Down);
        let crashing = world.until("crashing", "known to crash", |it| it.last_exit.is_some());
        assert_eq!(crashing.last_exit.expect("an exit").code, Some(7));
        // Who waits is answered by the one that came after.
        assert_eq!(world.until_state("deaf", State::Stopping).pid, Some(deaf));
        assert!(stop.try_wait().expect("wait").is_none());
        kill(deaf, Signal::SIGKILL);
        let answered = eventually("its stop is answered", || stop.try_wait().expect("wait"));
        assert!(answered.success(), "{answered}");
        world.must(Verb::Start, &["deaf"]);
        // The log goes on, and whoever follows it.
        let so_far = followed().lines().count();
        eventually("it is followed further", || {
            (followed().lines().count() > so_far + 10).then_some(())
        });
    }
    // Started again at once it would not end with the others.
    let deaf = world.until_up("deaf");
    let mut stop = client(&world, &["stop", "deaf"], "stop");
    world.until_state("deaf", State::Stopping);
    kill(deaf, Signal::SIGKILL);
    eventually("its stop is answered", || stop.try_wait().expect("wait"));
    assert!(lives(pids[0]));
    world.must(Verb::Stop, &["talker"]);
    let last = world.lines("talker").pop().expect("a line");
    eventually("all is followed", || {
        (followed().lines().last().and_then(number_of) == number_of(&last)).then_some(())
    });
    follow.kill().expect("killed");
    follow.wait().expect("waited for");
    let numbers: Vec<Option<u64>> = followed().lines().map(number_of).collect();
    let odd: Vec<_> = numbers
        .windows(2)
        .filter(|pair| pair[0].map(|number| number + 1) != pair[1])
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert_eq!(gaps(&world, "talker"), Vec::<String>::new());
}
