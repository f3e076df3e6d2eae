//! One script, two sets of programs.
//!
//! A script runs in `sh` in an empty directory of its own, once with runit's programs first on PATH
//! and once with ours, at the same time. What it printed, its exit code and the files that it left
//! are compared. What differs from run to run (pids, stamps, the directory's own name) is written
//! in a common way first.

use crate::live::world::BINARY;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// All names that the binary answers to.
pub const NAMES: &[&str] = &[
    "sv",
    "runsv",
    "runsvdir",
    "svlogd",
    "chpst",
    "runit",
    "runit-init",
    "utmpset",
    "runsvchdir",
    "envdir",
    "envuidgid",
    "setuidgid",
    "softlimit",
    "setlock",
    "pgrphack",
];

/// chpst's other names, which Debian's package does not link.
const CHPST_NAMES: &[&str] = &[
    "envdir",
    "envuidgid",
    "setuidgid",
    "softlimit",
    "setlock",
    "pgrphack",
];

/// Marks every process that a script leaves behind.
const MARK: &str = "OUTLAST_TWIN";

/// A script that takes longer than this has hung; `timeout` ends it.
const SCRIPT_SECONDS_MAX: &str = "120";

/// What a user can see of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Path below the script's directory to kind, mode and size class; see [`files`].
    pub files: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Runit,
    Ours,
}

/// Links for one set of programs, to be put first on PATH. None when runit is not installed.
pub fn programs(whose: Whose) -> Option<&'static Path> {
    static RUNIT: OnceLock<Option<PathBuf>> = OnceLock::new();
    static OURS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = match whose {
        Whose::Runit => RUNIT.get_or_init(|| {
            let chpst = installed("chpst")?;
            let dir = links("programs-of-runit");
            for name in NAMES {
                let target = if CHPST_NAMES.contains(name) {
                    Some(chpst.clone())
                } else {
                    installed(name)
                };
                if let Some(target) = target {
                    link(&target, &dir.join(name));
                }
            }
            Some(dir)
        }),
        Whose::Ours => OURS.get_or_init(|| {
            let dir = links("programs-of-ours");
            for name in NAMES {
                link(Path::new(BINARY), &dir.join(name));
            }
            Some(dir)
        }),
    };
    if made.is_none() {
        println!("skipped: runit is not installed");
    }
    made.as_deref()
}

/// A directory beside the binary for these links; made once and kept for the next time.
fn links(name: &str) -> PathBuf {
    let dir = Path::new(BINARY).with_file_name(name);
    fs::create_dir_all(&dir).expect("directory");
    dir
}

fn link(target: &Path, link: &Path) {
    if fs::read_link(link).is_ok_and(|there| there == target) {
        return;
    }
    let _ = fs::remove_file(link);
    symlink(target, link).expect("link");
}

fn installed(name: &str) -> Option<PathBuf> {
    // The last is where Debian has runit-init until it is init.
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/lib/runit"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists())
}

/// Runs the script both ways and insists on the same result, which is given back.
/// Without runit it is run with ours alone, and said so.
pub fn twin(script: &str) -> Seen {
    let (runit, ours) = both(script);
    if let Some(runit) = runit {
        assert_eq!(
            runit, ours,
            "left: runit, right: ours; the script:\n{script}"
        );
    }
    ours
}

/// Runs the script both ways at the same time.
pub fn both(script: &str) -> (Option<Seen>, Seen) {
    std::thread::scope(|scope| {
        let runit = scope.spawn(|| programs(Whose::Runit).map(|dir| run(script, dir)));
        let ours = run(script, programs(Whose::Ours).expect("links"));
        (runit.join().expect("runit's run"), ours)
    })
}

/// Runs the script once, with these programs first on PATH.
pub fn run(script: &str, programs: &Path) -> Seen {
    run_with(script, &[programs])
}

/// ... with several directories in front of PATH, the first one first.
pub fn run_with(script: &str, programs: &[&Path]) -> Seen {
    let dir = tempfile::tempdir().expect("directory");
    // Some scripts switch users.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let place = dir.path().canonicalize().expect("path");
    let mut path: Vec<PathBuf> = programs.iter().map(|dir| dir.to_path_buf()).collect();
    path.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
    let file = |name: &str| {
        let captured = tempfile::NamedTempFile::with_prefix(name).expect("file");
        let handle = captured.reopen().expect("file");
        (captured, Stdio::from(handle))
    };
    // Files and not pipes: a process left behind must not keep us waiting for their end.
    let (stdout, stdout_handle) = file("stdout");
    let (stderr, stderr_handle) = file("stderr");
    let status = Command::new("timeout")
        .args(["-k", "5", SCRIPT_SECONDS_MAX, "/bin/sh", "-c", script])
        .current_dir(&place)
        .env_clear()
        .env("PATH", std::env::join_paths(&path).expect("path"))
        .env("LC_ALL", "C")
        .env(MARK, &place)
        .stdin(Stdio::null())
        .stdout(stdout_handle)
        .stderr(stderr_handle)
        .status()
        .expect("sh");
    end_marked(&place);
    let mut found = BTreeMap::new();
    files(&place, &place, &mut found);
    let text = |captured: &tempfile::NamedTempFile| {
        let bytes = fs::read(captured.path()).expect("captured");
        common(&String::from_utf8_lossy(&bytes), &place)
    };
    Seen {
        code: status.code(),
        stdout: text(&stdout),
        stderr: text(&stderr),
        files: found,
    }
}

/// Pids, the directory's name and stamps in a common way.
fn common(text: &str, place: &Path) -> String {
    let text = text.replace(place.to_str().expect("text"), "$HERE");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("(pid ") {
        let (before, after) = rest.split_at(at + "(pid ".len());
        out.push_str(before);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        out.push_str(if digits > 0 { "N" } else { "" });
        rest = &after[digits..];
    }
    out.push_str(rest);
    out
}

/// Kind and permission bits of everything below; content of small regular files is for the script to
/// print. TAI64N names are shown as `@STAMP`.
fn files(top: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        let kind = metadata.file_type();
        let letter = if kind.is_dir() {
            'd'
        } else if kind.is_symlink() {
            'l'
        } else if kind.is_fifo() {
            'p'
        } else {
            '-'
        };
        let name = path.strip_prefix(top).expect("below").to_string_lossy();
        // On its way to be renamed when its writer was ended with the script.
        if ["pid.new", "stat.new", "status.new"]
            .iter()
            .any(|passing| name.ends_with(&format!("supervise/{passing}")))
        {
            continue;
        }
        let mode = metadata.permissions().mode() & 0o7777;
        found.insert(without_stamp(&name), format!("{letter}{mode:04o}"));
        if kind.is_dir() {
            files(top, &path, found);
        }
    }
}

fn without_stamp(name: &str) -> String {
    match name.split_once('@') {
        Some((before, after)) if after.len() >= 24 && after.is_char_boundary(24) => {
            format!("{before}@STAMP{}", &after[24..])
        }
        _ => name.to_owned(),
    }
}

/// Ends what the script left running, by pid: everything that has its mark in the environment.
fn end_marked(place: &Path) {
    let mark = [MARK.as_bytes(), b"=", place.as_os_str().as_bytes()].concat();
    // What is ended may be started again by one that is ended after it, and ends when it is scheduled.
    for _ in 0..3000 {
        let marked: Vec<i32> = fs::read_dir("/proc")
            .expect("/proc")
            .flatten()
            .filter_map(|entry| {
                let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
                let environment = fs::read(entry.path().join("environ")).ok()?;
                environment
                    .split(|byte| *byte == 0)
                    .any(|variable| variable == mark)
                    .then_some(pid)
            })
            .collect();
        if marked.is_empty() {
            return;
        }
        for pid in marked {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    panic!(
        "left behind below {}",
        OsStr::to_string_lossy(place.as_os_str())
    );
}

#[test]
fn pids_and_stamps_are_written_in_a_common_way() {
    let place = Path::new("/tmp/x");
    assert_eq!(
        common("run: /tmp/x/a: (pid 12) 3s; run: log: (pid 9) 3s\n", place),
        "run: $HERE/a: (pid N) 3s; run: log: (pid N) 3s\n"
    );
    assert_eq!(
        without_stamp("log/@4000000065a1b2c3d4e5f607.s"),
        "log/@STAMP.s"
    );
}

#[test]
fn a_difference_is_seen() {
    let (runit, ours) = both("command -v chpst >&2; exit 3");
    assert_eq!(ours.code, Some(3));
    if let Some(runit) = runit {
        assert_ne!(runit.stderr, ours.stderr);
    }
}
