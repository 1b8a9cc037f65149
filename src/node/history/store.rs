//! Writing spans, and keeping the database within its bounds.

use std::collections::BTreeMap;

use foreshadow_config as config;
use rusqlite::{Connection, Transaction, params};

use super::bucket::{Bucket, Resolution, SeriesKey};
use super::pending::Pending;
use super::reported;
use super::schema::COLUMNS;
use crate::node::decisions::Event;

/// What is left of each resolution however full the database is.
const LEAST_KEPT_MS: [u64; 4] = [600_000, 86_400_000, 7 * 86_400_000, 28 * 86_400_000];

/// Rows this much later than now are of a clock that was ahead.
pub(crate) const AHEAD_MS: u64 = 3_600_000;

/// Ids of series, looked up once.
#[derive(Default)]
pub(super) struct SeriesIds(BTreeMap<SeriesKey, i64>);

impl SeriesIds {
    fn of(&mut self, db: &Transaction<'_>, key: &SeriesKey) -> rusqlite::Result<i64> {
        if let Some(id) = self.0.get(key) {
            return Ok(*id);
        }
        // The update that changes nothing makes an existing row be returned, too.
        let id = db
            .prepare_cached(
                "INSERT INTO series (service, instance) VALUES (?, ?) \
                 ON CONFLICT DO UPDATE SET instance = excluded.instance RETURNING id",
            )?
            .query_row(params![key.service.as_str(), signed(key.instance)], |row| row.get(0))?;
        self.0.insert(key.clone(), id);
        Ok(id)
    }

    /// Forgets ids, since what they stand for may not be there any more.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// Writes all that waits in one transaction; spans that are there already are added to.
pub(super) fn write(
    db: &mut Connection,
    ids: &mut SeriesIds,
    pending: &Pending,
) -> rusqlite::Result<u64> {
    let written = write_all(db, ids, pending);
    if written.is_err() {
        // Whatever failed, ids that were given out in the transaction do not exist.
        ids.forget();
    }
    written
}

fn write_all(db: &mut Connection, ids: &mut SeriesIds, pending: &Pending) -> rusqlite::Result<u64> {
    let transaction = db.transaction()?;
    let mut rows = 0;
    for (resolution, spans) in pending.waiting() {
        let mut upsert = transaction.prepare_cached(&upsert_sql(resolution))?;
        for ((key, at_ms), bucket) in spans {
            let series = ids.of(&transaction, key)?;
            execute(&mut upsert, series, *at_ms, bucket)?;
            rows += 1;
        }
    }
    transaction.commit()?;
    Ok(rows)
}

/// Writes events that have started; one that is there already is the same one.
pub(super) fn remember_events(db: &mut Connection, events: &[Event]) -> rusqlite::Result<u64> {
    let transaction = db.transaction()?;
    for event in events {
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO events (service, name, start_ms, end_ms, lift) \
                 VALUES (?, ?, ?, ?, ?)",
            )?
            .execute(params![
                event.service,
                event.name,
                signed(event.start_ms),
                signed(event.end_ms),
                event.lift
            ])?;
    }
    transaction.commit()?;
    Ok(0)
}

fn upsert_sql(resolution: Resolution) -> String {
    let name = resolution.as_str();
    let sums = [
        "covered_ms",
        "ticks",
        "requests",
        "unserved",
        "errors",
        "answers",
        "latency_sum_ms",
        "latency_p50_sum_ms",
        "latency_p99_sum_ms",
        "in_flight_sum",
        "weight_sum",
        "capacity_sum",
    ];
    let least = ["least_rps", "in_flight_least", "weight_least", "capacity_least"];
    let most = ["most_rps", "latency_max_ms", "in_flight_most", "weight_most", "capacity_most"];
    let mut sets: Vec<String> =
        sums.iter().map(|column| format!("{column} = {column} + excluded.{column}")).collect();
    sets.extend(least.iter().map(|column| format!("{column} = min({column}, excluded.{column})")));
    sets.extend(most.iter().map(|column| format!("{column} = max({column}, excluded.{column})")));
    let places = vec!["?"; COLUMNS.split(',').count() + 2].join(", ");
    format!(
        "INSERT INTO samples_{name} (series, at_ms, {COLUMNS}) VALUES ({places}) \
         ON CONFLICT DO UPDATE SET {}",
        sets.join(", ")
    )
}

fn execute(
    upsert: &mut rusqlite::CachedStatement<'_>,
    series: i64,
    at_ms: u64,
    bucket: &Bucket,
) -> rusqlite::Result<usize> {
    let (latency, in_flight) = (&bucket.latency, &bucket.in_flight);
    let (weight, capacity) = (&bucket.weight, &bucket.capacity_rps);
    upsert.execute(params![
        series,
        signed(at_ms),
        signed(bucket.covered_ms),
        signed(bucket.ticks),
        signed(bucket.requests),
        bucket.least_rps,
        bucket.most_rps,
        signed(bucket.unserved),
        signed(bucket.errors),
        signed(latency.count),
        latency.sum_ms,
        latency.p50_sum_ms,
        latency.p99_sum_ms,
        latency.max_ms,
        in_flight.sum,
        in_flight.least,
        in_flight.most,
        weight.sum,
        weight.least,
        weight.most,
        capacity.sum,
        capacity.least,
        capacity.most,
    ])
}

/// How long rows of a resolution are kept.
pub(super) fn kept_ms(keep: &config::History, resolution: Resolution) -> u64 {
    let kept = match resolution {
        Resolution::Second => keep.keep_1s,
        Resolution::Minute => keep.keep_1m,
        Resolution::Quarter => keep.keep_15m,
        Resolution::Hour => keep.keep_1h,
    };
    u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)
}

/// What is left after pruning.
pub(super) struct Pruned {
    /// Bytes in use.
    pub(super) bytes: u64,
    /// Whether that is too many, and nothing more may go.
    pub(super) is_stuck: bool,
}

/// Removes rows whose time is over, and where the rest is still too large the oldest tenth of the
/// finest resolution that can spare it.
pub(super) fn prune(
    db: &mut Connection,
    keep: &config::History,
    now_ms: u64,
) -> rusqlite::Result<Pruned> {
    let oldest_event_ms = now_ms.saturating_sub(kept_ms(keep, Resolution::Hour));
    db.execute("DELETE FROM events WHERE end_ms < ?", [signed(oldest_event_ms)])?;
    for resolution in Resolution::ALL {
        remove_before(db, resolution, now_ms.saturating_sub(kept_ms(keep, resolution)))?;
    }
    reported::prune(db, keep, now_ms)?;
    let mut is_stuck = used_bytes(db)? > keep.max_size;
    if is_stuck && reported::make_room(db, now_ms)? {
        is_stuck = false;
    } else if is_stuck {
        for (resolution, least_ms) in Resolution::ALL.into_iter().zip(LEAST_KEPT_MS) {
            let Some(oldest_ms) = oldest_ms(db, resolution)? else { continue };
            let span_ms = now_ms.saturating_sub(oldest_ms);
            if span_ms > least_ms {
                let before_ms = oldest_ms.saturating_add((span_ms / 10).max(resolution.step_ms()));
                remove_before(db, resolution, before_ms)?;
                is_stuck = false;
                break;
            }
        }
    }
    give_back(db)?;
    Ok(Pruned { bytes: used_bytes(db)?, is_stuck })
}

/// Returns pages that hold nothing to the file system, some at a time.
fn give_back(db: &Connection) -> rusqlite::Result<()> {
    let mut vacuum = db.prepare_cached("PRAGMA incremental_vacuum(2000)")?;
    // Each step gives one page back.
    let mut freed = vacuum.query([])?;
    while freed.next()?.is_some() {}
    Ok(())
}

fn remove_before(db: &mut Connection, resolution: Resolution, at_ms: u64) -> rusqlite::Result<()> {
    remove(db, resolution, "at_ms < ?", at_ms)
}

/// Removes rows of a time to come.
pub(super) fn remove_ahead(db: &mut Connection, now_ms: u64) -> rusqlite::Result<()> {
    let after_ms = now_ms.saturating_add(AHEAD_MS);
    reported::remove_ahead(db, after_ms)?;
    Resolution::ALL
        .into_iter()
        .try_for_each(|resolution| remove(db, resolution, "at_ms > ?", after_ms))
}

/// Series by series, so that each removal is a range of the table and a short transaction.
fn remove(
    db: &mut Connection,
    resolution: Resolution,
    which: &str,
    at_ms: u64,
) -> rusqlite::Result<()> {
    let name = resolution.as_str();
    let delete = format!("DELETE FROM samples_{name} WHERE series = ? AND {which}");
    for id in series_ids(db)? {
        db.prepare_cached(&delete)?.execute(params![id, signed(at_ms)])?;
    }
    Ok(())
}

fn oldest_ms(db: &Connection, resolution: Resolution) -> rusqlite::Result<Option<u64>> {
    let name = resolution.as_str();
    let mut least =
        db.prepare_cached(&format!("SELECT min(at_ms) FROM samples_{name} WHERE series = ?"))?;
    let mut oldest: Option<i64> = None;
    for id in series_ids(db)? {
        let found: Option<i64> = least.query_row([id], |row| row.get(0))?;
        oldest = found.into_iter().chain(oldest).min();
    }
    Ok(oldest.map(unsigned))
}

fn series_ids(db: &Connection) -> rusqlite::Result<Vec<i64>> {
    db.prepare_cached("SELECT id FROM series")?.query_map([], |row| row.get(0))?.collect()
}

/// Removes series that have no rows any more, such as those of shadows long gone.
pub(super) fn remove_empty_series(db: &Connection) -> rusqlite::Result<usize> {
    let none = Resolution::ALL.map(|resolution| {
        let name = resolution.as_str();
        format!("NOT EXISTS (SELECT 1 FROM samples_{name} AS s WHERE s.series = series.id)")
    });
    db.execute(&format!("DELETE FROM series WHERE {}", none.join(" AND ")), [])
}

/// Start of the newest span there is, those of a time to come left out.
pub(super) fn newest_ms(db: &Connection, now_ms: u64) -> rusqlite::Result<Option<u64>> {
    newest(db, "at_ms <= ?", now_ms.saturating_add(AHEAD_MS))
}

/// Whether there are rows of a time to come.
pub(super) fn is_ahead(db: &Connection, now_ms: u64) -> rusqlite::Result<bool> {
    Ok(newest(db, "at_ms > ?", now_ms.saturating_add(AHEAD_MS))?.is_some())
}

fn newest(db: &Connection, which: &str, at_ms: u64) -> rusqlite::Result<Option<u64>> {
    let sql = format!("SELECT max(at_ms) FROM samples_1h WHERE series = ? AND {which}");
    let mut newest = db.prepare_cached(&sql)?;
    let mut latest: Option<i64> = None;
    for id in series_ids(db)? {
        latest = latest.max(newest.query_row(params![id, signed(at_ms)], |row| row.get(0))?);
    }
    Ok(latest.map(unsigned))
}

fn used_bytes(db: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok(unsigned(pages.saturating_mul(pragma("page_size")?)))
}

/// SQLite integers are signed; times and counts stay far below the limit.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
