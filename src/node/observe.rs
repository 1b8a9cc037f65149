//! Meters, facts and orders of one tick, put together into one observation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use foreshadow_control::{
    DemandHorizon, Fact, Foreseen, Health, InstanceId, InstanceObservation, KernelSample, Meters,
    MigrationsSeen, MirrorSummary, Observation, PlaceName, Role, ServiceName, ServiceObservation,
    Tier, TrafficCounts, Workload, sights,
};
use foreshadow_mirror::Mirrorer;
use foreshadow_proxy::{DataPlane, InstanceDrain};
use foreshadow_shadow::{Manager, Scaling, ShadowInstance};

use super::announced::{all_of, announced, cut_short};
use super::audit::Audit;
use super::decisions::Event;
use super::long::{Calendar, LongForecasts};
use super::metrics::{Metrics, Report, Store};
use super::migrations::take_back;
use super::operator::Orders;
use super::scaling::{self, Scaled};
use super::translate::{WiredService, Wiring};
use super::view::ShadowCounts;

/// Keeps what must be remembered from tick to tick to observe.
#[derive(Default)]
pub(super) struct Observer {
    addresses: BTreeMap<InstanceId, SocketAddr>,
    counts: BTreeMap<ServiceName, ShadowCounts>,
    activate: BTreeMap<ServiceName, u32>,
    events: Vec<Event>,
    /// Of them, those that were seen to start and are remembered.
    started: Vec<Event>,
    /// What is told of the time to come, by service; looked up again once a second.
    long_range: BTreeMap<ServiceName, Ahead>,
    workloads: BTreeMap<ServiceName, Workload>,
    reported: Store,
}

/// What curves say of a service: to the controller's laws, and to its rules.
type Ahead = (Vec<DemandHorizon>, Vec<Foreseen>);

/// Ticks until what is told of the time to come is looked up again: it hardly changes in a second.
const LONG_RANGE_TICKS: u64 = 10;

/// What is observed from.
pub(super) struct Sources<'a> {
    pub(super) wiring: &'a Wiring,
    pub(super) orders: &'a Orders,
    pub(super) manager: &'a Manager,
    pub(super) plane: &'a DataPlane,
    pub(super) mirror: &'a Mirrorer,
    /// Whether the node is ending.
    pub(super) draining: bool,
    pub(super) long: &'a LongForecasts,
    pub(super) metrics: &'a Metrics,
    pub(super) audit: &'a Audit,
    pub(super) scaling: &'a Scaling,
    pub(super) migrations: &'a BTreeMap<ServiceName, MigrationsSeen>,
}

/// When it is observed.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) tick: u64,
    /// Steady.
    pub(super) at_ms: u64,
    /// Unix time, by which everything announced and kept is dated.
    pub(super) now_ms: u64,
    pub(super) interval: Duration,
}

impl Observer {
    /// Where instances listen, as of the last observation.
    pub(super) fn addresses(&self) -> &BTreeMap<InstanceId, SocketAddr> {
        &self.addresses
    }

    /// What became of shadows since start.
    pub(super) fn counts(&self) -> &BTreeMap<ServiceName, ShadowCounts> {
        &self.counts
    }

    /// What requests of each service lately said about copying them.
    pub(super) fn workloads(&self) -> &BTreeMap<ServiceName, Workload> {
        &self.workloads
    }

    /// Passes an operator's activation on with the next observation.
    pub(super) fn activate(&mut self, service: &ServiceName, count: u32) {
        let asked = self.activate.entry(service.clone()).or_default();
        *asked = asked.saturating_add(count);
    }

    /// Takes what was reported since the last tick, as much as a tick has time for.
    pub(super) fn hear(&mut self, reports: &Receiver<Report>, at_ms: u64) {
        self.reported.hear_waiting(reports, at_ms);
    }

    /// Replaces the announced events.
    pub(super) fn announce(&mut self, events: &[Event]) {
        self.events = events.to_vec();
    }

    /// Forgets services that are no longer configured.
    pub(super) fn retain(&mut self, wiring: &Wiring) {
        self.counts.retain(|service, _| wiring.services.contains_key(service));
        self.activate.retain(|service, _| wiring.services.contains_key(service));
        self.long_range.retain(|service, _| wiring.services.contains_key(service));
        self.workloads.retain(|service, _| wiring.services.contains_key(service));
    }

    /// Events that have started and were not given out before, those of calendars included, and those
    /// that were and have ended early, since they were withdrawn.
    pub(super) fn newly_started(&mut self, calendar: &Calendar, at_ms: u64) -> Vec<Event> {
        let known = self.events.iter().chain(calendar.values().flatten());
        let mut changed = cut_short(&mut self.started, known, at_ms);
        let runs = |event: &&Event| event.start_ms <= at_ms && event.end_ms > at_ms;
        let before: BTreeSet<_> = self.started.iter().map(all_of).collect();
        let new = |event: &&Event| runs(event) && !before.contains(&all_of(event));
        let begun = |event: &&Event| event.start_ms <= at_ms;
        let of_calendars = calendar.values().flat_map(|events| events.iter().take_while(begun));
        let all = self.events.iter().chain(of_calendars);
        let started: Vec<Event> = all.filter(new).cloned().collect();
        self.started.extend(started.iter().cloned());
        changed.extend(started);
        changed
    }

    /// What is told of a service's time to come: of every service in another tick of the second.
    fn long_range(
        &mut self,
        name: &ServiceName,
        nth: u64,
        from: &Sources,
        moment: Moment,
    ) -> Ahead {
        let known = self.long_range.get(name);
        if let Some(known) = known.filter(|_| !(moment.tick + nth).is_multiple_of(LONG_RANGE_TICKS))
        {
            return known.clone();
        }
        let spec = from.wiring.specs.iter().find(|spec| spec.name == *name);
        let configured = spec.into_iter().flat_map(|spec| spec.rules.iter().map(|r| &r.rule));
        let ordered = from.orders.rules.get(name).into_iter().flat_map(BTreeMap::values);
        let mut sights = sights(configured.chain(ordered));
        // Besides rules the size of a pool that shrinks looks that far.
        sights.extend(spec.and_then(|spec| spec.sizing.sight()));
        let told = (
            from.long.points(name, moment.now_ms),
            from.long.foreseen(name, &sights, moment.now_ms),
        );
        self.long_range.insert(name.clone(), told.clone());
        told
    }

    /// Drains everything that is counted per tick.
    pub(super) fn observe(&mut self, moment: Moment, from: &Sources) -> Observation {
        let mut drains = Drains::take(from, moment);
        self.addresses.clear();
        self.events.retain(|event| event.end_ms > moment.now_ms);
        let interval_ms = u64::try_from(moment.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let services = from
            .wiring
            .services
            .iter()
            .zip(0..)
            .map(|((name, wired), nth)| {
                let mut seen = self.service(name, wired, &mut drains, from, moment);
                (seen.long_range, seen.foreseen) = self.long_range(name, nth, from, moment);
                self.workloads.entry(name.clone()).or_default().observe(&seen, interval_ms);
                seen
            })
            .collect();
        let addresses = &self.addresses;
        let configured = |name: &ServiceName| from.wiring.services.contains_key(name);
        self.reported.retain(|id| addresses.contains_key(&id), configured);
        Observation {
            tick: moment.tick,
            at_ms: moment.at_ms,
            interval_ms,
            // A node that is ending makes nothing new: whoever comes after it starts from what is there.
            kill_switch: from.orders.kill_switch || from.draining,
            services,
        }
    }

    fn service(
        &mut self,
        name: &ServiceName,
        wired: &WiredService,
        drains: &mut Drains,
        from: &Sources,
        moment: Moment,
    ) -> ServiceObservation {
        let facts = drains.facts.remove(name).unwrap_or_default();
        if !facts.is_empty() {
            self.count(name, &facts);
        }
        let (arrivals, unserved, traffic) = drains.arrivals.remove(name).unwrap_or_default();
        let scaled = drains.scaled.remove(name);
        let primaries = scaling::primaries(&wired.primaries, scaled.as_ref());
        let mut instances: Vec<InstanceObservation> =
            primaries.iter().map(|p| drains.primary(p)).collect();
        scaling::mark(&mut instances, scaled.as_ref());
        let shadows = drains.shadows.remove(name).unwrap_or_default();
        instances.extend(shadows.iter().map(|s| drains.shadow(s)));
        let (at_ms, max_age_ms) = (moment.at_ms, wired.metrics_max_age_ms);
        for instance in &mut instances {
            let id = instance.instance;
            // Until here only what load reports came to in this tick.
            self.reported.hear_load(id, std::mem::take(&mut instance.reported), at_ms);
            instance.reported = self.reported.of_instance(id, at_ms, max_age_ms);
            instance.drained = from.orders.drained.contains(&instance.instance);
        }
        take_back(&mut instances, from.orders, wired.shadowed);
        instances.sort_by_key(|i| i.instance);
        self.addresses.extend(primaries.iter().map(|p| (p.id, p.address)));
        self.addresses.extend(shadows.iter().filter_map(|s| Some((s.id, s.address?))));
        ServiceObservation {
            service: name.clone(),
            mode: from.orders.modes.get(name).copied().unwrap_or(wired.mode),
            arrivals,
            unserved,
            instances,
            facts,
            activate: self.activate.remove(name).unwrap_or_default(),
            announced: self.announced(name, from.long, moment.now_ms),
            long_range: Vec::new(),
            foreseen: Vec::new(),
            traffic,
            signals: self.reported.of_service(name, at_ms, max_age_ms),
            planned: from.metrics.planned(name, moment.now_ms),
            scaling: scaled.as_ref().map(scaling::seen),
            migrations: from.migrations.get(name).cloned().unwrap_or_default(),
        }
    }

    fn announced(
        &self,
        name: &ServiceName,
        long: &LongForecasts,
        at_ms: u64,
    ) -> Vec<foreshadow_control::Announced> {
        let calendar = long.calendar();
        let ordered = self.events.iter().filter(|event| event.service == name.as_str());
        let events = ordered.chain(calendar.get(name).into_iter().flatten());
        announced(events, |event| long.lift(name, event, at_ms), at_ms)
    }

    fn count(&mut self, name: &ServiceName, facts: &[Fact]) {
        let counts = self.counts.entry(name.clone()).or_default();
        for fact in facts {
            match fact {
                Fact::TierReached { tier, .. } => *counts.steps.entry(*tier).or_default() += 1,
                Fact::StepFailed { error, to, place, .. } => {
                    counts.steps_failed += 1;
                    let (service, to) = (name.as_str(), to.as_str());
                    tracing::warn!(service, to, %place, "step failed: {error}");
                }
                Fact::Exited { instance, detail, .. } => {
                    counts.exits += 1;
                    tracing::warn!(service = name.as_str(), %instance, "shadow ended: {detail}");
                }
                Fact::Adopted { instance, tier } => {
                    counts.adopted += 1;
                    let tier = tier.as_str();
                    tracing::info!(service = name.as_str(), %instance, tier, "shadow taken over");
                }
            }
        }
    }
}

/// Where copies of a service's requests may go: warm and full shadows, running and not serving.
pub(super) fn mirror_targets(
    seen: &ServiceObservation,
    addresses: &BTreeMap<InstanceId, SocketAddr>,
) -> Vec<(InstanceId, SocketAddr)> {
    seen.instances
        .iter()
        .filter(|i| i.role == Role::Shadow && matches!(i.tier, Tier::Warm | Tier::Full))
        .filter(|i| !matches!(i.moving_to, Some(Tier::Shadow | Tier::Cold)))
        .filter_map(|i| addresses.get(&i.instance).map(|address| (i.instance, *address)))
        .collect()
}

/// Everything drained in one tick, by service and instance.
struct Drains {
    arrivals: BTreeMap<ServiceName, (u64, u64, TrafficCounts)>,
    instances: BTreeMap<InstanceId, InstanceDrain>,
    shadows: BTreeMap<ServiceName, Vec<ShadowInstance>>,
    facts: BTreeMap<ServiceName, Vec<Fact>>,
    mirror: BTreeMap<InstanceId, MirrorSummary>,
    scaled: Scaled,
}

/// A primary as the configuration gives it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WiredPrimary {
    pub(super) id: InstanceId,
    pub(super) address: SocketAddr,
    pub(super) zone: String,
    pub(super) capacity_rps: Option<f64>,
}

/// What the data plane says of one instance.
struct Metered {
    health: Health,
    meters: Meters,
    kernel: Option<KernelSample>,
    reported: BTreeMap<String, f64>,
}

impl Default for Metered {
    fn default() -> Self {
        let (health, meters) = (Health::Unknown, Meters::default());
        Self { health, meters, kernel: None, reported: BTreeMap::new() }
    }
}

impl Drains {
    fn take(from: &Sources, moment: Moment) -> Self {
        let mut drains = Self {
            arrivals: BTreeMap::new(),
            instances: BTreeMap::new(),
            shadows: BTreeMap::new(),
            facts: BTreeMap::new(),
            mirror: from.mirror.summaries(),
            scaled: from.scaling.snapshot(),
        };
        for service in from.plane.drain_meters() {
            let counted = (service.arrivals, service.unserved, service.traffic);
            drains.arrivals.insert(service.service, counted);
            drains.instances.extend(service.instances.into_iter().map(|i| (i.instance, i)));
        }
        // Facts before the snapshot: a fact may then be of an instance not yet, or no longer,
        // seen, but an instance is never seen in a state whose fact comes a tick later.
        for (service, fact) in from.manager.take_facts() {
            let fact = from.audit.fact(&service, fact, moment.tick, moment.now_ms);
            drains.facts.entry(service).or_default().push(fact);
        }
        for shadow in from.manager.snapshot() {
            drains.shadows.entry(shadow.service.clone()).or_default().push(shadow);
        }
        drains
    }

    fn metered(&mut self, id: InstanceId) -> Metered {
        let drained = self.instances.remove(&id);
        drained.map_or_else(Metered::default, |drain| Metered {
            health: drain.health,
            meters: drain.meters,
            kernel: drain.kernel,
            reported: drain.reported,
        })
    }

    fn primary(&mut self, primary: &WiredPrimary) -> InstanceObservation {
        let Metered { health, meters, kernel, reported } = self.metered(primary.id);
        InstanceObservation {
            zone: primary.zone.clone(),
            place: PlaceName::default(),
            capacity_rps: primary.capacity_rps,
            health,
            meters,
            kernel,
            reported,
            ..InstanceObservation::idle(primary.id, Role::Primary, Tier::Serving)
        }
    }

    fn shadow(&mut self, shadow: &ShadowInstance) -> InstanceObservation {
        let Metered { health, meters, kernel, reported } = self.metered(shadow.id);
        // A running tier is reached through a readiness check, which is as good as the first
        // active check of the data plane.
        let health = match health {
            Health::Unknown if shadow.tier >= Tier::Warm => Health::Up,
            other => other,
        };
        InstanceObservation {
            moving_to: shadow.moving_to,
            tier_age_ms: shadow.tier_age_ms,
            zone: shadow.zone.clone(),
            place: shadow.place.clone(),
            outdated: shadow.outdated,
            health,
            meters,
            kernel,
            mirror: self.mirror.get(&shadow.id).copied(),
            reported,
            resources: shadow.resources,
            ..InstanceObservation::idle(shadow.id, Role::Shadow, shadow.tier)
        }
    }
}
