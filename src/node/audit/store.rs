//! The record in SQLite: appending, removing the oldest, reading pages.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use serde_json::json;

use super::chain::{GENESIS, Key, Link};
use super::entry::{Actor, Entry, Texts};

/// How long others may keep the database to themselves.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of all entries, how many may go at a time for their age: a clock that is set wrong for a while
/// must not cost the whole record.
const SHARE_BY_AGE: u64 = 10;
/// So many may go at a time in any case.
const AT_A_TIME: u64 = 1_000;
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS audit (
        seq      INTEGER PRIMARY KEY,
        at_ms    INTEGER NOT NULL,
        tick     INTEGER NOT NULL,
        kind     TEXT NOT NULL,
        actor    TEXT NOT NULL,
        role     TEXT NOT NULL,
        peer     TEXT NOT NULL,
        action   TEXT NOT NULL,
        service  TEXT NOT NULL,
        instance TEXT NOT NULL,
        before   TEXT NOT NULL,
        after    TEXT NOT NULL,
        outcome  TEXT NOT NULL,
        cause    TEXT NOT NULL,
        key      TEXT NOT NULL,
        prev     TEXT NOT NULL,
        hash     TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS audit_by_service ON audit (service, seq);
    CREATE INDEX IF NOT EXISTS audit_by_time ON audit (at_ms);
";
/// Every column, in the order of [`link`].
pub(super) const COLUMNS: &str = "seq, at_ms, tick, kind, actor, role, peer, action, service, \
     instance, before, after, outcome, cause, key, prev, hash";

/// Number and hash of the newest entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its number; 0 while there is none.
    pub(crate) seq: u64,
    /// Its hash.
    pub(crate) hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS.to_owned() }
    }
}

/// The one who writes.
#[derive(Debug)]
pub(super) struct Store {
    db: Connection,
    key: Option<Key>,
    head: Head,
    /// What the newest entry was about when the record was opened.
    pub(super) last_action: Option<String>,
}

impl Store {
    pub(super) fn open(path: &Path, key: Option<Key>) -> rusqlite::Result<Self> {
        let db = Connection::open(path)?;
        db.busy_timeout(PATIENCE)?;
        db.execute_batch(SCHEMA)?;
        // Nothing else is known of what was done once the power has failed.
        db.pragma_update(None, "synchronous", "FULL")?;
        let last = newest(&db)?;
        let (head, last_action) = last.map_or_else(Default::default, |last| {
            (Head { seq: last.seq, hash: last.hash }, Some(last.texts.action))
        });
        Ok(Self { db, key, head, last_action })
    }

    /// One that nobody finds again.
    pub(super) fn nowhere() -> rusqlite::Result<Self> {
        let (db, head) = (Connection::open_in_memory()?, Head::default());
        Ok(Self { db, key: None, head, last_action: None })
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Whether the newest entry there is the one that was written last.
    pub(super) fn newest_is_head(&self) -> rusqlite::Result<bool> {
        let sql = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";
        let mut statement = self.db.prepare_cached(sql)?;
        let head = |row: &Row<'_>| Ok(Head { seq: row.get(0)?, hash: row.get(1)? });
        let newest = statement.query_row([], head).optional()?;
        Ok(newest.unwrap_or_default() == self.head)
    }

    /// Whether an entry is there as it was.
    pub(super) fn holds(&self, known: &Head) -> rusqlite::Result<bool> {
        let sql = "SELECT hash = ? FROM audit WHERE seq = ?";
        let same = self.db.query_row(sql, (&known.hash, known.seq), |row| row.get(0)).optional()?;
        Ok(known.seq == 0 || same.unwrap_or(false))
    }

    /// Writes the entries, all or none.
    pub(super) fn append(&mut self, entries: &[Entry]) -> rusqlite::Result<()> {
        let transaction = self.db.unchecked_transaction()?;
        let mut head = self.head.clone();
        for entry in entries {
            head = insert(&transaction, &head, entry, self.key.as_ref())?;
        }
        transaction.commit()?;
        self.head = head;
        Ok(())
    }

    /// Removes what is older than `keep`, and of more than `max_size` bytes a tenth; returns how many
    /// entries went. That it was done, and the hash that the rest stands on, is an entry itself.
    pub(super) fn prune(
        &mut self,
        now_ms: u64,
        keep: Duration,
        max_size: u64,
    ) -> rusqlite::Result<u64> {
        let Some(first) = self.first_seq()? else { return Ok(0) };
        let count = self.head.seq.saturating_sub(first) + 1;
        let oldest_ms = signed(now_ms.saturating_sub(millis(keep)));
        let young: Option<u64> =
            self.db.query_row("SELECT min(seq) FROM audit WHERE at_ms >= ?", [oldest_ms], |r| {
                r.get(0)
            })?;
        let old = young.unwrap_or(self.head.seq).saturating_sub(first);
        let by_age = old.min((count / SHARE_BY_AGE).max(AT_A_TIME));
        let by_size = if self.used()? > max_size { count.div_ceil(10) } else { 0 };
        let (going, why) = if by_size > by_age { (by_size, "max_size") } else { (by_age, "keep") };
        // The newest stays: what comes stands on it.
        let going = going.min(count - 1);
        if going == 0 {
            return Ok(0);
        }
        let last = first + going - 1;
        let transaction = self.db.unchecked_transaction()?;
        let hash: String =
            transaction.query_row("SELECT hash FROM audit WHERE seq = ?", [last], |r| r.get(0))?;
        transaction.execute("DELETE FROM audit WHERE seq <= ?", [last])?;
        let told = Entry::new(now_ms, Actor::Node, "audit.retention").changed(
            json!({ "first_seq": first }),
            json!({
                "first_seq": last + 1,
                "removed": going,
                "bound": why,
                "anchor": { "seq": last, "hash": hash },
            }),
        );
        let head = insert(&transaction, &self.head, &told, self.key.as_ref())?;
        transaction.commit()?;
        self.head = head;
        Ok(going)
    }

    /// Brings all of it into the database file itself, so that a copy of that is whole; false where
    /// somebody reads it.
    pub(super) fn gather(&self) -> rusqlite::Result<bool> {
        let busy: i64 =
            self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        Ok(busy == 0)
    }

    /// As a disk that takes so many pages more than there are, or any number.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, more: Option<u32>) {
        let pages: u32 =
            self.db.pragma_query_value(None, "page_count", |row| row.get(0)).expect("it is open");
        let most = more.map_or(1_000_000, |more| pages + more);
        self.db.pragma_update(None, "max_page_count", most).expect("it is a number");
    }

    fn first_seq(&self) -> rusqlite::Result<Option<u64>> {
        self.db.query_row("SELECT min(seq) FROM audit", [], |row| row.get(0))
    }

    /// Bytes in use; what was removed is room for what comes.
    fn used(&self) -> rusqlite::Result<u64> {
        let pragma = |name| self.db.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        Ok(pragma("page_count")?.saturating_sub(pragma("freelist_count")?) * pragma("page_size")?)
    }
}

fn insert(
    db: &Connection,
    head: &Head,
    entry: &Entry,
    key: Option<&Key>,
) -> rusqlite::Result<Head> {
    let mut link = Link {
        seq: head.seq + 1,
        at_ms: signed(entry.at_ms),
        tick: signed(entry.tick),
        texts: entry.texts(),
        key: key.map(|key| key.id().to_owned()).unwrap_or_default(),
        prev: head.hash.clone(),
        hash: String::new(),
    };
    link.hash = link.hash_as(link.seq, key);
    let mut statement = db.prepare_cached(
        "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let [kind, actor, role, peer, action, service, instance, before, after, outcome, cause] =
        link.texts.all();
    statement.execute(params![
        link.seq, link.at_ms, link.tick, kind, actor, role, peer, action, service, instance,
        before, after, outcome, cause, link.key, link.prev, link.hash,
    ])?;
    Ok(Head { seq: link.seq, hash: link.hash })
}

/// Reads the columns of [`COLUMNS`]. Somebody may have put anything there: what is no number is 0,
/// and its hash is wrong then.
pub(super) fn link(row: &Row<'_>) -> rusqlite::Result<Link> {
    let number = |at: usize| row.get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or(0));
    let text = |at: usize| row.get::<_, String>(at);
    Ok(Link {
        seq: number(0)?,
        at_ms: number(1)?,
        tick: number(2)?,
        texts: Texts {
            kind: text(3)?,
            actor: text(4)?,
            role: text(5)?,
            peer: text(6)?,
            action: text(7)?,
            service: text(8)?,
            instance: text(9)?,
            before: text(10)?,
            after: text(11)?,
            outcome: text(12)?,
            cause: text(13)?,
        },
        key: text(14)?,
        prev: text(15)?,
        hash: text(16)?,
    })
}

fn newest(db: &Connection) -> rusqlite::Result<Option<Link>> {
    let sql = format!("SELECT {COLUMNS} FROM audit ORDER BY seq DESC LIMIT 1");
    db.query_row(&sql, [], link).optional()
}

/// Opens the record at `path` to read it only, beside a running node or without one.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(crate) fn open_read_only(path: &Path) -> anyhow::Result<Connection> {
    anyhow::ensure!(
        path.exists(),
        "there is no audit record at {}; name the state directory with --state-dir, or the \
         configuration with -c",
        path.display()
    );
    let cannot = || format!("cannot read the audit record {}", path.display());
    let open = |target: &str, flags| -> rusqlite::Result<Connection> {
        let db = Connection::open_with_flags(target, flags)?;
        db.busy_timeout(PATIENCE)?;
        // Only now is it looked at.
        db.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
        Ok(db)
    };
    let plain = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let name = path.to_str().with_context(cannot)?;
    let error = match open(name, plain) {
        Ok(db) => return Ok(db),
        Err(error) => error,
    };
    // Where nothing can be made beside it, as on a medium that cannot be written, a record that
    // nobody writes is whole by itself.
    let log = path.with_extension("db-wal");
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        return Err(error).with_context(cannot);
    }
    let escaped = name.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let uri = format!("file:{escaped}?immutable=1");
    open(&uri, plain | OpenFlags::SQLITE_OPEN_URI).with_context(cannot)
}

/// SQLite integers are signed; times and ticks stay far below the limit.
fn signed(value: u64) -> u64 {
    value.min(i64::MAX as u64)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
