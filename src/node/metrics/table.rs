//! A table of times and values, of which the one in force is asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, ensure};
use foreshadow_backtest::read::parse_time;
use foreshadow_control::{Planned, is_metric_value};

/// Larger files are no table of a signal.
const LONGEST: u64 = 16 << 20;
/// Changes to come that are told of: an observation is built, recorded and kept every tick.
const MOST_CHANGES: usize = 24;

/// A table on disk, read again when it changes.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    read: Option<(SystemTime, u64)>,
    rows: Rows,
}

/// What a table says, by time in Unix milliseconds; no value: nothing is known from there.
#[derive(Clone, Debug)]
pub(crate) struct Rows(Arc<[(u64, Option<f64>)]>);

impl PartialEq for Rows {
    /// Whether they were read together; a file is read again only when it has changed.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Rows {
    /// As if they had been read.
    #[cfg(test)]
    pub(crate) fn of(rows: &[(u64, Option<f64>)]) -> Self {
        Self(rows.into())
    }

    /// The value in force at `at_ms`: that of the last row until then.
    pub(crate) fn at(&self, at_ms: u64) -> Option<f64> {
        let after = self.0.partition_point(|(row_ms, _)| *row_ms <= at_ms);
        self.0[..after].last()?.1
    }

    /// Changes after `now_ms` and until `until_ms`, each with the time until then; of more than
    /// [`MOST_CHANGES`] every second, third and so on.
    pub(crate) fn changes(&self, now_ms: u64, until_ms: u64) -> Vec<Planned> {
        let place = |at_ms: u64| self.0.partition_point(|(row_ms, _)| *row_ms <= at_ms);
        let rows = &self.0[place(now_ms)..place(until_ms.max(now_ms))];
        let every = rows.len().div_ceil(MOST_CHANGES).max(1);
        let change = |row: &(u64, Option<f64>)| Planned { in_ms: row.0 - now_ms, value: row.1 };
        rows.iter().step_by(every).map(change).collect()
    }

    /// The mean value from `from_ms` to `to_ms`, weighed by time; none where for most of it none is in
    /// force.
    #[expect(clippy::cast_precision_loss, reason = "times are far below 2^53 ms")]
    pub(crate) fn mean(&self, from_ms: u64, to_ms: u64) -> Option<f64> {
        let (mut sum, mut known_ms, mut at_ms) = (0.0, 0_u64, from_ms);
        let first = self.0.partition_point(|(row_ms, _)| *row_ms <= from_ms);
        let mut value = self.at(from_ms);
        for (row_ms, next) in self.0[first..].iter().copied().chain([(u64::MAX, None)]) {
            let until_ms = row_ms.min(to_ms).max(at_ms);
            if let Some(value) = value {
                sum += value * (until_ms - at_ms) as f64;
                known_ms += until_ms - at_ms;
            }
            (value, at_ms) = (next, until_ms);
            if row_ms >= to_ms {
                break;
            }
        }
        let enough = known_ms > 0 && known_ms >= to_ms.saturating_sub(from_ms) / 2;
        enough.then(|| sum / known_ms as f64)
    }

    /// When the last row begins.
    pub(crate) fn last_ms(&self) -> u64 {
        self.0.last().map_or(0, |(at_ms, _)| *at_ms)
    }
}

impl Table {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: None, rows: Rows(Arc::new([])) }
    }

    /// The rows, which are others where the file has changed. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// When the file cannot be read, is too long, or has no row.
    pub(super) fn rows(&mut self) -> anyhow::Result<Rows> {
        let about = std::fs::metadata(&self.path)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        let state = (about.modified()?, about.len());
        if self.read != Some(state) {
            self.rows = Rows(read(&self.path)?.into());
            self.read = Some(state);
        }
        Ok(self.rows.clone())
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<(u64, Option<f64>)>> {
    let text = foreshadow_config::file::read_text(path, LONGEST)
        .with_context(|| format!("cannot read {}", path.display()))?;
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
        let number = value.parse().ok().filter(|value: &f64| is_metric_value(*value));
        (number.is_some() || value.is_empty()).then_some((at_ms, number))
    };
    let mut rows: Vec<_> = text.lines().filter_map(row).collect();
    // Stable: of two lines of one time the later counts.
    rows.sort_by_key(|(at_ms, _)| *at_ms);
    rows
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
        let rows = Rows(rows.into());
        let at = |s: u64| rows.at(s * 1_000);
        assert_eq!(at(1_699_999_999), None);
        assert_eq!(at(1_700_000_000), Some(1.0));
        assert_eq!(at(1_700_000_100), Some(3.0));
        assert_eq!(at(1_700_000_200), None, "an empty field ends it");
        assert_eq!(at(1_700_000_399), None);
        assert_eq!(at(1_800_000_000), Some(4.0));
    }

    #[test]
    fn what_lies_ahead_is_told_and_what_is_in_force_over_a_time_is_its_mean() {
        let rows = Rows(rows("1700000000,1\n1700000060,4\n1700000120,\n1700000180,2\n").into());
        let start_ms = 1_700_000_000_000;
        let change = |in_ms, value| Planned { in_ms, value };
        assert_eq!(
            rows.changes(start_ms + 30_000, start_ms + 150_000),
            [change(30_000, Some(4.0)), change(90_000, None)]
        );
        assert_eq!(rows.changes(start_ms + 180_000, u64::MAX), []);
        let mean = |from: u64, to: u64| rows.mean(start_ms + from * 1_000, start_ms + to * 1_000);
        assert_eq!(mean(0, 60), Some(1.0));
        assert_eq!(mean(40, 80), Some(2.5));
        assert_eq!(mean(90, 130), Some(4.0));
        assert_eq!(mean(110, 180), None, "for most of it nothing is known");
        assert_eq!(mean(200, 400), Some(2.0));
        assert_eq!(rows.last_ms(), start_ms + 180_000);
        let many: Vec<(u64, Option<f64>)> = (0..1_000).map(|at| (at, Some(1.0))).collect();
        let told = Rows(many.into()).changes(0, 999);
        assert!(told.len() <= MOST_CHANGES && told.last().is_some_and(|it| it.in_ms > 950));
    }

    #[test]
    fn a_file_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reach.csv");
        let mut table = Table::new(path.clone());
        let value = |table: &mut Table| table.rows().map(|rows| rows.at(2_000_000_000_000));
        assert!(value(&mut table).unwrap_err().to_string().contains("cannot read"));
        std::fs::write(&path, "1700000000,1\n").unwrap();
        assert_eq!(value(&mut table).unwrap(), Some(1.0));
        std::fs::write(&path, "1700000000,1\n1800000000,25\n").unwrap();
        assert_eq!(value(&mut table).unwrap(), Some(25.0));
        let device = value(&mut Table::new("/dev/zero".into())).unwrap_err();
        assert!(format!("{device:#}").contains("not a regular file"), "{device:#}");
        std::fs::write(&path, "nothing\n").unwrap();
        assert!(value(&mut table).unwrap_err().to_string().contains("no line with a time"));
    }
}
