//! How long sv waits, for what, and what it says when it was in vain.

use super::{both, says, twin};

#[test]
fn nobody_running_is_told_at_once() {
    let script = r#"
        service sv/a; tell sv status a; tell sv start a; tell sv exit a
        supervise sv/a; pid=$!; kill -9 $pid; until_ '! alive sv/a'
        tell sv status a; tell sv start a; tell sv stop a; tell sv restart a; tell sv check a; tell sv t a
        tell sv exit a; tell sv shutdown a; tell sv force-shutdown a; tell sv -v x a
    "#;
    twin(script);
}

#[test]
fn a_timeout_counts_and_force_kills() {
    let script = r#"
        service sv/a 'trap "" TERM; echo ready; while :; do sleep 0.05; done'
        service sv/b; supervise sv/a >out; supervise sv/b; until_ 'grep -q ready out'
        tell sv -w 1 stop a b; tell sv -w 1 restart a; tell sv -w 1 try-restart a; tell sv -w 1 shutdown a
        sv u a; is_now sv/a 'run, got TERM'; tell sv -w 1 force-reload a
        until_ '[ $(grep -c ready out) = 2 ]'; is_now sv/a run; tell sv status a
        tell sv -w 1 force-stop a; is_now sv/a down; tell sv status a; tell sv -w 1 force-shutdown a
    "#;
    twin(script);
}

#[test]
fn svwait_and_w_are_read_as_prefixes() {
    let script = r#"
        service sv/a 'trap "" TERM; echo ready; while :; do sleep 0.05; done'
        supervise sv/a >out; until_ 'grep -q ready out'
        for wait in 0 '' -1 junk 0x9 ' 5' +3 1junk; do tell env SVWAIT="$wait" sv stop a; tell sv -w "$wait" stop a; done
        tell env SVWAIT=999 sv -w 1 stop a
        tell env SVWAIT=18446744073709551616 sv stop a; tell sv -w 18446744073709551617 stop a
        # It looks once and at once: runsv may have heard of it by then, or not.
        tell env SVWAIT=5 sv -w 99999999999999999999999999 up a | sed 's/, want down//'
    "#;
    twin(script);
}

#[test]
fn seven_seconds_are_waited_for_by_default() {
    let script = r#"
        service sv/a 'trap "" TERM; echo ready; while :; do sleep 0.05; done'
        supervise sv/a >out; until_ 'grep -q ready out'
        begin=$(date +%s); tell sv stop a; [ $(($(date +%s) - begin)) -ge 7 ] && echo waited
    "#;
    if let Some(seen) = twin(script) {
        says(
            &seen,
            "timeout: run: a: (pid N) Ns, want down, got TERM\n=> 1\nwaited",
        );
    }
}

#[test]
fn a_check_decides_whether_it_is_up() {
    let script = r#"
        service sv/a; script sv/a/check 'test -e good'; supervise sv/a; next_second
        tell sv -w 1 start a; tell sv -w 1 check a; tell sv -w 1 restart a; tell sv -w 1 once a; tell sv -w 1 t a; tell sv -w 1 k a
        tell sv -w 1 up a
        # Good only after the first look.
        script sv/a/check 'test -e good || touch looked; test -e good'; rm -f sv/a/looked
        { until_ 'test -e sv/a/looked'; touch sv/a/good; } &
        tell sv -w 60 start a; tell sv check a; next_second; tell sv restart a; rm sv/a/good
        tell sv stop a; tell sv check a; tell sv status a
    "#;
    twin(script);
}

#[test]
fn a_check_runs_in_the_service_without_stdout_and_its_code_counts() {
    let script = r#"
        service sv/a; supervise sv/a
        script sv/a/check 'pwd >../../where; echo "$0 $#" >&2; [ -e /proc/self/fd/1 ] || echo closed >&2; exit 0'
        echo input | tell sv check a; cat where; cp where sv/a; tell sv check a >&-
        script sv/a/check 'exit 1'; tell sv -w 0 check a; script sv/a/check 'exit 100'; tell sv -w 0 check a
        printf '#!/bin/sh\nexit 256\n' >sv/a/check; tell sv -w 0 check a
        rm sv/a/check; ln -s nowhere sv/a/check; tell sv check a
        script sv/a/check 'exit 0'; env --ignore-signal=CHLD sv -w 1 check a 2>err; echo "=> $?"; sort -u err
    "#;
    twin(script);
}

#[test]
fn a_check_that_is_a_loop_of_links_has_not_passed() {
    let script = r#"
        service sv/a; supervise sv/a; ln -s check sv/a/check
        sv -w 1 check a 2>err; echo "=> $?"; sort -u err
    "#;
    twin(script);
}

#[test]
fn what_is_wanted_already_is_not_sent() {
    let script = r#"
        service sv/a; supervise sv/a; pid=$!; next_second
        # A stopped runsv reads nothing: what was sent can be counted.
        kill -STOP $pid
        sv u a; sv -w 0 start a; sv d a; sv up a; sv t a; sv -w 0 restart a; sv -w 0 stop a
        exec 5<>sv/a/supervise/control; timeout 1 cat <&5; echo
        kill -CONT $pid
    "#;
    twin(script);
}

#[test]
fn forty_at_once_on_one_service_all_get_an_answer() {
    let script = r#"
        service sv/a; supervise sv/a; next_second; next_second
        for i in $(seq 40); do
            case $((i % 4)) in
                0) sv -w 60 restart a ;; 1) sv -w 60 check a ;; 2) sv status a ;; 3) sv -w 60 reload a ;;
            esac >out.$i 2>&1 && touch good.$i &
            pids="$pids $!"
        done
        for pid in $pids; do wait $pid || echo bad; done
        ls good.* | wc -l; is_now sv/a run; cat out.* | grep -cE '^(ok: )?(run|down): a: '
    "#;
    if let Some(seen) = twin(script) {
        says(&seen, "40\n40");
    }
}

#[test]
fn a_runsv_that_dies_meanwhile_is_told() {
    let script = r#"
        for word in stop restart shutdown; do
            service sv/$word 'trap "" TERM; echo ready; while :; do sleep 0.05; done'
            supervise sv/$word >out.$word; runsv=$!; until_ 'grep -q ready out.$word'; next_second
            { sv -w 60 $word $word >said; echo "=> $?" >>said; } &
            waiting=$!; until_ 'grep -q TERM sv/$word/supervise/stat'; until_ '[ "$(od -An -tx1 -j18 -N1 sv/$word/supervise/status)" = " 01" ]'
            kill -9 $runsv; wait $waiting; cat said
        done 2>/dev/null
    "#;
    twin(script);
}

#[test]
fn a_signal_ends_the_wait_and_the_order_stands() {
    let script = r#"
        service sv/a 'trap "" TERM; echo ready; while :; do sleep 0.05; done'
        supervise sv/a >out; until_ 'grep -q ready out'
        for signal in TERM HUP ALRM USR1; do
            sv -w 100 stop a & waiting=$!; is_now sv/a 'run, got TERM, want down'; kill -$signal $waiting; wait $waiting 2>/dev/null; echo "$signal $?"
        done
        sv -w 2 stop a >said & waiting=$!; kill -STOP $waiting; kill -CONT $waiting; kill -CHLD $waiting; kill -WINCH $waiting
        wait $waiting; echo "=> $?"; cat said
    "#;
    twin(script);
}

#[test]
fn a_reader_that_goes_ends_it_as_it_ends_others() {
    let script = r#"
        service sv/a; supervise sv/a
        { until_ 'test -e closed'; sv status a a; echo $? >code; } | { exec <&-; touch closed; until_ 'test -s code'; }; cat code
        sv status a >/dev/full; echo $?; sv status a >&-; echo $?; sv -v up a >&- 2>&-; echo $?
    "#;
    twin(script);
}

/// runit's looks at once, when nothing has happened yet, and then after 420 ms. Ours has tries enough
/// to be quicker once, however busy the machine is.
#[test]
fn a_restart_is_answered_when_the_new_process_runs() {
    let script = r#"
        service sv/a; supervise sv/a; next_second; next_second; quick=none slow=none
        for i in $(seq 25); do
            before=$(cat sv/a/supervise/pid); begin=$(date +%s%N); sv restart a >/dev/null || echo bad; took=$(($(date +%s%N) - begin))
            [ "$before" != "$(cat sv/a/supervise/pid)" ] || echo same
            if [ $took -lt 400000000 ]; then quick=some; else slow=some; fi
            case $WHOSE$quick$slow in ourssome* | runit*some) break ;; esac
            next_second; next_second
        done
        echo $quick $slow
    "#;
    let script = format!("{}{script}", super::quirks::WHOSE);
    let Some((theirs, ours)) = both(&script) else {
        return;
    };
    assert!(ours.stdout.starts_with("some "), "{ours:#?}");
    assert!(theirs.stdout.ends_with(" some\n"), "{theirs:#?}");
}
