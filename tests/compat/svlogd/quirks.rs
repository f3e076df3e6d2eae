//! Where ours differs on purpose, both results stated.

use super::super::twin::both;
use super::{same, script};

/// Both outputs of a script, runit's first; None without runit.
fn outputs(body: &str) -> (Option<String>, String) {
    let (runit, ours) = both(&script(body));
    (runit.map(|seen| seen.stdout), ours.stdout)
}

#[test]
fn an_unfinished_last_line_is_kept() {
    let (runit, ours) = outputs("mkdir d; printf 'one\\ntwo' | svlogd d; cat d/current");
    assert_eq!(ours, "one\ntwo\n");
    if let Some(runit) = runit {
        assert_eq!(runit, "one\n");
    }
}

/// One write, so that the line is in hand when the signal comes.
#[test]
fn the_line_that_term_waits_for_is_kept() {
    let (runit, ours) = outputs(
        r#"mkdir d; mkfifo in; : > err; svlogd -v d < in 2>> err & p=$!; exec 3> in; exec 4< in
           printf 'a\nmid' >&3; await '[ -s d/current ]'; kill -TERM $p; await 'grep -q sigterm err'
           printf 'dle\nnot this\n' >&3; wait $p; exec 3>&-; cat d/current; echo rest; cat <&4"#,
    );
    assert_eq!(ours, "a\nmiddle\nrest\nnot this\n");
    if let Some(runit) = runit {
        assert_eq!(runit, "a\nrest\nnot this\n");
    }
}

/// How often a processor that always fails is started within the time that a good one of another
/// directory needs.
#[test]
fn a_failing_processor_is_given_time() {
    let (runit, ours) = outputs(
        r#"mkdir d; printf 's2000\n!echo x >> tries; [ -e good ]\n' > d/config
           (seq -f %09g 150; await '[ -s d/tries ]'; sleep 0.5; : > d/good) | svlogd d 2>/dev/null
           [ $(wc -l < d/tries) -le 3 ] && echo few || echo many; ls d | grep -c '\.s$'; ls d | grep -c '\.u$'"#,
    );
    assert_eq!(ours, "few\n1\n0\n");
    if let Some(runit) = runit {
        assert_eq!(runit, "many\n1\n0\n");
    }
}

/// Its input has ended while the processor fails: it waits for one that does not.
#[test]
fn a_processor_that_fails_at_the_exit_is_tried_until_it_does_not() {
    let seen = same(
        r#"mkdir d; printf 's2000\nn2\n!echo >> tries; [ -e good ] || exit 3; cat\n' > d/config
           : > err; (seq -f %09g 150 | svlogd d 2>> err; echo "exit $?" >> err) & p=$!
           await '[ $(wc -l < d/tries) -ge 2 ]'; grep -c exit err; : > d/good; wait $p
           sort -u err | grep -v sigchld; rm err d/tries; all d"#,
    );
    let expected = "0\nexit 0\nsvlogd: warning: processor failed, restart: d\n";
    assert!(seen.stdout.starts_with(expected), "{}", seen.stdout);
}

#[test]
fn a_closed_input_is_an_end() {
    let (runit, ours) = outputs("mkdir d; svlogd -v d <&- 2>&1; echo $?; all d");
    let opened = "svlogd: info: new: d/current\n";
    let closed = "svlogd: info: close: d\n0\n== d/current 744 0\n";
    assert_eq!(ours, [opened, closed].concat());
    if let Some(runit) = runit {
        // What it opens first becomes its input: the directory that it was started in.
        let warning = "svlogd: warning: unable to read standard input: is a directory\n";
        assert_eq!(runit, [opened, warning, closed].concat());
    }
}

#[test]
fn a_repeated_byte_is_not_looked_for_behind_the_end_of_the_line() {
    let (runit, ours) = outputs(
        r#"mkdir d; printf -- '-x+a\n' > d/config
           printf 'x\nxaaaaab\nx\nxa\nend\n' | svlogd d; cat d/current"#,
    );
    assert_eq!(ours, "x\nxaaaaab\nx\nend\n");
    if let Some(runit) = runit {
        // There stands what a line before it has left.
        assert_eq!(runit, "x\nxaaaaab\nend\n");
    }
}

#[test]
fn a_removed_current_does_not_stop_the_log() {
    let (runit, ours) = outputs(
        r#"mkdir d; mkfifo in; : > err; svlogd -v d < in 2>> err & p=$!; exec 3> in; echo a >&3
           await '[ -s d/current ]'; rm d/current; kill -ALRM $p; await 'grep -q "pausing\|new.*" err'
           await '[ -e d/current ] || grep -q pausing err'
           grep -c pausing err; kill -KILL $p"#,
    );
    assert_eq!(ours, "0\n");
    if let Some(runit) = runit {
        assert_eq!(runit, "1\n");
    }
}

/// What was told last, and the exit code; runit's waits for ever.
#[test]
fn a_current_that_cannot_be_synced_is_closed() {
    // A device of its own: the mode of the real one would be changed.
    let (runit, ours) = outputs(
        r#"mkdir d; { mknod null c 1 3 && : > null; } 2> /dev/null || { echo none; exit 0; }
           ln -s ../null d/current; : > err
           (echo a | svlogd d 2>> err; echo "exit $?" >> err) & p=$!
           await 'grep -q "pausing\|exit" err'; kill -KILL $p; head -n 1 err | cut -c 1-15"#,
    );
    if ours == "none\n" {
        println!("skipped: needs root and a file system that allows devices");
        return;
    }
    assert_eq!(ours, "exit 0\n");
    if let Some(runit) = runit {
        assert_eq!(runit, "svlogd: pausing\n");
    }
}

#[test]
fn a_label_before_1970_is_none_of_its_files() {
    let (runit, ours) = outputs(
        r#"mkdir d; printf 's2000\nn1\n' > d/config; : > d/@400000000000000000000001.s
           seq -f %09g 200 | svlogd d; [ -e d/@400000000000000000000001.s ]; echo $?
           ls d | grep -c '\.s$'"#,
    );
    assert_eq!(ours, "0\n2\n");
    if let Some(runit) = runit {
        assert_eq!(runit, "1\n1\n");
    }
}
