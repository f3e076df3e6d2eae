//! Tells when a scan directory or a service directory has changed, by inotify(7).
//!
//! One instance for all. What a service writes into its own directory wakes us only to find that
//! the name is none of ours, unless the service is broken by something that may be there; what we
//! make in `supervise/` is not told, that somebody removes it is. Links are followed the whole way: a
//! link on the path that is set anew is told too, and so is a change of what a file of the definition
//! links to.
//!
//! inotify does not see changes made on another machine or behind a FUSE daemon ([`reliable`]).

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::statfs::statfs;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Entries of the scan directory came or went, it was itself replaced, or events were lost:
    /// scan again. It is watched again already.
    Scan,
    /// Something that matters to this service's definition, or its `supervise/`, changed: load it
    /// again; if that fails, scan as well.
    Service(Arc<str>),
    /// Something else in a directory that is heeded ([`Watch::heed`]).
    Other(Arc<str>),
}

/// Names in a service directory that matter to its definition.
const SERVICE_NAMES: [&str; 7] = [
    "run",
    "finish",
    "check",
    "down",
    "control",
    "log",
    "service.toml",
];
/// The same in its `log/`.
const LOG_NAMES: [&str; 3] = ["run", "down", "service.toml"];

/// Those that may well be links to a file that many services share.
const LINKED_NAMES: [&str; 4] = ["run", "finish", "check", "service.toml"];

/// What came just before a directory was heeded, and after what it is heeded for has failed, is told
/// as well: nobody can say which was first.
const JUST_BEFORE: Duration = Duration::from_secs(1);

/// Links followed from one path, as the kernel's own limit.
const LINKS_MAX: usize = 40;
/// Reads of one call, some hundred events each: a service that makes files without end can't
/// keep the caller here.
const READS_MAX: usize = 32;

const COME_AND_GO: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE)
    .union(SELF_GONE)
    .union(AddWatchFlags::IN_ONLYDIR);
const SELF_GONE: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_UNMOUNT);
/// IN_MODIFY is left out on purpose: a file counts when its writer has closed it.
const CONTENT: AddWatchFlags = COME_AND_GO
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB);
/// For the directories that hold a link on the way: only its being set anew, since they can be
/// busy places such as /etc or /tmp.
const APPROACH: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_ONLYDIR);
/// For such a file itself: written in place, made executable, or replaced by another of its name.
const TARGET: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_ATTRIB)
    .union(SELF_GONE);
const GONE: AddWatchFlags = AddWatchFlags::IN_DELETE.union(AddWatchFlags::IN_MOVED_FROM);

pub struct Watch {
    /// None where there was no instance to be had.
    inotify: Option<Inotify>,
    watched: HashMap<WatchDescriptor, Watched>,
    scan_directory: Option<PathBuf>,
    scan_watches: Vec<WatchDescriptor>,
    /// Boxed: a table is half empty after it has grown.
    services: HashMap<Arc<str>, Box<Watches>>,
}

struct Watches {
    dir: Arc<PathBuf>,
    own: WatchDescriptor,
    /// Of what leads to the directory, and from its files to elsewhere.
    approach: Vec<WatchDescriptor>,
    log: Option<WatchDescriptor>,
    /// When something else in the directory was last changed.
    other: Option<Instant>,
    heeded: bool,
}

/// The kernel gives one descriptor per inode: two names for one directory share it.
struct Watched {
    mask: AddWatchFlags,
    owners: Vec<Owner>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Scan,
    /// This entry is the scan directory, or a link on the way to it.
    ScanApproach(Box<OsStr>),
    Service(Arc<str>),
    Log(Arc<str>),
    /// This entry is a link's target on the way to the service's directory.
    ServiceApproach(Arc<str>, Box<OsStr>),
    /// This entry is where one of its files leads to.
    FileApproach(Arc<str>, Box<OsStr>),
    /// ... and this is what is there.
    File(Arc<str>),
}

impl Watch {
    pub fn new() -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Watch {
            inotify: Some(inotify),
            ..Watch::blind()
        })
    }

    /// Tells nothing, and can watch nothing: whoever has it looks again now and then. An ordinary user's
    /// instances are counted over all his containers (inotify(7), max_user_instances).
    pub fn blind() -> Watch {
        Watch {
            inotify: None,
            watched: HashMap::new(),
            scan_directory: None,
            scan_watches: Vec::new(),
            services: HashMap::new(),
        }
    }

    pub fn is_blind(&self) -> bool {
        self.inotify.is_none()
    }

    /// Readable when there is something for [`Watch::read`].
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Watches `dir` as the scan directory, instead of the one before. To be called before the
    /// first scan. When it is not there the error says so, yet its coming will be told.
    pub fn scan_directory(&mut self, dir: &Path) -> io::Result<()> {
        for wd in std::mem::take(&mut self.scan_watches) {
            self.disown(wd, |owner| {
                matches!(owner, Owner::Scan | Owner::ScanApproach(_))
            });
        }
        self.scan_directory = Some(dir.to_owned());
        for (parent, entry) in way_to(dir) {
            // A parent that can't be watched costs only the notice of a replaced link.
            if let Ok(wd) = self.add(&parent, APPROACH, Owner::ScanApproach(entry.into())) {
                self.scan_watches.push(wd);
            }
        }
        let wd = self.add(dir, COME_AND_GO, Owner::Scan)?;
        self.scan_watches.push(wd);
        Ok(())
    }

    /// Watches a service's directory, and its `log/` when it has or gets one. To be called before
    /// it is loaded, and again when another directory has taken its place.
    pub fn service(&mut self, name: &Arc<str>, dir: &Arc<PathBuf>) -> io::Result<()> {
        self.forget(name);
        let own = self.add(dir, CONTENT, Owner::Service(Arc::clone(name)))?;
        // The first step is an entry of the scan directory, which is watched as a whole.
        let way = way_to(dir).into_iter().skip(1);
        let approach = way.filter_map(|(parent, entry)| {
            let owner = Owner::ServiceApproach(Arc::clone(name), entry.into());
            self.add(&parent, APPROACH, owner).ok()
        });
        let watches = Watches {
            dir: Arc::clone(dir),
            own,
            approach: approach.collect(),
            log: None,
            other: None,
            heeded: false,
        };
        self.services.insert(Arc::clone(name), Box::new(watches));
        self.linked(name, dir);
        self.log(name)
    }

    /// Watches what the files of a definition link to. Where that can't be watched, only a change of it
    /// is missed.
    fn linked(&mut self, name: &Arc<str>, dir: &Path) {
        let mut watched = Vec::new();
        for file in LINKED_NAMES {
            let path = dir.join(file);
            let way = way_to(&path);
            for (parent, entry) in way.iter().skip(1) {
                let owner = Owner::FileApproach(Arc::clone(name), entry.as_os_str().into());
                watched.extend(self.add(parent, APPROACH, owner));
            }
            // A device such as /dev/null is written all the time, and says nothing.
            if way.len() > 1 && path.is_file() {
                watched.extend(self.add(&path, TARGET, Owner::File(Arc::clone(name))));
            }
        }
        if let (false, Some(watches)) = (watched.is_empty(), self.services.get_mut(name)) {
            watched.retain(|wd| !watches.approach.contains(wd));
            watches.approach.extend(watched);
        }
    }

    /// The same again, since a step on the way is another one now.
    fn linked_anew(&mut self, name: &Arc<str>) {
        let Some(watches) = self.services.get_mut(name) else {
            return;
        };
        let (dir, has_log) = (Arc::clone(&watches.dir), watches.log.is_some());
        let before = std::mem::take(&mut watches.approach);
        for wd in &before {
            self.disown(*wd, |owner| match owner {
                Owner::FileApproach(of, _) | Owner::File(of) => of == name,
                Owner::Scan
                | Owner::ScanApproach(_)
                | Owner::Service(_)
                | Owner::Log(_)
                | Owner::ServiceApproach(..) => false,
            });
        }
        let stay = before.into_iter().filter(|wd| {
            let owners = self.watched.get(wd).map_or(&[][..], |it| &it.owners);
            let leads_here =
                |owner: &Owner| matches!(owner, Owner::ServiceApproach(of, _) if of == name);
            owners.iter().any(leads_here)
        });
        let stay: Vec<WatchDescriptor> = stay.collect();
        if let Some(watches) = self.services.get_mut(name) {
            watches.approach = stay;
        }
        self.linked(name, &dir);
        if has_log {
            self.linked(name, &dir.join("log"));
        }
    }

    /// Watches the `log/` that is there now.
    fn log(&mut self, name: &Arc<str>) -> io::Result<()> {
        let Some(watches) = self.services.get_mut(name) else {
            return Ok(());
        };
        let before = watches.log.take();
        let dir = watches.dir.join("log");
        if let Some(wd) = before {
            self.disown(wd, |owner| *owner == Owner::Log(Arc::clone(name)));
        }
        let now = match self.add(&dir, CONTENT, Owner::Log(Arc::clone(name))) {
            Ok(wd) => Some(wd),
            // No log service; or none that could be read, which loading it will say.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => None,
            Err(errno) => return Err(errno.into()),
        };
        if let Some(watches) = self.services.get_mut(name) {
            watches.log = now;
        }
        if now.is_some() {
            self.linked(name, &dir);
        }
        Ok(())
    }

    pub fn forget(&mut self, name: &str) {
        let Some(watches) = self.services.remove(name) else {
            return;
        };
        let all = watches.approach.iter().chain(&watches.log);
        for wd in all.chain([&watches.own]) {
            self.disown(*wd, |owner| match owner {
                Owner::Service(of)
                | Owner::Log(of)
                | Owner::ServiceApproach(of, _)
                | Owner::FileApproach(of, _)
                | Owner::File(of) => **of == *name,
                Owner::Scan | Owner::ScanApproach(_) => false,
            });
        }
    }

    /// From now on the next change of anything in this directory is told, once. True when there was one
    /// just now. For a service that is broken by something that its definition names.
    pub fn heed(&mut self, name: &str) -> bool {
        let Some(watches) = self.services.get_mut(name) else {
            return false;
        };
        let other = watches.other.take();
        let just_now = other.is_some_and(|at| at.elapsed() < JUST_BEFORE);
        watches.heeded = !just_now;
        just_now
    }

    /// What has changed since the last call, each once; nothing when nothing that matters has.
    /// Never waits. With very many events it leaves some for the next call: the descriptor is then
    /// still readable.
    pub fn read(&mut self) -> io::Result<Vec<Change>> {
        let mut found = Found::default();
        let Some(inotify) = &self.inotify else {
            return Ok(Vec::new());
        };
        for _ in 0..READS_MAX {
            let events = match inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for event in &events {
                self.take(event, &mut found);
            }
        }
        if found.scan_replaced
            && let Some(dir) = self.scan_directory.clone()
        {
            // When it is not there (yet), the scan will say so, and its coming is watched for.
            let _ = self.scan_directory(&dir);
        }
        for name in &found.log_replaced {
            // Out of watches: the scan that is told as well will find the same trouble.
            let _ = self.log(name);
        }
        for name in &found.links_replaced {
            self.linked_anew(name);
        }
        for name in found.other {
            if let Some(watches) = self.services.get_mut(&name) {
                watches.other = Some(Instant::now());
                if std::mem::take(&mut watches.heeded) {
                    found.changes.insert(Change::Other(name));
                }
            }
        }
        Ok(found.changes.into_iter().collect())
    }

    fn take(&self, event: &InotifyEvent, found: &mut Found) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            found.scan_replaced = true;
            found.changes.insert(Change::Scan);
            for name in self.services.keys() {
                found.service(name);
                found.log_replaced.insert(name.clone());
                found.links_replaced.insert(name.clone());
            }
            return;
        }
        // After IN_IGNORED the number means nothing any more; its owners let go of it in time,
        // since they are told of the end as well.
        let owners = self.watched.get(&event.wd);
        let name = event.name.as_deref();
        let self_gone = event.mask.intersects(SELF_GONE);
        for owner in owners.map_or(&[][..], |watched| &watched.owners) {
            match owner {
                Owner::Scan if self_gone => found.replaced(),
                Owner::Scan if is_entry(event) => {
                    found.changes.insert(Change::Scan);
                }
                Owner::ScanApproach(entry) if name == Some(&**entry) => found.replaced(),
                Owner::Service(service) if self_gone => {
                    found.changes.insert(Change::Scan);
                    found.service(service);
                }
                Owner::ServiceApproach(service, entry) if name == Some(&**entry) => {
                    found.changes.insert(Change::Scan);
                    found.service(service);
                }
                Owner::FileApproach(service, entry) if name == Some(&**entry) => {
                    found.service(service);
                    found.links_replaced.insert(Arc::clone(service));
                }
                Owner::File(service) if event.mask.intersects(TARGET) => {
                    found.service(service);
                    found.links_replaced.insert(Arc::clone(service));
                }
                Owner::Service(service) if matters(event, &SERVICE_NAMES) => {
                    found.service(service);
                    if is_one_of(name, &LINKED_NAMES) {
                        found.links_replaced.insert(Arc::clone(service));
                    }
                    if name == Some(OsStr::new("log")) {
                        found.log_replaced.insert(service.clone());
                    }
                }
                Owner::Log(service) if self_gone || matters(event, &LOG_NAMES) => {
                    found.service(service);
                    if is_one_of(name, &LINKED_NAMES) {
                        found.links_replaced.insert(Arc::clone(service));
                    }
                }
                Owner::Service(service) | Owner::Log(service) if is_other(event) => {
                    found.other.insert(Arc::clone(service));
                }
                Owner::Scan
                | Owner::ScanApproach(_)
                | Owner::Service(_)
                | Owner::Log(_)
                | Owner::ServiceApproach(..)
                | Owner::FileApproach(..)
                | Owner::File(_) => {}
            }
        }
    }

    fn add(
        &mut self,
        dir: &Path,
        mask: AddWatchFlags,
        owner: Owner,
    ) -> nix::Result<WatchDescriptor> {
        let inotify = self.inotify.as_ref().ok_or(Errno::EMFILE)?;
        let wd = inotify.add_watch(dir, mask)?;
        let watched = self.watched.entry(wd).or_insert(Watched {
            mask,
            // Nearly always the only one; a first push would make room for four.
            owners: Vec::with_capacity(1),
        });
        // A second call for the same inode has replaced the mask that its first owner needs.
        let both = watched.mask | mask;
        if both != mask {
            inotify.add_watch(dir, both)?;
        }
        watched.mask = both;
        if !watched.owners.contains(&owner) {
            watched.owners.push(owner);
        }
        Ok(wd)
    }

    fn disown(&mut self, wd: WatchDescriptor, is_his: impl Fn(&Owner) -> bool) {
        let Some(watched) = self.watched.get_mut(&wd) else {
            return;
        };
        watched.owners.retain(|owner| !is_his(owner));
        if watched.owners.is_empty() {
            self.watched.remove(&wd);
            // EINVAL when the inode went first.
            let _ = self.inotify.as_ref().map(|it| it.rm_watch(wd));
        }
    }
}

/// What a number of events come to.
#[derive(Default)]
struct Found {
    changes: BTreeSet<Change>,
    scan_replaced: bool,
    log_replaced: BTreeSet<Arc<str>>,
    /// What its files link to may be something else now.
    links_replaced: BTreeSet<Arc<str>>,
    other: BTreeSet<Arc<str>>,
}

impl Found {
    fn replaced(&mut self) {
        self.scan_replaced = true;
        self.changes.insert(Change::Scan);
    }

    fn service(&mut self, name: &Arc<str>) {
        self.changes.insert(Change::Service(Arc::clone(name)));
    }
}

/// An entry of the scan directory that could be a service.
fn is_entry(event: &InotifyEvent) -> bool {
    let name = event.name.as_deref().unwrap_or_default();
    let came_or_went = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
    event.mask.intersects(came_or_went) && !name.as_encoded_bytes().starts_with(b".")
}

/// No name: the directory's own mode or owner was changed.
fn matters(event: &InotifyEvent, names: &[&str]) -> bool {
    match event.name.as_deref() {
        None => event.mask.contains(AddWatchFlags::IN_ATTRIB),
        Some(name) if name == "supervise" => event.mask.intersects(GONE),
        Some(name) => is_one_of(Some(name), names),
    }
}

fn is_one_of(name: Option<&OsStr>, names: &[&str]) -> bool {
    name.is_some_and(|name| names.iter().any(|known| OsStr::new(known) == name))
}

/// A file that no definition has to have; not what we make ourselves.
fn is_other(event: &InotifyEvent) -> bool {
    let name = event.name.as_deref();
    name.is_some_and(|name| name != "supervise")
}

/// The entries by which a path is reached: itself, then each link on the way that its target goes and
/// the target at last, each with the directory it stands in. What is missing ends the way: its coming
/// is of interest.
fn way_to(path: &Path) -> Vec<(PathBuf, OsString)> {
    let mut way = Vec::new();
    let (Some(parent), Some(entry)) = (path.parent(), path.file_name()) else {
        return way;
    };
    let mut at = match parent.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => parent.to_owned(),
    };
    let mut steps = VecDeque::from([entry.to_owned()]);
    let mut links = 0;
    while let Some(step) = steps.pop_front() {
        if step == "/" || step == "." || step == ".." {
            at.push(step);
            continue;
        }
        let here = at.join(&step);
        let last = steps.is_empty();
        match std::fs::read_link(&here) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                way.push((at.clone(), step));
                for step in target.iter().rev() {
                    steps.push_front(step.to_owned());
                }
            }
            Ok(_) => break,
            Err(_) if last || !here.exists() => {
                way.push((at, step));
                break;
            }
            Err(_) => at = here,
        }
    }
    way
}

/// File systems whose changes may come from elsewhere, by their numbers in statfs(2).
const ELSEWHERE: [u32; 14] = [
    0x6969,      // NFS
    0x517b,      // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x6573_5546, // FUSE, virtiofs among them
    0x0102_1997, // 9P
    0x5346_414f, // AFS
    0x7375_7245, // Coda
    0x00c3_6400, // Ceph
    0x0bd0_0bd0, // Lustre
    0x0116_1970, // GFS2
    0x7461_636f, // OCFS2
    0x786f_4256, // VirtualBox's shared folders
    0x0187,      // autofs: what will be mounted is not known yet
];

/// Whether inotify sees all changes of this directory. If not, it is to be scanned again every
/// few seconds.
pub fn reliable(dir: &Path) -> bool {
    let Ok(it) = statfs(dir) else {
        return false;
    };
    // The kernel's numbers have 32 bits; a signed field may have extended the sign.
    let kind = u32::try_from(it.filesystem_type().0 & 0xffff_ffff);
    !kind.is_ok_and(|kind| ELSEWHERE.contains(&kind))
}

#[cfg(test)]
mod tests;
