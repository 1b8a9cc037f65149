//! The world: instances that queue and warm up, a provider that takes its time, a proxy that
//! follows the weights.

mod sites;

use std::collections::BTreeMap;

use foreshadow_control::{
    Action, Announced, Capacity, Controller, DemandForecast, DemandHorizon, Fact, Foreseen, Health,
    InstanceId, InstanceObservation, MigrationsSeen, Mode, Objective, Observation, PlaceName, Plan,
    PoolSpec, QuantileSpec, Role, ServiceName, ServiceObservation, ServiceSpec, Tier, WeightSpec,
};

pub(crate) use self::sites::Site;
use crate::instance::Instance;
pub(crate) use crate::instance::Outcome;
use crate::random::Random;
use crate::scaler::Scaler;

pub(crate) const TICK_MS: u64 = 100;
pub(crate) const OBJECTIVE_MS: f64 = 200.0;

pub(crate) fn spec() -> ServiceSpec {
    ServiceSpec {
        name: ServiceName::from("shop"),
        tick_ms: foreshadow_control::DEFAULT_TICK_MS,
        objective: Objective {
            latency_ms: OBJECTIVE_MS,
            latency_quantile: 0.99,
            error_rate: 0.001,
        },
        capacity: Capacity::Learned,
        target_utilisation: 0.7,
        pool: Some(PoolSpec { shadow: 1, warm: 1, full: 0, max: 4 }),
        places: Vec::new(),
        sizing: foreshadow_control::SizingSpec::default(),
        quantiles: QuantileSpec { prepare: 0.9, warm: 0.5, commit: 0.25 },
        weights: WeightSpec { slew_per_s: 0.5, hysteresis: 0.02 },
        horizon_ms: 30_000,
        seasons_ms: Vec::new(),
        evaluation_window_ms: 10_000,
        warm_up_ms: 1_000,
        feedback: true,
        rules: Vec::new(),
        signals: Vec::new(),
        scaling: None,
        migration: foreshadow_control::MigrationSpec::default(),
        learning: foreshadow_control::LearningSpec::default(),
    }
}

/// What instances and provider are like.
#[derive(Clone, Debug)]
pub(crate) struct Nature {
    pub(crate) primaries: u64,
    /// Requests an instance works on at once.
    pub(crate) slots: usize,
    pub(crate) service_ms: f64,
    pub(crate) cv: f64,
    /// A fresh shadow takes twice as long at first, and its usual time after this.
    pub(crate) warm_up_ms: f64,
    pub(crate) create_ms: u64,
    pub(crate) warm_ms: u64,
    pub(crate) serve_ms: u64,
    /// How badly the machine under all instances falters: seconds of it per ten seconds, and by
    /// what part it slows everything then. For the first two seconds it always does.
    pub(crate) faltering: f64,
    pub(crate) seed: u64,
}

impl Default for Nature {
    fn default() -> Self {
        Self {
            primaries: 2,
            slots: 4,
            service_ms: 20.0,
            cv: 0.5,
            warm_up_ms: 500.0,
            create_ms: 800,
            warm_ms: 200,
            serve_ms: 150,
            faltering: 0.0,
            seed: 1,
        }
    }
}

impl Nature {
    /// What all primaries together can answer per second.
    pub(crate) fn primary_rps(&self) -> f64 {
        self.primaries as f64 * self.slots as f64 * 1_000.0 / self.service_ms
    }
}

/// What can go wrong with the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    Works,
    /// Every creation fails and asks for this back-off.
    Fails(u64),
    /// The same, and the failure names an instance that nobody saw.
    FailsUnseen(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) nature: Nature,
    pub(crate) controller: Controller,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) mode: Mode,
    pub(crate) kill_switch: bool,
    pub(crate) activate: u32,
    pub(crate) provider: Provider,
    pub(crate) sites: BTreeMap<PlaceName, Site>,
    /// What curves say as far as they see, in every tick.
    pub(crate) foreseen: Vec<Foreseen>,
    /// Announced events: start, end, lift.
    pub(crate) events: Vec<(u64, u64, f64)>,
    /// What models of kept history say in the next tick.
    pub(crate) long_range: Vec<DemandHorizon>,
    /// What is told of the service, in every tick.
    pub(crate) signals: BTreeMap<String, f64>,
    /// Migrations that are asked for, in every tick.
    pub(crate) migrations: MigrationsSeen,
    pub(crate) outcome: Outcome,
    pub(crate) at_ms: u64,
    /// What scales primaries, where anything does, and since when those it made are there.
    pub(crate) scaler: Option<Scaler>,
    pub(crate) joined: BTreeMap<InstanceId, u64>,
    tick: u64,
    weights: BTreeMap<InstanceId, u32>,
    facts: Vec<Fact>,
    random: Random,
    /// By what the machine slows everything now, and until when.
    falter: (f64, u64),
    next_id: u64,
}

impl World {
    pub(crate) fn new(nature: Nature, spec: ServiceSpec) -> Self {
        let random = Random::seeded(nature.seed);
        let mut world = Self {
            controller: Controller::new(vec![spec]),
            instances: BTreeMap::new(),
            mode: Mode::Act,
            kill_switch: false,
            activate: 0,
            provider: Provider::Works,
            sites: BTreeMap::new(),
            foreseen: Vec::new(),
            events: Vec::new(),
            long_range: Vec::new(),
            signals: BTreeMap::new(),
            migrations: MigrationsSeen::default(),
            outcome: Outcome::default(),
            at_ms: 0,
            scaler: None,
            joined: BTreeMap::new(),
            tick: 0,
            weights: BTreeMap::new(),
            facts: Vec::new(),
            random,
            falter: (1.0, 0),
            next_id: 1,
            nature,
        };
        for _ in 0..world.nature.primaries {
            let id = world.add(Role::Primary, Tier::Serving);
            world.weights.insert(id, 1);
        }
        world
    }

    pub(crate) fn add(&mut self, role: Role, tier: Tier) -> InstanceId {
        let id = InstanceId(self.next_id);
        self.next_id += 1;
        let instance = Instance::new(role, tier, self.nature.slots, self.at_ms);
        self.instances.insert(id, instance);
        id
    }

    pub(crate) fn weight(&self, id: InstanceId) -> u32 {
        self.weights.get(&id).copied().unwrap_or(0)
    }

    pub(crate) fn serving_shadows(&self) -> usize {
        self.shadows_at(Tier::Serving)
    }

    pub(crate) fn shadows_at(&self, tier: Tier) -> usize {
        self.instances.values().filter(|i| i.role == Role::Shadow && i.tier == tier).count()
    }

    /// The process ends: a primary goes down, a shadow disappears.
    pub(crate) fn kill(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        self.outcome.failed += instance.pending.len() as u64;
        if instance.role == Role::Primary {
            instance.health = Health::Down("process ended".to_owned());
            instance.pending.clear();
        } else {
            let tier = instance.tier;
            self.instances.remove(&id);
            self.facts.push(Fact::Exited { instance: id, tier, detail: "signal 9".to_owned() });
        }
    }

    /// One tick: requests at `demand_rps` follow the last weights, then the controller decides.
    pub(crate) fn step(&mut self, demand_rps: f64) -> (Observation, Plan) {
        self.step_told(demand_rps, |_, forecast| forecast)
    }

    pub(crate) fn step_told(
        &mut self,
        demand_rps: f64,
        tell: impl FnMut(&ServiceName, DemandForecast) -> DemandForecast,
    ) -> (Observation, Plan) {
        let observation = self.observe(demand_rps);
        let plan = self.controller.tick_with(&observation, tell);
        self.carry_out(&plan);
        (observation, plan)
    }

    /// Runs for a while; `look` sees every tick.
    pub(crate) fn run(
        &mut self,
        duration_ms: u64,
        demand_rps: impl Fn(u64) -> f64,
        mut look: impl FnMut(&mut Self, &Observation, &Plan),
    ) {
        let start_ms = self.at_ms;
        while self.at_ms < start_ms + duration_ms {
            let (observation, plan) = self.step(demand_rps(self.at_ms - start_ms));
            look(self, &observation, &plan);
        }
    }

    /// Begins and ends the time in which the machine is slow; draws nothing when it never is.
    fn falter(&mut self) {
        let faltering = self.nature.faltering;
        if faltering <= 0.0 || self.at_ms < self.falter.1 {
            return;
        }
        let begins = self.at_ms == 0 || self.random.unit() < 0.1 * faltering * 0.1;
        let ms = if self.at_ms == 0 { 2_000.0 } else { self.random.exponential(1_000.0) };
        let slower = if begins { 1.0 + faltering * self.random.unit() } else { 1.0 };
        self.falter = (slower, self.at_ms + if begins { ms as u64 } else { 0 });
    }

    /// Lets a tick pass and returns what was seen in it.
    pub(crate) fn observe(&mut self, demand_rps: f64) -> Observation {
        self.falter();
        let (mut arrivals, mut unserved) = (0, 0);
        let mut at = self.at_ms as f64;
        let end = at + TICK_MS as f64;
        loop {
            at += self.random.exponential(1_000.0 / demand_rps.max(1e-3));
            if at >= end {
                break;
            }
            arrivals += 1;
            self.outcome.requests += 1;
            unserved += u64::from(!self.request(at));
        }
        self.at_ms += TICK_MS;
        self.tick += 1;
        self.advance_steps();
        let scaling = self.look_at_scaler();
        let mut instances: Vec<InstanceObservation> = self
            .instances
            .iter_mut()
            .map(|(id, i)| i.seen(*id, self.at_ms, OBJECTIVE_MS, &mut self.outcome))
            .collect();
        self.mark_joined(&mut instances, scaling.as_ref());
        let service = ServiceObservation {
            arrivals,
            unserved,
            instances,
            facts: std::mem::take(&mut self.facts),
            activate: std::mem::take(&mut self.activate),
            announced: self.announced(),
            long_range: std::mem::take(&mut self.long_range),
            signals: self.signals.clone(),
            scaling,
            foreseen: self.foreseen.clone(),
            migrations: self.migrations.clone(),
            ..ServiceObservation::quiet(ServiceName::from("shop"), self.mode)
        };
        Observation {
            tick: self.tick,
            at_ms: self.at_ms,
            interval_ms: TICK_MS,
            kill_switch: self.kill_switch,
            services: vec![service],
        }
    }

    fn announced(&self) -> Vec<Announced> {
        let left = |at_ms: u64| at_ms.saturating_sub(self.at_ms);
        let told = |&(start_ms, end_ms, lift): &(u64, u64, f64)| Announced {
            starts_in_ms: left(start_ms),
            ends_in_ms: left(end_ms),
            lift,
        };
        self.events.iter().filter(|event| event.1 > self.at_ms).map(told).collect()
    }

    /// Sends one request by weight, past instances that refuse it; false when nobody takes it.
    fn request(&mut self, at: f64) -> bool {
        let takes = |i: &Instance| i.health == Health::Up && i.tier == Tier::Serving;
        let able: Vec<(InstanceId, u32)> = self
            .weights
            .iter()
            .filter(|(id, w)| **w > 0 && self.instances.get(id).is_some_and(takes))
            .map(|(id, w)| (*id, *w))
            .collect();
        let total: u64 = able.iter().map(|(_, w)| u64::from(*w)).sum();
        if total == 0 {
            self.outcome.failed += 1;
            return false;
        }
        let mut drawn = self.random.below(total);
        let mut picked = able[0].0;
        for (id, weight) in able {
            picked = id;
            if drawn < u64::from(weight) {
                break;
            }
            drawn -= u64::from(weight);
        }
        let service_ms =
            self.falter.0 * self.random.lognormal(self.nature.service_ms, self.nature.cv);
        let warm_up_ms = self.nature.warm_up_ms;
        if let Some(instance) = self.instances.get_mut(&picked) {
            let failed = instance.take(at, service_ms, warm_up_ms);
            self.outcome.failed += u64::from(failed);
        }
        true
    }

    fn advance_steps(&mut self) {
        for id in self.instances.keys().copied().collect::<Vec<_>>() {
            let Some(instance) = self.instances.get(&id) else { continue };
            let from = instance.tier;
            let Some((tier, done_ms, begun_ms)) = instance.moving else { continue };
            if done_ms > self.at_ms {
                continue;
            }
            let spoiled = self.spoils(id, from, tier);
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            instance.moving = None;
            if !spoiled {
                instance.tier = tier;
                instance.reached_ms = self.at_ms;
                let took_ms = done_ms - begun_ms;
                self.facts.push(Fact::TierReached { instance: id, from, tier, took_ms });
            }
        }
    }

    pub(crate) fn carry_out(&mut self, plan: &Plan) {
        let service = &plan.services[0];
        self.weights = service.weights.iter().map(|w| (w.instance, w.weight)).collect();
        self.scale(plan);
        if !service.act {
            return;
        }
        for planned in &service.actions {
            match planned.action {
                Action::Create { tier, ref place } => self.make(tier, place),
                Action::Move { instance, tier } => self.begin(instance, tier),
                Action::Destroy { instance } => {
                    let gone = self.instances.remove(&instance).expect("only what exists is ended");
                    self.outcome.failed += gone.pending.len() as u64;
                }
            }
        }
    }

    fn begin(&mut self, id: InstanceId, tier: Tier) {
        let nature = self.nature.clone();
        let now_ms = self.at_ms;
        let instance = self.instances.get_mut(&id).expect("only what exists is moved");
        assert!(instance.moving.is_none(), "{id} is moved to {tier} while it is being moved");
        let create_ms = self.sites.get(&instance.place).and_then(|site| site.create_ms);
        let took_ms = match (instance.tier, tier) {
            (Tier::Cold, _) => create_ms.unwrap_or(nature.create_ms),
            (Tier::Shadow, Tier::Serving) => nature.warm_ms + nature.serve_ms,
            (Tier::Shadow, _) => nature.warm_ms,
            (_, Tier::Serving) => nature.serve_ms,
            _ => 0,
        };
        if tier == Tier::Draining {
            instance.tier = Tier::Draining;
            instance.reached_ms = now_ms;
        } else {
            instance.moving = Some((tier, now_ms + took_ms, now_ms));
        }
    }
}
