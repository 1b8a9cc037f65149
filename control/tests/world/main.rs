//! The controller against a small simulated world: queues, start-up delays, faults and lies.

mod capacity;
mod categories;
mod cold_start;
mod damaged;
mod errors;
mod events;
mod failures;
mod far_rules;
mod feedback;
mod hostile;
mod instance;
mod invariants;
mod learned;
mod long_range;
mod modes;
mod ramps;
mod random;
mod risk;
mod rules;
mod saying;
mod scaler;
mod scaling;
mod sharing;
mod signals;
mod sim;
mod steady;
