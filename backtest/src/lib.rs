//! What the controller and its rivals would have made of recorded demand; pure, without IO or
//! clock.
//!
//! Recorded demand ([`Series`]) becomes requests per tick ([`Trace`]); a [`Policy`] runs a
//! simulated fleet through them ([`run`]); what came of it is an [`Outcome`]. The policy
//! [`Policy::Brain`] is the very `Controller::tick` of a live node, fed with observations of the
//! simulated fleet; the others are what it is compared with.
//!
//! # What counts as a violation
//!
//! An instance answers `capacity_rps` requests per second within the objective (less while it warms
//! up); there is no queueing model, only this cut. In each tick the work is what arrived and what
//! still waits; what the serving instances can do of it is done, and of the rest as much may wait
//! as they can do within `wait_ms`. What is beyond that is *violated*. A tick in which more than
//! `allowed_share` of the requests are violated is a tick of violation. Violated requests are
//! gone, or with `carry` stay and have to be worked off.
//!
//! # What counts as cost
//!
//! *Instance-hours* count every instance that exists, from the order that creates it to its end,
//! whatever its tier. *Cost* weighs them with a price by tier, since a paused shadow takes memory
//! only.
//!
//! Everything is deterministic: equal inputs give equal outcomes.

mod activations;
mod brain;
mod demand;
mod engine;
mod fleet;
mod frontier;
mod ledger;
mod long;
mod noise;
mod oracle;
mod outcome;
mod policy;
mod reactive;
pub mod read;
mod scores;
mod series;
mod setup;

pub use brain::BrainSpec;
pub use demand::{Between, Trace, TraceError};
pub use engine::run;
pub use frontier::{Point, at_equal_hours, pareto};
pub use outcome::{Activations, HorizonOutcome, Missing, Outcome, Quartiles, TimelinePoint};
pub use policy::{Fixed, Policy, PolicyError};
pub use reactive::ReactiveSpec;
pub use series::{Kind, MOST_RPS, Repairs, Sample, Series, SeriesError};
pub use setup::{Prices, Setup, StartUp};
