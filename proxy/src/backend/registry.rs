//! Every backend that is in a table or still has requests in flight.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use foreshadow_control::{InstanceId, ServiceName};

use super::{Backend, Clock, ServiceState};
use crate::budget::RetryBudget;
use crate::ejection::EjectionSlots;
use crate::forward::Via;
use crate::histogram::LatencyCounts;
use crate::meters::ServiceMeters;
use crate::meters::drain::{
    InstanceDrain, InstanceTotals, ServiceDrain, ServiceTotals, record_all,
};
use crate::recall::Falls;
use crate::table::policy::UpstreamPolicy;

/// What outlives a table swap: backends by instance, budgets and meters by service.
///
/// The lock is taken by table builds, drains and scrapes; requests never see it, they reach
/// backends through the table.
#[derive(Debug)]
pub struct Registry {
    workers: usize,
    clock: Clock,
    falls: Falls,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    backends: BTreeMap<InstanceId, (Arc<Backend>, InstanceTotals)>,
    services: BTreeMap<ServiceName, (Arc<ServiceState>, ServiceTotals)>,
    scratch: LatencyCounts,
}

impl Registry {
    /// An empty registry for workers numbered from 0 to `workers - 1`.
    #[must_use]
    pub fn new(workers: usize, clock: Clock) -> Self {
        let books = Books {
            backends: BTreeMap::new(),
            services: BTreeMap::new(),
            scratch: LatencyCounts::new(),
        };
        Self { workers, clock, falls: Falls::default(), books: Mutex::new(books) }
    }

    /// The clock that all times given to backends are read from.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Counts the falls of all its backends.
    pub(crate) fn falls(&self) -> &Falls {
        &self.falls
    }

    /// A backend by its id, in the table or not.
    #[must_use]
    pub fn get(&self, id: InstanceId) -> Option<Arc<Backend>> {
        self.books().backends.get(&id).map(|(backend, _)| Arc::clone(backend))
    }

    /// The backends that are not `listed`, without keeping them.
    pub(crate) fn others(
        &self,
        listed: impl Fn(InstanceId) -> bool,
    ) -> HashMap<InstanceId, Weak<Backend>> {
        let books = self.books();
        let others = books.backends.iter().filter(|(id, _)| !listed(**id));
        others.map(|(id, (backend, _))| (*id, Arc::downgrade(backend))).collect()
    }

    /// Takes out everything counted since the last drain, ordered by service and instance; lets
    /// ejections end whose time is over; forgets backends and services that nothing refers to any
    /// more, after their last counts were taken.
    pub fn drain(&self, now_ms: u64) -> Vec<ServiceDrain> {
        let mut books = self.books();
        let Books { backends, services, scratch } = &mut *books;
        let mut drained = BTreeMap::new();
        for (name, (state, totals)) in services.iter_mut() {
            let counts = state.meters.drain();
            totals.add(counts);
            let drain = ServiceDrain {
                service: name.clone(),
                arrivals: counts.arrivals,
                unserved: counts.unserved,
                panicked: counts.panicked,
                traffic: counts.traffic,
                instances: Vec::new(),
            };
            drained.insert(name.clone(), drain);
        }
        backends.retain(|_, (backend, totals)| {
            // Looked at before the counts: whoever let go of it has counted by then.
            let unreferenced = Arc::strong_count(backend) == 1;
            fence(Acquire);
            backend.let_time_pass(now_ms);
            let mut counts = backend.meters.drain(scratch);
            counts.meters.in_flight = u64::from(backend.in_flight());
            totals.add(&counts);
            if let Some((_, service)) = services.get_mut(backend.service()) {
                record_all(&mut service.latency_us, &counts.latencies);
            }
            if let Some(service) = drained.get_mut(backend.service()) {
                service.instances.push(InstanceDrain {
                    instance: backend.id(),
                    health: backend.health(),
                    meters: counts.meters,
                    kernel: counts.kernel,
                    aborted: counts.aborted,
                    reported: counts.reported,
                });
            }
            !unreferenced
        });
        services.retain(|_, (state, _)| Arc::strong_count(state) > 1);
        drained.into_values().collect()
    }

    /// A copy of everything counted so far, ordered by service and instance; for a scrape.
    #[must_use]
    pub fn totals(&self) -> Vec<ServiceTotals> {
        let books = self.books();
        let mut all: BTreeMap<_, _> =
            books.services.iter().map(|(name, (_, totals))| (name, totals.clone())).collect();
        for (backend, totals) in books.backends.values() {
            if let Some(service) = all.get_mut(backend.service()) {
                service.instances.push(totals.clone());
            }
        }
        all.into_values().collect()
    }

    /// The shared state of a service, made if it is new, with `policy` in force.
    pub(crate) fn service(
        &self,
        name: &ServiceName,
        policy: &Arc<UpstreamPolicy>,
    ) -> Arc<ServiceState> {
        let (share, min_per_s) = (policy.retries.budget_share, policy.retries.min_per_s);
        let mut books = self.books();
        let (state, _) = books.services.entry(name.clone()).or_insert_with(|| {
            let state = ServiceState {
                name: name.clone(),
                policy: ArcSwap::new(Arc::clone(policy)),
                budget: Arc::new(RetryBudget::new(share, min_per_s, self.clock.now_ms())),
                meters: Arc::new(ServiceMeters::new(self.workers)),
                slots: EjectionSlots::default(),
                falls: self.falls.clone(),
                via: Via::random(),
                hot_threshold: AtomicU64::new(f64::INFINITY.to_bits()),
            };
            (Arc::new(state), ServiceTotals::new(name.clone()))
        });
        state.policy.store(Arc::clone(policy));
        state.budget.configure(share, min_per_s);
        Arc::clone(state)
    }

    /// The backend `id`, made if it is new.
    pub(crate) fn backend(
        &self,
        id: InstanceId,
        address: SocketAddr,
        service: &Arc<ServiceState>,
    ) -> Arc<Backend> {
        let mut books = self.books();
        let (backend, _) = books.backends.entry(id).or_insert_with(|| {
            let backend = Backend::new(id, address, Arc::clone(service), self.workers);
            (Arc::new(backend), InstanceTotals::new(id))
        });
        Arc::clone(backend)
    }

    /// Nothing here is left half done by a panic that a later reader could trip over: counts may be
    /// short by one drain, no more.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
