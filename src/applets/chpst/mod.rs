//! chpst, and the daemontools programs that are a part of it: arguments read by `options`, effects
//! from `launch`, in runit's order and with its words. Whatever step fails, the program is not run.

mod identity;
pub mod options;

use super::options::Given;
use super::{search, usage, words};
use crate::launch::credentials;
use crate::launch::effects::{self, Refused as Twofold};
use crate::launch::env_dir::{self, Stage};
use crate::launch::environment::Environment;
use crate::os::step::Step;
use identity::{Identity, Trouble};
use nix::errno::Errno;
use nix::unistd::{chdir, close, setsid};
use options::{Called, Lock, Mistake, Refused, Wishes};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

const EXIT_USAGE: u8 = 100;
const EXIT_FATAL: u8 = 111;
/// All names say so.
const FATAL: &[u8] = b"chpst: fatal: ";
const WARNING: &[u8] = b"chpst: warning: ";

pub fn chpst(args: &[OsString]) -> u8 {
    run(Called::Chpst, args)
}

pub fn envdir(args: &[OsString]) -> u8 {
    run(Called::EnvDir, args)
}

pub fn envuidgid(args: &[OsString]) -> u8 {
    run(Called::EnvUidGid, args)
}

pub fn pgrphack(args: &[OsString]) -> u8 {
    run(Called::PgrpHack, args)
}

pub fn setlock(args: &[OsString]) -> u8 {
    run(Called::SetLock, args)
}

pub fn setuidgid(args: &[OsString]) -> u8 {
    run(Called::SetUidGid, args)
}

pub fn softlimit(args: &[OsString]) -> u8 {
    run(Called::SoftLimit, args)
}

fn run(called: Called, args: &[OsString]) -> u8 {
    effects::as_started();
    match options::read(called, args.get(1..).unwrap_or_default()) {
        Ok(wishes) => {
            let failure = become_program(&wishes);
            if wishes.silent {
                return 0;
            }
            words::complain(&[FATAL, &failure.0]);
            EXIT_FATAL
        }
        Err(refused) => {
            let argv0 = args.first().map_or(OsStr::new(""), OsString::as_os_str);
            refuse(argv0, refused);
            EXIT_USAGE
        }
    }
}

fn refuse(argv0: &OsStr, refused: Refused) {
    match refused.mistake {
        Mistake::Unknown(letter) => usage::complain_of(argv0, &Given::Unknown(letter)),
        Mistake::Incomplete(letter) => usage::complain_of(argv0, &Given::Incomplete(letter)),
        Mistake::Version => usage::version(),
        Mistake::Other => {}
    }
    let name = usage::base_name(argv0);
    // daemontools' names may have a `d` before them; runit takes one off any name.
    let name = name.strip_prefix(b"d").unwrap_or(name);
    usage::usage(name, refused.usage_of.usage());
}

/// What stands behind `chpst: fatal: `.
struct Failure(Vec<u8>);

/// For `map_err`: the words, a colon, and the cause as runit words it.
fn unable(what: &[&[u8]]) -> impl FnOnce(Errno) -> Failure + use<> {
    let what = what.concat();
    move |errno| Failure([&what, b": ".as_slice(), words::cause(errno).as_bytes()].concat())
}

fn become_program(wishes: &Wishes) -> Failure {
    let mut environment = Environment::of_this_process();
    match prepare(wishes, &mut environment) {
        Ok(()) => exec(wishes, &environment),
        Err(failure) => failure,
    }
}

/// The order is runit's: users are looked up and the lock is opened inside the new root, and the
/// lock belongs to the new user.
fn prepare(wishes: &Wishes, environment: &mut Environment) -> Result<(), Failure> {
    if wishes.new_session {
        // A group's leader can't have a new session; runit takes that for done.
        let _ = setsid();
    }
    if let Some(directory) = &wishes.env_dir {
        take_env_dir(directory, wishes, environment)?;
    }
    if let Some(root) = &wishes.root {
        effects::change_root(root).map_err(|refused| match refused {
            Twofold::First(errno) => unable_to_enter(root)(errno),
            Twofold::Second(errno) => unable(&[b"unable to change root directory"])(errno),
        })?;
    }
    if let Some(directory) = &wishes.directory {
        chdir(directory.as_os_str()).map_err(unable_to_enter(directory))?;
    }
    if wishes.nice != 0 {
        effects::nice(wishes.nice).map_err(unable(&[b"unable to set nice level"]))?;
    }
    if let Some(user) = &wishes.env_user {
        let identity = find(user, wishes.plain_account)?;
        let gid = identity.gids.first().copied().unwrap_or_default();
        for variable in [format!("GID={gid}"), format!("UID={}", identity.uid)] {
            environment.change(CString::new(variable).unwrap_or_default());
        }
    }
    if let Some(user) = &wishes.user {
        take_user(&find(user, wishes.plain_account)?)?;
    }
    if let Some(lock) = &wishes.lock {
        take_lock(lock)?;
    }
    for (number, name) in (0..).zip(["stdin", "stdout", "stderr"]) {
        if wishes.close.get(number) == Some(&true) {
            let fd = i32::try_from(number).unwrap_or(-1);
            close(fd).map_err(unable(&[b"unable to close ", name.as_bytes()]))?;
        }
    }
    for limit in wishes.limits() {
        effects::soft_limit(limit.resource, limit.soft).map_err(|refused| match refused {
            Twofold::First(errno) => unable(&[b"unable to getrlimit()"])(errno),
            Twofold::Second(errno) => unable(&[b"unable to setrlimit()"])(errno),
        })?;
    }
    Ok(())
}

fn unable_to_enter(directory: &OsStr) -> impl FnOnce(Errno) -> Failure + use<> {
    unable(&[b"unable to change directory: ", directory.as_bytes()])
}

fn take_env_dir(
    directory: &OsStr,
    wishes: &Wishes,
    environment: &mut Environment,
) -> Result<(), Failure> {
    let shown = directory.as_bytes();
    let file = |name: &OsStr| [b"unable to read ", shown, b"/", name.as_bytes()].concat();
    let mut skipped = |name: &OsStr| {
        if wishes.verbose {
            let cause = words::cause(Errno::EISDIR);
            words::complain(&[WARNING, &file(name), b": ", cause.as_bytes()]);
        }
    };
    let told: Option<&mut dyn FnMut(&OsStr)> = if wishes.skip_directories {
        Some(&mut skipped)
    } else {
        None
    };
    let changes = env_dir::changes(directory, told).map_err(|trouble| {
        let what = match &trouble.stage {
            Stage::OpenWorkingDirectory => b"unable to open current working directory".to_vec(),
            Stage::Enter => [b"unable to switch to directory: ", shown].concat(),
            Stage::Open => [b"unable to open directory: ", shown].concat(),
            Stage::List => [b"unable to read directory: ", shown].concat(),
            Stage::Read(name) => file(name),
            Stage::GoBack => b"unable to switch to starting directory".to_vec(),
        };
        unable(&[&what])(trouble.errno)
    })?;
    for change in changes {
        environment.change(change);
    }
    Ok(())
}

fn find(user: &OsStr, plain_account: bool) -> Result<Identity, Failure> {
    let text = user.as_bytes();
    identity::find(text, plain_account).map_err(|trouble| match trouble {
        Trouble::Unknown if plain_account => Failure([b"unknown account: ", text].concat()),
        Trouble::Unknown => Failure([b"unknown user/group: ", text].concat()),
        Trouble::Invalid => {
            let numbers = text.get(1..).unwrap_or_default();
            Failure([b"invalid uid/gids: ", numbers].concat())
        }
        Trouble::Unreadable(error) => {
            let what: &[u8] = if plain_account {
                b"unable to get password file entry"
            } else {
                b"unable to get password/group file entry"
            };
            unable(&[what])(Errno::from_raw(error.errno()))
        }
    })
}

fn take_user(identity: &Identity) -> Result<(), Failure> {
    credentials::switch(identity.uid, &identity.gids).map_err(|broken| {
        let what: &[u8] = match broken.step {
            Step::SetGroups => b"unable to setgroups",
            Step::SetGid => b"unable to setgid",
            _ => b"unable to setuid",
        };
        unable(&[what])(Errno::from_raw(broken.errno))
    })
}

fn take_lock(lock: &Lock) -> Result<(), Failure> {
    let file = lock.file.as_bytes();
    effects::lock(&lock.file, lock.wait).map_err(|refused| match refused {
        Twofold::First(errno) => unable(&[b"unable to open lock: ", file])(errno),
        Twofold::Second(errno) => unable(&[b"unable to lock: ", file])(errno),
    })
}

fn exec(wishes: &Wishes, environment: &Environment) -> Failure {
    let (Some(program), Some(environment)) = (wishes.program.first(), environment.strings()) else {
        return Failure(b"out of memory.".to_vec());
    };
    let argv0 = wishes.argv0.as_ref().unwrap_or(program);
    let arguments = wishes.program.iter().skip(1);
    let argv: Result<Vec<CString>, _> = std::iter::once(argv0)
        .chain(arguments)
        .map(|argument| CString::new(argument.as_bytes()))
        .collect();
    let errno = match argv {
        Ok(argv) => search::exec(program, &argv, environment),
        // The kernel hands over no argument with a NUL in it.
        Err(_) => Errno::EINVAL,
    };
    unable(&[b"unable to run: ", argv0.as_bytes()])(errno)
}
