//! Real starts: this test program is run once more as `outlast-launch`, by the keeper's own fork,
//! and what it became is read from files that it left.

use super::*;
use crate::launch::plan::plan;
use crate::launch::report;
use crate::machine::spec::{Limit, Spec, Start};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::Resource;
use nix::unistd::geteuid;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

const MEMFD: &str = "outlast-test-plan";

/// Not a test: the way into [`main`] for [`start`]. Run by hand it finds no plan and does nothing.
#[test]
fn entry_of_started_copies() {
    let plan = fs::read_link("/proc/self/fd/3").unwrap_or_default();
    if plan.to_string_lossy().contains(MEMFD) {
        main();
    }
}

/// Out of the way of the numbers that the child uses.
fn high(fd: impl AsFd) -> OwnedFd {
    let number: RawFd = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(50)).expect("duplicate");
    sys::adopt(number).expect("open")
}

/// What came through the report pipe (nothing when the exec worked), and the wait status.
fn start(plan: &Plan, dir: &Path) -> (Vec<u8>, i32) {
    start_with(&serde_json::to_vec(plan).expect("json"), dir)
}

fn start_with(plan: &[u8], dir: &Path) -> (Vec<u8>, i32) {
    let memfd = memfd_create(MEMFD, MFdFlags::MFD_CLOEXEC).expect("memfd");
    let mut file = File::from(high(memfd));
    file.write_all(plan).expect("written");
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("pipe");
    let (output, output_writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("pipe");
    let (reader, output) = (high(reader), high(output));
    let (writer, output_writer) = (high(writer), high(output_writer));
    let directory = high(File::open(dir).expect("dir"));
    let exe = std::env::current_exe().expect("exe");
    let program = CString::new(exe.as_os_str().as_bytes()).expect("path");
    let argv = [
        "outlast-launch",
        "launch::carry::tests::entry_of_started_copies",
        "--exact",
        "--nocapture",
        "--test-threads=1",
    ]
    .map(|argument| CString::new(argument).expect("argument"));
    let nofile = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
    let pid = sys::spawn(&sys::Child {
        program: &program,
        argv: &argv,
        environment: &sys::Environment::of_this_process(),
        session: true,
        keep_ignored: false,
        changed: sys::changed_signals(),
        directory: Some(directory.as_fd()),
        standard: [None, Some(output_writer.as_fd()), None],
        extra: Some(file.as_fd()),
        report: writer.as_fd(),
        keep_report: true,
        nofile,
        oom: b"",
        steps: [3, 4, 5, 6],
        shares: None,
    })
    .expect("fork");
    drop((writer, output_writer));
    let mut report = Vec::new();
    File::from(reader).read_to_end(&mut report).expect("report");
    let mut text = Vec::new();
    File::from(output).read_to_end(&mut text).expect("output");
    let status = nix::sys::wait::waitpid(pid, None).expect("wait");
    let code = match status {
        nix::sys::wait::WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    };
    (report, code)
}

/// A directory that any user may enter, with a place to write.
fn open_dir() -> TempDir {
    let dir = tempfile::tempdir().expect("dir");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("mode");
    dir
}

fn shell(script: &str) -> Spec {
    Spec {
        start: Start::Exec(vec!["sh".into(), "-c".into(), script.into()]),
        ..Spec::default()
    }
}

fn started(spec: &Spec, dir: &TempDir) -> String {
    let plan = plan(spec, None, dir.path().to_str().expect("text")).expect("plan");
    let (report, code) = start(&plan, dir.path());
    assert_eq!(report::parse(&report), None, "{:?}", report::parse(&report));
    assert_eq!(code, 0);
    fs::read_to_string(dir.path().join("out")).expect("out")
}

fn refused(spec: &Spec, dir: &TempDir) -> (Step, Errno, String) {
    let plan = plan(spec, None, dir.path().to_str().expect("text")).expect("plan");
    let (report, code) = start(&plan, dir.path());
    assert_eq!(code, 111);
    assert!(
        !dir.path().join("out").exists(),
        "it was started all the same"
    );
    let (step, errno, detail) = report::parse(&report).expect("a report");
    (step, Errno::from_raw(errno), detail)
}

fn line<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let found = status.lines().find_map(|line| line.strip_prefix(name));
    found.expect("line").split_whitespace().collect()
}

fn root() -> bool {
    let root = geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

#[test]
fn environment_limits_umask_and_directory_reach_the_program() {
    let dir = open_dir();
    let here = dir.path().to_str().expect("text").to_owned();
    fs::write(dir.path().join("conf"), "B=\"from file\"\nA=file\n").expect("conf");
    let mut spec = shell(&format!(
        "exec >{here}/out; pwd; umask; ulimit -Sn; ulimit -Hn; echo $A; echo $B; echo $C"
    ));
    let identity = &mut spec.identity;
    identity.env = [("A", "table"), ("C", "c")]
        .map(|(n, v)| (n.into(), v.into()))
        .into();
    identity.env_files.push("conf".into());
    identity.umask = Some(0o27);
    identity.directory = Some("/".into());
    identity.limits.push(Limit {
        resource: "nofile".into(),
        soft: Some(77),
        hard: Some(99),
    });
    let out = started(&spec, &dir);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines, ["/", "0027", "77", "99", "file", "from file", "c"]);
}

#[test]
fn broken_pipes_kill_the_program_as_they_would_without_us() {
    let dir = open_dir();
    let out = started(&shell("grep SigIgn /proc/self/status >out"), &dir);
    let ignored = u64::from_str_radix(line(&out, "SigIgn:")[0], 16).expect("mask");
    assert_eq!(ignored & (1 << (nix::libc::SIGPIPE - 1)), 0);
}

#[test]
fn plan_and_report_are_closed_for_the_program() {
    let dir = open_dir();
    let out = started(
        &shell("readlink /proc/self/fd/3 /proc/self/fd/4 >out; exit 0"),
        &dir,
    );
    assert_eq!(out.lines().filter(|line| line.contains(MEMFD)).count(), 0);
    assert_eq!(out.lines().filter(|line| line.contains("pipe:")).count(), 0);
}

#[test]
fn a_user_by_name_gets_all_ids_all_groups_and_its_home() {
    if !root() {
        return;
    }
    let dir = open_dir();
    let mut spec = shell("env >env; cat /proc/self/status >out");
    spec.identity.user = Some("daemon".into());
    let status = started(&spec, &dir);
    let user = users::user("daemon").expect("daemon");
    let uid = user.uid.to_string();
    let gid = user.gid.expect("gid");
    assert_eq!(line(&status, "Uid:"), [uid.as_str(); 4]);
    assert_eq!(line(&status, "Gid:"), [gid.to_string().as_str(); 4]);
    let groups = users::groups_of(&user, gid).expect("groups");
    let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
    assert_eq!(line(&status, "Groups:"), groups);
    assert_eq!(line(&status, "CapEff:"), ["0000000000000000"]);
    let env = fs::read_to_string(dir.path().join("env")).expect("env");
    assert!(
        env.lines()
            .any(|line| line == format!("HOME={}", user.home)),
        "{env}"
    );
    assert!(env.lines().any(|line| line == "USER=daemon"), "{env}");
}

#[test]
fn numbers_a_group_and_a_list_of_groups_are_taken_as_they_stand() {
    if !root() {
        return;
    }
    let dir = open_dir();
    let mut spec = shell("cat /proc/self/status >out");
    spec.identity.user = Some("4711".into());
    spec.identity.group = Some("4712".into());
    spec.identity.groups = Some(vec!["daemon".into(), "4713".into()]);
    let status = started(&spec, &dir);
    assert_eq!(line(&status, "Uid:"), ["4711"; 4]);
    assert_eq!(line(&status, "Gid:"), ["4712"; 4]);
    let daemon = users::group("daemon").expect("daemon").to_string();
    assert_eq!(line(&status, "Groups:"), [&daemon, "4712", "4713"]);
}

#[test]
fn no_group_of_root_is_left_when_none_is_asked_for() {
    if !root() {
        return;
    }
    let dir = open_dir();
    let mut spec = shell("cat /proc/self/status >out");
    spec.identity.user = Some("4711".into());
    spec.identity.group = Some("4712".into());
    spec.identity.groups = Some(Vec::new());
    assert_eq!(line(&started(&spec, &dir), "Groups:"), ["4712"]);
}

#[test]
fn the_output_pipe_can_be_opened_again_after_the_switch() {
    if !root() {
        return;
    }
    let dir = open_dir();
    let mut spec = shell("echo again >/dev/stdout && echo yes >out");
    spec.identity.user = Some("daemon".into());
    assert_eq!(started(&spec, &dir), "yes\n");
}

#[test]
fn the_directory_is_entered_with_the_users_own_rights() {
    if !root() {
        return;
    }
    let dir = open_dir();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).expect("dir");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("mode");
    let mut spec = shell("echo >out");
    spec.identity.user = Some("daemon".into());
    spec.identity.directory = Some("closed".into());
    let (step, errno, detail) = refused(&spec, &dir);
    assert_eq!(
        (step, errno, detail.as_str()),
        (Step::Directory, Errno::EACCES, "closed")
    );
}

#[test]
fn who_is_not_root_may_be_itself_and_nobody_else() {
    if !root() {
        return;
    }
    let dir = open_dir();
    let here = dir.path().to_str().expect("text");
    // The inner plan is carried out by a process that has given root up already.
    let mut inner = shell("cat /proc/self/status >out");
    for (user, wanted) in [("daemon", None), ("root", Some(Step::SetGroups))] {
        inner.identity.user = Some(user.into());
        let mut both = plan(&inner, None, here).expect("plan");
        let outer = Do::Credentials {
            user: Some("daemon".into()),
            group: None,
            groups: None,
        };
        both.steps.insert(0, outer);
        let _ = fs::remove_file(dir.path().join("out"));
        let (report, _) = start(&both, dir.path());
        let step = report::parse(&report).map(|(step, _, _)| step);
        assert_eq!(step, wanted, "{user}");
        assert_eq!(dir.path().join("out").exists(), wanted.is_none());
    }
}

#[test]
fn who_is_not_root_gets_the_named_groups_or_no_start() {
    if !root() {
        return;
    }
    let dir = open_dir();
    let here = dir.path().to_str().expect("text");
    let mut inner = shell("echo >out");
    inner.identity.user = Some("daemon".into());
    for (group, wanted) in [("daemon", None), ("adm", Some(Step::SetGroups))] {
        inner.identity.groups = Some(vec![group.into()]);
        let mut both = plan(&inner, None, here).expect("plan");
        let outer = Do::Credentials {
            user: Some("daemon".into()),
            group: None,
            groups: None,
        };
        both.steps.insert(0, outer);
        let (report, _) = start(&both, dir.path());
        assert_eq!(
            report::parse(&report).map(|(step, _, _)| step),
            wanted,
            "{group}"
        );
    }
}

#[test]
fn an_unknown_user_or_group_ends_the_start_with_its_name() {
    let dir = open_dir();
    let mut spec = shell("echo >out");
    spec.identity.user = Some("no-such-user".into());
    let (step, errno, detail) = refused(&spec, &dir);
    assert_eq!((step, errno), (Step::User, Errno::ENOENT));
    assert_eq!(detail, "there is no user no-such-user");
    spec.identity.user = None;
    spec.identity.group = Some("no-such-group".into());
    let (step, _, detail) = refused(&spec, &dir);
    assert_eq!(
        (step, detail.as_str()),
        (Step::Group, "there is no group no-such-group")
    );
}

#[test]
fn a_user_without_entry_and_without_group_is_refused_and_not_given_roots_group() {
    let dir = open_dir();
    let mut spec = shell("echo >out");
    spec.identity.user = Some("4711".into());
    assert_eq!(refused(&spec, &dir).0, Step::Group);
}

#[test]
fn programs_that_are_not_there_or_may_not_run_are_told_apart() {
    let dir = open_dir();
    let mut spec = shell("");
    spec.start = Start::Exec(vec!["no-such-program".into()]);
    assert_eq!(refused(&spec, &dir).0, Step::Search);
    spec.start = Start::Exec(vec!["./no-such-program".into()]);
    let (step, errno, _) = refused(&spec, &dir);
    assert_eq!((step, errno), (Step::Exec, Errno::ENOENT));
    fs::write(dir.path().join("prog"), "#!/no/such/interpreter\n").expect("file");
    let here = dir.path().to_str().expect("text");
    spec.identity
        .env
        .insert("PATH".into(), format!("/nowhere:{here}"));
    spec.start = Start::Exec(vec!["prog".into()]);
    let (step, errno, detail) = refused(&spec, &dir);
    assert_eq!((step, errno), (Step::Exec, Errno::EACCES));
    assert_eq!(detail, format!("{here}/prog"));
    fs::set_permissions(dir.path().join("prog"), fs::Permissions::from_mode(0o755)).expect("mode");
    let (step, errno, _) = (0..)
        .map(|_| refused(&spec, &dir))
        // A test beside us that forks while the file is written holds it open until its exec.
        .find(|(_, errno, _)| *errno != Errno::ETXTBSY)
        .expect("a refusal");
    assert_eq!((step, errno), (Step::Exec, Errno::ENOENT));
}

#[test]
fn a_limit_that_may_not_be_raised_or_does_not_exist_ends_the_start() {
    let dir = open_dir();
    let mut spec = shell("echo >out");
    let limit = |resource: &str, soft, hard| Limit {
        resource: resource.into(),
        soft,
        hard,
    };
    spec.identity.limits = vec![limit("nofile", Some(1 << 40), Some(1 << 40))];
    let (step, errno, detail) = refused(&spec, &dir);
    assert_eq!(
        (step, errno, detail.as_str()),
        (Step::Limit, Errno::EPERM, "nofile")
    );
    spec.identity.limits = vec![limit("bogus", None, None)];
    assert_eq!(refused(&spec, &dir).0, Step::Limit);
}

#[test]
fn a_plan_that_is_none_is_refused() {
    let dir = open_dir();
    let large = vec![b' '; PLAN_BYTES_MAX + 1];
    for bytes in [
        b"".as_slice(),
        b"{\"steps\":[\"Bogus\"]}",
        b"\xff\xff",
        &large,
    ] {
        let (report, code) = start_with(bytes, dir.path());
        assert_eq!(code, 111);
        assert_eq!(
            report::parse(&report).map(|(step, _, _)| step),
            Some(Step::Plan)
        );
    }
    let empty = Plan {
        steps: Vec::new(),
        argv0: None,
        argv: Vec::new(),
    };
    let (report, _) = start(&empty, dir.path());
    assert_eq!(
        report::parse(&report).map(|(step, _, _)| step),
        Some(Step::Plan)
    );
}

#[test]
fn argv0_and_the_new_session_are_as_planned() {
    let dir = open_dir();
    let plan = Plan {
        steps: Vec::new(),
        argv0: Some("-pretender".into()),
        argv: [
            "sh",
            "-c",
            "echo $0 >out; tr '\\0' ' ' </proc/$$/cmdline >>out",
            "zero",
        ]
        .map(String::from)
        .into(),
    };
    let (report, code) = start(&plan, dir.path());
    assert_eq!((report.len(), code), (0, 0));
    let out = fs::read_to_string(dir.path().join("out")).expect("out");
    assert!(out.contains("-pretender -c"), "{out}");
}

#[test]
fn a_detail_is_cut_at_a_character_border() {
    let broken = Broken {
        step: Step::User,
        errno: 2,
        detail: "ä".repeat(200),
    };
    let bytes = encode(&broken);
    assert_eq!(bytes.len(), 5 + DETAIL_BYTES_MAX);
    let (_, _, detail) = report::parse(&bytes).expect("parsed");
    assert_eq!(detail.chars().count(), DETAIL_BYTES_MAX / 2);
}

#[test]
fn a_cgroup_that_is_not_there_ends_the_start() {
    let dir = open_dir();
    let plan = plan(&shell("echo >out"), Some("/no/such/cgroup"), "/s").expect("plan");
    let (report, _) = start(&plan, dir.path());
    let (step, _, detail) = report::parse(&report).expect("report");
    assert_eq!(
        (step, detail.as_str()),
        (Step::Cgroup, "/no/such/cgroup/cgroup.procs")
    );
}
