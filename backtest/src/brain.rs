//! The controller of a live node, in front of the simulated fleet.

use std::fmt;

use foreshadow_control::{
    Capacity, Controller, Health, InstanceObservation, Meters, Mode, Objective, Observation,
    PoolSpec, QuantileSpec, ServiceName, ServiceObservation, ServiceSpec, TrafficCounts,
    WeightSpec,
};
use serde::Serialize;

use crate::fleet::Instance;
use crate::long::LongModel;
use crate::policy::{Orders, Seen, within};
use crate::{Setup, Trace};

/// Latencies are not simulated; how long requests may wait is all there is of an objective.
const LEAST_OBJECTIVE_MS: u64 = 100;

/// How eager the controller is; the defaults are those of the configuration, without a pool.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BrainSpec {
    /// Utilisation instances are filled to, 0 to 1.
    pub target: f64,
    /// Quantile of demand that creates.
    pub prepare: f64,
    /// Quantile that warms.
    pub warm: f64,
    /// Quantile that commits.
    pub commit: f64,
    /// Paused instances kept in reserve.
    pub shadow: u32,
    /// Instances kept running small in reserve.
    pub ready: u32,
    /// Whether the quantiles move with what became of the steps they started.
    pub feedback: bool,
    /// Whether forecasts from history are fitted and told, as on a live node.
    pub long: bool,
    /// Time between two fits of those; none is as on a live node, five minutes, or longer where
    /// history is so long that fitting would take minutes.
    pub refit_s: Option<f64>,
    /// Evaluation window before anything is taken back; none is the longer of 10 s and the start-up.
    pub hold_s: Option<f64>,
}

impl Default for BrainSpec {
    fn default() -> Self {
        let usual = QuantileSpec::of_cost(QuantileSpec::VIOLATION_COST);
        Self {
            target: 0.95,
            prepare: usual.prepare,
            warm: usual.warm,
            commit: usual.commit,
            shadow: 0,
            ready: 0,
            feedback: true,
            long: true,
            refit_s: None,
            hold_s: None,
        }
    }
}

impl BrainSpec {
    pub(crate) fn with(mut self, settings: Vec<(&str, f64)>) -> Result<Self, String> {
        for (key, value) in settings {
            let quantile = || within(key, value, 0.001..=0.999);
            let number = || {
                let number = within(key, value, 0.0..=10_000.0)?;
                if number.fract() != 0.0 {
                    return Err(format!("{key}={value} is not a whole number"));
                }
                Ok(number as u32)
            };
            match key {
                "target" => self.target = within(key, value, 0.05..=1.0)?,
                "prepare" => self.prepare = quantile()?,
                "warm" => self.warm = quantile()?,
                "commit" => self.commit = quantile()?,
                "shadow" => self.shadow = number()?,
                "ready" => self.ready = number()?,
                "feedback" => self.feedback = within(key, f64::from(number()?), 0.0..=1.0)? > 0.0,
                "long" => self.long = within(key, f64::from(number()?), 0.0..=1.0)? > 0.0,
                "refit" => self.refit_s = Some(within(key, value, 60.0..=3_600.0)?),
                "hold" => self.hold_s = Some(within(key, value, 0.1..=86_400.0)?),
                _ => {
                    return Err(format!(
                        "no setting {key:?}; there are target, prepare, warm, commit, shadow, ready, feedback, long, refit, hold"
                    ));
                }
            }
        }
        if self.commit > self.warm || self.warm > self.prepare {
            return Err(format!(
                "commit ({}) must not be above warm ({}), nor warm above prepare ({})",
                self.commit, self.warm, self.prepare
            ));
        }
        Ok(self)
    }

    fn service(&self, trace: &Trace, setup: &Setup) -> ServiceSpec {
        let start_ms = setup.start_up.total_ms().saturating_add(setup.warm_up_ms);
        let hold_ms = self.hold_s.map_or(start_ms.max(10_000), |s| (s * 1_000.0) as u64);
        ServiceSpec {
            name: service_name(),
            tick_ms: trace.tick_ms,
            objective: Objective {
                latency_ms: setup.wait_ms.max(LEAST_OBJECTIVE_MS) as f64,
                latency_quantile: 1.0 - setup.allowed_share,
                error_rate: setup.allowed_share,
            },
            capacity: Capacity::Pinned(setup.capacity_rps),
            target_utilisation: self.target,
            pool: Some(PoolSpec {
                shadow: self.shadow,
                warm: self.ready,
                full: 0,
                max: setup.max_instances.saturating_sub(setup.primaries),
            }),
            places: Vec::new(),
            sizing: foreshadow_control::SizingSpec::default(),
            quantiles: QuantileSpec { prepare: self.prepare, warm: self.warm, commit: self.commit },
            weights: WeightSpec { slew_per_s: 0.5, hysteresis: 0.02 },
            // As far as the longest step looks: each takes a tick more until it is seen.
            horizon_ms: start_ms.saturating_add(4 * trace.tick_ms).max(30_000),
            seasons_ms: setup.seasons_ms.clone(),
            evaluation_window_ms: hold_ms,
            warm_up_ms: setup.warm_up_ms,
            feedback: self.feedback,
            rules: Vec::new(),
            signals: Vec::new(),
            scaling: None,
            migration: foreshadow_control::MigrationSpec::default(),
            learning: foreshadow_control::LearningSpec::default(),
        }
    }
}

impl fmt::Display for BrainSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = Self::default();
        let mut settings = Vec::new();
        let mut tell = |key: &str, value: f64, usual: f64| {
            if value.to_bits() != usual.to_bits() {
                settings.push(format!("{key}={value}"));
            }
        };
        tell("target", self.target, plain.target);
        tell("prepare", self.prepare, plain.prepare);
        tell("warm", self.warm, plain.warm);
        tell("commit", self.commit, plain.commit);
        tell("shadow", f64::from(self.shadow), 0.0);
        tell("ready", f64::from(self.ready), 0.0);
        tell("feedback", f64::from(u8::from(self.feedback)), 1.0);
        tell("long", f64::from(u8::from(self.long)), 1.0);
        tell("refit", self.refit_s.unwrap_or(0.0), 0.0);
        tell("hold", self.hold_s.unwrap_or(0.0), 0.0);
        let colon = if settings.is_empty() { "" } else { ":" };
        write!(f, "brain{colon}{}", settings.join(","))
    }
}

fn service_name() -> ServiceName {
    ServiceName::from("backtest")
}

/// The controller at work.
pub(crate) struct Brain {
    controller: Controller,
    service: ServiceName,
    long: Option<LongModel>,
}

impl Brain {
    pub(crate) fn new(spec: &BrainSpec, trace: &Trace, setup: &Setup) -> Self {
        let service = spec.service(trace, setup);
        let long =
            spec.long.then(|| LongModel::new(service.quantiles.levels(), spec.refit_s, trace));
        Self { controller: Controller::new(vec![service]), service: service_name(), long }
    }

    pub(crate) fn decide(&mut self, seen: Seen<'_>) -> Orders {
        let observation = self.observation(seen);
        let mut plan = self.controller.tick(&observation);
        let Some(service) = plan.services.pop() else { return Orders::default() };
        Orders {
            actions: service.actions.into_iter().map(|planned| planned.action).collect(),
            weights: Some(service.weights),
            forecast: service.forecast,
        }
    }

    fn observation(&mut self, seen: Seen<'_>) -> Observation {
        let long = self.long.as_mut();
        let long_range = long.map_or_else(Vec::new, |long| long.expect(seen.ticks, seen.trace));
        let instances =
            seen.fleet.instances.iter().map(|i| instance_seen(i, seen.now_ms)).collect();
        let service = ServiceObservation {
            service: self.service.clone(),
            mode: Mode::Act,
            arrivals: seen.arrivals,
            // What is beyond capacity is refused, which is how the controller learns of it here.
            unserved: seen.unserved,
            instances,
            facts: seen.facts,
            activate: 0,
            announced: Vec::new(),
            long_range,
            foreseen: Vec::new(),
            traffic: TrafficCounts::default(),
            signals: Default::default(),
            planned: Default::default(),
            scaling: None,
            migrations: Default::default(),
        };
        Observation {
            tick: seen.ticks as u64,
            at_ms: seen.trace.start_ms.saturating_add(seen.now_ms),
            interval_ms: seen.trace.tick_ms,
            kill_switch: false,
            services: vec![service],
        }
    }
}

fn instance_seen(instance: &Instance, now_ms: u64) -> InstanceObservation {
    let load = instance.load;
    let meters = Meters {
        requests: load.given.round() as u64,
        in_flight: load.waiting.round() as u64,
        ok: load.done.round() as u64,
        ..Meters::default()
    };
    InstanceObservation {
        instance: instance.id,
        role: instance.role,
        tier: instance.tier,
        moving_to: instance.moving.map(|(tier, _, _)| tier),
        tier_age_ms: now_ms.saturating_sub(instance.reached_ms),
        zone: String::new(),
        place: foreshadow_control::PlaceName::default(),
        capacity_rps: None,
        health: Health::Up,
        drained: false,
        outdated: false,
        leaving: false,
        joined_ms: None,
        meters,
        kernel: None,
        mirror: None,
        reported: Default::default(),
        resources: None,
    }
}
