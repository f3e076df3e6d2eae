//! What a refused execve means, in words: for a trouble that `script` has found, what is wrong,
//! what to do, a code for programs, and whether a change in the service directory can mend it.

use super::script::Trouble;
use crate::machine::vocab::FailureClass;
use nix::errno::Errno;

pub(super) struct Refusal<'a> {
    pub(super) errno: Errno,
    /// The file in a sentence: `./run`.
    pub(super) shown: &'a str,
    /// The file in a command: `irssi/run`.
    pub(super) typed: &'a str,
    /// It is `./run`, and not a program named by exec.
    pub(super) is_run: bool,
    /// It is below the service directory: its own, to be changed for it.
    pub(super) is_own: bool,
    /// Who is to execute it, if not the supervisor's own user.
    pub(super) user: Option<&'a str>,
}

impl Refusal<'_> {
    pub(super) fn what(&self, trouble: &Trouble) -> String {
        let (shown, errno) = (self.shown, self.errno);
        match trouble {
            Trouble::Missing => format!("{shown} is missing"),
            Trouble::DanglingLink(target) => {
                format!("{shown} is a link to {target}, which is missing")
            }
            Trouble::Directory => format!("{shown} is a directory"),
            Trouble::NotExecutable => format!("{shown} is not executable ({errno:?})"),
            Trouble::NoExecMount => {
                format!("{shown} is on a file system mounted noexec ({errno:?})")
            }
            Trouble::CarriageReturn(interpreter) => format!(
                "{shown} has Windows line ends: its first line asks for {interpreter}\\r \
                 ({errno:?})"
            ),
            Trouble::InterpreterMissing(interpreter) => {
                format!("{shown}: its interpreter {interpreter} is missing ({errno:?})")
            }
            Trouble::InterpreterNotExecutable(interpreter) => {
                format!("{shown}: its interpreter {interpreter} can't be executed ({errno:?})")
            }
            Trouble::NoFirstLine => {
                format!("{shown} has no #! line and is no program ({errno:?})")
            }
            Trouble::WrongFormat => format!("{shown} is no program for this machine ({errno:?})"),
            Trouble::LoaderMissing => {
                format!("{shown} is there, but the loader that it is linked to is not ({errno:?})")
            }
            Trouble::Other => match self.user.filter(|_| errno == Errno::EACCES) {
                Some(user) => format!("user {user} may not execute {shown} ({errno:?})"),
                None => format!("exec {shown}: {} ({errno:?})", errno.desc()),
            },
        }
    }

    pub(super) fn advice(&self, trouble: &Trouble) -> String {
        let typed = self.typed;
        match trouble {
            Trouble::Missing if self.is_run => {
                format!("write {typed}, or name a program with exec in service.toml beside it")
            }
            Trouble::Missing => "install the program, or correct exec".to_owned(),
            Trouble::DanglingLink(target) => format!("make {target}, or set the link anew"),
            // Others may have a use for what stands there.
            Trouble::Directory if !self.is_own => "name a program in exec".to_owned(),
            Trouble::NoFirstLine if !self.is_own => format!(
                "name another program in exec, or give {typed} a first line such as #!/bin/sh"
            ),
            Trouble::NotExecutable if !self.is_own => {
                format!("name another program in exec, or: chmod +x {typed}")
            }
            Trouble::Directory => format!("put a program in its place: rmdir {typed}"),
            Trouble::NotExecutable => format!("chmod +x {typed}"),
            Trouble::NoExecMount => {
                "move it to another file system, or mount that one without noexec".to_owned()
            }
            Trouble::CarriageReturn(_) => format!("sed -i 's/\\r$//' {typed}"),
            Trouble::InterpreterMissing(interpreter) => {
                format!("install {interpreter}, or correct the first line of {typed}")
            }
            Trouble::InterpreterNotExecutable(interpreter) => {
                format!(
                    "make {interpreter} a program that may be executed, or correct the first line of {typed}"
                )
            }
            Trouble::NoFirstLine => format!("sed -i '1i #!/bin/sh' {typed}"),
            Trouble::WrongFormat => "install the build for this machine's architecture".to_owned(),
            Trouble::LoaderMissing => format!("see what it needs: ldd {typed}"),
            Trouble::Other => match (self.errno, self.user) {
                (Errno::EACCES, Some(user)) => format!(
                    "let user {user} read and execute it, and enter each directory above it; \
                     namei -l {typed} shows which refuses"
                ),
                (Errno::EACCES, None) => format!(
                    "put a program or script in its place that may be executed; namei -l {typed} shows \
                     what is there"
                ),
                (Errno::ELOOP, _) => format!("its links lead in a circle: set {typed} anew"),
                _ => String::new(),
            },
        }
    }

    pub(super) fn code(&self, trouble: &Trouble) -> &'static str {
        let either = |run, program| if self.is_run { run } else { program };
        match trouble {
            Trouble::Missing | Trouble::DanglingLink(_) => either("run-missing", "program-missing"),
            Trouble::Directory => either("run-is-a-directory", "program-is-a-directory"),
            Trouble::NotExecutable => either("run-not-executable", "program-not-executable"),
            Trouble::NoExecMount => "noexec-mount",
            Trouble::CarriageReturn(_) => "carriage-return",
            Trouble::InterpreterMissing(_) => "interpreter-missing",
            Trouble::InterpreterNotExecutable(_) => "interpreter-not-executable",
            Trouble::NoFirstLine => {
                either("run-without-interpreter", "program-without-interpreter")
            }
            Trouble::WrongFormat => either("run-wrong-format", "program-wrong-format"),
            Trouble::LoaderMissing => "loader-missing",
            Trouble::Other => either("run-exec-failed", "program-exec-failed"),
        }
    }

    /// A program of its own path may be mended without a change in the service directory.
    pub(super) fn class(&self, trouble: &Trouble) -> FailureClass {
        let in_the_file = match trouble {
            Trouble::Missing
            | Trouble::Directory
            | Trouble::NotExecutable
            | Trouble::CarriageReturn(_)
            | Trouble::NoFirstLine
            | Trouble::WrongFormat => true,
            Trouble::DanglingLink(_)
            | Trouble::NoExecMount
            | Trouble::InterpreterMissing(_)
            | Trouble::InterpreterNotExecutable(_)
            | Trouble::LoaderMissing
            | Trouble::Other => false,
        };
        if self.is_run && in_the_file {
            FailureClass::Local
        } else {
            FailureClass::Elsewhere
        }
    }
}
