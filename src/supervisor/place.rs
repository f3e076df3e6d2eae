//! What the supervisor keeps beside the machine for each service: descriptors, processes, words.

use super::cgroups;
use super::leftovers::Pinned;
use super::quarantine::Suspicion;
use super::show::wall;
use super::standing::Face;
use super::vocab::{Role, ServiceId, Tick};
use crate::ipc::wire::Usage;
use crate::launch::report::Words;
use crate::machine::spec::Spec;
use crate::os::identity::Identity;
use nix::fcntl::OFlag;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Default)]
pub struct Place {
    pub name: Arc<str>,
    /// What runsvdir finds it as; its name is a number that stays when it is renamed.
    pub title: Arc<str>,
    /// Set for a log service: whose.
    pub main: Option<ServiceId>,
    /// As found below the scan directory; a log service's ends in `/log`.
    pub dir: Arc<PathBuf>,
    pub directory: Option<Arc<OwnedFd>>,
    pub control: Option<OwnedFd>,
    pub ok: Option<OwnedFd>,
    /// The keeper holds a pipe for its output.
    pub piped: bool,
    /// The inode of that pipe.
    pub pipe: Option<u64>,
    /// The keeper holds the lock of its `supervise/`.
    pub locked: bool,
    /// The scribe reads the pipe.
    pub scribed: bool,
    /// It was in the last scan; with its inode, to notice another directory under the same name.
    pub inode: Option<(u64, u64)>,
    /// The link that it was found by ([`Found::link`](crate::svdir::scan::Found::link)).
    pub link: Option<u64>,
    /// That link leads elsewhere now; what is here is on its way out, whatever stands there.
    pub exchanged: bool,
    /// A scan did not find it and its definition has not been read since; it is on its way out.
    pub removed: bool,
    /// As a predecessor knew it, until its definition is read.
    pub face: Option<Box<Face>>,
    /// The keeper's book told of it, and its directory has not been opened since.
    pub reread: bool,
    /// Our predecessor left it in the keeper's book.
    pub restored: bool,
    /// Living processes by role.
    pub alive: [Option<i32>; 4],
    /// When those were started, by which a number means one process; 0 is not known.
    started: [u64; 4],
    /// Roles for which a process was asked for and has not been heard of, one bit each.
    pub asked: u8,
    /// When the last run ended, in clock ticks from boot.
    pub ended: u64,
    /// Made for its output, and not with the scribe yet.
    pub fresh_pipe: Option<OwnedFd>,
    /// Held open at both ends, the keeper being gone.
    pub kept_pipe: Option<OwnedFd>,
    /// Started under another keeper: what it leaves does not hang below ours.
    pub foreign: bool,
    /// runit's flag as last written.
    pub paused: bool,
    /// The time in `status` by both clocks, as it was first reckoned.
    pub since: Option<(u64, u64)>,
    /// Sessions that processes of it were started in and that may have members left.
    pub sessions: Vec<i32>,
    /// Descendants seen before a stop, for the scope `tree` without a cgroup.
    pub tree: Vec<(i32, u64)>,
    /// The sessions of those.
    pub tree_sessions: Vec<i32>,
    /// Sessions outside its scope that were found when a run had just ended, each with the clock tick
    /// from boot at which that was.
    pub escaped: Vec<(i32, u64)>,
    /// What hung below the last run when it was stopped, outside its scope: number, start, name.
    pub spared: Vec<(Identity, String)>,
    pub cgroup: Option<PathBuf>,
    pub oom_before: u64,
    /// Leftovers waited for.
    pub pinned: Vec<Pinned>,
    /// Of the last run that ended.
    pub usage: Option<Box<Usage>>,
    pub oom: Option<bool>,
    /// The kernel has ended somebody for want of memory then, and whom can't be said.
    pub oom_near: bool,
    /// Why the last start failed, in words.
    pub words: Option<Box<Words>>,
    /// There is none, and what a successor would need is written elsewhere.
    pub aside: bool,
    /// What is wrong with its `supervise/`.
    pub supervise_trouble: Option<Box<str>>,
    /// What is wrong with its log.
    pub log_trouble: Option<Box<str>>,
    /// Why its lines are on standard output only.
    pub log_echoed: Option<Box<str>>,
    /// Fingerprint of its definition, and since when that has been in force.
    pub definition: Option<(u64, u64)>,
    /// What keeps it from being started, where that is not its definition.
    pub hindrance: Option<Hindrance>,
    /// Its definition is left unread, since a supervisor may have died of it.
    pub quarantined: bool,
    /// ... or was, and has not been lived with since.
    pub suspicion: Option<Suspicion>,
    /// There is something wrong with its definition, or was when it was last read.
    pub broken: bool,
    /// A hash of the blob that the keeper has.
    pub blob: u64,
    /// A log service's definition, until its directory is open.
    pub waiting: Option<Box<Spec>>,
    /// A change of its status has not been passed on yet.
    pub dirty: bool,
    /// The definition's own complaints that do not keep it from running.
    pub warnings: Vec<String>,
}

/// Why a service can't be used although there is nothing wrong with its definition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hindrance {
    /// Another supervisor has the lock of its `supervise/`.
    Held,
    /// No open files are left for it.
    Short,
    /// Its directory can't be opened.
    Closed,
}

/// The index of a role in arrays and on the wire.
pub fn role_number(role: Role) -> u8 {
    match role {
        Role::Run => 0,
        Role::Finish => 1,
        Role::Check => 2,
        Role::Control => 3,
    }
}

pub fn role_of(number: u8) -> Option<Role> {
    match number {
        0 => Some(Role::Run),
        1 => Some(Role::Finish),
        2 => Some(Role::Check),
        3 => Some(Role::Control),
        _ => None,
    }
}

fn bit(role: Role) -> u8 {
    1 << role_number(role)
}

fn known(started: u64) -> Option<u64> {
    (started != 0).then_some(started)
}

impl Place {
    pub fn new(name: &str, main: Option<ServiceId>, dir: &Path) -> Place {
        let name: Arc<str> = Arc::from(name);
        Place {
            title: Arc::clone(&name),
            name,
            main,
            dir: Arc::new(dir.to_owned()),
            ..Place::default()
        }
    }

    /// The wall's time of a tick that `status` tells. It stays what it was at first, though one clock
    /// is set or drifts against the other: sv knows a run by it.
    pub fn dated(&mut self, since: Tick) -> Duration {
        let wall_ns = match self.since {
            Some((at, wall_ns)) if at == since.0 => wall_ns,
            _ => u64::try_from(wall(since).as_nanos()).unwrap_or(u64::MAX),
        };
        self.since = Some((since.0, wall_ns));
        Duration::from_nanos(wall_ns)
    }

    pub fn set_alive(&mut self, role: Role, pid: Option<i32>) {
        self.asked &= !bit(role);
        if let Some(place) = self.alive.get_mut(usize::from(role_number(role))) {
            *place = pid;
        }
    }

    /// A process under this number has become known.
    pub fn took(&mut self, role: Role, pid: i32) {
        self.set_alive(role, Some(pid));
        let at = usize::from(role_number(role));
        if let Some(started) = self.started.get_mut(at) {
            *started = Identity::of(pid).map_or(0, |it| it.started);
        }
    }

    /// The same, as the keeper's book tells of it: with the start time that was noted then.
    pub fn had(&mut self, role: Role, pid: i32, starts: &[(u8, i32, u64)]) {
        let number = role_number(role);
        let noted = starts.iter().find(|it| (it.0, it.1) == (number, pid));
        let Some((_, _, started)) = noted.copied() else {
            return self.took(role, pid);
        };
        self.set_alive(role, Some(pid));
        if let Some(place) = self.started.get_mut(usize::from(number)) {
            *place = started;
        }
    }

    /// A predecessor had put it into this control group.
    pub fn is_in(&mut self, group: Option<PathBuf>) {
        self.cgroup = group.filter(|group| group.is_dir());
        let kills = self.cgroup.as_deref().and_then(cgroups::oom_kills);
        self.oom_before = kills.unwrap_or(0);
    }

    /// A process of it has begun in a session of its own.
    pub fn began(&mut self, session: i32) {
        if !self.sessions.contains(&session) {
            self.sessions.push(session);
        }
    }

    /// Role, number and start of what lives.
    pub fn starts(&self) -> Vec<(u8, i32, u64)> {
        let all = (0u8..).zip(self.alive.iter().zip(self.started));
        all.filter_map(|(number, (pid, started))| Some((number, (*pid)?, known(started)?)))
            .collect()
    }

    /// Which process it is that lives in this role.
    pub fn living(&self, role: Role) -> Option<Identity> {
        let at = usize::from(role_number(role));
        let started = known(*self.started.get(at)?)?;
        let pid = (*self.alive.get(at)?)?;
        Some(Identity { pid, started })
    }

    /// When the last run that is known of was started, in clock ticks from boot.
    pub fn run_began(&self) -> Option<u64> {
        let [started, ..] = self.started;
        known(started)
    }

    pub fn ask_for(&mut self, role: Role) {
        self.asked |= bit(role);
    }

    pub fn is_asked_for(&self, role: Role) -> bool {
        self.asked & bit(role) != 0
    }

    pub fn is_alive(&self, role: Role, pid: i32) -> bool {
        self.alive.get(usize::from(role_number(role))) == Some(&Some(pid))
    }

    /// A process of `run` lives.
    pub fn runs(&self) -> bool {
        matches!(self.alive, [Some(_), ..])
    }

    /// Bytes written into `supervise/control`, at most a page of them at once.
    pub fn read_control(&self) -> Vec<u8> {
        let mut buffer = [0u8; 512];
        let Some(control) = &self.control else {
            return Vec::new();
        };
        let count = nix::unistd::read(control, &mut buffer).unwrap_or(0);
        buffer.get(..count).unwrap_or_default().to_vec()
    }
}

/// For naming in `why`: the real path behind a link.
pub fn real_path(dir: &Path) -> String {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let real = nix::fcntl::open(dir, flags, nix::sys::stat::Mode::empty())
        .ok()
        .and_then(|fd| {
            use std::os::fd::AsRawFd;
            std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
        });
    real.as_deref()
        .unwrap_or(dir)
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_status_is_reckoned_once_for_each_moment() {
        let mut place = Place::new("web", None, Path::new("/nowhere"));
        let moment = Tick(crate::os::clock::monotonic_ns());
        let first = place.dated(moment);
        assert!((0..100).all(|_| place.dated(moment) == first));
        let later = Tick(moment.0 + 5_000_000_000);
        assert_ne!(place.dated(later), first);
        // ... by whichever supervisor.
        let mut next = Place {
            since: Some((7, 99)),
            ..Place::default()
        };
        assert_eq!(next.dated(Tick(7)), Duration::from_nanos(99));
    }
}
