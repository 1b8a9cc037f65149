//! Plans in which nothing is decided.

use super::Service;
use crate::{InstanceWeight, Role, ServiceObservation, ServicePlan, WEIGHT_SCALE};

impl Service {
    /// The plan for a service nobody described: its primaries share alike, nothing else happens.
    pub(crate) fn unconfigured(seen: &ServiceObservation) -> ServicePlan {
        let serves = |i: &crate::InstanceObservation| {
            i.role == Role::Primary && crate::fleet::may_take_requests(i)
        };
        let serving = crate::scene::count(seen.instances.iter().filter(|i| serves(i)));
        let share = (WEIGHT_SCALE / serving.max(1)).max(1);
        let weights = seen
            .instances
            .iter()
            .map(|i| InstanceWeight {
                instance: i.instance,
                weight: if serves(i) { share } else { 0 },
            })
            .collect();
        ServicePlan { weights, ..empty_plan(seen) }
    }
}

/// The plan in which nothing is decided.
pub(super) fn empty_plan(seen: &ServiceObservation) -> ServicePlan {
    ServicePlan {
        service: seen.service.clone(),
        mode: seen.mode,
        act: false,
        weights: Vec::new(),
        advised: Vec::new(),
        actions: Vec::new(),
        alerts: Vec::new(),
        reasons: Vec::new(),
        demand_rps: 0.0,
        forecast: Vec::new(),
        thresholds: None,
        capacity: Vec::new(),
        rules: Vec::new(),
        risk: Vec::new(),
        scaling: None,
        migrations: Vec::new(),
    }
}
