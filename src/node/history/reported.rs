//! Metrics that instances and services report, kept by the minute, the quarter of an hour and the hour.

use std::collections::BTreeMap;

use foreshadow_config as config;
use foreshadow_control::{ServiceName, ServiceObservation};
use rusqlite::{Connection, Transaction, params};

use super::bucket::Resolution;
use super::store::{kept_ms, signed, unsigned};
use crate::node::view::View;

/// Most metrics that are kept at once, of all services and instances.
const MOST_SERIES: usize = 512;
/// A metric that was not reported for this long makes room for another.
const FORGET_MS: u64 = 600_000;
/// Minutes of metrics that may wait for the disk.
const MOST_WAITING: usize = 20_000;
/// Seconds are not kept: what is reported is seldom newer.
pub(super) const RESOLUTIONS: [Resolution; 3] =
    [Resolution::Minute, Resolution::Quarter, Resolution::Hour];
/// What is left of each however full the database is.
const LEAST_KEPT_MS: [u64; 3] = [86_400_000, 7 * 86_400_000, 28 * 86_400_000];

/// A metric of a service, or of one of its instances.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    service: ServiceName,
    /// The instance's id; 0 for the service.
    instance: u64,
    metric: String,
}

/// A metric over a time, looked at once per tick.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    ticks: u64,
    sum: f64,
    least: f64,
    most: f64,
}

/// What was reported and is not written yet; bounded, whatever is reported and the disk does.
#[derive(Default)]
pub(super) struct Reported {
    /// When each was last reported.
    known: BTreeMap<Key, u64>,
    /// By start of the minute.
    waiting: BTreeMap<(u64, Key), Span>,
    now_ms: u64,
    /// Whether it was said that there are more than are kept, as is still so.
    said_full: bool,
    /// Minutes given up since the disk took none.
    pub(super) lost: u64,
}

impl Reported {
    /// Takes one tick.
    pub(super) fn observe(&mut self, view: &View) {
        let minute_ms = Resolution::Minute.start_ms(view.now_ms);
        if minute_ms != Resolution::Minute.start_ms(self.now_ms) {
            self.known.retain(|_, seen_ms| seen_ms.abs_diff(view.now_ms) <= FORGET_MS);
            self.said_full &= self.known.len() >= MOST_SERIES;
        }
        self.now_ms = view.now_ms;
        for service in &view.observation.services {
            for (instance, metric, value) in values(service) {
                let (service, metric) = (service.service.clone(), metric.to_owned());
                self.take(minute_ms, Key { service, instance, metric }, value);
            }
        }
        while self.waiting.len() > MOST_WAITING {
            self.waiting.pop_first();
            self.lost = self.lost.saturating_add(1);
        }
    }

    fn take(&mut self, minute_ms: u64, key: Key, value: f64) {
        if !self.known.contains_key(&key) && self.known.len() >= MOST_SERIES {
            if !self.said_full {
                tracing::warn!(
                    most = MOST_SERIES,
                    "history: more metrics are reported than are kept; those that came first are"
                );
                self.said_full = true;
            }
            return;
        }
        self.known.insert(key.clone(), self.now_ms);
        let none = Span { ticks: 0, sum: 0.0, least: value, most: value };
        let span = self.waiting.entry((minute_ms, key)).or_insert(none);
        span.ticks += 1;
        span.sum += value;
        span.least = span.least.min(value);
        span.most = span.most.max(value);
    }

    /// Whether minutes that are over wait, or any do.
    pub(super) fn is_due(&self, all: bool) -> bool {
        self.waiting.keys().any(|(at_ms, _)| all || self.is_over(*at_ms))
    }

    /// A clock that was set back leaves minutes of a time to come, which are over as well.
    fn is_over(&self, at_ms: u64) -> bool {
        at_ms != Resolution::Minute.start_ms(self.now_ms)
    }

    /// Writes the minutes that are over, or all; they are added to what is there.
    pub(super) fn write(&mut self, db: &mut Connection, all: bool) -> rusqlite::Result<u64> {
        let transaction = db.transaction()?;
        let mut rows = 0;
        for ((at_ms, key), span) in &self.waiting {
            if !(all || self.is_over(*at_ms)) {
                continue;
            }
            let series = series(&transaction, key)?;
            for resolution in RESOLUTIONS {
                upsert(&transaction, resolution, series, resolution.start_ms(*at_ms), span)?;
                rows += 1;
            }
        }
        transaction.commit()?;
        let open_ms = Resolution::Minute.start_ms(self.now_ms);
        self.waiting.retain(|(at_ms, _), _| !all && *at_ms == open_ms);
        Ok(rows)
    }
}

/// What is reported of a service as a whole, then by its instances.
fn values(service: &ServiceObservation) -> impl Iterator<Item = (u64, &str, f64)> {
    let whole = service.signals.iter().map(|(name, value)| (0, name.as_str(), *value));
    let instances = service.instances.iter().flat_map(|instance| {
        let id = instance.instance.0;
        instance.reported.iter().map(move |(name, value)| (id, name.as_str(), *value))
    });
    whole.chain(instances).filter(|(_, _, value)| value.is_finite())
}

fn series(db: &Transaction<'_>, key: &Key) -> rusqlite::Result<i64> {
    // The update that changes nothing makes an existing row be returned, too.
    db.prepare_cached(
        "INSERT INTO metric_series (service, instance, metric) VALUES (?, ?, ?) \
         ON CONFLICT DO UPDATE SET metric = excluded.metric RETURNING id",
    )?
    .query_row(params![key.service.as_str(), signed(key.instance), key.metric], |row| row.get(0))
}

fn upsert(
    db: &Transaction<'_>,
    resolution: Resolution,
    series: i64,
    at_ms: u64,
    span: &Span,
) -> rusqlite::Result<usize> {
    let name = resolution.as_str();
    db.prepare_cached(&format!(
        "INSERT INTO metrics_{name} (series, at_ms, ticks, sum, least, most) \
         VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET \
         ticks = ticks + excluded.ticks, sum = sum + excluded.sum, \
         least = min(least, excluded.least), most = max(most, excluded.most)"
    ))?
    .execute(params![
        series,
        signed(at_ms),
        signed(span.ticks),
        span.sum,
        span.least,
        span.most
    ])
}

/// The tables, and the views of them that people read.
pub(super) fn tables() -> String {
    let tables = RESOLUTIONS.map(|resolution| {
        let name = resolution.as_str();
        format!(
            "CREATE TABLE metrics_{name} (
                series INTEGER NOT NULL REFERENCES metric_series,
                at_ms  INTEGER NOT NULL,
                ticks  INTEGER NOT NULL,
                sum    REAL NOT NULL,
                least  REAL NOT NULL,
                most   REAL NOT NULL,
                PRIMARY KEY (series, at_ms)
            ) STRICT, WITHOUT ROWID;
            CREATE INDEX metrics_{name}_by_time ON metrics_{name} (at_ms);
            CREATE VIEW reported_{name} AS SELECT
                service, instance, metric, at_ms,
                strftime('%Y-%m-%dT%H:%M:%SZ', at_ms / 1000, 'unixepoch') AS time,
                ticks, sum / max(ticks, 1) AS mean, least, most
            FROM metrics_{name} JOIN metric_series ON metric_series.id = metrics_{name}.series;\n"
        )
    });
    format!(
        "CREATE TABLE metric_series (
            id       INTEGER PRIMARY KEY,
            service  TEXT NOT NULL,
            instance INTEGER NOT NULL,
            metric   TEXT NOT NULL,
            UNIQUE (service, instance, metric)
        ) STRICT;
        {}",
        tables.concat()
    )
}

/// Removes rows whose time is over, and series without any.
pub(super) fn prune(db: &Connection, keep: &config::History, now_ms: u64) -> rusqlite::Result<()> {
    for resolution in RESOLUTIONS {
        remove(db, resolution, "<", now_ms.saturating_sub(kept_ms(keep, resolution)))?;
    }
    let none = RESOLUTIONS.map(|resolution| {
        let name = resolution.as_str();
        format!("NOT EXISTS (SELECT 1 FROM metrics_{name} AS m WHERE m.series = metric_series.id)")
    });
    db.execute(&format!("DELETE FROM metric_series WHERE {}", none.join(" AND ")), [])?;
    Ok(())
}

/// Removes the oldest tenth of the finest rows that can be spared; false where none can.
pub(super) fn make_room(db: &Connection, now_ms: u64) -> rusqlite::Result<bool> {
    for (resolution, least_ms) in RESOLUTIONS.into_iter().zip(LEAST_KEPT_MS) {
        let sql = format!("SELECT min(at_ms) FROM metrics_{}", resolution.as_str());
        let oldest: Option<i64> = db.query_row(&sql, [], |row| row.get(0))?;
        let Some(oldest_ms) = oldest.map(unsigned) else { continue };
        let span_ms = now_ms.saturating_sub(oldest_ms);
        if span_ms > least_ms {
            remove(db, resolution, "<", oldest_ms.saturating_add(span_ms / 10))?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes rows of a time to come, after `after_ms`.
pub(super) fn remove_ahead(db: &Connection, after_ms: u64) -> rusqlite::Result<()> {
    RESOLUTIONS.into_iter().try_for_each(|resolution| remove(db, resolution, ">", after_ms))
}

fn remove(
    db: &Connection,
    resolution: Resolution,
    which: &str,
    at_ms: u64,
) -> rusqlite::Result<()> {
    let name = resolution.as_str();
    db.execute(&format!("DELETE FROM metrics_{name} WHERE at_ms {which} ?"), [signed(at_ms)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::schema;
    use super::super::tests::{START_MS, keep, view};
    use super::*;

    /// A tick in which the service and its only instance report as much.
    fn tick(at_ms: u64, names: &[String], value: f64) -> View {
        let mut view = view(at_ms, 100, 1);
        let service = &mut view.observation.services[0];
        let values: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), value)).collect();
        service.signals.clone_from(&values);
        service.instances[0].reported = values;
        view
    }

    fn rows(db: &Connection, view: &str) -> Vec<(i64, String, i64, f64, f64)> {
        let sql = format!(
            "SELECT instance, metric, ticks, mean, most FROM {view} ORDER BY at_ms, instance"
        );
        let mut select = db.prepare(&sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        };
        select.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn what_is_reported_is_kept_by_the_minute_and_longer_and_for_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = schema::open(&dir.path().join("history.db")).unwrap();
        let (mut reported, names) = (Reported::default(), ["queue/depth".to_owned()]);
        for second in 0..150 {
            let value = if second < 60 { 2.0 } else { 6.0 };
            reported.observe(&tick(START_MS + second * 1_000, &names, value));
            if second % 7 == 0 {
                reported.write(&mut db, false).unwrap();
            }
        }
        assert_eq!(rows(&db, "reported_1m").len(), 4, "the third minute is not over");
        reported.write(&mut db, true).unwrap();
        assert!(!reported.is_due(true));
        let name = || "queue/depth".to_owned();
        let minutes = rows(&db, "reported_1m");
        assert_eq!(minutes[0], (0, name(), 60, 2.0, 2.0));
        assert_eq!(minutes[5], (1, name(), 30, 6.0, 6.0));
        for longer in ["reported_15m", "reported_1h"] {
            assert_eq!(rows(&db, longer)[1], (1, name(), 150, 4.4, 6.0), "{longer}");
        }
        let day_ms = 86_400_000;
        prune(&db, &keep(), START_MS + 15 * day_ms).unwrap();
        assert_eq!((rows(&db, "reported_1m").len(), rows(&db, "reported_1h").len()), (0, 2));
        prune(&db, &keep(), START_MS + 731 * day_ms).unwrap();
        let left = "SELECT count(*) FROM metric_series";
        assert_eq!(db.query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }

    #[test]
    fn metrics_without_number_and_a_disk_that_takes_nothing_cost_bounded_memory() {
        let mut reported = Reported::default();
        for minute in 0..100_u64 {
            let names: Vec<String> = (0..32).map(|n| format!("n{}", minute * 32 + n)).collect();
            reported.observe(&tick(START_MS + minute * 60_000, &names, 1.0));
            reported.observe(&tick(START_MS + minute * 60_000 + 100, &names, f64::NAN));
            assert!(reported.known.len() <= MOST_SERIES && reported.waiting.len() <= MOST_WAITING);
        }
        assert!(reported.waiting.values().all(|span| span.ticks == 1));
        let names: Vec<String> = (0..32).map(|n| format!("m{n}")).collect();
        for minute in 200..700_u64 {
            reported.observe(&tick(START_MS + minute * 60_000, &names, 1.0));
        }
        assert!(reported.waiting.len() <= MOST_WAITING && reported.lost > 0);
    }

    #[test]
    fn a_database_too_large_loses_the_oldest_minutes_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = schema::open(&dir.path().join("history.db")).unwrap();
        let (mut reported, names) = (Reported::default(), ["cpu".to_owned()]);
        for hour in 0..48 {
            reported.observe(&tick(START_MS + hour * 3_600_000, &names, 1.0));
        }
        reported.write(&mut db, true).unwrap();
        let day = Duration::from_secs(86_400);
        assert_eq!(keep().keep_1m, 14 * day);
        let now_ms = START_MS + 48 * 3_600_000;
        let mut rounds = 0;
        while make_room(&db, now_ms).unwrap() {
            rounds += 1;
        }
        assert!((2..30).contains(&rounds), "{rounds}");
        let left = rows(&db, "reported_1m").len();
        assert!((46..=52).contains(&left), "a day of it stays: {left}");
        assert_eq!(rows(&db, "reported_1h").len(), 96);
    }

    #[test]
    fn as_many_as_are_kept_are_not_too_many_and_one_more_is_said() {
        let mut reported = Reported::default();
        // Of the service and of its instance.
        let mut names: Vec<_> = (0..MOST_SERIES / 2).map(|n| format!("m{n}")).collect();
        for minute in 0..3 {
            reported.observe(&tick(START_MS + minute * 60_000, &names, 1.0));
            assert_eq!((reported.known.len(), reported.said_full), (MOST_SERIES, false));
        }
        names.push("one/more".to_owned());
        for minute in 3..5 {
            reported.observe(&tick(START_MS + minute * 60_000, &names, 1.0));
            assert_eq!((reported.known.len(), reported.said_full), (MOST_SERIES, true));
        }
    }
}
