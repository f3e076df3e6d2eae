//! runsv, by scripts that write into `supervise/control` and read what is in `supervise/`.

mod control;
mod logs;
mod moments;
mod orphans;

use super::twin::{both, twin};

/// What the scripts share. Waiting is by looking again; what never comes ends the script.
pub const PRELUDE: &str = r#"
until_() {
    tries=0
    until eval "$1" 2>/dev/null; do
        tries=$((tries + 1))
        if [ $tries -gt 1000 ]; then echo "never: $1"; exit 9; fi
        sleep .03
    done
}
svc() { mkdir -p "$1"; printf '#!/bin/sh\n%s\n' "$2" >"$1/run.new"; chmod 755 "$1/run.new"; mv "$1/run.new" "$1/run"; }
script() { printf '#!/bin/sh\n%s\n' "$2" >"$1.new"; chmod 755 "$1.new"; mv "$1.new" "$1"; }
cmd() { until_ "[ -p $1/supervise/control ]"; printf %s "$2" >"$1/supervise/control"; }
stat_is() { until_ "[ \"\$(cat $1/supervise/stat)\" = \"$2\" ]"; }
runs() { until_ "[ \"\$(cat $1/supervise/stat)\" = run ] && [ -s $1/supervise/pid ]"; pid=$(cat $1/supervise/pid); }
status_is() { until_ "[ \"\$(od -An -tx1 -j16 $1/supervise/status | tr -d ' ')\" = $2 ]"; }
gone() { until_ "! kill -0 $1"; }
lines() { until_ "[ \"\$(wc -l <$1)\" -ge $2 ]"; }
"#;

pub fn with(script: &str) -> String {
    format!("{PRELUDE}\n{script}")
}

#[test]
fn arguments_and_directories_that_are_none() {
    let seen = twin(
        "runsv; echo $?; runsv a b 2>&1; echo $?; runsv none; echo $?; echo >file; runsv file; echo $?; runsv -V; echo $?",
    );
    assert_eq!(seen.stdout, "1\nusage: runsv dir\n\n1\n111\n111\n111\n");
    assert!(
        seen.stderr.starts_with("usage: runsv dir\n\n"),
        "{}",
        seen.stderr
    );
}

#[test]
fn files_their_modes_and_their_content_while_it_runs_and_after_it() {
    let seen = twin(&with(
        r#"
        svc a 'exec sleep 1000'
        runsv a & runsv=$!
        runs a
        stat -c '%n %a %F' a/supervise/control a/supervise/lock a/supervise/ok a/supervise/p* a/supervise/s* a/supervise
        cat a/supervise/stat
        status_is a 00750001
        set -- $(od -An -tu4 -j12 -N4 a/supervise/status); [ $1 = $pid ] && echo same
        set -- $(od -An -tu8 --endian=big -N8 a/supervise/status); now=$(date +%s)
        [ $((now - ($1 - 4611686018427387914))) -lt 100 ] && echo now
        od -An -tx1 -N1 a/supervise/status
        cat /proc/$runsv/comm; tr '\0' ' ' </proc/$runsv/cmdline; echo
        cmd a x; wait $runsv; echo $?
        cat a/supervise/stat a/supervise/pid; od -An -tx1 -j12 a/supervise/status
        "#,
    ));
    assert!(seen.stdout.contains("same\nnow\n"), "{}", seen.stdout);
    assert_eq!(seen.files["a/supervise/lock"], "-0600");
}

#[test]
fn term_is_an_order_to_exit_and_its_code_is_0() {
    let seen = twin(&with(
        "svc a 'exec sleep 1000'; runsv a & runs a; kill -TERM $!; wait $!; echo $?; gone $pid",
    ));
    assert_eq!(seen.stdout, "0\n");
}

#[test]
fn a_second_runsv_is_refused_and_changes_nothing() {
    let seen = twin(&with(
        r#"
        svc a 'exec sleep 1000'
        runsv a & runs a; cksum <a/supervise/status >before
        runsv a; echo $?
        cksum <a/supervise/status | cmp - before && echo same
        cmd a x; wait
        "#,
    ));
    assert_eq!(seen.stdout, "111\nsame\n");
    assert!(
        seen.stderr
            .contains("unable to lock supervise/lock: temporary failure")
    );
}

#[test]
fn what_can_not_be_supervised_is_fatal() {
    let seen = twin(&with(
        r#"
        svc a 'exec sleep 1000'
        mkdir a/supervise; echo >a/supervise/control; runsv a; echo $?; rm -r a/supervise
        echo >a/supervise; runsv a; echo $?; rm a/supervise
        ln -s $PWD/x/y a/supervise; runsv a; echo $?; rm a/supervise
        mkdir a/log; ln -s $PWD/x/y a/log/supervise; runsv a; echo $?; rm a/log/supervise
        rm -r a/supervise a/log; mkdir a/supervise; mkdir a/supervise/lock; runsv a; echo $?
        "#,
    ));
    assert_eq!(seen.stdout, "111\n".repeat(5));
}

#[test]
fn a_supervise_that_is_a_link_to_nowhere_gets_its_target() {
    let seen = twin(&with(
        r#"
        svc a 'exec sleep 1000'; svc a/log 'exec cat >/dev/null'
        mkdir run; ln -s $PWD/run/a a/supervise; ln -s ../../run/log a/log/supervise
        runsv a & runs a; cmd a x; wait; ls run
        "#,
    ));
    assert_eq!(seen.stdout, "a\nlog\n");
    assert_eq!(seen.files["run/a"], "d0700");
}

#[test]
fn finish_is_told_how_run_ended() {
    let seen = twin(&with(
        r#"
        svc a 'read x <next; [ $x = kill ] && kill -KILL $$; exit $x'
        script a/finish 'echo "$# $1 $2" >>told'
        mkfifo a/next
        runsv a & runsv=$!
        n=0; for x in 3 0 kill 111; do echo $x >a/next; n=$((n + 1)); lines a/told $n; done
        runs a; chmod -x a/run; cmd a t; lines a/told 6; chmod +x a/run
        cmd a d; stat_is a down; cmd a x; wait $runsv; head -n 6 a/told
        "#,
    ));
    assert!(
        seen.stdout
            .starts_with("2 3 0\n2 0 0\n2 -1 9\n2 111 0\n2 -1 15\n2 111 0\n"),
        "{}",
        seen.stdout
    );
}

#[test]
fn a_finish_that_can_not_run_still_is_one() {
    let seen = twin(&with(
        r#"
        svc a 'echo >>ran; exit 1'; mkdir a/finish
        runsv a 2>err & lines a/ran 2; cmd a d; stat_is a down; cmd a x; wait $!; echo $?
        sort -u err
        "#,
    ));
    assert!(
        seen.stdout
            .contains("unable to start ./finish: access denied"),
        "{}",
        seen.stdout
    );
}

#[test]
fn a_run_that_can_not_be_started_is_told_each_time() {
    let seen = twin(&with(
        r#"
        mkdir a; runsv a 2>err & runsv=$!
        lines err 2; cmd a x; wait $runsv; sort -u err; rm err
        mkdir a/run; runsv a 2>err & runsv=$!
        lines err 1; cmd a x; wait $runsv; sort -u err; rm -r err a/run
        echo '#!/none' >a/run; chmod +x a/run; runsv a 2>err & runsv=$!
        lines err 1; cmd a x; wait $runsv; sort -u err
        echo 'no script' >a/run; runsv a 2>err & runsv=$!
        lines err 1; cmd a x; wait $runsv; echo $?
        "#,
    ));
    assert!(
        seen.stdout
            .starts_with("runsv a: fatal: unable to start ./run: file does not exist\n"),
        "{}",
        seen.stdout
    );
}

#[test]
fn between_two_starts_lies_a_second_at_least() {
    let seen = twin(&with(
        r#"
        svc a 'date +%s%N >>starts'
        runsv a & lines a/starts 4; cmd a x; wait
        before=0; while read now; do
            [ $before = 0 ] || [ $((now - before)) -ge 1000000000 ] || echo too soon
            before=$now
        done <a/starts; echo checked
        "#,
    ));
    assert_eq!(seen.stdout, "checked\n");
}

#[test]
fn a_down_file_keeps_it_down_until_it_is_asked_for() {
    let seen = twin(&with(
        r#"
        svc a 'exec sleep 1000'; svc a/log 'exec cat >/dev/null'; mkdir a/down; ln -s none a/log/down
        runsv a & runsv=$!; stat_is a/log run; stat_is a down; status_is a 00640000
        cmd a u; runs a; cmd a x; wait $runsv; echo $?
        rm -rf a/down a/log/down a/supervise/down; ln -s none a/down; echo >a/log/down
        runsv a & runsv=$!; runs a; stat_is a/log down; cmd a x; wait $runsv; echo $?
        rm -f a/log/supervise/down a/supervise/down
        "#,
    ));
    assert_eq!(seen.stdout, "0\n0\n");
}

#[test]
fn its_session_its_group_its_descriptors_and_its_environment_are_runsvs() {
    let seen = twin(&with(
        r#"
        svc a 'ps -o sid=,pgid= -p $$ >ids; pwd >where; echo "$FOO $#" >said; cat >read; ls /proc/$$/fd >fds; echo out; echo err >&2; exec sleep 1000'
        (echo from stdin | FOO=bar exec runsv a) >out & until_ '[ -s a/fds ]'
        runs a; ps -o sid=,pgid= -p $$ >ids; cmp ids a/ids && echo same
        tail -n 9 out a/where a/said a/read a/fds; cmd a x; wait
        "#,
    ));
    assert!(seen.stdout.contains("same\n==> out"), "{}", seen.stdout);
    assert!(seen.stderr.contains("err"), "{}", seen.stderr);
}

#[test]
fn what_was_ignored_stays_ignored_and_the_rest_does_not() {
    let seen = twin(&with(
        r#"
        svc a 'exec sleep 1000'
        (trap "" HUP USR2; exec runsv a) & runs a
        grep -E 'Sig(Blk|Ign|Cgt)' /proc/$pid/status; cmd a x; wait
        "#,
    ));
    assert!(
        seen.stdout.contains("SigCgt:\t0000000000000000"),
        "{}",
        seen.stdout
    );
}

#[test]
fn a_directory_that_is_renamed_or_deleted_under_it() {
    let seen = twin(&with(
        r#"
        svc a 'exec sleep 1000'; runsv a 2>/dev/null & runsv=$!; runs a
        mv a b; cmd b t; gone $pid; runs b; echo renamed
        rm -r b; kill -TERM $runsv; wait $runsv; echo $?; gone $pid
        "#,
    ));
    assert_eq!(seen.stdout, "renamed\n0\n");
}

#[test]
fn a_log_that_is_no_directory_is_told_and_not_used() {
    let seen = twin(&with(
        "svc a 'exec sleep 1000'; echo >a/log; runsv a & runs a; cmd a x; wait $!; echo $?",
    ));
    assert_eq!(seen.stderr, "runsv a: warning: ./log: not a directory.\n");
}

#[test]
fn quirk_8_supervise_mirrors_the_down_file() {
    let (runit, ours) = both(&with(
        r#"
        svc a 'exec sleep 1000'; echo >a/down; runsv a & stat_is a down; until_ '[ -p a/supervise/ok ]'
        cmd a u; runs a; [ -e a/supervise/down ] && echo there
        if rm a/down; then cmd a t; gone $pid; runs a; [ -e a/supervise/down ] || echo gone; fi
        cmd a x; wait
        "#,
    ));
    assert_eq!(ours.stdout, "there\ngone\n");
    if let Some(runit) = runit {
        assert_eq!(runit.stdout, "gone\n");
    }
}
