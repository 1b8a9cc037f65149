//! Migrations that are over, and numbers for new ones.

use std::sync::PoisonError;

use anyhow::Context;
use rusqlite::params;

use super::{DecisionLog, signed, unsigned};
use crate::node::migrations::{KEPT, Record};

/// Numbers are never given twice, even when every row is gone.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS migrations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        ended_ms INTEGER NOT NULL,
        record TEXT NOT NULL
    );
";

impl DecisionLog {
    /// A number that no migration has or had.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub(crate) fn new_migration_id(&self) -> anyhow::Result<u64> {
        let db = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = db.unchecked_transaction()?;
        transaction.execute("INSERT INTO migrations (ended_ms, record) VALUES (0, '')", [])?;
        let id = transaction.last_insert_rowid();
        transaction.execute("DELETE FROM migrations WHERE id = ?", [id])?;
        transaction.commit()?;
        Ok(unsigned(id))
    }

    /// Keeps one that is over, and no more than [`KEPT`] of them; its number, a new one where it had
    /// none.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub(crate) fn keep_migration(&self, record: &Record) -> anyhow::Result<u64> {
        let db = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = db.unchecked_transaction()?;
        transaction.execute(
            "INSERT OR REPLACE INTO migrations (id, ended_ms, record) VALUES (?, ?, ?)",
            params![
                record.id.map(signed),
                signed(record.ended_ms.unwrap_or(0)),
                serde_json::to_string(record)?
            ],
        )?;
        let id = transaction.last_insert_rowid();
        transaction.execute(
            "DELETE FROM migrations WHERE id NOT IN \
             (SELECT id FROM migrations ORDER BY ended_ms DESC, id DESC LIMIT ?)",
            [i64::try_from(KEPT)?],
        )?;
        transaction.commit()?;
        Ok(unsigned(id))
    }

    /// Those that are over, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn migrations(&self) -> anyhow::Result<Vec<Record>> {
        let db = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows =
            db.prepare_cached("SELECT id, record FROM migrations ORDER BY ended_ms, id")?;
        let read =
            rows.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        read.map(|row| {
            let (id, text) = row?;
            let record: Record = serde_json::from_str(&text)
                .with_context(|| format!("migration {id} of the state database is damaged"))?;
            Ok(Record { id: Some(unsigned(id)), ..record })
        })
        .collect()
    }
}
