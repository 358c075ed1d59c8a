//! `xsd:dateTime` <-> Unix milliseconds, without allocation.
//!
//! Written: `2026-11-21T05:00:00.123Z`, always UTC, always three digits, years 0001 to 9999 (others are held at the
//! ends). Read: any fraction (cut to milliseconds), `Z`, an offset, or nothing, which is read as UTC.

const DAY_MS: i64 = 86_400_000;
/// 0001-01-01T00:00:00.000Z
const FIRST_MS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z
const LAST_MS: i64 = 253_402_300_799_999;

/// The length of every written time.
pub const LENGTH: usize = 24;

/// `ms` as text, in a buffer of its own.
#[derive(Clone, Copy)]
pub struct Text([u8; LENGTH]);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Writes a time.
pub fn format(ms: i64) -> Text {
    let ms = ms.clamp(FIRST_MS, LAST_MS);
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    put(&mut text, 0..4, year);
    put(&mut text, 5..7, month);
    put(&mut text, 8..10, day);
    put(&mut text, 11..13, of_day / 3_600_000);
    put(&mut text, 14..16, of_day / 60_000 % 60);
    put(&mut text, 17..19, of_day / 1_000 % 60);
    put(&mut text, 20..23, of_day % 1_000);
    Text(text)
}

/// Reads a time; `None` when `text` is none.
pub fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.trim_ascii().split_once('T')?;
    let mut parts = date.splitn(3, '-');
    let (year, month, day) =
        (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if year == 0 || !(1..=12).contains(&month) || !(1..=month_days(year, month)).contains(&day) {
        return None;
    }
    let (clock, offset) = split_offset(rest)?;
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(c, f)| (c, Some(f)));
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) =
        (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    // 24:00:00 is midnight at the day's end; a leap second is read as the second after.
    let end_of_day =
        hour == 24 && minute == 0 && second == 0 && fraction.is_none_or(|f| f.bytes().all(|b| b == b'0'));
    if (hour > 23 && !end_of_day) || minute > 59 || second > 60 {
        return None;
    }
    let of_day = hour * 3_600_000 + minute * 60_000 + second * 1_000 + millis(fraction)?;
    Some(days(year, month, day) * DAY_MS + of_day - offset)
}

/// `rest` without its zone, and the zone's offset in milliseconds.
fn split_offset(rest: &str) -> Option<(&str, i64)> {
    if let Some(clock) = rest.strip_suffix('Z') {
        return Some((clock, 0));
    }
    let Some(at) = rest.rfind(['+', '-']) else { return Some((rest, 0)) };
    let (clock, zone) = rest.split_at_checked(at)?;
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours <= 14 && minutes <= 59).then_some((clock, sign * (hours * 60 + minutes) * 60_000))
}

fn millis(fraction: Option<&str>) -> Option<i64> {
    let Some(fraction) = fraction else { return Some(0) };
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut kept = fraction.bytes().map(|b| i64::from(b - b'0')).chain(std::iter::repeat(0));
    Some((&mut kept).take(3).fold(0, |ms, digit| ms * 10 + digit))
}

fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn put(text: &mut [u8; LENGTH], at: std::ops::Range<usize>, mut n: i64) {
    for place in text.get_mut(at).unwrap_or_default().iter_mut().rev() {
        *place = b'0' + u8::try_from(n % 10).unwrap_or(0);
        n /= 10;
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar, counted in 400-year eras that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// The inverse of `days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_237_200_123, "2026-11-21T05:00:00.123Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (FIRST_MS, "0001-01-01T00:00:00.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format(ms).as_str(), text);
            assert_eq!(parse(text), Some(ms));
        }
        assert_eq!(format(i64::MAX).as_str(), "9999-12-31T23:59:59.999Z");
        assert_eq!(format(i64::MIN).as_str(), "0001-01-01T00:00:00.000Z");
    }

    #[test]
    fn other_spellings() {
        let at = parse("2026-11-21T05:00:00Z");
        assert_eq!(parse("2026-11-21T05:00:00"), at);
        assert_eq!(parse("2026-11-21T06:30:00+01:30"), at);
        assert_eq!(parse("2026-11-20T21:00:00.0000000-08:00"), at);
        assert_eq!(parse("2026-11-21T05:00:00.9876543Z"), at.map(|ms| ms + 987));
        assert_eq!(parse("2026-11-21T24:00:00Z"), parse("2026-11-22T00:00:00Z"));
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "T",
            "2026-11-21",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-21T25:00:00Z",
            "2026-11-21T05:60:00Z",
            "2026-11-21T05:00:00.Z",
            "2026-11-21T05:00:00+1:00",
            "0000-01-01T00:00:00Z",
            "2026-11-21T05:00:00+99:00",
            "20261121T050000Z",
            "2026-11-21T05:00:00é",
            "2026-11-21T+5:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(ms in FIRST_MS..=LAST_MS) {
            prop_assert_eq!(parse(format(ms).as_str()), Some(ms));
        }

        #[test]
        fn any_text_is_safe(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
