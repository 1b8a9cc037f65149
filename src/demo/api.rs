//! What the demo reads of the admin interface.

use std::net::SocketAddr;

use foreshadow_control::{
    CapacityView, Health, HorizonView, InstanceId, InstanceWeight, Law, Role, Tier,
};
use serde::{Deserialize, Serialize};

/// An instance as the admin interface shows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Instance {
    pub(super) instance: InstanceId,
    pub(super) role: Role,
    pub(super) tier: Tier,
    pub(super) moving_to: Option<Tier>,
    pub(super) health: Health,
    pub(super) weight: u32,
    pub(super) address: Option<SocketAddr>,
    pub(super) capacity: Option<CapacityView>,
}

#[derive(Deserialize)]
pub(super) struct Instances {
    pub(super) at_ms: u64,
    pub(super) instances: Vec<Instance>,
}

#[derive(Deserialize)]
pub(super) struct Forecasts {
    pub(super) services: Vec<Forecast>,
}

#[derive(Deserialize)]
pub(super) struct Forecast {
    pub(super) demand_rps: f64,
    pub(super) horizons: Vec<HorizonView>,
}

#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) decisions: Vec<Decision>,
}

/// A decision record, as far as the demo reads it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Decision {
    pub(super) id: i64,
    pub(super) at_ms: u64,
    pub(super) tick: u64,
    pub(super) laws: Vec<Law>,
    pub(super) summary: Vec<String>,
    pub(super) plan: Option<Planned>,
}

/// The weights a decision put in force.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Planned {
    pub(super) weights: Vec<InstanceWeight>,
}

impl Decision {
    /// What is worth a line of its own: everything but the moves of weights, which come ten times
    /// a second, except those for a failure.
    pub(super) fn news(&self) -> impl Iterator<Item = &str> {
        let failover = self.laws.contains(&Law::Failover);
        let lines = self.summary.iter().map(String::as_str);
        lines.filter(move |line| failover || !line.contains("; weights:"))
    }
}
