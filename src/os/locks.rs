//! Who holds a lock that we can't have (proc_locks(5)).

use nix::sys::stat::{major, minor};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

/// The process that took the flock(2) of that file. None when there is none or the kernel does not
/// say: a holder outside our pid namespace is not listed, nor, in one, a lock that outlived its taker.
pub fn holder(file: &File) -> Option<i32> {
    let about = file.metadata().ok()?;
    let (device, inode) = (about.dev(), about.ino());
    let place = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let line = locks
        .lines()
        .find(|line| line.contains(" FLOCK ") && line.split(' ').any(|word| word == place))?;
    line.split_ascii_whitespace().nth(4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taker_of_a_lock_is_named_and_nobody_after_it() {
        let file = tempfile::tempfile().expect("file");
        assert_eq!(holder(&file), None);
        file.lock().expect("lock");
        let ours = i32::try_from(std::process::id()).expect("pid");
        assert_eq!(holder(&file), Some(ours));
        file.unlock().expect("unlock");
        assert_eq!(holder(&file), None);
    }
}
