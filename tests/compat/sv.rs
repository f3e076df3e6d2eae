//! sv, ours beside Debian's, over the same runsv.

use super::twin::{NAMES, Seen, Whose, programs, run_with};
use crate::live::world::BINARY;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

mod forged;
mod outlast;
mod quirks;
mod script;
mod status;
mod waiting;
mod within;

/// What the scripts below have at hand. `$RUNSV` supervises.
const PRELUDE: &str = r#"
SVDIR=$PWD/sv; export SVDIR; mkdir sv
until_() { until eval "$1"; do sleep 0.02; done; }
service() { mkdir -p "$1"; printf '#!/bin/sh\n%s\n' "${2-exec sleep 1000}" >"$1/run"; chmod +x "$1/run"; }
script() { printf '#!/bin/sh\n%s\n' "$2" >"$1"; chmod +x "$1"; }
is() { grep -qx "$2" "$1/supervise/stat" 2>/dev/null && alive "$1"; }
alive() { dd if=/dev/null of="$1/supervise/ok" oflag=nonblock conv=nocreat,notrunc count=0 2>/dev/null; }
# What a shell starts in the background ignores INT and QUIT.
runsv() { exec env --default-signal=INT,QUIT "$RUNSV" "$1"; }
supervise() { runsv "$1" & until_ "is $1 ${2-run}"; until_ "status_is $1 ${2-run}"; }
# stat is renamed into place before status is, so what the one says is waited for in the other.
status_is() {
    paused=00 want=75 term=00 state=00
    case $2 in run*) state=01 ;; finish*) state=02 ;; esac
    case $2 in down*) want='??' ;; *want*) want=64 ;; esac
    case $2 in *paused*) paused=01 ;; esac
    case $2 in *TERM*) term=01 ;; esac
    case $(od -An -tx1 -j16 "$1/supervise/status" | tr -d ' ') in $paused$want$term$state) ;; *) false ;; esac
}
# Down and to stay so.
rests() { [ "$(od -An -c -j17 "$1/supervise/status" 2>/dev/null | tr -d ' ')" = 'd\0\0' ]; }
is_now() { until_ "is $1 '$2'"; until_ "status_is $1 '$2'"; }
# Past the second in which the service began, so that whole seconds tell apart what comes next.
next_second() { s=$(date +%s); until_ '[ "$(date +%s)" != $s ]'; }
tell() { "$@"; echo "=> $?"; }
"#;

/// A directory whose only program is `sv`, ours.
fn ours_alone() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = Path::new(BINARY).with_file_name("sv-of-ours");
        fs::create_dir_all(&dir).expect("directory");
        let link = dir.join("sv");
        if !fs::read_link(&link).is_ok_and(|there| there == Path::new(BINARY)) {
            let _ = fs::remove_file(&link);
            symlink(BINARY, &link).expect("link");
        }
        dir
    })
}

/// The script with this sv and this runsv.
fn with(script: &str, sv: Whose, runsv: Whose) -> Option<Seen> {
    let supervisors = programs(runsv)?;
    let first = match sv {
        Whose::Ours => ours_alone(),
        Whose::Runit => programs(Whose::Runit)?,
    };
    let text = format!("RUNSV={}/runsv\n{PRELUDE}\n{script}", supervisors.display());
    let seen = run_with(&text, &[first]);
    Some(Seen {
        stdout: ageless(&seen.stdout),
        stderr: ageless(&seen.stderr),
        // They are runsv's, and the moment of its end is not the script's.
        files: Default::default(),
        ..seen
    })
}

/// Both programs over runit's runsv: runit's result, then ours. None without runit.
fn both(script: &str) -> Option<(Seen, Seen)> {
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| with(script, Whose::Runit, Whose::Runit));
        let ours = with(script, Whose::Ours, Whose::Runit);
        Some((theirs.join().expect("runit's run")?, ours?))
    })
}

/// Insists on the same from both, and on this code at the end of each.
fn twin(script: &str) -> Option<Seen> {
    let (theirs, ours) = both(script)?;
    assert_eq!(theirs, ours, "left: runit; the script:\n{script}");
    assert_eq!(ours.code, Some(0), "{ours:#?}");
    Some(ours)
}

/// Seconds depend on the machine's load: ` 12s` becomes ` Ns`.
fn ageless(text: &str) -> String {
    let mut out = String::new();
    for (at, word) in text.split(' ').enumerate() {
        out.push_str(if at > 0 { " " } else { "" });
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_age = rest.len() < word.len() && rest.starts_with('s');
        out.push_str(if is_age { "N" } else { "" });
        out.push_str(if is_age { rest } else { word });
    }
    out
}

/// ... in all of these, `expected` stands in stdout, line for line.
#[track_caller]
fn says(seen: &Seen, expected: &str) {
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    let found: Vec<&str> = seen.stdout.trim().lines().collect();
    assert_eq!(found, expected, "{seen:#?}");
}

#[test]
fn ages_are_written_in_a_common_way() {
    assert_eq!(
        ageless("run: a: (pid N) 12s, paused; run: log: (pid N) 3s\nx 4sec s"),
        "run: a: (pid N) Ns, paused; run: log: (pid N) Ns\nx Nsec s"
    );
    assert!(NAMES.contains(&"sv"));
}

#[test]
fn usage_and_its_codes() {
    twin(
        r#"
        tell sv; tell sv status; sv -V 2>version; echo $?; sed 1d version; tell sv -x status a; tell sv -w; tell sv -vw; tell sv --
        tell sv '' a; tell sv z a; tell sv restarts a; tell sv rest a; tell sv force a; tell sv -; tell sv -- -v a
        "#,
    );
}

#[test]
fn options_end_at_the_first_operand() {
    twin(
        r#"
        service sv/a; supervise sv/a
        tell sv -v status a; tell sv -vw3 status a; tell sv -vv -w 3 -- status a; tell sv status a -v
        "#,
    );
}

#[test]
fn each_command_is_known_by_its_first_letter_and_sends_its_signal() {
    let script = r#"
        service sv/a 'echo begun >>signals
            for s in HUP ALRM INT QUIT USR1 USR2; do trap "echo $s >>signals" $s; done
            trap "echo TERM >>signals; kill \$!; exit 0" TERM
            echo ready >>signals
            while :; do sleep 1000 & wait; kill $!; done'
        supervise sv/a; until_ 'grep -q ready sv/a/signals'
        for pair in hup:HUP ax:ALRM alarm:ALRM i:INT interrupt:INT quit:QUIT 1st:USR1 1:USR1 2:USR2; do
            : >sv/a/signals
            tell sv ${pair%:*} a
            until_ '[ -s sv/a/signals ]'; cat sv/a/signals
        done
        tell sv paws a; is_now sv/a 'run, paused'; tell sv s a; tell sv cont a; is_now sv/a run; tell sv st a
        : >sv/a/signals; tell sv tea a; until_ 'grep -q ready sv/a/signals'; cat sv/a/signals
        : >sv/a/signals; tell sv kill a; until_ 'grep -q ready sv/a/signals'; cat sv/a/signals
        tell sv down a; is_now sv/a down; tell sv status a
        tell sv once a; is_now sv/a 'run, want down'; tell sv status a
        tell sv down a; is_now sv/a down
        tell sv up a; is_now sv/a run; tell sv status a
        tell sv exit a; until_ '! alive sv/a'; tell sv status a; tell sv x a; tell sv u a
    "#;
    twin(script);
}

#[test]
fn the_long_words_wait() {
    let script = r#"
        service sv/a 'trap "" HUP; exec sleep 1000'; service sv/b; supervise sv/a; supervise sv/b; next_second
        tell sv stop a; tell sv stop a; tell sv start a b | sort; next_second
        tell sv restart a b | sort; tell sv reload a; next_second
        tell sv try-restart b a | sort; next_second
        tell sv force-restart a; next_second; tell sv force-reload a; tell sv force-stop a
        tell sv try-restart a; tell sv check a; tell sv restart a; next_second; tell sv T a; tell sv D a
        tell sv force-shutdown a; tell sv shutdown a; tell sv X a; tell sv E b
        tell sv status a b; tell sv start a; tell sv force-shutdown b
    "#;
    twin(script);
}

#[test]
fn short_words_wait_when_they_are_told_to() {
    let script = r#"
        service sv/a 'trap "" HUP ALRM INT QUIT USR1 USR2; exec sleep 1000'; supervise sv/a; next_second
        for word in d o d u p c t h a; do tell sv -v $word a; next_second; done
        until_ 'is sv/a run'
        for word in i q 1 2 k x; do tell sv -w 20 $word a; next_second; done
    "#;
    twin(script);
}

#[test]
fn names_are_below_svdir_and_paths_are_not() {
    let script = r#"
        service sv/a; service b; service sv/c/d; supervise sv/a; supervise b; supervise sv/c/d
        tell sv status a a/ ./sv/a ./sv/a/ "$PWD/sv/a" c/d c/d/ b b/ ./b .//b/. sv/a
        tell sv -v up a/; tell sv -v up b/; tell sv -v up ./b/; tell sv -v up c/d
        cd b; tell sv status . ./ ../sv/a; tell sv -v up .; tell sv status ''; cd ..
        tell env SVDIR=sv sv status a; tell env SVDIR= sv status a b/; tell env SVDIR=nowhere sv status a ./b
        tell env -u SVDIR sv status no-such-service-anywhere
        tell sv status .hidden; mkdir sv/file.d; : >sv/file; tell sv status file file.d
    "#;
    twin(script);
}

#[test]
fn each_trouble_counts_up_to_99() {
    let script = r#"
        service sv/a; supervise sv/a
        tell sv status a x y z; tell sv up x a y; tell sv stop x a y
        tell sv status $(seq 1001 1098); tell sv status $(seq 1001 1099); tell sv status $(seq 1001 1300)
    "#;
    let Some(seen) = twin(script) else { return };
    assert!(seen.stdout.contains("=> 98\n"), "{}", seen.stdout);
    assert!(seen.stdout.ends_with("=> 99\n"), "{}", seen.stdout);
}

#[test]
fn ansible_and_the_monitors_read_what_they_expect() {
    let script = r#"
        service sv/a; supervise sv/a; sv status "$PWD/sv/a" | grep -Eq '^run: .*/a: \(pid [0-9]+\) [0-9]+s$'; echo $?
        sv stop a >/dev/null; sv status "$PWD/sv/a" | grep -Eq '^down: .*/a: [0-9]+s, normally up$'; echo $?
    "#;
    if let Some(seen) = twin(script) {
        says(&seen, "0\n0");
    }
}
