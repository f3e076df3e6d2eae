//! What a supervisor that dies leaves for its successor in `supervise/outlast`: which processes are
//! the service's, beyond doubt, and how it stood.
//!
//! Read by a successor under another keeper, which would else start a second copy beside the one
//! that lives. Nothing is believed that another user could have written or moved here: the file is
//! ours alone, names this very directory, this boot and this pid namespace, and each process by its
//! start time as well. runsv keeps it only while a process lives; `outlast supervise` as long as it
//! supervises, with the inode of the log pipe, so that a process of which nothing could be written
//! any more is found by what it writes into (`holders`).
//!
//! Where a directory has no `supervise/` that could be written, its record stands on a shelf beside the
//! control socket: whoever answers there next is the one who would start a second copy.

use super::holders::{Holder, Holders};
use crate::os::draft::Draft;
use crate::os::fds;
use crate::os::identity::{Identity, Realm};
use crate::os::pidfd::PidFd;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// More than any record; a longer one is none of ours.
const RECORD_BYTES_MAX: u64 = 16_384;

/// What is to be left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Living {
    pub run: Option<Identity>,
    pub finish: Option<Identity>,
    /// The check and the control script that run: nobody takes over what they have to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<Identity>,
    /// The inode of the pipe that takes its output to the log service.
    pub pipe: Option<u64>,
    /// Sessions that processes of it were started in and that may have members left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<i32>,
    /// When the last run was seen to end, in clock ticks from boot; a later process can't be of it.
    #[serde(default)]
    pub ended: u64,
    /// The scribe that reads the pipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scribe: Option<Identity>,
    /// The control group that its run is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// The machine's snapshot; empty before there was one.
    pub state: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    realm: Realm,
    /// Device and inode of the service directory.
    directory: (u64, u64),
    living: Living,
}

impl Record {
    /// Short enough to be believed: of very many sessions the newest are kept.
    fn bytes(mut self) -> io::Result<Vec<u8>> {
        loop {
            let bytes = serde_json::to_vec(&self)?;
            if u64::try_from(bytes.len()).is_ok_and(|len| len <= RECORD_BYTES_MAX) {
                return Ok(bytes);
            }
            let dropped = self.living.sessions.len().div_ceil(2);
            if dropped == 0 {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            self.living.sessions.drain(..dropped);
        }
    }
}

/// What a predecessor has left: at least one process, held fast.
#[derive(Debug)]
pub struct Left {
    pub run: Option<(i32, PidFd)>,
    pub finish: Option<(i32, PidFd)>,
    pub scripts: Vec<Identity>,
    /// Its log pipe, both ends in one descriptor, when one of its users still lives.
    pub pipe: Option<OwnedFd>,
    /// Sessions in which something of it lives.
    pub sessions: Vec<i32>,
    /// When the last run was seen to end.
    pub ended: u64,
    /// The scribe that still reads the pipe.
    pub scribe: Option<(i32, PidFd)>,
    pub cgroup: Option<PathBuf>,
    pub state: String,
}

/// Where the record of a directory stands.
#[derive(Clone, Copy, Debug)]
pub enum Spot<'a> {
    /// In its `supervise/`.
    Inside,
    /// In this directory, by device and inode.
    Shelf(&'a Path),
}

impl Spot<'_> {
    /// The directory that the record of `dir` is in, and its name.
    fn parts(self, dir: &Path) -> io::Result<(PathBuf, String)> {
        match self {
            Spot::Inside => Ok((dir.join("supervise"), "outlast".to_owned())),
            Spot::Shelf(shelf) => {
                let (dev, ino) = directory(dir)?;
                Ok((shelf.to_owned(), format!("{dev:x}-{ino:x}")))
            }
        }
    }

    fn place(self, dir: &Path) -> io::Result<PathBuf> {
        self.parts(dir).map(|(parent, name)| parent.join(name))
    }

    /// What others may write into is none of ours.
    fn is_ours(self) -> io::Result<()> {
        let Spot::Shelf(shelf) = self else {
            return Ok(());
        };
        let found = fs::symlink_metadata(shelf)?;
        let ours = found.is_dir()
            && found.uid() == nix::unistd::geteuid().as_raw()
            && found.mode() & 0o077 == 0;
        ours.then_some(())
            .ok_or_else(|| io::ErrorKind::PermissionDenied.into())
    }

    /// A shelf is made when it is needed.
    fn claim(self) -> io::Result<()> {
        if let Spot::Shelf(shelf) = self
            && let Err(error) = DirBuilder::new().mode(0o700).create(shelf)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        self.is_ours()
    }

    /// Replaces the record. A reader sees the old one or the new one.
    pub fn write(self, dir: &Path, living: &Living) -> io::Result<()> {
        self.claim()?;
        let (parent, name) = self.parts(dir)?;
        Draft::write(&parent, &name, 0o600, &bytes(dir, living)?)?.put()
    }

    /// The same where there is none: until it is whole it is as good as none.
    fn begin(self, dir: &Path, living: &Living) -> io::Result<()> {
        self.claim()?;
        match create(&self.place(dir)?) {
            Ok(mut file) => file.write_all(&bytes(dir, living)?),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.write(dir, living),
            Err(error) => Err(error),
        }
    }

    /// The service gets another pipe; what else is known of it stays.
    pub fn renew_pipe(self, dir: &Path, pipe: u64) -> io::Result<()> {
        let pipe = Some(pipe);
        match self.believed(dir) {
            Some(known) => self.write(dir, &Living { pipe, ..known }),
            None => self.begin(
                dir,
                &Living {
                    pipe,
                    ..Living::default()
                },
            ),
        }
    }

    /// Nothing of it lives any more. A shelf goes with the last record on it.
    pub fn remove(self, dir: &Path) {
        if let Ok(place) = self.place(dir) {
            let _ = fs::remove_file(place);
        }
        if let Spot::Shelf(shelf) = self {
            let _ = fs::remove_dir(shelf);
        }
    }

    fn believed(self, dir: &Path) -> Option<Living> {
        self.is_ours().ok()?;
        believed(dir, &self.place(dir).ok()?)
    }

    /// Of a directory that may have it elsewhere: that of a log service, or of whom it serves.
    fn known(self, dir: &Path) -> Option<Living> {
        Spot::Inside.believed(dir).or_else(|| self.believed(dir))
    }
}

fn directory(dir: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(dir).map(|found| (found.dev(), found.ino()))
}

/// As [`Spot::write`], inside.
pub fn write(dir: &Path, living: &Living) -> io::Result<()> {
    Spot::Inside.write(dir, living)
}

fn bytes(dir: &Path, living: &Living) -> io::Result<Vec<u8>> {
    Record {
        realm: Realm::ours()?,
        directory: directory(dir)?,
        living: living.clone(),
    }
    .bytes()
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// As [`Spot::remove`], inside.
pub fn remove(dir: &Path) {
    Spot::Inside.remove(dir);
}

/// What lives of the service in `dir`, whose lock is held. None when nothing does, or when the
/// record can't be believed.
pub fn read(dir: &Path) -> Option<Left> {
    let living = Spot::Inside.believed(dir)?;
    let (run, finish) = (pin(living.run), pin(living.finish));
    if run.is_none() && finish.is_none() {
        return None;
    }
    Some(Left {
        pipe: living
            .pipe
            .and_then(|inode| pipe(dir, inode, &living, Spot::Inside)),
        run,
        finish,
        scripts: Vec::new(),
        sessions: Vec::new(),
        ended: living.ended,
        scribe: None,
        cgroup: living.cgroup,
        state: living.state,
    })
}

fn pin(identity: Option<Identity>) -> Option<(i32, PidFd)> {
    let identity = identity?;
    identity.pin().map(|pinned| (identity.pid, pinned))
}

/// What is known of the service in `dir`, whose lock is held, from a supervisor whose keeper was
/// killed: also when nothing of it lives, and also what lives without a record. `reads` says whose
/// output it takes, if it is a log service. None without a record that can be believed.
pub fn look(
    dir: &Path,
    spot: Spot<'_>,
    reads: Option<&Path>,
    holders: &mut dyn FnMut() -> Arc<Holders>,
) -> Option<Left> {
    let living = spot.believed(dir)?;
    let (mut run, finish) = (pin(living.run), pin(living.finish));
    let mut sessions = living.sessions.clone();
    let input = reads
        .and_then(|main| spot.known(main))
        .and_then(|main| main.pipe);
    if run.is_none() {
        let holders = holders();
        let others = match (input, living.pipe) {
            (Some(inode), _) => holders.reading(inode),
            (None, Some(inode)) => holders.writing(inode),
            (None, None) => &[],
        };
        run = pin(unrecorded(others, &living));
        // Whoever else reads a log service's input is none of its business.
        if input.is_none() {
            sessions.extend(others.iter().map(|holder| holder.session));
        }
    }
    sessions.extend([&run, &finish].into_iter().flatten().map(|(pid, _)| *pid));
    sessions.sort_unstable();
    sessions.dedup();
    let pipe = living
        .pipe
        .and_then(|inode| pipe(dir, inode, &living, spot).or_else(|| searched(&holders(), inode)));
    Some(Left {
        pipe,
        run,
        finish,
        scripts: living.scripts,
        sessions,
        ended: living.ended,
        scribe: pin(living.scribe),
        cgroup: living.cgroup,
        state: living.state,
    })
}

/// A run that was started so shortly before the keeper was killed that nothing could be written
/// about it: it leads a session that nobody knew of, and began after the last run had ended. What
/// else could be like that is a daemon of an earlier run that keeps its output; the youngest is taken.
fn unrecorded(holders: &[Holder], living: &Living) -> Option<Identity> {
    holders
        .iter()
        .filter(|holder| holder.session == holder.pid && holder.started >= living.ended)
        .filter(|holder| !living.sessions.contains(&holder.session))
        .filter(|holder| living.finish != Some(holder.identity()))
        .max_by_key(|holder| (holder.started, holder.pid))
        .map(Holder::identity)
}

/// The pipe through any of those who have it.
fn searched(holders: &Holders, inode: u64) -> Option<OwnedFd> {
    let writing = holders.writing(inode).iter();
    let ends = writing.flat_map(|holder| [(holder, 1), (holder, 2)]);
    let reading = holders.reading(inode).iter().map(|holder| (holder, 0));
    ends.chain(reading)
        .find_map(|(holder, number)| end_of(holder.identity(), number, inode))
}

fn believed(dir: &Path, place: &Path) -> Option<Living> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(open(place, flags, Mode::empty()).ok()?);
    let found = file.metadata().ok()?;
    let ours_alone = found.is_file()
        && found.uid() == nix::unistd::geteuid().as_raw()
        && found.mode() & 0o077 == 0
        && found.nlink() == 1;
    if !ours_alone {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(RECORD_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    let here = record.realm == Realm::ours().ok()? && record.directory == directory(dir).ok()?;
    here.then_some(record.living)
}

/// The log pipe, through the process that writes into it or the one that reads from it: either may
/// have gone, or have put something else in its place.
fn pipe(dir: &Path, inode: u64, living: &Living, spot: Spot<'_>) -> Option<OwnedFd> {
    let reader = spot.known(&dir.join("log")).and_then(|log| log.run);
    let ends = [(living.run, 1), (living.finish, 1), (reader, 0)];
    ends.into_iter()
        .find_map(|(process, number)| end_of(process?, number, inode))
}

/// The pipe with this inode, if that process has it under that number.
pub fn end_of(process: Identity, number: u32, inode: u64) -> Option<OwnedFd> {
    let held = process.pin()?;
    let path = format!("/proc/{}/fd/{number}", process.pid);
    // Looked at before it is opened, so that no device is opened for its side effects.
    if fs::metadata(&path).ok()?.ino() != inode {
        return None;
    }
    let end = open(
        path.as_str(),
        OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let found = fstat(&end).ok()?;
    let fifo = found.st_mode & nix::libc::S_IFMT == nix::libc::S_IFIFO;
    // Without O_NONBLOCK, as those who get it expect it.
    let same = fifo && found.st_ino == inode && held.lives();
    same.then(|| fds::reopen(&end, OFlag::O_RDWR).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::{Child, Command, Stdio};

    struct Sleeper(Child);

    impl Sleeper {
        fn new() -> Sleeper {
            let child = Command::new("sleep")
                .arg("60")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn();
            Sleeper(child.expect("sleep"))
        }

        fn living(&self) -> Living {
            let pid = i32::try_from(self.0.id()).expect("pid");
            Living {
                run: Identity::of(pid),
                state: "{}".into(),
                ..Living::default()
            }
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn place(dir: &Path) -> PathBuf {
        dir.join("supervise/outlast")
    }

    fn believed(dir: &Path) -> Option<Living> {
        Spot::Inside.believed(dir)
    }

    fn renew_pipe(dir: &Path, pipe: u64) -> io::Result<()> {
        Spot::Inside.renew_pipe(dir, pipe)
    }

    fn service() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("dir");
        fs::create_dir(dir.path().join("supervise")).expect("supervise");
        dir
    }

    #[test]
    fn a_living_process_is_found_again_with_its_pipe() {
        let (dir, sleeper) = (service(), Sleeper::new());
        let stdout = sleeper.0.stdout.as_ref().expect("pipe");
        let inode = fstat(stdout).expect("stat").st_ino;
        let living = Living {
            pipe: Some(inode),
            ..sleeper.living()
        };
        write(dir.path(), &living).expect("written");
        let mode = fs::metadata(place(dir.path())).expect("record").mode();
        assert_eq!(mode & 0o7777, 0o600);
        let left = read(dir.path()).expect("left");
        assert_eq!(
            left.run.map(|run| run.0),
            living.run.map(|identity| identity.pid)
        );
        let pipe = left.pipe.expect("pipe");
        assert_eq!(fstat(&pipe).expect("stat").st_ino, inode);
        remove(dir.path());
        assert!(read(dir.path()).is_none());
    }

    #[test]
    fn a_record_of_very_many_sessions_is_believed_all_the_same() {
        let (dir, sleeper) = (service(), Sleeper::new());
        let living = Living {
            sessions: (0..5_000).map(|number| i32::MAX - number).collect(),
            ended: 7,
            ..sleeper.living()
        };
        write(dir.path(), &living).expect("written");
        let found = look(dir.path(), Spot::Inside, None, &mut || {
            Arc::new(Holders::default())
        })
        .expect("left");
        assert_eq!(found.run.map(|run| run.0), living.run.map(|run| run.pid));
        assert!(found.sessions.contains(&(i32::MAX - 4_999)), "the newest");
        assert_eq!(found.ended, 7);
        assert!(read(dir.path()).is_some());
    }

    #[test]
    fn another_pipe_in_its_place_is_not_taken_for_it() {
        let (dir, sleeper) = (service(), Sleeper::new());
        let living = Living {
            pipe: Some(1),
            ..sleeper.living()
        };
        write(dir.path(), &living).expect("written");
        assert!(read(dir.path()).expect("left").pipe.is_none());
    }

    #[test]
    fn a_new_pipe_leaves_what_else_is_known_and_writes_through_nothing_that_stands_there() {
        let (dir, sleeper) = (service(), Sleeper::new());
        renew_pipe(dir.path(), 1).expect("the first record");
        assert_eq!(believed(dir.path()).and_then(|it| it.pipe), Some(1));
        write(dir.path(), &sleeper.living()).expect("written");
        renew_pipe(dir.path(), 2).expect("renewed");
        let known = believed(dir.path()).expect("a record");
        assert_eq!((known.pipe, known.run), (Some(2), sleeper.living().run));
        let record = place(dir.path());
        fs::write(dir.path().join("elsewhere"), "mine").expect("a file");
        fs::remove_file(&record).expect("removed");
        symlink("../elsewhere", &record).expect("a link");
        renew_pipe(dir.path(), 3).expect("renewed");
        assert_eq!(believed(dir.path()).and_then(|it| it.pipe), Some(3));
        let elsewhere = fs::read_to_string(dir.path().join("elsewhere"));
        assert_eq!(elsewhere.expect("still there"), "mine");
    }

    #[test]
    fn a_number_that_means_another_process_by_now_is_refused() {
        let (dir, sleeper) = (service(), Sleeper::new());
        let mut living = sleeper.living();
        if let Some(run) = &mut living.run {
            run.started -= 1;
        }
        write(dir.path(), &living).expect("written");
        assert!(read(dir.path()).is_none());
    }

    #[test]
    fn what_others_could_have_put_here_is_refused() {
        let (dir, sleeper) = (service(), Sleeper::new());
        write(dir.path(), &sleeper.living()).expect("written");
        let record = place(dir.path());
        assert!(read(dir.path()).is_some());
        fs::set_permissions(&record, fs::Permissions::from_mode(0o640)).expect("mode");
        assert!(read(dir.path()).is_none(), "open to the group");
        fs::set_permissions(&record, fs::Permissions::from_mode(0o600)).expect("mode");
        let other = service();
        fs::copy(&record, place(other.path())).expect("copy");
        assert!(read(other.path()).is_none(), "of another directory");
        fs::hard_link(&record, dir.path().join("second")).expect("link");
        assert!(read(dir.path()).is_none(), "two names");
        fs::rename(&record, dir.path().join("second")).expect("rename");
        fs::remove_file(&record).expect("rename of two names for one file does nothing");
        symlink("../second", &record).expect("link");
        assert!(read(dir.path()).is_none(), "a link");
    }

    #[test]
    fn on_a_shelf_is_what_has_no_room_inside_as_long_as_nobody_else_may_write_there() {
        let (dir, sleeper) = (tempfile::tempdir().expect("dir"), Sleeper::new());
        let place = tempfile::tempdir().expect("dir");
        let shelf = place.path().join("control.left");
        let spot = Spot::Shelf(&shelf);
        assert!(spot.believed(dir.path()).is_none());
        assert!(!shelf.exists(), "nothing is made to be read");
        spot.renew_pipe(dir.path(), 1).expect("the first record");
        spot.write(dir.path(), &sleeper.living()).expect("written");
        let none = &mut || Arc::new(Holders::default());
        let left = look(dir.path(), spot, None, none).expect("left");
        assert_eq!(
            left.run.map(|run| run.0),
            sleeper.living().run.map(|it| it.pid)
        );
        let other = tempfile::tempdir().expect("dir");
        assert!(
            spot.believed(other.path()).is_none(),
            "of another directory"
        );
        fs::set_permissions(&shelf, fs::Permissions::from_mode(0o770)).expect("mode");
        assert!(spot.believed(dir.path()).is_none(), "open to the group");
        assert!(spot.write(dir.path(), &sleeper.living()).is_err());
        fs::set_permissions(&shelf, fs::Permissions::from_mode(0o700)).expect("mode");
        let away = place.path().join("away");
        fs::rename(&shelf, &away).expect("moved");
        symlink(&away, &shelf).expect("a link");
        assert!(spot.believed(dir.path()).is_none(), "a link");
        fs::remove_file(&shelf).expect("removed");
        fs::rename(&away, &shelf).expect("back");
        spot.remove(dir.path());
        assert!(!shelf.exists(), "it goes with the last record");
    }

    #[test]
    fn a_record_of_another_boot_is_refused() {
        let (dir, sleeper) = (service(), Sleeper::new());
        write(dir.path(), &sleeper.living()).expect("written");
        let record = place(dir.path());
        let text = fs::read_to_string(&record).expect("record");
        let boot = Realm::ours().expect("realm").boot;
        let text = text.replace(&boot, "00000000-0000-0000-0000-000000000000");
        fs::write(&record, text).expect("written");
        assert!(read(dir.path()).is_none());
    }
}
