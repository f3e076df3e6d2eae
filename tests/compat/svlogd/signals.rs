//! Signals, in the middle of lines too.

use super::same;

/// svlogd -v reading from descriptor 3 of the script, and waits for lines in its messages.
fn with_pipe(body: &str) {
    same(&format!(
        r#"trap '' PIPE; mkdir d e; mkfifo in; : > err
           env --default-signal=INT,QUIT svlogd -v d e < in 2>> err & p=$!; exec 3> in
           said() {{ await "[ \$(grep -c '$1' err) -ge ${{2:-1}} ]"; }}
           said e/current
           {body}
           exec 3>&-; wait $p; echo "exit $?"; tidy < err; rm err; all d; all e"#
    ));
}

#[test]
fn term_ends_it_after_a_whole_line() {
    with_pipe(r"echo a >&3; await '[ -s e/current ]'; kill -TERM $p; said close.*e");
}

#[test]
fn term_within_a_line_reads_that_line_to_its_end_and_no_further() {
    // Longer than the limit, since runit's loses shorter ones; in one write, so that it is in hand
    // when the signal comes.
    with_pipe(
        r#"exec 4< in; printf 'a\n%01005d' 0 >&3; await '[ -s e/current ]'; kill -TERM $p
           said sigterm; printf 'end\nnot this\n' >&3; said close.*e; exec 3>&-; cat <&4"#,
    );
}

#[test]
fn alrm_rotates_what_is_not_empty() {
    with_pipe(
        r#"kill -ALRM $p; said sigalarm; echo a >&3; await '[ -s e/current ]'
           printf 'par' >&3; kill -ALRM $p; said rename 2; printf 'tial\n' >&3; await '[ -s e/current ]'"#,
    );
}

#[test]
fn hup_reads_the_config_again_and_keeps_the_line_in_hand() {
    with_pipe(
        r#"printf 'par' >&3; printf 'pnew: \n' > d/config; kill -HUP $p; said append.*e
           printf 'tial\n' >&3; await '[ -s e/current ]'"#,
    );
}

#[test]
fn hup_drops_a_bad_directory_and_takes_it_back() {
    with_pipe(
        r#"printf 'a\npar' >&3; await '[ -s e/current ]'; mv d away; kill -HUP $p; said append.*e
           printf 'tial\nnext' >&3; await 'grep -q tial e/current'; mv away d
           kill -HUP $p; said append.*e 2; echo >&3; await 'grep -q next e/current'"#,
    );
}

#[test]
fn hup_with_no_directory_left_is_fatal() {
    with_pipe("rm -r d e; kill -HUP $p; said fatal; mkdir d e");
}

#[test]
fn other_signals_end_it_unclean() {
    for signal in ["INT", "QUIT", "USR1", "USR2"] {
        with_pipe(&format!(
            "exec 2> /dev/null; echo a >&3; await '[ -s e/current ]'; kill -{signal} $p; wait $p"
        ));
    }
}

#[test]
fn a_directory_that_is_renamed_is_written_on() {
    with_pipe(
        r#"echo a >&3; await '[ -s e/current ]'; mv d f; echo b >&3; await 'grep -q b e/current'
           kill -ALRM $p; said rename 2; echo c >&3; await 'grep -q c e/current'; mv f d"#,
    );
}
