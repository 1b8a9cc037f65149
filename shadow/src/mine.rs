//! The instances that are somebody's, of one kind of provider: what else carries our label is nobody's.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foreshadow_control::InstanceId;

/// The instances that this process made or took over, at whatever place, and those of earlier runs
/// that are to be kept.
#[derive(Default)]
pub(crate) struct Mine(Mutex<Known>);

#[derive(Default)]
struct Known {
    mine: BTreeSet<InstanceId>,
    /// Absent before the first sweep, when nobody knows.
    kept: Option<BTreeSet<InstanceId>>,
}

impl Mine {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, id: InstanceId) {
        self.known().mine.insert(id);
    }

    /// It is no more.
    pub(crate) fn remove(&self, id: InstanceId) {
        let mut known = self.known();
        known.mine.remove(&id);
        if let Some(kept) = &mut known.kept {
            kept.remove(&id);
        }
    }

    /// Notes what a start keeps, wherever that is.
    pub(crate) fn keep(&self, ids: &[InstanceId]) {
        self.known().kept = Some(ids.iter().copied().collect());
    }

    /// Whether it is known what is to be kept.
    pub(crate) fn is_known(&self) -> bool {
        self.known().kept.is_some()
    }

    /// Whether it was made or taken over here, or is to be kept.
    pub(crate) fn has(&self, id: InstanceId) -> bool {
        let known = self.known();
        known.mine.contains(&id) || known.kept.as_ref().is_some_and(|kept| kept.contains(&id))
    }

    /// Whether it is known to be neither.
    pub(crate) fn is_nobodys(&self, id: InstanceId) -> bool {
        self.is_known() && !self.has(id)
    }
}
