//! Activations in the state database: the newest, one row each, written again with every step.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Activation, Outcome};

/// Activations kept.
pub(crate) const MOST: u32 = 1_000;
/// Changes that wait for the disk; beyond it they are dropped and counted, the tick never waits.
const QUEUE: usize = 1_024;
/// How long others may keep the database to themselves.
const PATIENCE: Duration = Duration::from_secs(5);
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS activations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        service TEXT NOT NULL,
        instance INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        open INTEGER NOT NULL,
        record TEXT NOT NULL,
        UNIQUE (service, instance, at_ms)
    );
";

/// The record of activations: a bounded queue in front of one writing thread.
#[derive(Debug)]
pub(crate) struct ActivationLog {
    queue: Mutex<Option<SyncSender<Activation>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    reader: Mutex<Connection>,
    dropped: Arc<AtomicU64>,
}

impl ActivationLog {
    /// Opens the table in the state database at `path`; what was under way when the node ended is seen no more.
    ///
    /// # Errors
    /// When the database cannot be opened or the thread not started.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let writer = connect(path)?;
        writer.execute_batch(SCHEMA).context("cannot prepare the record of activations")?;
        close_open(&writer)?;
        let reader = connect(path)?;
        let (queue, changes) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let writer = std::thread::Builder::new()
            .name("activations".to_owned())
            .spawn(move || write_all(&writer, &changes, &lost))
            .context("cannot start the writer of activations")?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
            reader: Mutex::new(reader),
            dropped,
        })
    }

    /// Queues what is new of them; never waits.
    pub(crate) fn record(&self, news: Vec<Activation>) {
        if news.is_empty() {
            return;
        }
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else { return };
        for one in news {
            if queue.try_send(one).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Changes lost because the disk was too slow or took none.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The newest, at most `limit`, of all services or one. Blocks on the disk.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn page(
        &self,
        service: Option<&str>,
        limit: u32,
    ) -> anyhow::Result<Vec<Activation>> {
        read(&self.reader.lock().unwrap_or_else(PoisonError::into_inner), service, limit)
    }

    /// Writes what is queued, and ends.
    pub(crate) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer of activations ended badly; please report this");
        }
    }
}

/// Reads the state database at `path` without a running node.
///
/// # Errors
/// When the file is missing or cannot be read.
pub(crate) fn read_file(
    path: &Path,
    service: Option<&str>,
    limit: u32,
) -> anyhow::Result<Vec<Activation>> {
    anyhow::ensure!(
        path.exists(),
        "there is no state database at {}; name the state directory with --state-dir, or the configuration with -c",
        path.display()
    );
    let db = connect(path)?;
    let sql = "SELECT 1 FROM sqlite_master WHERE name = 'activations'";
    match db.query_row(sql, [], |_| Ok(())).optional()? {
        Some(()) => read(&db, service, limit),
        None => Ok(Vec::new()),
    }
}

fn connect(path: &Path) -> anyhow::Result<Connection> {
    let db = Connection::open(path)
        .with_context(|| format!("cannot open the state database {}", path.display()))?;
    db.busy_timeout(PATIENCE)?;
    Ok(db)
}

fn close_open(db: &Connection) -> anyhow::Result<()> {
    let outcome = serde_json::to_string(&Outcome::NotSeen)?;
    let sql = "UPDATE activations SET open = 0, record = json_set(record, '$.outcome', json(?)) \
               WHERE open = 1";
    db.execute(sql, [outcome])?;
    Ok(())
}

fn write_all(db: &Connection, changes: &Receiver<Activation>, lost: &AtomicU64) {
    while let Ok(first) = changes.recv() {
        let batch: Vec<Activation> = std::iter::once(first).chain(changes.try_iter()).collect();
        if let Err(error) = write(db, &batch) {
            let before = lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
            if before == 0 {
                tracing::error!(%error, "activations cannot be written; this is said once");
            }
        }
    }
}

fn write(db: &Connection, batch: &[Activation]) -> anyhow::Result<()> {
    let transaction = db.unchecked_transaction()?;
    for one in batch {
        let sql = "INSERT INTO activations (service, instance, at_ms, open, record) \
                   VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT (service, instance, at_ms) DO UPDATE SET open = ?4, record = ?5";
        let figure = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        transaction.prepare_cached(sql)?.execute(params![
            one.service.as_str(),
            figure(one.instance.0),
            figure(one.at_ms),
            one.outcome.is_open(),
            serde_json::to_string(one)?,
        ])?;
    }
    let beyond = "DELETE FROM activations WHERE id NOT IN \
                  (SELECT id FROM activations ORDER BY id DESC LIMIT ?)";
    transaction.execute(beyond, [MOST])?;
    transaction.commit()?;
    Ok(())
}

fn read(db: &Connection, service: Option<&str>, limit: u32) -> anyhow::Result<Vec<Activation>> {
    let sql = "SELECT record FROM activations WHERE ?1 IS NULL OR service = ?1 \
               ORDER BY id DESC LIMIT ?2";
    let mut rows = db.prepare_cached(sql)?;
    let texts = rows.query_map(params![service, limit], |row| row.get::<_, String>(0))?;
    texts
        .map(|text| serde_json::from_str(&text?).context("a row of the activations is damaged"))
        .collect()
}

#[cfg(test)]
mod tests {
    use foreshadow_control::{InstanceId, Law, PlaceName, Tier};

    use super::super::{DemandSeen, Steps};
    use super::*;

    fn one(service: &str, at_ms: u64, outcome: Outcome) -> Activation {
        Activation {
            service: service.into(),
            instance: InstanceId(7),
            place: PlaceName::default(),
            at_ms,
            from: Tier::Warm,
            law: Law::Commit,
            why: "figures".to_owned(),
            steps: Steps::default(),
            demand: DemandSeen::default(),
            outcome,
        }
    }

    #[test]
    fn one_row_follows_an_activation_and_a_restart_ends_what_was_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let log = ActivationLog::open(&path).unwrap();
        let failed = Outcome::Failed { step: "verified".to_owned(), error: "refused".to_owned() };
        log.record(vec![one("shop", 1, Outcome::UnderWay), one("api", 2, Outcome::UnderWay)]);
        log.record(vec![one("shop", 1, failed.clone()), one("api", 2, Outcome::Serves)]);
        log.close();
        let outcomes = |service: Option<&str>| -> Vec<Outcome> {
            let all = read_file(&path, service, 10).unwrap();
            all.into_iter().map(|one| one.outcome).collect()
        };
        assert_eq!(outcomes(None), [Outcome::Serves, failed.clone()]);
        assert_eq!(outcomes(Some("shop")), std::slice::from_ref(&failed));
        let again = ActivationLog::open(&path).unwrap();
        assert_eq!(outcomes(None), [Outcome::NotSeen, failed], "what has ended stays as it was");
        assert_eq!(again.page(None, 1).unwrap().len(), 1);
        assert_eq!(again.dropped(), 0);
        again.close();
    }

    #[test]
    fn the_newest_are_kept() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        let all: Vec<_> = (0..1_500).map(|at| one("shop", at, Outcome::Serves)).collect();
        write(&db, &all).unwrap();
        let kept = read(&db, None, 2_000).unwrap();
        assert_eq!((kept.len(), kept[0].at_ms, kept[999].at_ms), (1_000, 1_499, 500));
    }
}
