//! The audit: every action, by whom or by which law, before and after, in a database of its own, each
//! entry with the hash of the one before (docs/audit.md).

mod acts;
mod chain;
mod entry;
mod inbox;
mod outside;
mod page;
mod rarely;
mod store;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context;
use foreshadow_config::Audit as Settings;
use foreshadow_control::{Fact, ServiceName};
use rusqlite::{Connection, ErrorCode};
use serde_json::{Value, json};

use super::clock::wall_ms;
use super::{STATE_DB, private};
use inbox::Inbox;
use outside::{Anchor, Place};
use store::Store;
use writer::{Bounds, Writer};

pub(crate) use acts::PlanActs;
pub(crate) use chain::{Key, Link};
pub(crate) use entry::{Actor, Entry, Outcome};
pub(crate) use outside::kept_head;
pub(crate) use page::{LONGEST_PAGE, PAGE, Query, every, shown};
pub(crate) use rarely::Rarely;
pub(crate) use store::{Head, open_read_only};
pub(crate) use verify::{Broken, Verified, verify};

/// Name of the record in the state directory.
pub(crate) const AUDIT_DB: &str = "audit.db";

/// The record, for those who write entries and those who read them.
pub(crate) struct Audit {
    inbox: Arc<Inbox>,
    status: Arc<Status>,
    writer: Mutex<Option<JoinHandle<()>>>,
    reader: Arc<Mutex<Connection>>,
    key: Option<String>,
    /// What was written last before this start, and what was found in place of a record.
    before: Before,
}

/// What a start found.
#[derive(Clone, Debug, Default)]
struct Before {
    last_action: Option<String>,
    set_aside: Option<PathBuf>,
}

/// What the writer tells of itself.
struct Status {
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    head: Head,
    failing: Option<String>,
    /// Entries taken out of the queue that the disk has not taken.
    waiting: u64,
    /// What was found in place of the record, the last time and how often.
    replaced: (Option<String>, u64),
}

/// How the record does, in numbers.
pub(crate) struct Figures {
    /// Entries lost for want of room since the start.
    pub(crate) lost: u64,
    /// Entries that the disk has not taken yet.
    pub(crate) waiting: u64,
    /// Number of the newest entry written.
    pub(crate) head_seq: u64,
    /// Whether entries cannot be written.
    pub(crate) is_failing: bool,
    /// How often the record was found removed, replaced or spoiled since the start, this included.
    pub(crate) replaced: u64,
}

impl Audit {
    /// Opens the record in `dir`, or begins one, and starts its writer. One that is damaged is set
    /// aside: a node that does not start protects nobody.
    ///
    /// # Errors
    /// When it cannot be opened or the thread not started.
    pub(crate) fn start(dir: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let path = dir.join(AUDIT_DB);
        let cannot = || format!("cannot open the audit record {}", path.display());
        let key = settings.key.as_ref().map(|key| Key::new(key.secret.expose()));
        let key_id = key.as_ref().map(|key| key.id().to_owned());
        private::make_file(&path).with_context(cannot)?;
        let (store, set_aside) = open(&path, key.clone(), wall_ms()).with_context(cannot)?;
        let reader = Arc::new(Mutex::new(open_read_only(&path)?));
        let (inbox, queue) = Inbox::new();
        let inbox = Arc::new(inbox);
        let mut written = Written { head: store.head().clone(), ..Written::default() };
        let anchor = anchored(&dir.join(STATE_DB));
        if let Some(entry) = not_as_known(&store, anchor.as_ref(), set_aside.as_deref()) {
            tracing::error!("{}", entry.cause);
            written.replaced = (Some(entry.cause.clone()), 1);
            inbox.push(entry);
        }
        let before = Before { last_action: store.last_action.clone(), set_aside };
        let status = Arc::new(Status { written: Mutex::new(written) });
        let bounds = Bounds {
            keep: settings.keep,
            max_size: settings.max_size,
            checkpoint_every: settings.checkpoint_interval,
        };
        let ways = (Arc::clone(&inbox), queue);
        let place = Place::new(&path, key, anchor, Arc::clone(&reader));
        let writer = Writer::new(store, ways, Arc::clone(&status), bounds).held_against(place);
        let writer = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .context("cannot start the audit writer")?;
        Ok(Self { inbox, status, writer: Mutex::new(Some(writer)), reader, key: key_id, before })
    }

    /// Puts an entry on record; never waits. One for which there is no room is counted, and the
    /// count is put on record as soon as there is.
    pub(crate) fn record(&self, entry: Entry) {
        self.inbox.push(entry);
    }

    /// Puts on record what happened to a shadow, and gives it back without secrets: providers repeat
    /// what commands and engines said.
    pub(crate) fn fact(&self, service: &ServiceName, fact: Fact, tick: u64, now_ms: u64) -> Fact {
        let covered = |text: String| crate::secrets::cover(&text).into_owned();
        let fact = match fact {
            Fact::StepFailed { instance, to, error, retry_in_ms, place } => {
                Fact::StepFailed { instance, to, error: covered(error), retry_in_ms, place }
            }
            Fact::Exited { instance, tier, detail } => {
                Fact::Exited { instance, tier, detail: covered(detail) }
            }
            fact @ (Fact::TierReached { .. } | Fact::Adopted { .. }) => fact,
        };
        self.record(acts::of_fact(service, &fact, tick, now_ms));
        fact
    }

    /// What a start has to say of the time before it: whether the last run's end is on record.
    pub(crate) fn before_start(&self) -> Value {
        let last = self.before.last_action.as_deref();
        json!({
            "last_entry": last,
            "ended_on_record": last.map(|last| last == "node.stop"),
            "set_aside": self.before.set_aside,
        })
    }

    /// How the record does.
    pub(crate) fn status(&self) -> Value {
        let written = self.status.written.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "seq": written.head.seq,
            "hash": written.head.hash,
            "key": self.key,
            "lost": self.inbox.lost(),
            "failing": written.failing,
            "waiting": written.waiting,
            "replaced": written.replaced.0,
        })
    }

    /// The same in numbers.
    pub(crate) fn figures(&self) -> Figures {
        let written = self.status.written.lock().unwrap_or_else(PoisonError::into_inner);
        Figures {
            lost: self.inbox.lost(),
            waiting: written.waiting,
            head_seq: written.head.seq,
            is_failing: written.failing.is_some(),
            replaced: written.replaced.1,
        }
    }

    /// Reads a page, the newest first. Blocks on the disk: not for the tick or an async worker.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub(crate) fn page(&self, query: &Query) -> anyhow::Result<Vec<Link>> {
        let db = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        page::newest(&db, query).context("the audit record cannot be read")
    }

    /// Writes what waits and ends the writer.
    pub(crate) fn close(&self) {
        self.inbox.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the audit writer ended badly; the last entries may be lost");
        }
    }
}

/// Where the newest entry is kept beside the record.
fn anchored(state_db: &Path) -> Option<Anchor> {
    Anchor::open(state_db)
        .inspect_err(|error| {
            tracing::warn!(
                %error,
                "the newest audit entry cannot be kept in the state database: a record that is removed \
                 while the node is down will not be missed"
            );
        })
        .ok()
}

/// The entry that says so, where the record does not hold what was written last.
fn not_as_known(store: &Store, anchor: Option<&Anchor>, aside: Option<&Path>) -> Option<Entry> {
    let known = anchor?.read().ok().flatten()?;
    if store.holds(&known).unwrap_or(false) {
        return None;
    }
    let what = match (aside, store.head().seq) {
        (Some(_), _) => "it was damaged and is set aside",
        (None, 0) => "it was removed while the node was down",
        (None, _) => {
            "another was put in its place, or its end was cut off, while the node was down"
        }
    };
    Some(outside::replaced(wall_ms(), &known, store.head(), aside, what))
}

/// Opens the record at `path`; what is none, or is damaged, is moved aside first.
fn open(path: &Path, key: Option<Key>, now_ms: u64) -> anyhow::Result<(Store, Option<PathBuf>)> {
    let error = match Store::open(path, key.clone()) {
        Ok(store) => return Ok((store, None)),
        Err(error) => error,
    };
    let is_damaged = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
    );
    if !is_damaged {
        return Err(error.into());
    }
    let aside = path.with_extension(format!("db.damaged-{now_ms}"));
    tracing::error!(
        %error, aside = %aside.display(),
        "the audit record is damaged; it is set aside and a new one begun"
    );
    for ending in ["", "-wal", "-shm"] {
        let with = |path: &Path| PathBuf::from(format!("{}{ending}", path.display()));
        match std::fs::rename(with(path), with(&aside)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    private::make_file(path)?;
    Ok((Store::open(path, key)?, Some(aside)))
}
