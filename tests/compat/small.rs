//! utmpset, runsvchdir, runit-init and runit beside runit's. Where they write to fixed places they
//! do so in a mount namespace of their own, and signal a process 1 of their own.

use super::twin::{Seen, both, twin};
use nix::unistd::geteuid;
use std::process::Command;

fn namespaces() -> bool {
    let may = geteuid().is_root()
        && Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "true"])
            .status()
            .is_ok_and(|status| status.success());
    if !may {
        println!("skipped: needs root, and namespaces");
    }
    may
}

/// The script in namespaces of its own, with an empty /run and /var/log and no /etc/runit.
fn apart(script: &str) -> String {
    format!(
        "cat >script <<'END'
t() {{ printed=$(\"$@\" 2>&1); echo \"$* -> $?\"; printf '%s\\n' \"$printed\"; }}
mount -t tmpfs none /run && mount -t tmpfs none /var/log || exit 99
[ ! -d /etc/runit ] || mount -t tmpfs none /etc/runit || exit 99
{script}
END
unshare --mount --pid --fork sh script; code=$?; rm script; exit $code"
    )
}

fn twin_apart(script: &str) -> Seen {
    let seen = twin(&apart(script));
    assert_ne!(seen.code, Some(99), "{seen:?}");
    seen
}

/// Records of utmp(5) as x86-64 has them: type, line, user, host; the rest is filled with marks.
const RECORDS: &str = r#"
rec() { # TYPE LINE USER HOST
    printf "\\$1\\0\\0\\0\\11\\0\\0\\0"; pad 32 "$2"; pad 4 id; pad 32 "$3"; pad 256 "$4"
    printf '\1\0\2\0\3\0\0\0\350\3\0\0\320\7\0\0'; pad 16 address; pad 20 unused
}
pad() { printf %s "$2"; head -c $(($1 - ${#2})) /dev/zero; }
dump() { # the time of the log-out differs from run to run
    split -b 384 "$1" part.
    for part in part.*; do
        [ "$part" = 'part.*' ] || {
            head -c 340 $part | od -An -c; tail -c +345 $part | od -An -c
            seconds=$(tail -c +341 $part | head -c 4 | od -An -tu4); now=$(date +%s)
            [ $((now - seconds)) -lt 1000 ]; echo "$1 recent: $?"
        }
    done
    rm -f part.*
}
"#;

#[test]
fn utmpset_marks_the_first_login_on_exactly_that_line() {
    if !namespaces() || !cfg!(target_arch = "x86_64") {
        return;
    }
    let seen = twin_apart(&format!(
        r#"{RECORDS}
        t utmpset; t utmpset -w; t utmpset -x tty1; t utmpset tty1; t utmpset -w tty1
        {{ rec 7 tty1 '' ''; rec 7 tty10 bob host; rec 7 tty1 bob host; rec 7 tty1 ann host
           rec 7 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bob ''; printf short; }} >/run/utmp
        t utmpset nosuch; ls /var/log; t utmpset tty1; dump /run/utmp; ls /var/log
        t utmpset -w tty1; dump /run/utmp; dump /var/log/wtmp; stat -c %a /var/log/wtmp
        t utmpset -w tty1; t utmpset tty1 more; t utmpset ''
        for less in '' a aa; do
            line=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab; line=${{line#$less}}
            rec 7 $line bob '' | head -c 384 >/run/utmp; t utmpset -w $line; dump /var/log/wtmp
        done
        rec 7 tty9 bob '' >/run/utmp; rm /var/log/wtmp; mkdir /var/log/wtmp; t utmpset -w tty9
        rmdir /var/log/wtmp; rec 7 tty9 bob '' >/run/utmp; t utmpset -w -- tty9 && dump /run/utmp
        "#
    ));
    let none = "utmpset: warning: unable to logout line nosuch in utmp: no such entry";
    assert!(seen.stdout.contains(none), "{seen:?}");
}

#[test]
fn utmpset_prints_its_version_before_its_usage() {
    let (runit, ours) = both("utmpset -V; echo $?");
    assert_eq!(ours.stdout, "1\n");
    let rest = |text: &str| text.split_once('\n').expect("a line").1.to_owned();
    assert_eq!(rest(&ours.stderr), "usage: utmpset [-w] line\n\n");
    if let Some(runit) = runit {
        assert_eq!(
            (&runit.stdout, rest(&runit.stderr)),
            (&ours.stdout, rest(&ours.stderr))
        );
    }
}

#[test]
fn in_its_usage_each_names_itself_as_it_was_called_and_sv_and_chpst_by_the_last_part() {
    let seen = twin(
        r#"
        mkdir bin; for name in runsv runsvdir svlogd utmpset runsvchdir sv chpst; do
            ln -s "$(command -v $name)" bin/$name; ./bin/../bin/$name 2>&1 | sed "s/\[-C pwd\] //"; ./bin/../bin/$name 2>/dev/null; echo $?
        done
        "#,
    );
    let line = "usage: ./bin/../bin/runsv dir\n\n1\n";
    assert!(seen.stdout.starts_with(line), "{}", seen.stdout);
    assert!(seen.stdout.contains("\nusage: sv "), "{}", seen.stdout);
    assert!(seen.stdout.contains("\nusage: chpst "), "{}", seen.stdout);
}

#[test]
fn runsvchdir_switches_the_links_and_keeps_the_previous() {
    if !namespaces() || !std::path::Path::new("/etc/runit").is_dir() {
        return;
    }
    let seen = twin_apart(
        r#"
        links() { for link in current previous current.new; do
            echo $link $(readlink $link) $(stat -c %F $link 2>&1 | sed 's/.*: //'); done; }
        t runsvchdir; t runsvchdir a; t runsvchdir .a
        mkdir /etc/runit/runsvdir; cd /etc/runit/runsvdir; mkdir a b; touch file
        t runsvchdir a; ln -s a current
        for set in a b b a .a '' nosuch file /etc b/ -V -- "$PWD/a"; do
            t runsvchdir "$set"; links
        done
        t runsvchdir b more; links
        touch current.new; t runsvchdir a; links
        mkdir current.new; t runsvchdir b; links; rmdir current.new
        rm previous; mkdir previous; t runsvchdir b; links
        rmdir previous; rm -f current.new current; ln -s gone current; t runsvchdir b; links
        rm -f current; mkdir current; touch current/x; mkdir previous; t runsvchdir b; links
        runsvchdir a 2>/dev/null
        "#,
    );
    assert!(
        seen.stdout.contains("runsvchdir: b: now current."),
        "{seen:?}"
    );
    assert!(
        seen.stdout
            .contains("runsvchdir: fatal: filenot a directory."),
        "{seen:?}"
    );
}

#[test]
fn runit_init_leaves_runits_flags_and_wakes_process_1() {
    if !namespaces() {
        return;
    }
    let seen = twin_apart(
        r#"
        # Process 1 is this shell. The pid of whoever runs a `t` is in a subshell of it.
        flags() { for flag in /run/runit.stopit /run/runit.reboot; do
            stat -c '%n %a %s %F' $flag 2>&1 | sed "s/.*: No/No/"; done; }
        told=0; trap 'told=$((told + 1))' CONT
        cd /run; ln -s "$(command -v runit-init)" init
        t ./init; t ./init ''; t ./init 1; t ./init -x; flags
        t ./init 0; flags; t ./init 6; flags; chmod 777 /run/runit.*
        echo content >/run/runit.stopit; t ./init 0now; flags; t ./init 6; flags
        rm /run/runit.*; mkdir /run/runit.reboot; t ./init 6; flags; t ./init 0; flags
        rm -r /run/runit.*; mkdir /run/runit.stopit; t ./init 0; t ./init 6; flags
        rmdir /run/runit.stopit; mount -o remount,ro /run; t ./init 0; t ./init 6; flags
        echo told $told
        "#,
    );
    assert!(
        seen.stdout
            .contains("/run/runit.stopit 100 0 regular empty file")
    );
    assert!(seen.stdout.contains("told 5\n"), "{seen:?}");
}

#[test]
fn runit_init_as_process_1_becomes_runit() {
    if !namespaces() || !std::path::Path::new("/sbin/runit").exists() {
        return;
    }
    // In the place of /sbin/runit, whatever that is: a script that says how it was called.
    let seen = twin(
        "printf '#!/bin/sh\\necho I am $$, $#\\n' >instead; chmod +x instead
        init=$(command -v runit-init)
        unshare --mount --pid --fork sh -c \"
            mount --bind instead $(readlink -f /sbin/runit) && exec \\\"$init\\\" 6\"
        ",
    );
    assert_eq!(seen.stdout, "I am 1, 0\n", "{seen:?}");
}

#[test]
fn quirk_12_runit_init_stays_process_1_when_runit_can_not_be_executed() {
    if !namespaces() || !std::path::Path::new("/sbin/runit").exists() {
        return;
    }
    // What can't be executed lies over /sbin/runit, and process 1 is looked at from outside.
    let (runit, ours) = both(
        "init=$(command -v runit-init); : >instead; mkfifo told
        (unshare --mount --pid --fork --kill-child sh -c \"
            mount --bind instead $(readlink -f /sbin/runit) && exec \\\"$init\\\"
        \" </dev/null >said 2>&1; echo ended >told) & guard=$!
        (until grep -q 'enter stage' said; do sleep .05; done; echo stays >told) & looker=$!
        read what <told; echo $what; kill $looker; kill -9 $(pgrep -P $guard)
        rm -f told instead said",
    );
    assert_eq!(ours.stdout, "stays\n", "{ours:?}");
    if let Some(runit) = runit {
        assert_eq!(runit.stdout, "ended\n", "{runit:?}");
    }
}

#[test]
fn runit_refuses_to_be_any_other_process_than_the_first() {
    let seen = twin("runit; echo $?; runit -V; echo $?; runit x; echo $?");
    assert_eq!(seen.stdout, "111\n111\n111\n");
    let refusal = "- runit: fatal: must be run as process no 1.\n";
    assert_eq!(seen.stderr, refusal.repeat(3));
}

/// As runit prints its revision, so we print our version.
#[test]
fn runit_init_prints_its_version_before_its_usage() {
    let (runit, ours) = both("runit-init -V; echo $?");
    assert_eq!(ours.stdout, "0\n");
    let rest = |text: &str| text.split_once('\n').expect("a line").1.to_owned();
    assert!(rest(&ours.stderr).starts_with("\nusage: "), "{ours:?}");
    if let Some(runit) = runit.filter(|runit| runit.stdout != "127\n") {
        let last = |text: &str| rest(text).rsplit('/').next().map(str::to_owned);
        assert_eq!(last(&runit.stderr), last(&ours.stderr));
    }
}
