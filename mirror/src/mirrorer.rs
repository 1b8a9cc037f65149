//! The bounded dispatcher: samples, copies to every target, never waits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use foreshadow_control::{InstanceId, MirrorSummary, ServiceName};
use http::header::HeaderMap;
use http::{Method, Uri};
use tokio::runtime::Handle;

use crate::policy::{MirrorPolicy, may_mirror};
use crate::target::{Counters, Tally, Target};

/// A request that has been answered, with what a copy of it is compared with.
#[derive(Clone, Debug)]
pub struct Original {
    /// The service it was for.
    pub service: ServiceName,
    /// Its method.
    pub method: Method,
    /// Its target; of it, path and query are sent, and the authority when there is no `Host`.
    pub uri: Uri,
    /// Its headers as sent to the instance that answered.
    pub headers: HeaderMap,
    /// The status the client got.
    pub status: u16,
    /// Time to the last byte of the answer.
    pub latency_ms: f64,
}

/// Counts since the mirrorer was made, over all services and targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorStats {
    /// Requests offered.
    pub offered: u64,
    /// Of them, requests that must not be copied ([`may_mirror`]) or that had failed.
    pub refused: u64,
    /// Copies not made because the queue of their target was full.
    pub dropped: u64,
    /// Copies started.
    pub sent: u64,
    /// Of them, copies without an answer: refused, reset, malformed or too late.
    pub failed: u64,
}

/// Copies requests to instances that do not serve yet, and compares the answers.
///
/// One is shared by all workers of the proxy (in an `Arc`). [`Self::wants`] and [`Self::offer`]
/// take no lock and never wait; everything else is for the control loop.
pub struct Mirrorer {
    lanes: ArcSwap<Lanes>,
    counters: Arc<Counters>,
    /// What is known of each instance. The lock also puts the writers of `lanes` in a row.
    tallies: Mutex<Tallies>,
    runtime: Handle,
}

type Lanes = BTreeMap<ServiceName, Lane>;

type Tallies = BTreeMap<InstanceId, Arc<Tally>>;

/// One service: its policy and its targets.
#[derive(Clone)]
struct Lane {
    policy: MirrorPolicy,
    targets: Vec<Arc<Target>>,
}

impl Lane {
    fn has(&self, instance: InstanceId) -> bool {
        self.targets.iter().any(|target| target.key().0 == instance)
    }
}

impl Mirrorer {
    /// Makes a mirrorer for the services that have a policy; the copies run on `runtime`.
    #[must_use]
    pub fn spawn(policies: BTreeMap<ServiceName, MirrorPolicy>, runtime: Handle) -> Self {
        let lanes = policies
            .into_iter()
            .map(|(service, policy)| (service, Lane { policy, targets: Vec::new() }))
            .collect();
        Self {
            lanes: ArcSwap::from_pointee(lanes),
            counters: Arc::default(),
            tallies: Mutex::default(),
            runtime,
        }
    }

    /// Whether a copy of this request is wanted: the service has targets, the method is safe, and
    /// the request falls into the sampled share. Draws at random, so ask once per request.
    #[must_use]
    pub fn wants(&self, service: &ServiceName, method: &Method) -> bool {
        self.lanes.load().get(service).is_some_and(|lane| {
            !lane.targets.is_empty()
                && method.is_safe()
                && lane.policy.samples(rand::random::<f64>())
        })
    }

    /// Queues a copy for every target of the service and returns at once; true when at least one
    /// target took it. What may not be copied is refused here too, whatever [`Self::wants`] said.
    ///
    /// A request that was answered with a server error is not copied: when an instance in service
    /// fails, a healthy one that waits to replace it must not be judged by its agreement with that.
    pub fn offer(&self, original: Original) -> bool {
        Counters::add(&self.counters.offered);
        if original.status >= 500 {
            Counters::add(&self.counters.refused);
            return false;
        }
        if let Err(refusal) = may_mirror(&original.method, &original.headers) {
            Counters::add(&self.counters.refused);
            tracing::trace!(%refusal, "request not mirrored");
            return false;
        }
        let lanes = self.lanes.load();
        let Some(lane) = lanes.get(&original.service) else { return false };
        let original = Arc::new(original);
        let mut taken = false;
        for target in &lane.targets {
            if target.offer(Arc::clone(&original)) {
                taken = true;
            } else {
                Counters::add(&self.counters.dropped);
            }
        }
        taken
    }

    /// Sets the instances of a service that get copies from now on; cheap when nothing changes.
    ///
    /// Copies to instances that are no longer among them are abandoned and do not count. Call it
    /// before an instance is frozen. Without a policy for the service nothing is copied.
    pub fn set_targets(&self, service: &ServiceName, wanted: &[(InstanceId, SocketAddr)]) {
        let mut tallies = self.lock();
        let lanes = self.lanes.load();
        let Some(lane) = lanes.get(service) else { return };
        if lane.targets.iter().map(|target| target.key()).eq(wanted.iter().copied()) {
            return;
        }
        let targets = wanted
            .iter()
            .map(|key| match lane.targets.iter().find(|target| target.key() == *key) {
                Some(kept) => Arc::clone(kept),
                None => self.start(*key, &lane.policy, &mut tallies),
            })
            .collect();
        let mut next = BTreeMap::clone(&lanes);
        next.insert(service.clone(), Lane { policy: lane.policy.clone(), targets });
        self.publish(next);
    }

    /// Replaces the policies, after a reload of the configuration. Services whose policy has not
    /// changed go on undisturbed; where it has, waiting copies are abandoned and the targets stay.
    pub fn set_policies(&self, policies: BTreeMap<ServiceName, MirrorPolicy>) {
        let mut tallies = self.lock();
        let lanes = self.lanes.load();
        let next = policies
            .into_iter()
            .map(|(service, policy)| {
                let lane = match lanes.get(&service) {
                    Some(same) if same.policy == policy => same.clone(),
                    Some(other) => {
                        let keys = other.targets.iter().map(|target| target.key());
                        let targets =
                            keys.map(|key| self.start(key, &policy, &mut tallies)).collect();
                        Lane { policy, targets }
                    }
                    None => Lane { policy, targets: Vec::new() },
                };
                (service, lane)
            })
            .collect();
        self.publish(next);
    }

    /// What the answers of each instance said, since it first was a target; instances that are no
    /// targets any more stay until they are forgotten.
    #[must_use]
    pub fn summaries(&self) -> BTreeMap<InstanceId, MirrorSummary> {
        self.lock().iter().map(|(instance, tally)| (*instance, tally.summary())).collect()
    }

    /// Drops what is known of every instance that no longer exists.
    pub fn retain(&self, exists: impl Fn(InstanceId) -> bool) {
        let gone: Vec<_> = self.lock().keys().copied().filter(|id| !exists(*id)).collect();
        gone.into_iter().for_each(|instance| self.forget(instance));
    }

    /// Drops what is known of an instance that no longer exists. It gets no copies any more.
    pub fn forget(&self, instance: InstanceId) {
        let mut tallies = self.lock();
        tallies.remove(&instance);
        let lanes = self.lanes.load();
        if lanes.values().any(|lane| lane.has(instance)) {
            let mut next = BTreeMap::clone(&lanes);
            for lane in next.values_mut() {
                lane.targets.retain(|target| target.key().0 != instance);
            }
            self.publish(next);
        }
    }

    /// What was copied so far.
    #[must_use]
    pub fn stats(&self) -> MirrorStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MirrorStats {
            offered: read(&self.counters.offered),
            refused: read(&self.counters.refused),
            dropped: read(&self.counters.dropped),
            sent: read(&self.counters.sent),
            failed: read(&self.counters.failed),
        }
    }

    fn start(
        &self,
        (instance, address): (InstanceId, SocketAddr),
        policy: &MirrorPolicy,
        tallies: &mut Tallies,
    ) -> Arc<Target> {
        let tally = Arc::clone(tallies.entry(instance).or_default());
        let counters = Arc::clone(&self.counters);
        Arc::new(Target::spawn(instance, address, policy, tally, counters, &self.runtime))
    }

    /// Puts the new lanes in force and stops every target that is not among them. A request that
    /// still holds the old ones offers to a stopped target in vain, which is what should happen.
    fn publish(&self, next: Lanes) {
        let next = Arc::new(next);
        let before = self.lanes.swap(Arc::clone(&next));
        for old in before.values().flat_map(|lane| &lane.targets) {
            let kept = next.values().flat_map(|lane| &lane.targets);
            if !kept.into_iter().any(|target| Arc::ptr_eq(target, old)) {
                old.stop();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mirrorer {
    fn drop(&mut self) {
        for lane in self.lanes.load().values() {
            lane.targets.iter().for_each(|target| target.stop());
        }
    }
}
