//! Durations, rates and sizes as people write them on a command line: `20ms`, `300rps`, `50MB`.

use std::time::Duration;

/// Longest duration accepted anywhere: a year. It keeps every sum of durations far from overflow.
const MAX_DURATION_S: f64 = 366.0 * 86_400.0;

/// Highest request rate accepted, in requests per second.
pub const MAX_RPS: f64 = 1_000_000.0;

/// Why a quantity could not be read; the message carries the text and a form that would work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The number in front of the unit is missing or malformed.
    #[error("{text:?} does not start with a plain number: write it like {example}")]
    Number {
        /// The text as given.
        text: String,
        /// A well-formed value of the same kind.
        example: &'static str,
    },
    /// The unit is missing or unknown.
    #[error("{text:?} has {}: use one of {known}, like {example}", unit_problem(.unit))]
    Unit {
        /// The text as given.
        text: String,
        /// What stood after the number; empty when nothing did.
        unit: String,
        /// The units that are understood.
        known: &'static str,
        /// A well-formed value of the same kind.
        example: &'static str,
    },
    /// The value is beyond what the program can use.
    #[error("{text:?} is out of range: the largest accepted value is {max}")]
    Range {
        /// The text as given.
        text: String,
        /// The largest accepted value.
        max: String,
    },
}

fn unit_problem(unit: &str) -> String {
    if unit.is_empty() { "no unit".to_owned() } else { format!("the unknown unit {unit:?}") }
}

/// Reads a duration such as `250us`, `20ms`, `1.5s`, `2m` or `1h`. A bare `0` is accepted too.
///
/// # Errors
/// [`UnitError`] for a malformed number, a missing or unknown unit, or more than a year.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    const EXAMPLE: &str = "20ms";
    let (number, unit) = split(text, EXAMPLE)?;
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "" if number == 0.0 => 1.0,
        _ => return Err(unknown(text, unit, "us, ms, s, m, h", EXAMPLE)),
    };
    let seconds = number * scale;
    if seconds > MAX_DURATION_S {
        return Err(UnitError::Range { text: text.to_owned(), max: "366 days (8784h)".to_owned() });
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Reads a request rate such as `300rps`, `1.5krps` or `300/s`; the result is requests per second.
///
/// # Errors
/// [`UnitError`] for a malformed number, a missing or unknown unit, or more than [`MAX_RPS`].
pub fn rate(text: &str) -> Result<f64, UnitError> {
    const EXAMPLE: &str = "300rps";
    let (number, unit) = split(text, EXAMPLE)?;
    let rps = match unit {
        "rps" | "/s" => number,
        "krps" => number * 1e3,
        "" if number == 0.0 => 0.0,
        _ => return Err(unknown(text, unit, "rps, krps, /s", EXAMPLE)),
    };
    if rps > MAX_RPS {
        return Err(UnitError::Range { text: text.to_owned(), max: format!("{MAX_RPS}rps") });
    }
    Ok(rps)
}

/// Reads a size in bytes such as `100`, `4KiB`, `50MB` or `1GiB`.
///
/// # Errors
/// [`UnitError`] for a malformed number, an unknown unit, or more than 1 TiB.
pub fn size(text: &str) -> Result<usize, UnitError> {
    const EXAMPLE: &str = "50MB";
    let (number, unit) = split(text, EXAMPLE)?;
    let scale = match unit {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1_024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        _ => return Err(unknown(text, unit, "B, KB, MB, GB, KiB, MiB, GiB", EXAMPLE)),
    };
    let bytes = number * scale;
    if bytes > 1_099_511_627_776.0 {
        return Err(UnitError::Range { text: text.to_owned(), max: "1024GiB".to_owned() });
    }
    Ok(bytes as usize)
}

fn unknown(text: &str, unit: &str, known: &'static str, example: &'static str) -> UnitError {
    UnitError::Unit { text: text.to_owned(), unit: unit.to_owned(), known, example }
}

/// Splits `1.5ms` into its number and its unit. Only digits and one point make a number, so
/// `nan`, `inf`, `1e9` and negative values cannot get past here.
fn split<'a>(text: &'a str, example: &'static str) -> Result<(f64, &'a str), UnitError> {
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let number =
        number.parse::<f64>().map_err(|_| UnitError::Number { text: text.to_owned(), example })?;
    Ok((number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(duration("20ms").unwrap(), Duration::from_millis(20));
        assert_eq!(duration(" 1.5 s ").unwrap(), Duration::from_millis(1_500));
        assert_eq!(duration("250us").unwrap(), Duration::from_micros(250));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
        assert_eq!(rate("300rps").unwrap(), 300.0);
        assert_eq!(rate("1.5krps").unwrap(), 1_500.0);
        assert_eq!(rate("12/s").unwrap(), 12.0);
        assert_eq!(size("100").unwrap(), 100);
        assert_eq!(size("50MB").unwrap(), 50_000_000);
        assert_eq!(size("64KiB").unwrap(), 65_536);
    }

    #[test]
    fn refuses_the_rest_with_a_remedy() {
        for bad in ["", "ms", "-1s", "nan", "inf", "1e3s", "1..2s", "5", "5 parsecs", "99999999h"] {
            let error = duration(bad).expect_err(bad).to_string();
            assert!(error.contains(bad) && error.contains(':'), "{bad}: {error}");
        }
        assert!(rate("300").unwrap_err().to_string().contains("like 300rps"));
        assert!(rate("9999999rps").unwrap_err().to_string().contains("largest accepted"));
        assert!(size("3TB").unwrap_err().to_string().contains("GiB"));
    }
}
