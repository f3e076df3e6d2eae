use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;
use tempfile::TempDir;

fn failure(step: Step, errno: Errno, detail: &str) -> Failure {
    Failure {
        step: step.number(),
        errno: errno as i32,
        detail: detail.to_owned(),
        class: FailureClass::Elsewhere,
    }
}

fn run_script(content: &str, mode: u32) -> TempDir {
    let dir = tempfile::tempdir().expect("dir");
    let run = dir.path().join("run");
    fs::write(&run, content).expect("run");
    fs::set_permissions(&run, fs::Permissions::from_mode(mode)).expect("mode");
    dir
}

/// Lets the kernel refuse the script, and puts what it says into words.
fn refused(dir: &TempDir) -> Words {
    let errno = (0..)
        .map(|_| refusal(dir))
        // A test beside us that forks while the script is written holds it open until its exec.
        .find(|errno| *errno != Errno::ETXTBSY)
        .expect("an errno");
    let failure = failure(Step::Exec, errno, "");
    words(
        &failure,
        &Spec::default(),
        dir.path().to_str().expect("text"),
    )
}

fn refusal(dir: &TempDir) -> Errno {
    let error = Command::new(dir.path().join("run"))
        .arg0("./run")
        .spawn()
        .expect_err("not executable");
    Errno::from_raw(error.raw_os_error().expect("errno"))
}

#[test]
fn a_report_needs_its_head_and_a_step_that_we_know() {
    assert_eq!(parse(b""), None);
    assert_eq!(parse(&[6, 2, 0, 0]), None);
    assert_eq!(parse(&[200, 2, 0, 0, 0]), None);
    let mut bytes = vec![6];
    bytes.extend(2i32.to_ne_bytes());
    assert_eq!(parse(&bytes), Some((Step::Exec, 2, String::new())));
    bytes.extend(b"\xffx");
    assert_eq!(parse(&bytes), Some((Step::Exec, 2, "\u{fffd}x".to_owned())));
    bytes.extend([b'x'; 500]);
    let (_, _, detail) = parse(&bytes).expect("parsed");
    assert!(detail.len() <= DETAIL_BYTES_MAX + 2);
}

#[test]
fn a_script_that_is_not_executable_names_the_chmod() {
    let dir = run_script("#!/bin/sh\n", 0o644);
    let words = refused(&dir);
    assert_eq!(
        words.message,
        "cannot start: ./run is not executable (EACCES)"
    );
    let run = dir.path().join("run");
    assert_eq!(words.advice, format!("chmod +x {}", run.display()));
    assert_eq!(
        (words.code, words.class),
        ("run-not-executable", FailureClass::Local)
    );
}

#[test]
fn a_missing_interpreter_is_named_and_comes_back_by_itself() {
    let words = refused(&run_script("#! /no/such/python3 -u\n", 0o755));
    assert_eq!(
        words.message,
        "cannot start: ./run: its interpreter /no/such/python3 is missing (ENOENT)"
    );
    assert_eq!(
        (words.code, words.class),
        ("interpreter-missing", FailureClass::Elsewhere)
    );
}

#[test]
fn an_interpreter_that_is_no_program_is_named() {
    let words = refused(&run_script("#!/etc/passwd\n", 0o755));
    assert_eq!(words.code, "interpreter-not-executable");
    assert!(words.message.contains("/etc/passwd"), "{}", words.message);
}

#[test]
fn windows_line_ends_are_said_to_be_the_cause() {
    let words = refused(&run_script("#!/bin/sh\r\nexec true\r\n", 0o755));
    assert!(
        words.message.contains("Windows line ends"),
        "{}",
        words.message
    );
    assert!(words.message.contains("/bin/sh\\r"), "{}", words.message);
    assert!(
        words.advice.starts_with("sed -i 's/\\r$//' /"),
        "{}",
        words.advice
    );
    assert_eq!(words.class, FailureClass::Local);
}

#[test]
fn a_missing_first_line_is_said_to_be_missing() {
    let words = refused(&run_script("exec true\n", 0o755));
    assert_eq!(words.code, "run-without-interpreter");
    assert!(
        words.advice.starts_with("sed -i '1i #!/bin/sh' /"),
        "{}",
        words.advice
    );
}

#[test]
fn a_missing_run_a_dangling_one_and_a_directory_are_told_apart() {
    let dir = tempfile::tempdir().expect("dir");
    let run = dir.path().join("run");
    let words = refused(&dir);
    assert_eq!(words.message, "cannot start: ./run is missing");
    assert_eq!(
        (words.code, words.class),
        ("run-missing", FailureClass::Local)
    );
    symlink("/no/such/script", &run).expect("link");
    let words = refused(&dir);
    assert!(
        words.message.contains("link to /no/such/script"),
        "{}",
        words.message
    );
    assert_eq!(words.class, FailureClass::Elsewhere);
    fs::remove_file(&run).expect("remove");
    fs::create_dir(&run).expect("directory");
    assert_eq!(refused(&dir).code, "run-is-a-directory");
}

#[test]
fn a_program_of_exec_is_named_by_its_path_and_searched_again_later() {
    let spec = Spec {
        start: Start::Exec(vec!["/no/such/httpd".into(), "-f".into()]),
        ..Spec::default()
    };
    let gone = failure(Step::Exec, Errno::ENOENT, "/no/such/httpd");
    let words = words(&gone, &spec, "/s/web");
    assert_eq!(words.message, "cannot start: /no/such/httpd is missing");
    assert_eq!(
        (words.code, words.class),
        ("program-missing", FailureClass::Elsewhere)
    );
}

#[test]
fn a_refused_switch_of_user_tells_the_two_ways_out() {
    let refused = failure(Step::SetUid, Errno::EPERM, "www");
    let words = words(&refused, &Spec::default(), "/s/web");
    assert_eq!(
        words.message,
        "cannot start: set user www: Operation not permitted (EPERM)"
    );
    assert!(
        words
            .advice
            .starts_with("start outlast as root, or leave user")
    );
}

#[test]
fn shortages_are_tried_again_soon() {
    for errno in [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ETXTBSY] {
        assert_eq!(
            classify(Step::Exec, errno as i32, &Start::Script),
            FailureClass::Passing
        );
    }
    let words = words(
        &failure(Step::Fork, Errno::EAGAIN, ""),
        &Spec::default(),
        "/s/a",
    );
    assert!(
        words.message.starts_with("cannot start: fork: "),
        "{}",
        words.message
    );
    assert!(words.advice.contains("pids.max"));
}

#[test]
fn every_step_has_words_without_loose_ends() {
    for step in (0..=u8::MAX).filter_map(Step::from_number) {
        for errno in [
            Errno::EPERM,
            Errno::ENOENT,
            Errno::EACCES,
            Errno::EINVAL,
            Errno::ENOMEM,
        ] {
            for detail in ["", "thing"] {
                let failure = failure(step, errno, detail);
                let words = words(&failure, &Spec::default(), "/no/such/a");
                assert!(words.message.starts_with("cannot start: "), "{words:?}");
                assert!(!words.message.contains("  "), "{words:?}");
                assert!(!words.message.ends_with([' ', ':']), "{words:?}");
            }
        }
    }
}

#[test]
fn a_name_out_of_a_script_can_not_write_to_the_terminal() {
    let words = refused(&run_script("#!/no/\x1b[31msuch\n", 0o755));
    assert!(!words.message.contains('\x1b'), "{}", words.message);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_report_or_none(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        if let Some((step, errno, detail)) = parse(&bytes) {
            let failure = Failure { step: step.number(), errno, detail, class: FailureClass::Passing };
            let words = words(&failure, &Spec::default(), "/no/such/a");
            proptest::prop_assert!(words.message.starts_with("cannot start: "));
        }
    }

    #[test]
    fn any_first_line_has_words(line in "#!\\PC{0,60}|#![ \t/a-z\r\x00]{0,300}|\\PC{0,20}") {
        let dir = run_script(&line, 0o755);
        for errno in [Errno::ENOENT, Errno::EACCES, Errno::ENOEXEC] {
            let failure = failure(Step::Exec, errno, "");
            let words = words(&failure, &Spec::default(), dir.path().to_str().expect("text"));
            proptest::prop_assert!(!words.message.contains(char::is_control), "{:?}", words.message);
        }
    }
}

#[test]
fn nobody_is_told_to_change_a_file_that_is_not_the_services() {
    let dir = run_script("no program\n", 0o644);
    let own = dir.path().join("run");
    let other = run_script("no program\n", 0o644);
    let (own, other) = (own, other.path().join("run"));
    let advice = |program: &Path, errno| {
        let spec = Spec {
            start: Start::Exec(vec![program.display().to_string()]),
            ..Spec::default()
        };
        let failure = failure(Step::Exec, errno, "");
        words(&failure, &spec, dir.path().to_str().expect("text")).advice
    };
    assert_eq!(
        advice(&own, Errno::EACCES),
        format!("chmod +x {}", own.display())
    );
    let foreign = "name another program in exec, or";
    assert_eq!(
        advice(&other, Errno::EACCES),
        format!("{foreign}: chmod +x {}", other.display())
    );
    assert!(advice(&other, Errno::ENOEXEC).starts_with(foreign));
    let directory = other.parent().expect("a directory");
    assert_eq!(advice(directory, Errno::EACCES), "name a program in exec");
}
