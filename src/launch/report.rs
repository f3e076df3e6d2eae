//! A start that failed, in words: what a report says, what it means for the next try, and what a
//! person can do about it. The same words go to the log, to `why` and, as a code, to `--json`.

use super::refusal::Refusal;
use super::script::{self, Trouble};
use crate::machine::spec::{Spec, Start};
use crate::machine::vocab::{Failure, FailureClass};
use crate::os::step::{DETAIL_BYTES_MAX, REPORT_HEAD_BYTES, Step};
use nix::errno::Errno;
use std::path::Path;

/// Ready to be shown, the service's name to be put before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// `cannot start: ./run is not executable (EACCES)`
    pub message: String,
    /// One line: what to do. Empty when there is nothing to be said.
    pub advice: String,
    /// For programs: `run-not-executable`.
    pub code: &'static str,
    /// What [`classify`] says, made exact by a look at the file.
    pub class: FailureClass,
}

/// What came through the report pipe. None when nothing did, or nothing that we know.
pub fn parse(bytes: &[u8]) -> Option<(Step, i32, String)> {
    let (head, detail) = bytes.split_first_chunk::<REPORT_HEAD_BYTES>()?;
    let [step, errno @ ..] = *head;
    let detail = detail.get(..DETAIL_BYTES_MAX).unwrap_or(detail);
    let detail = String::from_utf8_lossy(detail).into_owned();
    Some((Step::from_number(step)?, i32::from_ne_bytes(errno), detail))
}

/// What the failure means for the next try, as far as step and errno tell; looks at nothing.
///
/// A script's ENOENT can mean the script or its interpreter. Taken for the interpreter here, since
/// a try too many every minute is better than none when the package comes; its EACCES is taken for
/// a missing `chmod +x`. [`words`] looks and knows.
pub fn classify(step: Step, errno: i32, start: &Start) -> FailureClass {
    let errno = Errno::from_raw(errno);
    if passing(errno) {
        return FailureClass::Passing;
    }
    match (step, start) {
        (Step::Keeper, _) => FailureClass::Elsewhere,
        (Step::Prepare | Step::Fork | Step::Session | Step::Descriptors | Step::Plan, _) => {
            FailureClass::Passing
        }
        (Step::Exec, Start::Script) => match errno {
            Errno::EACCES | Errno::ENOEXEC | Errno::EISDIR | Errno::ELOOP => FailureClass::Local,
            _ => FailureClass::Elsewhere,
        },
        (Step::Limit, _) if errno == Errno::EINVAL => FailureClass::Local,
        (
            Step::Exec
            | Step::ServiceDirectory
            | Step::EnvFile
            | Step::EnvDir
            | Step::User
            | Step::Group
            | Step::SetGroups
            | Step::SetGid
            | Step::SetUid
            | Step::Limit
            | Step::Umask
            | Step::Directory
            | Step::Chroot
            | Step::Nice
            | Step::Cgroup
            | Step::Lock
            | Step::Search,
            _,
        ) => FailureClass::Elsewhere,
    }
}

/// The machine is short of something, or the file is just being written.
fn passing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOMEM
            | Errno::EAGAIN
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::ETXTBSY
            | Errno::EINTR
            | Errno::EIO
            | Errno::EBUSY
            | Errno::ENOSPC
            | Errno::EDQUOT
            | Errno::ESTALE
            | Errno::ETIMEDOUT
    )
}

/// `Permission denied (EACCES)`
pub fn errno_words(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("error {errno}"),
        known => format!("{} ({known:?})", known.desc()),
    }
}

/// Puts the failure into words. `dir` is the service directory. Looks at the script
/// and reads its first line, so it may wait for a disk: not for the supervisor's own thread.
pub fn words(failure: &Failure, spec: &Spec, dir: &str) -> Words {
    let Some(step) = Step::from_number(failure.step) else {
        let cause = errno_words(failure.errno);
        let message = format!("cannot start: step {}: {cause}", failure.step);
        return finished(message, String::new(), "unknown-step", failure.class);
    };
    let class = classify(step, failure.errno, &spec.start);
    let about = About {
        errno: Errno::from_raw(failure.errno),
        cause: errno_words(failure.errno),
        detail: &failure.detail,
        class,
        spec,
        dir,
    };
    match (step, &spec.start) {
        (step, _) if class == FailureClass::Passing => about.say(about.short_of_something(step)),
        (Step::Exec, Start::Script) => about.script(),
        (Step::Exec, Start::Exec(argv)) => about.program(argv),
        (step, _) => about.say(about.step(step)),
    }
}

fn finished(message: String, advice: String, code: &'static str, class: FailureClass) -> Words {
    Words {
        message,
        advice,
        code,
        class,
    }
}

struct About<'a> {
    errno: Errno,
    cause: String,
    detail: &'a str,
    class: FailureClass,
    spec: &'a Spec,
    dir: &'a str,
}

/// What, advice, code.
type Parts = (String, String, &'static str);

impl About<'_> {
    fn say(&self, (what, advice, code): Parts) -> Words {
        finished(format!("cannot start: {what}"), advice, code, self.class)
    }

    /// A file of the directory as the person who mends it would type it, in the scan directory.
    fn file(&self, name: &str) -> String {
        // Whole, so that the cure works wherever it is typed.
        format!("{}/{name}", self.dir)
    }

    fn script(&self) -> Words {
        let path = Path::new(self.dir).join("run");
        let refusal = Refusal {
            errno: self.errno,
            shown: "./run",
            typed: &self.file("run"),
            is_run: true,
            is_own: true,
            user: self.spec.identity.user.as_deref(),
        };
        self.refused(&refusal, &script::look(&path, self.errno))
    }

    fn program(&self, argv: &[String]) -> Words {
        let first = argv.first().map_or("", String::as_str);
        let program = if self.detail.is_empty() {
            first
        } else {
            self.detail
        };
        let base = match &self.spec.identity.directory {
            Some(directory) => Path::new(self.dir).join(directory),
            None => Path::new(self.dir).to_owned(),
        };
        let refusal = Refusal {
            errno: self.errno,
            shown: program,
            typed: program,
            is_run: false,
            is_own: base.join(program).starts_with(self.dir),
            user: self.spec.identity.user.as_deref(),
        };
        self.refused(&refusal, &script::look(&base.join(program), self.errno))
    }

    fn refused(&self, refusal: &Refusal<'_>, trouble: &Trouble) -> Words {
        let mut words = self.say((
            refusal.what(trouble),
            refusal.advice(trouble),
            refusal.code(trouble),
        ));
        words.class = refusal.class(trouble);
        words
    }

    fn not_on_path(&self) -> Parts {
        let program = match (self.detail, &self.spec.start) {
            ("", Start::Exec(argv)) => argv.first().map_or("the program", String::as_str),
            ("", Start::Script) => "the program",
            (detail, _) => detail,
        };
        (
            format!("{program} is not on the search path"),
            format!("install {program}, or give its whole path in exec"),
            "program-missing",
        )
    }

    fn short_of_something(&self, step: Step) -> Parts {
        let advice = match self.errno {
            Errno::EAGAIN => "a limit of processes is reached: pids.max of the cgroup, or nproc",
            Errno::ENOMEM => "the machine or the cgroup is out of memory",
            Errno::EMFILE | Errno::ENFILE => "raise the limit of open files",
            Errno::ETXTBSY => "the program is being written just now",
            Errno::ENOSPC | Errno::EDQUOT => "the disk is full",
            _ => "",
        };
        (self.failed(step), advice.to_owned(), "short-of-resources")
    }

    /// `set user www: Operation not permitted (EPERM)`
    fn failed(&self, step: Step) -> String {
        match self.detail {
            "" => format!("{}: {}", doing(step), self.cause),
            detail => format!("{} {detail}: {}", doing(step), self.cause),
        }
    }

    /// For details that are sentences of their own.
    fn detail_or_failed(&self, step: Step) -> String {
        match self.detail {
            "" => self.failed(step),
            detail => detail.to_owned(),
        }
    }

    fn step(&self, step: Step) -> Parts {
        match step {
            Step::Search => self.not_on_path(),
            Step::User | Step::Group => self.unknown(step),
            Step::SetGroups | Step::SetGid | Step::SetUid => self.switch(step),
            Step::Limit => self.limit(),
            Step::EnvFile => self.env_file(),
            Step::Directory => self.directory(),
            Step::Cgroup => {
                let joins = self.detail.is_empty() || self.detail.ends_with("/cgroup.procs");
                let advice = match joins {
                    true => "outlast needs a cgroup of its own that it may write to",
                    false => {
                        "look at [cgroup] in service.toml: the kernel takes no such value, or \
                              the controller is not to be had here"
                    }
                };
                (self.failed(step), advice.to_owned(), "cgroup-refused")
            }
            Step::ServiceDirectory => {
                let advice = format!("look at {}", self.dir);
                (self.failed(step), advice, "service-directory-refused")
            }
            Step::Prepare
            | Step::Keeper
            | Step::Fork
            | Step::Session
            | Step::Descriptors
            | Step::Plan
            | Step::Exec
            | Step::EnvDir
            | Step::Umask
            | Step::Chroot
            | Step::Nice
            | Step::Lock => (self.failed(step), String::new(), "start-failed"),
        }
    }

    fn unknown(&self, step: Step) -> Parts {
        let (make, keys, code) = if step == Step::User {
            ("make the user (useradd)", "user", "unknown-user")
        } else {
            (
                "make the group (groupadd)",
                "group and groups",
                "unknown-group",
            )
        };
        let advice = format!("{make}, or correct {keys} in {}", self.file("service.toml"));
        (self.detail_or_failed(step), advice, code)
    }

    fn switch(&self, step: Step) -> Parts {
        let advice = match self.errno {
            Errno::EPERM => {
                "start outlast as root, or leave user, group and groups out of service.toml"
            }
            _ => "",
        };
        (self.failed(step), advice.to_owned(), "user-switch-refused")
    }

    fn limit(&self) -> Parts {
        let key = format!("limits.{} in {}", self.detail, self.file("service.toml"));
        let advice = match self.errno {
            Errno::EPERM => format!(
                "lower {key}: only root may raise a hard limit, and nobody may raise nofile \
                 above /proc/sys/fs/nr_open"
            ),
            _ => format!("correct {key}"),
        };
        (self.failed(Step::Limit), advice, "limit-refused")
    }

    fn env_file(&self) -> Parts {
        if matches!(self.errno, Errno::EINVAL | Errno::EFBIG) {
            let what = format!("{} {}", doing(Step::EnvFile), self.detail);
            let advice = "each line is NAME=VALUE, empty, or a comment that begins with #";
            return (
                what.trim_end().to_owned(),
                advice.to_owned(),
                "env-file-invalid",
            );
        }
        let advice = format!(
            "make the file, or correct env-file in {}",
            self.file("service.toml")
        );
        (self.failed(Step::EnvFile), advice, "env-file-unreadable")
    }

    fn directory(&self) -> Parts {
        let directory = self.detail;
        let advice = match (self.errno, &self.spec.identity.user) {
            (Errno::EACCES, Some(user)) => format!("let user {user} enter {directory}"),
            _ => {
                let service_toml = self.file("service.toml");
                format!("mkdir -p {directory}, or correct directory in {service_toml}")
            }
        };
        (self.failed(Step::Directory), advice, "directory-refused")
    }
}

/// The step as the thing that was being done.
fn doing(step: Step) -> &'static str {
    match step {
        Step::Prepare => "preparing it",
        Step::Keeper => "asking the keeper",
        Step::Fork => "fork",
        Step::Session => "new session",
        Step::ServiceDirectory => "entering the service directory",
        Step::Descriptors => "placing its descriptors",
        Step::Exec => "exec",
        Step::Plan => "reading the plan",
        Step::EnvFile => "environment file",
        Step::EnvDir => "environment directory",
        Step::User => "looking up the user",
        Step::Group => "looking up the group",
        Step::SetGroups => "set groups",
        Step::SetGid => "set group",
        Step::SetUid => "set user",
        Step::Limit => "set limit",
        Step::Umask => "set umask",
        Step::Directory => "enter directory",
        Step::Chroot => "change root to",
        Step::Nice => "set nice",
        Step::Cgroup => "join cgroup",
        Step::Lock => "lock",
        Step::Search => "search",
    }
}

#[cfg(test)]
mod tests;
