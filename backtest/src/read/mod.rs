//! From lines of text to samples: CSV files and access logs. Opening files is for others.

mod access_log;
mod csv;
mod time;

use serde::Serialize;

pub use access_log::{LogFormat, LogReader};
pub use csv::{Column, CsvReader, CsvSpec, Header};
pub use time::parse_time;

use crate::Sample;

/// What was read, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReadReport {
    /// Lines seen, headings and empty ones included.
    pub lines: u64,
    /// Samples made of them.
    pub samples: u64,
    /// Lines left out as unreadable.
    pub skipped: u64,
    /// The first of those, and what was wrong with it.
    pub first_skipped: Option<String>,
    /// What was taken for what: "time from column \"TimeStamp\", value from column \"Value\"".
    pub reading: String,
}

/// Why text holds no samples.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A column that was asked for, or is needed, is not there.
    #[error("line {line}: there is no {what} column {wanted}; the columns are {found}; {remedy}")]
    NoColumn {
        /// Where.
        line: u64,
        /// Time or value.
        what: &'static str,
        /// What was looked for.
        wanted: String,
        /// What is there.
        found: String,
        /// What would help.
        remedy: &'static str,
    },
    /// Nothing, or next to nothing, could be read.
    #[error("{skipped} of {lines} lines cannot be read, the first of them {first}; {remedy}")]
    Unreadable {
        /// Lines that could not be read.
        skipped: u64,
        /// Lines seen.
        lines: u64,
        /// The first, with its number.
        first: String,
        /// What would help.
        remedy: &'static str,
    },
    /// There is no line with data.
    #[error("there is no line with data among {lines} lines")]
    Empty {
        /// Lines seen.
        lines: u64,
    },
}

/// Counts lines and collects samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    report: ReadReport,
    samples: Vec<Sample>,
}

impl Reading {
    fn next_line(&mut self) -> u64 {
        self.report.lines += 1;
        self.report.lines
    }

    fn take(&mut self, sample: Result<Sample, String>) {
        match sample {
            Ok(sample) => {
                self.report.samples += 1;
                self.samples.push(sample);
            }
            Err(why) => {
                self.report.skipped += 1;
                let line = self.report.lines;
                self.report.first_skipped.get_or_insert_with(|| format!("line {line}: {why}"));
            }
        }
    }

    /// Some unreadable lines are life; a file of which most cannot be read is another file.
    fn finish(self, remedy: &'static str) -> Result<(Vec<Sample>, ReadReport), ReadError> {
        let ReadReport { lines, samples, skipped, first_skipped, .. } = &self.report;
        if let Some(first) = first_skipped
            && skipped > samples
        {
            let (skipped, lines, first) = (*skipped, *lines, first.clone());
            return Err(ReadError::Unreadable { skipped, lines, first, remedy });
        }
        if *samples == 0 {
            return Err(ReadError::Empty { lines: *lines });
        }
        Ok((self.samples, self.report))
    }
}

/// The first characters of a text that may be anything.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    let mut short: String = text.chars().take(MOST).collect();
    if text.chars().nth(MOST).is_some() {
        short.push_str("...");
    }
    short
}
