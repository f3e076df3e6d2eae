//! What a log is told (settings) and how its program behaves (habits). Pure.

use super::Stamp;
use super::config::{Config, Flaw, Udp};
use super::rotate::{Border, Rule, Surplus};
use super::select::{self, Verdict};
use std::time::Duration;

/// Bytes before rotation when nothing else is said.
pub const SIZE_DEFAULT: u64 = 1_000_000;
/// Rotated files that stay when nothing else is said.
pub const KEEP_DEFAULT: u32 = 10;
/// svlogd's `-l`: so much of a line is matched and held back.
pub const SVLOGD_LINE_BYTES_MAX: usize = 1000;
/// The scribe's: long enough that a line of JSON is rarely split between two files.
pub const SCRIBE_LINE_BYTES_MAX: usize = 8192;

/// What differs between the programs that the engine works in.
#[derive(Debug)]
pub struct Habits {
    /// A missing directory is made, parents included, with this mode.
    pub directory_mode: Option<u32>,
    pub current_mode: u32,
    /// Set even when `current` was there already.
    pub current_mode_is_enforced: bool,
    /// None: as `current` had it.
    pub rotated_mode: Option<u32>,
    /// Set at an orderly close, and a `current` found without its owner's x bit was not closed in
    /// order: it is put aside as `.u`.
    pub closed_mode: Option<u32>,
    /// A `current` without a newline at its end was being written when its writer died: what the
    /// pipe holds goes on with that line.
    pub open_line_goes_on: bool,
    /// `.u` files that a lost processor left are processed.
    pub unprocessed_are_taken_up: bool,
    /// `current` is brought to the disk before it is closed.
    pub closed_is_synced: bool,
    /// `current` and `lock` may be symbolic links.
    pub follows_links: bool,
    /// A `current` that was removed under us is noticed and made anew.
    pub looks_for_current: bool,
    /// The config file is read again while the disk is full or the processor fails: somebody may
    /// have let old files go, or mended the command.
    pub config_is_heard_in_trouble: bool,
    /// A processor ends with the program that has started it.
    pub processor_ends_with_us: bool,
    /// The age is counted from the opening, whatever else made a rotation meanwhile.
    pub age_runs_on: bool,
    /// How long until the first new try of what failed, doubling up to the second.
    pub retry: [Duration; 2],
    pub border: Border,
    pub surplus: Surplus,
}

/// The scribe: many logs, made without being asked, read by their owner's group.
pub static SCRIBE: Habits = Habits {
    directory_mode: Some(0o750),
    current_mode: 0o640,
    current_mode_is_enforced: false,
    rotated_mode: None,
    closed_mode: None,
    open_line_goes_on: true,
    unprocessed_are_taken_up: true,
    closed_is_synced: false,
    follows_links: false,
    looks_for_current: true,
    config_is_heard_in_trouble: true,
    processor_ends_with_us: true,
    age_runs_on: false,
    retry: [Duration::from_millis(100), Duration::from_secs(10)],
    border: Border::WholeLines,
    surplus: Surplus::All,
};

/// svlogd, as Debian has it.
pub static SVLOGD: Habits = Habits {
    directory_mode: None,
    current_mode: 0o644,
    current_mode_is_enforced: true,
    rotated_mode: Some(0o744),
    closed_mode: Some(0o744),
    open_line_goes_on: false,
    unprocessed_are_taken_up: false,
    closed_is_synced: true,
    follows_links: true,
    looks_for_current: false,
    config_is_heard_in_trouble: false,
    processor_ends_with_us: false,
    age_runs_on: true,
    retry: [Duration::from_secs(3), Duration::from_secs(3)],
    border: Border::Svlogd,
    surplus: Surplus::OneSaved,
};

/// One log's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub stamp: Stamp,
    /// 0: never rotated by size.
    pub size: u64,
    /// 0: all are kept.
    pub keep: u32,
    /// Old files beyond so many may be deleted when the disk is full; None: none may.
    pub min: Option<u32>,
    /// 0: never rotated by age.
    pub age_s: u64,
    pub line_bytes_max: usize,
    /// What few logs have.
    pub extra: Option<Box<Extra>>,
}

#[derive(Clone, Debug, Default)]
pub struct Extra {
    pub processor: Option<Box<[u8]>>,
    pub prefix: Option<Box<[u8]>>,
    pub rules: Vec<select::Rule>,
    /// Which lines are repeated on standard error.
    pub error_rules: Vec<select::Rule>,
    /// Where lines are sent.
    pub udp: Option<Udp>,
    /// There is a processor that is not obeyed, since that user may have written it.
    pub distrusted: Option<u32>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            stamp: Stamp::default(),
            size: SIZE_DEFAULT,
            keep: KEEP_DEFAULT,
            min: None,
            age_s: 0,
            line_bytes_max: SCRIBE_LINE_BYTES_MAX,
            extra: None,
        }
    }
}

impl Settings {
    /// These, where the file in the directory says nothing else.
    pub fn overridden(&self, config: Config) -> Settings {
        let distrusted = config.flaws.iter().find_map(|flaw| match flaw {
            Flaw::Distrusted(uid) => Some(*uid),
            Flaw::Unreadable(_) | Flaw::Address(_) | Flaw::Port(_) => None,
        });
        let extra = Extra {
            processor: config.processor,
            prefix: config.prefix,
            rules: config.rules,
            error_rules: config.error_rules,
            udp: config.udp,
            distrusted,
        };
        Settings {
            stamp: self.stamp,
            size: config.size.unwrap_or(self.size),
            keep: config.keep.unwrap_or(self.keep),
            min: config.min.or(self.min),
            age_s: config.age_s.unwrap_or(self.age_s),
            line_bytes_max: self.line_bytes_max,
            extra: (!extra.is_empty()).then(|| Box::new(extra)),
        }
    }

    pub fn rule(&self, habits: &Habits) -> Rule {
        Rule {
            size: self.size,
            border: habits.border,
            line_bytes_max: u64::try_from(self.line_bytes_max).unwrap_or(u64::MAX),
        }
    }

    pub fn prefix(&self) -> &[u8] {
        let extra = self.extra.as_ref();
        extra
            .and_then(|extra| extra.prefix.as_deref())
            .unwrap_or_default()
    }

    pub fn distrusted(&self) -> Option<u32> {
        self.extra.as_ref()?.distrusted
    }

    pub fn processor(&self) -> Option<&[u8]> {
        self.extra.as_ref()?.processor.as_deref()
    }
}

impl Extra {
    /// Whether a line of which this is the head is written or sent.
    pub fn selects(&self, head: &[u8]) -> bool {
        match select::judge(&self.rules, head, Verdict::Selected) {
            Verdict::Selected => true,
            Verdict::Deselected => false,
        }
    }

    /// Whether it is repeated on standard error.
    pub fn repeats(&self, head: &[u8]) -> bool {
        match select::judge(&self.error_rules, head, Verdict::Deselected) {
            Verdict::Selected => true,
            Verdict::Deselected => false,
        }
    }

    fn is_empty(&self) -> bool {
        let Extra {
            processor,
            prefix,
            rules,
            error_rules,
            udp,
            distrusted,
        } = self;
        processor.is_none()
            && prefix.is_none()
            && rules.is_empty()
            && error_rules.is_empty()
            && udp.is_none()
            && distrusted.is_none()
    }
}
