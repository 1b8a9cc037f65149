//! The thread that writes the record.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Status;
use super::entry::Entry;
use super::inbox::Inbox;
use super::outside::{self, Place, Trouble};
use super::store::{Head, Store};
use crate::node::clock::wall_ms;

/// Entries in one transaction, and entries that wait while the disk takes none; further ones wait
/// in the queue, and are counted when that is full as well.
const BATCH: usize = 1_024;
/// How long a quiet record is left alone, and the pause after a write that failed.
const QUIET: Duration = Duration::from_secs(1);
/// A disk that takes nothing is mentioned this often at most.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether something may go, and after how many entries in any case.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
const PRUNE_AFTER: u64 = 1_000;

/// What is kept, and how often the newest entry is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) keep: Duration,
    pub(super) max_size: u64,
    pub(super) checkpoint_every: Duration,
}

pub(super) struct Writer {
    store: Store,
    inbox: Arc<Inbox>,
    queue: Receiver<Entry>,
    status: Arc<Status>,
    bounds: Bounds,
    waiting: VecDeque<Entry>,
    complained: Option<Instant>,
    pruned: (Instant, u64),
    told: (Instant, u64),
    place: Option<Place>,
    /// Why there is nowhere to write to, while that is so, and what was written last before.
    homeless: Option<(Trouble, Head)>,
}

impl Writer {
    pub(super) fn new(
        store: Store,
        (inbox, queue): (Arc<Inbox>, Receiver<Entry>),
        status: Arc<Status>,
        bounds: Bounds,
    ) -> Self {
        let (now, seq) = (Instant::now(), store.head().seq);
        Self {
            store,
            inbox,
            queue,
            status,
            bounds,
            waiting: VecDeque::new(),
            complained: None,
            pruned: (now, seq),
            told: (now, seq),
            place: None,
            homeless: None,
        }
    }

    /// Looks, before each write and once a second, whether the record is still the one it writes.
    pub(super) fn held_against(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    /// Writes until the inbox is closed and empty.
    pub(super) fn run(mut self) {
        let mut open = true;
        while open || !self.waiting.is_empty() {
            open = self.take();
            self.look();
            if !self.write() && self.inbox.rest(QUIET) {
                // One more try with all there is: nobody waits for a disk for ever.
                self.take();
                if !self.write() {
                    let lost = self.waiting.len() as u64 + self.inbox.lost();
                    tracing::error!(lost, "audit entries could not be written; they are lost");
                    break;
                }
            }
            self.prune();
            self.tell(false);
        }
        self.tell(true);
        if let Some(place) = &self.place {
            place.gather();
        }
        match self.store.gather() {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                "somebody reads the audit record: its last entries stay in audit.db-wal, which \
                 belongs to it"
            ),
            Err(error) => tracing::warn!(%error, "the audit record is not gathered in one file"),
        }
    }

    /// Takes what is there, or waits for something; false once nothing more can come.
    fn take(&mut self) -> bool {
        if self.waiting.is_empty() {
            match self.queue.recv_timeout(QUIET) {
                Ok(first) => self.waiting.push_back(first),
                Err(RecvTimeoutError::Timeout) => {
                    self.waiting.extend(self.inbox.take_gap(&self.queue));
                    return true;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.waiting.extend(self.inbox.take_gap(&self.queue));
                    return false;
                }
            }
        }
        let room = BATCH.saturating_sub(self.waiting.len());
        self.waiting.extend(self.queue.try_iter().take(room));
        true
    }

    /// Writes what waits; false when it still does.
    fn write(&mut self) -> bool {
        if self.waiting.is_empty() {
            return true;
        }
        let written = match &self.homeless {
            Some((trouble, _)) => Err(trouble.what.clone()),
            None => self.store.append(self.waiting.make_contiguous()).map_err(|e| e.to_string()),
        };
        let mut status = self.status.written.lock().unwrap_or_else(PoisonError::into_inner);
        status.waiting = if written.is_ok() { 0 } else { self.waiting.len() as u64 };
        match written {
            Ok(()) => {
                if self.complained.take().is_some() {
                    tracing::info!(entries = self.waiting.len(), "audit entries are written again");
                }
                self.waiting.clear();
                status.failing = None;
                status.head = self.store.head().clone();
                drop(status);
                self.keep_head();
                true
            }
            Err(error) => {
                status.failing = Some(error.clone());
                drop(status);
                if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                    self.complained = Some(Instant::now());
                    tracing::error!(
                        %error, waiting = self.waiting.len(), lost = self.inbox.lost(),
                        "audit entries cannot be written; they wait, as many as there is room for"
                    );
                }
                false
            }
        }
    }

    /// Keeps the newest entry outside the record.
    fn keep_head(&mut self) {
        if let Some(place) = &mut self.place {
            place.keep(self.store.head());
        }
    }

    /// Where the record was removed, replaced or spoiled, goes on with what is there now, and says so
    /// there first.
    fn look(&mut self) {
        let Some(place) = &mut self.place else { return };
        let (trouble, known) = match self.homeless.take() {
            Some(homeless) => homeless,
            None => match place.trouble(&self.store) {
                None => return,
                Some(trouble) => {
                    let what = &trouble.what;
                    tracing::error!(
                        what,
                        head = self.store.head().seq,
                        "the audit record is not as it was"
                    );
                    (trouble, self.store.head().clone())
                }
            },
        };
        let opened = Store::nowhere().map_err(anyhow::Error::from).and_then(|nowhere| {
            place.open_anew(std::mem::replace(&mut self.store, nowhere), &trouble)
        });
        match opened {
            Ok((store, aside)) => {
                self.store = store;
                let found = self.store.head();
                let entry =
                    outside::replaced(wall_ms(), &known, found, aside.as_deref(), &trouble.what);
                let mut status = self.status.written.lock().unwrap_or_else(PoisonError::into_inner);
                status.replaced = (Some(entry.cause.clone()), status.replaced.1 + 1);
                status.head = found.clone();
                drop(status);
                self.waiting.push_front(entry);
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "no other can be begun yet");
                self.homeless = Some((trouble, known));
            }
        }
    }

    fn prune(&mut self) {
        let (at, seq) = self.pruned;
        let head = self.store.head().seq;
        if at.elapsed() < PRUNE_EVERY && head.saturating_sub(seq) < PRUNE_AFTER {
            return;
        }
        let Bounds { keep, max_size, .. } = self.bounds;
        match self.store.prune(wall_ms(), keep, max_size) {
            Ok(0) => {}
            Ok(removed) => {
                tracing::info!(removed, "audit entries beyond their bounds were removed")
            }
            Err(error) => tracing::warn!(%error, "old audit entries cannot be removed"),
        }
        let mut status = self.status.written.lock().unwrap_or_else(PoisonError::into_inner);
        status.head = self.store.head().clone();
        self.pruned = (Instant::now(), status.head.seq);
        drop(status);
        self.keep_head();
    }

    /// Tells the log which entry is the newest: whoever keeps the log can hold the record against it.
    fn tell(&mut self, now: bool) {
        let (at, seq) = self.told;
        let head = self.store.head();
        if head.seq == seq || !now && at.elapsed() < self.bounds.checkpoint_every {
            return;
        }
        self.told = (Instant::now(), head.seq);
        tracing::info!(
            checkpoint = format!("{}:{}", head.seq, head.hash),
            "newest audit entry; `foreshadow audit verify --expect-head` holds the record against it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Actor;
    use super::super::store::open_read_only;
    use super::super::verify::verify;
    use super::super::{Inbox, Written};
    use super::*;

    #[test]
    fn what_a_full_disk_does_not_take_waits_and_what_finds_no_room_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.db");
        let store = Store::open(&path, None).unwrap();
        let (inbox, queue) = Inbox::new();
        let inbox = Arc::new(inbox);
        let status = Arc::new(Status { written: std::sync::Mutex::new(Written::default()) });
        let hour = Duration::from_secs(3_600);
        let bounds = Bounds { keep: hour, max_size: u64::MAX, checkpoint_every: hour };
        let ways = (Arc::clone(&inbox), queue);
        let mut writer = Writer::new(store, ways, Arc::clone(&status), bounds);
        let entry = |at_ms| Entry::new(at_ms, Actor::Manager, "instance.exit");
        inbox.push(entry(1));
        assert!(writer.take() && writer.write());
        writer.store.limit_pages(Some(1));
        for at_ms in 2..=6_000 {
            inbox.push(entry(at_ms));
        }
        assert!(writer.take() && !writer.write(), "the disk is full");
        assert!(status.written.lock().unwrap().failing.is_some());
        assert_eq!(writer.waiting.len(), BATCH);
        assert!(writer.take() && !writer.write(), "it still is");
        assert_eq!(writer.waiting.len(), BATCH, "no more is taken out of the queue");
        writer.store.limit_pages(None);
        while writer.take() && writer.write() && writer.store.head().seq < 4_098 {}
        assert!(status.written.lock().unwrap().failing.is_none());
        let good = verify(&open_read_only(&path).unwrap(), &[], &[]).unwrap().unwrap();
        // One before, as many as the queue has room for, and one for all the others.
        assert_eq!((good.count, good.lost), (1 + 4_096 + 1, 6_000 - 1 - 4_096));
        assert_eq!(status.written.lock().unwrap().head, good.head);
    }
}
