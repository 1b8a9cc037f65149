//! What earlier runs left behind: ended at a start as far as that is possible then, and the rest later.
//! A balancer that does not start because a file cannot be removed is worse than the file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use foreshadow_control::InstanceId;

use super::cgroup::{self, Leaf};
use super::host::ProcessHost;
use super::{blocking, procfs};
use crate::error::ProviderError;

/// First and longest pause between two tries.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

impl ProcessHost {
    /// Ends every process made under this state directory whose instance is not in `keep`,
    /// found by control group and by environment, and removes the files of machines. What cannot be
    /// ended now is tried again until it is. Must be called on a runtime.
    pub(crate) async fn sweep(
        self: &Arc<Self>,
        keep: &[InstanceId],
    ) -> Result<usize, ProviderError> {
        let (host, keep) = (Arc::clone(self), keep.to_vec());
        let (ended, new) = blocking(move || Ok(host.sweep_once(&keep))).await?;
        if !new.is_empty() {
            tokio::spawn(Arc::clone(self).sweep_later(new));
        }
        Ok(ended)
    }

    /// Whether nothing of earlier runs is left that a sweep was to end.
    pub(crate) fn is_swept(&self) -> bool {
        self.left_behind().is_empty()
    }

    fn left_behind(&self) -> MutexGuard<'_, BTreeSet<InstanceId>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many processes were ended, and what newly proved to be impossible to end. Blocks.
    fn sweep_once(&self, keep: &[InstanceId]) -> (usize, BTreeSet<InstanceId>) {
        let _turn = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stuck: BTreeMap<InstanceId, String> = BTreeMap::new();
        let mut ended = 0;
        for (id, leaf) in cgroup::leftovers(&self.facilities) {
            if keep.contains(&id) {
                continue;
            }
            let members = leaf.members().len();
            match leaf.kill().and_then(|()| leaf.remove()) {
                Ok(()) => {
                    ended += members;
                    self.logs.end(id);
                }
                Err(error) => drop(stuck.insert(id, error.to_string())),
            }
        }
        match self.kill_marked(|id| !keep.contains(&id) && !stuck.contains_key(&id)) {
            Ok(killed) => ended += killed,
            Err(error) => {
                let all = procfs::marked(&self.marker).into_iter().map(|(_, id)| id);
                let running = all.filter(|id| !keep.contains(id));
                running.for_each(|id| drop(stuck.insert(id, error.to_string())));
            }
        }
        // The files of what still runs are its own.
        let kept: Vec<InstanceId> = keep.iter().chain(stuck.keys()).copied().collect();
        stuck.extend(self.machines.sweep(&kept).into_iter().map(|(id, e)| (id, e.to_string())));
        let mut new = BTreeSet::new();
        for (id, error) in stuck {
            if self.left_behind().insert(id) {
                tracing::error!(
                    instance = %id, error,
                    "what an earlier run left behind of it cannot be ended or removed; trying again"
                );
                new.insert(id);
            }
        }
        (ended, new)
    }

    async fn sweep_later(self: Arc<Self>, mut left: BTreeSet<InstanceId>) {
        let (mut pause, mut rounds) = (AGAIN.0, 0_u32);
        while !left.is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
            rounds = rounds.saturating_add(1);
            for id in left.clone() {
                let host = Arc::clone(&self);
                match blocking(move || host.end_left(id)).await {
                    Ok(()) => {
                        left.remove(&id);
                        self.left_behind().remove(&id);
                        tracing::info!(instance = %id, "what an earlier run left behind of it is gone");
                    }
                    Err(error) if rounds.is_power_of_two() => {
                        tracing::warn!(instance = %id, %error, rounds, "it still cannot be ended");
                    }
                    Err(_) => {}
                }
            }
        }
    }

    fn end_left(&self, id: InstanceId) -> Result<(), ProviderError> {
        self.kill_tree(id, &Leaf::of(&self.facilities, id))?;
        self.machines.remove(id)?;
        self.logs.end(id);
        Ok(())
    }
}
