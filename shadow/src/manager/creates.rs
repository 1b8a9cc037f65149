//! Who may make an instance now: few at a time of a service, and of a place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use foreshadow_control::ServiceName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::provider::Provider;

/// Services that may use up all their turns at a place before others have to wait there.
const SLOW_SERVICES: usize = 4;

/// The turns to make instances; see [`crate::ManagerSettings::concurrent_creates`].
pub(super) struct Creates {
    each: usize,
    /// Of those that wait or have one.
    turns: Mutex<BTreeMap<Whose, Arc<Semaphore>>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Service(ServiceName),
    /// The kind of provider, and which of its places.
    Place(&'static str, String),
}

/// The right to make one instance.
pub(super) struct Turn {
    _of_service: OwnedSemaphorePermit,
    _of_place: OwnedSemaphorePermit,
}

impl Creates {
    pub(super) fn new(each: usize) -> Self {
        Self {
            each: each.clamp(1, Semaphore::MAX_PERMITS / SLOW_SERVICES),
            turns: Mutex::default(),
        }
    }

    /// Waits for a turn; it always comes, as turns are never closed.
    pub(super) async fn turn(
        &self,
        service: &ServiceName,
        provider: &dyn Provider,
    ) -> Option<Turn> {
        let own = self.of(Whose::Service(service.clone()), self.each);
        let services = if provider.is_work_here() { 1 } else { SLOW_SERVICES };
        let place = Whose::Place(provider.name(), provider.place());
        let place = self.of(place, self.each * services);
        // One's own turn first: what waits for it must not take one from the others.
        let own = own.acquire_owned().await.ok()?;
        Some(Turn { _of_service: own, _of_place: place.acquire_owned().await.ok()? })
    }

    fn of(&self, whose: Whose, at_once: usize) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // A turn that was given holds its semaphore, too.
        turns.retain(|_, turns| Arc::strong_count(turns) > 1);
        Arc::clone(turns.entry(whose).or_insert_with(|| Arc::new(Semaphore::new(at_once))))
    }
}
