//! Access logs: common and combined (Apache, nginx), JSON lines, one request per line.

use serde::Serialize;

use super::{ReadError, ReadReport, Reading, parse_time, shortened};
use crate::Sample;

/// Keys under which JSON logs hold the time, those of Foreshadow first.
const TIME_KEYS: [&str; 11] = [
    "time",
    "timestamp",
    "ts",
    "at_ms",
    "@timestamp",
    "time_iso8601",
    "time_local",
    "start_time",
    "date",
    "msec",
    "datetime",
];
const REMEDY: &str = "give --format csv for a table, or --time KEY for JSON lines with another key";

/// How a line of a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// `host ident user [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 2326`, and whatever
    /// follows: both the common and the combined format.
    Common,
    /// One JSON object per line.
    Json,
}

/// Reads line by line; every line is one request.
#[derive(Clone, Debug)]
pub struct LogReader {
    format: LogFormat,
    key: Option<String>,
    reading: Reading,
}

impl LogFormat {
    /// What a line looks like; none if like neither.
    #[must_use]
    pub fn of(line: &str) -> Option<Self> {
        let line = line.trim_start();
        if line.starts_with('{') {
            return Some(Self::Json);
        }
        bracketed(line).and_then(parse_time).map(|_| Self::Common)
    }
}

impl LogReader {
    /// A reader that has read nothing. `key` is where JSON lines hold the time, nested keys with
    /// dots; the usual ones are tried without.
    #[must_use]
    pub fn new(format: LogFormat, key: Option<String>) -> Self {
        let mut reading = Reading::default();
        reading.report.reading = match (format, &key) {
            (LogFormat::Common, _) => "a log in common or combined format".to_owned(),
            (LogFormat::Json, None) => "JSON lines, time from the usual keys".to_owned(),
            (LogFormat::Json, Some(key)) => format!("JSON lines, time from {key:?}"),
        };
        Self { format, key, reading }
    }

    /// Takes one line, without its end.
    pub fn line(&mut self, line: &str) {
        self.reading.next_line();
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        let at_ms = match self.format {
            LogFormat::Common => common_time(line),
            LogFormat::Json => json_time(line, self.key.as_deref()),
        };
        self.reading.take(at_ms.map(|at_ms| Sample { at_ms, value: 1.0 }));
    }

    /// One sample per request, in the order read.
    ///
    /// # Errors
    /// When there are none, or more lines are unreadable than not.
    pub fn finish(self) -> Result<(Vec<Sample>, ReadReport), ReadError> {
        self.reading.finish(REMEDY)
    }
}

/// The time stands before the request, which is quoted; a user's name before it is the client's own
/// words, brackets included, but servers escape quotes in it.
fn bracketed(line: &str) -> Option<&str> {
    let (from, to) = if let Some(to) = line.find("] \"") {
        (line[..to].rfind('[')? + 1, to)
    } else {
        let from = line.find('[')? + 1;
        (from, from + line[from..].find(']')?)
    };
    Some(&line[from..to])
}

fn common_time(line: &str) -> Result<u64, String> {
    let time =
        bracketed(line).ok_or_else(|| format!("there is no [time] in {:?}", shortened(line)))?;
    parse_time(time).ok_or_else(|| format!("{:?} is no time", shortened(time)))
}

fn json_time(line: &str, key: Option<&str>) -> Result<u64, String> {
    let object: serde_json::Value =
        serde_json::from_str(line).map_err(|error| format!("it is no JSON: {error}"))?;
    let found = match key {
        Some(key) => key.split('.').try_fold(&object, |value, part| value.get(part)),
        None => TIME_KEYS.iter().find_map(|key| object.get(key)),
    };
    let found = found.ok_or_else(|| match key {
        Some(key) => format!("it has no {key:?}"),
        None => format!("it has none of the keys {}", TIME_KEYS.join(", ")),
    })?;
    let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
    parse_time(&text).ok_or_else(|| format!("{:?} is no time", shortened(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(format: LogFormat, key: Option<&str>, text: &str) -> Vec<u64> {
        let mut reader = LogReader::new(format, key.map(str::to_owned));
        text.lines().for_each(|line| reader.line(line));
        reader.finish().unwrap().0.iter().map(|s| s.at_ms).collect()
    }

    #[test]
    fn a_client_cannot_say_when_it_asked() {
        let line =
            r#"127.0.0.1 - x[1000000000]\" [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1"#;
        assert_eq!(times(LogFormat::Common, None, line), [971_211_336_000]);
    }

    #[test]
    fn common_and_combined_lines_are_requests() {
        let log = "127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /a.gif HTTP/1.0\" 200 2326\n\
                   ::1 - - [10/Oct/2000:20:55:37 +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"curl [x]\"\n";
        assert_eq!(times(LogFormat::Common, None, log), [971_211_336_000, 971_211_337_000]);
        assert_eq!(LogFormat::of(log), Some(LogFormat::Common));
    }

    #[test]
    fn json_lines_are_requests() {
        let log =
            "{\"timestamp\":\"2000-10-10T20:55:36Z\",\"status\":200}\n{\"ts\":971211337.25}\n";
        assert_eq!(times(LogFormat::Json, None, log), [971_211_336_000, 971_211_337_250]);
        let nested = "{\"http\":{\"when\":971211336}}\n";
        assert_eq!(times(LogFormat::Json, Some("http.when"), nested), [971_211_336_000]);
        assert_eq!(LogFormat::of(nested), Some(LogFormat::Json));
        assert_eq!(LogFormat::of("time,value"), None);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let mut reader = LogReader::new(LogFormat::Json, None);
        ["{\"a\":1}", "{", "{\"time\":\"noon\"}"].iter().for_each(|line| reader.line(line));
        let error = reader.finish().unwrap_err().to_string();
        assert!(
            error.starts_with(
                "3 of 3 lines cannot be read, the first of them line 1: it has none of"
            ),
            "{error}"
        );
    }
}
