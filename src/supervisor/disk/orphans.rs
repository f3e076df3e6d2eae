//! What a supervisor does about directories when a keeper was killed: its own, or a predecessor's.

use super::News;
use super::hand::Hand;
use crate::os::fds;
use crate::supervisor::vocab::ServiceId;
use crate::svdir::holders::Holders;
use crate::svdir::left::{self, Left, Spot};
use crate::svdir::supervise;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One look at all of /proc serves all directories that are opened within this time. Whoever has the
/// pipe of a service whose lock is ours now, had it before.
const LOOK: Duration = Duration::from_secs(1);

impl Hand {
    /// The same as runsv sees it, whose lock has just been taken if `fresh`.
    pub(super) fn left_for_runsv(&self, dir: &Path, fresh: bool) -> Option<Left> {
        let left = left::read(dir);
        if left.is_none() && fresh {
            // A failure will show when the first status is written.
            let _ = supervise::write_anew(dir);
        }
        left
    }

    /// What a predecessor left alive in a directory that nobody else looks after, and the pipe that
    /// its processes are to write into from now on.
    pub(super) fn left(
        &mut self,
        dir: &Path,
        log: bool,
        spot: Spot<'_>,
    ) -> (Option<Left>, Option<OwnedFd>) {
        let main = dir.parent().filter(|_| log);
        let left = left::look(dir, spot, main, &mut || self.holders());
        let has_pipe = left.as_ref().is_some_and(|left| left.pipe.is_some());
        if log || has_pipe {
            return (left, None);
        }
        // On disk before the first process that gets it, so that this can be found by it.
        let pipe = fds::pipe_held().ok();
        if let Some(Ok(found)) = pipe.as_ref().map(nix::sys::stat::fstat) {
            // A failure shows again when the first status is written.
            let _ = spot.renew_pipe(dir, found.st_ino);
        }
        (left, pipe)
    }

    fn holders(&mut self) -> Arc<Holders> {
        if let Some((at, holders)) = &self.holders
            && at.elapsed() < LOOK
        {
            return Arc::clone(holders);
        }
        let holders = Arc::new(Holders::look());
        self.holders = Some((Instant::now(), Arc::clone(&holders)));
        holders
    }

    /// Takes the locks that ended with the keeper, so that nobody else starts what lives.
    pub(super) fn bereft(&mut self) {
        self.bereft = true;
        if self.net.is_some() {
            return;
        }
        let mut all: Vec<(ServiceId, Arc<PathBuf>)> = Vec::new();
        for known in self.known.values() {
            all.push((known.id, Arc::clone(&known.dir)));
            all.extend(known.log.map(|log| (log, Arc::new(known.dir.join("log")))));
        }
        // Where nothing can be written there was no lock either.
        all.retain(|(_, dir)| dir.join("supervise/lock").exists());
        for (id, dir) in all {
            match supervise::lock_left(&dir) {
                Ok(lock) => drop(self.kept.insert(id, lock)),
                Err(error) => {
                    let (opened, aside) = (Err(error), None);
                    self.say(News::Opened { id, opened, aside });
                }
            }
        }
    }

    /// The directory of that service, if the name still means it.
    pub(super) fn place_of(&self, name: &str, id: ServiceId) -> Option<Arc<PathBuf>> {
        let known = self.known.get(name)?;
        if known.id == id {
            return Some(Arc::clone(&known.dir));
        }
        (known.log == Some(id)).then(|| Arc::new(known.dir.join("log")))
    }
}
