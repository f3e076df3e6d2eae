//! runit-init, the program at /sbin/init: as process 1 it becomes runit, else it tells process 1 to
//! halt (0) or to reboot (6), as telinit(8) would. And runit, which is process 1 or nothing.

use super::{search, usage, words};
use crate::keeper::stages;
use crate::launch::environment::Environment;
use crate::os::halting::{self, FIRST_PROCESS};
use crate::supervisor::manner;
use nix::unistd::getpid;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

const RUNIT: &str = "/sbin/runit";
const EXIT_FATAL: u8 = 111;

/// Process 1 of a machine, whose stages are scripts as a rule.
pub fn runit(_args: &[OsString]) -> u8 {
    if getpid() == FIRST_PROCESS {
        return stages::hold(&manner::machine(&manner::SERVICES.into()));
    }
    words::complain(&[b"- runit: fatal: must be run as process no 1."]);
    EXIT_FATAL
}

pub fn runit_init(args: &[OsString]) -> u8 {
    if getpid() == FIRST_PROCESS {
        become_runit();
        return runit(args);
    }
    tell(args)
}

/// By this name we are process 1 ourselves, whatever else may be installed.
pub fn init(args: &[OsString]) -> u8 {
    match getpid() == FIRST_PROCESS {
        true => runit(args),
        false => tell(args),
    }
}

fn tell(args: &[OsString]) -> u8 {
    // One character counts.
    let done = match args.get(1).map_or(b"".as_slice(), |it| it.as_bytes()) {
        [b'0', ..] => halting::ask(false),
        [b'6', ..] => halting::ask(true),
        first => {
            if first.starts_with(b"-V") {
                usage::version();
                words::complain(&[]);
            }
            let argv0 = args.first().map_or(OsStr::new(""), OsString::as_os_str);
            usage::usage(argv0.as_bytes(), "0|6");
            return 0;
        }
    };
    match done {
        Ok(()) => 0,
        Err(refused) => {
            let (what, path) = (refused.what, refused.path);
            let message = format!("unable to {what} {path}: {}", words::cause(refused.errno));
            words::complain(&[b"init: fatal: ", message.as_bytes()]);
            EXIT_FATAL
        }
    }
}

/// Returns when there is no such program. It must not be the end of process 1.
fn become_runit() {
    let environment = Environment::of_this_process();
    let argv = [CString::from(c"runit")];
    let errno = search::exec(
        OsStr::new(RUNIT),
        &argv,
        environment.strings().unwrap_or_default(),
    );
    let cause = words::cause(errno).as_bytes();
    words::complain(&[b"init: warning: unable to start runit: ", cause]);
}
