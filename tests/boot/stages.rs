//! The stages beside runit's: the same scripts under both programs, each as process 1 of a pid
//! namespace. What the console shows and how the namespace ends are compared.

use crate::compat::twin::{Whose, programs};
use crate::live::world::needs_root;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// `unshare` ends by the signal that the kernel ends a namespace with (reboot(2)).
const POWERED_OFF: i32 = 128 + 2;
const REBOOTED: i32 = 128 + 1;

/// A fresh /run with the marks, a console that is read to its end, then the program as process 1.
const SETTING: &str = r#"
mount -t tmpfs run /run; mount --bind "$1" /etc/runit; : >/run/runit.stopit; : >/run/runit.reboot
chmod 0 /run/runit.*; : >/run/shown; mkfifo /run/console; tee /run/shown <>/run/console &
mount --bind /run/console /dev/console; exec "$2" </dev/null >/run/console 2>&1
"#;

struct Seen {
    console: String,
    end: Option<i32>,
}

fn can_unshare() -> bool {
    if needs_root() {
        return false;
    }
    let status = Command::new("unshare")
        .args(["--pid", "--fork", "--mount", "--mount-proc", "true"])
        .status();
    let can = status.is_ok_and(|status| status.success()) && Path::new("/etc/runit").is_dir();
    if !can {
        println!("skipped: needs namespaces, and runit to compare with");
    }
    can
}

fn seen(program: &Path, scripts: &Path) -> Seen {
    let line =
        "timeout 100 unshare --pid --fork --mount --mount-proc sh -c \"$0\" sh \"$@\"; exit $?";
    let Output { status, stdout, .. } = Command::new("sh")
        .args(["-c", line, SETTING])
        .args([scripts, program])
        .stdin(Stdio::null())
        .output()
        .expect("sh");
    let text = String::from_utf8_lossy(&stdout);
    let text = text.split(OVER).next().unwrap_or_default();
    // Each says its own version.
    let lines = text.lines().filter(|line| !line.ends_with("booting."));
    let console: String = lines.map(|line| format!("{line}\n")).collect();
    // After a power failure runit has a signal left over.
    let oddity = "leave stage: /etc/runit/2\n- runit: warning: signals only work in stage 2.\n";
    Seen {
        console: console.replace(oddity, "leave stage: /etc/runit/2\n"),
        end: status.code(),
    }
}

/// What is killed at the very end is also who shows the console, so stage 3 waits for it before.
const OVER: &str = "all is shown";
const UNTIL_SHOWN: &str = "echo all is shown; until grep -q shown /run/shown; do sleep 0.1; done";

fn write(dir: &Path, scripts: &[(&str, &str)]) {
    for (name, body) in scripts {
        let path = dir.join(name);
        let end = if *name == "3" { UNTIL_SHOWN } else { "" };
        fs::write(&path, format!("#!/bin/sh\n{body}\n{end}\n")).expect("script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    }
}

/// What ours shows, which is what runit's shows.
#[track_caller]
fn both(scripts: &[(&str, &str)]) -> Option<Seen> {
    if !can_unshare() {
        return None;
    }
    let dir = tempfile::tempdir().expect("directory");
    write(dir.path(), scripts);
    let runit = programs(Whose::Runit)?.join("runit");
    let ours = programs(Whose::Ours)?.join("runit");
    let (runit, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| seen(&runit, dir.path()));
        let ours = seen(&ours, dir.path());
        (theirs.join().expect("runit's"), ours)
    });
    assert_eq!(runit.console, ours.console);
    assert_eq!(runit.end, ours.end, "{}", ours.console);
    Some(ours)
}

#[test]
fn exit_100_of_stage_1_skips_stage_2_and_the_mark_makes_it_a_reboot() {
    let scripts = [
        ("1", "echo one; chmod 100 /run/runit.reboot; exit 100"),
        ("2", "echo two"),
        ("3", "echo three"),
    ];
    if let Some(seen) = both(&scripts) {
        assert!(!seen.console.contains("two"), "{}", seen.console);
        assert_eq!(seen.end, Some(REBOOTED));
    }
}

#[test]
fn stage_2_comes_again_after_111_and_its_group_is_killed() {
    let scripts = [
        ("1", "exit 1"),
        (
            "2",
            "[ -e /run/again ] && { kill -0 $(cat /run/again) || echo killed; exit 1; }
            sleep 1000 & echo $! >/run/again; exit 111",
        ),
        ("3", "true"),
    ];
    if let Some(seen) = both(&scripts) {
        assert!(seen.console.contains("killed"), "{}", seen.console);
        assert_eq!(seen.end, Some(POWERED_OFF));
    }
}

#[test]
fn a_stage_2_that_ignores_term_is_killed_and_signals_mean_nothing_outside_of_it() {
    let scripts = [
        (
            "1",
            "kill -CONT 1; until grep -q only /run/shown; do sleep 0.1; done",
        ),
        (
            "2",
            "trap '' TERM; kill -CONT 1; chmod 100 /run/runit.stopit; kill -CONT 1
            while :; do sleep 100; done",
        ),
        (
            "3",
            // runit may have a signal left over, and says so before this stage.
            "stat -c %a /run/runit.stopit
            until grep -q 'enter stage: /etc/runit/3' /run/shown; do sleep 0.1; done
            told=$(grep -c only /run/shown); kill -INT 1
            until [ $(grep -c only /run/shown) -gt $told ]; do sleep 0.1; done",
        ),
    ];
    if let Some(seen) = both(&scripts) {
        assert!(seen.console.contains("sending sigkill"), "{}", seen.console);
    }
}

#[test]
fn the_keys_run_ctrlaltdel_and_power_failure_needs_no_mark() {
    let scripts = [
        ("1", "true"),
        (
            "2",
            "kill -INT 1; until grep -q 'leave stage: /etc/runit/ctrlaltdel' /run/shown
            do sleep 0.1; done; kill -PWR 1; sleep 100",
        ),
        ("3", "echo three"),
        ("ctrlaltdel", "echo pressed"),
    ];
    both(&scripts);
}

#[test]
fn a_stage_2_killed_by_a_signal_has_crashed_and_comes_again() {
    if !can_unshare() {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let again = "[ -e /run/again ] && { echo again; exit 0; }; : >/run/again; kill -9 $$";
    write(dir.path(), &[("1", "true"), ("2", again), ("3", "true")]);
    let expected = [(Whose::Ours, true), (Whose::Runit, false)];
    for (whose, comes_again) in expected {
        let Some(programs) = programs(whose) else {
            return;
        };
        let seen = seen(&programs.join("runit"), dir.path());
        assert_eq!(
            seen.console.contains("\nagain\n"),
            comes_again,
            "{}",
            seen.console
        );
        assert_eq!(seen.end, Some(POWERED_OFF));
    }
}

/// What the console shows up to a line with this text, or to the end of all; and the signal that ended it.
fn shown_until(program: &Path, scripts: &Path, text: &str) -> (String, Option<i32>) {
    let mut child = Command::new("unshare")
        .args(["--pid", "--fork", "--mount", "--mount-proc", "--kill-child"])
        .args(["sh", "-c", SETTING, "sh"])
        .args([scripts, program])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare");
    let mut shown = String::new();
    for line in BufReader::new(child.stdout.take().expect("stdout")).lines() {
        let line = line.expect("text");
        shown.push_str(&line);
        shown.push('\n');
        if line.contains(text) {
            child.kill().expect("killed");
            break;
        }
    }
    (shown, child.wait().expect("ended").signal())
}

#[test]
fn quirk_12_a_stage_1_that_can_not_be_executed_is_no_stage_that_is_done() {
    if !can_unshare() {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    write(dir.path(), &[("1", "true"), ("2", "true"), ("3", "true")]);
    let closed = fs::Permissions::from_mode(0o644);
    fs::set_permissions(dir.path().join("1"), closed).expect("mode");
    let unable = "unable to start child: /etc/runit/1: access denied\n";
    let stopped = "the boot has stopped: /etc/runit/1 can't be executed";
    for (whose, end) in [(Whose::Ours, 9), (Whose::Runit, POWERED_OFF - 128)] {
        let Some(programs) = programs(whose) else {
            return;
        };
        let (shown, ended) = shown_until(&programs.join("runit"), dir.path(), stopped);
        assert!(shown.contains(unable), "{shown}");
        assert_eq!(shown.contains(stopped), whose == Whose::Ours, "{shown}");
        assert_eq!(ended, Some(end), "{shown}");
    }
}

/// Where a machine has upstream's marks, they count as Debian's do, and `init` sets both.
#[test]
fn the_marks_count_where_upstream_has_them_too() {
    if !can_unshare() {
        return;
    }
    let Some(programs) = programs(Whose::Ours) else {
        return;
    };
    let by_hand = "chmod 100 /etc/runit/stopit /etc/runit/reboot; kill -CONT 1".to_owned();
    let by_init = format!("{} 6", programs.join("runit-init").display());
    for (ask, of_debian) in [(by_hand, "0"), (by_init, "100")] {
        let dir = tempfile::tempdir().expect("directory");
        let two = format!(
            ": >/etc/runit/stopit; : >/etc/runit/reboot; chmod 0 /etc/runit/stopit /etc/runit/reboot
            {ask}; sleep 100"
        );
        let three = "stat -c '%n %a' /etc/runit/stopit /etc/runit/reboot /run/runit.reboot";
        write(dir.path(), &[("1", "true"), ("2", &two), ("3", three)]);
        let seen = seen(&programs.join("runit"), dir.path());
        let marks =
            format!("/etc/runit/stopit 0\n/etc/runit/reboot 100\n/run/runit.reboot {of_debian}\n");
        assert!(seen.console.contains(&marks), "{ask}: {}", seen.console);
        assert_eq!(seen.end, Some(REBOOTED), "{ask}: {}", seen.console);
    }
}
