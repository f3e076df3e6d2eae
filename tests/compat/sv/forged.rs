//! What no runsv would leave in `supervise/`.

use super::super::twin::{Whose, programs};
use super::{ours_alone, twin};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

#[test]
fn a_status_of_another_length_or_kind() {
    let script = r#"
        service sv/a; supervise sv/a; s=sv/a/supervise/status; cp $s good
        for n in 0 1 8 18 19; do head -c $n good >$s; tell sv status a; tell sv -v up a; tell sv -v t a; tell sv check a; done
        { cat good; echo more; } >$s; tell sv status a
        rm $s; tell sv status a; tell sv stop a; mkdir $s; tell sv status a; rmdir $s
        mkfifo $s; tell sv status a; exec 5<>$s; tell sv status a; exec 5<&-; rm $s
        ln -s status $s; tell sv status a; rm $s; ln -s ../../../good $s; tell sv status a
        rm $s; ln -s /dev/zero $s; tell sv status a; rm $s; ln -s /dev/null $s; tell sv status a; rm $s
    "#;
    twin(script);
}

#[test]
fn a_control_or_ok_of_another_kind() {
    let script = r#"
        service sv/a; supervise sv/a; cd sv/a/supervise; ln -s "$PWD/.." ../../../a; cd ../../..; s=sv/a/supervise
        mv $s/control kept; tell sv t a; tell sv exit a; tell sv -v k a; : >$s/control; tell sv t a; tell sv h a; cat $s/control; echo
        rm $s/control; mkdir $s/control; tell sv t a; rmdir $s/control; mkfifo $s/control; tell sv t a; tell sv x a; tell sv restart a
        rm $s/control; ln -s /dev/full $s/control; tell sv t a; rm $s/control; ln -s control $s/control; tell sv t a; rm $s/control
        mkfifo $s/control; (exec 5<>$s/control; head -c 65536 /dev/zero >&5; tell sv t a; tell sv restart a); mv kept $s/control
        mv $s/ok kept; tell sv status a; tell sv exit a; : >$s/ok; tell sv status a; rm $s/ok; mkdir $s/ok; tell sv status a; rmdir $s/ok
        ln -s ok $s/ok; tell sv status a; rm $s/ok; mkfifo $s/ok; tell sv status a
        mv $s away; tell sv status a; tell sv -v up a; : >$s; tell sv status a; rm $s; ln -s away $s; tell sv status a; rm $s; ln -s nowhere $s; tell sv status a
    "#;
    twin(script);
}

#[test]
fn names_long_odd_and_not_utf8() {
    let script = r#"
        long=$(printf '%0255d' 1); service sv/$long; supervise sv/$long; tell sv status $long; tell sv check $long; tell sv stop $long
        longer=$(printf '%0300d' 1); tell sv status $longer; tell sv start $longer; many=$(printf '%04200d' 1); tell sv status $many | tail -c 60
        odd=$(printf 'a\377\033[1m\nb'); service "sv/$odd"; runsv "sv/$odd" & until_ 'is "sv/$odd" run'; until_ 'status_is "sv/$odd" run'
        for word in status check; do tell sv $word "$odd" | sed "s/pid [0-9]*/pid N/; s/[0-9]*s/Ns/" | od -c; done; tell sv up "$(printf '\377')" | od -c
        sp=' -a b'; service "sv/$sp"; runsv "sv/$sp" & until_ 'is "sv/$sp" run'; until_ 'status_is "sv/$sp" run'; tell sv status "$sp" '*' '$x'
    "#;
    twin(script);
}

/// One call of `sv status` over a forged service, as Ages and all.
fn status(sv: &Path, dir: &Path) -> (Option<i32>, Vec<u8>, Vec<u8>) {
    let output = Command::new(sv)
        .arg("status")
        .arg("./a")
        .current_dir(dir)
        .output()
        .expect("sv");
    (output.status.code(), output.stdout, output.stderr)
}

#[test]
fn any_twenty_bytes_read_as_runits_sv_reads_them() {
    let Some(runit) = programs(Whose::Runit) else {
        return;
    };
    let (theirs, ours) = (runit.join("sv"), ours_alone().join("sv"));
    let dir = tempfile::tempdir().expect("directory");
    let supervise = dir.path().join("a/supervise");
    fs::create_dir_all(&supervise).expect("supervise");
    let ok = supervise.join("ok");
    nix::unistd::mkfifo(&ok, nix::sys::stat::Mode::S_IRWXU).expect("fifo");
    let mut options = OpenOptions::new();
    let held = options.read(true).custom_flags(nix::libc::O_NONBLOCK);
    let _held = held.open(&ok).expect("held");
    // Flags that mean something come up often, and so does any byte.
    let flag = || {
        prop_oneof![
            Just(0u8),
            Just(1),
            Just(2),
            Just(b'u'),
            Just(b'd'),
            any::<u8>()
        ]
    };
    // Labels in the past only by centuries, or in the future: an age must not change between two calls.
    let label = prop_oneof![0..1u64 << 61, (1u64 << 62) + (1 << 40)..u64::MAX];
    let pid = prop_oneof![Just(0u32), 1..99_999u32, any::<u32>()];
    let forged = (
        label,
        any::<u32>(),
        pid,
        flag(),
        flag(),
        flag(),
        flag(),
        any::<bool>(),
    );
    let mut runner = TestRunner::new(Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(
        &forged,
        |(label, nanos, pid, paused, want, term, state, down)| {
            let mut bytes = label.to_be_bytes().to_vec();
            bytes.extend(nanos.to_be_bytes());
            bytes.extend(pid.to_le_bytes());
            bytes.extend([paused, want, term, state]);
            fs::write(supervise.join("status"), &bytes).expect("status");
            let down_file = dir.path().join("a/down");
            if down {
                fs::write(&down_file, "").expect("down");
            } else {
                let _ = fs::remove_file(&down_file);
            }
            // The age of a label in the past is counted to now; between two calls a second may pass.
            let first = status(&theirs, dir.path());
            let mine = status(&ours, dir.path());
            let second = status(&theirs, dir.path());
            prop_assert!(mine == first || mine == second, "{:?}\n{:?}", mine, first);
            Ok(())
        },
    );
    result.expect("the same words");
}
