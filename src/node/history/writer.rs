//! The thread that writes history: gathers ticks, writes in batches, keeps the file within bounds.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use foreshadow_config as config;
use rusqlite::Connection;

use super::learned::Dated;
use super::pending::Pending;
use super::reported::Reported;
use super::schema::{Fault, open_or_begin_anew};
use super::scores::{self, CurveScores};
use super::store::{self, SeriesIds};
use super::{Health, Message, RecentTicks, learned};
use crate::node::decisions::Event;

/// Time between two transactions: what a crash loses at most, besides what is queued.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// Time between two looks for what is to be removed.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Time until a database that could not be used is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(10);
/// A clock this far ahead of the newest row may be wrong: nothing is removed for a while.
const LEAP_MS: u64 = 30 * 86_400_000;
/// That while: time to notice a wrong clock before it has cost anything.
const HOLD_AFTER_LEAP: Duration = Duration::from_secs(3_600);
/// Events that may wait for the disk.
const MOST_EVENTS: usize = 10_000;
/// Memories of services that may wait for the disk: each is some hundred kilobytes.
const MOST_LEARNED: usize = 100;

/// What the thread works with.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) keep: config::History,
    pub(super) health: Arc<Health>,
    pub(super) recent: RecentTicks,
    pub(super) db: Option<Connection>,
}

/// What it remembers between messages.
struct Work {
    pending: Pending,
    reported: Reported,
    /// Events that have started, and memories, of each service the newest, that wait for the disk.
    started: VecDeque<Event>,
    learned: Vec<Dated>,
    /// Of each service and reach the newest.
    scored: Vec<CurveScores>,
    ids: SeriesIds,
    now_ms: u64,
    /// Since when there are rows of a time to come.
    ahead_since: Option<Instant>,
    flush_at: Instant,
    prune_at: Instant,
    retry_at: Instant,
}

impl Work {
    /// Nothing yet; the first look for what is to be removed comes after `prune_after`.
    fn new(prune_after: Duration) -> Self {
        let start = Instant::now();
        Self {
            pending: Pending::default(),
            reported: Reported::default(),
            started: VecDeque::new(),
            learned: Vec::new(),
            scored: Vec::new(),
            ids: SeriesIds::default(),
            now_ms: 0,
            ahead_since: None,
            flush_at: start + FLUSH_EVERY,
            prune_at: start + prune_after,
            retry_at: start,
        }
    }

    /// Goes with the clock; one that leaps far ahead may be wrong, and removes nothing for a while.
    fn goes_to(&mut self, now_ms: u64) {
        if self.now_ms > 0 && now_ms.saturating_sub(self.now_ms) > LEAP_MS {
            self.prune_at = Instant::now() + HOLD_AFTER_LEAP;
        }
        self.now_ms = now_ms;
    }

    /// Takes events to be written; of too many the oldest are given up.
    fn start(&mut self, events: Vec<Event>) {
        self.started.extend(events);
        let surplus = self.started.len().saturating_sub(MOST_EVENTS);
        if surplus > 0 {
            tracing::warn!(
                surplus,
                "the effect of events will not be learned: history is not written"
            );
            self.started.drain(..surplus);
        }
    }

    /// Takes memories to be written over older ones of the same services.
    fn learn(&mut self, memories: Vec<Dated>) {
        let is_new = |old: &Dated| memories.iter().any(|new| new.is_of_the_same(old));
        self.learned.retain(|old| !is_new(old));
        // What comes at the end comes at once, and of every service.
        let most = MOST_LEARNED.max(memories.len());
        self.learned.extend(memories);
        self.learned.drain(..self.learned.len().saturating_sub(most));
    }
}

impl Writer {
    /// Runs until the queue ends; what is left is written then.
    pub(super) fn run(mut self, inbox: &Receiver<Message>) {
        let mut work = Work::new(self.leap_hold());
        loop {
            let wait = work.flush_at.saturating_duration_since(Instant::now());
            match inbox.recv_timeout(wait) {
                Ok(Message::Seen(view)) => {
                    work.goes_to(view.now_ms);
                    work.pending.observe(&view);
                    work.reported.observe(&view);
                    let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
                    recent.observe(&view);
                }
                Ok(Message::Learned(memories)) => {
                    work.learn(memories);
                    self.write_learned(&mut work);
                }
                Ok(Message::Scored(new)) => {
                    work.scored.retain(|old| !new.is_of_the_same(old));
                    work.scored.push(new);
                }
                Ok(Message::Started(events)) => {
                    work.start(events);
                    self.write_started(&mut work);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= work.flush_at {
                self.flush(&mut work);
                work.flush_at = Instant::now() + FLUSH_EVERY;
            }
            if Instant::now() >= work.prune_at {
                self.prune(&mut work);
                work.prune_at = Instant::now() + PRUNE_EVERY;
            }
        }
        work.retry_at = Instant::now();
        work.pending.close_second();
        self.flush(&mut work);
        self.write_reported(&mut work, true);
    }

    /// How long nothing is removed: longer where the clock has leapt far ahead of what is there.
    fn leap_hold(&self) -> Duration {
        let now_ms = self.health.started_ms;
        let newest_ms = self.db.as_ref().and_then(|db| store::newest_ms(db, now_ms).ok().flatten());
        let ahead_ms = newest_ms.map_or(0, |ms| now_ms.saturating_sub(ms));
        if ahead_ms <= LEAP_MS {
            return PRUNE_EVERY / 4;
        }
        tracing::warn!(
            days = ahead_ms / 86_400_000,
            "the clock is far ahead of the newest history: nothing of it is removed for an hour, \
             in case the clock is wrong"
        );
        HOLD_AFTER_LEAP
    }

    /// Writes the seconds that are over. One that is not would be written in parts, and each of
    /// them be taken for a second, in which there was less or more.
    fn flush(&mut self, work: &mut Work) {
        if work.pending.len() > 0 {
            self.with_db(work, |db, work| {
                let rows = store::write(db, &mut work.ids, &work.pending)?;
                work.pending.written();
                Ok(rows)
            });
        }
        self.write_started(work);
        self.write_learned(work);
        self.write_scored(work);
        self.write_reported(work, false);
        let lost = work.pending.lost.saturating_add(work.reported.lost);
        self.health.lost_rows.store(lost, Ordering::Relaxed);
        self.health.waiting.store(work.pending.len() as u64, Ordering::Relaxed);
    }

    fn write_started(&mut self, work: &mut Work) {
        if work.started.is_empty() {
            return;
        }
        self.with_db(work, |db, work| {
            store::remember_events(db, work.started.make_contiguous())?;
            work.started.clear();
            Ok(0)
        });
    }

    fn write_learned(&mut self, work: &mut Work) {
        if work.learned.is_empty() {
            return;
        }
        self.with_db(work, |db, work| {
            learned::keep(db, &work.learned)?;
            work.learned.clear();
            Ok(0)
        });
    }

    fn write_reported(&mut self, work: &mut Work, all: bool) {
        if work.reported.is_due(all) {
            self.with_db(work, |db, work| work.reported.write(db, all));
        }
    }

    fn write_scored(&mut self, work: &mut Work) {
        if work.scored.is_empty() {
            return;
        }
        self.with_db(work, |db, work| {
            scores::keep(db, &work.scored)?;
            work.scored.clear();
            Ok(0)
        });
    }

    fn prune(&mut self, work: &mut Work) {
        if work.now_ms == 0 {
            return;
        }
        let keep = self.keep;
        let health = Arc::clone(&self.health);
        self.with_db(work, |db, work| {
            remove_ahead(db, work)?;
            let pruned = store::prune(db, &keep, work.now_ms)?;
            health.bytes.store(pruned.bytes, Ordering::Relaxed);
            health.is_too_large(pruned.is_stuck.then_some((pruned.bytes, keep.max_size)));
            let max_age_ms = u64::try_from(keep.snapshot_max_age.as_millis()).unwrap_or(u64::MAX);
            learned::forget(db, work.now_ms.saturating_sub(max_age_ms))?;
            scores::forget(db, work.now_ms.saturating_sub(max_age_ms))?;
            if store::remove_empty_series(db)? > 0 {
                work.ids.forget();
            }
            Ok(0)
        });
    }

    /// Does something with the database, opening it where that is due, and keeps account of how it
    /// went. A failure costs time, never the thread.
    fn with_db(
        &mut self,
        work: &mut Work,
        run: impl FnOnce(&mut Connection, &mut Work) -> rusqlite::Result<u64>,
    ) {
        if self.db.is_none() {
            if Instant::now() < work.retry_at {
                return;
            }
            match open_or_begin_anew(&self.path) {
                Ok((db, _)) => {
                    work.ids.forget();
                    self.db = Some(db);
                }
                Err(fault) => {
                    work.retry_at = Instant::now() + RETRY_EVERY;
                    self.health.failed(&fault);
                    return;
                }
            }
        }
        let Some(db) = &mut self.db else { return };
        match run(db, work) {
            Ok(rows) => self.health.worked(rows),
            Err(error) => {
                let fault = Fault::from(error);
                self.health.failed(&fault);
                // A damaged database is moved aside when it is opened again, at once.
                if matches!(fault, Fault::Broken(_)) {
                    self.db = None;
                    super::schema::set_aside(&self.path);
                }
            }
        }
    }
}

/// Removes rows of a time to come, which a clock wrote that was ahead; not at once, since it may be
/// now that the clock is behind.
fn remove_ahead(db: &mut Connection, work: &mut Work) -> rusqlite::Result<()> {
    if !store::is_ahead(db, work.now_ms)? {
        work.ahead_since = None;
    } else if work.ahead_since.get_or_insert_with(Instant::now).elapsed() >= HOLD_AFTER_LEAP {
        tracing::warn!("history of a time to come is removed: the clock that wrote it was ahead");
        store::remove_ahead(db, work.now_ms)?;
        work.ahead_since = None;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
