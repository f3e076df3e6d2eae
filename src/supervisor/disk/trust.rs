//! Which definitions may be read, after supervisors have crashed in a row.
//!
//! A definition that makes the supervisor crash must not take the other services with it. So after
//! some crashes only what a supervisor has lived with for a while is read; the rest is not even
//! opened by the parser, until it changes or somebody asks for it.

use super::News;
use super::hand::Hand;

/// What is known of a definition when its directory is adopted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Nothing speaks against it.
    #[default]
    Full,
    /// Only as it was: with this fingerprint.
    Only(u64),
    /// A supervisor may have died of it.
    None,
    /// Not read as it is now.
    Quarantined(u64),
}

impl Trust {
    /// Whether what has this fingerprint is to be left alone.
    pub fn shuns(&mut self, print: u64) -> bool {
        match *self {
            Trust::Full => false,
            Trust::Only(trusted) if trusted == print => false,
            Trust::Only(_) | Trust::None => {
                *self = Trust::Quarantined(print);
                true
            }
            Trust::Quarantined(bad) if bad == print => true,
            Trust::Quarantined(_) => {
                *self = Trust::Full;
                false
            }
        }
    }
}

impl Hand {
    pub(super) fn try_again(&mut self, names: &[String]) {
        for name in names {
            if let Some(known) = self.known.get_mut(&**name) {
                known.trust = Trust::Full;
            }
            self.read(name, true);
        }
        self.say(News::Tried);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lived_with_is_read_and_what_it_changes_to_later_as_well() {
        let mut trust = Trust::Only(1);
        assert!(!trust.shuns(1));
        let mut changed = Trust::Only(1);
        assert!(changed.shuns(2));
        assert!(changed.shuns(2), "reading it again changes nothing");
        assert!(!changed.shuns(3), "somebody has mended it");
        assert!(!changed.shuns(2));
    }

    #[test]
    fn what_is_new_is_not_read_until_it_changes() {
        let mut trust = Trust::None;
        assert!(trust.shuns(1));
        assert!(!trust.shuns(2));
    }
}
