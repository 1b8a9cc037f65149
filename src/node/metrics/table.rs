//! A table of times and values, of which the one in force is asked for.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, ensure};
use foreshadow_backtest::read::parse_time;

/// Larger files are no table of a signal.
const LONGEST: u64 = 16 << 20;

/// A table on disk, read again when it changes.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    read: Option<(SystemTime, u64)>,
    /// By time, in Unix milliseconds; no value: nothing is known from there.
    rows: Vec<(u64, Option<f64>)>,
}

impl Table {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: None, rows: Vec::new() }
    }

    /// The value in force at `now_ms`. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// When the file cannot be read, is too long, or has no row.
    pub(super) fn value(&mut self, now_ms: u64) -> anyhow::Result<Option<f64>> {
        let path = self.path.display();
        let about = std::fs::metadata(&self.path).with_context(|| format!("cannot read {path}"))?;
        let state = (about.modified()?, about.len());
        if self.read != Some(state) {
            ensure!(state.1 <= LONGEST, "{path} is longer than {} MiB", LONGEST >> 20);
            self.rows = read(&self.path)?;
            self.read = Some(state);
        }
        Ok(in_force(&self.rows, now_ms))
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<(u64, Option<f64>)>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let rows = rows(&text);
    ensure!(
        !rows.is_empty(),
        "{} has no line with a time and a value, such as 2026-11-23T09:00:00Z,12",
        path.display()
    );
    Ok(rows)
}

/// What can be read; a heading cannot, and neither can a line that is broken.
fn rows(text: &str) -> Vec<(u64, Option<f64>)> {
    let row = |line: &str| {
        let mut fields = line.split([',', ';', '\t']);
        let at_ms = parse_time(fields.next()?)?;
        let value = fields.next()?.trim();
        let number = value.parse().ok().filter(|value: &f64| value.is_finite());
        (number.is_some() || value.is_empty()).then_some((at_ms, number))
    };
    let mut rows: Vec<_> = text.lines().filter_map(row).collect();
    // Stable: of two lines of one time the later counts.
    rows.sort_by_key(|(at_ms, _)| *at_ms);
    rows
}

fn in_force(rows: &[(u64, Option<f64>)], now_ms: u64) -> Option<f64> {
    let after = rows.partition_point(|(at_ms, _)| *at_ms <= now_ms);
    rows[..after].last()?.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_until_that_of_the_next_line() {
        let rows = rows(
            "time,reach\n1700000100,2.5\n1700000000,1\n\nbroken\n1700000200,\n1700000300,many\n\
             1700000400000;4\n1700000100,3\n",
        );
        let at = |s: u64| in_force(&rows, s * 1_000);
        assert_eq!(at(1_699_999_999), None);
        assert_eq!(at(1_700_000_000), Some(1.0));
        assert_eq!(at(1_700_000_100), Some(3.0));
        assert_eq!(at(1_700_000_200), None, "an empty field ends it");
        assert_eq!(at(1_700_000_399), None);
        assert_eq!(at(1_800_000_000), Some(4.0));
    }

    #[test]
    fn a_file_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reach.csv");
        let mut table = Table::new(path.clone());
        assert!(table.value(2_000_000_000_000).unwrap_err().to_string().contains("cannot read"));
        std::fs::write(&path, "1700000000,1\n").unwrap();
        assert_eq!(table.value(2_000_000_000_000).unwrap(), Some(1.0));
        std::fs::write(&path, "1700000000,1\n1800000000,25\n").unwrap();
        assert_eq!(table.value(2_000_000_000_000).unwrap(), Some(25.0));
        std::fs::write(&path, "nothing\n").unwrap();
        assert!(table.value(0).unwrap_err().to_string().contains("no line with a time"));
    }
}
