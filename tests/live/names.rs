//! Names in the scan directory that are changed, doubled or led elsewhere while services run, and a
//! service that sv tells to exit.

use super::world::{BINARY, World, eventually, lives};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use outlast::ipc::control::{State, Verb};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn cwd_of(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default()
}

/// A service directory outside the scan directory.
fn defined(world: &World, name: &str) -> PathBuf {
    let dir = world.run(&format!(".{name}"), "exec sleep 1000");
    let outside = world.path(name);
    fs::rename(dir, &outside).expect("outside");
    outside
}

fn link(world: &World, to: &Path, name: &str) {
    symlink(to, world.path("services").join(name)).expect("link");
}

#[test]
fn a_renamed_directory_goes_on_under_its_new_name_and_nothing_untrue_is_said() {
    let world = World::new();
    let dir = world.run("old", "exec sleep 1000");
    let old = world.until_up("old");
    fs::rename(&dir, world.path("services/new")).expect("rename");
    assert_ne!(world.until_up("new"), old);
    assert!(!lives(old), "two copies");
    assert_eq!(world.show("new").restarts, 0);
    eventually("the old name is gone", || {
        world.find("old").is_none().then_some(())
    });
    let said = world.said();
    for untrue in ["another supervisor", "killed keeper", "left alive"] {
        assert!(!said.contains(untrue), "{said}");
    }
}

#[test]
fn a_second_name_for_a_directory_is_left_out_until_the_first_has_gone() {
    let world = World::new();
    let outside = defined(&world, "d");
    link(&world, &outside, "x");
    let first = world.until_up("x");
    link(&world, &outside, "a");
    let refused = world.ask(Verb::Start, &["a"]);
    let message = refused.error.expect("refused").message;
    assert!(message.contains("same directory as x"), "{message}");
    assert_eq!(world.until_up("x"), first);
    assert!(world.find("a").is_none());

    fs::remove_file(world.path("services/x")).expect("remove");
    let second = world.until_up("a");
    assert!(!lives(first) && second != first);
    assert!(!world.said().contains("another supervisor"));
}

#[test]
fn a_link_that_is_led_to_another_directory_means_another_service() {
    let world = World::new();
    let (v1, v2) = (defined(&world, "v1"), defined(&world, "v2"));
    link(&world, &v1, "web");
    let first = world.until_up("web");
    assert_eq!(cwd_of(first), v1);
    // The way that leaves no moment without a link.
    let new = world.path("new");
    symlink(&v2, &new).expect("link");
    fs::rename(&new, world.path("services/web")).expect("rename");
    let second = world.until("web", "the other one runs", |it| {
        it.pid.is_some_and(|pid| cwd_of(pid) == v2)
    });
    assert_eq!(second.state, State::Up);
    assert!(!lives(first));
    assert!(
        !v1.join("supervise/outlast").exists(),
        "of the first one nothing is said to live"
    );
}

#[test]
fn a_directory_that_is_moved_and_linked_back_or_reinstalled_goes_on() {
    let world = World::new();
    let outside = defined(&world, "d");
    link(&world, &outside, "web");
    let pid = world.until_up("web");
    // The link is written differently and leads to the same place.
    let new = world.path("new");
    symlink("../d", &new).expect("link");
    fs::rename(&new, world.path("services/web")).expect("rename");
    world.must(Verb::Reload, &[]);
    assert_eq!(world.until_up("web"), pid);
    // The link is the same, and the directory it leads to another one.
    let spare = defined(&world, "spare");
    let exchange = RenameFlags::RENAME_EXCHANGE;
    renameat2(AT_FDCWD, &spare, AT_FDCWD, &outside, exchange).expect("in its place");
    world.must(Verb::Reload, &[]);
    assert_eq!(world.until_up("web"), pid);
}

#[test]
fn a_service_that_sv_tells_to_exit_comes_back_as_under_runsvdir() {
    let world = World::new();
    let dir = world.run("web", "exec sleep 1000");
    let first = world.until_up_on_disk("web");
    let exit = Command::new(BINARY)
        .arg0("sv")
        .arg("exit")
        .arg(&dir)
        .output()
        .expect("sv");
    assert!(exit.status.success(), "{exit:?}");
    eventually("it has left", || world.find("web").is_none().then_some(()));
    assert!(!lives(first));
    let second = eventually("it is taken up again", || world.find("web")?.pid);
    assert_ne!(second, first);
}
