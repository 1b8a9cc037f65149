//! What waits for the writer: bounded, in order, and nothing is lost without a word.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::entry::{Actor, Entry, Outcome};

/// Entries that wait for the disk; beyond it they are counted, and the count is an entry itself.
const QUEUE: usize = 4_096;

/// The way to the writer. The lock is held for a push at most, by the tick as by everybody else.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    closed: Condvar,
}

#[derive(Debug)]
struct State {
    queue: Option<SyncSender<Entry>>,
    lost: Lost,
    lost_ever: u64,
}

/// What found no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lost {
    count: u64,
    first_ms: u64,
    last_ms: u64,
}

impl Lost {
    /// The entry that stands for what is lost.
    fn entry(self) -> Entry {
        let told = json!({ "lost": self.count, "from_ms": self.first_ms, "to_ms": self.last_ms });
        Entry::new(self.last_ms, Actor::Node, "audit.gap")
            .changed(serde_json::Value::Null, told)
            .came_to(Outcome::Failed, "the disk was too slow for what was done")
    }
}

impl Inbox {
    pub(super) fn new() -> (Self, Receiver<Entry>) {
        Self::with_room(QUEUE)
    }

    fn with_room(room: usize) -> (Self, Receiver<Entry>) {
        let (queue, entries) = sync_channel(room);
        let state = State { queue: Some(queue), lost: Lost::default(), lost_ever: 0 };
        (Self { state: Mutex::new(state), closed: Condvar::new() }, entries)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry in, after that for what found no room before it; never waits.
    pub(super) fn push(&self, entry: Entry) {
        let mut state = self.state();
        let State { queue, lost, lost_ever } = &mut *state;
        let at_ms = entry.at_ms;
        let taken = queue.as_ref().is_some_and(|queue| {
            if lost.count > 0 {
                if queue.try_send(lost.entry()).is_err() {
                    return false;
                }
                *lost = Lost::default();
            }
            queue.try_send(entry).is_ok()
        });
        if !taken {
            if lost.count == 0 {
                lost.first_ms = at_ms;
            }
            lost.count += 1;
            lost.last_ms = at_ms;
            *lost_ever += 1;
        }
    }

    /// The entry for what found no room since the last one, if anything did. To be asked for when
    /// the queue is empty: it stands after all that is in there.
    pub(super) fn take_gap(&self, queue: &Receiver<Entry>) -> Option<Entry> {
        let mut state = self.state();
        // Nobody can put anything in meanwhile.
        if let Ok(entry) = queue.try_recv() {
            return Some(entry);
        }
        let lost = std::mem::take(&mut state.lost);
        (lost.count > 0).then(|| lost.entry())
    }

    /// How many were lost since the start.
    pub(super) fn lost(&self) -> u64 {
        self.state().lost_ever
    }

    /// Takes nothing more. What is in there is still written.
    pub(super) fn close(&self) {
        self.state().queue = None;
        self.closed.notify_all();
    }

    /// Waits so long, or until it is closed; whether it is.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let waited = self.closed.wait_timeout_while(self.state(), time, |s| s.queue.is_some());
        waited.unwrap_or_else(PoisonError::into_inner).0.queue.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_told_in_its_place() {
        let (inbox, queue) = Inbox::with_room(2);
        let entry = |at_ms| Entry::new(at_ms, Actor::Manager, "instance.exit");
        for at_ms in 1..=5 {
            inbox.push(entry(at_ms));
        }
        assert_eq!(inbox.lost(), 3);
        assert_eq!(queue.try_recv().unwrap().at_ms, 1);
        // There is room for the gap, and none for what follows it.
        inbox.push(entry(6));
        assert_eq!(queue.try_recv().unwrap().at_ms, 2);
        let gap = queue.try_recv().unwrap();
        assert_eq!((gap.action, &gap.after["lost"]), ("audit.gap", &json!(3)));
        assert_eq!((&gap.after["from_ms"], &gap.after["to_ms"]), (&json!(3), &json!(5)));
        let gap = inbox.take_gap(&queue).unwrap();
        assert_eq!((gap.action, &gap.after["lost"]), ("audit.gap", &json!(1)));
        assert_eq!(inbox.take_gap(&queue), None);
        inbox.push(entry(7));
        assert_eq!(inbox.take_gap(&queue).unwrap().at_ms, 7, "nothing is left in the queue");
        inbox.close();
        assert!(inbox.rest(Duration::from_secs(60)), "it does not wait any more");
        inbox.push(entry(8));
        assert_eq!(inbox.lost(), 5);
    }
}
