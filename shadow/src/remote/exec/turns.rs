//! Who may run a command now: few at a time of a service, one at a time for an instance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Orders of a service that run at the same time.
pub(super) const ORDERS: usize = 8;
/// Lists of a service, apart from the orders: an end must be seen while orders hang.
const LISTS: usize = 2;

/// The turns of one service.
pub(super) struct Turns {
    orders: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    /// Of the instances that an order runs or waits for.
    instances: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// The right to run one command, for as long as anything of it runs.
pub(super) struct Turn {
    _one_of_few: OwnedSemaphorePermit,
    _alone: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    pub(super) fn new() -> Self {
        let of = |places| Arc::new(Semaphore::new(places));
        Self { orders: of(ORDERS), lists: of(LISTS), instances: Mutex::default() }
    }

    /// Waits for a turn; nothing when it has not come in that time. What is about no instance is a
    /// list.
    pub(super) async fn take(&self, about: Option<&str>, patience: Duration) -> Option<Turn> {
        let turn = async {
            let alone = match about {
                Some(instance) => Some(self.of(instance).lock_owned().await),
                None => None,
            };
            let places = if alone.is_some() { &self.orders } else { &self.lists };
            // Never closed.
            let permit = Arc::clone(places).acquire_owned().await.ok()?;
            Some(Turn { _one_of_few: permit, _alone: alone })
        };
        timeout(patience, turn).await.ok()?
    }

    fn of(&self, instance: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(instances.entry(instance.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_instance_has_one_turn_a_service_few_and_lists_their_own() {
        let turns = Turns::new();
        let patience = Duration::from_secs(5);
        let first = turns.take(Some("i1"), patience).await;
        assert!(first.is_some() && turns.take(Some("i1"), patience).await.is_none());
        let mut held: Vec<_> = Vec::new();
        for instance in 2..=ORDERS {
            held.push(turns.take(Some(&format!("i{instance}")), patience).await.unwrap());
        }
        assert!(turns.take(Some("i99"), patience).await.is_none());
        assert!(turns.take(None, patience).await.is_some());
        drop(first);
        assert!(turns.take(Some("i1"), patience).await.is_some());
        drop(held);
        assert!(turns.take(Some("i99"), patience).await.is_some());
        assert_eq!(turns.instances.lock().unwrap().len(), 1, "what is not used is forgotten");
    }
}
