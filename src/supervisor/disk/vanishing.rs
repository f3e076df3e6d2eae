//! Directories that lose their `supervise/`: mostly they are being removed.

use super::hand::{Hand, Inode, SETTLE};
use std::time::Instant;

impl Hand {
    /// The same directory without its `supervise/`: most often it is being removed file by file, and
    /// what we made in it anew would make that fail. So it is given a moment to vanish.
    pub(super) fn may_be_on_its_way_out(
        &mut self,
        name: &str,
        here: [Option<Inode>; 3],
        seen: [Option<Inode>; 3],
    ) -> bool {
        let bare = here[0] == seen[0] && here[1].is_none() && seen[1].is_some();
        let now = Instant::now();
        if !bare {
            self.vanishing.remove(name);
            return false;
        }
        let until = *self
            .vanishing
            .entry(name.to_owned())
            .or_insert(now + SETTLE);
        if until > now {
            return true;
        }
        self.vanishing.remove(name);
        false
    }

    /// Looks again at directories whose `supervise/` had been taken away.
    pub(super) fn look_at_vanishing(&mut self) {
        let now = Instant::now();
        let due: Vec<String> = self
            .vanishing
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            self.read(&name, true);
            self.vanishing.remove(&name);
        }
    }
}
