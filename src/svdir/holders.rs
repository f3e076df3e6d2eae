//! Who has a service's log pipe for its input or output: how a process is known to be the service's
//! when nothing was written down about it.
//!
//! The pipe is made for the service and given to its processes only, and a living pipe's inode is
//! its own. Found by one look at all of /proc, when a keeper was killed.

use crate::os::identity::Identity;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A living process, as /proc told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    pub session: i32,
    pub started: u64,
}

impl Holder {
    pub fn identity(&self) -> Identity {
        Identity {
            pid: self.pid,
            started: self.started,
        }
    }
}

/// Holders by the inode of a pipe.
#[derive(Debug, Default)]
pub struct Holders {
    reading: BTreeMap<u64, Vec<Holder>>,
    writing: BTreeMap<u64, Vec<Holder>>,
}

impl Holders {
    /// Processes that we may not look into are left out: those of other users.
    pub fn look() -> Holders {
        let mut found = Holders::default();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(pid) = pid {
                found.take_in(pid, &entry.path());
            }
        }
        found
    }

    fn take_in(&mut self, pid: i32, proc: &Path) {
        let [input, output, errors] = [0, 1, 2].map(|number| pipe_behind(proc, number));
        if [input, output, errors].iter().all(Option::is_none) {
            return;
        }
        // After its pipes: what is looked at later is looked at again, by its start time.
        let Some(holder) = holder(pid) else {
            return;
        };
        if let Some(inode) = input {
            self.reading.entry(inode).or_default().push(holder);
        }
        let also = errors.filter(|_| errors != output);
        for inode in output.into_iter().chain(also) {
            self.writing.entry(inode).or_default().push(holder);
        }
    }

    pub fn writing(&self, inode: u64) -> &[Holder] {
        self.writing.get(&inode).map_or(&[], Vec::as_slice)
    }

    pub fn reading(&self, inode: u64) -> &[Holder] {
        self.reading.get(&inode).map_or(&[], Vec::as_slice)
    }
}

/// `pipe:[4711]`
fn pipe_behind(proc: &Path, number: u32) -> Option<u64> {
    let target = fs::read_link(proc.join("fd").join(number.to_string())).ok()?;
    let inode = target.to_str()?.strip_prefix("pipe:[")?;
    inode.strip_suffix(']')?.parse().ok()
}

/// None for one that has ended.
fn holder(pid: i32) -> Option<Holder> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let mut rest = std::str::from_utf8(stat.get(after + 1..)?)
        .ok()?
        .split_ascii_whitespace();
    // Field 3 comes first; 6 is the session, 22 the start (proc_pid_stat(5)).
    if matches!(rest.next()?, "Z" | "X") {
        return None;
    }
    let session = rest.nth(6 - 4)?.parse().ok()?;
    let started = rest.nth(22 - 7)?.parse().ok()?;
    Some(Holder {
        pid,
        session,
        started,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::process::{Command, Stdio};

    #[test]
    fn who_writes_into_a_pipe_and_who_reads_it_is_found() {
        let (reader, writer) = std::io::pipe().expect("pipe");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
        let inode = fs::metadata(format!("/proc/self/fd/{fd}"))
            .expect("it")
            .ino();
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .stdout(writer)
            .spawn()
            .expect("sleep");
        let pid = i32::try_from(child.id()).expect("pid");
        let holders = Holders::look();
        let [holder] = holders.writing(inode) else {
            panic!("{:?}", holders.writing(inode));
        };
        assert_eq!(holder.pid, pid);
        assert_eq!(
            Identity::of(pid).map(|identity| identity.started),
            Some(holder.started)
        );
        assert!(holders.reading(inode).is_empty());
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(Holders::look().writing(inode).is_empty());
    }
}
