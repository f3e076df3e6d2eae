//! Process 1 when a part of it can't live: no supervisor, or not even the keeper. The machine can be
//! ended all the same. Each case in a pid namespace of its own, as root or as anybody.

use crate::live::upgrade::faulty_at;
use crate::live::world::BINARY;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

/// The namespace ends by the signal that reboot(2) tells of, and `sh` tells that so.
const POWERED_OFF: Option<i32> = Some(128 + 2);
const REBOOTED: Option<i32> = Some(128 + 1);

/// A fresh /run and no stage scripts. Once process 1 has said what is waited for, somebody asks it to
/// end. Arguments: where it says so, what is waited for, the question, and process 1.
const SETTING: &str = r#"
said=$1 awaited=$2 question=$3; shift 3
mount -t tmpfs run /run && mkdir /run/none
if [ -d /etc/runit ]; then mount --bind /run/none /etc/runit; fi
(until grep -q "$awaited" "$said"; do sleep 0.1; done; eval "$question") &
exec "$@" </dev/null >>"$said" 2>&1
"#;

const UNSHARE: [&str; 6] = [
    "unshare",
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--mount-proc",
];

fn can_unshare() -> bool {
    let [program, options @ ..] = UNSHARE;
    let status = Command::new(program).args(options).arg("true").status();
    let can = status.is_ok_and(|status| status.success());
    if !can {
        println!("skipped: needs user and pid namespaces");
    }
    can
}

/// How process 1 ends, and what it has said.
fn seen(dir: &Path, awaited: &str, question: &str, first: &[&str]) -> (Option<i32>, String) {
    let said = dir.join(question.replace(['/', ' '], "-"));
    fs::write(&said, "").expect("a file");
    let mut line = vec!["timeout", "100"];
    line.extend(UNSHARE);
    line.extend(["sh", "-c", SETTING, "sh"]);
    let status = Command::new("sh")
        .args(["-c", "\"$@\"; exit $?", "sh"])
        .args(line)
        .arg(&said)
        .args([awaited, question])
        .args(first)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let said = fs::read_to_string(said).expect("what it said");
    (status.expect("sh").code(), said)
}

/// Asks in each way at once; whatever else happens, the machine ends, and in that way.
#[track_caller]
fn each_way(
    awaited: &str,
    ways: &[(&str, Option<i32>)],
    first: &[&str],
    dir: &Path,
    says: &[&str],
) {
    std::thread::scope(|scope| {
        let asked = ways.iter().map(|(question, end)| {
            let ends = scope.spawn(|| seen(dir, awaited, question, first));
            (question, *end, ends)
        });
        for (question, end, ends) in asked.collect::<Vec<_>>() {
            let (code, said) = ends.join().expect("an end");
            assert_eq!(code, end, "{question}: {said}");
            for words in says {
                assert!(said.contains(words), "{question}: {said}");
            }
        }
    });
}

/// Our names in a directory, so that they can be called by it.
fn named() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["outlast", "init", "runit-init"] {
        symlink(BINARY, dir.path().join(name)).expect("a link");
    }
    dir
}

#[test]
fn without_a_keeper_every_way_to_end_the_machine_works() {
    if !can_unshare() {
        return;
    }
    let dir = named();
    let by = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let [init, runit_init, outlast] = ["init", "runit-init", "outlast"].map(by);
    let questions = [
        (format!("{init} 6"), REBOOTED),
        (format!("{init} 0"), POWERED_OFF),
        (format!("{runit_init} 6"), REBOOTED),
        (format!("{runit_init} 0"), POWERED_OFF),
        (format!("{outlast} init 6"), REBOOTED),
        (format!("{outlast} init 0"), POWERED_OFF),
        ("kill -INT 1".to_owned(), REBOOTED),
        ("kill -PWR 1".to_owned(), POWERED_OFF),
    ];
    let ways: Vec<(&str, Option<i32>)> = questions.iter().map(|(q, end)| (&**q, *end)).collect();
    // No keeper can be made of so few descriptors.
    let few = "ulimit -n 5; exec \"$0\" init";
    let first = ["sh", "-c", few, &outlast];
    let awaited = "process 1 only reaps";
    each_way(awaited, &ways, &first, dir.path(), &["cannot hold: "]);
}

#[test]
fn with_supervisors_that_die_at_once_the_machine_can_be_ended() {
    without_a_supervisor("dying", "the supervisor ended (wait status 0x");
}

#[test]
fn with_supervisors_that_babble_the_machine_can_be_ended() {
    without_a_supervisor(
        "babbling",
        "the supervisor babbles; it is killed and replaced",
    );
}

fn without_a_supervisor(fault: &str, says: &str) {
    if !can_unshare() {
        return;
    }
    let dir = named();
    let Some(binary) = faulty_at(&dir.path().join(fault)) else {
        return;
    };
    let init = dir.path().join("init");
    let questions = [
        (format!("{} 6", init.display()), REBOOTED),
        (format!("{} 0", init.display()), POWERED_OFF),
    ];
    let ways: Vec<(&str, Option<i32>)> = questions.iter().map(|(q, end)| (&**q, *end)).collect();
    let first = [&*binary.to_string_lossy(), "init"];
    // By then several have lived, and each comes later than the one before.
    let awaited = "starts in 400 ms";
    let says = [
        says,
        "the supervisor does not end in order; going on without it",
    ];
    each_way(awaited, &ways, &first, dir.path(), &says);
}
