//! The instance registry in SQLite, worked off one job after the other: what was made, so that a restart finds
//! it again.
//!
//! A row is written before an instance is made and removed after it has ended, so at any moment
//! the rows cover everything that may be running.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{InstanceId, PlaceName, ServiceName, Tier};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use crate::clerk::{Clerk, Job};
use crate::error::ShadowError;
use crate::ground::Ground;
use crate::provider::Handle;

/// Jobs that may wait for the registry's thread before senders wait for room.
const QUEUE: usize = 256;

/// Each entry brings the schema one version further; entries are never changed once released.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE instances (
        id            INTEGER PRIMARY KEY,
        service       TEXT NOT NULL,
        provider      TEXT NOT NULL,
        fingerprint   TEXT NOT NULL,
        tier          TEXT NOT NULL,
        tier_since_ms INTEGER NOT NULL,
        created_ms    INTEGER NOT NULL,
        address       TEXT,
        pid           INTEGER,
        handle        TEXT
    ) STRICT;
    CREATE TABLE ids (
        service TEXT NOT NULL,
        address TEXT NOT NULL,
        id      INTEGER NOT NULL UNIQUE,
        PRIMARY KEY (service, address)
    ) STRICT;
    CREATE TABLE next_id (one INTEGER PRIMARY KEY CHECK (one = 1), next INTEGER NOT NULL) STRICT;
    INSERT INTO next_id VALUES (1, 1);
",
    "
    ALTER TABLE instances ADD COLUMN place TEXT NOT NULL DEFAULT 'default';
",
    "
    ALTER TABLE ids ADD COLUMN found INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE ids ADD COLUMN seen_ms INTEGER NOT NULL DEFAULT 0;
",
];

/// Ids of addresses that a scaler has listed, and that nobody asked for since, are forgotten after this time,
/// and those unseen for longest where there are more of them than this. Those of the configuration stay.
const FORGET_FOUND_MS: u64 = 30 * 24 * 3_600 * 1_000;
const MOST_FOUND: u32 = 10_000;
/// That one is in use is written down not more often than this.
const SEEN_EVERY_MS: u64 = 12 * 3_600 * 1_000;

/// A handle to what works off the registry's jobs, a thread of its own unless the ground has something
/// else for it; cheap to clone. The work ends with its last handle.
#[derive(Clone)]
pub(crate) struct Registry {
    jobs: mpsc::Sender<Job>,
    path: PathBuf,
    ground: Arc<Ground>,
}

/// What the registry knows of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: InstanceId,
    pub(crate) service: ServiceName,
    pub(crate) place: PlaceName,
    pub(crate) provider: String,
    pub(crate) fingerprint: String,
    /// [`Tier::Cold`] until it was ready for the first time.
    pub(crate) tier: Tier,
    pub(crate) tier_since_ms: u64,
    /// Absent when Foreshadow ended between deciding to make it and recording it.
    pub(crate) handle: Option<Handle>,
}

impl Registry {
    /// Opens or creates the database and brings its schema up to date.
    pub(crate) async fn open(path: &Path, ground: &Arc<Ground>) -> Result<Self, ShadowError> {
        let (jobs, queue) = mpsc::channel::<Job>(QUEUE);
        let (opened, open) = oneshot::channel();
        (ground.registrar)(Clerk { file: path.to_owned(), queue, opened })?;
        open.await.map_err(|_| ShadowError::RegistryGone)??;
        Ok(Self { jobs, path: path.to_owned(), ground: Arc::clone(ground) })
    }

    /// Every row, ordered by id.
    pub(crate) async fn rows(&self) -> Result<Vec<Row>, ShadowError> {
        self.call(|db| {
            let mut select = db.prepare(
                "SELECT id, service, provider, fingerprint, tier, tier_since_ms, handle, place
                 FROM instances ORDER BY id",
            )?;
            let rows = select.query_map([], read_row)?;
            rows.collect()
        })
        .await
    }

    /// Reserves `count` ids that nobody else gets, ever; returns the first.
    pub(crate) async fn reserve_ids(&self, count: u32) -> Result<u64, ShadowError> {
        self.call(move |db| for_good(db, |db| take_ids(db, count))).await
    }

    /// The id of a primary of the configuration, the same for the life of the database.
    pub(crate) async fn primary_id(
        &self,
        service: ServiceName,
        address: SocketAddr,
    ) -> Result<InstanceId, ShadowError> {
        self.address_id(service, address, false).await
    }

    /// The id of a primary that a scaler lists: the same for as long as it is asked for now and then.
    pub(crate) async fn found_id(
        &self,
        service: ServiceName,
        address: SocketAddr,
    ) -> Result<InstanceId, ShadowError> {
        self.address_id(service, address, true).await
    }

    async fn address_id(
        &self,
        service: ServiceName,
        address: SocketAddr,
        found: bool,
    ) -> Result<InstanceId, ShadowError> {
        let now_ms = (self.ground.unix_ms)();
        self.call(move |db| {
            for_good(db, |db| {
                let (service, address) = (service.as_str(), address.to_string());
                let key = params![service, address];
                let known = db
                    .query_row(
                        "SELECT id, found, seen_ms FROM ids WHERE service = ? AND address = ?",
                        key,
                        |row| Ok((row.get(0)?, row.get::<_, bool>(1)?, row.get::<_, u64>(2)?)),
                    )
                    .optional()?;
                if let Some((id, was_found, seen_ms)) = known {
                    let found = found && was_found;
                    // Every start asks for all of them, and one write takes as long as the disk.
                    if found != was_found || now_ms.saturating_sub(seen_ms) > SEEN_EVERY_MS {
                        db.execute(
                            "UPDATE ids SET seen_ms = ?, found = ? WHERE id = ?",
                            params![now_ms, found, id],
                        )?;
                    }
                    return Ok(InstanceId(id));
                }
                let id = take_ids(db, 1)?;
                db.execute(
                    "INSERT INTO ids (service, address, id, found, seen_ms) VALUES (?, ?, ?, ?, ?)",
                    params![service, address, id, found, now_ms],
                )?;
                forget_found(db, now_ms)?;
                Ok(InstanceId(id))
            })
        })
        .await
    }

    /// Records that an instance is about to be made; returns once that is written.
    pub(crate) async fn creating(
        &self,
        id: InstanceId,
        (service, place): (ServiceName, PlaceName),
        provider: &'static str,
        fingerprint: String,
    ) -> Result<(), ShadowError> {
        let now = (self.ground.unix_ms)();
        self.call(move |db| {
            db.execute(
                "INSERT OR REPLACE INTO instances
                 (id, service, provider, fingerprint, tier, tier_since_ms, created_ms, place)
                 VALUES (?, ?, ?, ?, 'cold', ?, ?, ?)",
                params![id.0, service.as_str(), provider, fingerprint, now, now, place.as_str()],
            )
            .map(drop)
        })
        .await
    }

    /// Records what was made; returns once that is written.
    pub(crate) async fn created(&self, handle: &Handle) -> Result<(), ShadowError> {
        let handle = handle.clone();
        self.call(move |db| {
            let text = serde_json::to_string(&handle)
                .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
            db.execute(
                "UPDATE instances SET address = ?, pid = ?, handle = ? WHERE id = ?",
                params![handle.address.to_string(), handle.pid, text, handle.id.0],
            )
            .map(drop)
        })
        .await
    }

    /// Records a tier reached. Does not wait for the write, which other users of the database may
    /// hold up: an instance adopted at the tier before is brought in order by the next plan.
    pub(crate) async fn tier(&self, id: InstanceId, tier: Tier) -> Result<(), ShadowError> {
        let now = (self.ground.unix_ms)();
        self.post(move |db| {
            db.execute(
                "UPDATE instances SET tier = ?, tier_since_ms = ? WHERE id = ?",
                params![tier.as_str(), now, id.0],
            )
            .map(drop)
        })
        .await
    }

    /// Forgets an instance of which nothing runs any more.
    pub(crate) async fn ended(&self, id: InstanceId) -> Result<(), ShadowError> {
        self.post(move |db| {
            db.execute("DELETE FROM instances WHERE id = ?", params![id.0]).map(drop)
        })
        .await
    }

    /// Returns once everything asked before is written.
    pub(crate) async fn flush(&self) -> Result<(), ShadowError> {
        self.call(|_| Ok(())).await
    }

    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ShadowError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            if reply.send(work(db)).is_err() {
                tracing::debug!("a caller of the registry went away before its answer");
            }
        });
        self.jobs.send(job).await.map_err(|_| ShadowError::RegistryGone)?;
        answer
            .await
            .map_err(|_| ShadowError::RegistryGone)?
            .map_err(|source| ShadowError::Registry { path: self.path.clone(), source })
    }

    async fn post(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), ShadowError> {
        let path = self.path.clone();
        let job: Job = Box::new(move |db| {
            if let Err(error) = work(db) {
                tracing::error!(?path, %error, "the instance registry could not be written");
            }
        });
        self.jobs.send(job).await.map_err(|_| ShadowError::RegistryGone)
    }
}

pub(crate) fn connect(path: &Path) -> Result<Connection, ShadowError> {
    let fail = |source| ShadowError::Registry { path: path.to_owned(), source };
    let mut db = Connection::open(path).map_err(fail)?;
    db.busy_timeout(Duration::from_secs(5)).map_err(fail)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
    // Safe against a crash of this process. When the power fails, what the rows describe is gone
    // as well; only ids, which must not be given out again, are written more carefully.
    db.pragma_update(None, "synchronous", "NORMAL").map_err(fail)?;
    migrate(&mut db, path)?;
    Ok(db)
}

/// The database is shared with other parts, so the version has a table of its own.
fn migrate(db: &mut Connection, path: &Path) -> Result<(), ShadowError> {
    let fail = |source| ShadowError::Registry { path: path.to_owned(), source };
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS instances_schema (version INTEGER NOT NULL) STRICT;",
        )
        .map_err(fail)?;
    let found: i64 = transaction
        .query_row("SELECT coalesce(max(version), 0) FROM instances_schema", [], |row| row.get(0))
        .map_err(fail)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(ShadowError::Newer { path: path.to_owned(), found, known });
    }
    for (version, migration) in (1_i64..).zip(MIGRATIONS) {
        if version > found {
            transaction.execute_batch(migration).map_err(fail)?;
            transaction
                .execute("INSERT INTO instances_schema VALUES (?)", params![version])
                .map_err(fail)?;
        }
    }
    transaction.commit().map_err(fail)
}

/// Writes what must outlast a loss of power, whole or not at all. It begins as a writer: what only reads at first
/// and finds another writer then is refused at once, however long it would wait.
fn for_good<T>(
    db: &mut Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    db.pragma_update(None, "synchronous", "FULL")?;
    let written = db.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|db| {
        let value = work(&db)?;
        db.commit()?;
        Ok(value)
    });
    db.pragma_update(None, "synchronous", "NORMAL")?;
    written
}

fn take_ids(db: &Connection, count: u32) -> rusqlite::Result<u64> {
    db.query_row("UPDATE next_id SET next = next + ?1 RETURNING next - ?1", params![count], |row| {
        row.get(0)
    })
}

fn forget_found(db: &Connection, now_ms: u64) -> rusqlite::Result<()> {
    db.execute(
        "DELETE FROM ids WHERE found = 1 AND (seen_ms < ?1 OR rowid IN (
            SELECT rowid FROM ids WHERE found = 1 ORDER BY seen_ms DESC, id DESC LIMIT -1 OFFSET ?2
         ))",
        params![now_ms.saturating_sub(FORGET_FOUND_MS), MOST_FOUND],
    )
    .map(drop)
}

fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let bad = |column: usize, problem: String| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            problem.into(),
        )
    };
    let tier: String = row.get(4)?;
    let handle: Option<String> = row.get(6)?;
    Ok(Row {
        id: InstanceId(row.get(0)?),
        service: ServiceName::from(row.get::<_, String>(1)?.as_str()),
        place: PlaceName::from(row.get::<_, String>(7)?.as_str()),
        provider: row.get(2)?,
        fingerprint: row.get(3)?,
        tier: Tier::ALL
            .into_iter()
            .find(|known| known.as_str() == tier)
            .ok_or_else(|| bad(4, format!("unknown tier {tier:?}")))?,
        tier_since_ms: row.get(5)?,
        handle: handle
            .map(|text| serde_json::from_str(&text).map_err(|e| bad(6, e.to_string())))
            .transpose()?,
    })
}

#[cfg(test)]
mod tests;
