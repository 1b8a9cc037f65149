//! Decision records: what was decided, from what, and why; kept in the state database.

mod migrations;
mod standing;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use foreshadow_control::{AlertKind, Law, ServiceObservation, ServicePlan};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

pub(crate) use standing::MOST_EVENTS;

/// Records that wait for the disk; beyond it they are dropped and counted, the tick never waits.
const QUEUE: usize = 4096;
/// Records on a page where nothing is said, and at most.
pub(crate) const PAGE: u32 = 50;
pub(crate) const LONGEST_PAGE: u32 = 1000;
/// How long others may keep the database to themselves, and at the end.
const PATIENCE: Duration = Duration::from_secs(5);
const END_PATIENCE: Duration = Duration::from_secs(1);
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA busy_timeout = 5000;
    CREATE TABLE IF NOT EXISTS decisions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        tick INTEGER NOT NULL,
        service TEXT NOT NULL,
        kind TEXT NOT NULL,
        laws TEXT NOT NULL,
        summary TEXT NOT NULL,
        record TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS decisions_by_service ON decisions (service, id);
    CREATE TABLE IF NOT EXISTS events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        service TEXT NOT NULL,
        name TEXT NOT NULL,
        start_ms INTEGER NOT NULL,
        end_ms INTEGER NOT NULL,
        lift REAL NOT NULL
    );
    CREATE TABLE IF NOT EXISTS orders (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        orders TEXT NOT NULL
    );
";

/// What a decision record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The controller changed weights, took or advised actions, or raised or cleared an alert.
    Plan,
    /// An operator changed a mode, drained, activated, announced or stopped automation.
    Operator,
    /// The configuration was read again, with or without success.
    Reload,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Operator => "operator",
            Self::Reload => "reload",
        }
    }
}

/// One record on its way to the database.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Decision {
    /// Unix time.
    pub(crate) at_ms: u64,
    /// Tick it was taken in.
    pub(crate) tick: u64,
    /// The service; empty for the whole node.
    pub(crate) service: String,
    /// What it is about.
    pub(crate) kind: Kind,
    /// Laws that decided.
    pub(crate) laws: Vec<Law>,
    /// One sentence each for everything that changed.
    pub(crate) summary: Vec<String>,
    /// Alerts that hold.
    pub(crate) alerts: Vec<AlertKind>,
    /// What the controller saw, for plans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observation: Option<ServiceObservation>,
    /// What it decided, for plans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<ServicePlan>,
}

/// A record as read back.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StoredDecision {
    /// Row, rising with time.
    pub(crate) id: i64,
    /// The record.
    #[serde(flatten)]
    pub(crate) record: serde_json::Value,
}

/// Which records to read, newest first.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    /// Only of this service.
    pub(crate) service: Option<String>,
    /// Only of this kind.
    pub(crate) kind: Option<Kind>,
    /// Only those in which this law decided.
    pub(crate) law: Option<Law>,
    /// Only rows below this id: the last id of the page before.
    pub(crate) before: Option<i64>,
    /// Only at or after this Unix time.
    pub(crate) since_ms: Option<u64>,
    /// Page size, 1 to 1000; 50 when absent.
    pub(crate) limit: Option<u32>,
}

/// An announced event: demand is expected to be `lift` times what it would be otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    /// The service.
    pub(crate) service: String,
    /// What happens.
    pub(crate) name: String,
    /// Start, Unix time.
    pub(crate) start_ms: u64,
    /// End, Unix time.
    pub(crate) end_ms: u64,
    /// Expected demand relative to none of it, above 0 and at most 100.
    pub(crate) lift: f64,
}

/// The decision log: a bounded queue in front of one writing thread.
#[derive(Debug)]
pub(crate) struct DecisionLog {
    queue: Mutex<Option<SyncSender<Decision>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    reader: Mutex<Connection>,
    dropped: Arc<AtomicU64>,
}

impl DecisionLog {
    /// Opens the tables in the state database at `path` and starts the writer.
    ///
    /// # Errors
    /// When the database cannot be opened or the thread not started.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let writer = connect(path)?;
        writer
            .execute_batch(SCHEMA)
            .and_then(|()| writer.execute_batch(migrations::SCHEMA))
            .with_context(|| format!("cannot prepare {}", path.display()))?;
        let reader = connect(path)?;
        let (queue, records) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let writer = std::thread::Builder::new()
            .name("decisions".to_owned())
            .spawn(move || writer::write_all(&writer, &records, &lost))
            .context("cannot start the decision writer")?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
            reader: Mutex::new(reader),
            dropped,
        })
    }

    /// Queues a record; never waits.
    pub(crate) fn record(&self, decision: Decision) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queue.as_ref()
            && let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
                queue.try_send(decision)
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records lost because the disk was too slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what is queued, stops the writer, and brings all of it from the log that SQLite keeps
    /// beside the database into the database: a copy of that file alone is whole then.
    pub(crate) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|w| w.join().is_err()) {
            tracing::error!("the decision writer ended badly; the last records may be lost");
        }
        let db = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        match gather(&db) {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                "somebody reads the state database: its last changes stay in foreshadow.db-wal, \
                 which belongs to it"
            ),
            Err(error) => tracing::warn!(%error, "the state database is not gathered in one file"),
        }
    }

    /// Reads a page. Blocks on the disk: not for the tick or an async worker.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn page(&self, query: &Query) -> anyhow::Result<Vec<StoredDecision>> {
        read_page(&self.reader.lock().unwrap_or_else(PoisonError::into_inner), query)
    }

    /// Whether there are records of a service. Blocks on the disk.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn has_any_of(&self, service: &str) -> anyhow::Result<bool> {
        let db = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let sql = "SELECT EXISTS (SELECT 1 FROM decisions WHERE service = ?)";
        Ok(db.query_row(sql, [service], |row| row.get(0))?)
    }
}

/// Reads a page of the state database at `path` without a running node.
///
/// # Errors
/// When the file is missing or cannot be read.
pub(crate) fn read_file(path: &Path, query: &Query) -> anyhow::Result<Vec<StoredDecision>> {
    anyhow::ensure!(
        path.exists(),
        "there is no state database at {}; name the state directory with --state-dir, or the configuration with -c",
        path.display()
    );
    let db = connect(path)?;
    let present = db
        .query_row("SELECT 1 FROM sqlite_master WHERE name = 'decisions'", [], |_| Ok(()))
        .optional()?;
    if present.is_none() {
        return Ok(Vec::new());
    }
    read_page(&db, query)
}

fn connect(path: &Path) -> anyhow::Result<Connection> {
    let db = Connection::open(path)
        .with_context(|| format!("cannot open the state database {}", path.display()))?;
    db.busy_timeout(PATIENCE)?;
    Ok(db)
}

/// Brings everything into the database file itself; false where others are in the way.
fn gather(db: &Connection) -> rusqlite::Result<bool> {
    db.busy_timeout(END_PATIENCE)?;
    let is_busy = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    db.busy_timeout(PATIENCE)?;
    Ok(is_busy? == 0)
}

fn read_page(db: &Connection, query: &Query) -> anyhow::Result<Vec<StoredDecision>> {
    let law = query.law.map(|law| serde_json::to_string(&law)).transpose()?;
    let mut rows = db.prepare_cached(
        "SELECT id, record FROM decisions WHERE (?1 IS NULL OR service = ?1) \
         AND (?2 IS NULL OR kind = ?2) AND (?3 IS NULL OR instr(laws, ?3) > 0) \
         AND (?4 IS NULL OR id < ?4) AND (?5 IS NULL OR at_ms >= ?5) ORDER BY id DESC LIMIT ?6",
    )?;
    let page = rows.query_map(
        params![
            query.service,
            query.kind.map(Kind::as_str),
            law,
            query.before,
            query.since_ms.map(signed),
            query.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE),
        ],
        |row| Ok((row.get(0)?, row.get::<_, String>(1)?)),
    )?;
    page.map(|row| {
        let (id, text) = row?;
        let record = serde_json::from_str(&text)
            .with_context(|| format!("decision {id} of the state database is damaged"))?;
        Ok(StoredDecision { id, record })
    })
    .collect()
}

/// SQLite integers are signed; times and ticks stay far below the limit.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn decision(tick: u64, service: &str, law: Law) -> Decision {
        Decision {
            at_ms: 1_000 + tick,
            tick,
            service: service.to_owned(),
            kind: Kind::Plan,
            laws: vec![law],
            summary: vec![format!("tick {tick}")],
            alerts: Vec::new(),
            observation: None,
            plan: None,
        }
    }

    #[test]
    fn pages_filter_and_go_back_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let log = DecisionLog::open(&path).unwrap();
        for tick in 0..10 {
            let service = if tick % 2 == 0 { "shop" } else { "api" };
            let law = if tick < 5 { Law::Weights } else { Law::Commit };
            log.record(decision(tick, service, law));
        }
        log.close();
        let ticks = |query: &Query| -> Vec<u64> {
            let page = read_file(&path, query).unwrap();
            page.iter().map(|d| d.record["tick"].as_u64().unwrap()).collect()
        };
        let shop = Query { service: Some("shop".into()), limit: Some(2), ..Query::default() };
        assert_eq!(ticks(&shop), [8, 6]);
        let last = read_file(&path, &shop).unwrap()[1].id;
        assert_eq!(ticks(&Query { before: Some(last), ..shop }), [4, 2]);
        let committed =
            Query { law: Some(Law::Commit), service: Some("api".into()), ..Query::default() };
        assert_eq!(ticks(&committed), [9, 7, 5]);
        assert_eq!(ticks(&Query { since_ms: Some(1_008), ..Query::default() }), [9, 8]);
        assert_eq!(log.dropped(), 0);
    }
}
