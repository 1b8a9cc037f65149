//! The controller: one observation in, one plan out; pure, without IO or clock.
//!
//! Time, measurements and facts come in as an [`Observation`]; what should happen goes out as a
//! [`Plan`]. Nothing here reads a clock, a file or a socket, so a recorded run replays exactly
//! ([`replay()`]). A service without a [`ServiceSpec`] gets equal weights and nothing else.
//!
//! # One tick of one service
//!
//! 1. *Time* (`clock`): the controller's own clock follows `at_ms`, but never backwards and never
//!    by more than a minute, so that a wild clock expires nothing.
//! 2. *Demand* (`demand`): arrivals go into the forecaster; skipped ticks are told as a gap. What
//!    comes back is taken as hostile: values that are no numbers, negative or absurd make the
//!    whole forecast unusable, the rest is cut at ten times the recent peak, and horizons whose
//!    lowest quantile proved too high are left out. What models of kept history expect beyond its
//!    last horizon is added as far as their record speaks for them (`long_range`); signals that lead
//!    demand are heard in the same way (`signals`). What an operator has announced (`announced`) is laid
//!    over both, usable or not.
//! 3. *Instances* (`fleet`, `capacity`, `queueing`): meters of instances that take requests go
//!    into their capacity models; facts into lead times and back-offs (`provider`). Those that
//!    vanished are forgotten.
//! 4. *Risk* ([`risk`]): once a second each instance's drift, failures and use of its machine become
//!    a probability that it fails; those above the threshold get a stand-in, then lose their load.
//! 5. *Floor* (`rules`, `tiers`): the shadows that must serve whatever the forecast says: measured
//!    demand, saturation, lost primaries, the operator's hand, and what rules that fire ask for.
//!    Then *moves* (`migration`): an instance that is to stand elsewhere hands its requests over step by step;
//!    its target is neither counted nor touched by the steps that follow.
//! 6. *Up* (`tiers`): faulty shadows end, ready ones are ordered to serve (floor first, then the
//!    commit quantile at each one's lead time), the median warms.
//! 7. *Down* (`rollback`): what was not wanted for a full evaluation window goes back, one shadow
//!    at a time: weight, drain, warm, shadow, end.
//! 8. *New* (`tiers`): the pool's gaps and the upper quantile create, unless the provider asked to
//!    be left alone.
//! 9. *Primaries* (`scaling`): what sustained demand needs beyond those there is asked of the
//!    service's own scaler; shadows bridge until they are ready and warm, and step back by step 7.
//! 10. *Weights* (`steady`, `weights`, `publish`): for a demand cleared of chance, primaries to the
//!     target, the overflow to serving shadows along their warm-up; the failed drop at once, all
//!     else moves by slew and hysteresis, and those that fail more than their peers are given less
//!     (`errors`). Unless it acts, the weights in force stay, without those
//!     that cannot take requests.
//!
//! Prediction enters steps 6 to 8 only as a demand that is at least the measured one: it adds or
//! holds, and never takes away.
//!
//! # What a wrong forecast can cost
//!
//! Whatever a forecaster says, requests failed or late are at most those of observe mode plus 1 %
//! of all requests, and no more shadows exist than the pool's `max`. The 1 % is what shadows that
//! nobody needed cost while they warm up: they are given a tenth of their capacity at first, and
//! when nothing overflows to them a twentieth of it for as long as they serve.

mod alerts;
mod announced;
mod as_pairs;
mod assessment;
mod awaited;
mod belief;
mod capacity;
mod clock;
mod controller;
mod creation;
mod demand;
mod dispersion;
mod errors;
mod estimate;
mod fact;
mod feedback;
mod fitness;
mod fleet;
mod ids;
mod latency;
mod lead_time;
mod learning;
mod long_range;
mod loss;
mod memory;
mod metrics;
mod migration;
mod observation;
mod place;
mod plan;
mod provider;
mod providers;
mod publish;
mod queueing;
mod replay;
mod reservations;
pub mod risk;
mod rollback;
mod rolling;
mod rules;
mod scaling;
mod scene;
mod service;
mod signals;
mod sizing;
mod spec;
mod steady;
mod supply;
mod tiers;
mod verification;
mod warm_up;
mod waver;
mod weights;
mod window;

pub use assessment::{Contributor, Exhaustion, RiskAssessment, RiskSignal};
pub use controller::Controller;
pub use demand::{DemandForecast, DemandHorizon};
pub use fact::Fact;
pub use feedback::{
    AlarmScore, FeedbackView, ForecastScore, LeadTime, LongRangeScore, SignalScore, SignalState,
    SignalView, Step, StepScore, ThresholdView, Thresholds,
};
pub use fitness::{
    Fitness, FitnessConcern, FitnessEvidence, FitnessReason, FitnessShares, FitnessVerdict,
    Mirroring, TrafficCounts, Workload,
};
pub use ids::{InstanceId, Mode, PlaceName, Role, ServiceName, Tier};
pub use learning::{
    ArmView, LearningSpec, LearningView, OutcomeView, Pace, PlaceShifts, PlaceView, RungView,
    Shift, ShiftOutcome, most_failures,
};
pub use long_range::Told;
pub use memory::{Memory, RecallError, Recalled};
pub use metrics::{
    MAX_METRIC, MAX_METRIC_NAME, MAX_METRIC_SERIES, MAX_METRICS, MetricAhead, MetricForecasts,
    MetricView, MetricViews, is_believed, is_metric_name, is_metric_value, is_share, most_believed,
};
pub use migration::{
    MigrationCheck, MigrationChoice, MigrationOrder, MigrationPhase, MigrationSchedule,
    MigrationSpec, MigrationView, MigrationsSeen,
};
pub use observation::{
    Announced, Foreseen, Health, InstanceObservation, KernelSample, LatencySummary, Meters,
    MirrorSummary, Observation, Planned, ResourceSample, ServiceObservation,
};
pub use plan::{
    Action, Alert, AlertKind, CapacityView, HorizonView, InstanceWeight, Law, Plan, PlannedAction,
    Reason, ServicePlan, WEIGHT_SCALE,
};
pub use replay::{Divergence, Entry, ReplayReport, replay};
pub use reservations::{
    DemandSpan, PlaceSum, Reservation, ReservationBasis, ReservationWhy, Reserved, Unplaced,
    by_place,
};
pub use rules::{
    Comparator, Comparison, Condition, DryRule, DryRun, Firing, Lasting, MAX_RULE_BYTES, MAX_RULES,
    MAX_SIGHTS, Metric, Prefix, Rule, RuleAction, RuleError, RuleReading, RuleSpec, RuleState,
    RuleView, Scope, Sight, Unit, Until, Value, When, dry_run, is_rule_name, sights,
};
pub use scaling::{ScaleOrder, ScalingPhase, ScalingSeen, ScalingSpec, ScalingView};
pub use signals::MAX_DEMAND_SIGNALS;
pub use spec::{
    Capacity, DEFAULT_TICK_MS, Kept, Objective, PlaceSpec, PoolSpec, QuantileSpec, ServiceSpec,
    SizingSpec, WeightSpec,
};
