//! The thread that waits for disks, so that the supervisor never does.
//!
//! It scans, watches and reads service directories, opens and writes `supervise/`, and words the
//! reasons of failed starts (which looks at files). The supervisor hands it jobs and takes news;
//! status files are handed over by service, the newest replacing one not yet written.

use super::Settings;
use super::vocab::{Failure, ServiceId};
use crate::launch::report::Words;
use crate::machine::spec::Spec;
use crate::svdir::left::{Left, Living};
use crate::svdir::load::{Definition, Findings};
use crate::svdir::scan::Scan;
use crate::svdir::status::Status;
use crate::svdir::supervise::{Fifos, OpenError};
use hand::Hand;
pub use opening::open_directory;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

mod blind;
mod hand;
mod opening;
mod orphans;
mod runit;
mod shelf;
mod stirring;
mod trust;
mod vanishing;
mod writing;

pub use trust::Trust;

/// Something to be done. Answers come as [`News`].
#[derive(Debug)]
pub enum Job {
    /// Read the scan directory, and every service directory again.
    ReadAll,
    /// Read the scan directory alone.
    Scan,
    /// A service directory that the scan found: open, watch and read it.
    Adopt {
        id: ServiceId,
        name: String,
        held: bool,
        /// The keeper's book tells of its processes.
        booked: bool,
        trust: Trust,
    },
    /// Trust every definition; what was left unread is read when it is looked at next.
    Release,
    /// Trust these, read them, and tell when that is done.
    Try {
        names: Vec<String>,
    },
    /// Open `supervise/` of its log service. `held`: the keeper has its lock already.
    AdoptLog {
        id: ServiceId,
        main: String,
        held: bool,
        booked: bool,
    },
    /// Read this one again.
    Read {
        name: String,
    },
    /// Try again whether this one, or its log service, can have a `supervise/`.
    OpenAgain {
        name: String,
        log: bool,
    },
    Forget {
        name: String,
        id: ServiceId,
        /// Its directory, which may stand under another name by now.
        directory: Option<Arc<OwnedFd>>,
    },
    /// A line for stderr; about a script only if that is there and executable by its owner.
    Say {
        line: String,
        script: Option<PathBuf>,
    },
    /// Scan no more.
    Rest,
    /// The keeper has gone: take the locks again, and write only where nobody has taken its place.
    Bereft,
    Explain {
        id: ServiceId,
        pid: i32,
        failure: Failure,
        spec: Box<Spec>,
        dir: PathBuf,
    },
    /// Tell when everything that has happened in the directories until now has been told.
    Settle {
        ticket: u64,
    },
    /// Write the status of these before any other, and tell when that is done.
    Show {
        ticket: u64,
        ids: BTreeSet<ServiceId>,
    },
    End,
}

/// What has been found out.
pub enum News {
    Scanned(io::Result<Scan>),
    Opened {
        id: ServiceId,
        opened: Result<Opened, OpenError>,
        /// What is known of it where its `supervise/` could not be opened.
        aside: Option<Box<Aside>>,
    },
    /// There is no such directory any more, as a scan is about to tell.
    Vanished {
        id: ServiceId,
    },
    /// The directory could not be opened at all.
    Unreadable {
        id: ServiceId,
        error: io::Error,
    },
    Loaded {
        id: ServiceId,
        loaded: Box<Result<Definition, Findings>>,
        /// Of what was read.
        print: u64,
    },
    /// Something beside its definition has changed in the directory of a service that could not be
    /// started.
    Stirred {
        id: ServiceId,
    },
    /// Left unread after crashes.
    Quarantined {
        id: ServiceId,
        print: u64,
    },
    /// ... and those that were to be tried have been read.
    Tried,
    Explained {
        id: ServiceId,
        pid: i32,
        failure: Failure,
        words: Words,
    },
    Settled {
        ticket: u64,
    },
    /// What was handed over of these services by then is in their `supervise/`, if it can be.
    Shown {
        ticket: u64,
    },
    /// Of another thread: whether a binary is fit to take over.
    Examined(Result<OwnedFd, String>),
    /// What is last written of a service is written, and nothing of it is used any more.
    Forgotten {
        id: ServiceId,
    },
    /// `supervise/` could not be written; told once until it can be again.
    Unwritable {
        id: ServiceId,
        error: io::Error,
    },
    /// ... and it can be.
    Writable {
        id: ServiceId,
    },
}

/// Descriptors of a service directory and its `supervise/`.
pub struct Opened {
    pub directory: Arc<OwnedFd>,
    /// By this its files are reached.
    pub dir: Arc<PathBuf>,
    pub fifos: Fifos,
    /// None when the keeper holds it already.
    pub lock: Option<OwnedFd>,
    /// What lives of it, left by a supervisor under another keeper.
    pub left: Option<Left>,
    /// Made for its output.
    pub pipe: Option<OwnedFd>,
}

/// What a supervisor under another keeper has left of a service without a `supervise/`.
#[derive(Default)]
pub struct Aside {
    pub left: Option<Left>,
    /// Made for its output.
    pub pipe: Option<OwnedFd>,
}

/// A status to be written, and where.
#[derive(Clone)]
pub struct Write {
    pub dir: Arc<PathBuf>,
    pub status: Status,
    /// For `supervise/down`; None leaves it.
    pub down: Option<bool>,
    /// For a successor under another keeper.
    pub record: Record,
    /// There is no `supervise/`: the record alone is written, elsewhere.
    pub aside: bool,
}

/// What is done about the record of what lives.
#[derive(Clone)]
pub enum Record {
    Nobody,
    Living(Box<Living>),
}

type Writes = Arc<Mutex<BTreeMap<ServiceId, Write>>>;

/// The supervisor's side.
pub struct Disk {
    jobs: std::sync::mpsc::Sender<Job>,
    urgent: std::sync::mpsc::Sender<Job>,
    writes: Writes,
    bell: UnixStream,
    pub news: mpsc::UnboundedReceiver<News>,
    tell: mpsc::UnboundedSender<News>,
    reads_given: Cell<u64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Disk {
    pub fn start(settings: &Settings) -> io::Result<Disk> {
        let (jobs, todo) = std::sync::mpsc::channel();
        let (urgent, next) = std::sync::mpsc::channel();
        let (tell, news) = mpsc::unbounded_channel();
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        let writes = Writes::default();
        let hand = Hand::new(
            [next, todo],
            tell.clone(),
            ear,
            Arc::clone(&writes),
            settings,
        )?;
        let thread = std::thread::Builder::new()
            .name("outlast-disk".into())
            .stack_size(256 * 1024)
            .spawn(move || hand.work())?;
        Ok(Disk {
            jobs,
            urgent,
            writes,
            bell,
            news,
            tell,
            reads_given: Cell::new(0),
            thread: Some(thread),
        })
    }

    /// For another thread that has news.
    pub fn teller(&self) -> mpsc::UnboundedSender<News> {
        self.tell.clone()
    }

    /// How many jobs have been given that read a directory. If it grows while a ticket is on its
    /// way, not everything is told yet.
    pub fn reads_given(&self) -> u64 {
        self.reads_given.get()
    }

    pub fn give(&self, job: Job) {
        match job {
            Job::ReadAll
            | Job::Scan
            | Job::Adopt { .. }
            | Job::AdoptLog { .. }
            | Job::Try { .. }
            | Job::Read { .. } => {
                self.reads_given.set(self.reads_given.get().wrapping_add(1));
            }
            Job::Release
            | Job::OpenAgain { .. }
            | Job::Forget { .. }
            | Job::Say { .. }
            | Job::Rest
            | Job::Bereft
            | Job::Explain { .. }
            | Job::Settle { .. }
            | Job::Show { .. }
            | Job::End => {}
        }
        // The thread ends only with us.
        let _ = self.jobs.send(job);
        self.ring();
    }

    /// Before all that has been given so far.
    pub fn give_first(&self, job: Job) {
        let _ = self.urgent.send(job);
        self.ring();
    }

    pub fn write(&self, id: ServiceId, write: Write) {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = !writes.is_empty();
        writes.insert(id, write);
        drop(writes);
        if !silent {
            self.ring();
        }
    }

    fn ring(&self) {
        // A full socket means that it has been rung.
        let _ = io::Write::write(&mut &self.bell, &[1]);
    }

    /// Lets everything handed over be written, for at most `patience`.
    pub fn end(&mut self, patience: Duration) {
        self.give(Job::End);
        let until = Instant::now() + patience;
        while let Some(thread) = &self.thread {
            if thread.is_finished() || Instant::now() > until {
                break;
            }
            // Only at the very end, when nothing is served any more.
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}
