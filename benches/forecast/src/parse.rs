//! Text of recorded series into numbers: tables with moments, and calendar dates.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be opened, read or decompressed.
    #[error("cannot read {}: {source}; check the file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not what the file's format says.
    #[error("{} line {line}: \"{text}\" is not {expected}; check the file", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What was read.
        text: String,
        /// What should have been there.
        expected: &'static str,
    },
}

/// Rows of a comma separated file: a moment and the values beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Names of the value columns.
    pub columns: Vec<String>,
    /// Moment in milliseconds since 1970, and one value per column, none where the field is empty.
    pub rows: Vec<(i64, Vec<Option<f64>>)>,
}

/// The text of a file, decompressed if its name ends in `.gz`.
///
/// # Errors
///
/// [`TraceError::Read`] when the file cannot be read or is no UTF-8.
pub fn read_text(path: &Path) -> Result<String, TraceError> {
    let failed = |source| TraceError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    if path.extension().is_some_and(|ending| ending == "gz") {
        let file = std::fs::File::open(path).map_err(failed)?;
        GzDecoder::new(file).read_to_string(&mut text).map_err(failed)?;
    } else {
        text = std::fs::read_to_string(path).map_err(failed)?;
    }
    Ok(text)
}

/// A table whose first line names the columns and whose first column is a moment.
///
/// # Errors
///
/// [`TraceError`] when the file cannot be read, or a line has no moment or a field that is neither
/// empty nor a number.
pub fn read_table(path: &Path) -> Result<Table, TraceError> {
    let text = read_text(path)?;
    let mut lines = text.lines().enumerate();
    let fields = |line: &str| -> Vec<String> {
        line.split(',').map(|field| field.trim().trim_matches('"').to_owned()).collect()
    };
    let columns = lines.next().map(|(_, line)| fields(line)).unwrap_or_default();
    let mut rows = vec![];
    for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |expected| TraceError::Line {
            path: path.to_owned(),
            line: number + 1,
            text: line.to_owned(),
            expected,
        };
        let fields = fields(line);
        let at_ms = fields.first().and_then(|field| moment_ms(field));
        let at_ms = at_ms.ok_or_else(|| wrong("a line that begins with a date"))?;
        let value = |field: &String| match field.is_empty() {
            true => Ok(None),
            false => field.parse().map(Some),
        };
        let values = fields[1..].iter().map(value).collect::<Result<_, _>>();
        rows.push((at_ms, values.map_err(|_| wrong("a line of numbers"))?));
    }
    Ok(Table { columns: columns.into_iter().skip(1).collect(), rows })
}

/// Milliseconds since 1970 of `YYYY-MM-DD`, optionally followed by a space or `T`, `HH:MM:SS`, a
/// fraction and `Z`.
pub(crate) fn moment_ms(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time.trim_end_matches('Z')),
        None => (text, "00:00:00"),
    };
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split(':');
    let (hour, minute) = (time.next()?.parse::<i64>().ok()?, time.next()?.parse::<i64>().ok()?);
    let second = time.next().map_or(Some(0.0), |second| second.parse::<f64>().ok())?;
    let inside = (1..=12).contains(&month) && (1..=31).contains(&day);
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute;
    inside.then(|| minutes * 60_000 + (second * 1_000.0).floor() as i64)
}

/// Days since 1970-01-01 in the Gregorian calendar, by counting from March of year 0 (Reingold &
/// Dershowitz, "Calendrical Calculations", chapter 2).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month > 2 { year } else { year - 1 };
    let from_march = (month + 9) % 12;
    let in_year = (153 * from_march + 2) / 5 + day - 1;
    let leap_days = shifted.div_euclid(4) - shifted.div_euclid(100) + shifted.div_euclid(400);
    shifted * 365 + leap_days + in_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_milliseconds() {
        assert_eq!(moment_ms("1970-01-01"), Some(0));
        assert_eq!(moment_ms("2000-03-01T00:00:00Z"), Some(951_868_800_000));
        assert_eq!(moment_ms("2023-11-16 18:17:03.9799600"), Some(1_700_158_623_979));
        assert_eq!(moment_ms("1969-12-31 23:59:59"), Some(-1_000));
        assert_eq!(moment_ms("2023-13-01"), None);
        assert_eq!(moment_ms("value"), None);
    }
}
