//! Reading what was kept of reported metrics.

use std::path::Path;

use anyhow::Context;
use foreshadow_control::ServiceName;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use super::bucket::Resolution;
use super::read::open;
use super::reported::RESOLUTIONS;
use super::store::{signed, unsigned};

/// Most metrics of one service that are listed.
const MOST_LISTED: u32 = 1_000;

/// Which spans to read, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct ReportedQuery {
    /// Of this service.
    pub(crate) service: ServiceName,
    /// Of this instance; 0 for the service as a whole.
    pub(crate) instance: u64,
    /// This metric or signal.
    pub(crate) metric: String,
    /// Spans of this length; a second has none.
    pub(crate) resolution: Resolution,
    /// That start at or after this Unix time.
    pub(crate) from_ms: u64,
    /// And before this one.
    pub(crate) until_ms: u64,
    /// At most so many, the newest.
    pub(crate) limit: u32,
}

/// One span of a metric, looked at once per tick.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Reported {
    /// Start, Unix time.
    pub(crate) at_ms: u64,
    /// Ticks in which it was known.
    pub(crate) ticks: u64,
    /// Mean over them.
    pub(crate) mean: f64,
    /// Lowest.
    pub(crate) least: f64,
    /// Highest.
    pub(crate) most: f64,
}

/// A metric of which something is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ReportedName {
    /// The instance's id; 0 for the service.
    #[serde(skip)]
    pub(crate) instance: u64,
    /// Its name.
    pub(crate) metric: String,
}

/// The spans of the database at `path` that `query` asks for; none where there is no database.
///
/// # Errors
/// When it cannot be read.
pub(super) fn spans(path: &Path, query: &ReportedQuery) -> anyhow::Result<Vec<Reported>> {
    if !RESOLUTIONS.contains(&query.resolution) {
        return Ok(Vec::new());
    }
    let Some(db) = open(path)? else { return Ok(Vec::new()) };
    read(&db, query).context("the history of metrics cannot be read")
}

fn read(db: &Connection, query: &ReportedQuery) -> rusqlite::Result<Vec<Reported>> {
    let mut named = db.prepare_cached(
        "SELECT id FROM metric_series WHERE service = ? AND instance = ? AND metric = ?",
    )?;
    let key = params![query.service.as_str(), signed(query.instance), query.metric];
    let Some(series) = named.query_row(key, |row| row.get::<_, i64>(0)).optional()? else {
        return Ok(Vec::new());
    };
    let name = query.resolution.as_str();
    let mut select = db.prepare_cached(&format!(
        "SELECT at_ms, ticks, sum, least, most FROM metrics_{name} \
         WHERE series = ? AND at_ms >= ? AND at_ms < ? ORDER BY at_ms DESC LIMIT ?"
    ))?;
    let bounds = params![series, signed(query.from_ms), signed(query.until_ms), query.limit];
    let rows = select.query_map(bounds, |row| {
        let (ticks, sum): (i64, f64) = (row.get(1)?, row.get(2)?);
        #[expect(clippy::cast_precision_loss, reason = "a span has far fewer than 2^53 ticks")]
        let mean = sum / ticks.max(1) as f64;
        Ok(Reported {
            at_ms: unsigned(row.get(0)?),
            ticks: unsigned(ticks),
            mean,
            least: row.get(3)?,
            most: row.get(4)?,
        })
    })?;
    let mut rows: Vec<Reported> = rows.collect::<Result<_, _>>()?;
    rows.reverse();
    Ok(rows)
}

/// Metrics of a service of which something is kept, those of the service first; at most 1,000.
///
/// # Errors
/// When the database cannot be read.
pub(super) fn names(path: &Path, service: &ServiceName) -> anyhow::Result<Vec<ReportedName>> {
    let Some(db) = open(path)? else { return Ok(Vec::new()) };
    let mut select = db.prepare(
        "SELECT instance, metric FROM metric_series WHERE service = ? \
         ORDER BY instance, metric LIMIT ?",
    )?;
    let rows = select.query_map(params![service.as_str(), MOST_LISTED], |row| {
        Ok(ReportedName { instance: unsigned(row.get(0)?), metric: row.get(1)? })
    })?;
    rows.collect::<Result<_, _>>().context("the history of metrics cannot be read")
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    #[test]
    fn the_newest_spans_of_one_metric_are_read_and_pages_meet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        let query = |metric: &str, resolution, until_ms, limit| ReportedQuery {
            service: ServiceName::from("shop"),
            instance: 3,
            metric: metric.to_owned(),
            resolution,
            from_ms: 60_000,
            until_ms,
            limit,
        };
        let shop = ServiceName::from("shop");
        assert!(spans(&path, &query("cpu", Resolution::Minute, 1 << 40, 9)).unwrap().is_empty());
        let db = schema::open(&path).unwrap();
        db.execute_batch(
            "INSERT INTO metric_series VALUES (1, 'shop', 0, 'backlog'), (2, 'shop', 3, 'cpu'), \
             (3, 'other', 3, 'cpu');",
        )
        .unwrap();
        for minute in 0..10 {
            let row = params![minute * 60_000, f64::from(minute) * 20.0];
            let sql = "INSERT INTO metrics_1m VALUES (2, ?1, 10, ?2, 0, ?2)";
            assert_eq!(db.execute(sql, row).unwrap(), 1);
        }
        let read = |metric, resolution, until_ms, limit| {
            let read = spans(&path, &query(metric, resolution, until_ms, limit)).unwrap();
            read.iter().map(|span| (span.at_ms / 60_000, span.mean)).collect::<Vec<_>>()
        };
        let newest = read("cpu", Resolution::Minute, u64::MAX, 3);
        assert_eq!(newest, [(7, 14.0), (8, 16.0), (9, 18.0)]);
        let before = read("cpu", Resolution::Minute, newest[0].0 * 60_000, 3);
        assert_eq!(before.last(), Some(&(6, 12.0)));
        assert_eq!(read("cpu", Resolution::Minute, u64::MAX, 99).len(), 9, "from the second on");
        assert!(read("cpu", Resolution::Hour, u64::MAX, 3).is_empty());
        assert!(read("cpu", Resolution::Second, u64::MAX, 3).is_empty());
        assert!(read("backlog", Resolution::Minute, u64::MAX, 3).is_empty());
        let names = names(&path, &shop).unwrap();
        let named: Vec<_> = names.iter().map(|it| (it.instance, it.metric.as_str())).collect();
        assert_eq!(named, [(0, "backlog"), (3, "cpu")]);
    }
}
