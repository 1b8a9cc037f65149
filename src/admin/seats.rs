//! Who holds the places of the admin interface, and who gives way to a newcomer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id};

/// A connection that was not looked at yet: its request may be there already.
const FRESH: u64 = 0;
/// A connection whose request is being answered.
const BUSY: u64 = u64::MAX;

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: HashMap<Id, (Arc<Seat>, AbortHandle)>,
    room: Arc<Room>,
}

/// What the connections share.
#[derive(Debug, Default)]
struct Room {
    /// The number that the last connection that began to wait was given.
    turn: AtomicU64,
    /// Told when one begins to wait.
    waiting: Notify,
}

/// One connection's state: fresh, busy, or since which turn it has been waiting for a request.
#[derive(Debug)]
pub(super) struct Seat {
    state: AtomicU64,
    room: Arc<Room>,
}

impl Seats {
    /// A place for a connection that is about to be served.
    pub(super) fn next(&self) -> Arc<Seat> {
        Arc::new(Seat { state: AtomicU64::new(FRESH), room: Arc::clone(&self.room) })
    }

    /// Notes which task serves it.
    pub(super) fn take(&mut self, seat: Arc<Seat>, task: AbortHandle) {
        self.taken.insert(task.id(), (seat, task));
    }

    /// The task has ended.
    pub(super) fn leave(&mut self, task: Id) {
        self.taken.remove(&task);
    }

    /// How many are taken; those told to leave are not counted.
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    /// Ends the connection that has waited longest for a whole request, if one waits.
    pub(super) fn make_room(&mut self) {
        let waiting = self.taken.iter().filter_map(|(id, (seat, _))| Some((seat.since()?, *id)));
        if let Some((_, id)) = waiting.min()
            && let Some((_, task)) = self.taken.remove(&id)
        {
            task.abort();
        }
    }

    /// Resolves once a connection has begun to wait since the last call.
    pub(super) fn one_waits(&self) -> impl Future<Output = ()> + use<> {
        let room = Arc::clone(&self.room);
        async move { room.waiting.notified().await }
    }
}

impl Seat {
    /// It was looked at, and no request was there.
    pub(super) fn looked_at(&self) {
        let turn = self.room.turn.fetch_add(1, Ordering::Relaxed) + 1;
        let was = self.state.compare_exchange(FRESH, turn, Ordering::AcqRel, Ordering::Relaxed);
        if was.is_ok() {
            self.room.waiting.notify_one();
        }
    }

    /// A whole request is there and is being answered.
    pub(super) fn busy(&self) {
        self.state.store(BUSY, Ordering::Release);
    }

    /// It was answered: the next one is waited for.
    pub(super) fn answered(&self) {
        let turn = self.room.turn.fetch_add(1, Ordering::Relaxed) + 1;
        self.state.store(turn, Ordering::Release);
        self.room.waiting.notify_one();
    }

    fn since(&self) -> Option<u64> {
        let state = self.state.load(Ordering::Acquire);
        (state != FRESH && state != BUSY).then_some(state)
    }
}
