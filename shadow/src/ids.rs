//! Ids handed out without waiting: blocks are reserved in the registry ahead of need.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use foreshadow_control::InstanceId;

use crate::error::ShadowError;
use crate::registry::Registry;

/// Ids reserved at a time. A restart skips what is left of a block; ids are 64 bits wide.
const BLOCK: u32 = 64;

/// The ids reserved and not yet used.
pub(crate) struct Ids {
    registry: Registry,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    blocks: VecDeque<Range<u64>>,
    refilling: bool,
}

impl Ids {
    /// Reserves the first block.
    pub(crate) async fn new(registry: Registry) -> Result<Self, ShadowError> {
        let ids = Self { registry, state: Mutex::default() };
        ids.refill().await?;
        Ok(ids)
    }

    /// The next id, and whether [`Ids::refill`] should be started; no id when the registry could
    /// not reserve more in time.
    pub(crate) fn next(&self) -> (Option<InstanceId>, bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let id = loop {
            let Some(block) = state.blocks.front_mut() else { break None };
            match block.next() {
                Some(id) => break Some(InstanceId(id)),
                None => drop(state.blocks.pop_front()),
            }
        };
        let left: u64 = state.blocks.iter().map(|block| block.end - block.start).sum();
        let refill = left < u64::from(BLOCK) / 2 && !state.refilling;
        state.refilling |= refill;
        (id, refill)
    }

    /// Reserves one more block.
    pub(crate) async fn refill(&self) -> Result<(), ShadowError> {
        let first = self.registry.reserve_ids(BLOCK).await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refilling = false;
        let first = first?;
        state.blocks.push_back(first..first + u64::from(BLOCK));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::ground::Ground;

    #[tokio::test]
    async fn ids_are_unique_over_refills_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("foreshadow.db");
        let mut seen = BTreeSet::new();
        for _ in 0..2 {
            let ids = Ids::new(Registry::open(&path, &Arc::new(Ground::default())).await.unwrap())
                .await
                .unwrap();
            for _ in 0..200 {
                let (id, refill) = ids.next();
                assert!(seen.insert(id.unwrap()));
                if refill {
                    ids.refill().await.unwrap();
                }
            }
        }
        assert_eq!(seen.len(), 400);
    }

    #[tokio::test]
    async fn without_a_refill_ids_run_out_instead_of_repeating() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("foreshadow.db");
        let ids = Ids::new(Registry::open(&path, &Arc::new(Ground::default())).await.unwrap())
            .await
            .unwrap();
        let given: Vec<_> = (0..100).filter_map(|_| ids.next().0).collect();
        assert_eq!(given.len(), BLOCK as usize);
    }
}
