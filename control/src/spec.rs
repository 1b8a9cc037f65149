//! What the operator asks of a service, as the controller needs it.

use serde::{Deserialize, Serialize};

use crate::{LearningSpec, MigrationSpec, PlaceName, RuleSpec, ScalingSpec, ServiceName};

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
    /// Where its shadows can be made, ordered by name; empty is one place of which nothing is
    /// known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<PlaceSpec>,
    /// What moves the figures of `pool`.
    #[serde(default, skip_serializing_if = "SizingSpec::is_fixed")]
    pub sizing: SizingSpec,
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
    /// Whether the quantiles move with what became of the steps they started.
    #[serde(default)]
    pub feedback: bool,
    /// Predictive rules, at most [`crate::MAX_RULES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleSpec>,
    /// Signals that demand is forecast with, at most [`crate::MAX_DEMAND_SIGNALS`]; more are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<String>,
    /// How its primaries are scaled by its own means; absent: not by Foreshadow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<ScalingSpec>,
    /// How its instances are moved elsewhere.
    #[serde(default, skip_serializing_if = "MigrationSpec::is_default")]
    pub migration: MigrationSpec,
    /// What is learned from outcomes.
    #[serde(default, skip_serializing_if = "LearningSpec::is_off")]
    pub learning: LearningSpec,
}

impl ServiceSpec {
    /// Whether what is learned is learned for each place.
    pub(crate) fn tells_places_apart(&self) -> bool {
        self.learning.outcomes && !self.places.is_empty()
    }
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

/// What is known of a place in which shadows can be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceSpec {
    /// Its name, distinct within the service.
    pub name: PlaceName,
    /// The zone its shadows run in; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Shadows of the service there at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Shadows that the place is known to have room for; more are tried only where no other place has room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare: Option<u32>,
    /// What a full shadow costs there per hour, in any unit that all places share.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub cost_per_hour: f64,
    /// Time that requests take to there and back.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub latency_ms: f64,
}

impl PlaceSpec {
    /// A place of which nothing but its name is known.
    #[must_use]
    pub fn new(name: PlaceName) -> Self {
        Self {
            name,
            zone: String::new(),
            max: None,
            spare: None,
            cost_per_hour: 0.0,
            latency_ms: 0.0,
        }
    }
}

/// How the figures of a pool follow from primaries and from demand to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SizingSpec {
    /// Shadows of any tier, serving ones included, never fewer. Where it is given, the figures of the pool
    /// hold while demand may need shadows; while it certainly does not for [`SizingSpec::QUIET_AHEAD_MS`],
    /// only so many are kept, at the cheapest tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Kept>,
    /// In place of the pool's figures for shadow, warm and full: a share of the primaries, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow_share: Option<f64>,
    /// Of warm ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_share: Option<f64>,
    /// Of full ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_share: Option<f64>,
}

impl SizingSpec {
    /// How far ahead demand must ask for no shadow before fewer are kept than the pool's figures say.
    pub const QUIET_AHEAD_MS: u64 = 4 * 3_600_000;

    /// Whether nothing moves the pool's figures.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        *self == Self::default()
    }
}

/// A number of shadows, or a share of the primaries, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// So many.
    Count(u32),
    /// So many for each primary.
    Share(f64),
}

impl Kept {
    /// The number it comes to.
    #[must_use]
    pub fn of(self, primaries: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            // A share of a hundredth of a percent is no more than the noise of writing it.
            Self::Share(share) if share.is_finite() && share > 0.0 => {
                (share * f64::from(primaries) - 1e-6).ceil().max(0.0) as u32
            }
            Self::Share(_) => 0,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip predicates take a reference")]
fn is_nothing(figure: &f64) -> bool {
    *figure == 0.0
}

/// Quantile levels of demand, 0 to 1, that start steps.
///
/// Each is the share that a violation has in the cost of both errors, `c_violation /
/// (c_violation + c_idle)`: the critical ratio of the newsvendor problem (Arrow, Harris and
/// Marschak 1951). An idle shadow costs less at a lower tier, so `commit <= warm <= prepare`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantileSpec {
    /// Prepares: cold to shadow.
    pub prepare: f64,
    /// Warms: shadow to warm.
    pub warm: f64,
    /// Commits: warm to full and serving.
    pub commit: f64,
}

impl QuantileSpec {
    /// Where capacity is learned and nothing is said of costs: the upper bound of demand prepares,
    /// the median warms, the lower bound commits. Shadows that serve too early take from all the load
    /// that capacity is learned from, so that they would seem needed ever after.
    pub const LEARNED: Self = Self { prepare: 0.95, warm: 0.5, commit: 0.1 };
    /// What a second without a shadow that is needed costs, in seconds of a full one that is not, unless
    /// an operator says it. Uncertain demand is met by high quantiles, which cost only where it is
    /// uncertain, rather than by a low target, which costs everywhere (docs/backtest.md has figures).
    pub const VIOLATION_COST: f64 = 50.0;
    /// What a paused shadow and a warm one cost, as parts of a full one: they keep their memory.
    const PAUSED: f64 = 0.5;
    const WARM: f64 = 0.75;

    /// The quantiles that follow from what a violation costs, in seconds of a full shadow that
    /// nobody needs: 50 makes commit 0.98, warm 0.985, prepare 0.99.
    #[must_use]
    pub fn of_cost(violation: f64) -> Self {
        let ratio = |idle: f64| violation / (violation + idle);
        let to_a_thousandth = |level: f64| (level * 1_000.0).round() / 1_000.0;
        let level = |idle: f64| to_a_thousandth(ratio(idle)).clamp(0.01, 0.999);
        Self { prepare: level(Self::PAUSED), warm: level(Self::WARM), commit: level(1.0) }
    }

    /// The levels that demand is forecast at, whatever the quantiles are: one below the median
    /// (`commit`), the median (`warm`), one above it (`prepare`). What lies between is taken from
    /// these.
    #[must_use]
    pub fn levels(&self) -> Self {
        Self {
            prepare: if self.prepare > 0.5 { self.prepare } else { 0.95 },
            warm: 0.5,
            commit: if self.commit < 0.5 { self.commit } else { 0.1 },
        }
    }
}

/// Limits on weight changes; failures are exempt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightSpec {
    /// Largest change of an instance's share of its service, per second, 0 to 1 and above.
    pub slew_per_s: f64,
    /// Changes of share below this are not published, 0 to 1.
    pub hysteresis: f64,
}
