//! The status line.

use super::{says, twin};

#[test]
fn what_is_normal_and_what_is_wanted() {
    let script = r#"
        service sv/a; supervise sv/a
        service sv/b; touch sv/b/down; supervise sv/b down
        tell sv status a b
        touch sv/a/down; rm sv/b/down; tell sv status a b
        rm sv/a/down; ln -s nowhere sv/a/down; tell sv status a; rm sv/a/down
        mkdir sv/a/down; tell sv status a; rmdir sv/a/down
        ln -s down sv/a/down; tell sv status a; tell sv -v up a; rm sv/a/down
        sv p a; is_now sv/a 'run, paused'; tell sv status a
        sv o a; is_now sv/a 'run, paused, want down'; tell sv status a
    "#;
    twin(script);
}

#[test]
fn got_term_is_told_while_it_holds() {
    let script = r#"
        service sv/a 'trap "echo caught" TERM; echo ready; while :; do sleep 0.05; done'
        supervise sv/a >out; until_ 'grep -q ready out'; sv d a; until_ 'grep -q caught out'
        is_now sv/a 'run, got TERM, want down'; tell sv status a; tell sv -w 0 d a; tell sv -w 1 stop a
        tell sv -w 0 force-stop a; is_now sv/a down; tell sv status a
    "#;
    twin(script);
}

#[test]
fn finish_has_a_line_of_its_own() {
    let script = r#"
        service sv/a 'exit 3'; script sv/a/finish 'exec sleep 1000'; supervise sv/a finish
        # It is announced without a process first.
        until_ '[ "$(od -An -tu4 -j12 -N4 sv/a/supervise/status)" -gt 0 ]'; tell sv status a; tell sv -w 0 start a; tell sv -w 0 stop a; tell sv -w 0 check a
        sv d a; is_now sv/a 'finish, want down'; tell sv status a
    "#;
    twin(script);
}

#[test]
fn the_log_service_is_on_the_same_line() {
    let script = r#"
        service sv/a; service sv/a/log 'exec cat >/dev/null'; supervise sv/a; is_now sv/a/log run
        tell sv status a; tell sv status a/log; tell sv -v up a; tell sv check a/log
        tell sv stop a; tell sv status a; next_second; tell sv restart a/log; tell sv d a/log; is_now sv/a/log down; tell sv status a
        touch sv/a/log/down; tell sv status a; rm sv/a/log/down; tell sv status a
        tell sv exit a/log; tell sv -v exit a; tell sv status a
    "#;
    if let Some(seen) = twin(script) {
        assert!(
            seen.stdout
                .starts_with("run: a: (pid N) Ns; run: log: (pid N) Ns\n=> 0\n")
        );
    }
}

#[test]
fn a_log_that_is_none_is_warned_of() {
    let script = r#"
        service sv/a; supervise sv/a
        : >sv/a/log; tell sv status a; rm sv/a/log
        ln -s nowhere sv/a/log; tell sv status a; rm sv/a/log; ln -s log sv/a/log; tell sv status a; rm sv/a/log
        mkdir -p sv/a/log/supervise; mkfifo sv/a/log/supervise/ok; tell sv status a
    "#;
    if let Some(seen) = twin(script) {
        assert!(
            seen.stdout
                .contains("; warning: a/log: unable to change directory: not a directory\n=> 1")
        );
        assert!(
            seen.stdout
                .contains("; fail: a/log: runsv not running\n=> 1")
        );
        assert!(!seen.stdout.contains("run: log"));
    }
}

#[test]
fn seconds_in_the_future_are_none() {
    let script = r#"
        service sv/a; supervise sv/a
        { printf '\100\0\0\0\377\0\0\0'; tail -c +9 sv/a/supervise/status; } >new; mv new sv/a/supervise/status
        sv status a | sed 's/ 0s/ zero/'
    "#;
    if let Some(seen) = twin(script) {
        says(&seen, "run: a: (pid N) zero");
    }
}
