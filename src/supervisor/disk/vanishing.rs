//! Directories that lose their `supervise/`: mostly they are being removed.
//!
//! Until it is made anew sv finds nobody there, so this could be shorter; but what removes a
//! directory file by file can be held up on a busy machine, and would fail for good.

use super::hand::{Hand, SETTLE};
use super::opening::Inode;
use std::time::Instant;

impl Hand {
    /// The same directory (`log`: its `log/`) without its `supervise/`: most often it is being removed file by file, and
    /// what we made in it anew would make that fail. So it is given a moment to vanish.
    pub(super) fn may_be_on_its_way_out(
        &mut self,
        name: &str,
        log: bool,
        here: [Option<Inode>; 3],
        seen: [Option<Inode>; 3],
    ) -> bool {
        let bare = here[0] == seen[0] && here[1].is_none() && seen[1].is_some();
        let now = Instant::now();
        if !bare {
            self.vanishing.remove(&(name.to_owned(), log));
            return false;
        }
        let key = (name.to_owned(), log);
        let until = *self.vanishing.entry(key.clone()).or_insert(now + SETTLE);
        if until > now {
            return true;
        }
        self.vanishing.remove(&key);
        false
    }

    /// Looks again at directories whose `supervise/` had been taken away.
    pub(super) fn look_at_vanishing(&mut self) {
        let now = Instant::now();
        let due: Vec<(String, bool)> = self
            .vanishing
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.read(&key.0, true);
            self.vanishing.remove(&key);
        }
    }
}
