//! What the operator asks of a service, as the controller needs it.

use serde::{Deserialize, Serialize};

use crate::{RuleSpec, ServiceName};

/// One service as the controller knows it; made from the checked configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// The service.
    pub name: ServiceName,
    /// Time between two ticks, 10 to 60,000; 100 while serving. A simulation of weeks takes longer
    /// ones: whatever is counted in ticks follows, whatever is a time stays that time.
    #[serde(default = "default_tick_ms")]
    pub tick_ms: u64,
    /// What its clients were promised.
    pub objective: Objective,
    /// Capacity per instance.
    pub capacity: Capacity,
    /// Share of its capacity an instance is filled to, 0 to 1.
    pub target_utilisation: f64,
    /// The shadows kept ready; absent when the service has no provider.
    pub pool: Option<PoolSpec>,
    /// Which quantile of demand starts which step.
    pub quantiles: QuantileSpec,
    /// How fast weights may move.
    pub weights: WeightSpec,
    /// The farthest horizon that decisions look at.
    pub horizon_ms: u64,
    /// Known periods of demand, such as a day.
    pub seasons_ms: Vec<u64>,
    /// Demand must stay below the committed level this long before a rollback starts.
    pub evaluation_window_ms: u64,
    /// Warm-up time assumed for an instance until one has been seen.
    pub warm_up_ms: u64,
    /// Predictive rules, at most [`crate::MAX_RULES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleSpec>,
}

/// Time between two ticks of a node that serves.
pub const DEFAULT_TICK_MS: u64 = 100;

fn default_tick_ms() -> u64 {
    DEFAULT_TICK_MS
}

/// A service level objective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Latency that `latency_quantile` of the requests must not exceed.
    pub latency_ms: f64,
    /// 0.99 for a p99 objective.
    pub latency_quantile: f64,
    /// Highest share of failed requests, 0 to 1.
    pub error_rate: f64,
}

/// How capacity is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capacity {
    /// Learned from throughput and latency.
    Learned,
    /// Given by the operator, requests per second and instance.
    Pinned(f64),
}

/// Wanted shadows by tier, and the most that may exist in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpec {
    /// Kept at [`crate::Tier::Shadow`].
    pub shadow: u32,
    /// Kept at [`crate::Tier::Warm`].
    pub warm: u32,
    /// Kept at [`crate::Tier::Full`].
    pub full: u32,
    /// Bound on all shadows of the service, serving ones included.
    pub max: u32,
}

/// Quantile levels of demand, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantileSpec {
    /// Prepares: cold to shadow.
    pub prepare: f64,
    /// Warms: shadow to warm.
    pub warm: f64,
    /// Commits: warm to full and serving.
    pub commit: f64,
}

/// Limits on weight changes; failures are exempt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightSpec {
    /// Largest change of an instance's share of its service, per second, 0 to 1 and above.
    pub slew_per_s: f64,
    /// Changes of share below this are not published, 0 to 1.
    pub hysteresis: f64,
}
