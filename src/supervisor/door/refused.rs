//! Who was not let in: told at once the first time, and counted after that, since anybody may knock as
//! often as he likes and the log is ours to keep small. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long refusals are counted until they are told.
const COUNT_FOR: Duration = Duration::from_secs(60);
/// Users counted apart; further ones are counted together.
const USERS_MAX: usize = 8;

#[derive(Debug, Default)]
pub struct Refused {
    /// Since those below were told.
    until: Option<Instant>,
    more: BTreeMap<u32, u64>,
    others: u64,
}

impl Refused {
    /// A client of that user was refused; what is to be told now.
    pub fn came(&mut self, uid: u32, now: Instant) -> Option<String> {
        self.until.get_or_insert(now + COUNT_FOR);
        if let Some(count) = self.more.get_mut(&uid) {
            *count += 1;
        } else if self.more.len() >= USERS_MAX {
            self.others += 1;
        } else {
            self.more.insert(uid, 0);
            return Some(format!(
                "refused a client of user id {uid}: not root, not ours; further ones are counted"
            ));
        }
        None
    }

    /// When those that were counted are to be told; None without any.
    pub fn due(&self) -> Option<Instant> {
        self.until
    }

    /// They are told. Who has not come again is forgotten.
    pub fn count(&mut self, now: Instant) -> Vec<String> {
        let seconds = COUNT_FOR.as_secs();
        self.more.retain(|_, count| *count > 0);
        let told = self.more.iter_mut().map(|(uid, count)| {
            let count = std::mem::take(count);
            format!("refused {count} more clients of user id {uid} within {seconds} s")
        });
        let mut told: Vec<String> = told.collect();
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            told.push(format!(
                "refused {others} clients of other users within {seconds} s"
            ));
        }
        self.until = (!self.more.is_empty()).then_some(now + COUNT_FOR);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knocks_again_and_again_is_told_once_and_then_counted() {
        let (mut refused, begin) = (Refused::default(), Instant::now());
        assert_eq!(refused.due(), None);
        let users = std::iter::repeat_n(1000, 1000).chain([1001]);
        let told = users.filter_map(|uid| refused.came(uid, begin)).count();
        assert_eq!(told, 2);
        let due = refused.due().expect("a time");
        let told = refused.count(due);
        assert_eq!(
            told,
            ["refused 999 more clients of user id 1000 within 60 s"]
        );
        assert_eq!(refused.came(1000, due), None, "still at it");
        let due = refused.due().expect("a time");
        assert_eq!(refused.count(due).len(), 1);
        assert!(refused.count(due).is_empty());
        assert_eq!(refused.due(), None, "nothing wakes up for nothing");
        assert!(refused.came(1000, due).is_some(), "another burst");
    }

    #[test]
    fn many_users_are_counted_together() {
        let (mut refused, now) = (Refused::default(), Instant::now());
        let told = (0..100).filter_map(|uid| refused.came(uid, now)).count();
        assert_eq!(told, USERS_MAX);
        let told = refused.count(now);
        assert_eq!(told, ["refused 92 clients of other users within 60 s"]);
    }
}
