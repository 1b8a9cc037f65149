//! Durations: `50ms`, `1.5s`, `1h30m`, `7d`.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{number, scale};

/// What a duration looks like, for messages.
pub(crate) const FORM: &str = "a duration with its unit, such as 50ms, 1.5s, 2m, 1h30m or 7d";

const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads a duration: numbers with units from large to small, each unit once.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total_ns = 0_u128;
    while !rest.is_empty() || total_ns == 0 && rest.len() == text.len() {
        let (whole, fraction, tail) = number(rest)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (name, tail) = tail.split_at(letters);
        let (_, unit_ns) = units.by_ref().find(|(unit, _)| *unit == name)?;
        total_ns = total_ns.checked_add(scale(whole, fraction, *unit_ns)?)?;
        rest = tail;
    }
    u64::try_from(total_ns).ok().map(Duration::from_nanos)
}

/// Writes a duration so that [`parse`] reads the same one.
pub(crate) fn format(duration: Duration) -> String {
    let mut rest_ns = duration.as_nanos();
    let mut text = String::new();
    for (unit, unit_ns) in UNITS {
        let count = rest_ns / unit_ns;
        rest_ns %= unit_ns;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Whole milliseconds, as the controller counts time.
pub(crate) fn to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds with their fraction; 70 ms is exactly 70.
pub(crate) fn to_fractional_ms(duration: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 100 days")]
    let ns = duration.as_nanos() as f64;
    ns / 1e6
}

/// The duration that [`to_fractional_ms`] was given, to the nanosecond.
pub(crate) fn from_fractional_ms(ms: f64) -> Duration {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    Duration::from_nanos((ms * 1e6).round() as u64)
}

pub(crate) fn serialize<S: Serializer>(value: &Duration, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&format(*value))
}

pub(crate) fn serialize_list<S: Serializer>(
    values: &[Duration],
    out: S,
) -> Result<S::Ok, S::Error> {
    values.iter().map(|value| format(*value)).collect::<Vec<_>>().serialize(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_unit_is_read() {
        for (text, ms) in [
            ("0s", 0),
            ("50ms", 50),
            ("1.5s", 1_500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("1h30m", 5_400_000),
            ("0.1s", 100),
            ("1s500ms", 1_500),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse("250us"), Some(Duration::from_micros(250)));
    }

    #[test]
    fn whole_milliseconds_stay_whole() {
        for ms in 0..10_000_u32 {
            let duration = Duration::from_millis(u64::from(ms));
            assert_eq!(to_fractional_ms(duration), f64::from(ms));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "1 s",
            " 1s",
            "1s1s",
            "30m1h",
            "-1s",
            "1.s",
            ".5s",
            "1e3s",
            "1S",
            "1w",
            "5s ",
            "99999999999999999999999d",
            "1.0000000000000000001s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ns in any::<u64>()) {
            let duration = Duration::from_nanos(ns);
            prop_assert_eq!(parse(&format(duration)), Some(duration));
        }

        #[test]
        fn fractional_milliseconds_lose_nothing(ns in 0..600_000_000_000_u64) {
            let duration = Duration::from_nanos(ns);
            prop_assert_eq!(from_fractional_ms(to_fractional_ms(duration)), duration);
        }

        #[test]
        fn arbitrary_text_does_not_panic(text in ".{0,40}") {
            let read = parse(&text);
            prop_assert_eq!(read.and_then(|d| parse(&format(d))), read);
        }
    }
}
