//! The values of service.toml that are more than a word: durations, sizes, masks, signals. Pure;
//! each error is a sentence's end that says what would be right.

use crate::machine::vocab::Signal;
use std::time::Duration;

/// Longest duration; who wants to wait longer wants to wait for ever.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

const UNITS_MS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// `10s`, `1m30s`, `500ms`; a bare number is seconds. None is for ever: `never`, `infinity`.
pub fn duration(text: &str) -> Result<Option<Duration>, String> {
    if matches!(text, "never" | "infinity") {
        return Ok(None);
    }
    if let Ok(seconds) = text.parse::<u32>() {
        return bounded(Duration::from_secs(seconds.into())).map(Some);
    }
    let wrong = || "a duration is a number of seconds, \"1m30s\" or \"500ms\"".to_owned();
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let end = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit_ms = UNITS_MS.iter().find(|(name, _)| *name == unit);
        let (_, unit_ms) = unit_ms.ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        total_ms = total_ms.saturating_add(number.saturating_mul(*unit_ms));
        rest = after.trim_start();
    }
    if text.trim().is_empty() {
        return Err(wrong());
    }
    bounded(Duration::from_millis(total_ms)).map(Some)
}

pub fn seconds(seconds: f64) -> Result<Duration, String> {
    if seconds.is_nan() {
        return Err("nan is no duration".to_owned());
    }
    if seconds < 0.0 {
        return Err("a duration can't be negative".to_owned());
    }
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| TOO_LONG.to_owned())
        .and_then(bounded)
}

const TOO_LONG: &str = "longer than a year: write \"never\" to wait for ever";

fn bounded(duration: Duration) -> Result<Duration, String> {
    if duration > DURATION_MAX {
        Err(TOO_LONG.to_owned())
    } else {
        Ok(duration)
    }
}

/// `4096`, `64K`, `64M`, `1GiB`: steps of 1024, as svlogd's and the kernel's are.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong =
        || "a size is a number of bytes, or one with K, M, G or T (steps of 1024)".to_owned();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let shift = match suffix.trim() {
        "" | "B" => 0,
        "k" | "K" | "KiB" => 10,
        "m" | "M" | "MiB" => 20,
        "g" | "G" | "GiB" => 30,
        "t" | "T" | "TiB" => 40,
        "KB" | "kB" | "MB" | "GB" | "TB" => {
            let letter = suffix.trim().chars().next().unwrap_or('M');
            let meant = format!("{number}{}", letter.to_ascii_uppercase());
            return Err(format!(
                "write \"{meant}\" ({meant}iB, steps of 1024), or the number of bytes"
            ));
        }
        _ => return Err(wrong()),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "it is larger than 2^64 bytes".to_owned())
}

/// `027`, `0027`, `0o027`: always octal.
pub fn umask(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = !digits.is_empty() && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let bits = octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten();
    bits.filter(|bits| *bits <= 0o777)
        .ok_or_else(|| "a mask is three octal digits, such as \"027\"".to_owned())
}

/// `TERM`, `SIGTERM`, `15`, and glibc's real-time signals as `RTMIN+3`, `RTMAX-1`.
pub fn signal(text: &str) -> Option<Signal> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |offset: &str| offset.parse::<u8>().ok().filter(|offset| *offset <= 30);
    if let Some(offset) = bare.strip_prefix("RTMIN+") {
        return real_time(offset).map(|offset| Signal(34 + offset));
    }
    if let Some(offset) = bare.strip_prefix("RTMAX-") {
        return real_time(offset).map(|offset| Signal(64 - offset));
    }
    match bare {
        "RTMIN" => Some(Signal(34)),
        "RTMAX" => Some(Signal(64)),
        other => Signal::parse(other),
    }
}

/// What only a shell would understand among these words of a command without one.
pub fn shell_word(words: &[String]) -> Option<&str> {
    let operators = [
        "|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1", "1>&2", ">&2",
    ];
    let is_shells = |word: &&String| {
        operators.contains(&word.as_str()) || word.starts_with("$") || word.starts_with("2>")
    };
    words.iter().find(is_shells).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_come_in_the_ways_people_write_them() {
        let ms = |ms| Ok(Some(Duration::from_millis(ms)));
        for (text, wanted) in [
            ("10", ms(10_000)),
            ("10s", ms(10_000)),
            ("1m30s", ms(90_000)),
            ("1m 30s", ms(90_000)),
            ("500ms", ms(500)),
            ("2h", ms(7_200_000)),
            ("0s", ms(0)),
            ("never", Ok(None)),
            ("infinity", Ok(None)),
        ] {
            assert_eq!(duration(text), wanted, "{text}");
        }
        for text in [
            "",
            " ",
            "s",
            "10x",
            "-1s",
            "1.5s",
            "ten",
            "10 s s",
            "99999999999999999999s",
            "400d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(seconds(0.25), Ok(Duration::from_millis(250)));
        for bad in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_go_in_steps_of_1024_and_say_so() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64K"), Ok(65_536));
        assert_eq!(size("1MiB"), Ok(1_048_576));
        assert_eq!(size("2g"), Ok(2 << 30));
        assert!(size("64MB").expect_err("ambiguous").contains("\"64M\""));
        for text in ["", "M", "-1", "1.5M", "1X", "99999999999T"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn masks_are_octal_whatever_they_look_like() {
        assert_eq!(umask("027"), Ok(0o27));
        assert_eq!(umask("0o077"), Ok(0o77));
        assert_eq!(umask("22"), Ok(0o22));
        for text in ["", "08", "1777", "+22", "rwx"] {
            assert!(umask(text).is_err(), "{text}");
        }
    }

    #[test]
    fn signals_have_names_numbers_and_real_time_offsets() {
        assert_eq!(signal("SIGTERM"), Some(Signal::TERM));
        assert_eq!(signal("quit"), Some(Signal::QUIT));
        assert_eq!(signal("15"), Some(Signal::TERM));
        assert_eq!(signal("SIGRTMIN+3"), Some(Signal(37)));
        assert_eq!(signal("RTMAX-1"), Some(Signal(63)));
        for text in ["", "0", "65", "RTMIN+99", "TERMX", "SIG"] {
            assert_eq!(signal(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9a-zA-Z +.-]{0,12}") {
            let _ = (duration(&text), size(&text), umask(&text), signal(&text));
        }
    }
}
