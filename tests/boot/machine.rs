//! A virtual machine for one test: files laid over a small root, a console to type at and to read.

use crate::live::world::BINARY;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Longest time for anything in a machine on a computer that is busy with all the other tests.
const PATIENCE: Duration = Duration::from_secs(120);
/// When the machine ends by itself.
const SECONDS_MAX: &str = "300";
/// How it ended.
pub const POWERED_OFF: i32 = 0;
pub const REBOOTED: i32 = 3;

/// What is laid over the root.
pub struct Overlay(tempfile::TempDir);

impl Overlay {
    /// Our program at /usr/bin/outlast, linked to by the names that a machine with runit uses. None,
    /// with a line to say so, where no machine can be had.
    pub fn new() -> Option<Overlay> {
        if std::env::var_os("OUTLAST_VM").is_none() {
            println!("skipped: needs a virtual machine (OUTLAST_VM names no program)");
            return None;
        }
        let overlay = Overlay(tempfile::tempdir().expect("temporary directory"));
        let bin = overlay.path("usr/bin");
        fs::create_dir_all(&bin).expect("directory");
        fs::create_dir_all(overlay.path("sbin")).expect("directory");
        fs::copy(program(), bin.join("outlast")).expect("copied");
        for name in ["sv", "runsv", "runsvdir", "svlogd", "chpst"] {
            symlink("outlast", bin.join(name)).expect("link");
        }
        for name in ["init", "runit", "runit-init"] {
            symlink("/usr/bin/outlast", overlay.path("sbin").join(name)).expect("link");
        }
        overlay.script("etc/service/getty/run", "exec getty -L 115200 ttyS0 vt100");
        Some(overlay)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn file(&self, name: &str, content: &str) -> &Overlay {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        fs::write(path, content).expect("written");
        self
    }

    /// An executable one in sh.
    pub fn script(&self, name: &str, body: &str) -> &Overlay {
        let lines = format!("#!/bin/sh\nPATH=/usr/bin:/usr/sbin:/bin:/sbin\n{body}\n");
        self.file(name, &lines);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path(name), mode).expect("mode");
        self
    }

    /// `options` as the program that boots takes them.
    pub fn boot(&self, options: &[&str]) -> Machine {
        Machine::start(self.0.path(), options)
    }
}

/// Without its symbols a boot is a second faster.
fn program() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let stripped = Path::new(BINARY).with_file_name("outlast-for-machines");
        let done = Command::new("strip")
            .arg("-o")
            .args([&stripped, Path::new(BINARY)])
            .status();
        match done {
            Ok(status) if status.success() => stripped,
            _ => BINARY.into(),
        }
    })
}

pub struct Machine {
    child: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    seen: String,
    /// What stands before it has been looked at.
    mark: usize,
    commands: u32,
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    fn start(overlay: &Path, options: &[&str]) -> Machine {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let vm = std::env::var_os("OUTLAST_VM").expect("asked for before");
        let mut child = Command::new("python3")
            .arg(vm)
            .arg(overlay)
            .args(["--timeout", SECONDS_MAX])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let keyboard = child.stdin.take().expect("stdin");
        let mut console = child.stdout.take().expect("stdout");
        let (tell, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = console.read(&mut buffer) {
                if tell.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Machine {
            child,
            keyboard,
            screen,
            seen: String::new(),
            mark: 0,
            commands: 0,
            _alone: alone,
        }
    }

    /// Waits until the console has shown this since the last time; returns what stood before it.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen[self.mark..].find(text) {
                let before = self.seen[self.mark..self.mark + at].to_owned();
                self.mark += at + text.len();
                return before;
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Timeout) => panic!("no {text:?} on:\n{}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the machine has ended without {text:?}:\n{}", self.seen)
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.seen
            .push_str(&String::from_utf8_lossy(bytes).replace('\r', ""));
    }

    pub fn types(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").expect("typed");
    }

    /// From the login prompt to a shell.
    #[track_caller]
    pub fn logs_in(&mut self) {
        self.shows("login: ");
        self.types("root");
        self.shows("# ");
    }

    /// What a command prints, without the lines that process 1 and its supervisor write between. It and
    /// its end are told from its echo by what the shell makes of them.
    #[track_caller]
    pub fn runs(&mut self, command: &str) -> String {
        self.commands += 1;
        let number = self.commands;
        self.types(&format!(
            "echo be''gin-{number}; {command}; echo e''nd-{number}"
        ));
        self.shows(&format!("begin-{number}\n"));
        let shown = self.shows(&format!("end-{number}\n"));
        let of_ours = |line: &str| line.contains(" * ") || line.starts_with("- ");
        let lines = shown.split_inclusive('\n');
        lines.filter(|line| !of_ours(line)).collect()
    }

    /// Runs it until it prints what is wanted.
    #[track_caller]
    pub fn comes_to(&mut self, command: &str, wanted: &str) -> String {
        let again = format!("while ! {{ {command}; }} 2>&1 | tee /tmp/out | grep -q '{wanted}'");
        self.runs(&format!("{again}; do usleep 100000; done; cat /tmp/out"))
    }

    /// How it ended, and all that its console has shown.
    #[track_caller]
    pub fn ends(mut self) -> (i32, String) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the machine goes on:\n{}", self.seen),
            }
        }
        let status = self.child.wait().expect("an exit code");
        let code = status.code().unwrap_or(-1);
        (code, std::mem::take(&mut self.seen))
    }
}

impl Drop for Machine {
    /// An interrupt, so that the program ends its machine as well.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("pid"));
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
            let _ = self.child.wait();
        }
    }
}
