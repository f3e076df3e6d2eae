//! The console: as the controlling terminal of a stage, in place of descriptors that are none, and
//! with a shell on it when the boot can't go on by itself.

use super::say;
use crate::os::{control, default_sigpipe, fds};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Asks for root's password, where there is one of them.
const GUARDED: [&str; 2] = ["/sbin/sulogin", "/usr/sbin/sulogin"];
const SHELL: &str = "/bin/sh";
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// For stage 1, which may make the console itself.
pub fn provide_if_missing() {
    if is_stand_in() && Path::new("/dev/console").exists() {
        provide(true);
    }
}

/// Standard descriptors that lead to the console. With `controlling` it becomes the controlling
/// terminal; we lead a session of our own. Without, only descriptors that process 1 does not have
/// either are replaced.
pub fn provide(controlling: bool) {
    if !controlling && !is_stand_in() {
        return;
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let opened = open("/dev/console", flags, Mode::empty());
    let console: OwnedFd = match opened {
        Ok(console) => console,
        Err(errno) => {
            let why = crate::os::wording::cause(errno);
            eprintln!("- runit: warning: unable to open /dev/console: {why}");
            return;
        }
    };
    if controlling {
        // In a container it may be no terminal, or somebody else's.
        let _ = control(console.as_fd());
    }
    let _ = dup2_stdin(&console);
    let _ = dup2_stdout(&console);
    let _ = dup2_stderr(&console);
}

fn is_stand_in() -> bool {
    fds::stands_in(io::stderr().as_fd())
}

/// Somebody has to help. Comes back when the shell has been left; true when the boot goes on.
pub fn ask_for_help(reason: &str) -> bool {
    tell(reason);
    match shell().status() {
        Ok(status) => status.success(),
        Err(error) => {
            say(&format!("no shell: {error}; going on"));
            true
        }
    }
}

/// The same in place of this process.
pub fn become_shell(reason: &str) -> u8 {
    tell(reason);
    default_sigpipe();
    let error = shell().exec();
    say(&format!("no shell: {error}; going on"));
    0
}

fn tell(reason: &str) {
    say(&format!("the boot has stopped: {reason}"));
    say("a shell to mend it; `exit` goes on with the boot, `exit 1` shuts the machine down");
}

fn shell() -> Command {
    let guarded = GUARDED.into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(guarded.unwrap_or(SHELL));
    command.env("PATH", PATH).env("HOME", "/root");
    command
}
