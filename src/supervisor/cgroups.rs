//! Control groups (version 2 only), for services whose scope is `tree` or that have settings of one.
//!
//! Each gets one below our own group, when that may be written; without, a tree is followed by
//! parentage, and a service with settings does not start. Only those controllers are switched on
//! that a service asks for.

use nix::unistd::{AccessFlags, access};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory below which this supervisor may make groups.
pub struct Cgroups {
    base: PathBuf,
}

impl Cgroups {
    /// None when there is no cgroup2 mount or it can't be written. Makes nothing yet: most
    /// supervisors have no service that wants a group.
    pub fn find(keeper: i32) -> Option<Cgroups> {
        let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
        let mount = mounts
            .into_iter()
            .find(|mount| mount.fs_type == "cgroup2")?
            .mount_point;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let ours = mount.join(own);
        let may = access(&ours, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
        may.then(|| Cgroups {
            base: ours.join(format!("outlast-{keeper}")),
        })
    }

    /// Makes the group of this service anew, with these controllers; finds it when somebody is left
    /// in it.
    pub fn make(&self, service: &str, controllers: &BTreeSet<&str>) -> Option<PathBuf> {
        let group = self.base.join(service);
        remove(&group);
        let made = fs::create_dir_all(&group);
        for controller in controllers {
            self.hand_down(service, controller);
        }
        match made {
            Ok(()) => Some(group),
            Err(error) => {
                let group = group.display();
                tracing::warn!(
                    service,
                    "cannot make its cgroup {group}: {error}; its descendants are followed instead"
                );
                None
            }
        }
    }

    /// One that a predecessor under another keeper has made, once nobody is in it.
    pub fn leave_to_nobody(&self, group: &Path) {
        if let Some(base) = group.parent().filter(|base| **base != *self.base) {
            remove(group);
            let _ = fs::remove_dir(base);
        }
    }

    /// Switches a controller on for our groups. Without it the setting's file is not there, and that
    /// is what the start fails with.
    fn hand_down(&self, service: &str, controller: &str) {
        let above = self.base.parent().unwrap_or(&self.base);
        for group in [above, &self.base] {
            let file = group.join("cgroup.subtree_control");
            if let Err(error) = fs::write(&file, format!("+{controller}")) {
                let file = file.display();
                tracing::warn!(
                    service,
                    "cannot switch on the controller {controller} in {file}: {error}; outlast must \
                     stand in the root cgroup, or in one without processes of its own"
                );
                return;
            }
        }
    }

    /// Removes the groups, as far as they are empty.
    pub fn clean(&self) {
        let groups = fs::read_dir(&self.base).into_iter().flatten().flatten();
        for group in groups.filter(|group| group.path().is_dir()) {
            remove(&group.path());
        }
        let _ = fs::remove_dir(&self.base);
    }
}

/// Removes a group and those that the service made below it, as far as they are empty.
pub fn remove(group: &Path) {
    let inner = fs::read_dir(group).into_iter().flatten().flatten();
    for inner in inner.filter(|inner| inner.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&inner.path());
    }
    let _ = fs::remove_dir(group);
}

/// The processes in a group and in those below it.
pub fn members(group: &Path) -> Vec<i32> {
    let list = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut all: Vec<i32> = list.lines().filter_map(|line| line.parse().ok()).collect();
    let inner = fs::read_dir(group).into_iter().flatten().flatten();
    for inner in inner.filter(|inner| inner.file_type().is_ok_and(|kind| kind.is_dir())) {
        all.extend(members(&inner.path()));
    }
    all
}

/// KILL to all of a group at once (Linux 5.14); false when the kernel can't.
pub fn kill(group: &Path) -> bool {
    fs::write(group.join("cgroup.kill"), "1").is_ok()
}

/// How many processes of the group the kernel has ended for want of memory; None without the
/// memory controller.
pub fn oom_kills(group: &Path) -> Option<u64> {
    let events = fs::read_to_string(group.join("memory.events")).ok()?;
    events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .parse()
        .ok()
}

/// The same for the whole machine (proc(5), /proc/vmstat, Linux 4.13).
pub fn oom_kills_anywhere() -> Option<u64> {
    let counters = super::leftovers::read_proc(Path::new("/proc/vmstat")).ok()?;
    counters
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .parse()
        .ok()
}
