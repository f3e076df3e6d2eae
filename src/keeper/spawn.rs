//! Making processes: everything is prepared before the fork, nothing is decided after it.

use super::Source;
use super::berths::Berths;
use super::book::{Book, Process, Stage};
use crate::ipc::wire::{Format, FromKeeper, Key, SLOT_PIPE, Spawn, Stream, What};
use crate::os::step::Step;
use crate::os::{clock, fds, kill_point};
use crate::sys::{self, Child, Environment};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Our own binary, the very file that runs now, even when its name means another one by now.
const OURSELVES: &std::ffi::CStr = c"/proc/self/exe";

pub struct Workshop {
    environment: Environment,
    null: OwnedFd,
    /// The path that we were started by, for as long as there is no /proc.
    started_as: Option<CString>,
    /// Limits of open files: what services get back, and what we have ourselves.
    nofile_services: (u64, u64),
    nofile_ours: (u64, u64),
    oom: Oom,
    /// Children get signals ignored that were ignored when we were called (nohup(1)).
    keep_ignored: bool,
    /// The signals that children would get as we have them, and are to get as they are by default.
    changed: sys::Signals,
    /// Keep the numbers 3 and 4 free for children.
    _placeholders: Vec<OwnedFd>,
}

impl Workshop {
    pub fn new(
        nofile: (u64, u64),
        placeholders: Vec<OwnedFd>,
        keep_ignored: bool,
    ) -> io::Result<Workshop> {
        let started_as = sys::executed_as().and_then(|path| CString::new(path.as_bytes()).ok());
        Ok(Workshop {
            environment: Environment::of_this_process(),
            null: open_null()?,
            started_as,
            nofile_services: nofile,
            nofile_ours: getrlimit(Resource::RLIMIT_NOFILE)?,
            oom: Oom::claim(),
            keep_ignored,
            // Nothing is changed about signals later.
            changed: sys::changed_signals(),
            _placeholders: placeholders,
        })
    }

    /// One that leaves the process that it is in as it is.
    #[cfg(any(test, fuzzing))]
    pub fn bare() -> io::Result<Workshop> {
        let nofile = getrlimit(Resource::RLIMIT_NOFILE)?;
        Ok(Workshop {
            environment: Environment::of_this_process(),
            null: open_null()?,
            started_as: None,
            nofile_services: nofile,
            nofile_ours: nofile,
            oom: Oom {
                ours: b"",
                services: Vec::new(),
            },
            keep_ignored: false,
            changed: sys::changed_signals(),
            _placeholders: Vec::new(),
        })
    }

    /// What services are to have again, for a keeper that comes after us.
    pub fn services(&self) -> ((u64, u64), Vec<u8>) {
        (self.nofile_services, self.oom.services.clone())
    }

    /// As our predecessor found it before it changed anything.
    pub fn resume(&mut self, nofile: (u64, u64), oom: Vec<u8>) {
        self.nofile_services = nofile;
        self.oom.services = oom;
        if self.oom.services.is_empty() {
            self.oom.ours = b"";
        }
    }

    /// To be called when there are /dev and /proc, if there were none when we were made.
    pub fn settle(&mut self) {
        if let Ok(null) = open_null() {
            self.null = null;
        }
        if self.oom.ours.is_empty() {
            self.oom = Oom::claim();
        }
        regain_console();
    }

    /// Starts a stage of a machine, in a session of its own and with our own standard descriptors.
    /// `report` becomes its descriptor 4.
    pub fn stage(&self, argv: &[CString], report: BorrowedFd<'_>) -> io::Result<Pid> {
        let there = std::fs::symlink_metadata("/proc/self/exe").is_ok();
        let program = match &self.started_as {
            Some(path) if !there => path.as_c_str(),
            Some(_) | None => OURSELVES,
        };
        sys::spawn(&Child {
            program,
            argv,
            environment: &self.environment,
            session: true,
            keep_ignored: false,
            changed: self.changed,
            directory: None,
            standard: [None, None, None],
            extra: None,
            report,
            keep_report: true,
            nofile: self.nofile_services,
            oom: &self.oom.services,
            steps: steps(),
            shares: None,
        })
    }

    /// Starts another part of ourselves with its link as descriptor 3.
    pub fn ourselves(&self, argv: &[CString], link: BorrowedFd<'_>) -> io::Result<Pid> {
        let (_reader, report) = pipe2(OFlag::O_CLOEXEC)?;
        sys::spawn(&Child {
            program: OURSELVES,
            argv,
            environment: &self.environment,
            session: true,
            keep_ignored: false,
            changed: self.changed,
            directory: None,
            standard: [Some(self.null.as_fd()), None, None],
            extra: Some(link),
            report: report.as_fd(),
            keep_report: false,
            nofile: self.nofile_ours,
            oom: self.oom.ours,
            steps: steps(),
            shares: None,
        })
    }

    /// Starts what the supervisor asks for and books it. The error is the answer to be sent.
    pub fn make(
        &self,
        spawn: &Spawn,
        attached: Vec<OwnedFd>,
        book: &mut Book,
        berths: &mut Berths,
        epoll: &Epoll,
    ) -> Result<(), FromKeeper> {
        let key = spawn.key;
        if let Some(process) = book.process(key) {
            let detail = format!("process {} still has this place", process.pid);
            return Err(refusal(key, Errno::EEXIST, detail));
        }
        let forked = self.fork(spawn, attached, book, berths, epoll);
        let (pid, report) = forked.map_err(|error| {
            berths.leave(key);
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            refusal(key, errno, String::new())
        })?;
        let pidfd = sys::pidfd_open(pid).ok().filter(|pidfd| {
            let source = Source::Process(key).pack();
            epoll
                .add(pidfd, EpollEvent::new(EpollFlags::EPOLLIN, source))
                .is_ok()
        });
        let forked_ns = clock::monotonic_ns();
        kill_point("forked-unbooked");
        book.hold(
            key,
            Process {
                pid,
                pidfd,
                forked_ns,
                stage: Stage::Starting { report },
                adopted: false,
            },
        );
        kill_point("forked-booked");
        Ok(())
    }

    /// Books a living process that another keeper has started.
    pub fn adopt(&self, key: Key, pid: i32, pidfd: OwnedFd, book: &mut Book, epoll: &Epoll) {
        let interest = EpollEvent::new(EpollFlags::EPOLLIN, Source::Process(key).pack());
        if book.process(key).is_some() || epoll.add(&pidfd, interest).is_err() {
            super::say("a process that was to be taken over is not; it goes on by itself");
            return;
        }
        book.hold(
            key,
            Process {
                pid: Pid::from_raw(pid),
                pidfd: Some(pidfd),
                forked_ns: clock::monotonic_ns(),
                stage: Stage::Alive,
                adopted: true,
            },
        );
    }

    fn fork(
        &self,
        spawn: &Spawn,
        attached: Vec<OwnedFd>,
        book: &Book,
        berths: &mut Berths,
        epoll: &Epoll,
    ) -> io::Result<(Pid, OwnedFd)> {
        let mut attached = attached.into_iter();
        let missing = || io::Error::from(Errno::EBADF);
        let directory = match spawn.directory {
            true => Some(attached.next().ok_or_else(missing)?),
            false => None,
        };
        let extra = match spawn.extra {
            true => Some(attached.next().ok_or_else(missing)?),
            false => None,
        };
        let [stdin, stdout, stderr] = spawn.streams;
        // Of a pipe that takes both outputs one end does, as for any program of a shell's with 2>&1.
        let both = stdout == stderr;
        let streams = [
            self.open(stdin, book)?,
            self.open(stdout, book)?,
            match both {
                true => Opened::Keep,
                false => self.open(stderr, book)?,
            },
        ];
        let [stdin, stdout, stderr] = &streams;
        let stderr = if both { stdout } else { stderr };
        let (reader, report) = pipe2(OFlag::O_CLOEXEC)?;
        // The report is read when it is there. Registered before the fork: once there is a child,
        // nothing may fail any more.
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let source = Source::Report(spawn.key).pack();
        epoll.add(&reader, EpollEvent::new(EpollFlags::EPOLLIN, source))?;
        let (program, argv) = program(spawn.what);
        let (nofile, oom) = match spawn.what {
            What::Scribe { .. } => (self.nofile_ours, self.oom.ours),
            What::Run | What::Finish(..) | What::Check | What::Control(_) | What::Launch => {
                (self.nofile_services, self.oom.services.as_slice())
            }
        };
        let own = [
            directory.as_ref().map(AsFd::as_fd),
            stdin.fd(),
            stdout.fd(),
            stderr.fd(),
            extra.as_ref().map(AsFd::as_fd),
            Some(report.as_fd()),
        ];
        let (fds, shares) = match berths.take(spawn.key, own) {
            Some(taken) => (taken.fds, Some(taken.shares)),
            None => (own, None),
        };
        let [directory, stdin, stdout, stderr, extra, report_fd] = fds;
        let pid = sys::spawn(&Child {
            program: &program,
            argv: &argv,
            environment: &self.environment,
            session: spawn.session,
            keep_ignored: self.keep_ignored,
            changed: self.changed,
            directory,
            standard: [stdin, stdout, stderr],
            extra,
            report: report_fd.unwrap_or(report.as_fd()),
            keep_report: spawn.what == What::Launch,
            nofile,
            oom,
            steps: steps(),
            shares,
        })?;
        Ok((pid, reader))
    }

    fn open<'a>(&'a self, stream: Stream, book: &'a Book) -> io::Result<Opened<'a>> {
        let pipe = |id, flags| {
            let held = book
                .slot(id, SLOT_PIPE)
                .ok_or_else(|| io::Error::from(Errno::EBADF))?;
            // An end of its own, without the other one: so the reader sees the end of its input
            // and the writer gets SIGPIPE as with any pipe. It can't wait: both ends are open.
            Ok::<_, io::Error>(Opened::Own(fds::reopen(held, flags)?))
        };
        match stream {
            Stream::Keep => Ok(Opened::Keep),
            Stream::Null => Ok(Opened::Lent(self.null.as_fd())),
            Stream::PipeOut(id) => pipe(id, OFlag::O_RDONLY),
            Stream::PipeIn(id) => pipe(id, OFlag::O_WRONLY),
            Stream::PipeBoth(id) => pipe(id, OFlag::O_RDWR),
        }
    }
}

/// /dev/null; while a machine has none, something else that can't be written to.
pub fn open_null() -> io::Result<OwnedFd> {
    let open = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    match open {
        Ok(null) => Ok(null.into()),
        Err(error) if !super::stages::is_first() => Err(error),
        Err(_) => Ok(std::fs::File::open("/")?.into()),
    }
}

/// The console in place of standard descriptors that process 1 was started without: what stands
/// there then leads nowhere (see `sys`). Opened so it doesn't wait, for a carrier for instance (open(2)).
fn regain_console() {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let missing = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].map(fds::stands_in);
    let [stdin, stdout, stderr] = missing;
    if !missing.contains(&true) {
        return;
    }
    let Ok(console) = open(c"/dev/console", flags, Mode::empty()) else {
        return;
    };
    let _ = fcntl(&console, FcntlArg::F_SETFL(OFlag::empty()));
    if stdin {
        let _ = dup2_stdin(&console);
    }
    if stdout {
        let _ = dup2_stdout(&console);
    }
    if stderr {
        let _ = dup2_stderr(&console);
    }
}

/// Who is spared when memory runs out (proc_pid_oom_score_adj(5)): the keeper altogether, as
/// everybody hangs by it, the supervisor and the scribe before any service.
struct Oom {
    /// Empty where lowering it is not permitted: then nobody's is touched.
    ours: &'static [u8],
    /// What services would have had without us.
    services: Vec<u8>,
}

impl Oom {
    const FILE: &str = "/proc/self/oom_score_adj";

    fn claim() -> Oom {
        let before = std::fs::read(Oom::FILE).unwrap_or_default();
        let permitted = !before.is_empty() && std::fs::write(Oom::FILE, "-1000").is_ok();
        match permitted {
            true => Oom {
                ours: b"-900",
                services: before,
            },
            false => Oom {
                ours: b"",
                services: Vec::new(),
            },
        }
    }
}

enum Opened<'a> {
    Keep,
    Lent(BorrowedFd<'a>),
    Own(OwnedFd),
}

impl Opened<'_> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Opened::Keep => None,
            Opened::Lent(fd) => Some(*fd),
            Opened::Own(fd) => Some(fd.as_fd()),
        }
    }
}

fn program(what: What) -> (CString, Vec<CString>) {
    let script = |path: String, args: &[i32]| {
        // Letters, digits and our own words: no NUL.
        let path = CString::new(path).unwrap_or_default();
        let mut argv = vec![path.clone()];
        argv.extend(
            args.iter()
                .filter_map(|arg| CString::new(arg.to_string()).ok()),
        );
        (path, argv)
    };
    match what {
        What::Run => script("./run".into(), &[]),
        What::Finish(code, status) => script("./finish".into(), &[code, status]),
        What::Check => script("./check".into(), &[]),
        What::Control(letter) => script(format!("./control/{}", char::from(letter)), &[]),
        What::Launch => (OURSELVES.into(), vec![c"outlast-launch".into()]),
        What::Scribe { echo } => {
            let mut argv = vec![CString::from(c"outlast-scribe")];
            argv.extend(echo.map(|format| {
                CString::from(match format {
                    Format::Text => c"--echo=text",
                    Format::Stamped => c"--echo=stamped",
                    Format::Json => c"--echo=json",
                })
            }));
            (OURSELVES.into(), argv)
        }
    }
}

fn steps() -> [u8; 4] {
    [
        Step::Session.number(),
        Step::ServiceDirectory.number(),
        Step::Descriptors.number(),
        Step::Exec.number(),
    ]
}

pub fn refusal(key: Key, errno: Errno, detail: String) -> FromKeeper {
    let step = match errno {
        Errno::EAGAIN | Errno::ENOMEM => Step::Fork,
        _ => Step::Prepare,
    };
    let detail = detail.into_bytes();
    FromKeeper::SpawnFailed {
        key,
        pid: 0,
        step: step.number(),
        errno: errno as i32,
        detail,
    }
}
