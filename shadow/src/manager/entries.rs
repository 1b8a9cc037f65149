//! The shadows that are entered, and what becomes of their orders.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use foreshadow_control::{InstanceId, PlaceName, ServiceName, Tier};
use tokio::sync::watch;
use tokio::time::Instant;

use super::room::Refusal;
use super::runner::Runner;
use super::{Entry, Inner, Order, State, start};
use crate::lifecycle::Lifecycle;
use crate::settings::{ServiceShadows, ShadowInstance};

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the manager started.
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Where a shadow is; in the place without a name if nobody knows it.
    pub(super) fn place_of(&self, id: InstanceId) -> PlaceName {
        self.lock().entries.get(&id).map(|entry| entry.view.place.clone()).unwrap_or_default()
    }

    /// Sets where a shadow should stand.
    pub(super) fn aim(
        &self,
        service: &ServiceName,
        id: InstanceId,
        tier: Tier,
    ) -> Result<(), Refusal> {
        let mut state = self.lock();
        let entry = state
            .entries
            .get_mut(&id)
            .filter(|e| e.view.service == *service && e.left.is_none() && !e.hidden)
            .ok_or_else(|| Refusal::now(format!("service {service} has no shadow {id}")))?;
        let changed = entry.order.send_if_modified(|order| {
            let new = order.target != tier && order.target != Tier::Cold;
            if new {
                order.target = tier;
            }
            new
        });
        if changed && entry.view.tier != tier && entry.view.moving_to != Some(Tier::Cold) {
            entry.view.moving_to = Some(tier);
        }
        Ok(())
    }

    /// Enters a shadow and makes its runner, which the caller starts.
    pub(super) fn enter(
        self: &Arc<Self>,
        state: &mut State,
        id: InstanceId,
        settings: Arc<ServiceShadows>,
        machine: Lifecycle,
        found: Option<start::Found>,
        restarts: u64,
    ) -> Runner {
        let target = machine.moving_to().unwrap_or_else(|| machine.tier());
        let now = Instant::now();
        let view = ShadowInstance {
            id,
            service: settings.service.clone(),
            address: found.as_ref().map(|found| found.handle.address),
            tier: machine.tier(),
            moving_to: machine.moving_to(),
            tier_age_ms: 0,
            zone: settings.zone.clone(),
            place: settings.place.clone(),
            provider: settings.provider.name(),
            pid: found.as_ref().and_then(|found| found.handle.pid),
            restarts,
            outdated: found.as_ref().is_some_and(|found| found.outdated),
            resources: None,
        };
        let age = found.as_ref().map_or(Duration::ZERO, |found| found.tier_age);
        let since = now.checked_sub(age).unwrap_or(now);
        let fingerprint = found
            .as_ref()
            .map_or_else(|| settings.provider.fingerprint(), |found| found.fingerprint.clone());
        let order = Order { target, settings, leave: false, relieve: 0 };
        let (order, orders) = watch::channel(order);
        let handle = found.map(|found| found.handle);
        let (left, hidden, lost, known) = (None, false, false, handle.clone());
        let entry = Entry { view, since, fingerprint, order, left, hidden, lost, handle: known };
        state.entries.insert(id, entry);
        Runner::new(Arc::clone(self), id, machine, orders, handle)
    }

    pub(super) fn spawn(&self, runner: Runner) {
        self.running.send_modify(|running| *running += 1);
        self.runtime.spawn(runner.run());
    }

    /// Changes what is seen of a shadow, if it is still there.
    pub(super) fn update(&self, id: InstanceId, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().entries.get_mut(&id) {
            change(entry);
        }
    }

    /// Notes a failure that delays further creations; returns for how long.
    pub(super) fn failed(&self, settings: &ServiceShadows, started: Duration) -> Duration {
        let (now, jitter) = (self.now(), (self.ground.chance)());
        let mut state = self.lock();
        let pool = state.pools.entry(settings.service.clone()).or_default();
        pool.restarts += 1;
        pool.backoff(&settings.place).failed(&settings.backoff, started, now, jitter)
    }
}
