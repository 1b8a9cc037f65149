//! Reading what was kept.

use std::path::Path;

use anyhow::Context;
use foreshadow_control::ServiceName;
use foreshadow_predictor::long::Event;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use super::bucket::{Bucket, Gauge, Latency, Resolution, float};
use super::schema::{COLUMNS, open_to_read};
use super::store::{signed, unsigned};

/// Which spans to read, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// Of this service.
    pub(crate) service: ServiceName,
    /// Of this instance; 0 for the service as a whole.
    pub(crate) instance: u64,
    /// Spans of this length.
    pub(crate) resolution: Resolution,
    /// That start at or after this Unix time.
    pub(crate) from_ms: u64,
    /// And before this one.
    pub(crate) until_ms: u64,
    /// At most so many, the newest.
    pub(crate) limit: u32,
}

/// One span as people read it: rates and means of the time that was observed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Span {
    /// Start, Unix time.
    pub(crate) at_ms: u64,
    /// Time that was observed; less than the span where Foreshadow did not run throughout.
    pub(crate) covered_ms: u64,
    /// Requests per second.
    pub(crate) rps: f64,
    /// Lowest and highest second.
    pub(crate) least_rps: f64,
    /// Highest second.
    pub(crate) most_rps: f64,
    /// Requests that no instance could take.
    pub(crate) unserved: u64,
    /// Failed requests.
    pub(crate) errors: u64,
    /// Answers measured.
    pub(crate) answers: u64,
    /// Mean latency of them.
    pub(crate) latency_mean_ms: f64,
    /// Mean of the medians of its ticks.
    pub(crate) latency_p50_ms: f64,
    /// Mean of the 99th percentiles of its ticks.
    pub(crate) latency_p99_ms: f64,
    /// Slowest answer.
    pub(crate) latency_max_ms: f64,
    /// Requests being answered, on average.
    pub(crate) in_flight_mean: f64,
    /// Most of them.
    pub(crate) in_flight_most: f64,
    /// Weight of an instance, on average.
    pub(crate) weight_mean: f64,
    /// Capacity as learned, on average; of a service, that of the instances that serve.
    pub(crate) capacity_rps: f64,
}

impl Span {
    fn new(at_ms: u64, bucket: &Bucket) -> Self {
        let per = |sum: f64, count: u64| if count == 0 { 0.0 } else { sum / float(count) };
        let latency = &bucket.latency;
        Self {
            at_ms,
            covered_ms: bucket.covered_ms,
            rps: bucket.rps(),
            least_rps: bucket.least_rps,
            most_rps: bucket.most_rps,
            unserved: bucket.unserved,
            errors: bucket.errors,
            answers: latency.count,
            latency_mean_ms: per(latency.sum_ms, latency.count),
            latency_p50_ms: per(latency.p50_sum_ms, latency.count),
            latency_p99_ms: per(latency.p99_sum_ms, latency.count),
            latency_max_ms: latency.max_ms,
            in_flight_mean: per(bucket.in_flight.sum, bucket.ticks),
            in_flight_most: bucket.in_flight.most,
            weight_mean: per(bucket.weight.sum, bucket.ticks),
            capacity_rps: per(bucket.capacity_rps.sum, bucket.ticks),
        }
    }
}

/// The spans of the database at `path` that `query` asks for; none where there is no database.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn spans(path: &Path, query: &Query) -> anyhow::Result<Vec<Span>> {
    let Some(db) = open(path)? else { return Ok(Vec::new()) };
    let rows = buckets(&db, query).context("the history cannot be read")?;
    Ok(rows.iter().map(|(at_ms, bucket)| Span::new(*at_ms, bucket)).collect())
}

/// Start of the first span that `query` asks for, whatever its limit.
///
/// # Errors
/// When the database cannot be read.
pub(crate) fn first_ms(path: &Path, query: &Query) -> anyhow::Result<Option<u64>> {
    let Some(db) = open(path)? else { return Ok(None) };
    let Some(series) = series(&db, query)? else { return Ok(None) };
    let name = query.resolution.as_str();
    let sql = format!(
        "SELECT min(at_ms) FROM samples_{name} WHERE series = ? AND at_ms >= ? AND at_ms < ?"
    );
    let bounds = params![series, signed(query.from_ms), signed(query.until_ms)];
    let first: Option<i64> = db.query_row(&sql, bounds, |row| row.get(0))?;
    Ok(first.map(unsigned))
}

/// Names of services that history is kept of, the first few.
///
/// # Errors
/// When the database cannot be read.
pub(crate) fn services(path: &Path) -> anyhow::Result<Vec<String>> {
    let Some(db) = open(path)? else { return Ok(Vec::new()) };
    let mut select = db.prepare("SELECT DISTINCT service FROM series ORDER BY service LIMIT 20")?;
    let names = select.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

pub(super) fn open(path: &Path) -> anyhow::Result<Option<Connection>> {
    if !path.exists() {
        return Ok(None);
    }
    let db = open_to_read(path).map_err(|fault| {
        anyhow::anyhow!("the history {} cannot be read: {fault}", path.display())
    })?;
    Ok(Some(db))
}

/// Events of a service that have started, newest first.
pub(super) fn events(path: &Path, service: &ServiceName) -> anyhow::Result<Vec<Event>> {
    let Some(db) = open(path)? else { return Ok(Vec::new()) };
    let mut select = db.prepare(
        "SELECT name, start_ms, end_ms, lift FROM events WHERE service = ? \
         ORDER BY start_ms DESC LIMIT 10000",
    )?;
    let rows = select.query_map([service.as_str()], |row| {
        Ok(Event {
            kind: row.get(0)?,
            start_ms: unsigned(row.get(1)?),
            end_ms: unsigned(row.get(2)?),
            expected_lift: Some(row.get(3)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Start and content of the spans `query` asks for, oldest first.
pub(super) fn buckets(db: &Connection, query: &Query) -> rusqlite::Result<Vec<(u64, Bucket)>> {
    let Some(series) = series(db, query)? else { return Ok(Vec::new()) };
    let name = query.resolution.as_str();
    let sql = format!(
        "SELECT at_ms, {COLUMNS} FROM samples_{name} \
         WHERE series = ? AND at_ms >= ? AND at_ms < ? ORDER BY at_ms DESC LIMIT ?"
    );
    let mut select = db.prepare_cached(&sql)?;
    let bounds = params![series, signed(query.from_ms), signed(query.until_ms), query.limit];
    let rows = select.query_map(bounds, bucket)?;
    let mut rows: Vec<(u64, Bucket)> = rows.collect::<Result<_, _>>()?;
    rows.reverse();
    Ok(rows)
}

fn series(db: &Connection, query: &Query) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM series WHERE service = ? AND instance = ?")?
        .query_row(params![query.service.as_str(), signed(query.instance)], |row| row.get(0))
        .optional()
}

fn bucket(row: &Row<'_>) -> rusqlite::Result<(u64, Bucket)> {
    let count = |column: usize| row.get(column).map(unsigned);
    let gauge = |column: usize| {
        Ok::<_, rusqlite::Error>(Gauge {
            sum: row.get(column)?,
            least: row.get(column + 1)?,
            most: row.get(column + 2)?,
        })
    };
    let bucket = Bucket {
        covered_ms: count(1)?,
        ticks: count(2)?,
        requests: count(3)?,
        least_rps: row.get(4)?,
        most_rps: row.get(5)?,
        unserved: count(6)?,
        errors: count(7)?,
        latency: Latency {
            count: count(8)?,
            sum_ms: row.get(9)?,
            p50_sum_ms: row.get(10)?,
            p99_sum_ms: row.get(11)?,
            max_ms: row.get(12)?,
        },
        in_flight: gauge(13)?,
        weight: gauge(16)?,
        capacity_rps: gauge(19)?,
    };
    Ok((count(0)?, bucket))
}
