//! sv called by the service itself, from its run, finish, check and control scripts.

use super::twin;

#[test]
fn a_run_that_has_nothing_to_do_takes_itself_down() {
    let script = r#"
        # The order ends it while it still runs, but for what ignores TERM.
        service sv/a 'trap "" TERM; sv d . || echo bad; echo once >>runs; exit 0'; script sv/a/finish 'echo "$@" >>finished'
        service sv/b 'sv stop . >said; echo "$?" >>said'; service sv/c 'exec sv down c'
        # An order that is read only after the end is an order to start once more.
        service sv/d 'echo once >>runs; sv once d; until grep -q "want down" supervise/stat; do sleep .02; done; exit 1'
        for s in a b c d; do runsv sv/$s & done
        for s in a b c d; do until_ 'rests sv/$s'; tell sv status $s; done
        sort -u sv/a/runs sv/a/finished sv/d/runs
    "#;
    twin(script);
}

#[test]
fn a_run_waits_for_the_services_that_it_needs() {
    let script = r#"
        service sv/db; script sv/db/check 'test -e ready'
        service sv/web 'sv check db >/dev/null 2>&1 || exit 1; sv start db >said || exit 170; sv up db; exec sleep 1000'
        supervise sv/db; runsv sv/web & touch sv/db/ready; is_now sv/web run; until_ 'test -s sv/web/said'; cat sv/web/said
        tell sv check db web
    "#;
    twin(script);
}

#[test]
fn a_finish_takes_the_service_down() {
    let script = r#"
        service sv/a 'exit 162'; script sv/a/finish 'sv d a; echo "$@ $?" >>said'; runsv sv/a &
        until_ 'rests sv/a'; until_ 'test -s sv/a/said'; tell sv check a; tell sv status a; cat sv/a/said
    "#;
    twin(script);
}

#[test]
fn a_control_script_may_call_sv() {
    let script = r#"
        service sv/a 'trap "echo INT >>signals; exit 0" INT; echo ready >>signals; while :; do sleep 1000 & wait; done'
        mkdir sv/a/control; script sv/a/control/t 'sv int a; exit 0'; script sv/a/control/h 'sv status . >said; sv 1 a; exit 0'
        supervise sv/a; until_ 'grep -q ready sv/a/signals'; next_second
        tell sv restart a; until_ '[ $(grep -c ready sv/a/signals) = 2 ]'; cat sv/a/signals
        tell sv hup a; until_ 'test -s sv/a/said'; cat sv/a/said; until_ '[ $(grep -c ready sv/a/signals) = 3 ]'
    "#;
    twin(script);
}

#[test]
fn a_restart_from_within_reaches_the_next_run() {
    let script = r#"
        service sv/a 'if test -e again; then exec sleep 1000; fi; sleep 1.1; touch again; sv restart . >/dev/null; echo never >>said'
        supervise sv/a; until_ 'test -e sv/a/again'; until_ 'grep -q sleep /proc/$(cat sv/a/supervise/pid)/comm 2>/dev/null'
        is_now sv/a run; tell sv check a; tell test -e sv/a/said
    "#;
    twin(script);
}
