//! The thread that writes history: gathers ticks, writes in batches, keeps the file within bounds.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use foreshadow_config as config;
use rusqlite::Connection;

use super::pending::Pending;
use super::schema::{Fault, open_or_begin_anew};
use super::store::{self, SeriesIds};
use super::{Health, Message, RecentTicks, learned};

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
    ids: SeriesIds,
    now_ms: u64,
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
            ids: SeriesIds::default(),
            now_ms: 0,
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
                    let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
                    recent.observe(&view);
                }
                Ok(Message::Learned(memories)) => {
                    self.with_db(&mut work, |db, _| learned::keep(db, &memories));
                }
                Ok(Message::Started(events)) => {
                    self.with_db(&mut work, |db, _| store::remember_events(db, &events));
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
    }

    /// How long nothing is removed: longer where the clock has leapt far ahead of what is there.
    fn leap_hold(&self) -> Duration {
        let newest_ms = self.db.as_ref().and_then(|db| store::newest_ms(db).ok().flatten());
        let ahead_ms = newest_ms.map_or(0, |ms| self.health.started_ms.saturating_sub(ms));
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
        self.health.lost_rows.store(work.pending.lost, Ordering::Relaxed);
        self.health.waiting.store(work.pending.len() as u64, Ordering::Relaxed);
    }

    fn prune(&mut self, work: &mut Work) {
        let keep = self.keep;
        let health = Arc::clone(&self.health);
        self.with_db(work, |db, work| {
            let bytes = store::prune(db, &keep, work.now_ms)?;
            health.bytes.store(bytes, Ordering::Relaxed);
            let max_age_ms = u64::try_from(keep.snapshot_max_age.as_millis()).unwrap_or(u64::MAX);
            learned::forget(db, work.now_ms.saturating_sub(max_age_ms))?;
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

#[cfg(test)]
mod tests {
    use super::super::bucket::Resolution;
    use super::super::tests::{START_MS, keep, query, view};
    use super::super::{HISTORY_DB, read, schema};
    use super::*;
    use crate::node::view::View;

    /// A writer with a database in `dir`, and what it works on, for tests that are its thread.
    fn writer(dir: &std::path::Path) -> (Writer, Work) {
        let path = dir.join(HISTORY_DB);
        let writer = Writer {
            db: Some(schema::open(&path).unwrap()),
            path,
            keep: keep(),
            health: Arc::new(Health { started_ms: START_MS, ..Health::default() }),
            recent: RecentTicks::default(),
        };
        let work = Work::new(Duration::ZERO);
        (writer, work)
    }

    fn waiting(writer: &Writer) -> u64 {
        writer.health.waiting.load(Ordering::Relaxed)
    }

    #[test]
    fn a_full_disk_is_said_and_what_waited_is_written_once_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, mut work) = writer(dir.path());
        let pages = |writer: &Writer, most: i64| {
            let db = writer.db.as_ref().unwrap();
            db.pragma_update(None, "max_page_count", most).unwrap();
        };
        // The database may not grow by a page more: what SQLite says is what it says of a full disk.
        let db = writer.db.as_ref().unwrap();
        let now = db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        pages(&writer, now);
        let mut seconds = 0;
        while writer.health.trouble.load().is_none() {
            assert!(seconds < 1_000, "a full disk is never said");
            work.pending.observe(&view(START_MS + seconds * 1_000, 1_000, 200));
            writer.flush(&mut work);
            seconds += 1;
        }
        let trouble = writer.health.trouble.load_full().unwrap();
        assert!(trouble.contains("full"), "{trouble}");
        assert_eq!(writer.health.lost_rows.load(Ordering::Relaxed), 0, "it waits in memory");
        assert!(waiting(&writer) > 0);
        // Nothing half of a batch was written: every resolution holds the same time.
        let path = writer.path.clone();
        let covered = |resolution| -> u64 {
            let spans = read::spans(&path, &query(resolution)).unwrap();
            spans.iter().map(|span| span.covered_ms).sum()
        };
        let whole = covered(Resolution::Hour);
        assert!(whole < seconds * 1_000);
        assert!(Resolution::ALL.iter().all(|resolution| covered(*resolution) == whole));

        pages(&writer, 1 << 30);
        work.pending.observe(&view(START_MS + seconds * 1_000, 1_000, 200));
        work.pending.close_second();
        writer.flush(&mut work);
        assert_eq!(writer.health.trouble.load_full(), None);
        assert_eq!(waiting(&writer), 0);
        for resolution in Resolution::ALL {
            assert_eq!(covered(resolution), (seconds + 1) * 1_000, "{resolution:?}");
        }
    }

    #[test]
    fn seconds_are_whole_however_often_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, mut work) = writer(dir.path());
        // Of each second the first half is silent and the second one busy: ten times 100 a second.
        for tick in 0..40 {
            let mut seen: View = view(START_MS + tick * 100, 100, 0);
            seen.observation.services[0].arrivals = if tick % 10 < 5 { 0 } else { 20 };
            work.pending.observe(&seen);
            if tick % 10 == 4 {
                writer.flush(&mut work);
            }
        }
        work.pending.close_second();
        writer.flush(&mut work);
        for resolution in Resolution::ALL {
            for span in read::spans(&writer.path, &query(resolution)).unwrap() {
                let rates = (span.rps, span.least_rps, span.most_rps);
                assert_eq!(rates, (100.0, 100.0, 100.0), "{resolution:?}");
            }
        }
    }
}
