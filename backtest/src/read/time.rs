//! Points in time as people and programs write them.

/// Numbers below these are seconds, milliseconds, microseconds; above, nanoseconds.
const SECONDS_BELOW: f64 = 1e11;
const MILLIS_BELOW: f64 = 1e14;
const MICROS_BELOW: f64 = 1e17;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Unix time in milliseconds of a written time; none if it is none.
///
/// Understood are Unix times in seconds (fractions too), milliseconds, microseconds and nanoseconds
/// by their size; dates as in RFC 3339, with a space or a `T`, seconds, fractions and offset
/// optional (UTC without one), also with slashes, or without a time; and the form of access logs,
/// `10/Oct/2000:13:55:36 -0700`. Times before 1970 are none.
#[must_use]
pub fn parse_time(text: &str) -> Option<u64> {
    let text = text.trim().trim_matches(['[', ']', '"']);
    if let Ok(number) = text.parse::<f64>() {
        return unix(number);
    }
    log_time(text).or_else(|| date_time(text))
}

fn unix(number: f64) -> Option<u64> {
    let ms = match number {
        n if !(0.0..1e20).contains(&n) => return None,
        n if n < SECONDS_BELOW => n * 1e3,
        n if n < MILLIS_BELOW => n,
        n if n < MICROS_BELOW => n / 1e3,
        n => n / 1e6,
    };
    Some(ms.round() as u64)
}

/// `10/Oct/2000:13:55:36 -0700`.
fn log_time(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(':')?;
    let mut parts = date.split('/');
    let (day, month, year) = (number(parts.next()?)?, parts.next()?, number(parts.next()?)?);
    let month = MONTHS.iter().position(|name| month.eq_ignore_ascii_case(name))?;
    let days = days_from_civil(year, month as i64 + 1, day)?;
    at(days, time)
}

/// `2000-10-10 13:55:36.25+02:00` and what may be left out of it.
fn date_time(text: &str) -> Option<u64> {
    let split = text.find(['T', 't', ' ']);
    let (date, time) = split.map_or((text, ""), |at| (&text[..at], text[at + 1..].trim()));
    let mut parts = date.split(['-', '/']);
    let (year, month, day) =
        (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    if parts.next().is_some() || date.len() < 8 {
        return None;
    }
    let days = days_from_civil(year, month, day)?;
    at(days, if time.is_empty() { "00:00" } else { time })
}

/// Milliseconds of a day and a time with an optional offset.
fn at(days: i64, time: &str) -> Option<u64> {
    let (clock, offset_ms) = split_offset(time)?;
    let mut parts = clock.split(':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    let second = parts.next().unwrap_or("0");
    if parts.next().is_some() || hour > 24 || minute > 59 {
        return None;
    }
    let second: f64 = second.replace(',', ".").parse().ok()?;
    if !(0.0..61.0).contains(&second) {
        return None;
    }
    let of_day_ms = (hour * 60 + minute) * 60_000 + (second * 1e3).round() as i64;
    u64::try_from(days * 86_400_000 + of_day_ms - offset_ms).ok()
}

/// `13:55:36 -0700` into the clock and the offset in milliseconds.
fn split_offset(time: &str) -> Option<(&str, i64)> {
    let time = time.trim();
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock.trim(), 0));
    }
    let time = time.strip_suffix(" UTC").unwrap_or(time);
    let Some(at) = time.rfind(['+', '-']) else { return Some((time, 0)) };
    let sign = if time[at..].starts_with('-') { -1 } else { 1 };
    let digits: String = time[at + 1..].chars().filter(|c| *c != ':').collect();
    let value = number(&digits)?;
    let minutes = match digits.len() {
        1 | 2 => value * 60,
        4 => value / 100 * 60 + value % 100,
        _ => return None,
    };
    Some((time[..at].trim(), sign * minutes * 60_000))
}

fn number(text: &str) -> Option<i64> {
    let fits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

/// Days since 1970-01-01 in the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `days_from_civil`); none for days that no month has.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    Some(era * 146_097 + days_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_usual_form() {
        let expected = Some(971_211_336_000);
        for text in [
            "971211336",
            "971211336000",
            "971211336000000",
            "2000-10-10T20:55:36Z",
            "2000-10-10 20:55:36",
            "2000/10/10 20:55:36.000",
            "2000-10-10T13:55:36-07:00",
            "2000-10-10 22:55:36+0200",
            "\"2000-10-10 20:55:36 UTC\"",
            "10/Oct/2000:13:55:36 -0700",
            "[10/Oct/2000:20:55:36 +0000]",
        ] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
        assert_eq!(parse_time("2023-11-16 18:17:03.9799600"), Some(1_700_158_623_980));
        assert_eq!(parse_time("1970-01-02"), Some(86_400_000));
        assert_eq!(parse_time("1.5"), Some(1_500));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "noon",
            "2000-13-01",
            "2001-02-29",
            "2000-10-10T25:00",
            "1969-12-31",
            "-5",
            "nan",
            "2000-10-10T20:55:36+123",
            "31/Foo/2000:00:00:00",
            "1-2-3",
            "2000-10-10T20:61",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert_eq!(parse_time("2000-02-29").map(|ms| ms / 86_400_000), Some(11_016));
    }
}
