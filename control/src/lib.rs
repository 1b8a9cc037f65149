//! The controller: one observation in, one plan out; pure, without IO or clock.
//!
//! Time, measurements and facts come in as an [`Observation`]; what should happen goes out as a
//! [`Plan`]. Nothing here reads a clock, a file or a socket, so a recorded run replays exactly.

mod alerts;
mod capacity;
mod clock;
mod controller;
mod demand;
mod estimate;
mod fleet;
mod ids;
mod lead_time;
mod observation;
mod plan;
mod provider;
mod publish;
mod queueing;
mod replay;
mod rollback;
mod rolling;
mod scene;
mod service;
mod spec;
mod supply;
mod tiers;
mod verification;
mod weights;
mod window;

pub use controller::Controller;
pub use demand::{DemandForecast, DemandHorizon};
pub use ids::{InstanceId, Mode, Role, ServiceName, Tier};
pub use observation::{
    Announced, Fact, Health, InstanceObservation, KernelSample, LatencySummary, Meters, MirrorSummary,
    Observation, ServiceObservation,
};
pub use plan::{
    Action, Alert, AlertKind, CapacityView, HorizonView, InstanceWeight, Law, Plan, PlannedAction,
    Reason, ServicePlan, WEIGHT_SCALE,
};
pub use replay::{Divergence, Entry, ReplayReport, replay};
pub use spec::{Capacity, Objective, PoolSpec, QuantileSpec, ServiceSpec, WeightSpec};
