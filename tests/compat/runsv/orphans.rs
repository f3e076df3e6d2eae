//! What becomes of a service whose runsv was killed.

use super::super::twin::{Whose, both, programs, run};
/// With `fell`: runsv is killed and is no more, nor is the supervisor that ours has, so that what is
/// written into `control` from here on is for the next one.
fn with(script: &str) -> String {
    const FELL: &str = r#"
    fell() {
        left=$(ps -o pid=,comm= --ppid $1 | awk '$2 ~ /^outlast-/ { print $1 }')
        kill -KILL $1; wait $1; for each in $left; do gone $each; done
    }
    "#;
    super::with(&format!("{FELL}{script}"))
}

#[test]
fn quirk_10_a_service_that_is_still_alive_is_taken_over() {
    let (runit, ours) = both(&with(
        r#"
        svc a 'echo $$ >>../pids; exec sleep 1000'
        runsv a 2>/dev/null & runsv=$!; runs a; status_is a 00750001; fell $runsv
        runsv a 2>/dev/null & runsv=$!; until_ '[ -s a/supervise/pid ] && ! cmp a/supervise/pid none'
        n=0; while [ $n -lt 40 ] && [ $(wc -l <pids) -lt 2 ]; do n=$((n + 1)); sleep .05; done
        wc -l <pids; alive=0; for p in $(cat pids); do kill -0 $p && alive=$((alive + 1)); done; echo $alive alive
        cmd a x; wait $runsv; echo $?; for p in $(cat pids); do kill -KILL $p; done 2>/dev/null
        "#,
    ));
    assert_eq!(ours.stdout, "1\n1 alive\n0\n");
    if let Some(runit) = runit {
        assert_eq!(runit.stdout, "2\n2 alive\n0\n");
    }
}

fn ours(script: &str) -> String {
    let seen = run(&with(script), programs(Whose::Ours).expect("links"));
    assert_eq!(seen.code, Some(0), "{}{}", seen.stdout, seen.stderr);
    seen.stdout
}

#[test]
fn what_was_taken_over_obeys_its_end_is_seen_and_its_log_goes_on() {
    let said = ours(
        r#"
        svc a 'i=0; while :; do i=$((i + 1)); echo $i; sleep .05; done'; svc a/log 'while read x; do echo $x >>out; if [ -e stop ]; then rm stop; exit; fi; done'
        script a/finish 'echo "$1 $2" >>../ends'
        runsv a 2>/dev/null & runsv=$!; runs a; lines a/log/out 3; fell $runsv
        runsv a 2>/dev/null & runsv=$!; until_ '[ -p a/supervise/ok ] && grep -q run a/supervise/stat'
        log=$(cat a/log/supervise/pid); echo >a/log/stop; gone $log
        n=$(wc -l <a/log/out); lines a/log/out $((n + 5))
        cmd a p; stat_is a 'run, paused'; cmd a c; stat_is a run; [ $(cat a/supervise/pid) = $pid ] && echo same
        cmd a d; gone $pid; stat_is a down; cat ends; cmd a x; wait $runsv; echo $?
        seq $(wc -l <a/log/out) | cmp - a/log/out && echo all lines
        [ -e a/supervise/outlast ] || echo clean
        "#,
    );
    let lines: Vec<&str> = said.lines().collect();
    // How it ended only its parent could have seen.
    assert_eq!(lines, ["same", "-1 0", "0", "all lines", "clean"]);
}

#[test]
fn what_was_wanted_of_it_is_not_forgotten_but_an_exit_is() {
    let said = ours(
        r#"
        svc a 'trap "" TERM; echo >>ready; while :; do sleep .1; done'; echo >a/down
        runsv a 2>/dev/null & runsv=$!; cmd a o; lines a/ready 1; stat_is a 'run, want down'
        fell $runsv
        runsv a 2>/dev/null & runsv=$!; until_ '[ -p a/supervise/ok ]'; cmd a p
        stat_is a 'run, paused, want down'; cmd a cx; stat_is a 'run, got TERM, want exit'
        fell $runsv
        runsv a 2>/dev/null & runsv=$!; cmd a p; stat_is a 'run, paused, got TERM'
        kill -KILL $(cat a/supervise/pid); lines a/ready 2; cmd a dk; stat_is a down; cmd a x; wait $runsv; echo $?
        "#,
    );
    assert_eq!(said, "0\n");
}

#[test]
fn a_number_that_means_another_process_is_not_taken_for_it() {
    let said = ours(
        r#"
        svc a 'echo $$ >>../pids; exec sleep 1000'
        runsv a 2>/dev/null & runsv=$!; runs a; until_ '[ -s a/supervise/outlast ]'; fell $runsv
        until_ '! printf c 1<>a/supervise/ok >a/supervise/none/x'
        sed "s/\"started\":[0-9]*/\"started\":1/" <a/supervise/outlast >forged
        (umask 077; cat forged >a/supervise/outlast)
        runsv a 2>/dev/null & runsv=$!; lines pids 2; kill $pid; cmd a x; wait $runsv; echo $?
        "#,
    );
    assert_eq!(said, "0\n");
}

#[test]
fn a_killed_supervisor_is_replaced_and_the_service_does_not_notice() {
    let said = ours(
        r#"
        svc a 'exec sleep 1000'; svc a/log 'exec cat >/dev/null'
        runsv a 2>/dev/null & runsv=$!; runs a/log; log=$pid; runs a
        super=$(ps -o pid=,comm= --ppid $runsv | awk '/outlast-super/ { print $1 }'); kill -KILL $super
        until_ "ps -o comm= --ppid $runsv | grep -q outlast-super"
        cmd a p; stat_is a 'run, paused'; cmd a c; stat_is a run
        [ "$pid $log" = "$(cat a/supervise/pid) $(cat a/log/supervise/pid)" ] && echo same
        cmd a t; gone $pid; runs a; cmd a x; wait $runsv; echo $?
        "#,
    );
    assert_eq!(said, "same\n0\n");
}
