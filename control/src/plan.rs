//! What should happen, each entry with its reason.

use serde::{Deserialize, Serialize};

use crate::{
    InstanceId, MigrationView, Mode, PlaceName, RiskAssessment, RuleView, ScalingView, ServiceName,
    Thresholds, Tier,
};

/// The weight of an instance that carries its service alone; weights of a service are relative.
pub const WEIGHT_SCALE: u32 = 10_000;

/// What the controller decided in one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The tick of the observation it answers.
    pub tick: u64,
    /// The time of that observation.
    pub at_ms: u64,
    /// One entry per observed service, in the same order.
    pub services: Vec<ServicePlan>,
}

/// What was decided for one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// The service.
    pub service: ServiceName,
    /// The mode the plan was made under.
    pub mode: Mode,
    /// Whether `actions` are to be carried out: mode `act` and no kill switch.
    pub act: bool,
    /// Weights to publish now, for every instance, ordered by id. When `act` is false these hold
    /// what was last in force.
    pub weights: Vec<InstanceWeight>,
    /// What the weights would be in mode `act`; empty when they equal `weights`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advised: Vec<InstanceWeight>,
    /// Tier changes, creations and removals, in the order to start them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<PlannedAction>,
    /// Conditions an operator should know of; repeated each tick while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Alert>,
    /// Why weights changed in this tick, and rules that began to fire or let go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Smoothed demand now, in requests per second, to a thousandth.
    pub demand_rps: f64,
    /// The demand forecast the decision was taken on, announced events not counted in.
    pub forecast: Vec<HorizonView>,
    /// Which quantile of it starts which step now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
    /// Learned or pinned capacity of every instance, ordered by id; of none while nothing is known.
    pub capacity: Vec<CapacityView>,
    /// How the service's rules stand, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleView>,
    /// How likely every instance that may take requests is to fail, ordered by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risk: Vec<RiskAssessment>,
    /// How the scaling of its primaries stands, and the order that is to be given; absent where they
    /// are not scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<ScalingView>,
    /// Migrations under way or waiting, and those that ended in this tick.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<MigrationView>,
}

/// The weight of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceWeight {
    /// The instance.
    pub instance: InstanceId,
    /// 0 to [`WEIGHT_SCALE`]; 0 takes no requests.
    pub weight: u32,
}

/// An action and why it is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedAction {
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// A step for the Shadow Instance Manager, which leaves it nothing to choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Action {
    /// Make a new shadow and bring it to `tier`.
    Create {
        /// The tier it is made for.
        tier: Tier,
        /// Where it is made.
        #[serde(default, skip_serializing_if = "PlaceName::is_default")]
        place: PlaceName,
    },
    /// Bring an existing shadow to `tier`, through the tiers between.
    Move {
        /// The shadow.
        instance: InstanceId,
        /// Where it should stand.
        tier: Tier,
    },
    /// End a shadow and forget it.
    Destroy {
        /// The shadow.
        instance: InstanceId,
    },
}

impl Action {
    /// Makes a new shadow where a service with one place makes all of them.
    #[must_use]
    pub fn create(tier: Tier) -> Self {
        Self::Create { tier, place: PlaceName::default() }
    }
}

/// Which law of the controller decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Law {
    /// Fill primaries by capacity, overflow to shadows.
    Weights,
    /// New capacity follows its warm-up curve.
    WarmUp,
    /// Upper quantile of demand at the lead time: cold to shadow.
    Prepare,
    /// Median: shadow to warm.
    Warm,
    /// Lower bound: warm to full and serving.
    Commit,
    /// What is measured now asks for it, whatever the forecast says.
    ReactiveFloor,
    /// The pool is below its target.
    Pool,
    /// An instance failed and its load moves.
    Failover,
    /// A lost shadow is made again.
    Recreate,
    /// Demand did not come: weights, then tiers, go back.
    Rollback,
    /// A shadow's mirrored answers disagree with the originals.
    Verification,
    /// An operator asked for it.
    Operator,
    /// A predictive rule asked for it.
    Rule,
    /// An instance is likely to fail soon: its replacement serves first, then its load moves.
    Risk,
    /// A threshold moved with what became of earlier steps.
    Feedback,
    /// Sustained demand wants another number of primaries; shadows bridge until they are warm.
    Scale,
    /// An instance moves elsewhere, a part of its requests at a time.
    Migrate,
}

impl Law {
    /// Every law.
    pub const ALL: [Self; 17] = [
        Self::Weights,
        Self::WarmUp,
        Self::Prepare,
        Self::Warm,
        Self::Commit,
        Self::ReactiveFloor,
        Self::Pool,
        Self::Failover,
        Self::Recreate,
        Self::Rollback,
        Self::Verification,
        Self::Operator,
        Self::Rule,
        Self::Risk,
        Self::Feedback,
        Self::Scale,
        Self::Migrate,
    ];

    /// Its name in records and queries.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::WarmUp => "warm_up",
            Self::Prepare => "prepare",
            Self::Warm => "warm",
            Self::Commit => "commit",
            Self::ReactiveFloor => "reactive_floor",
            Self::Pool => "pool",
            Self::Failover => "failover",
            Self::Recreate => "recreate",
            Self::Rollback => "rollback",
            Self::Verification => "verification",
            Self::Operator => "operator",
            Self::Rule => "rule",
            Self::Risk => "risk",
            Self::Feedback => "feedback",
            Self::Scale => "scale",
            Self::Migrate => "migrate",
        }
    }
}

/// Why something was decided: the law and the figures it was applied to, as one sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The law.
    pub law: Law,
    /// Figures and comparison, readable without the code.
    pub text: String,
}

/// A condition an operator should know of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// What kind.
    pub kind: AlertKind,
    /// Figures and what would help.
    pub text: String,
    /// The rule that tells it, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// Kinds of alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// More capacity is wanted than pool and provider can give.
    Shortage,
    /// The pool's reserve cannot be kept, since its places are full; demand is carried.
    ReserveShort,
    /// No instance of the service can take requests.
    NoCapacity,
    /// Shadows cannot be made; the text has the provider's error.
    ProviderFailing,
    /// The forecast is unusable; only the reactive floor acts.
    ForecastUnusable,
    /// A rule fires that tells something.
    Rule,
    /// A rule looks at a metric that nothing reports.
    RuleNoData,
    /// The service's own scaler does not do as asked; shadows hold meanwhile.
    ScalingFailing,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Shortage,
        Self::ReserveShort,
        Self::NoCapacity,
        Self::ProviderFailing,
        Self::ForecastUnusable,
        Self::Rule,
        Self::RuleNoData,
        Self::ScalingFailing,
    ];

    /// Its name in records, logs and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shortage => "shortage",
            Self::ReserveShort => "reserve_short",
            Self::NoCapacity => "no_capacity",
            Self::ProviderFailing => "provider_failing",
            Self::ForecastUnusable => "forecast_unusable",
            Self::Rule => "rule",
            Self::RuleNoData => "rule_no_data",
            Self::ScalingFailing => "scaling_failing",
        }
    }
}

/// Forecast quantiles at one horizon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HorizonView {
    /// How far ahead.
    pub horizon_ms: u64,
    /// Lower quantile of demand, requests per second; see [`crate::QuantileSpec::levels`].
    pub lower_rps: f64,
    /// Median.
    pub median_rps: f64,
    /// Upper quantile.
    pub upper_rps: f64,
}

/// What an instance can serve within its objective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapacityView {
    /// The instance.
    pub instance: InstanceId,
    /// Requests per second within the objective: the estimate that decisions use.
    pub rps: f64,
    /// Lower end of what it may be, with 95 % confidence.
    pub lower_rps: f64,
    /// Upper end; far above the estimate while hardly anything speaks against more, and absent
    /// while nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_rps: Option<f64>,
    /// Whether the configuration pins it.
    pub pinned: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laws_are_named_as_they_are_written() {
        for law in Law::ALL {
            let written = serde_json::to_value(law).expect("a law is a word");
            assert_eq!(written, law.as_str());
        }
    }

    #[test]
    fn alerts_are_named_as_they_are_written() {
        for kind in AlertKind::ALL {
            let written = serde_json::to_value(kind).expect("a kind is a word");
            assert_eq!(written, kind.as_str());
        }
    }
}
