//! runsvdir: a directory of services, seen by the processes that there are and by what is in each
//! `supervise/`.

use super::runsv::with;
use super::twin::{Whose, both, programs, run, run_with, twin};

#[test]
fn arguments() {
    let seen = twin("runsvdir; echo $?; runsvdir -P; echo $?; runsvdir --; echo $?");
    assert_eq!(seen.stdout, "1\n1\n1\n");
}

#[test]
fn a_directory_that_is_not_there_is_only_warned_of() {
    let seen = twin(&with(
        r#"
        echo >file
        for dir in none -x file; do
            rm -f err; runsvdir $dir 2>err & front=$!; lines err 2; kill -TERM $front; wait $front; echo $?; sort -u err
        done
        rm err; runsvdir none 2>err & front=$!; lines err 1; svc new/a 'exec sleep 1000'; mv new none; runs none/a
        kill -HUP $front; wait $front; echo $?; gone $pid; stat_is none/a down
        "#,
    ));
    assert!(
        seen.stdout
            .starts_with("0\nrunsvdir none: warning: unable to stat none: file does not exist\n"),
        "{}",
        seen.stdout
    );
}

#[test]
fn term_ends_it_alone_and_each_service_goes_on() {
    let seen = twin(&with(
        r#"
        svc d/a 'exec sleep 1000'; svc d/.hidden 'exec sleep 1000'; echo >d/file; ln -s none d/dangling
        runsvdir d 2>/dev/null & front=$!; runs d/a; cat /proc/$front/comm; kill -TERM $front; wait $front; echo $?
        kill -0 $pid && echo lives; cmd d/a t; gone $pid; runs d/a; [ -e d/.hidden/supervise ] || echo hidden
        svc d/b 'exec sleep 1000'; cmd d/a x; gone $pid; stat_is d/a down; [ -e d/b/supervise ] || echo no more
        "#,
    ));
    assert_eq!(seen.stdout, "runsvdir\n0\nlives\nhidden\nno more\n");
}

#[test]
fn hup_tells_every_service_to_exit_and_does_not_wait() {
    let seen = twin(&with(
        r#"
        for s in a b; do svc d/$s 'trap "" TERM; echo >ready; read x <go'; mkfifo d/$s/go; done
        runsvdir d & front=$!; until_ '[ -e d/a/ready ] && [ -e d/b/ready ]'; kill -HUP $front; wait $front; echo $?
        for s in a b; do stat_is d/$s 'run, got TERM, want exit'; echo >d/$s/go; stat_is d/$s down; done
        "#,
    ));
    assert_eq!(seen.stdout, "111\n");
}

#[test]
fn directories_come_are_renamed_and_go() {
    let seen = twin(&with(
        r#"
        svc d/a 'exec sleep 1000'; svc else/c 'exec sleep 1000'; ln -s a d/second; ln -s ../else/c d/c
        runsvdir d 2>/dev/null & front=$!; runs d/a; runs d/c; first=$pid; runs d/a
        mv d/a d/b; ln -sfn b d/second; svc new 'exec sleep 1000'; mv new d/new; kill -ALRM $front; runs d/new
        [ "$(cat d/b/supervise/pid)" != '' ] && ps -o pid= -p $(cat d/b/supervise/pid) >/dev/null && echo lives
        rm d/c; kill -ALRM $front; gone $first; stat_is else/c down; echo stopped
        kill -HUP $front; wait $front; echo $?; for s in b new; do stat_is d/$s down; done
        # Debian's leaves it behind.
        rm -f d/.forced-rescan
        "#,
    ));
    assert_eq!(seen.stdout, "lives\nstopped\n111\n");
}

#[test]
fn two_names_for_one_directory_are_one_service_and_a_rename_restarts_nothing() {
    let seen = twin(&with(
        r#"
        svc d/a 'echo >>starts; exec sleep 1000'; ln -s a d/same
        runsvdir d 2>err & front=$!; runs d/a; was=$pid; svc n/n1 'exec sleep 1000'; mv n/n1 d/n1; runs d/n1
        rm d/same; mv d/a d/z; svc n/n2 'exec sleep 1000'; mv n/n2 d/n2; runs d/n2
        runs d/z; [ $pid = $was ] && echo same; wc -l <d/z/starts; cat err
        kill -HUP $front; wait $front; for s in z n1 n2; do stat_is d/$s down; done
        "#,
    ));
    assert_eq!(seen.stdout, "same\n1\n");
}

#[test]
fn a_directory_that_is_switched_stops_the_one_set_and_starts_the_other() {
    let seen = twin(&with(
        r#"
        svc one/a 'exec sleep 1000'; svc two/a 'exec sleep 1000'; ln -s one d
        runsvdir d 2>/dev/null & front=$!; runs one/a; ln -s two d.new; mv -T d.new d
        gone $pid; stat_is one/a down; runs two/a; kill -HUP $front; wait $front; stat_is two/a down
        "#,
    ));
    assert_eq!(seen.code, Some(0));
}

#[test]
fn a_service_that_was_told_to_exit_comes_back() {
    let seen = twin(&with(
        r#"
        svc d/a 'exec sleep 1000'; runsvdir d & front=$!; runs d/a; was=$pid
        cmd d/a x; gone $was; until_ '[ "$(cat d/a/supervise/pid)" ] && [ "$(cat d/a/supervise/pid)" != $was ]'
        runs d/a; echo back; kill -HUP $front; wait $front; stat_is d/a down
        "#,
    ));
    assert_eq!(seen.stdout, "back\n");
}

#[test]
fn between_exit_and_return_sv_sees_that_nobody_looks_after_it() {
    if programs(Whose::Runit).is_none() {
        return;
    }
    // Debian's may start the next one between two looks of sv, which then waits in vain.
    let ours = programs(Whose::Ours).expect("links");
    let seen = run(
        &with(
            r#"
        svc d/a 'exec sleep 1000'; runsvdir d & front=$!; runs d/a
        /usr/bin/sv -w 20 exit ./d/a; echo $?; until_ '[ -s d/a/supervise/pid ]'
        kill -HUP $front; wait $front; stat_is d/a down
        "#,
        ),
        ours,
    );
    assert_eq!(seen.stdout, "ok: ./d/a: runsv not running\n0\n");
}

#[test]
fn a_session_of_their_own_is_for_those_who_ask() {
    let seen = twin(&with(
        r#"
        svc d/a 'exec sleep 1000'
        for option in -P -Px --; do
            runsvdir $option d 2>/dev/null & front=$!; runs d/a
            [ $(ps -o sid= -p $pid) = $(ps -o sid= -p $front) ] && echo together || echo apart
            kill -HUP $front; wait $front; gone $pid; stat_is d/a down
            until_ '! [ -e d/a/supervise/outlast ]'
        done
        "#,
    ));
    assert_eq!(seen.stdout, "apart\napart\ntogether\n");
}

#[test]
fn the_last_words_of_services_are_shown_in_its_command_line() {
    let seen = twin(&with(
        r#"
        svc d/a 'printf "0123456789\nabc" >&2; exec sleep 1000'
        runsvdir d 'log: ................' 2>/dev/null & front=$!
        until_ "tr '\0\n' '|/' </proc/$front/cmdline | grep -q '^runsvdir|.*abc'"
        tr '\0\n' '|/' </proc/$front/cmdline; echo; kill -HUP $front; wait $front; echo $?; stat_is d/a down
        runsvdir d short 2>err & front=$!; runs d/a; tr '\0' '|' </proc/$front/cmdline; echo; kill -HUP $front; wait $front
        stat_is d/a down; grep '^runsvdir' err; rm err
        "#,
    ));
    assert!(
        seen.stdout
            .starts_with("runsvdir|d|log: ..0123456789/abc|\n111\n"),
        "{}",
        seen.stdout
    );
    assert!(
        seen.stdout
            .contains("log must have at least seven characters."),
        "{}",
        seen.stdout
    );
}

#[test]
fn its_sign_of_life_is_a_dot_from_the_start_and_a_nul_is_left_out() {
    let seen = twin(&with(
        r#"
        mkdir d; runsvdir d 'log: abcdefghijklmnop' & front=$!
        shown() { tr '\0' '|' </proc/$front/cmdline; }
        until_ "shown | grep -q '|log: bcdefghijklmnop[.]|'"; shown; echo
        svc new 'printf "\\0x\\0\\0y\\0" >&2; exec sleep 1000'; mv new d/a
        until_ "shown | grep -q '|log: defghijklmnop[.]xy|'"; runs d/a; shown; echo; kill -HUP $front; wait $front; stat_is d/a down
        "#,
    ));
    assert_eq!(
        seen.stdout,
        "runsvdir|d|log: bcdefghijklmnop.|\nrunsvdir|d|log: defghijklmnop.xy|\n"
    );
}

#[test]
fn supervise_that_leads_into_an_empty_run_is_made_good() {
    let seen = twin(&with(
        r#"
        svc d/a 'exec sleep 1000'; svc d/a/log 'exec cat >/dev/null'; mkdir run
        ln -s $PWD/run/a d/a/supervise; ln -s $PWD/run/a.log d/a/log/supervise
        runsvdir d & front=$!; runs d/a; ls run; kill -HUP $front; wait $front; stat_is d/a down; stat_is d/a/log down
        "#,
    ));
    assert_eq!(seen.stdout, "a\na.log\n");
}

/// Ours alone: a thousand runsv would be a load for whoever else is tested at this time.
#[test]
fn quirk_6_there_is_no_limit_of_a_thousand() {
    let seen = run(
        &with(
            r#"
            mkdir d; i=0; while [ $i -lt 1005 ]; do i=$((i + 1)); mkdir d/$i; echo >d/$i/down; done
            runsvdir d 2>err & front=$!; until_ '[ $(ls d/*/supervise/stat | wc -l) = 1005 ]'; cat err
            kill -HUP $front; wait $front; echo $?
            "#,
        ),
        programs(Whose::Ours).expect("links"),
    );
    assert_eq!(seen.stdout, "111\n", "{}", seen.stderr);
}

/// Two changes, the second made once the first was seen, take runit's a second at least: so long it
/// waits between two looks. Ours has tries enough to be quicker once, whatever else runs.
#[test]
fn quirk_6_what_comes_and_goes_is_seen_at_once() {
    let (runit, ours) = both(&with(
        r#"
        case $(readlink -f "$(command -v runsvdir)") in */outlast) rounds=25 ;; *) rounds=2 ;; esac
        twice() { # WHAT comes before, WHAT is done
            said=never
            for round in $(seq $rounds); do
                for s in b c; do eval "$1"; done
                begin=$(date +%s%N); for s in b c; do eval "$2"; done
                [ $(($(date +%s%N) - begin)) -lt 900000000 ] && said=within && break
            done
            echo $said
        }
        there() { [ -e d/$s ] || { svc $s 'exec sleep 1000'; mv $s d/$s; }; runs d/$s; eval pid_$s=$pid; }
        removed() { rm -r d/$s; eval gone \$pid_$s; }
        svc d/a 'exec sleep 1000'; runsvdir d 2>/dev/null & front=$!; runs d/a
        twice 'there; removed; svc $s "exec sleep 1000"' 'mv $s d/$s; runs d/$s'
        twice 'there' 'removed'
        # Another inode under the name: a changed directory is another service.
        twice 'there; rm -rf old.$s; svc other/$s "exec sleep 1000"' 'mv d/$s old.$s; mv other/$s d/$s; runs d/$s'
        kill -HUP $front; wait $front; for s in a b c; do stat_is d/$s down; done; rm -rf old.* d other
        "#,
    ));
    assert_eq!(ours.stdout, "within\n".repeat(3));
    if let Some(runit) = runit {
        assert_eq!(runit.stdout, "never\n".repeat(3));
    }
}

/// A name that is filled later: runit's runsv looks for `run` each second, ours when it is there.
#[test]
fn a_directory_without_run_is_started_once_it_has_one() {
    let seen = twin(&with(
        r#"
        svc d/a 'exec sleep 1000'; runsvdir d 2>/dev/null & front=$!; runs d/a
        mkdir d/b; until_ '[ -s d/b/supervise/stat ]'; svc d/b 'exec sleep 1000'; runs d/b; echo runs
        kill -HUP $front; wait $front; for s in a b; do stat_is d/$s down; done
        "#,
    ));
    assert_eq!(seen.stdout, "runs\n");
}

#[test]
fn other_signals_end_it_and_not_the_services() {
    let seen = twin(&with(
        r#"
        for signal in USR1 USR2; do
            svc d/a 'exec sleep 1000'; runsvdir d 2>/dev/null & front=$!; runs d/a
            kill -$signal $front; wait $front 2>/dev/null; echo $?; kill -0 $pid && echo lives
            cmd d/a x; gone $pid; stat_is d/a down; rm -rf d
        done
        "#,
    ));
    assert_eq!(seen.stdout, "138\nlives\n140\nlives\n");
}

#[test]
fn debians_runsvdir_runs_our_runsv_found_on_path() {
    let (Some(_), Some(ours)) = (programs(Whose::Runit), programs(Whose::Ours)) else {
        return;
    };
    let seen = run_with(
        &with(
            r#"
            svc d/a 'exec sleep 1000'; svc d/a/log 'exec cat >/dev/null'
            /usr/bin/runsvdir d & front=$!; runs d/a
            ps -o comm= --ppid $front; readlink /proc/$(pgrep -P $front)/exe | grep -o 'outlast$'
            /usr/bin/sv -w 20 restart ./d/a | cut -d' ' -f1-3; kill -HUP $front; wait $front; echo $?; stat_is d/a down
            "#,
        ),
        &[ours],
    );
    assert_eq!(
        seen.stdout, "runsv\noutlast\nok: run: ./d/a:\n111\n",
        "{}",
        seen.stderr
    );
}

#[test]
fn services_outlive_a_killed_keeper_and_are_taken_over_by_the_next() {
    let seen = run(
        &with(
            r#"
            svc d/a 'echo >>starts; exec sleep 1000'; svc d/a/log 'exec cat >/dev/null'
            runsvdir d 2>/dev/null & front=$!; runs d/a; was=$pid; until_ '[ -s d/a/supervise/outlast ]'
            keeper=$(pgrep -P $front); kill -KILL $keeper; until_ "pgrep -P $front | grep -qv $keeper"
            cmd d/a p; stat_is d/a 'run, paused'; cmd d/a c; stat_is d/a run; runs d/a
            [ $pid = $was ] && echo same; wc -l <d/a/starts
            kill -HUP $front; wait $front; gone $was; stat_is d/a down
            "#,
        ),
        programs(Whose::Ours).expect("links"),
    );
    assert_eq!(seen.stdout, "same\n1\n", "{}", seen.stderr);
}

#[test]
fn services_whose_runsvdir_was_killed_stay_in_sv_s_reach_when_the_supervisor_is_replaced() {
    let seen = run(
        &with(
            r#"
            svc d/a 'exec sleep 1000'; runsvdir d 2>/dev/null & front=$!; runs d/a; was=$pid
            keeper=$(pgrep -P $front); super=$(pgrep -P $keeper -x outlast-super)
            kill -KILL $front; wait $front 2>/dev/null; until_ "! pgrep -P $front"
            kill -KILL $super; until_ "pgrep -P $keeper -x outlast-super | grep -qv $super"
            until_ 'sv status ./d/a | grep -q ^run'; runs d/a; [ $pid = $was ] && echo same
            sv restart ./d/a >&2; runs d/a; [ $pid = $was ] || echo another
            svc d/b 'exec sleep 1000'; sv exit ./d/a >&2; gone $pid; stat_is d/a down
            until_ "! kill -0 $keeper"; [ -e d/b/supervise ] || echo nothing new
            "#,
        ),
        programs(Whose::Ours).expect("links"),
    );
    assert_eq!(
        seen.stdout, "same\nanother\nnothing new\n",
        "{}",
        seen.stderr
    );
}

#[test]
fn a_new_runsvdir_starts_no_second_copy_while_the_old_services_live() {
    let (runit, ours) = both(&with(
        r#"
        svc d/a 'echo >>starts; exec sleep 1000'; runsvdir d & front=$!; runs d/a; kill -TERM $front; wait $front
        runsvdir d 2>err & front=$!; until_ 'grep -q "unable to lock" err'; wc -l <d/a/starts
        cmd d/a x; gone $pid; lines d/a/starts 2; runs d/a; kill -HUP $front; wait $front; stat_is d/a down; sort -u err
        "#,
    ));
    let expected = "1\nrunsv a: fatal: unable to lock supervise/lock: temporary failure\n";
    assert_eq!(ours.stdout, expected);
    if let Some(runit) = runit {
        assert_eq!(runit.stdout, expected);
    }
}

#[test]
fn a_users_own_runsvdir_works_as_a_service() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let (Some(_), Some(ours)) = (programs(Whose::Runit), programs(Whose::Ours)) else {
        return;
    };
    let seen = run_with(
        &with(
            r#"
            cp -L $(command -v runsvdir) runsvdir; chmod 755 runsvdir
            svc mine/a 'id -un >who; exec sleep 1000'; chown -R nobody mine
            svc d/user "exec /usr/bin/chpst -u nobody $PWD/runsvdir $PWD/mine"
            runsvdir d & front=$!; runs mine/a; cat mine/a/who; cmd d/user h; gone $pid; runs mine/a
            kill -HUP $front; wait $front; echo $?
            "#,
        ),
        &[ours],
    );
    assert_eq!(seen.stdout, "nobody\n111\n", "{}", seen.stderr);
}
