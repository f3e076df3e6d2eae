//! Carries a plan out, in the process that shall become the service.
//!
//! The binary called as `outlast-launch` does nothing but [`main`]; chpst does its own arguments
//! and then [`carry_out`]. A fresh process, so it may allocate, read files and wait for a
//! directory server. It never goes on after a step that failed, and never comes back from one
//! that worked.

use super::credentials;
use super::environment::{DEFAULT_PATH, Environment};
use super::plan::{Do, PLAN_BYTES_MAX, Plan};
use crate::os::step::{DETAIL_BYTES_MAX, Step};
use crate::os::{fds, limits, users};
use crate::sys;
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, setrlimit};
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{Uid, chdir, execve, fchown, setsid};
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::exit;

/// Where the keeper places the plan's memfd and the report pipe.
const PLAN_FD: i32 = 3;
const REPORT_FD: i32 = 4;
/// What runit's children exit with when they can't become their program.
const EXIT_CANNOT_START: i32 = 111;

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub step: Step,
    pub errno: i32,
    /// Who or what it was about.
    pub detail: String,
}

/// For `map_err`: the errno of a call, with its step and what it was about.
pub(super) fn at(step: Step, detail: &str) -> impl FnOnce(Errno) -> Broken {
    let detail = detail.to_owned();
    move |errno| Broken {
        step,
        errno: errno as i32,
        detail,
    }
}

/// `outlast-launch`: plan in descriptor 3, report to descriptor 4, exit 111 when it failed.
pub fn main() -> ! {
    // Both become close-on-exec here: the report pipe's end without a byte is the good news.
    let (plan, report) = (fds::inherited(PLAN_FD), fds::inherited(REPORT_FD));
    let broken = match plan.map(File::from) {
        Some(file) => match read_plan(&file).and_then(|plan| carry_out(&plan)) {
            Ok(never) => match never {},
            Err(broken) => broken,
        },
        None => at(Step::Plan, "descriptor 3 is not open")(Errno::EBADF),
    };
    if let Some(report) = report {
        // Nobody is left to tell when this fails too; the exit code still says that it failed.
        let _ = File::from(report).write_all(&encode(&broken));
    }
    exit(EXIT_CANNOT_START)
}

/// The report: step, errno in native byte order, detail cut at a character border.
pub(super) fn encode(broken: &Broken) -> Vec<u8> {
    let mut cut = broken.detail.len().min(DETAIL_BYTES_MAX);
    while !broken.detail.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut bytes = vec![broken.step.number()];
    bytes.extend(broken.errno.to_ne_bytes());
    bytes.extend(broken.detail.bytes().take(cut));
    bytes
}

/// Read by position: the descriptor may be a duplicate whose offset somebody else has moved.
fn read_plan(file: &File) -> Result<Plan, Broken> {
    let failed = |error: io::Error| Broken {
        step: Step::Plan,
        errno: error.raw_os_error().unwrap_or(Errno::EINVAL as i32),
        detail: error.to_string(),
    };
    let size = file.metadata().map_err(failed)?.len();
    let size = usize::try_from(size)
        .ok()
        .filter(|size| *size <= PLAN_BYTES_MAX)
        .ok_or_else(|| at(Step::Plan, "it is too large")(Errno::EFBIG))?;
    let mut text = vec![0; size];
    file.read_exact_at(&mut text, 0).map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| failed(error.into()))
}

/// All steps, then exec; returns only with the step that failed.
pub fn carry_out(plan: &Plan) -> Result<Infallible, Broken> {
    let mut becoming = Becoming {
        environment: Environment::of_this_process(),
        user: None,
    };
    for step in &plan.steps {
        becoming.take(step)?;
    }
    becoming.exec(plan)
}

/// What the steps have gathered so far.
struct Becoming {
    environment: Environment,
    /// The last user looked up: several steps ask for the same one, and a directory server may be
    /// slow.
    user: Option<(String, users::User)>,
}

impl Becoming {
    fn take(&mut self, step: &Do) -> Result<(), Broken> {
        match step {
            Do::NewSession => setsid().map(drop).map_err(at(Step::Session, "")),
            Do::ClearEnv => {
                self.environment = Environment::default();
                self.environment.set("PATH", DEFAULT_PATH);
                Ok(())
            }
            Do::UserEnv(user) => {
                let user = self.look_up(user)?;
                self.environment.set_user(&user);
                Ok(())
            }
            Do::SetEnv(variables) => {
                for (name, value) in variables {
                    self.environment.set(name, value);
                }
                Ok(())
            }
            Do::EnvFile(path) => self.environment.add_file(path),
            Do::SetCgroup { path, value } => write_cgroup(path, value),
            // "0" is whoever writes, and right in every pid namespace.
            Do::JoinCgroup(path) => write_cgroup(&format!("{path}/cgroup.procs"), "0"),
            Do::Umask(bits) => {
                umask(Mode::from_bits_truncate(*bits));
                Ok(())
            }
            Do::Limit {
                resource,
                soft,
                hard,
            } => set_limit(resource, *soft, *hard),
            Do::OwnOutput { user } => {
                let uid = self.look_up(user)?.uid;
                own_output(Uid::from_raw(uid));
                Ok(())
            }
            Do::Credentials {
                user,
                group,
                groups,
            } => {
                let user = user.as_deref().map(|user| self.look_up(user)).transpose()?;
                credentials::take(user.as_ref(), group.as_deref(), groups.as_deref())
            }
            Do::Directory(path) => chdir(path.as_str()).map_err(at(Step::Directory, path)),
        }
    }

    fn look_up(&mut self, name: &str) -> Result<users::User, Broken> {
        if let Some((known, user)) = &self.user
            && known == name
        {
            return Ok(user.clone());
        }
        let user = users::user(name).map_err(|error| Broken {
            step: Step::User,
            errno: error.errno(),
            detail: error.to_string(),
        })?;
        self.user = Some((name.to_owned(), user.clone()));
        Ok(user)
    }

    fn exec(&self, plan: &Plan) -> Result<Infallible, Broken> {
        let nul = || at(Step::Exec, "a NUL byte in an argument")(Errno::EINVAL);
        let Some(program) = plan.argv.first() else {
            return Err(at(Step::Plan, "there is no program in it")(Errno::EINVAL));
        };
        let mut argv = Vec::new();
        for argument in &plan.argv {
            argv.push(CString::new(argument.as_bytes()).map_err(|_| nul())?);
        }
        if let (Some(name), Some(first)) = (&plan.argv0, argv.first_mut()) {
            *first = CString::new(name.as_bytes()).map_err(|_| nul())?;
        }
        let environment = self.environment.strings().ok_or_else(nul)?;
        sys::default_sigpipe();
        if program.contains('/') {
            let path = CString::new(program.as_bytes()).map_err(|_| nul())?;
            let Err(errno) = execve(&path, &argv, environment);
            return Err(at(Step::Exec, program)(errno));
        }
        Err(search(program, self.environment.path(), |path| {
            let Err(errno) = execve(path, &argv, environment);
            errno
        }))
    }
}

/// Tries the program in each directory of the search path, as execvp(3) without its shell: what
/// is not there or may not be run is passed over, but told when nothing else is found.
fn search(program: &str, path: &OsStr, exec: impl Fn(&CString) -> Errno) -> Broken {
    let mut found: Option<Broken> = None;
    for directory in path.as_bytes().split(|byte| *byte == b':') {
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        let candidate = [directory, b"/", program.as_bytes()].concat();
        let Ok(candidate) = CString::new(candidate) else {
            continue;
        };
        let errno = exec(&candidate);
        let shown = candidate.to_string_lossy();
        let there = Path::new(OsStr::from_bytes(candidate.as_bytes())).exists();
        match errno {
            // ENOENT is also what a script says whose interpreter is missing: then the file is
            // there. A directory that may not be entered says EACCES of anything in it.
            Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES if !there => {}
            Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::EPERM | Errno::EISDIR => {
                found.get_or_insert_with(|| at(Step::Exec, &shown)(errno));
            }
            _ => return at(Step::Exec, &shown)(errno),
        }
    }
    found.unwrap_or_else(|| at(Step::Search, program)(Errno::ENOENT))
}

/// The file is the kernel's and is never made: without its controller it is not there.
fn write_cgroup(path: &str, value: &str) -> Result<(), Broken> {
    let opened = fs::OpenOptions::new().write(true).open(path);
    let written = opened.and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|error| Broken {
        step: Step::Cgroup,
        errno: error.raw_os_error().unwrap_or(Errno::EIO as i32),
        detail: path.to_owned(),
    })
}

/// The pipe or FIFO behind stdout and stderr becomes the user's: pipes are made 0600, so that a
/// daemon which opens /dev/stderr or /dev/stdout anew would be refused after the switch.
/// A file or a terminal stays whose it is. Failing is no reason not to start: only such daemons
/// would notice, and they say so themselves.
fn own_output(uid: Uid) {
    let pipe = |fd: &dyn std::os::fd::AsFd| {
        let is_fifo =
            fstat(fd).is_ok_and(|it| it.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFIFO.bits());
        if is_fifo {
            let _ = fchown(fd, Some(uid), None);
        }
    };
    pipe(&io::stdout());
    pipe(&io::stderr());
}

fn set_limit(name: &str, soft: Option<u64>, hard: Option<u64>) -> Result<(), Broken> {
    let Some(limit) = limits::by_name(name) else {
        return Err(at(Step::Limit, name)(Errno::EINVAL));
    };
    let (soft, hard) = (soft.unwrap_or(RLIM_INFINITY), hard.unwrap_or(RLIM_INFINITY));
    setrlimit(limit.resource, soft, hard).map_err(at(Step::Limit, name))
}

#[cfg(test)]
mod tests;
