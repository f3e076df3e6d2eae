//! Which process a number means, beyond doubt: a number alone comes to mean another one in time.
//!
//! Within one boot and one pid namespace (number, start time) names a process once and for all.

use super::pidfd::PidFd;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// More than fifty numbers and a name of 64 bytes take; the kernel gives it all at once.
const STAT_BYTES_MAX: usize = 2_048;

/// A process of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// Clock ticks from boot to its start: field 22 of /proc/PID/stat (proc_pid_stat(5)).
    pub started: u64,
}

/// Where a number means anything at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Realm {
    /// /proc/sys/kernel/random/boot_id
    pub boot: String,
    /// The inode of our pid namespace.
    pub namespace: u64,
}

impl Realm {
    /// Looked up once: a process stays in its pid namespace.
    pub fn ours() -> io::Result<Realm> {
        static OURS: OnceLock<Realm> = OnceLock::new();
        if let Some(ours) = OURS.get() {
            return Ok(ours.clone());
        }
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let ours = Realm {
            boot: boot.trim().to_owned(),
            namespace: std::fs::metadata("/proc/self/ns/pid")?.ino(),
        };
        Ok(OURS.get_or_init(|| ours).clone())
    }
}

impl Identity {
    /// None when there is no such process. A zombie has an identity as well.
    pub fn of(pid: i32) -> Option<Identity> {
        Identity::found(pid).ok()?
    }

    /// None as above. An error says nothing about the process.
    fn found(pid: i32) -> io::Result<Option<Identity>> {
        let mut stat = [0; STAT_BYTES_MAX];
        let file = File::open(format!("/proc/{pid}/stat"));
        match file.and_then(|mut file| file.read(&mut stat)) {
            Ok(count) => Ok(Identity::told(pid, stat.get(..count).unwrap_or_default())),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn told(pid: i32, stat: &[u8]) -> Option<Identity> {
        // The name in parentheses may hold anything, parentheses and spaces included.
        let after = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(after + 1..)?).ok()?;
        // Field 3 comes first.
        let started = rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?;
        Some(Identity { pid, started })
    }

    /// That very process, held fast. None when it has ended, whoever has its number now.
    pub fn pin(&self) -> Option<PidFd> {
        self.hold().ok()?
    }

    /// The same; an error when that can't be known.
    pub fn hold(&self) -> io::Result<Option<PidFd>> {
        let pinned = match PidFd::open(self.pid) {
            Err(error) if is_gone(&error) => return Ok(None),
            other => other?,
        };
        // Looked at after it was pinned, so what was looked at is what is held.
        let same = Identity::found(self.pid)? == Some(*self);
        Ok((same && pinned.lives()).then_some(pinned))
    }
}

fn is_gone(error: &io::Error) -> bool {
    let missing = error.kind() == io::ErrorKind::NotFound;
    missing || error.raw_os_error() == Some(nix::libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_pinned_by_its_start_and_not_by_its_number() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .expect("sleep");
        let pid = i32::try_from(child.id()).expect("pid");
        let identity = Identity::of(pid).expect("identity");
        assert!(identity.pin().is_some_and(|pinned| pinned.lives()));
        let another = Identity {
            started: identity.started + 1,
            ..identity
        };
        assert!(matches!(another.hold(), Ok(None)));
        child.kill().expect("kill");
        // A zombie has ended, though its number is still its own.
        while identity.pin().is_some() {
            std::thread::yield_now();
        }
        child.wait().expect("wait");
        assert!(matches!(identity.hold(), Ok(None)));
        assert_eq!(Identity::of(pid), None);
    }
}
