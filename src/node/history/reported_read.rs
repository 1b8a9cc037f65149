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
