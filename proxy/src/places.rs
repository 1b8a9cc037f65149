//! Places for client connections, shared by all listeners: descriptors are one stock.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many connections all listeners together may have, and how many they have.
#[derive(Debug)]
pub(crate) struct Places {
    limit: AtomicU64,
    taken: AtomicU64,
}

impl Default for Places {
    fn default() -> Self {
        Self { limit: AtomicU64::new(u64::MAX), taken: AtomicU64::new(0) }
    }
}

impl Places {
    /// Bounds what is taken from now on; connections beyond it stay.
    pub(crate) fn limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes a place, to be given back; false when none is left.
    pub(crate) fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let free = self.taken.fetch_add(1, Ordering::AcqRel) < limit;
        if !free {
            self.give_back();
        }
        free
    }

    /// Gives a place back that was taken.
    pub(crate) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}
