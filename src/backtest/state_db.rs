//! History from a node's own history database, by the views that `docs/history.md` describes.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use foreshadow_backtest::Sample;
use foreshadow_backtest::read::ReadReport;
use rusqlite::{Connection, OpenFlags, params};

use super::args::{Args, ms};
use super::prometheus::moment;
use crate::node::history::{HISTORY_DB, Resolution};

/// Reads the demand of `--service`, from `--from` to `--to`, in steps of `--step`; without that in
/// the shortest that the whole time is kept in. Returns the step with the samples.
///
/// # Errors
/// When the database cannot be read, or holds nothing of the service in that time.
pub(super) fn read(given: &Path, args: &Args) -> anyhow::Result<(u64, Vec<Sample>, ReadReport)> {
    let path = database(given);
    ensure!(
        path.exists(),
        "there is no history database {}; give the state_dir of a node that keeps history, or the file",
        path.display()
    );
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(&path, flags)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let service = args.service.as_deref().unwrap_or_default();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, ms);
    let to_ms = args.to.as_deref().map_or(Ok(now_ms), |text| moment(text, now_ms, "--to"))?;
    let from_ms = moment(&args.from, to_ms, "--from")?;
    let about = || format!("cannot read the history in {}", path.display());
    let resolution = match args.step.map(ms) {
        Some(step_ms) => resolution_of(step_ms)?,
        None => finest(&db, service, from_ms, to_ms).with_context(about)?,
    };
    let samples = spans(&db, service, resolution, (from_ms, to_ms)).with_context(about)?;
    if samples.is_empty() {
        bail!(
            "{} holds nothing of service {service:?} in that time; it knows {}; --from says how far to look back",
            path.display(),
            services(&db).with_context(about)?
        );
    }
    let report = ReadReport {
        samples: samples.len() as u64,
        reading: format!("demand of service {service:?}, by {}", resolution.as_str()),
        ..ReadReport::default()
    };
    Ok((resolution.step_ms(), samples, report))
}

fn database(given: &Path) -> PathBuf {
    if given.is_dir() { given.join(HISTORY_DB) } else { given.to_owned() }
}

fn resolution_of(step_ms: u64) -> anyhow::Result<Resolution> {
    Resolution::ALL.into_iter().find(|r| r.step_ms() == step_ms).with_context(|| {
        format!("history is not kept in steps of {step_ms} ms; --step may be 1s, 1m, 15m or 1h")
    })
}

/// The shortest spans that reach back as far as any, give or take one of the longest.
fn finest(
    db: &Connection,
    service: &str,
    from_ms: u64,
    to_ms: u64,
) -> rusqlite::Result<Resolution> {
    let mut firsts = Vec::new();
    for resolution in Resolution::ALL {
        let sql = format!(
            "SELECT min(at_ms) FROM history_{} WHERE service = ? AND instance = 0 AND at_ms >= ? AND at_ms < ?",
            resolution.as_str()
        );
        let bounds = params![service, signed(from_ms), signed(to_ms)];
        let first: Option<i64> = db.query_row(&sql, bounds, |row| row.get(0))?;
        firsts.extend(first.map(|first| (resolution, first)));
    }
    let earliest = firsts.iter().map(|(_, first)| *first).min().unwrap_or(0);
    let near = |(_, first): &&(Resolution, i64)| first - earliest <= 3_600_000;
    Ok(firsts.iter().find(near).map_or(Resolution::Minute, |(resolution, _)| *resolution))
}

/// Demand by span; spans observed for less than half of their time are left out, as gaps.
fn spans(
    db: &Connection,
    service: &str,
    resolution: Resolution,
    (from_ms, to_ms): (u64, u64),
) -> rusqlite::Result<Vec<Sample>> {
    let sql = format!(
        "SELECT at_ms, rps FROM history_{} WHERE service = ? AND instance = 0 \
         AND at_ms >= ? AND at_ms < ? AND covered_ms * 2 >= ? ORDER BY at_ms",
        resolution.as_str()
    );
    let bounds = params![service, signed(from_ms), signed(to_ms), signed(resolution.step_ms())];
    let sample = |row: &rusqlite::Row<'_>| {
        let at_ms: i64 = row.get(0)?;
        Ok(Sample { at_ms: u64::try_from(at_ms).unwrap_or(0), value: row.get(1)? })
    };
    db.prepare(&sql)?.query_map(bounds, sample)?.collect()
}

fn services(db: &Connection) -> rusqlite::Result<String> {
    let mut select = db.prepare("SELECT DISTINCT service FROM series ORDER BY service LIMIT 20")?;
    let names: Vec<String> =
        select.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<_, _>>()?;
    Ok(if names.is_empty() { "no service yet".to_owned() } else { names.join(", ") })
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database with the views that are read, and `rows` of minutes and hours.
    fn db(rows: &[(&str, &str, i64, f64, i64)]) -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE series (service TEXT)").unwrap();
        for name in ["1s", "1m", "15m", "1h"] {
            let sql = format!(
                "CREATE TABLE history_{name} (service TEXT, instance INT, at_ms INT, rps REAL, covered_ms INT)"
            );
            db.execute_batch(&sql).unwrap();
        }
        for (name, service, at_ms, rps, covered_ms) in rows {
            let sql = format!("INSERT INTO history_{name} VALUES (?, 0, ?, ?, ?)");
            db.execute(&sql, params![service, at_ms, rps, covered_ms]).unwrap();
        }
        db
    }

    #[test]
    fn the_finest_spans_that_reach_back_are_read_and_hardly_observed_ones_left_out() {
        let day = 86_400_000;
        let rows = [
            ("1m", "shop", 9 * day, 7.0, 60_000),
            ("15m", "shop", day + 900_000, 5.0, 900_000),
            ("15m", "shop", day + 1_800_000, 6.0, 100_000),
            ("15m", "other", day, 1.0, 900_000),
            ("1h", "shop", day, 5.5, 3_600_000),
        ];
        let db = db(&rows);
        let found = finest(&db, "shop", 0, 1 << 40).unwrap();
        assert_eq!(found.as_str(), "15m");
        let samples = spans(&db, "shop", found, (0, 1 << 40)).unwrap();
        assert_eq!(samples, [Sample { at_ms: 87_300_000, value: 5.0 }]);
    }

    #[test]
    fn a_missing_database_and_an_unkept_step_are_told() {
        assert!(resolution_of(5_000).unwrap_err().to_string().contains("1s, 1m, 15m or 1h"));
        assert_eq!(resolution_of(60_000).unwrap().as_str(), "1m");
    }
}
