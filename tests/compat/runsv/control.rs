//! Commands, the signals that they become, and the scripts that are asked before.

use super::super::twin::{both, twin};
use super::with;

#[test]
fn stat_tells_each_state() {
    let seen = twin(&with(
        r#"
        svc a 'trap "" TERM; echo >ready; while :; do sleep 1; done'; script a/finish 'read x <go'; mkfifo a/go
        runsv a & runsv=$!
        until_ '[ -e a/ready ]'; stat_is a run; status_is a 00750001
        cmd a p; stat_is a 'run, paused'; status_is a 01750001
        cmd a t; stat_is a 'run, paused, got TERM'; status_is a 01750101
        cmd a c; stat_is a 'run, got TERM'
        cmd a d; stat_is a 'run, got TERM, want down'; status_is a 00640101
        cmd a u; stat_is a 'run, got TERM'
        cmd a x; stat_is a 'run, got TERM, want exit'; status_is a 00640101
        cmd a o; stat_is a 'run, got TERM, want down'
        cmd a u; stat_is a 'run, got TERM'
        cmd a p; stat_is a 'run, paused, got TERM'
        kill -KILL $(cat a/supervise/pid)
        stat_is a finish; status_is a 00750002
        cmd a d; stat_is a 'finish, want down'; status_is a 00640002
        echo >a/go; stat_is a down; status_is a 00640000; cmd a p; stat_is a 'down, paused'; cmd a u; runs a
        cmd a x; kill -KILL $pid; echo >a/go; wait $runsv; echo $?; cat a/supervise/stat
        "#,
    ));
    assert_eq!(seen.stdout, "0\ndown\n");
}

#[test]
fn each_letter_is_its_signal_and_other_bytes_are_nothing() {
    let seen = twin(&with(
        r#"
        svc a 'for s in HUP ALRM USR1 USR2 INT QUIT TERM; do trap "echo $s >>caught" $s; done; echo >>caught; while :; do sleep .05; done'
        runsv a & runsv=$!; runs a; lines a/caught 1; n=1
        for c in h a 1 2 t; do n=$((n + 1)); cmd a $c; lines a/caught $n; done
        cmd a 'zZ9- '; cmd a h; lines a/caught 7; cat a/caught
        cmd a i; cmd a q; cmd a h; lines a/caught 8; sed -n '8,$p' a/caught | sort
        kill -0 $pid && echo alive; cmd a k; gone $pid; runs a; cmd a dk; stat_is a down; cmd a x; wait $runsv; echo $?
        "#,
    ));
    assert!(
        seen.stdout
            .starts_with("\nHUP\nALRM\nUSR1\nUSR2\nTERM\nHUP\n"),
        "{}",
        seen.stdout
    );
}

#[test]
fn a_signal_goes_to_the_process_and_not_to_its_group() {
    let seen = twin(&with(
        r#"
        svc a 'sleep 1000 & echo $! >child; exec sleep 1001'; script a/finish 'kill -0 $(cat child) && echo lives; exit 0'
        runsv a & runsv=$!; until_ '[ -s a/child ]'; runs a; child=$(cat a/child); cmd a d; gone $pid; stat_is a down
        kill $child; cmd a x; wait $runsv; echo $?
        "#,
    ));
    assert_eq!(seen.stdout, "lives\n0\n");
}

#[test]
fn once_runs_once_and_up_again_makes_it_stay() {
    let seen = twin(&with(
        r#"
        svc a 'echo >>starts; read x <go'; mkfifo a/go
        runsv a & runsv=$!; lines a/starts 1; cmd a o; stat_is a 'run, want down'; echo >a/go
        stat_is a down; cmd a o; lines a/starts 2; stat_is a 'run, want down'; cmd a u; stat_is a run
        echo >a/go; lines a/starts 3; cmd a x; wait $runsv; echo $?
        "#,
    ));
    assert_eq!(seen.stdout, "0\n");
}

#[test]
fn control_scripts_are_asked_in_runits_order() {
    let seen = twin(&with(
        r#"
        svc a 'trap "" USR1 USR2; echo >>starts; exec sleep 1000'; mkdir a/control
        for c in u o d x t h a i q 1 2 p c k; do script a/control/$c "echo $c >>asked; exit 1"; done
        runsv a & runsv=$!; runs a; n=1
        for c in 1 2 p c; do cmd a $c; n=$((n + 1)); lines a/asked $n; done
        cmd a t; gone $pid; runs a; cmd a d; stat_is a down; lines a/asked 9
        cmd a u; runs a; cmd a x; wait $runsv; echo $?; tr '\n' ' ' <a/asked
        "#,
    ));
    assert_eq!(seen.stdout, "0\nu 1 2 p c t u t d u t x ");
}

#[test]
fn a_control_script_that_succeeds_has_done_the_work() {
    let seen = twin(&with(
        r#"
        svc a 'exec sleep 1000'; mkdir a/control
        script a/control/t 'echo t >>asked'; script a/control/p 'echo p >>asked'
        script a/control/h 'kill -KILL $$'; script a/control/x 'echo x >>asked'
        runsv a & runsv=$!; runs a
        cmd a t; lines a/asked 1; cmd a p; stat_is a 'run, paused'; cmd a h; cmd a t; lines a/asked 3
        cut -d' ' -f3 /proc/$pid/stat; cat a/supervise/stat
        cmd a x; lines a/asked 5; kill -TERM $pid; wait $runsv; echo $?; cat a/asked
        "#,
    ));
    assert_eq!(seen.stdout, "S\nrun, paused\n0\nt\np\nt\nt\nx\n");
}

#[test]
fn a_control_script_that_can_not_run_lets_the_signal_out() {
    let seen = twin(&with(
        r#"
        svc a 'exec sleep 1000'; mkdir a/control
        runsv a & runsv=$!; runs a
        echo '#!/none' >a/control/t; chmod +x a/control/t; cmd a t; gone $pid; runs a
        chmod -x a/control/t; cmd a t; gone $pid; runs a; cmd a x; wait $runsv; echo $?
        "#,
    ));
    assert_eq!(seen.stdout, "0\n");
}

#[test]
fn quirk_5_commands_are_taken_during_the_pause_and_while_a_control_script_runs() {
    let (runit, ours) = both(&with(
        r#"
        svc a 'exec sleep 1000'; mkdir a/control; mkfifo a/go
        script a/control/h 'echo >>asked; read x <go'
        runsv a & runsv=$!; runs a
        cmd a h; lines a/asked 1
        # The script waits for us: whatever happens now happens beside it.
        cmd a d; n=0
        while [ $n -lt 40 ] && ! grep -q 'want down' a/supervise/stat; do n=$((n + 1)); sleep .05; done
        cat a/supervise/stat
        echo >a/go; stat_is a down; cmd a x; wait $runsv
        "#,
    ));
    assert_eq!(ours.stdout, "run, want down\n");
    if let Some(runit) = runit {
        assert_eq!(runit.stdout, "run\n");
    }
}

#[test]
fn a_run_that_asks_for_its_own_end_or_restart_gets_it() {
    let seen = twin(&with(
        r#"
        svc a 'echo >>starts; if [ $(wc -l <starts) = 1 ]; then printf t >supervise/control; else printf d >supervise/control; fi; exec sleep 1000'
        script a/finish 'echo fin >>ends; [ $(wc -l <ends) = 3 ] && printf x >supervise/control; exit 0'
        runsv a & runsv=$!; lines a/ends 2; stat_is a down; cmd a o; wait $runsv; echo $?; cat a/ends
        "#,
    ));
    assert_eq!(seen.stdout, "0\nfin\nfin\nfin\n");
}
