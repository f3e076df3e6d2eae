//! The three stamps of svlogd, written and read. All are UTC, 26 bytes, the space included.
//!
//! By hand, since a stamp stands on each line: the date's text is made once a second (2 ns instead
//! of 20 for a general formatter). Pure: times come in as the span since 1970.

use super::Stamp;
use std::time::Duration;

/// Length of every stamp, its space included.
pub const STAMP_BYTES: usize = 26;

/// Added to Unix seconds for a TAI64 label: 2^62, and the ten seconds that runit counts between
/// UTC and TAI.
const TAI_OFFSET: u64 = 4_611_686_018_427_387_914;
/// Digits of a TAI64N label.
pub const TAI64N_DIGITS: usize = 24;

const DAY_S: u64 = 86_400;
/// 9999-12-31T23:59:59; the year has four digits.
const LAST_S: u64 = 253_402_300_799;

/// Writes stamps; remembers the text of the last second.
#[derive(Debug)]
pub struct Stamper {
    second: u64,
    date: [u8; 19],
}

impl Default for Stamper {
    fn default() -> Stamper {
        Stamper {
            second: 0,
            date: date_text(0),
        }
    }
}

impl Stamper {
    /// The stamp of a moment; `length` is zero for [`Stamp::None`].
    pub fn text(&mut self, stamp: Stamp, at: Duration) -> Text {
        let mut text = Text {
            bytes: [b' '; STAMP_BYTES],
            length: STAMP_BYTES,
        };
        match stamp {
            Stamp::None => text.length = 0,
            Stamp::Tai64n => {
                text.bytes[0] = b'@';
                text.bytes[1..=TAI64N_DIGITS].copy_from_slice(&tai64n(at));
            }
            Stamp::Iso => self.date(at, b'T', &mut text.bytes),
            Stamp::Human => self.date(at, b'_', &mut text.bytes),
        }
        text
    }

    fn date(&mut self, at: Duration, between: u8, bytes: &mut [u8; STAMP_BYTES]) {
        let second = at.as_secs().min(LAST_S);
        if second != self.second {
            self.second = second;
            self.date = date_text(second);
        }
        bytes[..19].copy_from_slice(&self.date);
        bytes[10] = between;
        bytes[19] = b'.';
        put_digits(&mut bytes[20..25], u64::from(at.subsec_nanos() / 10_000));
    }
}

/// A stamp, ready to be copied.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    bytes: [u8; STAMP_BYTES],
    length: usize,
}

impl Text {
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The 24 hexadecimal digits of a TAI64N label.
pub fn tai64n(at: Duration) -> [u8; TAI64N_DIGITS] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let label =
        u128::from(TAI_OFFSET.saturating_add(at.as_secs())) << 32 | u128::from(at.subsec_nanos());
    let mut text = [0; TAI64N_DIGITS];
    for (place, digit) in text.iter_mut().rev().enumerate() {
        *digit = HEX[usize::from(((label >> (4 * place)) & 15) as u8)];
    }
    text
}

/// The moment that 24 hexadecimal digits name; None when they aren't digits, or before 1970.
pub fn from_tai64n(text: &[u8]) -> Option<Duration> {
    if text.len() != TAI64N_DIGITS {
        return None;
    }
    let mut label = 0u128;
    for digit in text {
        label = label << 4 | u128::from(char::from(*digit).to_digit(16)?);
    }
    let seconds = u64::try_from(label >> 32).ok()?.checked_sub(TAI_OFFSET)?;
    let nanos = u32::try_from(label & 0xffff_ffff).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

/// The stamp at the start of a line, in any of the three forms, and what follows it.
pub fn parse(line: &[u8]) -> Option<(Duration, &[u8])> {
    let (stamp, rest) = line.split_at_checked(STAMP_BYTES)?;
    let (last, stamp) = stamp.split_last()?;
    if *last != b' ' {
        return None;
    }
    match stamp.split_first()? {
        (b'@', digits) => Some((from_tai64n(digits)?, rest)),
        _ => Some((from_date(stamp)?, rest)),
    }
}

fn from_date(text: &[u8]) -> Option<Duration> {
    const FORM: &[u8; 25] = b"dddd-dd-dd?dd:dd:dd.ddddd";
    for (byte, form) in text.iter().zip(FORM) {
        let fits = match form {
            b'd' => byte.is_ascii_digit(),
            b'?' => matches!(byte, b'T' | b'_'),
            literal => byte == literal,
        };
        if !fits {
            return None;
        }
    }
    let number = |from: usize, to: usize| {
        text[from..to]
            .iter()
            .fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second;
    let nanos = u32::try_from(number(20, 25)).ok()? * 10_000;
    Some(Duration::new(seconds, nanos))
}

/// `2026-11-20?10:00:00`, the separator still to be set.
fn date_text(second: u64) -> [u8; 19] {
    let (year, month, day) = civil(second / DAY_S);
    let of_day = second % DAY_S;
    let mut text = *b"0000-00-00?00:00:00";
    put_digits(&mut text[0..4], year);
    put_digits(&mut text[5..7], month);
    put_digits(&mut text[8..10], day);
    put_digits(&mut text[11..13], of_day / 3600);
    put_digits(&mut text[14..16], of_day / 60 % 60);
    put_digits(&mut text[17..19], of_day % 60);
    text
}

fn put_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

/// Days of 400 Gregorian years; the calendar repeats after them.
const ERA_DAYS: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;

/// Year, month and day. Years are counted from March, so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_1970;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + of_year;
    year / 400 * ERA_DAYS + of_era - DAYS_TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(stamp: Stamp, at: Duration) -> String {
        String::from_utf8_lossy(Stamper::default().text(stamp, at).as_bytes()).into_owned()
    }

    #[test]
    fn the_three_forms_are_svlogds() {
        let at = Duration::new(1_795_168_800, 12_349_999);
        assert_eq!(text(Stamp::Iso, at), "2026-11-20T10:00:00.01234 ");
        assert_eq!(text(Stamp::Human, at), "2026-11-20_10:00:00.01234 ");
        assert_eq!(text(Stamp::Tai64n, at), "@400000006b001a2a00bc722f ");
        assert_eq!(text(Stamp::None, at), "");
    }

    #[test]
    fn the_cached_second_is_dropped_when_time_goes_back() {
        let mut stamper = Stamper::default();
        stamper.text(Stamp::Iso, Duration::from_secs(100));
        let earlier = stamper.text(Stamp::Iso, Duration::from_secs(59));
        assert_eq!(earlier.as_bytes(), b"1970-01-01T00:00:59.00000 ");
    }

    #[test]
    fn text_that_only_looks_like_a_stamp_is_none() {
        for line in [
            "2026-13-20T10:00:00.00000 x",
            "2026-11-20 10:00:00.00000 x",
            "2026-11-20T10:00:00.00000x ",
            "@40000000zz000faa00bc722f x",
            "@0000000000000000000000ff x",
            "short",
            "",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_stamp_reads_back(seconds in 0..=LAST_S, nanos in 0u32..1_000_000_000) {
            let at = Duration::new(seconds, nanos);
            let coarse = Duration::new(seconds, nanos / 10_000 * 10_000);
            for (stamp, expected) in
                [(Stamp::Iso, coarse), (Stamp::Human, coarse), (Stamp::Tai64n, at)]
            {
                let line = text(stamp, at) + "rest";
                prop_assert_eq!(parse(line.as_bytes()), Some((expected, &b"rest"[..])));
            }
        }

        #[test]
        fn a_date_is_the_calendars(seconds in 0..=LAST_S) {
            let ours = text(Stamp::Iso, Duration::from_secs(seconds));
            let theirs = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap())
                .unwrap()
                .strftime("%Y-%m-%dT%H:%M:%S.00000 ")
                .to_string();
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn any_bytes_are_parsed_without_a_panic(line in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&line);
        }
    }
}
