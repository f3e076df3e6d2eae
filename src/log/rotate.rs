//! When `current` is rotated, what it is then called, and which old files go. Pure.

use super::stamp::{TAI64N_DIGITS, from_tai64n, tai64n};
use std::time::Duration;

/// Where a file's end may fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Border {
    /// Between lines, unless one line alone is longer than a file: ours.
    WholeLines,
    /// svlogd's: after a newline within a line's limit of the size; a line that still passes the
    /// size is split. With a size of up to that limit each line makes a file (or, below it, none
    /// does until the size is reached: its subtraction wraps around).
    Svlogd,
}

/// The rule of one log.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// 0: never.
    pub size: u64,
    pub border: Border,
    pub line_bytes_max: u64,
}

/// What may be done with bytes that are next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// So many of them fit; never zero unless there are none.
    Take(u64),
    RotateFirst,
}

impl Rule {
    /// Of `bytes` next ones, how many may follow the `used` that the file holds. `begins` tells
    /// that they start a line.
    pub fn admits(&self, used: u64, bytes: u64, begins: bool) -> Admit {
        let fits = used.saturating_add(bytes) <= self.size;
        if self.size == 0 || fits {
            return Admit::Take(bytes);
        }
        let whole = match self.border {
            Border::WholeLines => begins && used > 0,
            Border::Svlogd => false,
        };
        if whole || used >= self.size {
            return Admit::RotateFirst;
        }
        Admit::Take(self.size - used)
    }

    /// Whether a file that holds `used` bytes and ends in a newline has had enough.
    pub fn is_full(&self, used: u64) -> bool {
        match self.border {
            // Rotated when more comes, so that an idle service's `current` is never empty.
            Border::WholeLines => false,
            Border::Svlogd => self.size != 0 && used >= self.size.wrapping_sub(self.line_bytes_max),
        }
    }
}

/// What has become of a rotated file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `.s`: done.
    Saved,
    /// `.u`: to be processed, or left by an unclean end.
    Unprocessed,
    /// `.t`: what a processor was making.
    Unfinished,
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Kind::Saved => b's',
            Kind::Unprocessed => b'u',
            Kind::Unfinished => b't',
        }
    }
}

/// A rotated file's name, ordered by age, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Old {
    pub at: Duration,
    pub kind: Kind,
}

impl Old {
    /// None for every other name.
    pub fn parse(name: &[u8]) -> Option<Old> {
        let rest = name.strip_prefix(b"@")?;
        let (label, suffix) = rest.split_at_checked(TAI64N_DIGITS)?;
        let kind = match suffix {
            b".s" => Kind::Saved,
            b".u" => Kind::Unprocessed,
            b".t" => Kind::Unfinished,
            _ => return None,
        };
        // Written in capitals it would be another file than the one that we would name.
        if label.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        Some(Old {
            at: from_tai64n(label)?,
            kind,
        })
    }

    pub fn name(&self) -> String {
        let mut name = String::with_capacity(TAI64N_DIGITS + 3);
        name.push('@');
        name.extend(tai64n(self.at).map(char::from));
        name.push('.');
        name.push(char::from(self.kind.letter()));
        name
    }

    pub fn with(self, kind: Kind) -> Old {
        Old { kind, ..self }
    }
}

/// The time in the next file's name: now, or just after the newest when the clock was set back, so
/// that names stay in the order in which they were written and none is taken twice.
pub fn next_time(olds: &[Old], now: Duration) -> Duration {
    let newest = olds.iter().map(|old| old.at).max();
    newest.map_or(now, |newest| now.max(newest + Duration::from_nanos(1)))
}

/// Which old files count against `keep`, and how fast surplus ones go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surplus {
    /// Saved and unprocessed ones; all beyond `keep` go: ours.
    All,
    /// Debian's svlogd: only saved ones count, and one goes at a rotation.
    OneSaved,
}

/// The files to delete after a rotation, the oldest first. `keep` 0 keeps all. `busy` is being
/// processed and stays.
pub fn surplus(olds: &[Old], keep: u32, rule: Surplus, busy: Option<Duration>) -> Vec<Old> {
    if keep == 0 {
        return Vec::new();
    }
    let mut counted: Vec<Old> = olds
        .iter()
        .filter(|old| match (rule, old.kind) {
            (_, Kind::Saved) | (Surplus::All, Kind::Unprocessed) => true,
            (Surplus::OneSaved, Kind::Unprocessed) | (_, Kind::Unfinished) => false,
        })
        .copied()
        .collect();
    counted.sort_unstable();
    let beyond = counted
        .len()
        .saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    let most = match rule {
        Surplus::All => beyond,
        Surplus::OneSaved => beyond.min(1),
    };
    counted.truncate(most);
    counted.retain(|old| Some(old.at) != busy);
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(second: u64, kind: Kind) -> Old {
        Old {
            at: Duration::from_secs(second),
            kind,
        }
    }

    #[test]
    fn whole_lines_never_pass_the_size_and_are_never_split() {
        let rule = Rule {
            size: 100,
            border: Border::WholeLines,
            line_bytes_max: 50,
        };
        assert_eq!(rule.admits(60, 40, true), Admit::Take(40));
        assert_eq!(rule.admits(60, 41, true), Admit::RotateFirst);
        assert_eq!(rule.admits(0, 500, true), Admit::Take(100));
        assert_eq!(rule.admits(100, 400, false), Admit::RotateFirst);
        assert_eq!(rule.admits(30, 400, false), Admit::Take(70));
    }

    #[test]
    fn a_size_of_zero_never_rotates() {
        let rule = Rule {
            size: 0,
            border: Border::WholeLines,
            line_bytes_max: 50,
        };
        assert_eq!(rule.admits(u64::MAX, 10, true), Admit::Take(10));
        assert!(!rule.is_full(u64::MAX));
    }

    #[test]
    fn svlogds_border_is_a_line_before_the_size() {
        let rule = |size| Rule {
            size,
            border: Border::Svlogd,
            line_bytes_max: 1000,
        };
        assert!(rule(3000).is_full(2000));
        assert!(!rule(3000).is_full(1999));
        assert!(rule(1000).is_full(0), "each line makes a file");
        assert!(!rule(500).is_full(499));
        assert_eq!(rule(3000).admits(2990, 20, true), Admit::Take(10));
    }

    #[test]
    fn names_are_read_back_and_others_are_ignored() {
        let file = old(1_795_168_800, Kind::Unprocessed);
        assert_eq!(file.name(), "@400000006b001a2a00000000.u");
        assert_eq!(Old::parse(file.name().as_bytes()), Some(file));
        for name in [
            "current",
            "@400000006b001a2a00000000.x",
            "@4000.s",
            "@400000006B000FAA00000000.s",
        ] {
            assert_eq!(Old::parse(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn a_clock_set_back_still_gives_the_newest_name() {
        let olds = [old(100, Kind::Saved), old(50, Kind::Saved)];
        assert_eq!(
            next_time(&olds, Duration::from_secs(60)),
            Duration::new(100, 1)
        );
        assert_eq!(
            next_time(&olds, Duration::from_secs(200)),
            Duration::from_secs(200)
        );
    }

    #[test]
    fn surplus_files_go_oldest_first() {
        let olds = [
            old(4, Kind::Saved),
            old(1, Kind::Unprocessed),
            old(3, Kind::Saved),
            old(2, Kind::Saved),
        ];
        let all = surplus(&olds, 2, Surplus::All, None);
        assert_eq!(all, [old(1, Kind::Unprocessed), old(2, Kind::Saved)]);
        let debian = surplus(&olds, 1, Surplus::OneSaved, None);
        assert_eq!(debian, [old(2, Kind::Saved)]);
        assert_eq!(surplus(&olds, 0, Surplus::All, None), []);
        let busy = surplus(&olds, 3, Surplus::All, Some(Duration::from_secs(1)));
        assert_eq!(busy, [], "what is being processed stays");
    }
}
