//! What the record is held against from outside: its newest entry as the state database keeps it, and
//! the file that it is.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use serde_json::{Value, json};

use super::chain::Key;
use super::entry::{Actor, Entry, Outcome};
use super::store::{Head, Store, open_read_only};
use crate::node::clock::wall_ms;

/// How long others may keep the state database to themselves.
const PATIENCE: Duration = Duration::from_secs(5);
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS audit_head (
        id   INTEGER PRIMARY KEY CHECK (id = 1),
        seq  INTEGER NOT NULL,
        hash TEXT NOT NULL
    ) STRICT;
";
/// How a database file begins (SQLite, file format, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The newest entry, kept in another database: whoever takes the record away must change both.
#[derive(Debug)]
pub(super) struct Anchor(Connection);

impl Anchor {
    pub(super) fn open(state_db: &Path) -> rusqlite::Result<Self> {
        let db = Connection::open(state_db)?;
        db.busy_timeout(PATIENCE)?;
        // As its other writers have it; an older head than the newest is one that must be there, too.
        db.pragma_update(None, "synchronous", "NORMAL")?;
        db.execute_batch(SCHEMA)?;
        Ok(Self(db))
    }

    pub(super) fn read(&self) -> rusqlite::Result<Option<Head>> {
        read(&self.0)
    }

    fn write(&self, head: &Head) -> rusqlite::Result<()> {
        let sql = "INSERT INTO audit_head VALUES (1, ?1, ?2) \
                   ON CONFLICT (id) DO UPDATE SET seq = ?1, hash = ?2";
        self.0.prepare_cached(sql)?.execute((head.seq, &head.hash)).map(drop)
    }
}

fn read(db: &Connection) -> rusqlite::Result<Option<Head>> {
    let head = |row: &rusqlite::Row<'_>| Ok(Head { seq: row.get(0)?, hash: row.get(1)? });
    db.query_row("SELECT seq, hash FROM audit_head", [], head).optional()
}

/// The newest entry as a state database keeps it, if there is one and it does.
pub(crate) fn kept_head(state_db: &Path) -> Option<Head> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(state_db, flags).ok()?;
    db.busy_timeout(PATIENCE).ok()?;
    read(&db).ok()?
}

/// What has become of the record that was opened.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// In words.
    pub(super) what: String,
    /// Nothing of the file is to be believed.
    is_spoiled: bool,
}

impl Trouble {
    fn new(what: impl Into<String>, is_spoiled: bool) -> Self {
        Self { what: what.into(), is_spoiled }
    }
}

/// Where the record is, and how to tell that it is still the one that was opened.
pub(super) struct Place {
    path: PathBuf,
    key: Option<Key>,
    anchor: Option<Anchor>,
    reader: Arc<Mutex<Connection>>,
    file: Option<(u64, u64)>,
    /// The log beside it, as it was when all was well.
    log: Option<(u64, u64)>,
    /// It was said that the head cannot be kept.
    is_said: bool,
}

impl Place {
    pub(super) fn new(
        path: &Path,
        key: Option<Key>,
        anchor: Option<Anchor>,
        reader: Arc<Mutex<Connection>>,
    ) -> Self {
        let (file, log, path) = (identity(path), identity(&beside(path, "-wal")), path.to_owned());
        Self { path, key, anchor, reader, file, log, is_said: false }
    }

    /// Keeps the newest entry outside.
    pub(super) fn keep(&mut self, head: &Head) {
        let Some(anchor) = &self.anchor else { return };
        match anchor.write(head) {
            Ok(()) => self.is_said = false,
            Err(error) if !self.is_said => {
                self.is_said = true;
                tracing::warn!(%error, "the newest audit entry cannot be kept in the state database");
            }
            Err(_) => {}
        }
    }

    /// Brings what is kept outside into that database file itself: all others have done so before.
    pub(super) fn gather(&self) {
        let Some(Anchor(db)) = &self.anchor else { return };
        let busy = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        if !matches!(busy, Ok(0)) {
            tracing::warn!("somebody reads the state database: its last changes stay in its -wal");
        }
    }

    /// What has become of the file that was opened, if it is not as it was.
    pub(super) fn trouble(&mut self, store: &Store) -> Option<Trouble> {
        match found(&self.path) {
            Ok(None) => return Some(Trouble::new("the file was removed", false)),
            Ok(found) if found != self.file => {
                return Some(Trouble::new("another file was put in its place", false));
            }
            // A disk that does not tell says nothing of what is on it.
            Ok(Some(_)) | Err(_) => {}
        }
        let mut begin = [0; MAGIC.len()];
        let read = File::open(&self.path).and_then(|mut file| file.read_exact(&mut begin));
        if read.is_ok() && begin != *MAGIC
            || read.is_err_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
        {
            return Some(Trouble::new("the file was overwritten", true));
        }
        match store.newest_is_head() {
            Ok(true) => {
                self.log = identity(&beside(&self.path, "-wal"));
                None
            }
            Ok(false) => {
                Some(Trouble::new("its newest entry was removed, changed or added to", false))
            }
            Err(error) if is_damage(&error) => {
                Some(Trouble::new(format!("it cannot be read any more: {error}"), true))
            }
            // Such as a disk that does not answer now: the next write says that.
            Err(_) => None,
        }
    }

    /// Opens what is there now, or begins anew; `old` is closed first, since what it would leave beside
    /// it belongs to another file. Says where what was damaged is.
    pub(super) fn open_anew(
        &mut self,
        old: Store,
        trouble: &Trouble,
    ) -> anyhow::Result<(Store, Option<PathBuf>)> {
        drop(old);
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        *reader = Connection::open_in_memory()?;
        let mut spoiled = None;
        if trouble.is_spoiled && identity(&self.path) == self.file {
            spoiled = Some(self.move_aside("damaged", &["", "-wal", "-shm"])?);
        }
        let left = identity(&beside(&self.path, "-wal"));
        // The log of the file that was there would be taken for that of the one that is there now.
        if identity(&self.path) != self.file && left.is_some() && left == self.log {
            self.move_aside("lost", &["-wal", "-shm"])?;
        }
        crate::node::private::make_file(&self.path)?;
        let (store, aside) = super::open(&self.path, self.key.clone(), wall_ms())?;
        *reader = open_read_only(&self.path)?;
        self.file = identity(&self.path);
        self.log = identity(&beside(&self.path, "-wal"));
        Ok((store, spoiled.or(aside)))
    }

    /// Moves files with these endings; says to where.
    fn move_aside(&self, why: &str, endings: &[&str]) -> std::io::Result<PathBuf> {
        let aside = self.path.with_extension(format!("db.{why}-{}", wall_ms()));
        for ending in endings {
            match std::fs::rename(beside(&self.path, ending), beside(&aside, ending)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(aside)
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

/// Which file is there, if one is.
fn found(path: &Path) -> std::io::Result<Option<(u64, u64)>> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    found(path).ok().flatten()
}

fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
        || matches!(error, rusqlite::Error::SqliteFailure(_, Some(text)) if text.contains("no such table"))
}

/// That the record is not the one whose newest entry was `known`: it goes on from `found`.
pub(super) fn replaced(
    now_ms: u64,
    known: &Head,
    found: &Head,
    aside: Option<&Path>,
    what: &str,
) -> Entry {
    let head = |head: &Head| match head.seq {
        0 => Value::Null,
        seq => json!({ "seq": seq, "hash": head.hash }),
    };
    let cause = format!(
        "the record is not the one that was written: {what}; its last entry known was {}:{}",
        known.seq, known.hash
    );
    let after = json!({ "goes_on_after": head(found), "set_aside": aside });
    Entry::new(now_ms, Actor::Node, "audit.replaced")
        .changed(head(known), after)
        .came_to(Outcome::Failed, cause)
}
