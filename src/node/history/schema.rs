//! The tables of `history.db`, and opening it: see `docs/history.md`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::bucket::Resolution;
use crate::node::private;

/// Each entry brings the database one `user_version` further; entries never change once released.
const MIGRATIONS: &[fn() -> String] = &[first, second, super::reported::tables];

/// Columns of every table of samples, in the order in which they are written and read.
pub(super) const COLUMNS: &str = "covered_ms, ticks, requests, least_rps, most_rps, unserved, \
     errors, answers, latency_sum_ms, latency_p50_sum_ms, latency_p99_sum_ms, latency_max_ms, \
     in_flight_sum, in_flight_least, in_flight_most, weight_sum, weight_least, weight_most, \
     capacity_sum, capacity_least, capacity_most";

fn first() -> String {
    let samples = Resolution::ALL.map(|resolution| samples(resolution.as_str()));
    format!(
        "CREATE TABLE series (
            id       INTEGER PRIMARY KEY,
            service  TEXT NOT NULL,
            instance INTEGER NOT NULL,
            UNIQUE (service, instance)
        ) STRICT;
        CREATE TABLE learned (
            service  TEXT PRIMARY KEY,
            at_ms    INTEGER NOT NULL,
            format   INTEGER NOT NULL,
            version  TEXT NOT NULL,
            checksum INTEGER NOT NULL,
            state    BLOB NOT NULL
        ) STRICT;
        CREATE TABLE events (
            service  TEXT NOT NULL,
            name     TEXT NOT NULL,
            start_ms INTEGER NOT NULL,
            end_ms   INTEGER NOT NULL,
            lift     REAL NOT NULL,
            PRIMARY KEY (service, name, start_ms)
        ) STRICT;
        {}",
        samples.concat()
    )
}

fn second() -> String {
    "CREATE TABLE curve_scores (
        service TEXT NOT NULL,
        reach   TEXT NOT NULL,
        at_ms   INTEGER NOT NULL,
        state   TEXT NOT NULL,
        PRIMARY KEY (service, reach)
    ) STRICT;"
        .to_owned()
}

/// The table of one resolution, and the view of it that people read.
fn samples(name: &str) -> String {
    format!(
        "CREATE TABLE samples_{name} (
                series             INTEGER NOT NULL REFERENCES series,
                at_ms              INTEGER NOT NULL,
                covered_ms         INTEGER NOT NULL,
                ticks              INTEGER NOT NULL,
                requests           INTEGER NOT NULL,
                least_rps          REAL NOT NULL,
                most_rps           REAL NOT NULL,
                unserved           INTEGER NOT NULL,
                errors             INTEGER NOT NULL,
                answers            INTEGER NOT NULL,
                latency_sum_ms     REAL NOT NULL,
                latency_p50_sum_ms REAL NOT NULL,
                latency_p99_sum_ms REAL NOT NULL,
                latency_max_ms     REAL NOT NULL,
                in_flight_sum      REAL NOT NULL,
                in_flight_least    REAL NOT NULL,
                in_flight_most     REAL NOT NULL,
                weight_sum         REAL NOT NULL,
                weight_least       REAL NOT NULL,
                weight_most        REAL NOT NULL,
                capacity_sum       REAL NOT NULL,
                capacity_least     REAL NOT NULL,
                capacity_most      REAL NOT NULL,
                PRIMARY KEY (series, at_ms)
            ) STRICT, WITHOUT ROWID;
            CREATE VIEW history_{name} AS SELECT
                service, instance, at_ms,
                strftime('%Y-%m-%dT%H:%M:%SZ', at_ms / 1000, 'unixepoch') AS time,
                covered_ms,
                requests * 1000.0 / max(covered_ms, 1) AS rps, least_rps, most_rps,
                unserved, errors, answers,
                latency_sum_ms / max(answers, 1) AS latency_mean_ms,
                latency_p50_sum_ms / max(answers, 1) AS latency_p50_ms,
                latency_p99_sum_ms / max(answers, 1) AS latency_p99_ms,
                latency_max_ms,
                in_flight_sum / max(ticks, 1) AS in_flight_mean, in_flight_most,
                weight_sum / max(ticks, 1) AS weight_mean,
                capacity_sum / max(ticks, 1) AS capacity_rps
            FROM samples_{name} JOIN series ON series.id = samples_{name}.series;\n"
    )
}

/// Why the database cannot be used.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is not a database, or damaged: nothing in it can be trusted.
    Broken(rusqlite::Error),
    /// It was written by a later release; it is left as it is.
    Newer { found: i64, known: i64 },
    /// It cannot be read or written now: no room, no permission, another process.
    Unavailable(rusqlite::Error),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "it is damaged: {error}"),
            Self::Newer { found, known } => write!(
                f,
                "it was written by a later release (version {found}, this one knows {known}); \
                 move it away or run that release"
            ),
            Self::Unavailable(error) => write!(f, "{error}"),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Broken(error),
            _ => Self::Unavailable(error),
        }
    }
}

/// Opens or creates the database and brings its schema up to date.
pub(super) fn open(path: &Path) -> Result<Connection, Fault> {
    // Where it cannot be made, SQLite says why.
    private::make_file(path).ok();
    let mut db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(5))?;
    // Before the first table, or it has no effect: what is removed can then be given back.
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // A crash of this process loses nothing committed; of the machine, at most seconds.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "journal_size_limit", 64 << 20)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let transaction = db.transaction()?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(Fault::Newer { found, known });
    }
    for (version, migration) in (1_i64..).zip(MIGRATIONS) {
        if version > found {
            transaction.execute_batch(&migration())?;
            transaction.pragma_update(None, "user_version", version)?;
        }
    }
    transaction.commit()?;
    Ok(db)
}

/// Opens it to read only, while another connection may write.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(5))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(Fault::Newer { found, known });
    }
    Ok(db)
}

/// Opens it, a damaged one being moved out of the way first. The second value says that it was.
pub(super) fn open_or_begin_anew(path: &Path) -> Result<(Connection, bool), Fault> {
    match open(path) {
        Ok(db) => Ok((db, false)),
        Err(Fault::Broken(error)) => {
            let aside = set_aside(path);
            tracing::error!(
                %error, path = %path.display(), aside = %aside.display(),
                "the history is damaged: it was moved aside and a new one begun"
            );
            open(path).map(|db| (db, true))
        }
        Err(other) => Err(other),
    }
}

/// Moves the database to `<path>.broken`, over an older one, and removes what belongs to it.
pub(super) fn set_aside(path: &Path) -> PathBuf {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let aside = beside(".broken");
    if let Err(error) = std::fs::rename(path, &aside) {
        tracing::error!(%error, path = %path.display(), "the damaged history cannot be moved aside");
    }
    for end in ["-wal", "-shm"] {
        // Neither exists after a clean end.
        std::fs::remove_file(beside(end)).ok();
    }
    aside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_database_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        std::fs::write(&path, "this is no database, and longer than a header is ".repeat(9))
            .unwrap();
        assert!(matches!(open(&path), Err(Fault::Broken(_))));
        let (db, anew) = open_or_begin_anew(&path).unwrap();
        assert!(anew);
        db.execute("INSERT INTO series (service, instance) VALUES ('shop', 0)", []).unwrap();
        assert!(dir.path().join("history.db.broken").exists());
        drop(db);
        assert!(!open_or_begin_anew(&path).unwrap().1);
    }

    #[test]
    fn a_later_version_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let fault = open_or_begin_anew(&path).unwrap_err();
        assert!(matches!(fault, Fault::Newer { found: 99, .. }), "{fault}");
        assert!(path.exists());
    }

    #[test]
    fn people_can_query_every_resolution() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(&dir.path().join("history.db")).unwrap();
        db.execute("INSERT INTO series (service, instance) VALUES ('shop', 0)", []).unwrap();
        for resolution in Resolution::ALL {
            let name = resolution.as_str();
            let values = format!(
                "INSERT INTO samples_{name} (series, at_ms, {COLUMNS}) VALUES \
                 (1, 1795303800000, 500, 5, 50, 0, 0, 0, 0, 10, 20, 10, 30, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)"
            );
            db.execute(&values, []).unwrap();
            let view = format!("SELECT time, rps, latency_mean_ms FROM history_{name}");
            let row: (String, f64, f64) =
                db.query_row(&view, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
            assert_eq!(row, ("2026-11-21T23:30:00Z".to_owned(), 100.0, 2.0));
        }
    }
}
