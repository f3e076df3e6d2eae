//! `init`: process 1 of a machine, or a word to it.
//!
//! As process 1 nothing may fail for want of a good argument: whatever a boot loader adds is passed
//! over, and only a path counts. For everybody else `init 0` powers off and `init 6` reboots.

use super::exit::Exit;
use super::screen::Screen;
use crate::keeper::stages;
use crate::os::halting;
use crate::supervisor::manner;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;

pub const NAME: &str = "init";

/// Holds the machine when we are its process 1; None when we are not.
pub fn hold(args: &[OsString]) -> Option<u8> {
    let meant = args.get(1).is_some_and(|word| word == NAME);
    if !meant || !stages::is_first() {
        return None;
    }
    let paths = args.iter().skip(2);
    let directory = paths
        .into_iter()
        .find(|word| word.as_bytes().starts_with(b"/"));
    let directory = directory
        .cloned()
        .unwrap_or_else(|| manner::SERVICES.into());
    Some(stages::hold(&manner::machine(&directory)))
}

pub fn carry_out(word: Option<&str>, screen: &mut Screen) -> io::Result<Exit> {
    let reboots = match word {
        Some("0") => false,
        Some("6") => true,
        Some(_) | None => {
            screen.complain(
                "only process 1 is init: boot with init=/path/to/outlast -- init; \
                 on a machine that runs, init 0 powers off and init 6 reboots",
            )?;
            return Ok(Exit::Usage);
        }
    };
    match halting::ask(reboots) {
        Ok(()) => Ok(Exit::Success),
        Err(refused) => {
            let (what, path, errno) = (refused.what, refused.path, refused.errno);
            screen.complain(format_args!("cannot {what} {path}: {}", errno.desc()))?;
            Ok(Exit::NotReached)
        }
    }
}
