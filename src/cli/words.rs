//! Text for people: times, exits, widths, and nothing that a terminal would obey.
//!
//! Names, messages and log lines come from services, so every control character in them is shown
//! as an escape. Pure; used by whatever in cli prints.

use crate::ipc::control::{LastExit, Leftover};
use std::borrow::Cow;
use std::fmt::Write;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Stands for what was cut off.
const ELLIPSIS: char = '…';

/// The text with what a terminal could obey or a reader be fooled by as `\x1b` or `\u{202e}`.
pub fn safe(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            _ if !is_unsafe(character) => shown.push(character),
            _ if (character as u32) < 0x100 => {
                push(&mut shown, format_args!("\\x{:02x}", character as u32))
            }
            _ => push(&mut shown, format_args!("\\u{{{:x}}}", character as u32)),
        }
    }
    Cow::Owned(shown)
}

/// A log line keeps its tabs, which services use to lay out text.
pub fn safe_line(text: &str) -> Cow<'_, str> {
    match text.contains('\t') {
        false => safe(text),
        true => Cow::Owned(text.split('\t').map(safe).collect::<Vec<_>>().join("\t")),
    }
}

/// Control characters, line and paragraph separators, and the marks that turn the direction of
/// writing, with which a name could pose as another.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Columns on a terminal, for text that went through [`safe`].
pub fn width(text: &str) -> usize {
    text.width()
}

/// At most `columns` wide, the last of them an ellipsis when something was cut.
pub fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used >= columns {
            break;
        }
        shown.push(character);
    }
    if columns > 0 {
        shown.push(ELLIPSIS);
    }
    Cow::Owned(shown)
}

/// `3s`, `5m`, `2h`, `4d`: for a column.
pub fn age(seconds: f64) -> String {
    let whole = whole(seconds);
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m", whole / 60),
        3600..86_400 => format!("{}h", whole / 3600),
        _ => format!("{}d", whole / 86_400),
    }
}

/// `0 s`, `0.004 s`, `3.2 s`, `45 s`, `5 min`, `3 h`, `4 days`: for a sentence.
pub fn span(seconds: f64) -> String {
    let seconds = if seconds.is_finite() {
        seconds.max(0.0)
    } else {
        0.0
    };
    let whole = whole(seconds);
    match whole {
        0 if seconds < 0.000_5 => "0 s".into(),
        0 => format!("{seconds:.3} s"),
        1..10 => format!("{seconds:.1} s"),
        10..120 => format!("{whole} s"),
        120..7200 => format!("{} min", whole / 60),
        7200..172_800 => format!("{} h", whole / 3600),
        _ => format!("{} days", whole / 86_400),
    }
}

/// Whole seconds; what is no number of seconds counts as none.
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

/// `code 1`, `SIGSEGV (core)`, `SIGKILL (oom)`: for a column.
pub fn exit_short(exit: &LastExit) -> String {
    let mut shown = match (&exit.signal, exit.code) {
        (Some(signal), _) => safe(signal).into_owned(),
        (None, Some(code)) => format!("code {code}"),
        (None, None) => "unknown".into(),
    };
    if exit.oom == Some(true) {
        shown.push_str(" (oom)");
    } else if exit.core {
        shown.push_str(" (core)");
    }
    shown
}

/// `ended with exit code 1`, `was killed by SIGSEGV (core dumped)`: for a sentence.
pub fn exit_long(exit: &LastExit) -> String {
    let mut shown = match (&exit.signal, exit.code) {
        (Some(signal), _) => format!("was killed by {}", safe(signal)),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended, nobody knows how".into(),
    };
    if exit.core {
        shown.push_str(" (core dumped)");
    }
    if exit.oom == Some(true) {
        shown.push_str(", out of memory");
    }
    shown
}

/// `nginx (pid 41), nginx (pid 42)`
pub fn leftovers(all: &[Leftover]) -> String {
    let each = all
        .iter()
        .map(|one| format!("{} (pid {})", safe(&one.name), one.pid));
    each.collect::<Vec<_>>().join(", ")
}

/// A message's text after the name of its subject, for places where the name stands already.
pub fn without_subject<'a>(message: &'a str, name: &str) -> &'a str {
    message
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(message)
}

/// `1 service`, `2 services`
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Adds to a text in memory, which cannot fail.
pub fn push(text: &mut String, words: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(words);
    debug_assert!(written.is_ok(), "a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_as_an_escape() {
        assert_eq!(safe("plain ä 漢"), "plain ä 漢");
        assert_eq!(safe("a\x1b[2Jb\nc\td\x7f"), "a\\x1b[2Jb\\nc\\td\\x7f");
        assert_eq!(safe("\u{9b}31m"), "\\x9b31m");
        assert_eq!(safe("gpj\u{202e}exe"), "gpj\\u{202e}exe");
        assert_eq!(safe_line("a\tb\x1b"), "a\tb\\x1b");
    }

    #[test]
    fn a_cut_text_is_never_wider_than_asked() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd…");
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(cut("漢字漢字", 4), "漢…");
        assert_eq!(cut("abc", 0), "");
        for columns in 0..12 {
            assert!(width(&cut("a漢b字c漢d字", columns)) <= columns);
        }
    }

    #[test]
    fn ages_take_the_largest_unit() {
        let ages = [
            0.0, 59.9, 60.0, 3599.0, 3600.0, 86_399.0, 86_400.0, 400_000.0,
        ]
        .map(age);
        assert_eq!(ages, ["0s", "59s", "1m", "59m", "1h", "23h", "1d", "4d"]);
        assert_eq!([f64::NAN, -5.0].map(age), ["0s", "0s"]);
    }

    #[test]
    fn spans_are_exact_where_it_matters() {
        let spans = [0.0042, 3.21, 45.0, 300.0, 10_800.0, 400_000.0, f64::NAN].map(span);
        assert_eq!(
            spans,
            ["0.004 s", "3.2 s", "45 s", "5 min", "3 h", "4 days", "0 s"]
        );
    }

    #[test]
    fn only_the_own_name_is_taken_off_a_message() {
        assert_eq!(without_subject("web: no run", "web"), "no run");
        assert_eq!(without_subject("webber: no run", "web"), "webber: no run");
    }
}
