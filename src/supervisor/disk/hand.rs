//! The thread's side: one job after the other, then status files, then what inotify has to tell.

use super::blind::watch_or_none;
use super::opening::{Inode, inodes, reached};
use super::runit::Net;
use super::shelf::Shelf;
use super::{Job, News, Trust, Write, Writes};
use crate::launch::report;
use crate::machine::spec::Start;
use crate::supervisor::Settings;
use crate::supervisor::vocab::{FailureClass, ServiceId};
use crate::svdir::holders::Holders;
use crate::svdir::left;
use crate::svdir::load::{Definition, Findings, fingerprint};
use crate::svdir::watch::{Change, Watch, reliable};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A directory that can't be started yet is given this long to be completed before anybody is
/// told that it is broken: directories are filled file by file.
pub(super) const SETTLE: Duration = Duration::from_millis(250);
/// How often the scan directory is read where inotify tells nothing, and how often a directory
/// is tried again that another supervisor holds, or that could not be opened for want of descriptors.
pub(super) const NET: Duration = Duration::from_secs(5);

/// What the thread remembers of a service.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: ServiceId,
    pub(super) log: Option<ServiceId>,
    /// By this its files are reached.
    pub(super) dir: Arc<PathBuf>,
    /// The directory itself, where it is reached by what is open and not by its name.
    pub(super) handle: Option<Arc<OwnedFd>>,
    /// Of the directory, `supervise/lock` and `supervise/control` as last opened.
    pub(super) seen: [Option<Inode>; 3],
    pub(super) seen_log: [Option<Inode>; 3],
    pub(super) trust: Trust,
    /// How its files were when they were last read without inotify.
    pub(super) glance: Option<u64>,
    /// What its processes are has been found out, those of its log service as well.
    pub(super) accounted: [bool; 2],
    /// The keeper has its lock, and that of its log service.
    pub(super) locked: [bool; 2],
}

/// The thread's side.
pub(super) struct Hand {
    /// What goes before the rest, and the rest.
    pub(super) todo: [std::sync::mpsc::Receiver<Job>; 2],
    tell: mpsc::UnboundedSender<News>,
    ear: UnixStream,
    pub(super) writes: Writes,
    /// Of these, what has been taken to be written and is not written yet.
    pub(super) in_hand: BTreeMap<ServiceId, Write>,
    pub(super) watch: Watch,
    pub(super) unreliable: bool,
    pub(super) scan_dir: PathBuf,
    /// How runsv and runsvdir look at directories; None for `outlast supervise`.
    pub(super) net: Option<Net>,
    pub(super) known: HashMap<Arc<str>, Box<Known>>,
    /// Directories that can't be started yet, and when that is told.
    settling: BTreeMap<String, Instant>,
    /// Directories to be tried again, since somebody else holds their lock or descriptors were
    /// short; true for the one of the log service.
    pub(super) again: BTreeSet<(String, bool)>,
    /// What could not be written last; tried again.
    pub(super) failed_writes: BTreeMap<ServiceId, Write>,
    /// Directories without their `supervise/`, and until when they may vanish in peace; true for the
    /// one of the log service.
    pub(super) vanishing: BTreeMap<(String, bool), Instant>,
    /// The keeper has gone, and the locks with it; those that we took again.
    pub(super) bereft: bool,
    pub(super) kept: BTreeMap<ServiceId, OwnedFd>,
    pub(super) shelf: Shelf,
    /// Who writes into and reads from which pipe, and when that was looked up.
    pub(super) holders: Option<(Instant, Arc<Holders>)>,
}

impl Hand {
    pub fn new(
        todo: [std::sync::mpsc::Receiver<Job>; 2],
        tell: mpsc::UnboundedSender<News>,
        ear: UnixStream,
        writes: Writes,
        settings: &Settings,
    ) -> io::Result<Hand> {
        let scan_dir = settings.dir.clone();
        let watch = watch_or_none();
        Ok(Hand {
            todo,
            tell,
            ear,
            writes,
            in_hand: BTreeMap::new(),
            unreliable: watch.is_blind() || !reliable(&scan_dir),
            watch,
            net: Net::for_manner(settings),
            scan_dir,
            known: HashMap::new(),
            settling: BTreeMap::new(),
            again: BTreeSet::new(),
            failed_writes: BTreeMap::new(),
            vanishing: BTreeMap::new(),
            bereft: false,
            kept: BTreeMap::new(),
            shelf: Shelf::at(&settings.socket),
            holders: None,
        })
    }

    pub fn work(mut self) {
        if self.watch_scan_directory().is_err() {
            self.unreliable = true;
        }
        let mut last_net = Instant::now();
        loop {
            self.wait(last_net);
            loop {
                let [first, rest] = &self.todo;
                match first.try_recv().or_else(|_| rest.try_recv()) {
                    Ok(Job::End) => return self.write_all(),
                    Ok(job) => self.job(job),
                    Err(_) => break,
                }
            }
            self.write_all();
            self.changes();
            self.settle(false);
            self.look_at_vanishing();
            if last_net.elapsed() >= self.period().unwrap_or(NET) {
                last_net = Instant::now();
                self.cast_net();
            }
        }
    }

    /// Until there is something to do; without a reason to look again, for ever.
    fn wait(&mut self, last_net: Instant) {
        let now = Instant::now();
        let settled = self
            .settling
            .values()
            .chain(self.vanishing.values())
            .min()
            .map(|at| at.saturating_duration_since(now));
        let net = self
            .period()
            .map(|period| (last_net + period).saturating_duration_since(now));
        let patience = match settled.into_iter().chain(net).min() {
            Some(patience) => {
                let ms = u32::try_from(patience.as_millis())
                    .unwrap_or(u32::MAX)
                    .saturating_add(1);
                PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        let all = [Some(self.ear.as_fd()), self.watch.fd()];
        let mut fds: Vec<PollFd<'_>> = all
            .into_iter()
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let _ = poll(&mut fds, patience);
        let mut rung = [0u8; 256];
        while matches!(io::Read::read(&mut &self.ear, &mut rung), Ok(count) if count > 0) {}
    }

    pub(super) fn say(&self, news: News) {
        let _ = self.tell.send(news);
    }

    pub(super) fn job(&mut self, job: Job) {
        match job {
            Job::ReadAll => {
                let _ = self.watch_scan_directory();
                self.scan();
                let names: Vec<Arc<str>> = self.known.keys().cloned().collect();
                for name in names {
                    self.read(&name, true);
                }
            }
            Job::Scan => self.scan(),
            Job::Say { line, script } => {
                if script.is_none_or(|script| is_meant_to_run(&script)) {
                    let _ = io::Write::write_all(&mut io::stderr(), line.as_bytes());
                }
            }
            Job::Rest => self.rest(),
            Job::Bereft => self.bereft(),
            Job::Adopt {
                id,
                name,
                held,
                booked,
                trust,
            } => {
                let (dir, handle) = self.grasp(&name);
                let (name, dir): (Arc<str>, _) = (name.into(), Arc::new(dir));
                let known = Box::new(Known {
                    id,
                    log: None,
                    dir: Arc::clone(&dir),
                    handle,
                    seen: [None; 3],
                    seen_log: [None; 3],
                    trust,
                    glance: None,
                    accounted: [booked, false],
                    locked: [held, false],
                });
                self.known.insert(Arc::clone(&name), known);
                self.watch_service(&name, &dir);
                if self.open(&name, &dir, false, held) {
                    self.read(&name, false);
                }
            }
            Job::AdoptLog {
                id,
                main,
                held,
                booked,
            } => {
                if let Some(known) = self.known.get_mut(&*main) {
                    known.log = Some(id);
                    known.seen_log = [None; 3];
                    known.accounted[1] = booked;
                    known.locked[1] = held;
                }
                let dir = self.dir(&main).join("log");
                self.open(&main, &dir, true, held);
            }
            Job::Release => {
                for known in self.known.values_mut() {
                    known.trust = Trust::Full;
                }
            }
            Job::Try { names } => self.try_again(&names),
            Job::Read { name } => self.read(&name, true),
            Job::OpenAgain { name, log } => self.open_again(&name, log),
            Job::Forget {
                name,
                id,
                directory,
            } => self.forget(&name, id, directory.as_deref()),
            Job::Explain {
                id,
                pid,
                failure,
                spec,
                dir,
            } => {
                let words = report::words(&failure, &spec, &dir.to_string_lossy());
                let broken = words.class != FailureClass::Passing;
                self.say(News::Explained {
                    id,
                    pid,
                    failure,
                    words,
                });
                if broken {
                    self.heed(id);
                }
            }
            Job::Settle { ticket } => {
                if self.unreliable {
                    self.cast_net();
                }
                self.changes();
                self.settle(true);
                self.say(News::Settled { ticket });
            }
            Job::Show { ticket, ids } => self.show(ticket, &ids),
            Job::End => {}
        }
    }

    fn forget(&mut self, name: &str, id: ServiceId, directory: Option<&OwnedFd>) {
        self.failed_writes.remove(&id);
        let last = self.handed_over().remove(&id);
        if self.net.is_some() {
            if let Some(last) = last {
                self.write(id, last);
            }
        } else if let Some(dir) = directory.map(reached).or_else(|| self.place_of(name, id))
            && (!self.bereft || self.kept.contains_key(&id))
        {
            left::remove(&dir);
        }
        if let Some(dir) = directory.map(reached).or_else(|| self.place_of(name, id)) {
            self.clear_aside(id, &dir);
        }
        // Not before: what stands there may be somebody else's from now on.
        self.kept.remove(&id);
        match self.known.get_mut(name) {
            Some(known) if known.id == id => {
                self.known.remove(name);
                self.watch.forget(name);
                self.settling.remove(name);
                self.again.retain(|(again, _)| again != name);
            }
            Some(known) if known.log == Some(id) => known.log = None,
            Some(_) | None => {}
        }
        self.say(News::Forgotten { id });
    }

    pub(super) fn id(&self, name: &str, log: bool) -> Option<ServiceId> {
        let known = self.known.get(name)?;
        if log { known.log } else { Some(known.id) }
    }

    /// Reads a definition; first opens again what was replaced under us.
    pub(super) fn read(&mut self, name: &str, check: bool) {
        let Some((key, known)) = self.known.get_key_value(name) else {
            return;
        };
        let (id, log) = (known.id, known.log);
        let key = Arc::clone(key);
        let (seen, seen_log) = (known.seen, known.seen_log);
        let dir = self.dir(name);
        if !dir.is_dir() || self.is_deleted(&dir) {
            // The scan tells that it has gone.
            return;
        }
        self.take_a_glance(name);
        let here = if check { inodes(&dir) } else { seen };
        // What could not be made may be possible by now.
        let lacks = check && self.net.is_none() && seen[1..].contains(&None);
        if here != seen || lacks {
            if here != seen && self.may_be_on_its_way_out(name, false, here, seen) {
                return;
            }
            self.watch_service(&key, &dir);
            if !self.reopen(name, &dir, false) {
                return;
            }
        }
        if check && log.is_some() {
            let dir = dir.join("log");
            let here = inodes(&dir);
            let lacks = self.net.is_none() && seen_log[1..].contains(&None);
            let changed = here != seen_log;
            let goes = changed && self.may_be_on_its_way_out(name, true, here, seen_log);
            if dir.is_dir() && (changed || lacks) && !goes {
                self.reopen(name, &dir, true);
            }
        }
        let print = fingerprint(&dir);
        if self
            .known
            .get_mut(name)
            .is_some_and(|known| known.trust.shuns(print))
        {
            self.settling.remove(name);
            return self.say(News::Quarantined { id, print });
        }
        let loaded = self.load(&dir, name);
        // runsv tries at once, and says what came of it.
        let tries = self.net.as_ref().is_some_and(|net| net.one);
        // A log/ that has gone may be the beginning of the whole directory's end.
        let lost = log.is_some()
            && self.net.is_none()
            && matches!(&loaded, Ok(definition) if definition.log.is_none());
        if tries || !lost && check_startable(&loaded, &dir) {
            self.settling.remove(name);
            self.say(News::Loaded {
                id,
                loaded: Box::new(loaded),
                print,
            });
        } else {
            self.settling
                .entry(name.to_owned())
                .or_insert_with(|| Instant::now() + SETTLE);
        }
    }

    /// Tells of those that are still not complete, `at_once` even if they were not given their time.
    fn settle(&mut self, at_once: bool) {
        let now = Instant::now();
        let due: Vec<String> = self
            .settling
            .iter()
            .filter(|(_, at)| at_once || **at <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            self.settling.remove(&name);
            let Some(id) = self.id(&name, false) else {
                continue;
            };
            let dir = self.dir(&name);
            if dir.is_dir() {
                let print = fingerprint(&dir);
                let loaded = self.load(&dir, &name);
                self.say(News::Loaded {
                    id,
                    loaded: Box::new(loaded),
                    print,
                });
            }
        }
    }

    fn changes(&mut self) {
        let changes = self.watch.read().unwrap_or_else(|_| vec![Change::Scan]);
        let mut names = BTreeSet::new();
        let mut scan = false;
        for change in changes {
            match change {
                Change::Scan => scan = true,
                Change::Service(name) => drop(names.insert(name)),
                Change::Other(name) => self.stirred(&name),
            }
        }
        if scan {
            // The scan directory itself may be another one now.
            let _ = self.watch_scan_directory();
            self.scan();
            // A name may stand for another directory now.
            let moved: Vec<Arc<str>> = self
                .known
                .iter()
                .filter(|(_, known)| Inode::at(&known.dir) != known.seen[0])
                .map(|(name, _)| name.clone())
                .collect();
            names.extend(moved);
        }
        for name in names {
            self.read(&name, true);
        }
    }

    fn cast_net(&mut self) {
        if self.scan_is_due() {
            self.scan();
        }
        if self.watch.is_blind() {
            self.see_again();
        }
        if self.unreliable {
            if self.net.is_none() {
                self.scan();
            }
            let names: Vec<Arc<str>> = self.known.keys().cloned().collect();
            for name in names {
                if self.net.is_some() || self.looks_different(&name) {
                    self.read(&name, true);
                }
            }
        }
        self.write_failed_again();
        for (name, log) in self.again.clone() {
            let dir = self.dir(&name);
            let place = match log {
                true => Arc::new(dir.join("log")),
                false => dir,
            };
            if self.reopen(&name, &place, log) && !log {
                self.read(&name, false);
            }
        }
    }
}

/// Whether a start has a chance, as far as the directory alone tells.
fn check_startable(loaded: &Result<Definition, Findings>, dir: &Path) -> bool {
    let script = match loaded {
        Ok(definition) => match definition.spec.start {
            Start::Script => dir.join("run"),
            Start::Exec(_) => return true,
        },
        Err(_) => return false,
    };
    std::fs::metadata(script).is_ok_and(|found| found.permissions().mode() & 0o111 != 0)
}

/// runsv's question before it runs a control script.
fn is_meant_to_run(script: &Path) -> bool {
    std::fs::metadata(script).is_ok_and(|found| found.permissions().mode() & 0o100 != 0)
}
