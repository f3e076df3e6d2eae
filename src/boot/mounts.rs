//! Mounting what the kernel offers, and unmounting everything at the end.

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What stays to the end: the kernel's own, and what process 1 and its messages need.
const KEPT: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];
/// A mount that uses another one goes first, whatever the order in the list.
const ROUNDS_MAX: u32 = 3;

/// Something on its place, made if need be. Done already is fine.
pub fn put(kind: &str, place: &str, flags: MsFlags, data: Option<&str>) -> Result<(), String> {
    if is_mounted(Path::new(place)) {
        return Ok(());
    }
    if !Path::new(place).is_dir() {
        fs::create_dir_all(place).map_err(|error| format!("cannot make {place}: {error}"))?;
    }
    match mount(Some(kind), place, Some(kind), flags, data) {
        // Refused in a container, whose engine has put there what it wanted.
        Ok(()) | Err(Errno::EBUSY | Errno::EPERM) => Ok(()),
        Err(errno) => Err(format!("cannot mount {kind} on {place}: {errno}")),
    }
}

/// Another file system than that of the directory it stands in.
pub fn is_mounted(place: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    let above = place.parent().and_then(device);
    above.is_some() && device(place).is_some_and(|own| Some(own) != above)
}

/// All but the root and what is kept; those that are in use become read-only. What could be neither
/// is returned.
pub fn take_down() -> Vec<String> {
    for _ in 0..ROUNDS_MAX {
        let mut all = mounted();
        all.reverse();
        let count = all.len();
        let left = all
            .iter()
            .filter(|place| umount2(place.as_path(), MntFlags::empty()).is_err())
            .count();
        if left == 0 || left == count {
            break;
        }
    }
    let mut troubles = Vec::new();
    for place in mounted() {
        if let Err(trouble) = make_read_only(&place) {
            troubles.push(trouble);
        }
    }
    troubles
}

pub fn make_read_only(place: &Path) -> Result<(), String> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let done = mount(None::<&str>, place, None::<&str>, flags, None::<&str>);
    done.map_err(|errno| format!("{} stays writable: {errno}", place.display()))
}

fn mounted() -> Vec<PathBuf> {
    let list = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    places(&list)
}

/// Mount points in the order in which they were mounted (proc(5)).
fn places(list: &str) -> Vec<PathBuf> {
    let points = list.lines().filter_map(|line| line.split(' ').nth(4));
    let points = points.map(unescaped).filter(|place| {
        let kept = |above: &&str| Path::new(place).starts_with(above);
        place != "/" && !KEPT.iter().any(kept)
    });
    points.map(PathBuf::from).collect()
}

/// Blanks, tabs, line ends and backslashes stand there as three octal digits.
fn unescaped(text: &str) -> String {
    let known = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let replace = |text: String, (code, plain): &(&str, &str)| text.replace(code, plain);
    known.iter().fold(text.to_owned(), replace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_ends_with_is_not_unmounted() {
        let list = "\
22 1 0:2 / / rw - rootfs rootfs rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:22 / /dev/pts rw - devpts devpts rw
25 22 0:23 / /run rw - tmpfs run rw
26 22 8:1 / /home rw - ext4 /dev/sda1 rw
27 22 8:2 / /mnt/a\\040b rw - ext4 /dev/sda2 rw
28 22 8:3 / /running rw - ext4 /dev/sda3 rw
";
        let wanted = ["/home", "/mnt/a b", "/running"].map(PathBuf::from);
        assert_eq!(places(list), wanted);
    }

    #[test]
    fn a_mount_point_is_told_from_a_directory() {
        assert!(is_mounted(Path::new("/proc")));
        assert!(!is_mounted(Path::new("/proc/self")) && !is_mounted(Path::new("/nowhere")));
    }
}
