//! What is kept of the past: metrics by resolution in `history.db`, what was learned for the next
//! start, and the last minutes tick by tick in memory. See `docs/history.md`.
//!
//! A file of its own beside the state database: what cannot be read any more is set aside and begun
//! anew, which the registry of instances must never be, and its long transactions keep nobody
//! else waiting.

mod bucket;
mod learned;
mod pending;
pub(crate) mod read;
mod recent;
mod reported;
mod reported_read;
mod schema;
mod scores;
mod store;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwapOption;
use foreshadow_config as config;
use foreshadow_control::{Controller, ServiceName};
use serde::Serialize;

use super::decisions::Event;
use super::translate::Wiring;
use super::view::View;
use learned::Dated;
use recent::Recent;
use schema::Fault;
use scores::CurveScores;
use writer::Writer;

pub(crate) use bucket::Resolution;
pub(crate) use learned::{LearnedTurns, Restored};
pub(crate) use read::{Query, Span};
pub(crate) use recent::Tick;
pub(crate) use reported_read::{Reported, ReportedName, ReportedQuery};
pub(crate) use store::AHEAD_MS;

/// Name of the history database in the state directory.
pub(crate) const HISTORY_DB: &str = "history.db";
/// Ticks that wait for the writer: six seconds; beyond it they are dropped and counted.
const QUEUE: usize = 64;

enum Message {
    Seen(Arc<View>),
    Learned(Vec<Dated>),
    Started(Vec<Event>),
    Scored(CurveScores),
}

type RecentTicks = Arc<Mutex<Recent>>;

/// A handle to the writing thread, and the reading side.
pub(crate) struct History {
    inbox: Mutex<Option<SyncSender<Message>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    path: PathBuf,
    /// The configuration it was started with; absent: nothing is kept.
    keep: Option<config::History>,
    health: Arc<Health>,
    recent: RecentTicks,
    /// What became of memories at start.
    restored: Mutex<Vec<Restored>>,
}

/// How the writer does.
#[derive(Debug, Default)]
struct Health {
    started_ms: u64,
    rows: AtomicU64,
    lost_rows: AtomicU64,
    waiting: AtomicU64,
    dropped_ticks: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
    trouble: ArcSwapOption<String>,
    too_large: ArcSwapOption<String>,
}

impl Health {
    fn worked(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        if self.trouble.swap(None).is_some() {
            tracing::info!("history is written again");
        }
    }

    fn failed(&self, fault: &Fault) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let trouble = format!("history cannot be written: {fault}");
        // Said when it begins, and when it changes.
        if self.trouble.load().as_deref() != Some(&trouble) {
            tracing::error!("{trouble}; requests are served all the same");
            self.trouble.store(Some(Arc::new(trouble)));
        }
    }

    /// Heeds whether it is larger than it may be, bytes of bytes, and nothing more may go.
    fn is_too_large(&self, stuck: Option<(u64, u64)>) {
        let trouble = stuck.map(|(bytes, most)| {
            format!(
                "history takes {bytes} bytes, more than history.max_size ({most}), and no more of it \
                 may go: raise that, or keep history of fewer instances"
            )
        });
        let before = self.too_large.swap(trouble.clone().map(Arc::new));
        match trouble {
            Some(trouble) if before.is_none() => tracing::warn!("{trouble}"),
            None if before.is_some() => tracing::info!("history is no larger than it may be again"),
            _ => {}
        }
    }

    /// What is wrong now.
    fn trouble(&self) -> Option<Arc<String>> {
        self.trouble.load_full().or_else(|| self.too_large.load_full())
    }
}

/// How history does, for API and metrics.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status {
    /// Whether any is kept.
    pub(crate) enabled: bool,
    /// Rows written since start, those added to included.
    pub(crate) rows_written: u64,
    /// Rows that wait for the disk.
    pub(crate) rows_waiting: u64,
    /// Rows given up, since the disk took none for too long; longer spans hold their sums.
    pub(crate) rows_lost: u64,
    /// Ticks left out, since the writer was too far behind.
    pub(crate) ticks_dropped: u64,
    /// Failures to open, write or prune.
    pub(crate) failures: u64,
    /// Bytes in use, as of the last look.
    pub(crate) bytes: u64,
    /// What is wrong now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<Arc<String>>,
    /// What became of what was learned before, at start.
    pub(crate) restored: Vec<Restored>,
}

impl History {
    /// Starts keeping history in `state_dir` as `keep` says. A database that cannot be used is
    /// said and tried again later; it never keeps a node from starting.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(
        state_dir: &Path,
        keep: &config::History,
        now_ms: u64,
    ) -> anyhow::Result<Self> {
        let history = Self {
            inbox: Mutex::new(None),
            writer: Mutex::new(None),
            path: state_dir.join(HISTORY_DB),
            keep: keep.enabled.then_some(*keep),
            health: Arc::new(Health { started_ms: now_ms, ..Health::default() }),
            recent: Arc::default(),
            restored: Mutex::default(),
        };
        if !keep.enabled {
            return Ok(history);
        }
        let db = match schema::open_or_begin_anew(&history.path) {
            Ok((db, _)) => Some(db),
            Err(fault) => {
                history.health.failed(&fault);
                None
            }
        };
        let writer = Writer {
            path: history.path.clone(),
            keep: *keep,
            health: Arc::clone(&history.health),
            recent: Arc::clone(&history.recent),
            db,
        };
        let (inbox, messages) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || writer.run(&messages))
            .context("cannot start the history writer")?;
        *lock(&history.inbox) = Some(inbox);
        *lock(&history.writer) = Some(thread);
        Ok(history)
    }

    /// Takes up what was learned before the last end.
    pub(crate) fn recall(&self, controller: &mut Controller, now_ms: u64) {
        let Some(keep) = self.keep else { return };
        let max_age_ms = u64::try_from(keep.snapshot_max_age.as_millis()).unwrap_or(u64::MAX);
        let restored = learned::recall(&self.path, controller, now_ms, max_age_ms);
        *lock(&self.restored) = restored;
    }

    /// Queues a tick; never waits.
    pub(crate) fn observe(&self, view: &Arc<View>) {
        if !self.send(Message::Seen(Arc::clone(view))) {
            self.health.dropped_ticks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Queues what is known of a service now; false when there was no room for it.
    pub(crate) fn keep_learned(
        &self,
        controller: &Controller,
        service: &ServiceName,
        at_ms: u64,
    ) -> bool {
        let memory = controller.memory(service);
        let dated: Vec<Dated> = memory.into_iter().map(|memory| Dated { at_ms, memory }).collect();
        self.send(Message::Learned(dated))
    }

    /// Queues events that have started, so that their effect can be learned; never waits. False when
    /// there was no room.
    pub(crate) fn remember_events(&self, started: Vec<Event>) -> bool {
        self.send(Message::Started(started))
    }

    /// Queues how curves did, for the next start; what there is no room for is dropped, since there
    /// will be a newer one soon.
    pub(crate) fn keep_scores(
        &self,
        service: &ServiceName,
        reach: &'static str,
        at_ms: u64,
        state: String,
    ) {
        let service = service.clone();
        self.send(Message::Scored(CurveScores { service, reach, at_ms, state }));
    }

    /// How curves did, as it was kept before the last end; nothing where that is too long ago. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn scores(
        &self,
        service: &ServiceName,
        reach: &str,
        now_ms: u64,
    ) -> anyhow::Result<Option<String>> {
        let max_age = self.keep.map_or(Duration::ZERO, |keep| keep.snapshot_max_age);
        let max_age_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        scores::read(&self.path, service, reach, now_ms.saturating_sub(max_age_ms))
    }

    /// Events of a service that have started, newest first. Blocks on the disk.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn events(
        &self,
        service: &ServiceName,
    ) -> anyhow::Result<Vec<foreshadow_predictor::long::Event>> {
        read::events(&self.path, service)
    }

    /// Hands on what is known of all services, once the loop has ended: waits for room.
    pub(super) fn keep_all_learned(&self, controller: &Controller, wiring: &Wiring, at_ms: u64) {
        let services = wiring.services.keys().filter_map(|service| controller.memory(service));
        let dated = services.map(|memory| Dated { at_ms, memory }).collect();
        let inbox = lock(&self.inbox).clone();
        if inbox.is_some_and(|inbox| inbox.send(Message::Learned(dated)).is_err()) {
            tracing::error!("what was learned since it was last kept is lost: no history writer");
        }
    }

    /// Whether anything is kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.keep.is_some()
    }

    /// Time between two times of keeping what is known of one service; absent where nothing is.
    pub(crate) fn learned_every_ms(&self) -> Option<u64> {
        let every = self.keep?.snapshot_interval;
        Some(u64::try_from(every.as_millis()).unwrap_or(u64::MAX))
    }

    /// Writes what is queued and stops the writer.
    pub(crate) fn close(&self) {
        drop(lock(&self.inbox).take());
        let writer = lock(&self.writer).take();
        if writer.is_some_and(|w| w.join().is_err()) {
            tracing::error!("the history writer ended badly; the last seconds may be lost");
        }
    }

    /// Spans of one series, oldest first. Blocks on the disk: not for the tick or an async worker.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn spans(&self, query: &Query) -> anyhow::Result<Vec<Span>> {
        read::spans(&self.path, query)
    }

    /// Spans of one reported metric, oldest first. Blocks on the disk.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn reported(&self, query: &ReportedQuery) -> anyhow::Result<Vec<Reported>> {
        reported_read::spans(&self.path, query)
    }

    /// Reported metrics of a service of which something is kept. Blocks on the disk.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn reported_names(
        &self,
        service: &ServiceName,
    ) -> anyhow::Result<Vec<ReportedName>> {
        reported_read::names(&self.path, service)
    }

    /// The last minutes of a service tick by tick, oldest first.
    pub(crate) fn ticks(&self, service: &ServiceName) -> Vec<Tick> {
        lock(&self.recent).of(service)
    }

    /// How it does.
    pub(crate) fn status(&self) -> Status {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            enabled: self.keep.is_some(),
            rows_written: count(&self.health.rows),
            rows_waiting: count(&self.health.waiting),
            rows_lost: count(&self.health.lost_rows),
            ticks_dropped: count(&self.health.dropped_ticks),
            failures: count(&self.health.failures),
            bytes: count(&self.health.bytes),
            trouble: self.health.trouble(),
            restored: lock(&self.restored).clone(),
        }
    }

    fn send(&self, message: Message) -> bool {
        lock(&self.inbox).as_ref().is_none_or(|inbox| inbox.try_send(message).is_ok())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
