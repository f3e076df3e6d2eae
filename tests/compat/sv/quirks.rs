//! Where ours differs on purpose: both results, by number in QUIRKS.md.

use super::{both, says};

/// For scripts that have to know it.
pub const WHOSE: &str =
    "case $(readlink -f \"$(command -v sv)\") in */outlast) WHOSE=ours ;; *) WHOSE=runit ;; esac\n";

#[test]
fn quirk_2_a_check_without_an_answer_has_not_passed() {
    let script = r#"
        service sv/a; supervise sv/a
        script sv/a/check 'kill -9 $$'; sv -w 0 check a 2>err; echo "=> $?"; sort -u err
        printf 'no interpreter' >sv/a/check; sv -w 0 check a 2>err; echo "=> $?"; sort -u err
        chmod -x sv/a/check; sv -w 0 check a 2>err; echo "=> $?"; sort -u err
        printf '#!/no/such/interpreter\n' >sv/a/check; chmod +x sv/a/check; sv -w 0 start a 2>err; echo "=> $?"; sort -u err
        rm sv/a/check; mkdir sv/a/check; sv -w 0 check a 2>err; echo "=> $?"; sort -u err
    "#;
    let Some((theirs, ours)) = both(script) else {
        return;
    };
    let expected = |answer: &str, code: u8| {
        [
            "",
            "warning: unable to run a/check: exec format error",
            "warning: unable to run a/check: access denied",
            "warning: unable to run a/check: file does not exist",
            "warning: unable to run a/check: access denied",
        ]
        .map(|warning| format!("{answer}: run: a: (pid N) Ns\n=> {code}\n{warning}"))
        .join("\n")
        .replace("\n\n", "\n")
    };
    says(&theirs, &expected("ok", 0));
    says(&ours, &expected("timeout", 1));
}

#[test]
fn quirk_3_a_restart_is_waited_for_within_the_second_of_the_start() {
    // Without a control script the two race; with it nothing has happened when runit's says ok.
    let script = r#"
        service sv/a; mkdir sv/a/control; script sv/a/control/t 'until test -e ../../go; do sleep 0.02; done; rm ../../go; exit 1'
        supervise sv/a
        for word in restart try-restart force-reload force-restart 't -v' 'k -v'; do
            set -- $word; test "$1" != k || script sv/a/control/k 'until test -e ../../go; do sleep 0.02; done; rm ../../go; exit 1'
            # Began this very second, for whoever looks at whole seconds: the time is set to come.
            { printf '\100\0\0\0\377\0\0\0'; tail -c +9 sv/a/supervise/status; } >new; mv new sv/a/supervise/status
            before=$(cat sv/a/supervise/pid)
            { sv ${2-} -w 60 $1 a >said; echo "$?" >code; } &
            waiting=$!
            # runit's answers by itself, ours waits for the restart.
            if test "$WHOSE" = runit; then until_ 'test -s code'; touch go; else touch go; fi
            wait $waiting; until_ 'test ! -e go'; until_ '[ -s sv/a/supervise/pid ] && [ "$(cat sv/a/supervise/pid)" != $before ]'
            is_now sv/a run
            sed "s/[0-9]*s\$/Ns/; s/pid $before/before/" said; cat code; rm said code
        done
    "#;
    let Some((theirs, ours)) = both(&format!("{WHOSE}{script}")) else {
        return;
    };
    says(&theirs, &"ok: run: a: (before) Ns\n0\n".repeat(6));
    says(&ours, &"ok: run: a: (pid N) Ns\n0\n".repeat(6));
}

#[test]
fn quirk_9_the_main_services_numbers_are_never_the_logs() {
    let script = r#"
        service sv/a; supervise sv/a; mkdir sv/a/log; tell sv status a; ln -s "$(command -v sv)" a; tell ./a status
        tell sv stop a; tell sv status a; tell ./a status
    "#;
    let Some((theirs, ours)) = both(script) else {
        return;
    };
    let warning = "warning: a/log: unable to open supervise/ok: file does not exist";
    let shown = |slip: [&str; 2]| {
        let up = format!("run: a: (pid N) Ns; {warning}\n{}", slip[0]);
        let down = format!("down: a: Ns, normally up; {warning}\n{}", slip[1]);
        format!("{up}=> 1\n{up}=> 0\nok: down: a: Ns, normally up\n=> 0\n{down}=> 1\n{down}=> 3\n")
    };
    says(
        &theirs,
        &shown(["run: log: (pid N) Ns\n", "down: log: Ns, normally up\n"]),
    );
    says(&ours, &shown(["", ""]));
}
