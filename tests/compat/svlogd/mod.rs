//! svlogd beside Debian's: what it says, what it writes, and what stays.

use super::twin::{Seen, Whose, programs, run_with, twin};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};

mod config;
mod quirks;
mod random;
mod signals;

/// Shell functions for the scripts. `tidy` writes stamps and rotated names in one way, `all` prints
/// every log file of a directory, the oldest first, and `await` waits for a condition.
const FUNCTIONS: &str = r#"
tidy() {
    sed -e 's/@[0-9a-f]\{24\}/@STAMP/g' \
        -e 's/[0-9]\{4\}-[0-9][0-9]-[0-9][0-9]\([_T]\)[0-9][0-9]:[0-9][0-9]:[0-9][0-9]\.[0-9]\{5\}/DATE\1TIME/g' \
        -e '/sigchild received/d'
}
all() {
    for file in "$1"/@*.[ust] "$1"/current; do
        [ -e "$file" ] || continue
        printf '== %s ' "$file"; stat -c '%a %s' "$file"; cat "$file"
    done | tidy
}
await() {
    tries=0
    while ! eval "$1" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || { echo "never: $1"; exit 99; }
        sleep 0.05
    done
}
"#;

fn script(body: &str) -> String {
    [FUNCTIONS, body].concat()
}

fn same(body: &str) -> Seen {
    let seen = twin(&script(body));
    // Else two scripts that could not even be read would be the same.
    assert_eq!(seen.code, Some(0), "{seen:?}");
    seen
}

#[test]
fn usage_and_its_exit_code() {
    same(
        r#"for arguments in "" "-x d" "-r ab d" "-b 1000 d" "-l 1024 d" "-l" "-tv"; do
               svlogd $arguments 2>&1; echo $?
           done
           svlogd -r '' d 2>&1; echo $?
           svlogd -V 2>&1 | tail -n +2"#,
    );
}

#[test]
fn the_stamps() {
    same(
        r#"mkdir d; for t in "" -t -tt -ttt -tttt -t-t; do
               printf 'a line\n\nanother\n' | svlogd $t d 2>&1; echo $?
           done; all d"#,
    );
}

#[test]
fn replaced_bytes() {
    same(
        r#"mkdir d; echo '-x_*' > d/config
           feed() { printf 'a\tb\177\200c d\nx\ty\n0123456789\t\n'; }
           feed | svlogd -rX d; feed | svlogd -R 'cd' d; feed | svlogd -r Y -R 'cd' -l 3 -b 8 d
           feed | svlogd -R '' d; feed | svlogd -R ab -r Z d; feed | svlogd -r Z -R ab d
           feed | svlogd -r _ d; all d | od -c"#,
    );
}

#[test]
fn lines_around_the_limit() {
    same(
        r#"mkdir d; for n in 0 1 9 10 11 12 25 1100; do
               head -c $n /dev/zero | tr '\0' x | sed 's/$/\n/;$!d' | head -n 1
               head -c $n /dev/zero | tr '\0' y; echo
           done | svlogd -tt -l 10 -b 11 d; all d"#,
    );
}

#[test]
fn odd_numbers_are_the_defaults_or_cut() {
    same(
        r#"mkdir d; echo abcdef | svlogd -l x -b x d; echo abcdef | svlogd -l 3junk -b 4 d; echo $?
           echo a | svlogd -l 0 -b 1001 d; echo $?; all d"#,
    );
}

#[test]
fn directories_that_cannot_be_used() {
    same(
        r#"exec 2>&1; echo a | svlogd -v none; echo $?; : > file; echo a | svlogd -v file none; echo $?
           mkdir d e; echo a | svlogd -v d none e/ file; echo $?; all d; all e
           echo a | svlogd -v d d; echo $?; all d"#,
    );
}

#[test]
fn a_held_lock_is_respected() {
    same(
        r#"exec 2>&1; mkdir d e; mkfifo in; svlogd d < in & exec 3> in; echo first >&3
           await '[ -s d/current ]'
           echo second | svlogd -v d; echo $?; echo third | svlogd -v d e; echo $?
           exec 3>&-; wait $!; all d; all e"#,
    );
}

#[test]
fn an_unclean_end_is_put_aside() {
    same(
        r#"exec 2> /dev/null; mkdir d; mkfifo in; svlogd d < in & exec 3> in; echo first >&3
           await '[ -s d/current ]'; kill -KILL $!; wait $!; exec 3>&-
           echo second | svlogd -v d 2>&1 | tidy; all d
           chmod 100 d/current; echo third | svlogd -v d 2>&1 | tidy; all d"#,
    );
}

#[test]
fn an_empty_input_leaves_an_empty_current() {
    same("mkdir d; svlogd -v d < /dev/null 2>&1; all d; svlogd -v d < / 2>&1; echo $?");
}

/// Debian's goes on with what ours has written, and the other way about; locks hold across.
#[test]
fn each_goes_on_with_the_others_directory() {
    let (Some(runit), Some(ours)) = (programs(Whose::Runit), programs(Whose::Ours)) else {
        return;
    };
    let body = |first: &str, second: &str| {
        script(&format!(
            r#"first={first}; second={second}; mkdir d; printf 's2000\nn3\n' > d/config
               mkfifo in
               # The shell tells of a killed one when it gets to it.
               {{ for round in 1 2; do
                   seq 1 300 | $first -tt d; seq 300 600 | $second -ttt d
                   $first d < in & exec 3> in; echo held >&3; await 'grep -q held d/current'
                   echo no | $second d; echo $?; kill -KILL $!; wait $!; exec 3>&-
                   echo after | $second d; rm -f d/@*.u
               done; }} 2>&1 | grep -v '^Killed'; all d"#
        ))
    };
    let (runit_svlogd, ours_svlogd) = (runit.join("svlogd"), ours.join("svlogd"));
    let names = [
        runit_svlogd.to_str().unwrap(),
        ours_svlogd.to_str().unwrap(),
    ];
    let pure = run_with(&body(names[0], names[0]), &[runit]);
    assert_eq!(pure.code, Some(0), "{pure:?}");
    for (first, second) in [(0, 1), (1, 0), (1, 1)] {
        assert_eq!(pure, run_with(&body(names[first], names[second]), &[runit]));
    }
}

/// Ours alone: runit's reads a kilobyte at a time.
#[test]
fn a_pipe_that_was_found_full_is_made_larger_and_nothing_in_it_is_lost() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("d")).unwrap();
    std::fs::write(place.path().join("d/config"), "s0").unwrap();
    let mut child = Command::new(programs(Whose::Ours).expect("links").join("svlogd"))
        .arg("d")
        .current_dir(place.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let size = |pipe: &ChildStdin| fcntl(pipe, FcntlArg::F_GETPIPE_SZ).unwrap();
    let usual = size(&pipe);
    let lines = b"a line of sixteen\n".repeat(usize::try_from(usual).unwrap());
    let (full, more) = lines.split_at(usize::try_from(usual).unwrap());
    // Stopped, it can't read before all that the pipe holds is there.
    kill(pid, Signal::SIGSTOP).unwrap();
    pipe.write_all(full).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    pipe.write_all(more).unwrap();
    // Unless this user has very many large pipes already.
    assert!([usual, 256 * 1024].contains(&size(&pipe)));
    drop(pipe);
    assert!(child.wait().unwrap().success());
    assert!(std::fs::read(place.path().join("d/current")).unwrap() == lines);
}
