//! Process 1 when its own loop has failed: it goes on reaping, and a request to power off or to
//! reboot still works. It needs no descriptor, and memory only to say something.

use super::super::say;
use crate::os::halting::{self, REBOOT, STOPIT};
use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sync};
use std::process;
use std::thread;
use std::time::Duration;

/// What everybody gets between TERM and KILL.
const GRACE: Duration = Duration::from_secs(5);

/// Never comes back.
pub fn hold() -> ! {
    say("process 1 only reaps from now on; init 6 and ctrl-alt-del reboot, init 0 powers off");
    let mut wanted = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGINT,
        Signal::SIGCONT,
        Signal::SIGPWR,
    ] {
        wanted.add(signal);
    }
    let _ = wanted.thread_block();
    loop {
        reap();
        match wanted.wait() {
            Ok(Signal::SIGINT) => end(true),
            Ok(Signal::SIGCONT) if halting::is_set(&STOPIT) => end(halting::is_set(&REBOOT)),
            Ok(Signal::SIGPWR) => end(false),
            Ok(_) | Err(_) => {}
        }
    }
}

fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

/// Comes back when the kernel refuses.
fn end(reboots: bool) {
    let all = Pid::from_raw(-1);
    let _ = kill(all, Signal::SIGTERM);
    let _ = kill(all, Signal::SIGCONT);
    thread::sleep(GRACE);
    let _ = kill(all, Signal::SIGKILL);
    sync();
    let mode = match reboots {
        true => RebootMode::RB_AUTOBOOT,
        false => RebootMode::RB_POWER_OFF,
    };
    let Err(error) = reboot(mode);
    if error == Errno::EPERM {
        // A container, whose end is ours.
        process::exit(111);
    }
    say(&format!("the machine can't be ended: {error}"));
}
