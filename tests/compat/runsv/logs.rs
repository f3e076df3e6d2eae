//! The log service: what goes to it, what it survives, and how it ends.

use super::super::twin::{both, twin};
use super::with;

#[test]
fn the_output_of_run_finish_and_control_scripts_goes_to_the_log() {
    let seen = twin(&with(
        r#"
        svc a 'echo run; exec sleep 1000'; script a/finish 'echo finish'; mkdir a/control
        for c in u t d x; do script a/control/$c "echo $c; exit 1"; done
        svc a/log 'pwd >where; exec cat >>out'
        runsv a & runsv=$!; runs a; cmd a d; stat_is a down; cmd a u; runs a; cmd a x; wait $runsv; echo $?
        cat a/log/out a/log/where a/log/supervise/stat
        "#,
    ));
    assert!(seen.stdout.starts_with("0\nu\nrun\n"), "{}", seen.stdout);
}

#[test]
fn no_line_is_lost_while_the_log_is_ended_and_started() {
    let seen = twin(&with(
        r#"
        svc a 'i=0; while [ $i -lt 300 ]; do i=$((i + 1)); echo $i; done; echo done >ready; exec sleep 1000'
        svc a/log 'while read x; do echo $x >>out; [ $x = 100 ] && kill -KILL $$; [ $x = 200 ] && exit 1; done'
        runsv a & runsv=$!; lines a/log/out 300; cmd a/log t; cmd a x; wait $runsv; echo $?
        seq 300 | cmp - a/log/out && echo all
        "#,
    ));
    assert_eq!(seen.stdout, "0\nall\n");
}

#[test]
fn at_exit_the_log_reads_its_end_and_is_not_signalled() {
    let seen = twin(&with(
        r#"
        svc a 'echo first; exec sleep 1000'
        svc a/log 'trap "echo term >>out" TERM; cat >>out; echo end >>out; read x <go; echo went >>out'
        mkfifo a/log/go
        runsv a & runsv=$!; lines a/log/out 1; runs a; cmd a x
        stat_is a/log 'run, want exit'; stat_is a down; lines a/log/out 2; kill -0 $runsv && echo waits
        echo >a/log/go; wait $runsv; echo $?; cat a/log/out a/log/supervise/stat
        "#,
    ));
    assert_eq!(seen.stdout, "waits\n0\nfirst\nend\nwent\ndown\n");
}

#[test]
fn the_log_takes_commands_of_its_own_but_not_x() {
    let seen = twin(&with(
        r#"
        svc a 'exec sleep 1000'; svc a/log 'exec cat >/dev/null'
        runsv a & runsv=$!; runs a; runs a/log
        cmd a/log x; cmd a/log p; stat_is a/log 'run, paused'; cmd a/log c; stat_is a/log run
        cmd a/log d; stat_is a/log down; cmd a/log u; runs a/log; cmd a x; wait $runsv; echo $?
        "#,
    ));
    assert_eq!(seen.stdout, "0\n");
}

#[test]
fn control_scripts_of_the_log_are_not_asked() {
    let seen = twin(&with(
        r#"
        svc a 'exec sleep 1000'; svc a/log 'echo >>starts; exec cat >/dev/null'; mkdir a/log/control
        for c in u t d k p; do script a/log/control/$c "echo $c >>$PWD/asked"; done
        runsv a & runsv=$!; runs a; lines a/log/starts 1; runs a/log; cmd a/log t; gone $pid; lines a/log/starts 2
        runs a/log; cmd a/log p; stat_is a/log 'run, paused'; cmd a/log c; stat_is a/log run
        cmd a/log d; stat_is a/log down; cmd a/log u; lines a/log/starts 3; runs a/log; cmd a/log k; gone $pid
        lines a/log/starts 4; cmd a x; wait $runsv; echo $?; cat asked 2>/dev/null
        "#,
    ));
    assert_eq!(seen.stdout, "0\n");
}

#[test]
fn a_log_without_run_is_told_with_its_place() {
    let seen = twin(&with(
        r#"
        svc a 'exec sleep 1000'; mkdir a/log; runsv a 2>err & lines err 1; runs a; cmd a x; wait $!; echo $?; sort -u err
        "#,
    ));
    assert_eq!(
        seen.stdout,
        "0\nrunsv a: fatal: unable to start log/./run: file does not exist\n"
    );
}

#[test]
fn quirk_9_a_log_added_later_is_taken_up() {
    let (runit, ours) = both(&with(
        r#"
        svc a 'echo out; exec sleep 1000'; runsv a & runsv=$!; runs a
        svc new 'exec cat >>out'; mv new a/log
        n=0; while [ $n -lt 60 ] && ! [ -s a/log/supervise/pid ]; do n=$((n + 1)); sleep .05; done
        if [ -s a/log/supervise/pid ]; then cmd a t; gone $pid; runs a; lines a/log/out 1; cat a/log/out
        else echo never; fi; cmd a x; wait $runsv
        "#,
    ));
    assert_eq!(ours.stdout, "out\nout\n");
    if let Some(runit) = runit {
        assert_eq!(runit.stdout, "out\nnever\n");
    }
}
