//! A container of our own for one test: namespaces by unshare(1), and `outlast supervise` in them as
//! the first process.

use crate::live::world::{BINARY, children, comm_of, eventually, lacks, write_script};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Nobody's number, and without an entry anywhere.
const UID: &str = "51234";

/// Who is outside of the container and who within.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// Root in both.
    Root,
    /// An ordinary user outside, in a user namespace where he is called root.
    Mapped,
    /// Root makes the container; within everything is a user without a name.
    Nameless,
}

impl Who {
    pub const ALL: [Who; 3] = [Who::Root, Who::Mapped, Who::Nameless];
}

pub struct Ship {
    dir: tempfile::TempDir,
    before: String,
    who: Who,
    shell: Option<Child>,
    first: i32,
}

impl Ship {
    /// None, with a line to say so, where the kernel does not permit it.
    pub fn new(who: Who) -> Option<Ship> {
        if lacks("unshare") || lacks("setpriv") {
            return None;
        }
        let possible = wrapped(who)
            .args(["sh", "-c", "mount -t tmpfs none /mnt && exec true"])
            .stderr(Stdio::null())
            .status();
        if !possible.is_ok_and(|status| status.success()) {
            println!("skipped: {who:?} may not make namespaces here");
            return None;
        }
        let dir = tempfile::tempdir().expect("tempdir");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("open");
        fs::copy(BINARY, dir.path().join("outlast")).expect("a copy that others can reach");
        for name in ["services", "out"] {
            fs::create_dir(dir.path().join(name)).expect("mkdir");
            let open = Permissions::from_mode(0o777);
            fs::set_permissions(dir.path().join(name), open).expect("open");
        }
        Some(Ship {
            dir,
            before: String::new(),
            who,
            shell: None,
            first: 0,
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn service(&self, name: &str, files: &[(&str, &str)]) {
        for (file, content) in files {
            write_script(&self.path("services").join(name).join(file), content);
        }
    }

    /// What is done in the container, as its root, before outlast starts. The ship's directory is
    /// `/mnt` in there, `out` below it can be written.
    pub fn prepare(&mut self, commands: &str) {
        self.before.push_str(commands);
        self.before.push('\n');
    }

    /// The environment is empty but for PATH: no HOME, no XDG_RUNTIME_DIR.
    pub fn sail(&mut self, options: &str) {
        self.sail_into(options, None);
    }

    pub fn sail_into(&mut self, options: &str, stdout: Option<Stdio>) {
        let become_nameless = match self.who {
            Who::Nameless => format!("setpriv --reuid {UID} --regid {UID} --clear-groups"),
            Who::Root | Who::Mapped => String::new(),
        };
        let script = format!(
            "set -e; mount --bind {} /mnt\n\
             mount -t tmpfs -o mode=1777 tmpfs /tmp; mount -t tmpfs tmpfs /run\n\
             mount -t tmpfs tmpfs /var/log\n{}\n\
             exec {become_nameless} env -i PATH=\"$PATH\" \
             /mnt/outlast supervise {options} /mnt/services",
            self.dir.path().display(),
            self.before
        );
        let create = |name: &str| Stdio::from(File::create(self.path(name)).expect("a file"));
        let shell = wrapped(self.who)
            .args(["sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(stdout.unwrap_or_else(|| create("stdout")))
            .stderr(create("stderr"))
            .spawn()
            .expect("unshare");
        let outside = i32::try_from(shell.id()).expect("pid");
        self.shell = Some(shell);
        self.first = eventually("the first process is outlast", || {
            let found = children(outside).first().copied()?;
            (comm_of(found) == "outlast-keeper").then_some(found)
        });
    }

    /// The number, outside, of the first process in there.
    pub fn first(&self) -> i32 {
        self.first
    }

    pub fn signal(&self, signal: i32) {
        let pid = nix::unistd::Pid::from_raw(self.first);
        // Real-time signals have no name in nix.
        let number = signal.to_string();
        let sent = Command::new("kill")
            .args([&format!("-{number}"), &pid.to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(self.path("stdout")).unwrap_or_default()
    }

    pub fn said(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    pub fn until_line(&self, wanted: &str) {
        eventually(&format!("stdout has {wanted:?}"), || {
            self.stdout().contains(wanted).then_some(())
        });
    }

    pub fn until_said(&self, wanted: &str) {
        eventually(&format!("stderr has {wanted:?}"), || {
            self.said().contains(wanted).then_some(())
        });
    }

    /// The exit code that whoever made the container sees.
    pub fn until_ended(&mut self) -> Option<i32> {
        let mut shell = self.shell.take().expect("a container");
        eventually("the container ends", || shell.try_wait().expect("wait")).code()
    }
}

impl Drop for Ship {
    fn drop(&mut self) {
        if let Some(mut shell) = self.shell.take() {
            if std::thread::panicking() {
                eprintln!("{}\n{}", self.stdout(), self.said());
            }
            // All that is in there goes with its first process, and that with who made it.
            let _ = shell.kill();
            let _ = shell.wait();
        }
    }
}

fn wrapped(who: Who) -> Command {
    let own = ["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"];
    let root = nix::unistd::geteuid().is_root();
    let mut command = match (who, root) {
        (Who::Mapped, true) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", UID, "--regid", UID, "--clear-groups", "unshare"]);
            command
        }
        _ => Command::new("unshare"),
    };
    if who == Who::Mapped {
        command.arg("-Ur");
    }
    command.args(own);
    command
}
