//! Without inotify, or without enough of it: then everything is looked at every few seconds.

use super::hand::Hand;
use crate::svdir::watch::{Watch, reliable};
use std::path::PathBuf;
use std::sync::Arc;

pub(super) fn watch_or_none() -> Watch {
    Watch::new().unwrap_or_else(|error| {
        tracing::warn!(
            "cannot watch directories: no inotify instance ({error}); changes are noticed within some \
             seconds; raise fs.inotify.max_user_instances (sysctl), which all processes of a user share"
        );
        Watch::blind()
    })
}

impl Hand {
    pub(super) fn watch_service(&mut self, name: &Arc<str>, dir: &Arc<PathBuf>) {
        let Err(error) = self.watch.service(name, dir) else {
            return;
        };
        // One that has gone is no matter, and so it is where nothing is watched anyway.
        if dir.is_dir() && !std::mem::replace(&mut self.unreliable, true) {
            tracing::warn!(
                service = &**name,
                "cannot watch its directory: {error}; changes are noticed within some seconds, of all \
                 services; fs.inotify.max_user_watches (sysctl) may be too low"
            );
        }
    }

    /// Looks whether there is an instance now.
    pub(super) fn see_again(&mut self) {
        let Ok(watch) = Watch::new() else {
            return;
        };
        self.watch = watch;
        self.unreliable = self.watch_scan_directory().is_err() || !reliable(&self.scan_dir);
        let all = self.known.iter();
        let all = all.map(|(name, known)| (Arc::clone(name), Arc::clone(&known.dir)));
        for (name, dir) in all.collect::<Vec<_>>() {
            self.watch_service(&name, &dir);
        }
    }
}
