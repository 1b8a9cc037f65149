//! The manager: takes actions, keeps what is known of every shadow, and hands facts back.
//!
//! Each shadow has one task (`runner`) that walks it towards its target; the manager only sets
//! targets. There is no queue of actions: the newest target of a shadow is all that waits, so what
//! can pile up is bounded by the pools' `max`.

mod creates;
mod disturb;
mod entries;
mod ready;
mod replace;
mod room;
mod runner;
mod shown;
#[cfg(test)]
mod simulation;
mod start;
mod steps;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foreshadow_control::{Action, Fact, InstanceId, PlaceName, ServiceName, Tier};
use tokio::sync::watch;
use tokio::time::Instant;

use self::creates::Creates;
use self::replace::Replacing;
use self::room::Refusal;
use crate::backoff::Backoff;
use crate::error::ShadowError;
use crate::facts::Facts;
use crate::ground::Ground;
use crate::ids::Ids;
use crate::lifecycle::Lifecycle;
use crate::provider::{Capabilities, Handle};
use crate::registry::Registry;
use crate::settings::{ManagerSettings, OnExit, Readiness, ServiceShadows, ShadowInstance};
use crate::state_dir::StateLock;

pub use self::replace::Leaving;

/// Executes plans on providers and owns every shadow; a cheap handle.
#[derive(Clone)]
pub struct Manager {
    inner: Arc<Inner>,
}

/// What the manager and its runners share.
struct Inner {
    state: Mutex<State>,
    facts: Facts,
    ids: Ids,
    registry: Registry,
    ground: Arc<Ground>,
    readiness: Arc<dyn Readiness>,
    creates: Creates,
    /// Runners that have not finished.
    running: watch::Sender<usize>,
    /// Set once nobody waits for shadows to end by themselves any more.
    hurry: watch::Sender<bool>,
    /// Shadows that were hurt on purpose and are not known to be as their tier asks for again.
    disturbed: watch::Sender<BTreeSet<InstanceId>>,
    runtime: tokio::runtime::Handle,
    origin: Instant,
    /// Given back by a shutdown that left nothing running, though tasks may still hold this.
    lock_of_dir: Mutex<Option<StateLock>>,
}

/// Held for map operations only, never across an await and never by a request: the tick, the
/// runners and the admin API meet here a few times per tick.
#[derive(Default)]
struct State {
    /// By service and place.
    services: BTreeMap<Where, Arc<ServiceShadows>>,
    pools: BTreeMap<ServiceName, Pool>,
    entries: BTreeMap<InstanceId, Entry>,
    closed: bool,
    /// What the start ended of earlier runs, by kind of provider.
    swept: Vec<(&'static str, usize)>,
}

/// Where shadows are made: of a service, in one of its places.
type Where = (ServiceName, PlaceName);

/// What outlives the instances of a service.
#[derive(Default)]
struct Pool {
    backoffs: BTreeMap<PlaceName, Backoff>,
    /// Instances that failed or ended by themselves.
    restarts: u64,
    /// How far the replacement of outdated instances has come.
    replacing: Replacing,
}

impl Pool {
    /// Of one place.
    fn backoff(&mut self, place: &PlaceName) -> &mut Backoff {
        self.backoffs.entry(place.clone()).or_default()
    }
}

/// One shadow as the manager sees it.
struct Entry {
    view: ShadowInstance,
    since: Instant,
    fingerprint: String,
    order: watch::Sender<Order>,
    /// Since when its service is gone while it finishes its requests.
    left: Option<Instant>,
    /// It is of no use any more and not shown; until it has ended it counts all the same.
    hidden: bool,
    /// It ended by itself or never ran, and cannot be confirmed to be gone.
    lost: bool,
    /// What its provider knows it by, once it is made.
    handle: Option<Handle>,
}

/// What a runner is told.
#[derive(Clone)]
struct Order {
    target: Tier,
    settings: Arc<ServiceShadows>,
    /// Stop without touching the instance; the next start adopts it.
    leave: bool,
    /// How often it was to be brought to its tier anew, whatever is taken to be so.
    relieve: u64,
}

impl Manager {
    /// Opens the registry, takes over what still runs from before, ends what should not run, and
    /// is ready for actions. Must be called on a Tokio runtime with IO and time, which then
    /// carries all its work.
    ///
    /// # Errors
    /// When another Foreshadow holds the state directory, it cannot be written, or the database
    /// cannot be used.
    pub async fn start(
        settings: ManagerSettings,
        readiness: Arc<dyn Readiness>,
    ) -> Result<Self, ShadowError> {
        let ground = Arc::new(Ground::default());
        start::start(settings, readiness, ground).await.map(|inner| Self { inner })
    }

    /// Carries actions out. Returns at once: creations are admitted or refused here, everything
    /// else sets the target of a shadow, whose steps then run outside the caller. What is refused
    /// comes back as [`Fact::StepFailed`].
    pub fn apply(&self, service: &ServiceName, actions: &[Action]) {
        for action in actions {
            let refused = match *action {
                Action::Create { tier, ref place } => {
                    let refused = self.create(service, place, tier).err();
                    refused.map(|refusal| (None, tier, refusal, place.clone()))
                }
                Action::Move { instance, tier } => {
                    self.inner.aim(service, instance, tier).err().map(|refusal| {
                        (Some(instance), tier, refusal, self.inner.place_of(instance))
                    })
                }
                Action::Destroy { instance } => {
                    self.inner.aim(service, instance, Tier::Cold).err().map(|refusal| {
                        (Some(instance), Tier::Cold, refusal, self.inner.place_of(instance))
                    })
                }
            };
            if let Some((instance, to, Refusal { error, retry_in }, place)) = refused {
                let retry_in_ms = whole_ms(retry_in);
                let fact = Fact::StepFailed { instance, to, error, retry_in_ms, place };
                self.inner.facts.push(service, fact);
            }
        }
    }

    /// Every shadow that exists now, those being made or ended included, ordered by id.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ShadowInstance> {
        let state = self.inner.lock();
        let now = Instant::now();
        state
            .entries
            .values()
            .filter(|entry| !entry.hidden)
            .map(|entry| ShadowInstance {
                tier_age_ms: whole_ms(now.saturating_duration_since(entry.since)),
                ..entry.view.clone()
            })
            .collect()
    }

    /// The places of a service, each with the kind of its provider and what that can do.
    #[must_use]
    pub fn places(&self, service: &ServiceName) -> Vec<(PlaceName, &'static str, Capabilities)> {
        let state = self.inner.lock();
        let here = state.services.iter().filter(|((of, _), _)| of == service);
        here.map(|((_, place), settings)| {
            (place.clone(), settings.provider.name(), settings.provider.capabilities())
        })
        .collect()
    }

    /// How many instances of earlier runs that nobody knew any more the start ended, by kind of
    /// provider; what a slow provider ends later is not among them.
    #[must_use]
    pub fn swept(&self) -> Vec<(&'static str, usize)> {
        self.inner.lock().swept.clone()
    }

    /// What happened since the last call, oldest first; bounded.
    #[must_use]
    pub fn take_facts(&self) -> Vec<(ServiceName, Fact)> {
        self.inner.facts.take()
    }

    /// The id of a primary: the same for the same service and address for the life of the
    /// database, and never that of a shadow.
    ///
    /// # Errors
    /// When the registry cannot be read or written.
    pub async fn primary_id(
        &self,
        service: &ServiceName,
        address: SocketAddr,
    ) -> Result<InstanceId, ShadowError> {
        self.inner.registry.primary_id(service.clone(), address).await
    }

    /// The registry, for what else is kept there.
    pub(crate) fn registry(&self) -> Registry {
        self.inner.registry.clone()
    }

    /// Takes new settings. Shadows of services that are gone are ended; those of them that serve
    /// drain first, and come back for the caller to end with [`Manager::end_leaving`] once they
    /// have no more requests: the manager sees none. Shadows whose provider
    /// settings changed are replaced one by one while they do not serve; all others go on
    /// untouched under the new times and limits.
    pub fn reconfigure(&self, services: Vec<ServiceShadows>) -> Vec<Leaving> {
        replace::reconfigure(&self.inner, services)
    }

    /// Ends a shadow that has drained, unless its service was configured again meanwhile.
    pub fn end_leaving(&self, leaving: &Leaving) {
        replace::end_leaving(&self.inner, leaving);
    }

    /// Ends or leaves every shadow, as its service says, all at the same time, and waits for it;
    /// at most for the longest stop timeout and some seconds more.
    pub async fn shutdown(&self) {
        const SLACK: Duration = Duration::from_secs(15);
        let mut longest = Duration::ZERO;
        {
            let mut state = self.inner.lock();
            state.closed = true;
            for entry in state.entries.values() {
                entry.order.send_modify(|order| {
                    longest = longest.max(order.settings.stop_timeout);
                    match order.settings.on_exit {
                        OnExit::Destroy => order.target = Tier::Cold,
                        OnExit::Keep => order.leave = true,
                    }
                });
            }
        }
        let mut running = self.inner.running.subscribe();
        let done = tokio::time::timeout(longest + SLACK, running.wait_for(|left| *left == 0)).await;
        if done.is_err() {
            let left = *self.inner.running.borrow();
            tracing::error!(left, "shadows did not end in time; the next start takes them over");
        }
        told::leave(&self.inner).await;
        if let Err(error) = self.inner.registry.flush().await {
            tracing::error!(%error, "the instance registry may miss the last changes");
        }
        if done.is_ok() {
            drop(self.inner.lock_of_dir.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// Kills what is being ended, and what will be, without waiting for it to end by itself.
    pub fn hurry(&self) {
        self.inner.hurry.send_replace(true);
    }

    /// Admits or refuses a new shadow and starts making it.
    fn create(&self, service: &ServiceName, place: &PlaceName, tier: Tier) -> Result<(), Refusal> {
        if matches!(tier, Tier::Cold | Tier::Draining) {
            return Err(Refusal::now(format!("a shadow cannot be made for tier {tier}")));
        }
        let inner = &self.inner;
        let now = inner.now();
        let mut state = inner.lock();
        if state.closed {
            return Err(Refusal::now("foreshadow is stopping".to_owned()));
        }
        let settings = state.settings_of(service, place)?;
        state.has_room(service, settings.max)?;
        state.has_room_here(service, place, settings.max_here)?;
        let pool = state.pools.entry(service.clone()).or_default();
        let backoff = pool.backoff(place);
        let retry_in = backoff.remaining(now);
        if !retry_in.is_zero() {
            let failures = backoff.failures();
            let error = format!("backing off after {failures} failures in a row");
            return Err(Refusal { error, retry_in });
        }
        let restarts = pool.restarts;
        let (id, refill) = inner.ids.next();
        if refill {
            let inner = Arc::clone(inner);
            self.inner.runtime.spawn(async move {
                if let Err(error) = inner.ids.refill().await {
                    tracing::error!(%error, "no more ids can be reserved");
                }
            });
        }
        let id = id.ok_or_else(|| {
            Refusal::now("no ids are left and the registry gives no more; see the log".to_owned())
        })?;
        let machine = Lifecycle::new(tier);
        let runner = inner.enter(&mut state, id, settings, machine, None, restarts);
        drop(state);
        inner.spawn(runner);
        Ok(())
    }
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
