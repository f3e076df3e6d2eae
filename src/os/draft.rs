//! A small file in place of an older one, whole: for what is written often and means nothing after
//! a boot. Nothing here is synced; what has to outlast a loss of power is not written by this.

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Written beside its place, and not yet there.
pub struct Draft {
    new: PathBuf,
    place: PathBuf,
}

impl Draft {
    /// Of `dir`/`name`, as `dir`/`name`.new.
    pub fn write(dir: &Path, name: &str, mode: u32, content: &[u8]) -> io::Result<Draft> {
        let new = dir.join(format!("{name}.new"));
        let mut file = match create(&new, mode) {
            // Left by somebody who died before it was in its place. Removed and not truncated: it
            // could be a link that somebody has put there.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&new)?;
                create(&new, mode)?
            }
            other => other?,
        };
        file.write_all(content)?;
        let place = dir.join(name);
        Ok(Draft { new, place })
    }

    /// A reader sees the old file or this one, never a part and never none.
    ///
    /// The two change places. With rename(2) ext4 would begin to write the new one to the disk at
    /// once (ext4(5), auto_da_alloc), which takes three times as long as all the rest.
    pub fn put(self) -> io::Result<()> {
        let (new, place) = (&self.new, &self.place);
        match renameat2(AT_FDCWD, new, AT_FDCWD, place, RenameFlags::RENAME_EXCHANGE) {
            Ok(()) => fs::remove_file(new),
            // There is no older one, or this file system can't do it.
            Err(_) => fs::rename(new, place),
        }
    }
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_newest_content_is_all_that_is_left() {
        let dir = tempfile::tempdir().expect("dir");
        for content in ["one", "two", "three"] {
            let draft = Draft::write(dir.path(), "status", 0o644, content.as_bytes());
            draft.expect("written").put().expect("put");
            let found = fs::read_to_string(dir.path().join("status"));
            assert_eq!(found.expect("read"), content);
            assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 1);
        }
    }

    #[test]
    fn links_in_its_way_are_replaced_and_not_followed() {
        let dir = tempfile::tempdir().expect("dir");
        let victim = dir.path().join("victim");
        fs::write(&victim, "untouched").expect("written");
        for name in ["status", "status.new"] {
            symlink(&victim, dir.path().join(name)).expect("a link");
        }
        let draft = Draft::write(dir.path(), "status", 0o644, b"new").expect("written");
        draft.put().expect("put");
        let status = dir.path().join("status");
        assert!(!status.is_symlink() && !dir.path().join("status.new").exists());
        assert_eq!(fs::read_to_string(&status).expect("read"), "new");
        assert_eq!(fs::read_to_string(&victim).expect("read"), "untouched");
    }
}
