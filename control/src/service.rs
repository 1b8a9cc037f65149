//! One service: its state and the order in which the laws are applied to it.

use serde::{Deserialize, Serialize};

use crate::demand::DemandForecast;
use crate::{
    Health, InstanceWeight, Mode, Observation, Role, ServiceObservation, ServicePlan, ServiceSpec,
    WEIGHT_SCALE,
};

/// What is known of one service between ticks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    spec: ServiceSpec,
}

impl Service {
    pub(crate) fn new(spec: ServiceSpec) -> Self {
        Self { spec }
    }

    pub(crate) fn configure(&mut self, spec: ServiceSpec) {
        self.spec = spec;
    }

    pub(crate) fn tick(
        &mut self,
        observation: &Observation,
        seen: &ServiceObservation,
        _tell: &mut dyn FnMut(DemandForecast) -> DemandForecast,
    ) -> ServicePlan {
        let mut plan = Self::unconfigured(seen);
        plan.act = seen.mode == Mode::Act && !observation.kill_switch;
        plan
    }

    /// The plan for a service nobody described: its primaries share alike, nothing else happens.
    pub(crate) fn unconfigured(seen: &ServiceObservation) -> ServicePlan {
        let can_serve = |role, health: &Health| {
            role == Role::Primary && matches!(health, Health::Up | Health::Unknown)
        };
        let serving =
            seen.instances.iter().filter(|i| !i.drained && can_serve(i.role, &i.health)).count();
        let share = WEIGHT_SCALE / u32::try_from(serving.max(1)).unwrap_or(WEIGHT_SCALE);
        let weights = seen
            .instances
            .iter()
            .map(|i| InstanceWeight {
                instance: i.instance,
                weight: if !i.drained && can_serve(i.role, &i.health) { share.max(1) } else { 0 },
            })
            .collect();
        ServicePlan {
            service: seen.service.clone(),
            mode: seen.mode,
            act: false,
            weights,
            advised: Vec::new(),
            actions: Vec::new(),
            alerts: Vec::new(),
            reasons: Vec::new(),
            demand_rps: 0.0,
            forecast: Vec::new(),
            capacity: Vec::new(),
        }
    }
}
